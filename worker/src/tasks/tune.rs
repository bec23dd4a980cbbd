//! Searches for the best settings. One child a job: each reads the search's log, takes the job of its number, and adds
//! what came of it. The join trains the winner on all rows.
//!
//! Which job has which settings is a function of the search and the outcomes ([`gristmill_learn::search::Study`]),
//! so the winner is the same for any number of workers, and after any of them was killed.

use std::time::{Duration, Instant};

use gristmill_learn::search::{
    Ask, Assignment, Better, Domain, Halving, Outcome, Parameter, Sampler, Settings, Space, Study, Tpe, Value,
};
use gristmill_ml::estimators::{self, Control, TrainError};
use gristmill_ml::features::columns_read;
use gristmill_ml::metrics::{self, Direction};
use gristmill_ml::model::decision;
use gristmill_ml::partition::PartitionReader;
use gristmill_ml::table::TableSchema;
use gristmill_ml::target::{Target, TargetFitter};
use gristmill_ml::trial::{Trial, TrialData, TrialError};
use gristmill_ml::weights::Weights;
use gristmill_protocol::message::ReturnCause;
use gristmill_protocol::pipeline::duration;
use gristmill_protocol::pipeline::steps::{SearchSampler, Train, Tune};
use gristmill_protocol::pipeline::{Algorithm, Features};
use gristmill_protocol::{Digest, ErrorCode, Failure, wire};
use gristmill_worker_runtime::Item;
use serde::{Deserialize, Serialize};

use super::{Child, Join, JoinWhat, TaskEnd, if_stopped, internal, train};
use crate::context::TaskContext;
use crate::datasets::{blobs, load_manifest};
use crate::documents::StudyReport;
use crate::failure::IntoFailure;
use crate::fanout;
use crate::study_log::{self, JobRecord, Search, StudyLog, log_name};

/// How long a child waits in its slot for what comes before it. Then it is handed back: whatever it waits for may
/// be waiting for its slot, when the worker that had it died. Longer than the lease after which that is noticed, so
/// that one return is enough.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The parameter that chooses the algorithm.
const ALGORITHM: &str = "algorithm";
/// Assignments that are looked at before the search begins, so that settings that don't exist are told at once.
const LOOKED_AT: u64 = 64;
/// Values of a float in a grid.
const GRID_POINTS: u32 = 5;

/// A search, as its children and its join get it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunTrial {
    search: Search,
    manifest: Digest,
    /// The store's time in milliseconds after which no job begins.
    until_ms: Option<u64>,
}

/// What the join does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TrainWinner {
    search: RunTrial,
}

/// Checks the search and grows a child for each of its jobs.
pub(crate) fn plan(context: &TaskContext<'_>, tune: &Tune, cache_key: Option<Digest>) -> Result<TaskEnd, Failure> {
    let manifest = context.dataset(&tune.input)?.manifest;
    let others = [Some(&tune.target), tune.weight.as_ref(), tune.folds.column.as_ref()];
    let features = train::inferred(context, &tune.features, manifest, &others)?;
    let tune = &Tune { features, ..tune.clone() };
    let target = fit_target(context, tune, manifest)?;
    let classes = target.classes().map_or(0, |classes| classes.count());
    let metric = tune.metric.as_deref().unwrap_or_else(|| metrics::default_metric(target.learning(), classes));
    let better = match metrics::direction(target.learning(), metric) {
        Ok(Direction::Larger) => Better::Larger,
        Ok(Direction::Smaller) => Better::Smaller,
        Ok(Direction::NearerToZero) => Better::NearerToZero,
        Err(nearest) => {
            let failure = bad(format!("`{metric}` isn't a metric of what is learned here"));
            return Err(match nearest {
                Some(nearest) => failure.with_hint(format!("did you mean `{nearest}`?")),
                None => failure,
            });
        }
    };
    let study = study(tune, better)?;
    for at in 0..LOOKED_AT {
        let (algorithm, _) = settle(tune, &study.space().sample(tune.seed, at))?;
        estimators::check(&algorithm, &target).map_err(IntoFailure::into_failure)?;
    }
    decision::check(tune.calibrate, tune.threshold.as_ref(), &target).map_err(IntoFailure::into_failure)?;
    Weights::new(tune.weight.as_ref(), tune.class_weight.as_ref(), &target).map_err(IntoFailure::into_failure)?;
    let until_ms = match &tune.time {
        Some(time) => {
            let ms = duration::parse(time).map_err(|error| bad(error.to_string()))?;
            let clock = context.wait(context.resources.state.clock()).map_err(IntoFailure::into_failure)?;
            Some(clock.now.0 + ms)
        }
        None => None,
    };
    let search = Search { tune: tune.clone(), metric: metric.to_owned(), better };
    let name = log_name(context.run, context.step);
    let begun = study_log::begin(&*context.resources.state, &name, search.clone());
    context.wait(begun).map_err(IntoFailure::into_failure)?;
    let search = RunTrial { search, manifest, until_ms };
    // More than there can be; those over find nothing to do.
    let rungs = study.settings().halving.as_ref().map_or(1, |halving| halving.rungs().len() as u32);
    let jobs: Vec<u32> = (0..tune.trials * rungs).collect();
    let join = Join { what: JoinWhat::Tune(Box::new(TrainWinner { search: search.clone() })), cache_key };
    fanout::expand(context, &jobs, &Child::Tune(Box::new(search)), &join).map(TaskEnd::Expanded)
}

