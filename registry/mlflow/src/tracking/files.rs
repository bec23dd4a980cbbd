//! The files of a run or of a logged model: paths, and which artifacts they are.

use std::collections::BTreeMap;
use std::ops::Bound;

use gristmill_protocol::Digest;
use serde::{Deserialize, Serialize};

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRef {
    pub digest: Digest,
    pub size: u64,
}

/// A file came or went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileFact {
    Stored { path: String, file: FileRef },
    Removed { path: String },
}

/// Files by path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Files(pub BTreeMap<String, FileRef>);

impl Files {
    pub fn apply(&mut self, fact: FileFact) {
        match fact {
            FileFact::Stored { path, file } => drop(self.0.insert(path, file)),
            FileFact::Removed { path } => drop(self.0.remove(&path)),
        }
    }

    /// The files under a folder, with their paths from there; the file itself under its own path has none.
    pub fn under<'a>(&'a self, folder: &str) -> impl Iterator<Item = (&'a str, FileRef)> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let from = self.0.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        from.map_while(move |(path, file)| Some((path.strip_prefix(prefix.as_str())?, *file)))
    }

    /// What stands in a folder: names, and sizes of those that are files.
    pub fn list(&self, folder: &str) -> BTreeMap<String, Option<u64>> {
        let mut names = BTreeMap::new();
        for (path, file) in self.under(folder) {
            match path.split_once('/') {
                None => drop(names.insert(path.to_owned(), Some(file.size))),
                Some((name, _)) => drop(names.insert(name.to_owned(), None)),
            }
        }
        names
    }

    pub fn weight(&self) -> usize {
        self.0.keys().map(|path| path.len() + 100).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_what_paths_say() {
        let file = FileRef { digest: Digest::of(b""), size: 3 };
        let paths = ["a", "d/x", "d/e/y", "d-2", "dd/z"];
        let files = Files(paths.into_iter().map(|path| (path.to_owned(), file)).collect());
        let list = |folder: &str| files.list(folder).into_iter().map(|(name, size)| (name, size.is_some()));
        let names = |folder: &str| list(folder).map(|(name, file)| if file { name } else { name + "/" });
        assert_eq!(names("").collect::<Vec<_>>(), ["a", "d/", "d-2", "dd/"]);
        assert_eq!(names("d").collect::<Vec<_>>(), ["e/", "x"]);
        assert_eq!(names("d/e").collect::<Vec<_>>(), ["y"]);
        assert_eq!(names("a").count() + names("nope").count(), 0);
        assert_eq!(files.under("d").map(|(path, _)| path).collect::<Vec<_>>(), ["e/y", "x"]);
    }
}
