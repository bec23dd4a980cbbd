//! Measures a model on rows it hasn't seen, and decides whether it is good enough.
//!
//! Gates fail closed: a metric that can't be computed is a gate that didn't pass.

use gristmill_ml::assess::{AssessError, Assessor};
use gristmill_ml::blob::SharedBlob;
use gristmill_ml::metrics::{self, Comparison, Evaluator};
use gristmill_ml::model::Model;
use gristmill_ml::partition::PartitionReader;
use gristmill_ml::table::TableSchema;
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::StepPayload;
use gristmill_protocol::pipeline::Learning;
use gristmill_protocol::pipeline::steps::{Budget, Gate, Intervals, Validate};
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_registry::{NewVersion, RegistryError};

use super::{TaskEnd, gates, if_stopped};
use crate::context::TaskContext;
use crate::datasets::{blobs, load_manifest};
use crate::documents::{Evidence, GateResult};
use crate::failure::IntoFailure;
use crate::spans;

/// Metrics that a step's output names beside its evaluation, the first that there are.
const SHOWN: [&str; 9] = ["roc_auc", "pr_auc", "accuracy", "f1", "log_loss", "rmse", "mae", "r2", "brier"];

/// The models that `beats` gates look at, by digest: when an alias moves, the step runs anew. A model need not
/// beat itself, so an alias that points to it is as none.
pub(crate) fn world(context: &TaskContext<'_>, validate: &Validate, payload: &StepPayload) -> Result<String, Failure> {
    let own = model_of(context, &validate.model)?;
    let mut text = String::new();
    for gate in &validate.require {
        if let Some(alias) = &gate.beats {
            let version = opponent(context, gate, alias, validate, payload)?;
            let other = version.map(|version| version.model).filter(|digest| *digest != own);
            text += &format!("{alias}={}\n", other.map(|digest| digest.to_string()).unwrap_or_default());
        }
    }
    Ok(text)
}

/// Measures and decides.
pub(crate) fn validate(
    context: &TaskContext<'_>,
    validate: &Validate,
    payload: &StepPayload,
) -> Result<TaskEnd, Failure> {
    let digest = model_of(context, &validate.model)?;
    let bytes = context.get(digest)?;
    let model = Model::from_bytes(&bytes).map_err(IntoFailure::into_failure)?;
    if model.learning() == Learning::Clustering {
        let text = format!("`{}` finds groups, and there is no truth to measure them by", validate.model);
        return Err(
            Failure::new(ErrorCode::BadPipeline, text).with_hint("remove the step; `score` tells each row's group")
        );
    }
    let dataset = context.dataset(&validate.input)?;
    let manifest = load_manifest(context, dataset.manifest)?;
    let blobs = blobs(context, &manifest)?;
    let assessor = Assessor::new(&model, validate, &manifest.schema, dataset.rows);
    let mut assessor = assessor.map_err(|error| misfit(error, &manifest.schema))?;
    let Some(()) = measure(context, &mut assessor, &blobs)? else { return Ok(TaskEnd::Stopped) };
    let none = || Failure::new(ErrorCode::BadInput, "there are no rows to measure the model on");
    let evaluation = assessor.evaluator().finish().ok_or_else(none)?;
    let assessed = assessor.finish(context.resources.threads, bytes.len() as u64);
    let mut assessment = assessed.map_err(IntoFailure::into_failure)?;
    // A clock's numbers differ from run to run, so only who asks for them gets them.
    if validate.require.iter().any(|gate| gate.budget == Some(Budget::RowUs)) {
        assessment.row_us = assessor.row_us().map_err(IntoFailure::into_failure)?;
    }
    if if_stopped(context).is_some() {
        return Ok(TaskEnd::Stopped);
    }
    let mut results = Vec::new();
    for gate in &validate.require {
        let result = match &gate.beats {
            Some(alias) => {
                let version = opponent(context, gate, alias, validate, payload)?;
                let rival = Rival { gate, alias, version, settings: &validate.intervals };
                let Some((result, comparison)) = beats(context, &rival, &model, assessor.evaluator(), &blobs)? else {
                    return Ok(TaskEnd::Stopped);
                };
                assessment.comparisons.extend(comparison);
                result
            }
            None => gates::judge(gate, &evaluation.metrics, &assessment),
        };
        results.push(result);
    }
    let rejected: Vec<String> = results.iter().filter(|gate| !gate.passed).map(|gate| gate.message.clone()).collect();
    let shown = SHOWN.iter().filter_map(|name| evaluation.metrics.get(*name).map(|value| ((*name).to_owned(), *value)));
    let metrics = shown.collect();
    let warnings = assessment.warnings.len() as u32;
    let importances = model.importances();
    let evidence = Evidence { model: digest, input: dataset, importances, evaluation, gates: results, assessment };
    let evidence = context.put_json(&evidence)?;
    if rejected.is_empty() {
        return Ok(TaskEnd::Made(Output::Evaluation { evaluation: evidence, model: digest, metrics, warnings }));
    }
    Ok(TaskEnd::Rejected(format!("{}; the evaluation is artifact {evidence}", rejected.join("; "))))
}

/// What doesn't fit: the pipeline says what the dataset or the model can't have.
fn misfit(error: AssessError, schema: &TableSchema) -> Failure {
    let is_pipelines = !matches!(error, AssessError::Column { .. });
    let mut failure = error.into_failure();
    if is_pipelines {
        failure.code = ErrorCode::BadPipeline;
    } else if failure.hint.is_none() {
        let names: Vec<&str> = schema.names().take(20).collect();
        failure = failure.with_hint(format!("the dataset's columns are {}", names.join(", ")));
    }
    failure
}

