//! Measures a model on rows it hasn't seen, and decides whether it is good enough.
//!
//! Gates fail closed: a metric that can't be computed is a gate that didn't pass.

use gristmill_ml::blob::SharedBlob;
use gristmill_ml::metrics::{self, Evaluation, Evaluator};
use gristmill_ml::model::Model;
use gristmill_ml::partition::PartitionReader;
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::StepPayload;
use gristmill_protocol::pipeline::steps::{Gate, Validate};
use gristmill_protocol::{Digest, ErrorCode, Failure};
use gristmill_registry::{NewVersion, RegistryError};

use super::{TaskEnd, if_stopped};
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
    let model = load(context, digest)?;
    let dataset = context.dataset(&validate.input)?;
    let blobs = blobs(context, &load_manifest(context, dataset.manifest)?)?;
    let Some(evaluation) = evaluate(context, &model, &blobs)? else { return Ok(TaskEnd::Stopped) };
    let mut gates = Vec::new();
    for gate in &validate.require {
        let result = match &gate.beats {
            Some(alias) => {
                let version = opponent(context, gate, alias, validate, payload)?;
                let Some(result) = beats(context, gate, alias, version, &model, &evaluation, &blobs)? else {
                    return Ok(TaskEnd::Stopped);
                };
                result
            }
            None => bounds(gate, &evaluation),
        };
        gates.push(result);
    }
    let rejected: Vec<String> = gates.iter().filter(|gate| !gate.passed).map(|gate| gate.message.clone()).collect();
    let shown = SHOWN.iter().filter_map(|name| evaluation.metrics.get(*name).map(|value| ((*name).to_owned(), *value)));
    let metrics = shown.collect();
    let evidence = Evidence { model: digest, input: dataset, importances: model.importances(), evaluation, gates };
    let evidence = context.put_json(&evidence)?;
    if rejected.is_empty() {
        return Ok(TaskEnd::Made(Output::Evaluation { evaluation: evidence, model: digest, metrics }));
    }
    Ok(TaskEnd::Rejected(format!("{}; the evaluation is artifact {evidence}", rejected.join("; "))))
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

/// Measures a model on the rows of these partitions; nothing when the task was told to stop.
fn evaluate(context: &TaskContext<'_>, model: &Model, blobs: &[SharedBlob]) -> Result<Option<Evaluation>, Failure> {
    let mut columns: Vec<String> = model.signature().iter().map(|input| input.name.clone()).collect();
    columns.push(model.target().column.clone());
    let mut evaluator = Evaluator::new(model);
    let mut rows = 0;
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
            rows += batch.num_rows() as u64;
            context.control.progress(rows, None, "rows");
        }
    }
    let none = || Failure::new(ErrorCode::BadInput, "there are no rows to measure the model on");
    evaluator.finish().map(Some).ok_or_else(none)
}

/// A gate that bounds a metric.
fn bounds(gate: &Gate, evaluation: &Evaluation) -> GateResult {
    let name = gate.metric.as_deref().unwrap_or_default();
    let Some(&value) = evaluation.metrics.get(name) else {
        return GateResult { passed: false, message: format!("`{name}` can't be computed for this model") };
    };
    let required = match (gate.min, gate.max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "any".to_owned(),
    };
    let passed = gate.min.is_none_or(|min| value >= min) && gate.max.is_none_or(|max| value <= max);
    GateResult { passed, message: format!("`{name}` is {value:.4}; {required} is required") }
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

/// A gate that compares with another version on the same rows; nothing when the task was told to stop.
fn beats(
    context: &TaskContext<'_>,
    gate: &Gate,
    alias: &str,
    opponent: Option<NewVersion>,
    model: &Model,
    evaluation: &Evaluation,
    blobs: &[SharedBlob],
) -> Result<Option<GateResult>, Failure> {
    let classes = model.target().classes().map_or(0, |classes| classes.count());
    let metric = gate.metric.as_deref().unwrap_or_else(|| metrics::default_metric(model.learning(), classes));
    let Some(opponent) = opponent else {
        let message = format!("there is no `{alias}` yet to compare with");
        return Ok(Some(GateResult { passed: true, message }));
    };
    let other = load(context, opponent.model)?;
    let Some(theirs) = evaluate(context, &other, blobs)? else { return Ok(None) };
    let direction = metrics::direction(model.learning(), metric).map_err(|hint| {
        Failure::new(ErrorCode::BadPipeline, hint.unwrap_or_else(|| format!("`{metric}` isn't a metric")))
    })?;
    let result = match (evaluation.metrics.get(metric), theirs.metrics.get(metric)) {
        (Some(&ours), Some(&theirs)) => GateResult {
            passed: direction.no_worse(ours, theirs),
            message: format!("`{metric}` is {ours:.4}; `{alias}` has {theirs:.4} on the same rows"),
        },
        _ => GateResult { passed: false, message: format!("`{metric}` can't be computed for both models") },
    };
    Ok(Some(result))
}
