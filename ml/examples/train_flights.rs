//! Trains on the flights of 2013 and prints time, memory and quality: the figures that the choices in
//! `features` and `estimators` lean on. The counterpart is `tests/baseline/flights_sklearn.py`.
//!
//! ```text
//! cargo run --release -p gristmill-ml --example train_flights -- DATA_DIR [ALGORITHM] [FEATURES] [THREADS]
//! cargo run --release -p gristmill-ml --example train_flights -- data \
//!     '{"random_forest": {"trees": 100, "max_depth": 12}}' '{"encoding": "one_hot"}' 2
//! ```
//!
//! Regressions predict `arr_delay`, classifications whether it is over 15 minutes.

use std::error::Error;
use std::fs::{self, File};
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use flate2::read::MultiGzDecoder;
use gristmill_ml::estimators::{
    Control, Memory, TrainingSetBuilder, algorithm_name, grows_trees, join, train_units, units,
};
use gristmill_ml::features::{FeatureFitter, FeaturePlan};
use gristmill_ml::metrics::Evaluator;
use gristmill_ml::model::{Model, Training};
use gristmill_ml::target::TargetFitter;
use gristmill_protocol::pipeline::{Algorithm, Features};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const BATCH_ROWS: usize = 8_192;
const MEMORY_BYTES: u64 = 4_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let data = args.next().ok_or("which folder holds the flights?")?;
    let algorithm = args.next().unwrap_or(r#"{"random_forest": {"trees": 100, "max_depth": 12}}"#.to_owned());
    let algorithm: Algorithm = serde_json::from_str(&algorithm)?;
    let mut features: Map<String, Value> = serde_json::from_str(&args.next().unwrap_or("{}".to_owned()))?;
    features.insert("numeric".to_owned(), json!(["dep_delay", "distance", "hour"]));
    features.insert("categorical".to_owned(), json!(["carrier", "origin", "dest", "month"]));
    let features: Features = serde_json::from_value(Value::Object(features))?;
    let threads = args.next().map_or(Ok(2), |threads| threads.parse())?;
    let classification = grows_trees(&algorithm) || algorithm_name(&algorithm) == "logistic_regression";
    let target_column = if classification { "late" } else { "arr_delay" };

    let mut clock = Clock::new();
    let (train, test) = read(&data)?;
    clock.stage("read");

    let schema = train[0].schema();
    let mut target = TargetFitter::new(&schema, target_column, None)?;
    train.iter().try_for_each(|batch| target.push(batch))?;
    let target = target.finish()?;
    let mut fitter =
        FeatureFitter::new(&schema, FeaturePlan::new(&features, grows_trees(&algorithm), &target)?, &target)?;
    for batch in &train {
        fitter.push(batch, &target.values(batch)?)?;
    }
    let fitted = fitter.finish()?;
    clock.stage("features");

    let mut builder = TrainingSetBuilder::new(&fitted, &target, &algorithm, MEMORY_BYTES)?;
    train.iter().try_for_each(|batch| builder.push(batch))?;
    let set = builder.finish()?;
    clock.stage("matrix");

    let memory = Memory::estimate(&algorithm, set.rows(), set.columns(), fitted.filled(), target.outputs());
    let stop = AtomicBool::new(false);
    let control = Control { threads, stop: &stop, progress: &|_, _| {} };
    let part = train_units(&set, &algorithm, 7, 0..units(&algorithm, &target), &control)?;
    drop(set);
    let training = Training { algorithm: algorithm.clone(), seed: 7, rows: fitted.rows() };
    let columns = fitted.names().len();
    let model = Model::new(target.clone(), fitted, join(vec![part], &algorithm, &target)?, training, None)?;
    clock.stage("fit");

    let mut evaluator = Evaluator::new(&model);
    for batch in &test {
        evaluator.push(&model.predict(batch)?, &target.values(batch)?);
    }
    clock.stage("score");
    let evaluation = evaluator.finish().ok_or("there are no test rows")?;
    clock.stage("metrics");

    let bytes = model.to_bytes();
    let digest = Sha256::digest(&bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(Model::from_bytes(&bytes)?, model, "a model is read back as it was");
    println!(
        "{}",
        json!({
            "algorithm": algorithm_name(&algorithm), "threads": threads, "columns": columns,
            "train": model.training().rows, "test": evaluation.rows,
            "seconds": clock.stages, "peak_rss_mb": peak_rss_mb(),
            "estimate_mb": { "set": memory.set / 1_000_000, "thread": memory.thread / 1_000_000 },
            "metrics": evaluation.metrics, "model_bytes": bytes.len(), "digest": digest,
            "importances": model.importances().iter().map(|i| format!("{} {:.3}", i.name, i.share)).collect::<Vec<_>>(),
        })
    );
    Ok(())
}

struct Clock {
    begun: Instant,
    stages: Map<String, Value>,
}

impl Clock {
    fn new() -> Clock {
        Clock { begun: Instant::now(), stages: Map::new() }
    }

    fn stage(&mut self, name: &str) {
        let seconds = (self.begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        self.stages.insert(name.to_owned(), json!(seconds));
        self.begun = Instant::now();
    }
}

/// The most memory that this process held, as Linux counts it.
fn peak_rss_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kb: f64 = line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(f64::NAN);
    (kb / 102.4).round() / 10.0
}

#[derive(Default)]
struct Rows {
    dep_delay: Vec<Option<f64>>,
    distance: Vec<i64>,
    hour: Vec<i64>,
    carrier: Vec<String>,
    origin: Vec<String>,
    dest: Vec<String>,
    month: Vec<i64>,
    arr_delay: Vec<f64>,
}

impl Rows {
    fn take(&mut self) -> Result<RecordBatch, Box<dyn Error>> {
        let rows = std::mem::take(self);
        let late: Vec<bool> = rows.arr_delay.iter().map(|&delay| delay > 15.0).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("dep_delay", Arc::new(Float64Array::from(rows.dep_delay))),
            ("distance", Arc::new(Int64Array::from(rows.distance))),
            ("hour", Arc::new(Int64Array::from(rows.hour))),
            ("carrier", Arc::new(StringArray::from(rows.carrier))),
            ("origin", Arc::new(StringArray::from(rows.origin))),
            ("dest", Arc::new(StringArray::from(rows.dest))),
            ("month", Arc::new(Int64Array::from(rows.month))),
            ("arr_delay", Arc::new(Float64Array::from(rows.arr_delay))),
            ("late", Arc::new(BooleanArray::from(late))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

/// The flights that arrived: four of five rows to train on, chosen by a hash of their number.
fn read(data: &str) -> Result<(Vec<RecordBatch>, Vec<RecordBatch>), Box<dyn Error>> {
    let mut files: Vec<_> = fs::read_dir(data)?.collect::<Result<_, _>>()?;
    files.sort_by_key(|file| file.file_name());
    let mut sides = [(Rows::default(), Vec::new()), (Rows::default(), Vec::new())];
    let mut number = 0u64;
    for file in files.iter().filter(|file| file.file_name().to_string_lossy().starts_with("flights-2013-")) {
        let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(BufReader::new(File::open(file.path())?)));
        let header = reader.headers()?.clone();
        let at = |name: &str| header.iter().position(|column| column == name).ok_or(format!("no column {name}"));
        let (month, dep_delay, arr_delay) = (at("month")?, at("dep_delay")?, at("arr_delay")?);
        let (carrier, origin, dest) = (at("carrier")?, at("origin")?, at("dest")?);
        let (distance, hour) = (at("distance")?, at("hour")?);
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            let Ok(delay) = record[arr_delay].parse::<f64>() else { continue };
            number += 1;
            let is_test =
                number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32;
            let (rows, batches) = &mut sides[usize::from(is_test.is_multiple_of(5))];
            rows.dep_delay.push(record[dep_delay].parse().ok());
            rows.distance.push(record[distance].parse()?);
            rows.hour.push(record[hour].parse()?);
            rows.carrier.push(record[carrier].to_owned());
            rows.origin.push(record[origin].to_owned());
            rows.dest.push(record[dest].to_owned());
            rows.month.push(record[month].parse()?);
            rows.arr_delay.push(delay);
            if rows.month.len() == BATCH_ROWS {
                batches.push(rows.take()?);
            }
        }
    }
    let [(mut train_rest, mut train), (mut test_rest, mut test)] = sides;
    train.push(train_rest.take()?);
    test.push(test_rest.take()?);
    Ok((train, test))
}