/// Does the job of the child's number.
pub(crate) fn run(context: &TaskContext<'_>, trial: &RunTrial, item: Option<&Item>) -> Result<TaskEnd, Failure> {
    let Search { tune, metric, better } = &trial.search;
    let number: u32 = fanout::item(context, item)?;
    let state = &*context.resources.state;
    let study = study(tune, *better)?;
    let mut log = StudyLog::new(state, log_name(context.run, context.step), study);
    let nothing = || context.put_result(&()).map(TaskEnd::Result);
    context.wait(log.read()).map_err(IntoFailure::into_failure)?;
    let job = loop {
        match log.study().ask(number) {
            Ask::Run(job) => break job.clone(),
            Ask::Over => return nothing(),
            Ask::Wait { .. } => {}
        }
        let has_grown = context.wait(log.wait(WAIT_MAX, || context.control.is_stopped()));
        if !has_grown.map_err(IntoFailure::into_failure)? {
            return Ok(if_stopped(context).unwrap_or(TaskEnd::Returned(ReturnCause::Waiting)));
        }
    };
    if log.study().outcome(number).is_some() {
        return nothing();
    }
    if let Some(until_ms) = trial.until_ms {
        let clock = context.wait(state.clock()).map_err(IntoFailure::into_failure)?;
        if clock.now.0 >= until_ms {
            return nothing();
        }
    }
    let data = table(context, trial)?;
    let began = Instant::now();
    let (algorithm, features) = settle(tune, &job.assignment)?;
    let weights = Weights::new(tune.weight.as_ref(), tune.class_weight.as_ref(), data.target())
        .map_err(IntoFailure::into_failure)?;
    let attempt = Trial {
        weights: &weights,
        algorithm: &algorithm,
        features: &features,
        metric,
        percent: job.resource.map_or(100, |percent| percent as u32),
        seed: tune.seed,
        memory_limit: context.resources.memory_bytes,
    };
    let progress = |done: u32, total: u32| context.control.progress(done.into(), Some(total.into()), "folds");
    // Trials share a worker's slots, so each has one thread.
    let control = Control { threads: 1, stop: context.stop_flag(), progress: &progress };
    let outcome = match data.score(&attempt, &control) {
        Ok(score) => Outcome::Score(score),
        Err(TrialError::Train(TrainError::Stopped)) => return Ok(TaskEnd::Stopped),
        Err(error) => Outcome::Failed { reason: error.into_failure().message },
    };
    let record = JobRecord { job: number, outcome, seconds: began.elapsed().as_secs_f64() };
    context.wait(log.add(&record)).map_err(IntoFailure::into_failure)?;
    nothing()
}