/// Takes the rows of these partitions; nothing when the task was told to stop.
fn measure(
    context: &TaskContext<'_>,
    assessor: &mut Assessor<'_>,
    blobs: &[SharedBlob],
) -> Result<Option<()>, Failure> {
    let columns = assessor.columns().to_vec();
    for blob in blobs {
        if if_stopped(context).is_some() {
            return Ok(None);
        }
        let _measuring = spans::measure_partition().entered();
        for batch in PartitionReader::open(blob.clone(), Some(&columns)).map_err(IntoFailure::into_failure)? {
            assessor.push(&batch.map_err(IntoFailure::into_failure)?).map_err(IntoFailure::into_failure)?;
            context.control.progress(assessor.evaluator().rows() as u64, None, "rows");
        }
    }
    Ok(Some(()))
}

/// The digest of the model that a step trained.
pub(crate) fn model_of(context: &TaskContext<'_>, reference: &str) -> Result<Digest, Failure> {
    match context.input(reference)?.0 {
        Output::Model { model, .. } => Ok(*model),
        _ => Err(Failure::new(ErrorCode::BadPipeline, format!("`{reference}` isn't a model"))),
    }
}

/// Reads a model back.
pub(crate) fn load(context: &TaskContext<'_>, digest: Digest) -> Result<Model, Failure> {
    Model::from_bytes(&context.get(digest)?).map_err(IntoFailure::into_failure)
}

/// Measures another model on the rows of these partitions; nothing when the task was told to stop.
fn evaluate(context: &TaskContext<'_>, model: &Model, blobs: &[SharedBlob]) -> Result<Option<Evaluator>, Failure> {
    let mut columns: Vec<String> = model.signature().iter().map(|input| input.name.clone()).collect();
    columns.push(model.target().column.clone());
    let mut evaluator = Evaluator::new(model);
    for blob in blobs {
        if if_stopped(context).is_some() {
            return Ok(None);
        }
        let _measuring = spans::measure_partition().entered();
        for batch in PartitionReader::open(blob.clone(), Some(&columns)).map_err(IntoFailure::into_failure)? {
            let batch = batch.map_err(IntoFailure::into_failure)?;
            let truth = model.target().values(&batch).map_err(IntoFailure::into_failure)?;
            let predictions = model.predict(&batch).map_err(IntoFailure::into_failure)?;
            evaluator.push(&predictions, &truth);
            context.control.progress(evaluator.rows() as u64, None, "rows");
        }
    }
    Ok(Some(evaluator))
}

/// The version that a `beats` gate looks at; nothing when there is none yet.
fn opponent(
    context: &TaskContext<'_>,
    gate: &Gate,
    alias: &str,
    validate: &Validate,
    payload: &StepPayload,
) -> Result<Option<NewVersion>, Failure> {
    let Some(name) = gate.name.as_ref().or_else(|| payload.registers.get(&validate.model)) else {
        let text = format!("the gate `beats: {alias}` doesn't say which registered model it means");
        return Err(Failure::new(ErrorCode::BadPipeline, text).with_hint("add `name:` to the gate"));
    };
    match context.wait(context.resources.registry.resolve(&format!("{name}@{alias}"))) {
        Ok((_, _, version)) => Ok(Some(version)),
        Err(RegistryError::NoModel { .. } | RegistryError::NoAlias { .. }) => Ok(None),
        Err(error) => Err(error.into_failure()),
    }
}

/// Whom a gate compares with.
struct Rival<'a> {
    gate: &'a Gate,
    alias: &'a str,
    version: Option<NewVersion>,
    settings: &'a Intervals,
}

/// A gate that compares with another version on the same rows, and how the two compare; nothing when the task was told
/// to stop.
fn beats(
    context: &TaskContext<'_>,
    rival: &Rival<'_>,
    model: &Model,
    ours: &Evaluator,
    blobs: &[SharedBlob],
) -> Result<Option<(GateResult, Option<Comparison>)>, Failure> {
    let Rival { gate, alias, version, settings } = rival;
    let classes = model.target().classes().map_or(0, |classes| classes.count());
    let metric = gate.metric.as_deref().unwrap_or_else(|| metrics::default_metric(model.learning(), classes));
    let Some(version) = version else {
        let message = format!("there is no `{alias}` yet to compare with");
        return Ok(Some((GateResult { passed: true, message }, None)));
    };
    let other = load(context, version.model)?;
    let Some(theirs) = evaluate(context, &other, blobs)? else { return Ok(None) };
    let direction = metrics::direction(model.learning(), metric).map_err(|hint| {
        Failure::new(ErrorCode::BadPipeline, hint.unwrap_or_else(|| format!("`{metric}` isn't a metric")))
    })?;
    let values = (ours.metrics().get(metric).copied(), theirs.metrics().get(metric).copied());
    let (Some(our), Some(their)) = values else {
        let message = format!("`{metric}` can't be computed for both models");
        return Ok(Some((GateResult { passed: false, message }, None)));
    };
    let comparison = metrics::compare(ours, &theirs, alias, metric, settings);
    let standing = gates::Standing { metric, alias, ours: our, theirs: their, direction };
    Ok(Some((gates::beats(gate, &standing, comparison.as_ref()), comparison)))
}
