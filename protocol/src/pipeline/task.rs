//! What a checked pipeline is: steps with their tasks, what each needs, and what is common to all.
//!
//! The scheduler sees names and needs; a task's parameters are opaque to it and travel to the worker as
//! they stand here.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::complaint::Complaints;
use super::steps::{Expect, Ingest, Noop, Python, Register, Score, Split, Train, Transform, Tune, Validate, When};

/// How often a step is tried again when it doesn't say.
pub const RETRIES_DEFAULT: u16 = 2;
/// The pool of steps that don't name one.
pub const POOL_DEFAULT: &str = "default";
/// The pool of Python steps that don't name one: other workers can't do them.
pub const POOL_PYTHON: &str = "python";

/// A pipeline that was checked as a whole, with its parameters put in.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    pub name: String,
    pub description: Option<String>,
    /// The value of every parameter, in the order of their declaration.
    pub params: IndexMap<String, Value>,
    /// The capacity of every named limit.
    pub limits: BTreeMap<String, u32>,
    /// Share of a pool that a run gets beside others of the same priority.
    pub weight: u16,
    /// The steps, in the order of the file.
    pub steps: Vec<Step>,
    /// Places in `steps`, each after all that it needs; of those that are ready the first of the file.
    pub order: Vec<usize>,
    /// What probably isn't meant, though it can run.
    pub warnings: Complaints,
}

impl Pipeline {
    /// The step of that name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// One step of a checked pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub name: String,
    pub task: Task,
    /// What it waits for: inputs in the order in which the step names them, then those it only comes after.
    pub needs: Vec<Need>,
    pub when: When,
    /// How often it is tried again after a failure that may pass.
    pub retries: u16,
    /// Milliseconds that one attempt may take; none is no limit.
    pub timeout_ms: Option<u64>,
    pub pool: String,
    /// -100 to 100; higher runs first.
    pub priority: i8,
    /// The named limits that its tasks count against.
    pub limits: Vec<Limit>,
    /// Whether an equal earlier result may be used.
    pub cache: bool,
}

/// One step that another waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    pub step: String,
    /// Which of its outputs is taken (`train` of a split); none for its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Nothing is taken: the step was named under `after`.
    #[serde(default)]
    pub order_only: bool,
}

/// A named concurrency limit and its capacity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub name: String,
    pub capacity: u32,
}

/// What a step does: its kind and the parameters of that kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Ingest(Ingest),
    Transform(Transform),
    Expect(Expect),
    Split(Split),
    Train(Train),
    Tune(Tune),
    Validate(Validate),
    Register(Register),
    Score(Score),
    Python(Python),
    Noop(Noop),
}

impl Task {
    /// The kind as it stands in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Task::Ingest(_) => "ingest",
            Task::Transform(_) => "transform",
            Task::Expect(_) => "expect",
            Task::Split(_) => "split",
            Task::Train(_) => "train",
            Task::Tune(_) => "tune",
            Task::Validate(_) => "validate",
            Task::Register(_) => "register",
            Task::Score(_) => "score",
            Task::Python(_) => "python",
            Task::Noop(_) => "noop",
        }
    }
}
