//! Reports of runs whose artifacts were made by the learning crate itself.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{ArrayRef, BooleanArray, Date32Array, Float64Array, RecordBatch, StringArray};
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_ml::assess::{Assessment, Assessor};
use gristmill_ml::estimators::{Control, TrainingSetBuilder, grows_trees, join, train_units, units};
use gristmill_ml::expect::{ExpectReport, Rules};
use gristmill_ml::features::{FeatureFitter, FeaturePlan};
use gristmill_ml::metrics::{self, Evaluation, Evaluator};
use gristmill_ml::model::{Model, Training};
use gristmill_ml::partition;
use gristmill_ml::profile::Profiler;
use gristmill_ml::table::TableSchema;
use gristmill_ml::target::TargetFitter;
use gristmill_protocol::fact::About;
use gristmill_protocol::output::{DatasetRef, Output, Quarantined};
use gristmill_protocol::pipeline::steps::{Rule, Validate};
use gristmill_protocol::{Digest, ErrorCode};
use gristmill_scheduler::history::History;
use gristmill_worker::documents::{Evidence, GateResult, Manifest, PartitionRef};
use serde::Serialize;
use serde_json::{Value, json};

use super::{gather, render};
use crate::journal::{Recorder, plan};

const SOURCE: &str =
    "name: flights\nsteps:\n  flights: { ingest: { source: \"data/*.csv\" } }  # <b>not markup</b> & \"quotes\"\n";
const STEPS: &[(&str, &str, &[&str])] = &[
    ("flights", "ingest", &[]),
    ("trips", "transform", &["flights"]),
    ("trusted", "expect", &["trips"]),
    ("parts", "split", &["trusted"]),
    ("model", "train", &["parts"]),
    ("quality", "validate", &["model", "parts"]),
    ("release", "register", &["model", "quality"]),
    ("scores", "score", &["model", "parts"]),
];

