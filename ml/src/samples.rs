//! Small tables and trained models for tests.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use gristmill_protocol::pipeline::{Algorithm, Features};
use serde_json::{Value, json};

use crate::estimators::{Control, Part, TrainError, TrainingSet, TrainingSetBuilder, join, train_units, units};
use crate::features::{ComponentsFitter, FeatureFitter, FeaturePlan, FittedFeatures};
use crate::model::{Model, Training};
use crate::target::{Target, TargetFitter};

/// Bytes that tests may train in.
pub const MEMORY: u64 = 1_000_000_000;

/// A table of these columns.
pub fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

pub fn floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(values))
}

pub fn texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

/// Rows with ties, gaps and levels of all frequencies, and targets of every kind that depend on them:
/// numbers `x`, `day`; levels `town`, `code`; targets `yes` (boolean), `grade` (three texts), `price`, `hits` (whole).
pub fn village(rows: usize) -> RecordBatch {
    let noise = |row: usize, salt: usize| ((row * 7919 + salt * 104_729) % 1009) as f64 / 1009.0;
    let town = |row: usize| ["ash", "birch", "cedar", "elm", "fir"][((noise(row, 2).powi(2)) * 5.0) as usize];
    let score = |row: usize| {
        let x = (noise(row, 1) * 20.0).round() / 2.0;
        let of_town = match town(row) {
            "ash" => 1.0,
            "birch" => -2.0,
            "cedar" => 3.0,
            _ => 0.0,
        };
        x - 5.0 + of_town + 4.0 * (noise(row, 3) - 0.5)
    };
    let each = 0..rows;
    table(vec![
        ("x", floats(each.clone().map(|row| (row % 17 != 3).then(|| (noise(row, 1) * 20.0).round() / 2.0)))),
        ("day", Arc::new(Int64Array::from_iter_values(each.clone().map(|row| (row % 31) as i64)))),
        ("town", texts(each.clone().map(|row| (row % 23 != 5).then(|| town(row))))),
        ("code", Arc::new(Int64Array::from_iter_values(each.clone().map(|row| (row * row % 9) as i64)))),
        ("yes", Arc::new(BooleanArray::from_iter(each.clone().map(|row| Some(score(row) > 0.0))))),
        (
            "grade",
            texts(each.clone().map(|row| match score(row) {
                score if score < -2.0 => Some("low"),
                score if score < 2.0 => Some("middle"),
                _ => Some("high"),
            })),
        ),
        ("price", floats(each.clone().map(|row| Some(score(row) * 10.0 + 100.0)))),
        ("hits", Arc::new(Int64Array::from_iter_values(each.map(|row| score(row) as i64)))),
    ])
}

pub fn algorithm(json: Value) -> Algorithm {
    serde_json::from_value(json).unwrap()
}

/// Numbers `x` and `day`, levels `town` and `code`, and whatever else is said.
pub fn village_features(more: Value) -> Features {
    let mut features = json!({"numeric": ["x", "day"], "categorical": ["town", "code"]});
    features.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(features).unwrap()
}

pub fn target(batch: &RecordBatch, column: &str) -> Target {
    let mut fitter = TargetFitter::new(&batch.schema(), column, None).unwrap();
    fitter.push(batch).unwrap();
    fitter.finish().unwrap()
}

pub fn fit_features(batch: &RecordBatch, features: &Features, trees: bool, target: &Target) -> FittedFeatures {
    let plan = FeaturePlan::new(features, trees, target).unwrap();
    let mut fitter = FeatureFitter::new(&batch.schema(), plan, target).unwrap();
    fitter.push(batch, &target.values(batch).unwrap()).unwrap();
    components(fitter.finish().unwrap(), batch)
}

fn components(features: FittedFeatures, batch: &RecordBatch) -> FittedFeatures {
    match ComponentsFitter::begin(features).unwrap() {
        Err(features) => features,
        Ok(mut fitter) => {
            fitter.push(batch).unwrap();
            fitter.finish().unwrap()
        }
    }
}

/// The same with the defaults of an algorithm.
pub fn fit_for(batch: &RecordBatch, features: &Features, algorithm: &Algorithm, target: &Target) -> FittedFeatures {
    let plan = FeaturePlan::for_algorithm(features, algorithm, target).unwrap();
    let mut fitter = FeatureFitter::new(&batch.schema(), plan, target).unwrap();
    fitter.push(batch, &target.values(batch).unwrap()).unwrap();
    components(fitter.finish().unwrap(), batch)
}

pub fn training_set(
    batch: &RecordBatch,
    fitted: &FittedFeatures,
    target: &Target,
    algorithm: &Algorithm,
) -> Result<TrainingSet, TrainError> {
    let mut builder = TrainingSetBuilder::new(fitted, target, algorithm, MEMORY)?;
    // Two pieces, as batches come.
    let middle = batch.num_rows() / 3;
    builder.push(&batch.slice(0, middle))?;
    builder.push(&batch.slice(middle, batch.num_rows() - middle))?;
    builder.finish()
}

pub fn part(set: &TrainingSet, algorithm: &Algorithm, range: Range<u32>, threads: usize) -> Part {
    let stop = AtomicBool::new(false);
    train_units(set, algorithm, 7, range, &Control { threads, stop: &stop, progress: &|_, _| {} }).unwrap()
}

/// A model of one column of the village.
pub fn model(batch: &RecordBatch, column: &str, features: &Features, algorithm: &Algorithm) -> Model {
    let target = target(batch, column);
    let fitted = fit_for(batch, features, algorithm, &target);
    let set = training_set(batch, &fitted, &target, algorithm).unwrap();
    let trained = join(vec![part(&set, algorithm, 0..units(algorithm, &target), 1)], algorithm, &target).unwrap();
    let training = Training { algorithm: algorithm.clone(), seed: 7, rows: fitted.rows() };
    Model::new(target, fitted, trained, training, None).unwrap()
}

/// An array's values as text, for comparing.
pub fn shown(column: &ArrayRef) -> Vec<String> {
    let format = arrow::util::display::ArrayFormatter::try_new(column, &Default::default()).unwrap();
    (0..column.len()).map(|row| format.value(row).to_string()).collect()
}
