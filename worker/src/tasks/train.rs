//! Trains a model: one pass to fit the features, one to fill the training set, then the algorithm.

use arrow::array::RecordBatch;
use gristmill_ml::blob::SharedBlob;
use gristmill_ml::estimators::{self, Control, Memory, TrainError, TrainingSetBuilder};
use gristmill_ml::features::{FeatureFitter, FeaturePlan, columns_read};
use gristmill_ml::kept::{self, Kept};
use gristmill_ml::model::{Model, Training, decision};
use gristmill_ml::partition::PartitionReader;
use gristmill_ml::profile::Profiler;
use gristmill_ml::target::TargetFitter;
use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::Train;
use gristmill_protocol::{Digest, Failure};

use super::{TaskEnd, if_stopped};
use crate::context::TaskContext;
use crate::datasets::{blobs, load_manifest};
use crate::failure::IntoFailure;
use crate::spans;

/// Trains the model.
pub(crate) fn train(context: &TaskContext<'_>, train: &Train) -> Result<TaskEnd, Failure> {
    let manifest = context.dataset(&train.input)?.manifest;
    train_on(context, train, manifest, None)
}

/// Trains a model on a dataset. `study` is the search that found the settings.
pub(super) fn train_on(
    context: &TaskContext<'_>,
    train: &Train,
    manifest: Digest,
    study: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let manifest = load_manifest(context, manifest)?;
    let blobs = blobs(context, &manifest)?;
    let read = columns_read(&train.features, &manifest.schema).map_err(IntoFailure::into_failure)?;
    let columns: Vec<&str> = std::iter::once(&train.target)
        .chain(read.iter().filter(|column| **column != train.target))
        .map(String::as_str)
        .collect();
    for column in &columns {
        manifest.schema.column(column).map_err(|error| {
            let failure = Failure::new(gristmill_protocol::ErrorCode::BadInput, error.to_string());
            match error.hint() {
                Some(hint) => failure.with_hint(hint),
                None => failure,
            }
        })?;
    }
    let schema = manifest.schema.project(&columns).map_err(|error| super::internal(error.to_string()))?;
    let arrow_schema = schema.to_arrow();

    let fitting = spans::fit_target().entered();
    let mut target = TargetFitter::new(&arrow_schema, &train.target, train.task).map_err(IntoFailure::into_failure)?;
    for blob in &blobs {
        for batch in
            PartitionReader::open(blob.clone(), Some(&[train.target.as_str()])).map_err(IntoFailure::into_failure)?
        {
            target.push(&batch.map_err(IntoFailure::into_failure)?).map_err(IntoFailure::into_failure)?;
        }
    }
    let target = target.finish().map_err(IntoFailure::into_failure)?;
    drop(fitting);
    estimators::check(&train.algorithm, &target).map_err(IntoFailure::into_failure)?;
    decision::check(train.calibrate, train.threshold.as_ref(), &target).map_err(IntoFailure::into_failure)?;
    let kept = kept_of(train);

    let plan =
        FeaturePlan::for_algorithm(&train.features, &train.algorithm, &target).map_err(IntoFailure::into_failure)?;
    let fitting = spans::fit_features().entered();
    let mut fitter = FeatureFitter::new(&arrow_schema, plan, &target).map_err(IntoFailure::into_failure)?;
    let mut profiler = Profiler::new(&schema);
    let mut first = 0;
    for blob in &blobs {
        if let Some(end) = if_stopped(context) {
            return Ok(end);
        }
        for batch in PartitionReader::open(blob.clone(), Some(&columns)).map_err(IntoFailure::into_failure)? {
            let batch = batch.map_err(IntoFailure::into_failure)?;
            profiler.update(&batch).map_err(|error| super::internal(error.to_string()))?;
            let learned = learned(kept, &batch, &mut first)?;
            let values = target.values(&learned).map_err(IntoFailure::into_failure)?;
            fitter.push(&learned, &values).map_err(IntoFailure::into_failure)?;
        }
    }
    let features = fitter.finish().map_err(IntoFailure::into_failure)?;
    drop(fitting);

    let limit = context.resources.memory_bytes;
    let filling = spans::fill_training_set().entered();
    let mut set =
        TrainingSetBuilder::new(&features, &target, &train.algorithm, limit).map_err(IntoFailure::into_failure)?;
    let mut first = 0;
    for blob in &blobs {
        for batch in PartitionReader::open(blob.clone(), Some(&columns)).map_err(IntoFailure::into_failure)? {
            let batch = batch.map_err(IntoFailure::into_failure)?;
            set.push(&learned(kept, &batch, &mut first)?).map_err(IntoFailure::into_failure)?;
        }
    }
    let set = set.finish().map_err(IntoFailure::into_failure)?;
    filling.record(spans::ROWS, set.rows() as i64);
    drop(filling);
    let memory = Memory::estimate(&train.algorithm, set.rows(), set.columns(), features.filled(), target.outputs());
    let threads = memory.threads_within(limit, context.resources.threads).unwrap_or(1);
    let progress = |done: u32, total: u32| context.control.progress(done.into(), Some(total.into()), "parts");
    let control = Control { threads, stop: context.stop_flag(), progress: &progress };
    let units = estimators::units(&train.algorithm, &target);
    let trained = spans::train_units(units, threads)
        .in_scope(|| estimators::train_units(&set, &train.algorithm, train.seed, 0..units, &control));
    let part = match trained {
        Err(TrainError::Stopped) => return Ok(TaskEnd::Stopped),
        part => part.map_err(IntoFailure::into_failure)?,
    };
    drop(set);
    let trained = estimators::join(vec![part], &train.algorithm, &target).map_err(IntoFailure::into_failure)?;
    let training = Training { algorithm: train.algorithm.clone(), seed: train.seed, rows: features.rows() };
    let rows = features.rows();
    let reference = serde_json::to_value(profiler.finish()).map_err(|error| super::internal(error.to_string()))?;
    let model = Model::new(target, features, trained, training, Some(reference)).map_err(IntoFailure::into_failure)?;
    let model = decide(train, kept, model, &blobs, &columns)?;
    let bytes = model.to_bytes();
    let size = bytes.len() as u64;
    let algorithm = estimators::algorithm_name(&train.algorithm).to_owned();
    Ok(TaskEnd::Made(Output::Model { model: context.put(bytes)?, bytes: size, rows, algorithm, study }))
}

