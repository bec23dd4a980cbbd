//! What a worker is told to do, and the plan that a checked pipeline becomes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::Digest;
use crate::pipeline::{Need, Pipeline, Step, Task};
use crate::plan::{NamedLimit, Plan, PlanNeed, PlanStep};
use crate::wire;

/// The payload of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// A step as the pipeline has it.
    Step(Box<StepPayload>),
    /// A child of a step's expansion, in the worker's own words.
    Child(ByteBuf),
    /// The join of a step's expansion, in the worker's own words.
    Join(ByteBuf),
}

/// A step as the pipeline has it, with what it needs to know of the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPayload {
    pub task: Task,
    /// What it takes from other steps, in the order in which it names them.
    pub needs: Vec<Need>,
    /// The folder that relative paths of sources start from.
    pub folder: String,
    /// The folder that relative paths of outputs start from.
    pub work_folder: String,
    /// Whether an equal earlier result may be used.
    pub cache: bool,
    /// The names under which the pipeline registers models, by the step that trains them.
    pub registers: BTreeMap<String, String>,
    /// Where source files are read and outputs are written.
    #[serde(default)]
    pub files: Files,
}

/// Where the files are that a pipeline names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Files {
    /// On a disk that the worker sees as the caller does.
    #[default]
    Here,
    /// Among the artifacts: the caller's disk is another machine's. Sources were uploaded before the run was
    /// submitted; outputs become artifacts that the caller fetches.
    Uploaded {
        /// The list of the step's source files (MessagePack, [`UploadedFile`]), for a step that reads some.
        sources: Option<Digest>,
    },
}

/// A source file that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UploadedFile {
    /// Its path where the run was submitted.
    pub path: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// The plan of a pipeline whose relative paths start from these folders.
pub fn plan_of(pipeline: &Pipeline, folder: &str, work_folder: &str) -> Plan {
    plan_with(pipeline, folder, work_folder, |_| Files::Here)
}

/// The same, for a pipeline whose files are where `files` says for each step.
pub fn plan_with(pipeline: &Pipeline, folder: &str, work_folder: &str, files: impl Fn(&Step) -> Files) -> Plan {
    let limits: Vec<NamedLimit> =
        pipeline.limits.iter().map(|(name, max)| NamedLimit { name: name.clone(), max: *max }).collect();
    let registers = registers_of(pipeline);
    let steps = pipeline.steps.iter().map(|step| {
        let payload = Payload::Step(Box::new(StepPayload {
            task: step.task.clone(),
            needs: step.needs.iter().filter(|need| !need.order_only).cloned().collect(),
            folder: folder.to_owned(),
            work_folder: work_folder.to_owned(),
            cache: step.cache,
            registers: registers.clone(),
            files: files(step),
        }));
        plan_step(pipeline, step, &limits, ByteBuf::from(wire::encode(&payload)))
    });
    Plan { pipeline: pipeline.name.clone(), weight: pipeline.weight, steps: steps.collect(), limits }
}

fn registers_of(pipeline: &Pipeline) -> BTreeMap<String, String> {
    let registers = |step: &Step| match &step.task {
        Task::Register(register) => Some((register.model.clone(), register.name.clone())),
        _ => None,
    };
    pipeline.steps.iter().filter_map(registers).collect()
}

fn plan_step(pipeline: &Pipeline, step: &Step, limits: &[NamedLimit], payload: ByteBuf) -> PlanStep {
    let place = |name: &str| pipeline.steps.iter().position(|other| other.name == name);
    let mut needs: Vec<PlanNeed> = Vec::new();
    for need in &step.needs {
        let at = place(&need.step).expect("a checked pipeline names its own steps") as u16;
        match needs.iter_mut().find(|known| known.step == at) {
            Some(known) => known.output |= !need.order_only,
            None => needs.push(PlanNeed { step: at, output: !need.order_only }),
        }
    }
    let limit_at = |name: &str| limits.iter().position(|limit| limit.name == name);
    PlanStep {
        name: step.name.clone(),
        kind: step.task.kind().to_owned(),
        payload,
        needs,
        when: step.when,
        retries: step.retries,
        timeout_ms: step.timeout_ms,
        pool: step.pool.clone(),
        priority: step.priority,
        limits: step
            .limits
            .iter()
            .map(|limit| limit_at(&limit.name).expect("a checked pipeline declares its limits") as u16)
            .collect(),
    }
}