/// Trains the best trial's algorithm on all rows.
pub(crate) fn train_winner(context: &TaskContext<'_>, winner: &TrainWinner) -> Result<TaskEnd, Failure> {
    let TrainWinner { search } = winner;
    let Search { tune, metric, better } = &search.search;
    let name = log_name(context.run, context.step);
    let mut log = StudyLog::new(&*context.resources.state, name, study(tune, *better)?);
    context.wait(log.read()).map_err(IntoFailure::into_failure)?;
    context.resources.trials.forget(table_key(search));
    let trials = log.study().trials();
    let Some(best) = log.study().winner() else {
        let reason = log.records().iter().find_map(|record| match &record.outcome {
            Outcome::Failed { reason } | Outcome::Pruned { reason, .. } => Some(reason.clone()),
            Outcome::Score(_) => None,
        });
        let text = format!("none of {} trials has a score", trials.len());
        return Err(Failure::new(
            ErrorCode::BadInput,
            match reason {
                Some(reason) => format!("{text}; the first failed with: {reason}"),
                None => text,
            },
        ));
    };
    let (algorithm, features) = settle(tune, &best.assignment)?;
    let (resource, score) = *best.scores.last().ok_or_else(|| internal("a winner without a score"))?;
    let report = StudyReport {
        metric: metric.clone(),
        better: *better,
        winner: best.number,
        score,
        resource,
        algorithm: algorithm.clone(),
        features: features.clone(),
        trials,
    };
    let study = context.put_json(&report)?;
    let train = Train {
        input: tune.input.clone(),
        target: tune.target.clone(),
        task: tune.task,
        features,
        algorithm,
        calibrate: tune.calibrate,
        threshold: tune.threshold.clone(),
        kept: tune.kept,
        weight: tune.weight.clone(),
        class_weight: tune.class_weight.clone(),
        seed: tune.seed,
        parts: None,
    };
    train::train_on(context, &train, search.manifest, Some(study))
}

/// The search that a step describes.
pub fn study(tune: &Tune, better: Better) -> Result<Study, Failure> {
    let settings = Settings {
        seed: tune.seed,
        trials: tune.trials,
        better,
        in_flight: tune.in_flight,
        sampler: match tune.sampler {
            SearchSampler::Tpe => Sampler::Tpe(Tpe::default()),
            SearchSampler::Random => Sampler::Random,
            SearchSampler::Grid => Sampler::Grid { points: GRID_POINTS },
        },
        // In percent of the rows: what every algorithm has.
        halving: tune.halving.as_ref().map(|halving| Halving {
            min_resource: halving.min_percent.into(),
            max_resource: 100,
            eta: halving.eta,
            continues: false,
        }),
        resource: None,
    };
    Study::new(space(tune)?, settings).map_err(|invalid| bad(invalid.to_string()))
}

/// What is searched: the settings under `space`, and the algorithm where there are several.
fn space(tune: &Tune) -> Result<Space, Failure> {
    let names: Vec<&str> = tune.algorithms.iter().map(estimators::algorithm_name).collect();
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return Err(bad(format!("`{}` is listed twice among the algorithms", twice.1)));
    }
    let written = serde_json::to_value(&tune.space).map_err(|error| internal(error.to_string()))?;
    let read: Space = serde_json::from_value(written).map_err(|error| bad(format!("`space`: {error}")))?;
    let mut parameters = read.parameters().clone();
    if names.len() > 1 {
        for (name, parameter) in &mut parameters {
            if let Some((of, _)) = name.split_once('.')
                && names.contains(&of)
            {
                parameter.when.insert(ALGORITHM.to_owned(), vec![Value::from(of)]);
            }
        }
        let choices = names.iter().map(|name| Value::from(*name)).collect();
        parameters.insert(ALGORITHM.to_owned(), Parameter::always(Domain::Categorical { choices }));
    }
    if parameters.is_empty() {
        return Err(bad("there is nothing to search for".to_owned())
            .with_hint("list several `algorithms`, or settings under `space`"));
    }
    Space::new(parameters).map_err(|invalid| bad(format!("`space`: {invalid}")))
}