/// Which rows the model doesn't learn from; none when nothing is fitted after it.
fn kept_of(train: &Train) -> Option<Kept> {
    let fits = train.calibrate.is_some() || train.threshold.is_some();
    fits.then(|| Kept::new(train.kept.unwrap_or(kept::SHARE), train.seed))
}

/// The rows of the next batch that the model learns from; `first` moves over it.
fn learned(kept: Option<Kept>, batch: &RecordBatch, first: &mut u64) -> Result<RecordBatch, Failure> {
    let from = *first;
    *first += batch.num_rows() as u64;
    match kept {
        Some(kept) => kept.learned(batch, from).map_err(|error| super::internal(error.to_string())),
        None => Ok(batch.clone()),
    }
}

/// Fits calibration and threshold on the rows kept apart.
fn decide(
    train: &Train,
    kept: Option<Kept>,
    model: Model,
    blobs: &[SharedBlob],
    columns: &[&str],
) -> Result<Model, Failure> {
    let Some(kept) = kept else { return Ok(model) };
    let (mut rows, mut first) = (Vec::new(), 0);
    for blob in blobs {
        for batch in PartitionReader::open(blob.clone(), Some(columns)).map_err(IntoFailure::into_failure)? {
            let batch = batch.map_err(IntoFailure::into_failure)?;
            rows.push(kept.kept(&batch, first).map_err(|error| super::internal(error.to_string()))?);
            first += batch.num_rows() as u64;
        }
    }
    decision::fit(model, train.calibrate, train.threshold.as_ref(), &rows).map_err(IntoFailure::into_failure)
}
