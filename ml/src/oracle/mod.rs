//! Fitted features and metrics beside scikit-learn's own, computed in the same test on the same real rows: the year's
//! weather in `tests/data`.
//!
//! Each test writes what was found into a folder, one file of numbers a case, and `compare.py` computes the same with
//! scikit-learn and compares. `tests/oracle/python` installs it where it is missing.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use gristmill_protocol::pipeline::Features;
use serde_json::{Value, json};

use crate::ingest::{ReadOptions, discover, infer, read_file};
use crate::matrix::{Layout, Matrix};
use crate::metrics::Evaluator;
use crate::partition::{FinishedPartition, PartitionReader};
use crate::samples::{fit_features, model, target};

/// Rows of the weather with a known visibility, and the targets `clear` (boolean) and `sight` (three texts).
fn weather() -> RecordBatch {
    let folder = tempfile::tempdir().unwrap();
    let step: gristmill_protocol::pipeline::steps::Ingest =
        serde_json::from_value(json!({ "source": "weather-2013.csv.gz" })).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let files = discover(&step.source.to_vec(), &data, None).unwrap();
    let schema = infer(&files, &step).unwrap();
    let mut finished: Vec<FinishedPartition> = Vec::new();
    let mut sink = |partition| {
        finished.push(partition);
        Ok(())
    };
    read_file(&files[0], &schema, &ReadOptions::of(&step).unwrap(), folder.path(), &mut sink).unwrap();
    let mut batches = Vec::new();
    for partition in finished {
        let blob = Arc::new(crate::blob::FileBlob::open(&partition.path).unwrap());
        batches.extend(PartitionReader::open_all(blob).unwrap().map(Result::unwrap));
    }
    let all = concat_batches(&schema.to_arrow(), &batches).unwrap();
    let visib = crate::columns::numbers(all.column_by_name("visib").unwrap()).unwrap();
    let known: BooleanArray = visib.iter().map(|value| Some(value.is_some())).collect();
    let all = filter_record_batch(&all, &known).unwrap();
    let visib: Vec<f64> = visib.iter().flatten().collect();
    let clear = BooleanArray::from_iter(visib.iter().map(|&value| Some(value >= 10.0)));
    let sight = |&value: &f64| match value {
        value if value >= 10.0 => Some("far"),
        value if value >= 3.0 => Some("middling"),
        _ => Some("near"),
    };
    let sight = arrow::array::StringArray::from_iter(visib.iter().map(sight));
    let names = all.schema_ref().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let mut columns: Vec<(&str, ArrayRef)> =
        names.iter().map(String::as_str).zip(all.columns().iter().cloned()).collect();
    columns.push(("clear", Arc::new(clear)));
    columns.push(("sight", Arc::new(sight)));
    crate::samples::table(columns)
}

/// Writes the cases and lets scikit-learn compare them.
fn compare(folder: &Path, cases: &Value) {
    std::fs::write(folder.join("cases.json"), cases.to_string()).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = Command::new(root.join("tests/oracle/python")).output().expect("the script starts");
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let python = String::from_utf8(python.stdout).expect("a path");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oracle/compare.py");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/weather-2013.csv.gz");
    let output = Command::new(python.trim()).arg(script).arg(folder).arg(data).output().expect("python starts");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // Every case says that it was looked at.
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().count(), cases.as_array().unwrap().len(), "{said}");
}

