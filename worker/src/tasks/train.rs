//! Trains a model: one pass to fit the features, one to fill the training set, then the algorithm. The trees of large
//! forests are spread over children, which the join puts together; the model is the same however they are spread.

use std::ops::Range;

use arrow::array::RecordBatch;
use gristmill_ml::blob::SharedBlob;
use gristmill_ml::estimators::{self, Control, Memory, Part, TrainError, TrainingSetBuilder};
use gristmill_ml::features::{ComponentsFitter, FeatureFitter, FeaturePlan, FittedFeatures, columns_read, infer};
use gristmill_ml::kept::{self, Kept};
use gristmill_ml::model::{Model, Training, decision};
use gristmill_ml::partition::PartitionReader;
use gristmill_ml::profile::{Profiler, TableProfile};
use gristmill_ml::table::TableSchema;
use gristmill_ml::target::{Target, TargetFitter};
use gristmill_ml::weights::Weights;
use gristmill_protocol::message::InputValue;
use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::Train;
use gristmill_protocol::pipeline::{Algorithm, Features};
use gristmill_protocol::{Digest, Failure};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd, if_stopped};
use crate::context::TaskContext;
use crate::datasets::{batches, blobs, load_manifest};
use crate::failure::IntoFailure;
use crate::{fanout, spans};

/// Rows times columns times trees of a part: about ten seconds of one thread (262,000 flights, 7 columns and 100 trees
/// of depth 12 take two), against which it doesn't show that each part reads the rows for itself.
const PART_WORK: u64 = 1_000_000_000;
/// Parts at the most, unless the pipeline says otherwise.
const PARTS_MAX: u64 = 64;

/// Grows some of a model's trees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrainPart {
    train: Train,
    manifest: Digest,
}

/// Puts the trees together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct JoinParts {
    train: Train,
    manifest: Digest,
}

/// Trains the model, or grows children that each train a part of it.
pub(crate) fn plan(context: &TaskContext<'_>, train: &Train, cache_key: Option<Digest>) -> Result<TaskEnd, Failure> {
    let manifest = context.dataset(&train.input)?.manifest;
    let features = inferred(context, &train.features, manifest, &[Some(&train.target), train.weight.as_ref()])?;
    let train = &Train { features, ..train.clone() };
    let rows = Rows::open(context, train, manifest)?;
    let target = rows.fit_target(train)?;
    let units = estimators::units(&train.algorithm, &target);
    let parts = parts(train, rows.count, rows.columns.len() as u64, units);
    if parts == 1 {
        return train_whole(context, train, &rows, target, None);
    }
    // As even as can be.
    let edge = |part: u32| (u64::from(part) * u64::from(units) / u64::from(parts)) as u32;
    let ranges: Vec<(u32, u32)> = (0..parts).map(|part| (edge(part), edge(part + 1))).collect();
    let child = Child::Train(Box::new(TrainPart { train: train.clone(), manifest }));
    let what = JoinWhat::Train(Box::new(JoinParts { train: train.clone(), manifest }));
    fanout::expand(context, &ranges, &child, &Join { what, cache_key }).map(TaskEnd::Expanded)
}

/// The features with those that the profile of the rows suggests, where the pipeline leaves them open.
pub(super) fn inferred(
    context: &TaskContext<'_>,
    features: &Features,
    manifest: Digest,
    others: &[Option<&String>],
) -> Result<Features, Failure> {
    if !features.infer {
        return Ok(features.clone());
    }
    let manifest = load_manifest(context, manifest)?;
    let profile: TableProfile = match manifest.profile {
        Some(profile) => context.get_json(profile, "profile")?,
        None => {
            let mut profiler = Profiler::new(&manifest.schema);
            for blob in blobs(context, &manifest)? {
                for batch in PartitionReader::open_all(blob).map_err(IntoFailure::into_failure)? {
                    let batch = batch.map_err(IntoFailure::into_failure)?;
                    profiler.update(&batch).map_err(|error| super::internal(error.to_string()))?;
                }
            }
            profiler.finish()
        }
    };
    let others: Vec<&str> = others.iter().flatten().map(|name| name.as_str()).collect();
    Ok(infer(features, &profile, &others))
}

/// How many tasks train the units.
fn parts(train: &Train, rows: u64, columns: u64, units: u32) -> u32 {
    let by_work = || {
        let trees = u64::from(units) * u64::from(estimators::TREES_PER_UNIT);
        (rows.saturating_mul(columns).saturating_mul(trees) / PART_WORK).clamp(1, PARTS_MAX) as u32
    };
    let wanted = match train.algorithm {
        Algorithm::RandomForest(_) | Algorithm::ExtraTrees(_) => train.parts.unwrap_or_else(by_work),
        // The units of others are whole models, one a class at the most.
        _ => 1,
    };
    wanted.clamp(1, units.max(1))
}