/// Trips with gaps, ties and a tail, and both kinds of target.
fn trips(rows: Range<usize>) -> RecordBatch {
    // SplitMix64 as in the tests of the scheduler's core.
    let noise = |row: usize, salt: u64| {
        let mut z = (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt << 32);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let dep_delay = |row: usize| (-20.0 * noise(row, 1).max(1e-3).ln() - 15.0).round();
    let arr_delay = |row: usize| (dep_delay(row) + 40.0 * (noise(row, 2) - 0.5)).round();
    let carrier = |row: usize| ["UA", "B6", "EV", "DL", "AA", "<MQ>"][(noise(row, 3).powi(2) * 6.0) as usize];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("day", Arc::new(Date32Array::from_iter_values(rows.clone().map(|row| 15_706 + (row % 365) as i32)))),
        ("carrier", Arc::new(StringArray::from_iter_values(rows.clone().map(carrier)))),
        ("dep_delay", Arc::new(Float64Array::from_iter(rows.clone().map(|r| (r % 40 != 3).then(|| dep_delay(r)))))),
        ("distance", Arc::new(Float64Array::from_iter_values(rows.clone().map(|r| 100.0 + 2_400.0 * noise(r, 4))))),
        ("arr_delay", Arc::new(Float64Array::from_iter_values(rows.clone().map(arr_delay)))),
        ("late", Arc::new(BooleanArray::from_iter(rows.clone().map(|row| Some(arr_delay(row) > 15.0))))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns are equally long")
}

fn train(batch: &RecordBatch, target: &str, algorithm: &Value) -> Model {
    let algorithm = serde_json::from_value(algorithm.clone()).expect("an algorithm");
    let features = json!({ "numeric": ["dep_delay", "distance"], "categorical": ["carrier"] });
    let features = serde_json::from_value(features).expect("features");
    let schema = batch.schema();
    let mut fitter = TargetFitter::new(&schema, target, None).expect("a target");
    fitter.push(batch).expect("a target's values");
    let target = fitter.finish().expect("a target");
    let plan = FeaturePlan::new(&features, grows_trees(&algorithm), &target).expect("a plan");
    let mut fitter = FeatureFitter::new(&schema, plan, &target).expect("features");
    fitter.push(batch, &target.values(batch).expect("values")).expect("rows");
    let fitted = fitter.finish().expect("features");
    let mut builder = TrainingSetBuilder::new(&fitted, &target, &algorithm, 1 << 30).expect("a set");
    builder.push(batch).expect("rows");
    let stop = AtomicBool::new(false);
    let control = Control { threads: 1, stop: &stop, progress: &|_, _| {} };
    let set = builder.finish().expect("a set");
    let part = train_units(&set, &algorithm, 7, 0..units(&algorithm, &target), &control).expect("a part");
    let trained = join(vec![part], &algorithm, &target).expect("a model");
    let training = Training { algorithm, seed: 7, rows: fitted.rows() };
    Model::new(target, fitted, trained, training, None).expect("a model")
}

fn evaluate(model: &Model, batch: &RecordBatch) -> Evaluation {
    let mut evaluator = Evaluator::new(model);
    let truth = model.target().values(batch).expect("the truth");
    evaluator.push(&model.predict(batch).expect("predictions"), &truth);
    evaluator.finish().expect("there are rows")
}

/// All that a validate step can find out.
fn assess(model: &Model, batch: &RecordBatch) -> Assessment {
    let mut more = json!({
        "model": "model", "input": "parts.test", "intervals": { "draws": 100 },
        "slices": { "far <2>": "distance > 2000", "none": "distance < 0" },
        "robustness": {}, "importance": { "repeats": 2 },
    });
    if model.target().classes().is_some() {
        more["fairness"] = json!({ "by": ["carrier"], "min_rows": 50 });
    }
    let validate: Validate = serde_json::from_value(more).expect("a step");
    let schema = TableSchema::from_arrow(&batch.schema()).expect("a schema");
    let mut assessor = Assessor::new(model, &validate, &schema, batch.num_rows() as u64).expect("it fits");
    let places = assessor.columns().iter().map(|name| batch.schema().index_of(name).expect("a column"));
    let narrow = batch.project(&places.collect::<Vec<usize>>()).expect("columns");
    assessor.push(&narrow).expect("rows");
    let mut found = assessor.finish(1, 1_000).expect("an assessment");
    let metric = if model.target().classes().is_some() { "log_loss" } else { "rmse" };
    let rows = assessor.evaluator();
    found.comparisons.extend(metrics::compare(rows, rows, "champion", metric, &validate.intervals));
    found
}

fn expect_report(batch: &RecordBatch) -> ExpectReport {
    let schema = TableSchema::from_arrow(&batch.schema()).expect("a schema");
    let rules: Vec<Rule> = serde_json::from_value(json!([
        { "rows": { "min": 1000 } },
        { "column": "dep_delay", "nulls": { "max": 0.05 }, "between": [-60, 60], "severity": "warn" },
        { "column": "carrier", "in": ["UA", "B6", "EV", "DL", "AA", "<MQ>"] },
    ]))
    .expect("rules");
    let rules = Rules::compile(&schema, &rules).expect("rules");
    let blob = partition::to_blob(&schema, std::slice::from_ref(batch)).expect("a partition");
    rules.conclude(&[rules.check(blob).expect("a check")]).expect("a report")
}

/// An artifact store with what the steps of a run make, and their outputs.
struct Store {
    artifacts: DirectoryArtifacts,
    _folder: tempfile::TempDir,
}

impl Store {
    fn new() -> Store {
        let folder = tempfile::tempdir().expect("a folder");
        let artifacts = DirectoryArtifacts::open(folder.path()).expect("a store");
        Store { artifacts, _folder: folder }
    }

    async fn json(&self, value: &impl Serialize) -> Digest {
        let bytes = serde_json::to_vec(value).expect("it serialises");
        self.artifacts.put(bytes.into()).await.expect("it is kept")
    }

    async fn dataset(&self, batch: &RecordBatch, profiled: bool) -> DatasetRef {
        let schema = TableSchema::from_arrow(&batch.schema()).expect("a schema");
        let mut profiler = Profiler::new(&schema);
        profiler.update(batch).expect("rows");
        let profile = if profiled { Some(self.json(&profiler.finish()).await) } else { None };
        let rows = batch.num_rows() as u64;
        let partitions = vec![PartitionRef { digest: Digest::of(&rows.to_be_bytes()), rows, bytes: rows * 20 }];
        let manifest = self.json(&Manifest { schema, partitions, profile }).await;
        DatasetRef { manifest, rows }
    }

    async fn render(&self, history: &History) -> String {
        render(history, &gather::gather(history, &self.artifacts).await)
    }
}

/// A run of all steps but the last, whose outputs are in the store.
async fn recorded(store: &Store, target: &str, algorithm: &Value) -> Recorder {
    let (all, test) = (trips(0..4_000), trips(4_000..5_000));
    let model = train(&all, target, algorithm);
    let flights = store.dataset(&trips(0..5_000), true).await;
    let checked = store.dataset(&all, true).await;
    let part = store.dataset(&test, false).await;
    let report = store.json(&expect_report(&all)).await;
    let bytes = model.to_bytes();
    let (length, digest) = (bytes.len() as u64, store.artifacts.put(bytes.into()).await.expect("it is kept"));
    let evaluation = evaluate(&model, &test);
    let metrics = evaluation.metrics.clone();
    let gates = vec![
        GateResult { passed: true, message: "roc_auc is 0.91; at least 0.85 is required".to_owned() },
        GateResult { passed: false, message: "it doesn't beat `champion`: 0.91 against 0.92".to_owned() },
    ];
    let importances = model.importances();
    let assessment = assess(&model, &test);
    let evidence = Evidence { model: digest, input: part.clone(), evaluation, importances, gates, assessment };
    let evidence = store.json(&evidence).await;
    let about = About {
        source: SOURCE.to_owned(),
        params: json!({ "source": "data", "trees": 20 }).as_object().expect("an object").clone(),
        ..About::default()
    };
    let mut run = Recorder::of(plan(STEPS), about);
    let quarantine = Some(Quarantined { lines: 3, table: Digest::of(b"lines") });
    run.after(20).expand(0, 3).after(700).succeed(8, &Output::Nothing).succeed(9, &Output::Nothing);
    run.after(200).succeed(10, &Output::Nothing);
    run.after(40).succeed(11, &Output::Dataset { dataset: flights, quarantine });
    run.after(3).cached(1, &Output::Dataset { dataset: checked.clone(), quarantine: None });
    run.after(150).succeed(2, &Output::Checked { dataset: checked.clone(), report, warnings: 1 });
    let parts = [("train".to_owned(), checked), ("test".to_owned(), part)];
    run.after(90).succeed(3, &Output::Parts { parts: parts.into() });
    run.after(400).fail(4, ErrorCode::OutOfMemory, "256 MiB are not enough").after(1_000);
    let algorithm = "random_forest".to_owned();
    run.after(2_400).succeed(
        4,
        &Output::Model { model: digest, bytes: length, rows: 4_000, algorithm, study: None, learned_from: None },
    );
    run.after(120).succeed(5, &Output::Evaluation { evaluation: evidence, model: digest, metrics, warnings: 1 });
    let (name, alias) = ("flights".to_owned(), Some("champion".to_owned()));
    run.after(8).succeed(6, &Output::Version { name, version: 2, model: digest, alias });
    run
}

fn finish(run: &mut Recorder) -> History {
    let path = "out/scores.parquet".to_owned();
    run.after(60).succeed(
        7,
        &Output::Scores { path, rows: 1_000, bytes: 30_000, modified_ms: 0, artifact: None, quarantine: None },
    );
    fold(run)
}

fn fold(run: &Recorder) -> History {
    History::fold(run.run, &run.facts).expect("the core's journals can be told")
}

/// What every report must be: balanced, without foreign addresses, scripts or numbers that are none.
fn check(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>\n").expect("it says what it is");
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("every tag ends");
        let name = tag.split([' ', '/', '\n']).next().unwrap_or_default();
        assert!(name == "style" || !text.contains('>'), "a `>` stands in a text: {text:?}");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "tags close in the order in which they were opened");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
        assert_ne!(name, "script");
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes are balanced in <{tag}>");
    }
    assert_eq!(open, Vec::<&str>::new());
    for banned in ["NaN", "inf\"", "http:", "https:", "src=", "@import", "javascript:"] {
        assert!(!html.contains(banned), "`{banned}` stands in the report");
    }
    let ids: Vec<&str> =
        html.match_indices(" id=\"").filter_map(|(at, m)| html[at + m.len()..].split('"').next()).collect();
    let unique: std::collections::BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "ids are unique: {ids:?}");
}

