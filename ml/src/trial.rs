//! Trials of a search: how good an algorithm and its features are, by cross-validation on a table in memory.

use std::ops::Range;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use gristmill_learn::resample::{FoldError, Folds, Role, TimeSeries, grouped, kfold, stratified, time_series};
use gristmill_protocol::pipeline::steps::{FoldKind, SearchFolds};
use gristmill_protocol::pipeline::{Algorithm, Features};

use crate::columns::{self, Keys};
use crate::estimators::{self, Control, TrainError, TrainingSetBuilder};
use crate::features::{ComponentsFitter, FeatureError, FeatureFitter, FeaturePlan};
use crate::hash;
use crate::metrics::Evaluator;
use crate::model::{Model, ModelError, Training};
use crate::target::{Target, TargetError};
use crate::weights::Weights;

/// Why a trial couldn't be made.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Folds(#[from] FoldError),
    #[error("there is no column `{column}` to part the rows by")]
    Column { column: String },
    #[error("folds by time need a date, a time or a number, and column `{column}` has none in row {row}")]
    Time { column: String, row: usize },
    #[error("`{metric}` can't be computed on fold {fold}")]
    Metric { metric: String, fold: usize },
    #[error("failed to select rows")]
    Select(#[from] ArrowError),
}

/// The rows of a search, and what each is to each fold.
pub struct TrialData {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    target: Target,
    folds: Folds,
}

/// One trial.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    pub algorithm: &'a Algorithm,
    pub features: &'a Features,
    pub metric: &'a str,
    pub weights: &'a Weights,
    /// Percent of the training rows of each fold that are learned from.
    pub percent: u32,
    pub seed: u64,
    /// Bytes of memory that training may take.
    pub memory_limit: u64,
}

