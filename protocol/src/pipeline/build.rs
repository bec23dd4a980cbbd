//! From a tree without errors to the checked pipeline.
//!
//! The types do the reading. What they refuse though the schema allowed it becomes a complaint about the
//! step; a test over mutated files holds that this stays rare.

use serde_json::Value;

use super::complaint::{Complaint, Complaints};
use super::duration;
use super::graph;
use super::references::StepInfo;
use super::sense::registered_name;
use super::source::{Node, Source};
use super::steps::{PipelineFile, StepFile};
use super::task::{Limit, Need, POOL_DEFAULT, POOL_PYTHON, Pipeline, RETRIES_DEFAULT, Step, Task};

/// Builds the pipeline; `warnings` and the parameters' values are the caller's to fill in.
pub(super) fn build(source: &Source<'_>, root: &Node, infos: &[StepInfo<'_>]) -> Result<Pipeline, Vec<Complaint>> {
    let mut complaints = Vec::new();
    let mut head = root.to_value();
    let bodies = match head.get_mut("steps").map(Value::take) {
        Some(Value::Object(bodies)) => bodies,
        _ => serde_json::Map::new(),
    };
    head["steps"] = Value::Object(serde_json::Map::new());
    let file = match serde_json::from_value::<PipelineFile>(head) {
        Ok(file) => file,
        Err(error) => {
            let span = source.span(root.span.start, root.span.start);
            return Err(vec![source.complain(span, format!("the pipeline can't be read: {error}"))]);
        }
    };
    let mut steps = Vec::with_capacity(infos.len());
    for ((name, body), info) in bodies.into_iter().zip(infos) {
        match serde_json::from_value::<StepFile>(body) {
            Ok(step) => steps.extend(one(name, step, info, infos, &file)),
            Err(error) => {
                complaints.push(source.complain(info.name_span, format!("step `{name}` can't be read: {error}")));
            }
        }
    }
    if complaints.is_empty() && steps.len() != infos.len() {
        complaints.push(Complaint::elsewhere(source.file, "a step without a kind passed the check"));
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    Ok(Pipeline {
        name: file.name,
        description: file.description,
        params: file.params,
        limits: file.limits,
        weight: file.weight.unwrap_or(1),
        steps,
        order: graph::order(infos),
        warnings: Complaints::default(),
    })
}

fn one(
    name: String,
    file: StepFile,
    info: &StepInfo<'_>,
    infos: &[StepInfo<'_>],
    pipeline: &PipelineFile,
) -> Option<Step> {
    let limits = file
        .limits
        .iter()
        .filter_map(|name| pipeline.limits.get(name).map(|capacity| Limit { name: name.clone(), capacity: *capacity }));
    let pool = if file.python.is_some() { POOL_PYTHON } else { POOL_DEFAULT };
    Some(Step {
        needs: needs(info),
        when: file.when.unwrap_or_default(),
        retries: file.retries.unwrap_or(RETRIES_DEFAULT),
        timeout_ms: file.timeout.as_deref().and_then(|text| duration::parse(text).ok()),
        pool: file.pool.clone().unwrap_or_else(|| pool.to_owned()),
        priority: file.priority.or(pipeline.priority).unwrap_or(0),
        limits: limits.collect(),
        cache: file.cache.unwrap_or(true),
        task: task(file, info, infos)?,
        name,
    })
}

/// Each output once, in the order in which the step names them; what is taken needs no `after`.
fn needs(info: &StepInfo<'_>) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for reference in &info.references {
        let is_known = needs.iter().any(|need| {
            need.step == reference.need.step && (reference.need.order_only || need.output == reference.need.output)
        });
        if !is_known {
            needs.push(reference.need.clone());
        }
    }
    needs
}

fn task(file: StepFile, info: &StepInfo<'_>, infos: &[StepInfo<'_>]) -> Option<Task> {
    let StepFile { ingest, transform, expect, split, train, tune, validate, register, score, python, noop, .. } = file;
    let validate = validate.map(|mut validate| {
        // The worker sees one step alone; the name that the pipeline registers is known only here.
        let name = info.target("model").and_then(|reference| registered_name(infos, reference.target));
        for gate in validate.require.iter_mut().filter(|gate| gate.beats.is_some() && gate.name.is_none()) {
            gate.name = name.map(str::to_owned);
        }
        validate
    });
    let tasks = [
        ingest.map(Task::Ingest),
        transform.map(Task::Transform),
        expect.map(Task::Expect),
        split.map(Task::Split),
        train.map(Task::Train),
        tune.map(Task::Tune),
        validate.map(Task::Validate),
        register.map(Task::Register),
        score.map(Task::Score),
        python.map(Task::Python),
        noop.map(Task::Noop),
    ];
    tasks.into_iter().flatten().next()
}