/// Trains a range of the units.
pub(crate) fn run(context: &TaskContext<'_>, part: &TrainPart, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    let (first, end): (u32, u32) = fanout::item(context, item)?;
    let rows = Rows::open(context, &part.train, part.manifest)?;
    let target = rows.fit_target(&part.train)?;
    let Some(fitted) = rows.fit_features(context, &part.train, target)? else { return Ok(TaskEnd::Stopped) };
    match rows.train_units(context, &part.train, &fitted, first..end)? {
        Some(trained) => context.put_result(&context.put(trained.to_bytes())?).map(TaskEnd::Result),
        None => Ok(TaskEnd::Stopped),
    }
}

/// Puts the parts of a model together.
pub(crate) fn gather(context: &TaskContext<'_>, gather: &JoinParts, children: &InputValue) -> Result<TaskEnd, Failure> {
    let train = &gather.train;
    let rows = Rows::open(context, train, gather.manifest)?;
    let target = rows.fit_target(train)?;
    let Some(fitted) = rows.fit_features(context, train, target)? else { return Ok(TaskEnd::Stopped) };
    let mut parts = Vec::new();
    for part in fanout::children::<Digest>(context, children)? {
        parts.push(Part::from_bytes(&context.get(part)?).map_err(IntoFailure::into_failure)?);
    }
    rows.finish(context, train, fitted, parts, None)
}

/// Trains a model on a dataset. `study` is the search that found the settings.
pub(super) fn train_on(
    context: &TaskContext<'_>,
    train: &Train,
    manifest: Digest,
    study: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let rows = Rows::open(context, train, manifest)?;
    let target = rows.fit_target(train)?;
    train_whole(context, train, &rows, target, study)
}

fn train_whole(
    context: &TaskContext<'_>,
    train: &Train,
    rows: &Rows,
    target: Target,
    study: Option<Digest>,
) -> Result<TaskEnd, Failure> {
    let Some(fitted) = rows.fit_features(context, train, target)? else { return Ok(TaskEnd::Stopped) };
    let units = estimators::units(&train.algorithm, &fitted.target);
    match rows.train_units(context, train, &fitted, 0..units)? {
        Some(part) => rows.finish(context, train, fitted, vec![part], study),
        None => Ok(TaskEnd::Stopped),
    }
}

/// The rows to learn from.
struct Rows {
    /// The dataset's.
    manifest: Digest,
    blobs: Vec<SharedBlob>,
    count: u64,
    /// The target and what features are made of.
    columns: Vec<String>,
    schema: TableSchema,
    kept: Option<Kept>,
}

/// What is known of them before anything is trained.
struct Fitted {
    target: Target,
    features: FittedFeatures,
    profiler: Profiler,
}

impl Rows {
    fn open(context: &TaskContext<'_>, train: &Train, digest: Digest) -> Result<Rows, Failure> {
        let manifest = load_manifest(context, digest)?;
        let read = columns_read(&train.features, &manifest.schema).map_err(IntoFailure::into_failure)?;
        let others = read.iter().filter(|column| **column != train.target);
        let mut columns: Vec<String> =
            Some(&train.target).filter(|target| !target.is_empty()).into_iter().chain(others).cloned().collect();
        columns.extend(train.weight.iter().filter(|weight| !columns.contains(weight)).cloned().collect::<Vec<_>>());
        let schema = manifest.schema.project(&columns).map_err(IntoFailure::into_failure)?;
        let (blobs, count) = (blobs(context, &manifest)?, manifest.rows());
        Ok(Rows { manifest: digest, blobs, count, columns, schema, kept: kept_of(train) })
    }

    /// Fits the target, and checks that the settings are for it.
    fn fit_target(&self, train: &Train) -> Result<Target, Failure> {
        let _fitting = spans::fit_target().entered();
        if train.target.is_empty() {
            let target = Target::groups(self.count);
            estimators::check(&train.algorithm, &target).map_err(IntoFailure::into_failure)?;
            decision::check(train.calibrate, train.threshold.as_ref(), &target).map_err(IntoFailure::into_failure)?;
            return Ok(target);
        }
        let mut target =
            TargetFitter::new(&self.schema.to_arrow(), &train.target, train.task).map_err(IntoFailure::into_failure)?;
        for batch in batches(&self.blobs, &[train.target.as_str()]) {
            target.push(&batch?).map_err(IntoFailure::into_failure)?;
        }
        let target = target.finish().map_err(IntoFailure::into_failure)?;
        estimators::check(&train.algorithm, &target).map_err(IntoFailure::into_failure)?;
        decision::check(train.calibrate, train.threshold.as_ref(), &target).map_err(IntoFailure::into_failure)?;
        Ok(target)
    }

