//! Finds the files that a source means.

use std::fs;
use std::path::{Path, PathBuf};

use gristmill_protocol::Digest;
use gristmill_protocol::pipeline::steps::Format;
use serde::{Deserialize, Serialize};

use super::IngestError;
use crate::names;

/// A file to read. Whether it is compressed shows in its first bytes, not here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    pub path: PathBuf,
    /// Bytes on the disk.
    pub size: u64,
    pub format: Format,
    /// Whether the name says that tabs part the fields.
    pub tabs: bool,
    /// The artifact with its bytes, when they aren't on this disk under `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Digest>,
    /// Where the artifact's bytes were put, by whoever is about to read them.
    #[serde(skip)]
    pub local: Option<PathBuf>,
}

impl SourceFile {
    /// A file that was uploaded from `path`.
    pub fn uploaded(
        path: PathBuf,
        size: u64,
        artifact: Digest,
        format: Option<Format>,
    ) -> Result<SourceFile, IngestError> {
        let (format, tabs) = format_of(&path, format)?;
        Ok(SourceFile { path, size, format, tabs, artifact: Some(artifact), local: None })
    }

    /// The file to open: `path` is what people are told.
    pub fn to_open(&self) -> &Path {
        self.local.as_deref().unwrap_or(&self.path)
    }
}

/// The files that the patterns mean: files, folders (their files, not those of folders in them) and globs, relative
/// to `base`. Sorted by path, each file once.
///
/// In a folder, hidden files and files of other endings are passed over; a file that is named or matched
/// must be one that can be read.
pub fn discover(patterns: &[String], base: &Path, format: Option<Format>) -> Result<Vec<SourceFile>, IngestError> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let path = base.join(pattern);
        if path.is_dir() {
            paths.extend(in_folder(&path, format)?);
        } else if path.exists() {
            paths.push(path);
        } else if pattern.contains(['*', '?', '[']) {
            paths.extend(matching(pattern, &path)?);
        } else {
            return Err(IngestError::NothingMatches { pattern: pattern.clone(), hint: nearest_file(&path) });
        }
    }
    paths.sort();
    paths.dedup();
    paths.into_iter().map(|path| describe(path, format)).collect()
}

fn describe(path: PathBuf, format: Option<Format>) -> Result<SourceFile, IngestError> {
    let (format, tabs) = format_of(&path, format)?;
    match fs::metadata(&path) {
        Ok(metadata) => Ok(SourceFile { size: metadata.len(), path, format, tabs, artifact: None, local: None }),
        Err(source) => Err(IngestError::Read { path, source }),
    }
}

/// The format that is stated, else that of the name; and whether tabs part the fields.
fn format_of(path: &Path, stated: Option<Format>) -> Result<(Format, bool), IngestError> {
    let (by_name, tabs) = match ending(path) {
        Some((format, tabs)) => (Some(format), tabs),
        None => (None, false),
    };
    let format = stated.or(by_name).ok_or_else(|| IngestError::UnknownEnding { path: path.to_owned() })?;
    Ok((format, tabs))
}

/// The format that a name's ending stands for, and whether tabs part the fields.
fn ending(path: &Path) -> Option<(Format, bool)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    if name.ends_with(".parquet") {
        return Some((Format::Parquet, false));
    }
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some((Format::Csv, false)),
        "tsv" => Some((Format::Csv, true)),
        "ndjson" | "jsonl" => Some((Format::Ndjson, false)),
        _ => None,
    }
}

fn in_folder(folder: &Path, format: Option<Format>) -> Result<Vec<PathBuf>, IngestError> {
    let entries = list(folder).map_err(|source| IngestError::Read { path: folder.to_owned(), source })?;
    let readable = |path: &PathBuf| path.is_file() && (format.is_some() || ending(path).is_some());
    let paths: Vec<PathBuf> =
        entries.iter().filter(|path| !hidden(path)).filter(|path| readable(path)).cloned().collect();
    if paths.is_empty() {
        let shown: Vec<String> = entries.iter().take(5).map(|path| format!("`{}`", file_name(path))).collect();
        let hint = match shown.len() {
            0 => "it is empty".to_owned(),
            _ => format!(
                "it has {}{}; names must end in .csv, .tsv, .ndjson, .jsonl (each also .gz) or .parquet",
                shown.join(", "),
                if entries.len() > shown.len() { " and more" } else { "" }
            ),
        };
        return Err(IngestError::NothingReadable { path: folder.to_owned(), hint });
    }
    Ok(paths)
}

