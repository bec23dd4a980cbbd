//! Workers, pools, dead letters.

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
    /// Tasks of it that are ready or out, as schedulers say.
    pub demand: u64,
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
