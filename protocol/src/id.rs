//! Identities: one type each, so that two of them can't be swapped by mistake.
//!
//! Each prints with a short prefix that people recognise in a log, parses what it prints, and refuses
//! anything else. Nothing here is random: whoever makes an identity passes the random bits in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::limits::SHARDS;
use crate::time::Timestamp;

/// A text that isn't the identity it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

impl IdError {
    fn new(text: &str, expected: &'static str) -> IdError {
        IdError { text: text.chars().take(80).collect(), expected }
    }
}

/// One execution of a pipeline. Its 128 bits are also the trace id of the run.
///
/// The layout is that of a UUIDv7 (RFC 9562, section 5.7), so ids sort by submission time. The low four
/// bits are the run's [`Shard`]; the others come from what was submitted, so the same message gives the
/// same run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u128);

impl RunId {
    const EXPECTED: &'static str = "a run id (`run-` and 32 hexadecimal digits)";

    /// The id of what was submitted at `at` under `key` (an idempotency key, else the message id).
    ///
    /// The shard follows from the key, unless `pinned` names one: runs that count against a named limit
    /// of a namespace meet on one shard.
    pub fn derive(at: Timestamp, namespace: &str, key: &str, pinned: Option<Shard>) -> RunId {
        let hash = Sha256::new()
            .chain_update((namespace.len() as u64).to_be_bytes())
            .chain_update(namespace)
            .chain_update(key)
            .finalize();
        let random = u128::from_be_bytes(hash[..16].try_into().expect("a SHA-256 has 32 bytes"));
        let shard = pinned.map_or(random & 0xf, |shard| u128::from(shard.0));
        let time = u128::from(at.0 & 0xffff_ffff_ffff) << 80;
        let version = 0x7u128 << 76;
        let variant = 0b10u128 << 62;
        let random = random & !(0xffff_ffff_ffff_u128 << 80) & !(0xf << 76) & !(0b11 << 62) & !0xf;
        RunId(time | version | variant | random | shard)
    }

    /// The shard that the run belongs to for ever.
    pub fn shard(self) -> Shard {
        Shard((self.0 & 0xf) as u8)
    }

    /// When it was submitted.
    pub fn submitted_at(self) -> Timestamp {
        Timestamp((self.0 >> 80) as u64)
    }

    /// The 128 bits, which are the trace id too.
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// The id with these bits.
    pub fn from_u128(bits: u128) -> RunId {
        RunId(bits)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run-{:032x}", self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<RunId, IdError> {
        text.strip_prefix("run-")
            .and_then(|digits| hex_bits(digits, 32))
            .map(RunId)
            .ok_or(IdError::new(text, Self::EXPECTED))
    }
}

/// One of the parts that runs are divided into; a scheduler owns whole shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub u8);

impl Shard {
    /// All shards.
    pub fn all() -> impl Iterator<Item = Shard> {
        (0..SHARDS).map(Shard)
    }

    /// The shard on which the runs of a namespace meet when they name a limit.
    pub fn of_namespace(namespace: &str) -> Shard {
        Shard(Sha256::digest(namespace)[0] % SHARDS)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A task of a run: its place in journal order, and a tag that changes with what it is a task of.
///
/// Places are given out as expansions are recorded. If the store goes back in time, another expansion
/// may be given the same places; its tag differs, so that no late report is taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    pub index: u32,
    pub tag: u32,
}

/// One try at a task. Every message about work names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptRef {
    pub run: RunId,
    pub task: TaskKey,
    pub attempt: u16,
}

impl AttemptRef {
    /// A number that is the same for the same attempt and spread evenly otherwise; jitter comes from it.
    pub fn hash64(self) -> u64 {
        let hash = self.sha256();
        u64::from_be_bytes(hash[8..16].try_into().expect("a SHA-256 has 32 bytes"))
    }

    /// The span that stands for this attempt in the run's trace.
    pub fn span_id(self) -> u64 {
        let hash = self.sha256();
        u64::from_be_bytes(hash[..8].try_into().expect("a SHA-256 has 32 bytes"))
    }