fn matching(pattern: &str, path: &Path) -> Result<Vec<PathBuf>, IngestError> {
    let bad = |reason: String| IngestError::BadPattern { pattern: pattern.to_owned(), reason };
    let text = path.to_str().ok_or_else(|| bad("it is not UTF-8".to_owned()))?;
    let mut paths = Vec::new();
    for found in glob::glob(text).map_err(|error| bad(error.msg.to_owned()))? {
        let found = found.map_err(|error| IngestError::Read { path: error.path().to_owned(), source: error.into() })?;
        if found.is_file() && !hidden(&found) {
            paths.push(found);
        }
    }
    if paths.is_empty() {
        return Err(IngestError::NothingMatches { pattern: pattern.to_owned(), hint: nearest_file(path) });
    }
    Ok(paths)
}

/// What a path that leads nowhere may have meant.
fn nearest_file(path: &Path) -> Option<String> {
    let parent = path.parent()?;
    if !parent.is_dir() {
        let exists = parent.ancestors().find(|ancestor| ancestor.is_dir())?;
        return Some(format!("there is no folder `{}` (but `{}` exists)", parent.display(), exists.display()));
    }
    let files: Vec<String> =
        list(parent).ok()?.iter().filter(|path| !hidden(path)).map(|path| file_name(path)).collect();
    if files.is_empty() {
        return Some(format!("folder `{}` is empty", parent.display()));
    }
    let hint = names::hint(&file_name(path), files.iter().map(String::as_str))?;
    Some(match hint.strip_prefix("there are") {
        Some(files) => format!("in `{}` there are{files}", parent.display()),
        None => hint,
    })
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(patterns: &[&str], format: Option<Format>, expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        fs::create_dir_all(base.join("data/deep")).unwrap();
        fs::create_dir_all(base.join("empty")).unwrap();
        fs::create_dir_all(base.join("notes")).unwrap();
        for name in
            ["data/b.csv", "data/a.CSV.gz", "data/c.tsv", "data/.hidden.csv", "data/readme.md", "data/deep/x.csv"]
        {
            fs::write(base.join(name), "a\n1\n").unwrap();
        }
        fs::write(base.join("notes/one.txt"), "").unwrap();
        fs::write(base.join("d.jsonl"), "").unwrap();
        fs::write(base.join("e[1].parquet"), "").unwrap();
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let text = match discover(&patterns, base, format) {
            Ok(files) => files
                .iter()
                .map(|file| {
                    let path = file.path.strip_prefix(base).unwrap().display();
                    format!("{path} {:?}{} {}\n", file.format, if file.tabs { " tabs" } else { "" }, file.size)
                })
                .collect(),
            Err(error) => format!("{error}\nhint: {}\n", error.hint().unwrap_or_default()),
        };
        expected.assert_eq(&text.replace(&base.display().to_string(), "BASE"));
    }

    #[test]
    fn folders_globs_and_files_are_found_sorted_and_once() {
        check(
            &["data"],
            None,
            expect![[r#"
            data/a.CSV.gz Csv 4
            data/b.csv Csv 4
            data/c.tsv Csv tabs 4
        "#]],
        );
        check(
            &["d.jsonl", "data/*.csv", "data/b.csv", "e[1].parquet"],
            None,
            expect![[r#"
            d.jsonl Ndjson 0
            data/b.csv Csv 4
            e[1].parquet Parquet 0
        "#]],
        );
        check(
            &["notes"],
            Some(Format::Csv),
            expect![[r#"
            notes/one.txt Csv 0
        "#]],
        );
    }

    #[test]
    fn what_is_not_there_gets_what_may_be_meant() {
        check(
            &["data/bb.csv"],
            None,
            expect![[r#"
            nothing matches `data/bb.csv`
            hint: did you mean `b.csv`?
        "#]],
        );
        check(
            &["dta/*.csv"],
            None,
            expect![[r#"
            nothing matches `dta/*.csv`
            hint: there is no folder `BASE/dta` (but `BASE` exists)
        "#]],
        );
        check(
            &["data/flights-*.csv.gz"],
            None,
            expect![[r#"
            nothing matches `data/flights-*.csv.gz`
            hint: in `BASE/data` there are `a.CSV.gz`, `b.csv`, `c.tsv`, `deep`, `readme.md`
        "#]],
        );
        check(
            &["empty"],
            None,
            expect![[r#"
            folder `BASE/empty` has no file that can be read
            hint: it is empty
        "#]],
        );
        check(
            &["notes"],
            None,
            expect![[r#"
            folder `BASE/notes` has no file that can be read
            hint: it has `one.txt`; names must end in .csv, .tsv, .ndjson, .jsonl (each also .gz) or .parquet
        "#]],
        );
        check(
            &["data/readme.md"],
            None,
            expect![[r#"
            the ending of `BASE/data/readme.md` names no format
            hint: say `format: csv`, `parquet` or `ndjson` when it is one of them
        "#]],
        );
        check(
            &["data/[b.csv"],
            None,
            expect![[r#"
            `data/[b.csv` is not a pattern of paths: invalid range pattern
            hint: 
        "#]],
        );
    }
}
