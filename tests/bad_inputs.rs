//! Bad inputs, and the error each gets: what, where, what to do. None panics, none leaves half a result.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use support::{Place, Said};

/// A table that is fine.
const TABLE: &str = "id,size,kind,late\n1,10,a,true\n2,20,b,false\n3,30,a,true\n4,40,b,false\n5,50,a,true\n6,60,b,false\n7,70,a,true\n8,80,b,false\n";

/// One bad input: files, and what of the error must be said.
struct Case {
    what: &'static str,
    files: &'static [(&'static str, &'static str)],
    steps: &'static str,
    arguments: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

const fn pipeline(what: &'static str, steps: &'static str, says: &'static [&'static str]) -> Case {
    Case { what, files: &[], steps, arguments: &[], code: 2, says }
}

const fn data(
    what: &'static str,
    files: &'static [(&'static str, &'static str)],
    steps: &'static str,
    says: &'static [&'static str],
) -> Case {
    Case { what, files, steps, arguments: &[], code: 1, says }
}

const INGEST: &str = "  t: { ingest: { source: t.csv } }\n";

const CASES: &[Case] = &[
    pipeline("an unknown key", "  t: { ingest: { sorce: t.csv } }\n", &["sorce", "source", "p.yaml:3:"]),
    pipeline("an unknown kind", "  t: { ingset: { source: t.csv } }\n", &["ingset", "ingest"]),
    pipeline(
        "an unknown step",
        "  t: { ingest: { source: t.csv } }\n  s: { split: { input: tt, test: 0.5 } }\n",
        &["`tt`", "did you mean `t`", "p.yaml:4:"],
    ),
    pipeline(
        "a cycle",
        "  a: { transform: { sql: select * from b } }\n  b: { transform: { sql: select * from a } }\n",
        &["a -> b -> a"],
    ),
    pipeline("a wrong type", "  t: { ingest: { source: t.csv, columns: 7 } }\n", &["columns", "list"]),
    pipeline("an unset parameter", "  t: { ingest: { source: \"${file}\" } }\n", &["file"]),
    pipeline(
        "broken SQL",
        "  t: { ingest: { source: t.csv } }\n  u: { transform: { sql: selec 1 from t } }\n",
        &["SQL"],
    ),
    pipeline(
        "a share over one",
        "  t: { ingest: { source: t.csv } }\n  s: { split: { input: t, test: 1.5 } }\n",
        &["test"],
    ),
    pipeline("no steps", "", &["steps"]),
    pipeline("broken YAML", "  t: { ingest: \n", &["p.yaml:"]),
    pipeline("a bad duration", "  t: { ingest: { source: t.csv }, timeout: soon }\n", &["soon", "30m"]),
    pipeline(
        "an unknown metric",
        "  t: { ingest: { source: t.csv } }\n  m: { train: { input: t, target: late, features: { numeric: [size] }, algorithm: { decision_tree: {} } } }\n  q: { validate: { model: m, input: t, require: [ { metric: roc_acu, min: 0.5 } ] } }\n",
        &["roc_acu", "roc_auc"],
    ),
    Case {
        what: "an unknown parameter",
        files: &[],
        steps: INGEST,
        arguments: &["--set", "sorce=x"],
        code: 2,
        says: &["sorce"],
    },
    Case {
        what: "a parameter without a value",
        files: &[],
        steps: INGEST,
        arguments: &["--set", "source"],
        code: 2,
        says: &["name=value"],
    },
    data("a file that isn't there", &[], "  t: { ingest: { source: tt.csv } }\n", &["tt.csv", "t.csv"]),
    data("a file of no known kind", &[("t.xls", "x")], "  t: { ingest: { source: t.xls } }\n", &["t.xls"]),
    data("an empty file", &[("e.csv", "")], "  t: { ingest: { source: e.csv } }\n", &["e.csv"]),
    data(
        "too many lines that can't be read",
        &[("r.csv", "a,b\n1,2\n3\n4,5,6\n7,8\n")],
        "  t: { ingest: { source: r.csv } }\n",
        &["r.csv", "line 3"],
    ),
    data(
        "broken gzip",
        &[("g.csv.gz", "\u{1f}\u{8b}\u{8}broken")],
        "  t: { ingest: { source: g.csv.gz } }\n",
        &["g.csv.gz"],
    ),
    data("broken Parquet", &[("p.parquet", "PAR1 no")], "  t: { ingest: { source: p.parquet } }\n", &["p.parquet"]),
    data(
        "broken JSON lines",
        &[("j.ndjson", "{\"a\": 1}\n{\"a\": \n")],
        "  t: { ingest: { source: j.ndjson } }\n",
        &["j.ndjson"],
    ),
    data(
        "a column that isn't there",
        &[],
        "  t: { ingest: { source: t.csv } }\n  u: { transform: { sql: select sise from t } }\n",
        &["sise", "size"],
    ),
    data(
        "a column to keep that isn't there",
        &[],
        "  t: { ingest: { source: t.csv, columns: [siez] } }\n",
        &["siez", "size"],
    ),
    data(
        "a target that isn't there",
        &[],
        "  t: { ingest: { source: t.csv } }\n  m: { train: { input: t, target: lates, features: { numeric: [size] }, algorithm: { decision_tree: {} } } }\n",
        &["lates", "late"],
    ),
    data(
        "text as a number",
        &[],
        "  t: { ingest: { source: t.csv } }\n  m: { train: { input: t, target: late, features: { numeric: [kind] }, algorithm: { decision_tree: {} } } }\n",
        &["kind"],
    ),
    data(
        "a target with one class",
        &[],
        "  t: { ingest: { source: t.csv } }\n  u: { transform: { sql: select * from t where late } }\n  m: { train: { input: u, target: late, features: { numeric: [size] }, algorithm: { logistic_regression: {} } } }\n",
        &["late"],
    ),
    data(
        "a query whose result changes",
        &[],
        "  t: { ingest: { source: t.csv } }\n  u: { transform: { sql: select random() as r from t } }\n",
        &["random"],
    ),
    data(
        "an output under a file",
        &[],
        "  t: { ingest: { source: t.csv } }\n  m: { train: { input: t, target: late, features: { numeric: [size] }, algorithm: { decision_tree: {} } } }\n  s: { score: { model: m, input: t, output: t.csv/scores.csv } }\n",
        &["t.csv"],
    ),
    data(
        "a registered model that isn't there",
        &[],
        "  t: { ingest: { source: t.csv } }\n  s: { score: { model: nothing@champion, input: t, output: out/s.csv } }\n",
        &["nothing"],
    ),
    Case {
        what: "data that breaks a rule",
        files: &[],
        steps: "  t: { ingest: { source: t.csv } }\n  e: { expect: { input: t, rules: [ { column: size, between: [0, 50] } ] } }\n",
        arguments: &[],
        code: 3,
        says: &["size", "3 of 8 rows"],
    },
    Case {
        what: "a model under its gate",
        files: &[],
        steps: "  t: { ingest: { source: t.csv } }\n  m: { train: { input: t, target: late, features: { numeric: [size] }, algorithm: { logistic_regression: {} } } }\n  q: { validate: { model: m, input: t, require: [ { metric: roc_auc, min: 0.99 } ] } }\n",
        arguments: &[],
        code: 3,
        says: &["roc_auc", "0.99"],
    },
];

