//! Runs: submitting, listing, looking.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ErrorInfo;
use crate::id::{Digest, RunId, WorkerId};
use crate::output::Output;
use crate::payload::UploadedFile;
use crate::pipeline::steps::When;
use crate::submission::{Outputs, SubmissionMessage};

pub use crate::limits::SUBMISSIONS_MAX;

/// A run to make: the text of a pipeline, or the name of a kept one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// The pipeline file's text. Its paths are those of the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// In its place, the name of a kept pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which version of it. Default: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Values of the pipeline's parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Submitting the same again under the same key within 7 days answers the same run. The header `Idempotency-Key` says
    /// the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Added to the priority of every step; -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i8>,
    /// Do all work anew, whatever was done before.
    #[serde(default)]
    pub no_cache: bool,
    /// By ingest step, files put among the artifacts before, in place of the sources that it names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Vec<UploadedFile>>,
    /// Where steps write files.
    #[serde(default)]
    pub outputs: Outputs,
}

impl From<Submit> for SubmissionMessage {
    fn from(submit: Submit) -> SubmissionMessage {
        let Submit { pipeline, name, version, params, key, namespace, priority, no_cache, files, outputs } = submit;
        SubmissionMessage { pipeline, name, version, params, key, namespace, priority, no_cache, files, outputs }
    }
}

/// A run that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    pub run: RunId,
    /// Whether it was made now; the same submission had made it before, else.
    pub created: bool,
}

/// Many runs to make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitMany {
    /// At most 1,000.
    pub submissions: Vec<Submit>,
}

/// What came of many submissions, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedMany {
    pub results: Vec<SubmitResult>,
}

/// What came of one of many submissions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SubmitResult {
    Submitted(Submitted),
    Refused { error: ErrorInfo },
}

/// A run that is asked to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunAsked {
    pub run: RunId,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunItem {
    pub run: RunId,
    pub pipeline: String,
    pub namespace: String,
    /// `running`, `succeeded`, `failed`, `rejected` or `cancelled`.
    pub status: String,
    pub created_ms: u64,
    pub ended_ms: Option<u64>,
}

/// Runs that are new or have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunItems {
    pub items: Vec<RunItem>,
}

/// A run as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    pub run: RunId,
    pub pipeline: String,
    pub namespace: String,
    /// `running`, `cancelling`, `succeeded`, `failed`, `rejected` or `cancelled`.
    pub status: String,
    pub created_ms: u64,
    pub ended_ms: Option<u64>,
    /// For which it was open, until now if it still is.
    pub seconds: f64,
    pub params: Map<String, Value>,
    pub cancelled_by: Option<String>,
    /// The times in which it was open: the first, and one a resume.
    pub lives: Vec<Life>,
    /// The pipeline's text; left out of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of its journal; it grows with every change.
    pub position: u64,
    /// Tasks known so far.
    pub tasks: u64,
    /// Of these, those that have ended.
    pub ended: u64,
    pub steps: Vec<Step>,
    pub models: Vec<Made>,
    pub workers: Vec<WorkerTally>,
    pub trace: Trace,
}

impl Run {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended_ms.is_some()
    }
}

/// A time in which a run was open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Life {
    pub from_ms: u64,
    pub resumed_by: Option<String>,
    pub ended_ms: Option<u64>,
    pub status: Option<String>,
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    pub name: String,
    pub kind: String,
    pub needs: Vec<StepNeed>,
    pub when: When,
    pub pool: String,
    /// `waiting`, `running`, `retrying`, `succeeded`, `failed`, `rejected`, `skipped` or `cancelled`.
    pub status: String,
    /// Whether its result was there already.
    pub cached: bool,
    pub tasks: u32,
    pub ended: u32,
    /// Attempts that are out.
    pub out: u32,
    pub out_since_ms: Option<u64>,
    pub attempts: u64,
    pub failed_attempts: u64,
    pub seconds: f64,
    pub rows: Option<u64>,
    pub error: Option<ErrorInfo>,
    pub output: Option<Output>,
    pub groups: Vec<Group>,
}

/// A step that comes before another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepNeed {
    pub step: String,
    /// Whether its output is passed on, or only its end awaited.
    pub output: bool,
}

/// Tasks of a step that share a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// What their names begin with.
    pub name: String,
    /// `step`, `children` or `join`.
    pub kind: String,
    /// The index of the first.
    pub first: u32,
    pub count: u32,
    /// How many there are by status.
    pub states: BTreeMap<String, u32>,
}

/// A model that a run has made or registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Made {
    /// The registered name; the step's while it isn't registered.
    pub name: String,
    pub version: Option<u64>,
    pub alias: Option<String>,
    pub digest: Digest,
    pub metrics: BTreeMap<String, f64>,
}

/// What a worker did for a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerTally {
    pub worker: WorkerId,
    pub attempts: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// For which its slots were held.
    pub seconds: f64,
}

/// Where a run's trace is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Where people look at it, if the server knows.
    pub url: Option<String>,
}

/// Attempts of a run over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// By their start; at most 2,000, those that tell most.
    pub attempts: Vec<TimelineAttempt>,
    /// How many aren't among them.
    pub left_out: u64,
}

/// An attempt on the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineAttempt {
    pub task: u32,
    pub name: String,
    pub step: String,
    pub number: u16,
    pub worker: Option<WorkerId>,
    /// By the worker's clock, in microseconds since the Unix epoch.
    pub started_us: u64,
    /// Nothing while it is out.
    pub took_us: Option<u64>,
    /// `running`, `succeeded`, `cached`, `expanded`, `rejected`, `failed`, `timed out`, `lost`, `handed back` or `cancelled`.
    pub outcome: String,
}

/// A task in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskItem {
    pub task: u32,
    pub name: String,
    pub step: String,
    pub status: String,
}

/// A task as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskInfo {
    pub task: u32,
    pub name: String,
    pub step: String,
    pub kind: String,
    pub pool: String,
    pub status: String,
    /// The step as its pipeline has it, by kind.
    pub settings: Value,
    pub inputs: Vec<TaskInput>,
    pub output: Option<Output>,
    pub attempts: Vec<TaskAttempt>,
    /// Why it isn't getting on, the nearest reason first.
    pub waiting: Vec<String>,
    pub hint: Option<String>,
}

/// What a task takes from a step before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskInput {
    pub step: String,
    pub output: Option<Output>,
}

/// An attempt of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskAttempt {
    pub number: u16,
    pub worker: Option<WorkerId>,
    pub started_us: u64,
    pub took_us: Option<u64>,
    pub outcome: String,
    pub error: Option<ErrorInfo>,
    /// What was logged in it, where that was kept.
    pub log: Option<String>,
}

/// Why a run is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    pub run: RunId,
    pub status: String,
    pub summary: String,
    /// The steps that haven't succeeded.
    pub steps: Vec<StepReason>,
    pub hint: Option<String>,
}

/// Why a step is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepReason {
    pub step: String,
    pub status: String,
    pub reasons: Vec<String>,
    pub hint: Option<String>,
}