/// Keeps a report where a person asked for it, to look at it.
fn keep(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("GRISTMILL_KEEP_REPORTS") {
        std::fs::write(std::path::Path::new(&folder).join(name), html).expect("the folder can be written to");
    }
}

#[tokio::test]
async fn a_classification_tells_everything_in_one_file() {
    let store = Store::new();
    let forest = json!({ "random_forest": { "trees": 10, "max_depth": 6 } });
    let history = finish(&mut recorded(&store, "late", &forest).await);
    let html = store.render(&history).await;
    keep("classification.html", &html);
    check(&html);
    let told = [
        "ROC",
        "Precision and recall",
        "Calibration",
        "Scores",
        "Confusion",
        "What matters to it",
        "flights@2",
        "random_forest",
        "3 lines couldn&#39;t be read",
        "&lt;b&gt;not markup&lt;/b&gt;",
        "doesn&#39;t beat `champion`",
        "! warning",
        "dep_delay",
        "2013-",
        "&lt;MQ&gt;",
        "hatch",
        "95% interval",
        "far &lt;2&gt;",
        "the slice `none` has no rows",
        "Groups of carrier",
        "four-fifths rule",
        "When inputs are wrong",
        "What is lost without an input",
        "paired bootstrap",
    ];
    for text in told {
        assert!(html.contains(text), "`{text}` is missing");
    }
    assert_eq!(html, store.render(&history).await, "the same run gives the same bytes");
}

