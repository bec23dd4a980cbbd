//! Looks which files a glob matches. It waits for disks and networks, so it runs on a thread of its own.

use std::path::{Component, Path};
use std::time::UNIX_EPOCH;

use glob::{MatchOptions, Pattern, glob_with};
use gristmill_protocol::limits::{GLOB_CHARS_MAX, TRIGGER_FILES_MAX};

use super::arrivals::FileSeen;

/// Why a glob can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GlobError {
    #[error("the glob `{0}` isn't an absolute path; schedulers don't share a folder to start from")]
    Relative(String),
    #[error("the glob `{glob}` can't be understood")]
    Pattern { glob: String, source: glob::PatternError },
    #[error("the glob `{0}` has `**`, for which all folders below are walked each second; name each level with `*`")]
    Recursive(String),
    #[error("the glob `{0}` has `..`; write the path without")]
    Upwards(String),
    #[error("a glob has at most {GLOB_CHARS_MAX} characters; this one has {chars}")]
    Long { chars: usize },
}

/// Refuses what can't be looked at each second.
pub(super) fn check(glob: &str) -> Result<(), GlobError> {
    let chars = glob.chars().count();
    if chars > GLOB_CHARS_MAX {
        return Err(GlobError::Long { chars });
    }
    Pattern::new(glob).map_err(|source| GlobError::Pattern { glob: glob.to_owned(), source })?;
    if !Path::new(glob).is_absolute() {
        return Err(GlobError::Relative(glob.to_owned()));
    }
    if glob.contains("**") {
        return Err(GlobError::Recursive(glob.to_owned()));
    }
    if Path::new(glob).components().any(|part| part == Component::ParentDir) {
        return Err(GlobError::Upwards(glob.to_owned()));
    }
    Ok(())
}

/// The files that a glob matches now, and what couldn't be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub files: Vec<FileSeen>,
    pub problem: Option<String>,
}

/// Looks. Folders and what is no file are left out; of too many files nothing is told but that.
pub(super) fn look(glob: &str) -> Found {
    // A name that begins with a dot is one that somebody is writing, as rsync and many others do it.
    let options =
        MatchOptions { require_literal_leading_dot: true, require_literal_separator: true, ..MatchOptions::new() };
    let paths = match glob_with(glob, options) {
        Ok(paths) => paths,
        Err(error) => return Found { problem: Some(error.to_string()), ..Found::default() },
    };
    let mut found = Found::default();
    for path in paths {
        match path.map_err(|error| error.to_string()).and_then(|path| seen(&path)) {
            Ok(Some(file)) if found.files.len() < TRIGGER_FILES_MAX => found.files.push(file),
            Ok(Some(_)) => {
                let problem = format!(
                    "`{glob}` matches over {TRIGGER_FILES_MAX} files, and none is looked at; move away what is done, or name a \
                     part of them"
                );
                return Found { files: Vec::new(), problem: Some(problem) };
            }
            Ok(None) => {}
            Err(problem) => found.problem = Some(problem),
        }
    }
    found
}

/// A file as it is; nothing for what is none, or is gone by now.
fn seen(path: &Path) -> Result<Option<FileSeen>, String> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("`{}` can't be looked at: {error}", path.display())),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let Some(text) = path.to_str() else {
        return Err(format!("the name `{}` isn't valid UTF-8, so that it can't be a parameter", path.display()));
    };
    let changed = metadata.modified().map_err(|error| format!("`{text}` has no time of change: {error}"))?;
    let changed_ns = match changed.duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
    };
    Ok(Some(FileSeen { path: text.to_owned(), bytes: metadata.len(), changed_ns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.csv", ".b.csv", "c.txt"] {
            std::fs::write(folder.path().join(name), name).expect("written");
        }
        std::fs::create_dir(folder.path().join("d.csv")).expect("a folder");
        let found = look(&format!("{}/*.csv", folder.path().display()));
        let names: Vec<(&str, u64)> =
            found.files.iter().map(|file| (file.path.rsplit('/').next().unwrap_or(""), file.bytes)).collect();
        assert_eq!((names, found.problem), (vec![("a.csv", 5)], None));
        assert_eq!(look("/there/is/no/such/folder/*.csv"), Found::default());
    }

    #[test]
    fn globs_that_walk_everything_are_refused() {
        for (glob, expected) in [
            ("data/*.csv", "isn't an absolute path"),
            ("/data/**/*.csv", "name each level"),
            ("/data/../etc/*", "has `..`"),
            ("/data/[", "can't be understood"),
        ] {
            let error = check(glob).expect_err(glob).to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("/data/*/2026-??/*.csv").expect("it is fine");
    }
}