/// The algorithm and the features that an assignment means.
fn settle(tune: &Tune, assignment: &Assignment) -> Result<(Algorithm, Features), Failure> {
    let chosen = match assignment.get(ALGORITHM) {
        Some(Value::Text(name)) => tune.algorithms.iter().find(|known| estimators::algorithm_name(known) == name),
        _ => tune.algorithms.first(),
    };
    let chosen = chosen.ok_or_else(|| internal("an assignment names no algorithm of the search"))?;
    let json = |value: serde_json::Result<serde_json::Value>| value.map_err(|error| internal(error.to_string()));
    let name = estimators::algorithm_name(chosen);
    let mut algorithm = json(serde_json::to_value(chosen))?;
    let mut features = json(serde_json::to_value(&tune.features))?;
    for (parameter, value) in assignment.iter() {
        let Some((of, setting)) = parameter.split_once('.') else { continue };
        let settings = if of == "features" { &mut features } else { &mut algorithm[name] };
        settings[setting] = json(serde_json::to_value(value))?;
    }
    let wrong = |error: serde_json::Error| bad(format!("the search tries what can't be set: {error}"));
    Ok((serde_json::from_value(algorithm).map_err(wrong)?, serde_json::from_value(features).map_err(wrong)?))
}

/// The columns that trials read.
fn columns(tune: &Tune, schema: &TableSchema) -> Result<Vec<String>, Failure> {
    let mut columns = vec![tune.target.clone()];
    let features = columns_read(&tune.features, schema).map_err(IntoFailure::into_failure)?;
    for column in features.into_iter().chain(tune.folds.column.clone()).chain(tune.weight.clone()) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    Ok(columns)
}

fn fit_target(context: &TaskContext<'_>, tune: &Tune, manifest: Digest) -> Result<Target, Failure> {
    let manifest = load_manifest(context, manifest)?;
    let schema = manifest.schema.project(&columns(tune, &manifest.schema)?).map_err(IntoFailure::into_failure)?;
    let mut target =
        TargetFitter::new(&schema.to_arrow(), &tune.target, tune.task).map_err(IntoFailure::into_failure)?;
    for blob in blobs(context, &manifest)? {
        for batch in PartitionReader::open(blob, Some(&[tune.target.as_str()])).map_err(IntoFailure::into_failure)? {
            target.push(&batch.map_err(IntoFailure::into_failure)?).map_err(IntoFailure::into_failure)?;
        }
    }
    target.finish().map_err(IntoFailure::into_failure)
}

/// What tells this table with these folds from others.
fn table_key(search: &RunTrial) -> Digest {
    let tune = &search.search.tune;
    let listed: Vec<&str> = tune.features.listed().collect();
    let columns = (&tune.target, listed, &tune.features.expressions, &tune.weight);
    Digest::of(&wire::encode(&(search.manifest, columns, tune.task, &tune.folds, tune.seed)))
}

fn table(context: &TaskContext<'_>, search: &RunTrial) -> Result<std::sync::Arc<TrialData>, Failure> {
    context.resources.trials.get(table_key(search), || {
        let tune = &search.search.tune;
        let target = fit_target(context, tune, search.manifest)?;
        let manifest = load_manifest(context, search.manifest)?;
        let columns = columns(tune, &manifest.schema)?;
        let mut batches = Vec::new();
        for blob in blobs(context, &manifest)? {
            for batch in PartitionReader::open(blob, Some(&columns)).map_err(IntoFailure::into_failure)? {
                batches.push(batch.map_err(IntoFailure::into_failure)?);
            }
        }
        let schema = manifest.schema.project(&columns).map_err(|error| internal(error.to_string()))?.to_arrow();
        let schema = batches.first().map_or(schema, |batch| batch.schema());
        TrialData::new(schema, batches, target, &tune.folds, tune.seed).map_err(IntoFailure::into_failure)
    })
}

fn bad(text: String) -> Failure {
    Failure::new(ErrorCode::BadPipeline, text)
}