    fn sha256(self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.run.0.to_be_bytes())
            .chain_update(self.task.index.to_be_bytes())
            .chain_update(self.task.tag.to_be_bytes())
            .chain_update(self.attempt.to_be_bytes())
            .finalize()
            .into()
    }
}

impl fmt::Display for AttemptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.run, self.task.index, self.attempt)
    }
}

/// A worker process. New at every start, so that nothing is ever taken for its earlier life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w-{:016x}", self.0)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WorkerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<WorkerId, IdError> {
        text.strip_prefix("w-")
            .and_then(|digits| hex_bits(digits, 16))
            .map(|bits| WorkerId(bits as u64))
            .ok_or(IdError::new(text, "a worker id (`w-` and 16 hexadecimal digits)"))
    }
}

/// The right to write to a shard, compared by equality: which take-over, and by which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OwnerToken {
    pub epoch: u64,
    pub instance: u64,
}

/// The name of immutable bytes: their SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// The digest with these 32 bytes, computed elsewhere (while a file was written, say).
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// Its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the prefix.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Digest, IdError> {
        let error = || IdError::new(text, "a digest (`sha256:` and 64 hexadecimal digits)");
        let digits = text.strip_prefix("sha256:").ok_or_else(error)?;
        let high = digits.get(..32).and_then(|half| hex_bits(half, 32)).ok_or_else(error)?;
        let low = digits.get(32..).and_then(|half| hex_bits(half, 32)).ok_or_else(error)?;
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&high.to_be_bytes());
        bytes[16..].copy_from_slice(&low.to_be_bytes());
        Ok(Digest(bytes))
    }
}

/// The number that `len` lower-case hexadecimal digits spell.
fn hex_bits(digits: &str, len: usize) -> Option<u128> {
    let spelt = digits.len() == len && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if spelt { u128::from_str_radix(digits, 16).ok() } else { None }
}

/// Identities travel as the text they print.
macro_rules! serde_as_text {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(RunId, WorkerId, Digest);

/// The published schemas of identities: texts of a pattern.
macro_rules! schema_of_text {
    ($($id:ident: $pattern:literal),*) => {$(
        impl schemars::JsonSchema for $id {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($id).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    )*};
}

schema_of_text!(RunId: "^run-[0-9a-f]{32}$", WorkerId: "^w-[0-9a-f]{16}$", Digest: "^sha256:[0-9a-f]{64}$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_submission_gives_the_same_run_and_shard() {
        let at = Timestamp(1_700_000_000_000);
        let run = RunId::derive(at, "default", "key", None);
        assert_eq!(run, RunId::derive(at, "default", "key", None));
        assert_ne!(run, RunId::derive(at, "default", "other", None));
        assert_ne!(run, RunId::derive(at, "defaultk", "ey", None));
        assert_eq!(run.submitted_at(), at);
        assert_eq!(RunId::derive(at, "default", "key", Some(Shard(5))).shard(), Shard(5));
    }

    #[test]
    fn a_run_id_has_the_layout_of_a_uuid_v7() {
        let run = RunId::derive(Timestamp(1_700_000_000_000), "ns", "k", Some(Shard(15)));
        let uuid = uuid::Uuid::from_u128(run.as_u128());
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (7, uuid::Variant::RFC4122));
    }

    #[test]
    fn identities_parse_what_they_print_and_nothing_else() {
        let run = RunId::derive(Timestamp(1), "ns", "k", None);
        assert_eq!(run.to_string().parse(), Ok(run));
        assert_eq!("w-00000000000000ff".parse(), Ok(WorkerId(255)));
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("run-xyz".parse::<RunId>().is_err());
        assert!("run-+0000000000000000000000000000001".parse::<RunId>().is_err());
        assert!("sha256:é".parse::<Digest>().is_err());
        assert!("w-FF".parse::<WorkerId>().is_err());
    }
}