#[tokio::test]
async fn a_regression_has_its_own_charts() {
    let store = Store::new();
    let ridge = json!({ "ridge": { "alpha": 1.0 } });
    let history = finish(&mut recorded(&store, "arr_delay", &ridge).await);
    let html = store.render(&history).await;
    keep("regression.html", &html);
    check(&html);
    assert!(html.contains("Predicted and actual") && html.contains("Residuals"));
    assert!(html.contains("moved by (standard deviations)") && !html.contains("Groups of"));
}

#[tokio::test]
async fn missing_artifacts_become_sentences() {
    let store = Store::new();
    let history = finish(&mut recorded(&store, "late", &json!({ "decision_tree": {} })).await);
    let empty = Store::new();
    let html = empty.render(&history).await;
    check(&html);
    assert!(html.contains("isn&#39;t in the artifact store any more"));
    assert!(html.contains("roc_auc"), "what the journal itself holds is told");
}

#[tokio::test]
async fn a_failed_run_begins_with_what_went_wrong() {
    let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
    run.after(70).fail(0, ErrorCode::BadInput, "there is no file `<data>/x.csv`");
    let html = Store::new().render(&fold(&run)).await;
    keep("failed.html", &html);
    check(&html);
    assert!(html.contains("What went wrong") && html.contains("`&lt;data&gt;/x.csv`"));
    assert!(html.contains("skipped"));
}

#[tokio::test]
async fn a_rejected_model_is_told_from_the_evidence_that_the_message_names() {
    let store = Store::new();
    let (all, test) = (trips(0..500), trips(500..600));
    let model = train(&all, "late", &json!({ "logistic_regression": {} }));
    let input = store.dataset(&test, false).await;
    let gates = vec![GateResult { passed: false, message: "roc_auc is too low".to_owned() }];
    let evaluation = evaluate(&model, &test);
    let importances = model.importances();
    let assessment = Assessment::default();
    let evidence = Evidence { model: Digest::of(b"m"), input, evaluation, importances, gates, assessment };
    let evidence = store.json(&evidence).await;
    let mut run = Recorder::new(&[("quality", "validate", &[])]);
    run.after(10).reject(0, &format!("roc_auc is too low; the evaluation is artifact {evidence}"));
    let html = store.render(&fold(&run)).await;
    check(&html);
    assert!(html.contains("Measured by quality") && html.contains("! not met"));
}

#[tokio::test]
async fn an_open_run_is_shown_up_to_what_is_known() {
    let mut run = Recorder::new(STEPS);
    run.after(100).expand(0, 3).after(50).succeed(8, &Output::Nothing);
    let html = Store::new().render(&fold(&run)).await;
    keep("open.html", &html);
    check(&html);
    assert!(html.contains("▸ running"));
}

#[tokio::test]
async fn a_wide_graph_and_a_hundred_children_stay_drawable() {
    let names: Vec<String> = (0..14).map(|at| format!("branch-with-a-long-name-{at}")).collect();
    let mut steps: Vec<(&str, &str, &[&str])> = vec![("source", "noop", &[])];
    steps.extend(names.iter().map(|name| (name.as_str(), "noop", &["source"] as &[&str])));
    let needs: Vec<&str> = names.iter().map(String::as_str).take(5).chain(["source"]).collect();
    steps.push(("together", "noop", &needs));
    let mut run = Recorder::new(&steps);
    run.after(5).expand(0, 100);
    for _ in 0..40 {
        run.after(7);
        for task in run.tasks_out() {
            run.succeed(task, &Output::Nothing);
        }
    }
    let history = fold(&run);
    let html = Store::new().render(&history).await;
    keep("wide.html", &html);
    check(&html);
    assert!(history.status.is_some(), "it ran to its end");
}
