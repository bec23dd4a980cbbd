//! A folder of its own and the real program in it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod server;
pub mod servers;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The flights of 2013, a file a month.
pub fn flights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flight-delays/data")
}

/// A new folder in which the program runs.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a command said.
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("a folder");
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// The program with these arguments, in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        // What the machine is set up for is none of the tests' business.
        for name in ["HOME", "CONFIG", "BROKER", "STATE", "ARTIFACTS", "QUEUE_TYPE", "METRICS", "LOG"] {
            command.env_remove(format!("GRISTMILL_{name}"));
        }
        command
    }

    /// Runs the program to its end.
    pub fn gristmill(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().expect("the program starts"))
    }

    /// Runs the program, which must succeed; what it printed as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.gristmill(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.stderr);
        said.json()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    /// Names of what is in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Said {
    pub fn of(output: Output) -> Said {
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The object that the program printed.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// Spreads the trees of a pipeline of [`small_flights`] over so many tasks.
pub fn in_parts(place: &Place, parts: u32) {
    let text = std::fs::read_to_string(place.path().join("flights.yaml")).expect("the pipeline");
    let split = text.replace("      algorithm: {", &format!("      parts: {parts}\n      algorithm: {{"));
    assert_ne!(text, split);
    place.write("flights.yaml", split);
}

/// A pipeline over some months that takes a second or two: the steps of the example, with a small forest.
pub fn small_flights(place: &Place, months: &[u32], trees: u32) -> PathBuf {
    for month in months {
        let name = format!("flights-2013-{month:02}.csv.gz");
        let data = std::fs::read(flights().join(&name)).expect("the example's data");
        place.write(&format!("data/{name}"), data);
    }
    place.write(
        "flights.yaml",
        format!(
            r#"name: small-flights
params: {{ source: data, depth: 8 }}
steps:
  flights: {{ ingest: {{ source: "${{source}}" }} }}
  trips:
    transform:
      sql: >
        select month, hour, carrier, origin, dest, distance, dep_delay, arr_delay > 15 as late
        from flights where arr_delay is not null
  trusted:
    expect:
      input: trips
      rules:
        - {{ rows: {{ min: 1000 }} }}
        - {{ column: dep_delay, nulls: {{ max: 0.05 }}, between: [-120, 2000] }}
  parts: {{ split: {{ input: trusted, test: 0.2, stratify: late, seed: 7 }} }}
  model:
    train:
      input: parts.train
      target: late
      features: {{ numeric: [dep_delay, distance, hour], categorical: [carrier, origin, dest] }}
      algorithm: {{ random_forest: {{ trees: {trees}, max_depth: "${{depth}}" }} }}
  quality:
    validate: {{ model: model, input: parts.test, require: [{{ metric: roc_auc, min: 0.7 }}, {{ beats: champion }}] }}
  release: {{ register: {{ model: model, evidence: quality, name: small-flights, alias: champion }} }}
  scores: {{ score: {{ model: model, input: parts.test, output: out/scores.csv }} }}
"#
        ),
    )
}