#[test]
fn every_bad_input_gets_an_error_that_says_what_to_do() {
    let mut failures = Vec::new();
    for case in CASES {
        let place = Place::new();
        place.write("t.csv", TABLE);
        place.write("p.yaml", format!("name: bad\nsteps:\n{}", case.steps));
        for (name, content) in case.files {
            place.write(name, latin(content));
        }
        let mut arguments = vec!["run", "p.yaml"];
        arguments.extend(case.arguments);
        let said = place.gristmill(&arguments);
        let text = format!("{}{}", said.stdout, said.stderr);
        let missing: Vec<&&str> = case.says.iter().filter(|part| !text.contains(**part)).collect();
        let half = place.path().join("out").exists();
        if said.code != Some(case.code) || !missing.is_empty() || text.contains("panicked") || half {
            failures.push(format!("{}: exit {:?}, lacks {missing:?}\n{text}", case.what, said.code));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n----\n"));
    assert!(CASES.len() >= 25);
}

/// Characters up to U+00FF as single bytes, so that cases can hold bytes.
fn latin(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("a byte")).collect()
}

#[test]
fn a_pipeline_file_that_is_not_there_or_not_text_is_said_so() {
    let place = Place::new();
    let said = place.gristmill(&["run", "nothing.yaml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("nothing.yaml") && said.stderr.contains("hint: "), "{}", said.stderr);
    place.write("p.yaml", [b'n', 0xff, 0xfe]);
    let said = place.gristmill(&["run", "p.yaml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("UTF-8"), "{}", said.stderr);
    assert_eq!(place.files(), ["p.yaml"], "nothing was made");
}

#[test]
fn reading_commands_without_a_home_say_how_to_make_one() {
    let place = Place::new();
    for command in [["runs"].as_slice(), &["show"], &["explain"], &["trace"], &["models"], &["cancel"], &["artifacts"]]
    {
        let said = place.gristmill(command);
        assert_ne!(said.code, Some(0), "{command:?}");
        assert!(said.stderr.contains("hint: "), "{command:?}: {}", said.stderr);
        assert!(place.files().is_empty(), "{command:?} made {:?}", place.files());
    }
}

#[test]
fn two_processes_do_not_run_in_one_home() {
    let place = Place::new();
    place.write("slow.yaml", "name: slow\nsteps:\n  wait: { noop: { ms: 600000 } }\n");
    let mut first = place.start(&["run", "slow.yaml"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while place.gristmill(&["explain"]).code != Some(0) {
        assert!(std::time::Instant::now() < deadline, "the run never came to be");
    }
    let second = place.gristmill(&["run", "slow.yaml"]);
    assert_eq!(second.code, Some(1));
    assert!(second.stderr.contains("in use") && second.stderr.contains("hint: "), "{}", second.stderr);
    first.kill().expect("the process can be killed");
    first.wait().expect("the process has ended");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_said_so() {
    let place = Place::new();
    place.write("t.csv", TABLE);
    place.write("p.yaml", format!("name: p\nsteps:\n{INGEST}"));
    place.write("home-file", "no folder");
    let said = place.gristmill(&["--home", "home-file/home", "run", "p.yaml"]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("home-file"), "{}", said.stderr);
    // Root may write anywhere, so only others see a folder's permissions.
    let readonly = place.path().join("readonly");
    std::fs::create_dir(&readonly).expect("a folder");
    std::fs::set_permissions(&readonly, std::fs::Permissions::from_mode(0o555)).expect("permissions");
    if std::fs::write(readonly.join("probe"), "").is_err() {
        let said = place.gristmill(&["--home", "readonly/home", "run", "p.yaml"]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(said.stderr.contains("readonly"), "{}", said.stderr);
    }
}

#[test]
fn whoever_stops_reading_ends_the_program_quietly() {
    let place = Place::new();
    let mut schema = place.command(&["schema"]);
    let (stdout, stderr) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let mut process = schema.stdout(stdout).stderr(stderr).spawn().expect("the program starts");
    drop(process.stdout.take());
    let said = Said::of(process.wait_with_output().expect("it ends"));
    assert_eq!((said.code, said.stderr.as_str()), (Some(141), ""));
}

/// The shell's file size limit stands in for a full disk: writes past it fail as on one, and the rest goes on.
#[test]
fn a_full_disk_fails_the_run_and_a_resume_goes_on() {
    let place = Place::new();
    support::small_flights(&place, &[1], 10);
    let binary = env!("CARGO_BIN_EXE_gristmill");
    // 200 blocks of 1 KiB: the database fits, a month's partition doesn't.
    let mut limited = std::process::Command::new("bash");
    limited.arg0("bash").args(["-c", &format!("trap '' XFSZ; ulimit -f 400; exec {binary} run flights.yaml --json")]);
    let said = Said::of(limited.current_dir(place.path()).output().expect("bash starts"));
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    assert!(!place.path().join("out").exists(), "half a result was left");
    let resumed = place.gristmill(&["resume", "--json"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
}
