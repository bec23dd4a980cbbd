//! Decides which files have arrived: those that were the same at two looks.
//!
//! Who writes a file slowly, with pauses of over a second, should write it aside and rename it: a rename is seen whole.

use std::collections::BTreeMap;

use gristmill_protocol::Digest;

/// A file as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileSeen {
    pub path: String,
    pub bytes: u64,
    /// When its bytes were changed last, in nanoseconds since 1970.
    pub changed_ns: i128,
}

impl FileSeen {
    /// The same for the same file with the same bytes, as far as can be told without reading them.
    pub(super) fn id(&self) -> String {
        let text = format!("{}\0{}\0{}", self.bytes, self.changed_ns, self.path);
        // Half of the digest is enough to tell files apart.
        Digest::of(text.as_bytes()).as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What was there at the last look.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    before: BTreeMap<String, (u64, i128)>,
}

impl Arrivals {
    /// Those of the files that are there now that were there before and were the same.
    pub(super) fn look(&mut self, files: Vec<FileSeen>) -> Vec<FileSeen> {
        let now = files.iter().map(|file| (file.path.clone(), (file.bytes, file.changed_ns))).collect();
        let before = std::mem::replace(&mut self.before, now);
        let is_same = |file: &FileSeen| before.get(&file.path) == Some(&(file.bytes, file.changed_ns));
        files.into_iter().filter(is_same).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64, changed_ns: i128) -> FileSeen {
        FileSeen { path: path.to_owned(), bytes, changed_ns }
    }

    #[test]
    fn a_file_has_arrived_when_it_was_the_same_twice() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.look(vec![file("a", 1, 1)]), []);
        assert_eq!(arrivals.look(vec![file("a", 2, 2), file("b", 1, 1)]), []);
        assert_eq!(arrivals.look(vec![file("a", 2, 2), file("b", 1, 2)]), [file("a", 2, 2)]);
        assert_eq!(arrivals.look(vec![]), []);
        assert_eq!(arrivals.look(vec![file("a", 2, 2)]), [], "it was away");
    }

    #[test]
    fn a_changed_file_is_another() {
        let ids = [file("a", 1, 1).id(), file("a", 2, 1).id(), file("a", 1, 2).id(), file("b", 1, 1).id()];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_eq!(ids[0], file("a", 1, 1).id());
    }
}