    /// Fits the features, and describes the rows; nothing when the task was told to stop.
    fn fit_features(
        &self,
        context: &TaskContext<'_>,
        train: &Train,
        target: Target,
    ) -> Result<Option<Fitted>, Failure> {
        let plan = FeaturePlan::for_algorithm(&train.features, &train.algorithm, &target)
            .map_err(IntoFailure::into_failure)?;
        let _fitting = spans::fit_features().entered();
        let mut fitter =
            FeatureFitter::new(&self.schema.to_arrow(), plan, &target).map_err(IntoFailure::into_failure)?;
        let mut profiler = Profiler::new(&self.schema);
        let mut first = 0;
        for batch in batches(&self.blobs, &self.columns) {
            if if_stopped(context).is_some() {
                return Ok(None);
            }
            let batch = batch?;
            profiler.update(&batch).map_err(|error| super::internal(error.to_string()))?;
            let learned = learned(self.kept, &batch, &mut first)?;
            let values = target.values(&learned).map_err(IntoFailure::into_failure)?;
            fitter.push(&learned, &values).map_err(IntoFailure::into_failure)?;
        }
        let features = fitter.finish().map_err(IntoFailure::into_failure)?;
        let features = match ComponentsFitter::begin(features).map_err(IntoFailure::into_failure)? {
            Err(features) => features,
            Ok(mut fitter) => {
                let mut first = 0;
                for batch in batches(&self.blobs, &self.columns) {
                    let learned = learned(self.kept, &batch?, &mut first)?;
                    fitter.push(&learned).map_err(IntoFailure::into_failure)?;
                }
                fitter.finish().map_err(IntoFailure::into_failure)?
            }
        };
        Ok(Some(Fitted { target, features, profiler }))
    }

    /// Trains a range of the units; nothing when the task was told to stop.
    fn train_units(
        &self,
        context: &TaskContext<'_>,
        train: &Train,
        fitted: &Fitted,
        units: Range<u32>,
    ) -> Result<Option<Part>, Failure> {
        let Fitted { target, features, .. } = fitted;
        let limit = context.resources.memory_bytes;
        let filling = spans::fill_training_set().entered();
        let set =
            TrainingSetBuilder::new(features, target, &train.algorithm, limit).map_err(IntoFailure::into_failure)?;
        let weights = Weights::new(train.weight.as_ref(), train.class_weight.as_ref(), target)
            .map_err(IntoFailure::into_failure)?;
        let mut set = set.with_weights(weights, &train.algorithm).map_err(IntoFailure::into_failure)?;
        let mut first = 0;
        for batch in batches(&self.blobs, &self.columns) {
            set.push(&learned(self.kept, &batch?, &mut first)?).map_err(IntoFailure::into_failure)?;
        }
        let set = set.finish().map_err(IntoFailure::into_failure)?;
        filling.record(spans::ROWS, set.rows() as i64);
        drop(filling);
        let memory = Memory::estimate(&train.algorithm, set.rows(), set.columns(), features.filled(), target.outputs());
        let threads = memory.threads_within(limit, context.resources.threads).unwrap_or(1);
        let progress = |done: u32, total: u32| context.control.progress(done.into(), Some(total.into()), "parts");
        let control = Control { threads, stop: context.stop_flag(), progress: &progress };
        let trained = spans::train_units(units.end - units.start, threads)
            .in_scope(|| estimators::train_units(&set, &train.algorithm, train.seed, units, &control));
        match trained {
            Err(TrainError::Stopped) => Ok(None),
            part => part.map(Some).map_err(IntoFailure::into_failure),
        }
    }

    /// Makes the model of its parts and keeps it.
    fn finish(
        &self,
        context: &TaskContext<'_>,
        train: &Train,
        fitted: Fitted,
        parts: Vec<Part>,
        study: Option<Digest>,
    ) -> Result<TaskEnd, Failure> {
        let Fitted { target, features, profiler } = fitted;
        let trained = estimators::join(parts, &train.algorithm, &target).map_err(IntoFailure::into_failure)?;
        let rows = features.rows();
        let training = Training { algorithm: train.algorithm.clone(), seed: train.seed, rows };
        let reference = serde_json::to_value(profiler.finish()).map_err(|error| super::internal(error.to_string()))?;
        let model =
            Model::new(target, features, trained, training, Some(reference)).map_err(IntoFailure::into_failure)?;
        let model = decide(train, self.kept, model, &self.blobs, &self.columns)?;
        let bytes = model.to_bytes();
        let size = bytes.len() as u64;
        let algorithm = estimators::algorithm_name(&train.algorithm).to_owned();
        let model = context.put(bytes)?;
        let learned_from = Some(self.manifest);
        Ok(TaskEnd::Made(Output::Model { model, bytes: size, rows, algorithm, study, learned_from }))
    }
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
    columns: &[String],
) -> Result<Model, Failure> {
    let Some(kept) = kept else { return Ok(model) };
    let (mut rows, mut first) = (Vec::new(), 0);
    for batch in batches(blobs, columns) {
        let batch = batch?;
        rows.push(kept.kept(&batch, first).map_err(|error| super::internal(error.to_string()))?);
        first += batch.num_rows() as u64;
    }
    decision::fit(model, train.calibrate, train.threshold.as_ref(), &rows).map_err(IntoFailure::into_failure)
}