impl TrialData {
    /// Parts the rows into folds. The batches have the columns of the features, of the target and of the folds.
    pub fn new(
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        target: Target,
        folds: &SearchFolds,
        seed: u64,
    ) -> Result<TrialData, TrialError> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let count = folds.count as usize;
        let by = folds.by.unwrap_or(match target.classes() {
            Some(_) => FoldKind::Stratified,
            None => FoldKind::Random,
        });
        let folds = match by {
            FoldKind::Random => kfold(rows, count, Some(seed))?,
            FoldKind::Stratified => {
                let mut classes = Vec::with_capacity(rows);
                for batch in &batches {
                    classes.extend(target.values(batch)?.iter().map(|&value| value as u32));
                }
                stratified(&classes, count, Some(seed))?
            }
            FoldKind::Group => grouped(&keys(&batches, folds.column.as_deref().unwrap_or_default())?, count)?,
            FoldKind::Time => {
                let times = times(&batches, folds.column.as_deref().unwrap_or_default())?;
                let settings = TimeSeries { folds: count, test: None, gap: folds.gap as usize, train_max: None };
                time_series(&times, settings)?
            }
        };
        Ok(TrialData { schema, batches, target, folds })
    }

    /// What is predicted.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.folds.rows()
    }

    /// The mean of the metric over the folds. `control` tells which fold is under way.
    pub fn score(&self, trial: &Trial<'_>, control: &Control<'_>) -> Result<f64, TrialError> {
        let count = self.folds.count();
        let mut sum = 0.0;
        for fold in 0..count {
            if control.stop.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(TrainError::Stopped.into());
            }
            sum += self.score_fold(trial, fold, control)?;
            (control.progress)(fold as u32 + 1, count as u32);
        }
        Ok(sum / count as f64)
    }

    fn score_fold(&self, trial: &Trial<'_>, fold: usize, control: &Control<'_>) -> Result<f64, TrialError> {
        let threshold = u64::MAX / 100 * u64::from(trial.percent.min(100));
        // The rows of a smaller share are among those of a larger one, so a trial that goes on has seen them.
        let learns = |row: usize| {
            self.folds.role(fold, row) == Role::Train
                && (trial.percent >= 100
                    || hash::mix(hash::mix(trial.seed ^ fold as u64).wrapping_add(row as u64)) <= threshold)
        };
        let train = self.select(learns)?;
        let plan = FeaturePlan::for_algorithm(trial.features, trial.algorithm, &self.target)?;
        let mut fitter = FeatureFitter::new(&self.schema, plan, &self.target)?;
        for batch in &train {
            fitter.push(batch, &self.target.values(batch)?)?;
        }
        let features = match ComponentsFitter::begin(fitter.finish()?)? {
            Err(features) => features,
            Ok(mut fitter) => {
                train.iter().try_for_each(|batch| fitter.push(batch))?;
                fitter.finish()?
            }
        };
        let mut set = TrainingSetBuilder::new(&features, &self.target, trial.algorithm, trial.memory_limit)?
            .with_weights(trial.weights.clone(), trial.algorithm)?;
        for batch in &train {
            set.push(batch)?;
        }
        let set = set.finish()?;
        drop(train);
        let units: Range<u32> = 0..estimators::units(trial.algorithm, &self.target);
        let quiet = Control { threads: control.threads, stop: control.stop, progress: &|_, _| {} };
        let part = estimators::train_units(&set, trial.algorithm, trial.seed, units, &quiet)?;
        let trained = estimators::join(vec![part], trial.algorithm, &self.target)?;
        let training = Training { algorithm: trial.algorithm.clone(), seed: trial.seed, rows: features.rows() };
        let model = Model::new(self.target.clone(), features, trained, training, None)?;
        let mut evaluator = Evaluator::new(&model);
        for batch in self.select(|row| self.folds.role(fold, row) == Role::Test)? {
            evaluator.push(&model.predict(&batch)?, &self.target.values(&batch)?);
        }
        let missing = || TrialError::Metric { metric: trial.metric.to_owned(), fold };
        evaluator.finish().and_then(|evaluation| evaluation.metrics.get(trial.metric).copied()).ok_or_else(missing)
    }

    /// The rows that `wanted` says, batch by batch.
    fn select(&self, wanted: impl Fn(usize) -> bool) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut first = 0;
        let mut selected = Vec::new();
        for batch in &self.batches {
            let rows = first..first + batch.num_rows();
            first = rows.end;
            let mask: BooleanArray = rows.map(|row| Some(wanted(row))).collect();
            if mask.true_count() > 0 {
                selected.push(filter_record_batch(batch, &mask)?);
            }
        }
        Ok(selected)
    }
}

/// A number for each value of a column: equal values have equal ones.
fn keys(batches: &[RecordBatch], name: &str) -> Result<Vec<u64>, TrialError> {
    let mut all = Vec::new();
    for batch in batches {
        let column = columns::column(batch, name).map_err(|_| TrialError::Column { column: name.to_owned() })?;
        match columns::keys(column)? {
            Some(Keys::Integer(keys)) => {
                all.extend(keys.iter().map(|key| key.map_or(u64::MAX, |key| hash::mix(key as u64))));
            }
            Some(Keys::Text(keys)) => {
                all.extend(keys.iter().map(|key| key.map_or(u64::MAX, |key| hash::bytes(key.as_bytes(), 0))));
            }
            None => return Err(TrialError::Column { column: name.to_owned() }),
        }
    }
    Ok(all)
}

/// When each row was, in whatever unit the column has.
fn times(batches: &[RecordBatch], name: &str) -> Result<Vec<i64>, TrialError> {
    let mut all: Vec<i64> = Vec::new();
    for batch in batches {
        let column = columns::column(batch, name).map_err(|_| TrialError::Column { column: name.to_owned() })?;
        let numbers = columns::numbers(column)?;
        for number in numbers.iter() {
            let Some(number) = number.filter(|number| number.is_finite()) else {
                return Err(TrialError::Time { column: name.to_owned(), row: all.len() });
            };
            all.push(number as i64);
        }
    }
    Ok(all)
}
