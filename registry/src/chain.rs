//! How the entries of a log are chained, and under which marks they are found without the state.
//!
//! The chain's link after an entry that names the link before is the SHA-256 of the entry's bytes. Entries of the
//! first kind name nothing, so theirs is the SHA-256 of the link before and the bytes: the first record after them
//! pins every one of them all the same.
//!
//! A copied entry is an artifact, and a mark `registry/<log>/<number>-<digest>` says where it belongs.

use gristmill_protocol::{Digest, wire};

use crate::fact::LogEntry;

/// What all marks of the registry begin with.
pub(crate) const MARKS: &str = "registry/";

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub number: u64,
    /// What the chain comes to.
    pub link: Digest,
    /// The digest of the last entry's bytes.
    pub entry: Digest,
}

impl Head {
    /// The end of a log without entries.
    pub fn empty() -> Head {
        Head { number: 0, link: Digest::of(b""), entry: Digest::of(b"") }
    }

    /// The end once an entry with these bytes follows.
    pub fn after(self, entry: &LogEntry, bytes: &[u8]) -> Head {
        let digest = Digest::of(bytes);
        let link = match entry {
            LogEntry::Recorded(_) => digest,
            LogEntry::VersionCreated { .. } | LogEntry::AliasMoved(_) => {
                Digest::of(&[self.link.as_bytes().as_slice(), bytes].concat())
            }
        };
        Head { number: self.number + 1, link, entry: digest }
    }

    /// What is wrong with an entry as the next of `log`, where something is.
    pub fn mismatch(self, log: &str, entry: &LogEntry) -> Option<String> {
        let LogEntry::Recorded(record) = entry else { return None };
        let number = self.number + 1;
        if record.log != log {
            return Some(format!("it belongs to `{}`", record.log));
        }
        if record.number != number {
            return Some(format!("it says that it is number {}", record.number));
        }
        if record.previous != self.link {
            return Some(format!("it follows {}, but what stands before it is {}", record.previous, self.link));
        }
        None
    }
}

/// The entry that some bytes are.
pub(crate) fn decode(bytes: &[u8]) -> Result<LogEntry, wire::WireError> {
    wire::decode("a registry fact", bytes)
}

/// The state's token for an entry: the same bytes are the same append.
pub(crate) fn token(bytes: &[u8]) -> u64 {
    let digest = Digest::of(bytes);
    digest.as_bytes()[..8].iter().fold(0, |token, byte| token << 8 | u64::from(*byte))
}

/// What the marks of a log begin with.
pub(crate) fn marks_of(log: &str) -> String {
    let (kind, name) = log.split_once('/').unwrap_or((log, ""));
    format!("{MARKS}{kind}/{}/", escape(name))
}

/// What all marks of one number of a log begin with.
pub(crate) fn marks_at(log: &str, number: u64) -> String {
    format!("{}{number:012}-", marks_of(log))
}

/// The mark of an entry.
pub(crate) fn mark(log: &str, number: u64, entry: Digest) -> String {
    format!("{}{}", marks_at(log, number), entry.hex())
}

/// The log, number and digest that a mark stands for; nothing for what isn't one of ours.
pub(crate) fn parse_mark(mark: &str) -> Option<(String, u64, Digest)> {
    let mut parts = mark.strip_prefix(MARKS)?.split('/');
    let (kind, name, last) = (parts.next()?, parts.next()?, parts.next()?);
    let (number, hex) = last.split_once('-')?;
    let digest = format!("sha256:{hex}").parse().ok()?;
    parts.next().is_none().then_some((format!("{kind}/{}", unescape(name)?), number.parse().ok()?, digest))
}

/// A name with everything but lower-case letters, digits, `-` and `_` as `~` and two hexadecimal digits a byte.
fn escape(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => text.push(char::from(byte)),
            _ => text += &format!("~{byte:02x}"),
        }
    }
    text
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        if *first == b'~' {
            let hex = std::str::from_utf8(more.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use gristmill_backends::artifacts::check_mark;
    use gristmill_protocol::limits::MODEL_NAME_BYTES_MAX;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_say_where_they_come_from(name in "\\PC{1,30}", number in 1..u64::MAX >> 30, bytes: [u8; 32]) {
            prop_assume!(name.len() <= MODEL_NAME_BYTES_MAX);
            let (log, digest) = (format!("model/{name}"), Digest::from_bytes(bytes));
            let mark = mark(&log, number, digest);
            prop_assert!(check_mark(&mark).is_ok(), "{mark}");
            prop_assert_eq!(parse_mark(&mark), Some((log, number, digest)));
        }

        #[test]
        fn what_is_not_a_mark_of_ours_is_passed_over(text in "\\PC{0,60}") {
            prop_assert_eq!(parse_mark(&text), None);
            let prefixed = format!("registry/{text}");
            prop_assert_eq!(parse_mark(&prefixed), None);
        }
    }

    #[test]
    fn the_longest_name_fits_into_a_mark() {
        let log = format!("model/{}", "\u{1F33E}".repeat(MODEL_NAME_BYTES_MAX / 4));
        assert!(check_mark(&mark(&log, 1, Digest::of(b""))).is_ok());
    }
}
