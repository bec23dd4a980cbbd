//! Messages that others than Rust programs read and write: their bytes stay as they are.
//!
//! Each is a file of bytes and a file of JSON that says the same, with bytes as lists of numbers. The tests of the Python
//! client read both. `UPDATE_EXPECT=1` writes them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use gristmill_protocol::message::{Assignment, Input, InputValue, Items, Outcome, Part, Report, ReturnCause};
use gristmill_protocol::output::{DatasetRef, Output};
use gristmill_protocol::payload::{Files, Payload, StepPayload, UploadedFile};
use gristmill_protocol::pipeline::check;
use gristmill_protocol::pipeline::complaint::Complaints;
use gristmill_protocol::submission::{Outputs, SubmissionAnswer, SubmissionMessage};
use gristmill_protocol::{AttemptRef, Digest, ErrorCode, Failure, RunId, Shard, TaskKey, wire};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use serde_json::json;

const PIPELINE: &str = "
name: golden
steps:
  trips: { ingest: { source: trips.csv } }
  clean: { python: { task: clean, inputs: { flights: trips }, params: { limit: 3, label: late, share: 0.5 } } }
";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares with a file, or writes it.
fn same(name: &str, found: &[u8]) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(folder()).expect("the folder can be made");
        std::fs::write(&path, found).expect("the file can be written");
    }
    let expected = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(expected == found, "`{name}` has other bytes than it had; readers of older messages must still be served");
}

fn same_json<T: Serialize>(name: &str, value: &T) {
    let mut text = serde_json::to_string_pretty(value).expect("plain data");
    text.push('\n');
    same(&format!("{name}.json"), text.as_bytes());
}

/// A message behind its version byte.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &'static str, value: &T) {
    let bytes = wire::encode(value);
    same(&format!("{name}.bin"), &bytes);
    same_json(name, value);
    assert_eq!(&wire::decode::<T>(name, &bytes).expect("it reads"), value);
}

fn run() -> RunId {
    "run-019424f8608871d68f8a99f8a2690153".parse().expect("a run id")
}

fn dataset() -> Output {
    Output::Dataset { dataset: DatasetRef { manifest: Digest::of(b"manifest"), rows: 1_000 }, quarantine: None }
}

fn values() -> Output {
    let metrics = BTreeMap::from([("share".to_owned(), 0.25), ("total".to_owned(), 70_000.0)]);
    Output::Values { values: Digest::of(b"values"), metrics }
}

fn payload() -> Payload {
    let pipeline = check("golden.yaml", PIPELINE, &[]).expect("it is right");
    let step = pipeline.step("clean").expect("it is there");
    Payload::Step(Box::new(StepPayload {
        task: step.task.clone(),
        needs: step.needs.clone(),
        folder: "/data".to_owned(),
        work_folder: "/work".to_owned(),
        cache: true,
        registers: BTreeMap::new(),
        files: Files::Here,
    }))
}

fn report(outcome: Outcome) -> Report {
    let attempt = AttemptRef { run: run(), task: TaskKey { index: 1, tag: 0xfeed_beef }, attempt: 2 };
    Report { attempt, started_us: 1_763_800_000_000_000, slot_us: 250_000, outcome }
}

#[test]
fn work_for_a_worker() {
    golden("payload", &payload());
    let part = Part {
        run: run(),
        step: "clean".to_owned(),
        path: String::new(),
        payload: ByteBuf::from(wire::encode(&payload())),
        inputs: vec![Input {
            step: "trips".to_owned(),
            value: InputValue::Output(ByteBuf::from(wire::encode(&dataset()))),
        }],
        timeout_ms: Some(90_000),
        tag: 0xfeed_beef,
        first: 1,
        tasks: vec![1],
        attempts: vec![2],
        items: Items::None,
    };
    let assignment =
        Assignment { shard: Shard(3), pool: "python".to_owned(), priority: -5, solo: false, parts: vec![part] };
    golden("assignment", &assignment);
}

#[test]
fn what_steps_have_made() {
    golden("output-dataset", &dataset());
    golden(
        "output-parts",
        &Output::Parts {
            parts: BTreeMap::from([("train".to_owned(), DatasetRef { manifest: Digest::of(b"train"), rows: 80 })]),
        },
    );
    golden("output-values", &values());
    golden("output-nothing", &Output::Nothing);
}

#[test]
fn how_attempts_end() {
    let output = ByteBuf::from(wire::encode(&values()));
    golden("report-succeeded", &report(Outcome::Succeeded { output, cached: false }));
    let failure = Failure::new(ErrorCode::OutOfMemory, "the task was killed").with_hint("give it less");
    golden("report-failed", &report(Outcome::Failed(failure)));
    golden("report-failed-plainly", &report(Outcome::Failed(Failure::new(ErrorCode::BadInput, "no"))));
    golden("report-rejected", &report(Outcome::Rejected { reason: "too few rows".to_owned() }));
    golden("report-returned", &report(Outcome::Returned(ReturnCause::Draining)));
    golden("report-stopped", &report(Outcome::Stopped));
}

#[test]
fn submissions_and_their_answers() {
    let file = UploadedFile { path: "trips.csv".to_owned(), digest: Digest::of(b"trips"), bytes: 5 };
    let first = SubmissionMessage {
        pipeline: Some(PIPELINE.to_owned()),
        params: json!({ "trees": 200, "source": "a b", "share": 0.5 }).as_object().expect("an object").clone(),
        key: Some("nightly".to_owned()),
        namespace: Some("research".to_owned()),
        priority: Some(-3),
        no_cache: true,
        files: BTreeMap::from([("trips".to_owned(), vec![file])]),
        outputs: Outputs::Artifacts,
        ..SubmissionMessage::default()
    };
    let second = SubmissionMessage { name: Some("kept".to_owned()), version: Some(3), ..SubmissionMessage::default() };
    let packed = rmp_serde::to_vec_named(&first).expect("plain data");
    same("submission.bin", &packed);
    same_json("submission", &first);
    let read = SubmissionMessage::decode("application/vnd.gristmill.submission+msgpack; v=1", &packed);
    assert_eq!(read.expect("it reads"), first);

    let list = [first, second];
    let packed = rmp_serde::to_vec_named(&list).expect("plain data");
    same("submissions.bin", &packed);
    same_json("submissions", &list);
    let read = SubmissionMessage::decode_many("application/vnd.gristmill.submissions+msgpack; v=1", &packed);
    assert_eq!(read.expect("it reads"), list);

    let answers = [
        SubmissionAnswer::Accepted { run: run() },
        SubmissionAnswer::Refused {
            error: "it has no `key`".to_owned(),
            code: ErrorCode::BadInput,
            complaints: Vec::new(),
        },
        SubmissionAnswer::complaints(wrong()),
    ];
    same("answers.json", &SubmissionAnswer::list_to_json(&answers));
}

fn wrong() -> Complaints {
    check("submission", "name: x\nsteps:\n  a: { nop: {} }\n", &[]).expect_err("it is wrong")
}
