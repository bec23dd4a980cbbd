//! Bad pipeline files and what is said about them.
//!
//! Each `complaints/*.yaml` has its expected complaints beside it as `.txt`; `UPDATE_EXPECT=1` writes them.
//! A first line `# --set k=v ...` gives parameters. Files whose names start with `warn-` must be accepted,
//! with warnings.

use std::path::{Path, PathBuf};

use expect_test::expect_file;
use gristmill_protocol::pipeline::{check, text_of};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/complaints");
    let entries = std::fs::read_dir(folder).expect("the folder of bad files exists");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_bad_file_gets_its_complaints() {
    let files = files();
    assert!(files.len() >= 30, "found {} files", files.len());
    for path in files {
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).expect("the file can be read");
        let complaints = match text_of(&name, &bytes) {
            Err(complaints) => complaints,
            Ok(text) => {
                let first = text.lines().next().unwrap_or_default();
                let overrides: Vec<(String, String)> = first
                    .strip_prefix("# --set ")
                    .unwrap_or_default()
                    .split_whitespace()
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
                match check(&name, text, &overrides) {
                    Ok(pipeline) => {
                        assert!(name.starts_with("warn-"), "{name} was accepted");
                        pipeline.warnings
                    }
                    Err(complaints) => {
                        assert!(!name.starts_with("warn-"), "{name} was refused:\n{complaints}");
                        complaints
                    }
                }
            }
        };
        assert!(!complaints.is_empty(), "nothing was said about {name}");
        expect_file![path.with_extension("txt")].assert_eq(&complaints.to_string());
    }
}