fn write(folder: &Path, name: &str, values: &[f64]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn features_are_those_of_scikit_learn() {
    let folder = tempfile::tempdir().unwrap();
    let weather = weather();
    let numeric = |settings: Value| {
        let mut column = settings;
        column["column"] = json!("wind_gust");
        json!({ "numeric": [column] })
    };
    let levels = |settings: Value| {
        let mut column = settings;
        column["column"] = json!("wind_dir");
        json!({ "categorical": [column] })
    };
    // Trees leave scales alone; linear models take one-hot bins.
    let cases = [
        ("standard", false, numeric(json!({ "impute": "mean", "scale": "standard" }))),
        ("min_max", false, numeric(json!({ "impute": "median", "scale": "min_max" }))),
        ("robust", false, numeric(json!({ "impute": { "constant": 3.5 }, "scale": "robust" }))),
        ("indicator", true, numeric(json!({ "impute": "median", "missing_indicator": true }))),
        ("log", false, numeric(json!({ "impute": "median", "log": true, "scale": "standard" }))),
        (
            "clip",
            false,
            numeric(json!({ "impute": "mean", "clip": { "quantiles": [0.05, 0.9] }, "scale": "standard" })),
        ),
        ("bins", true, numeric(json!({ "impute": "median", "bins": 7 }))),
        ("bins_one_hot", false, numeric(json!({ "impute": "median", "bins": 5 }))),
        ("one_hot", false, json!({ "categorical": [{ "column": "origin" }] })),
        ("one_hot_rare", false, levels(json!({ "encoding": "one_hot", "min_rows": 600 }))),
        ("ordinal", false, json!({ "categorical": [{ "column": "origin", "encoding": "ordinal" }] })),
        ("target", true, levels(json!({ "encoding": "target", "smoothing": 25 }))),
        (
            "cyclical",
            false,
            json!({ "scale": "none", "dates": [{ "column": "time_hour", "parts": ["month", "hour", "weekday"], "cyclical": true }] }),
        ),
        (
            "dates",
            true,
            json!({ "dates": [{ "column": "time_hour", "parts": ["year", "month", "day", "day_of_year", "weekday", "hour", "minute"] }] }),
        ),
        (
            "words",
            true,
            json!({ "text": [{ "column": "words", "buckets": 4096 }], "expressions": { "words": "origin || ' ' || origin || ' ' || cast(month as varchar)" } }),
        ),
        (
            "pca",
            false,
            json!({ "numeric": ["temp", "dewp", "wind_speed", "pressure"], "categorical": ["origin"], "pca": { "components": 3 } }),
        ),
        (
            "expression",
            true,
            json!({ "numeric": ["spread"], "expressions": { "spread": "(temp - dewp) / nullif(humid, 0)" } }),
        ),
    ];
    let mut written = Vec::new();
    for (name, trees, features) in cases {
        let features: Features = serde_json::from_value(features).unwrap();
        let fitted = fit_features(&weather, &features, trees, &target(&weather, "clear"));
        let mut matrix = Matrix::<f64>::zeros(weather.num_rows(), fitted.outputs().len(), Layout::Rows);
        fitted.transform(&weather, &mut matrix, 0).unwrap();
        let values: Vec<f64> = (0..matrix.rows()).flat_map(|row| matrix.row(row)).copied().collect();
        write(folder.path(), name, &values);
        written.push(json!({ "name": name, "kind": "features", "columns": matrix.columns(), "names": fitted.names() }));
    }
    compare(folder.path(), &Value::Array(written));
}

#[test]
fn metrics_are_those_of_scikit_learn() {
    let folder = tempfile::tempdir().unwrap();
    let weather = weather();
    let features: Features =
        serde_json::from_value(json!({ "numeric": ["temp", "humid", "wind_gust"], "categorical": ["origin"] }))
            .unwrap();
    let known = crate::columns::numbers(weather.column_by_name("temp").unwrap()).unwrap();
    let known: BooleanArray = known.iter().map(|value| Some(value.is_some())).collect();
    let weather = filter_record_batch(&weather, &known).unwrap();
    let mut written = Vec::new();
    for (name, column, algorithm) in [
        ("two classes", "clear", json!({ "decision_tree": { "max_depth": 4 } })),
        ("three classes", "sight", json!({ "random_forest": { "trees": 10, "max_depth": 6 } })),
        ("a number", "temp", json!({ "ridge": { "alpha": 1.0 } })),
    ] {
        let mut features = features.clone();
        features.numeric.retain(|listed| listed.column() != column);
        let model = model(&weather, column, &features, &crate::samples::algorithm(algorithm));
        let truth = model.target().values(&weather).unwrap();
        let predictions = model.predict(&weather).unwrap();
        let mut evaluator = Evaluator::new(&model);
        evaluator.push(&predictions, &truth);
        let scores: Vec<f64> = match predictions {
            crate::model::Predictions::Values(values) => values,
            crate::model::Predictions::Classes { probabilities, .. } => probabilities,
            crate::model::Predictions::Groups(_) => unreachable!("there is a target"),
        };
        let width = scores.len() / truth.len();
        write(folder.path(), &format!("{name} scores"), &scores);
        write(folder.path(), &format!("{name} truth"), &truth);
        written.push(json!({ "name": name, "kind": "metrics", "columns": width, "metrics": evaluator.metrics() }));
    }
    compare(folder.path(), &Value::Array(written));
}
