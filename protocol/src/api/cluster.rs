//! Workers, pools, dead letters.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{RunId, WorkerId};

/// A worker that was heard of lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerItem {
    pub worker: WorkerId,
    pub pools: Vec<String>,
    pub slots: u32,
    /// Whether it takes no more work.
    pub draining: bool,
    /// What its owner says of it: `site`, `accelerator`, `spot`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The machine that it is on; empty where it doesn't say.
    #[serde(default)]
    pub host: String,
    pub seen_ms: u64,
    pub held: Vec<HeldItem>,
}

/// An attempt that a worker works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldItem {
    pub run: RunId,
    pub task: u32,
    pub attempt: u16,
    pub progress: Option<TaskProgress>,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskProgress {
    pub done: u64,
    pub total: Option<u64>,
    /// What is counted: `rows`, `trees`, `bytes`.
    pub unit: String,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolItem {
    pub name: String,
    /// Live workers that serve it and take work.
    pub workers: u32,
    pub slots: u32,
    /// Slots at work on anything.
    pub busy: u32,
    /// Tasks of it that are ready or out, as schedulers say; those that wait for a named limit are among them.
    pub demand: u64,
    /// Tasks that could begin if a slot were free.
    #[serde(default)]
    pub ready: u64,
    /// Tasks that are out.
    #[serde(default)]
    pub out: u64,
    /// Milliseconds of a slot that what is ready and out is expected to take, as far as that is known.
    #[serde(default)]
    pub work_ms: u64,
    /// How many of them take nobody knows how long.
    #[serde(default)]
    pub unknown: u64,
    /// What those who scale it have decided last.
    #[serde(default)]
    pub decisions: Vec<ScaleDecision>,
}

/// What whoever scales a pool has decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleDecision {
    /// A machine on which `gristmill pool` runs, or `api`, which KEDA asks.
    pub by: String,
    pub at_ms: u64,
    /// Workers that it wants, within these bounds.
    pub wanted: u32,
    pub min: u32,
    pub max: u32,
    /// The reason, as a sentence.
    pub why: String,
    /// Milliseconds of the worker processes that it has started, and how many of them ended by themselves.
    pub paid_ms: Option<u64>,
    pub lost: Option<u64>,
}

/// How many workers a pool should have, for KEDA's metrics-api scaler and others that start them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolScale {
    pub pool: String,
    /// Workers that it should have now.
    pub wanted: u32,
    /// Live workers that take work.
    pub workers: u32,
    pub ready: u64,
    pub out: u64,
    pub work_ms: u64,
    pub unknown: u64,
    /// The reason, as a sentence.
    pub why: String,
}

/// A message that nobody could make anything of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterItem {
    /// It follows from what is in it.
    pub id: String,
    /// The queue that it is in.
    pub queue: String,
    /// The queue that it came from, and goes to when it is sent again.
    pub source: String,
    pub reason: Option<String>,
    /// When it was sent, by its sender.
    pub sent_ms: Option<u64>,
    pub content_type: Option<String>,
    pub bytes: u64,
    /// The first 4 KiB, where they are text.
    pub body: String,
}
