//! Messages about work: assignments out, reports and other happenings in.
//!
//! Messages are vectors: an assignment carries one or more attempts and a finish one or more reports, so
//! that small tasks share the cost of a message. Columns stand side by side instead of one map per
//! attempt, which keeps a bundle of 256 small.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::error::Failure;
use crate::id::{AttemptRef, Digest, RunId, Shard, TaskKey, WorkerId};
use crate::limits;
use crate::time::Timestamp;

/// Work for one worker: some attempts of one shard, pool and priority.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub shard: Shard,
    pub pool: String,
    pub priority: i8,
    /// Whether it must run with no neighbour on the worker, because a worker was lost with it before.
    pub solo: bool,
    pub parts: Vec<Part>,
}

impl Assignment {
    /// The attempts it carries.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptRef> + '_ {
        self.parts.iter().flat_map(Part::attempts)
    }
}

/// Attempts that share a template: a single task, or some children of one expansion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub run: RunId,
    /// The step's name, and the place of these tasks under it (`2` for the second round, empty for the step itself).
    pub step: String,
    pub path: String,
    /// What is to be done, for the worker alone to read.
    pub payload: ByteBuf,
    /// Outputs of the steps before; for a join the one input is its children's.
    pub inputs: Vec<Input>,
    /// Milliseconds from the claim to the hard deadline.
    pub timeout_ms: Option<u64>,
    /// The tag that all these tasks share.
    pub tag: u32,
    /// The index of the expansion's first child; a child's item is found at its index less this.
    pub first: u32,
    /// Task indexes and attempt numbers, side by side.
    pub tasks: Vec<u32>,
    pub attempts: Vec<u16>,
    /// What distinguishes children of one expansion, in the order of `tasks`.
    pub items: Items,
}

impl Part {
    /// The attempts it carries.
    pub fn attempts(&self) -> impl Iterator<Item = AttemptRef> + '_ {
        self.tasks.iter().zip(&self.attempts).map(|(&index, &attempt)| AttemptRef {
            run: self.run,
            task: TaskKey { index, tag: self.tag },
            attempt,
        })
    }

    /// The name of the task with this index, for people: `score`, `score/1/17`, `score/1/join`.
    pub fn task_name(&self, index: u32) -> String {
        task_name(&self.step, &self.path, self.first, index, matches!(self.items, Items::None))
    }
}

/// The name of a task: its step, its place under it and, for a child, its number there.
pub fn task_name(step: &str, path: &str, first: u32, index: u32, single: bool) -> String {
    match (path, single) {
        ("", true) => step.to_owned(),
        ("", false) => format!("{step}/{}", index - first),
        (path, true) => format!("{step}/{path}"),
        (path, false) => format!("{step}/{path}/{}", index - first),
    }
}

/// The items of an expansion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Items {
    /// The tasks are no children.
    None,
    /// The items themselves, one a task.
    Inline(Vec<ByteBuf>),
    /// An artifact that holds all items of the expansion, as one encoded list.
    Artifact { digest: Digest, count: u32 },
}

impl Items {
    /// How many children the items are for.
    pub fn count(&self) -> u32 {
        match self {
            Items::None => 0,
            Items::Inline(items) => u32::try_from(items.len()).unwrap_or(u32::MAX),
            Items::Artifact { count, .. } => *count,
        }
    }
}

/// The output of a step before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// The step's name; empty for a join's children.
    pub step: String,
    pub value: InputValue,
}

/// An output that is passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputValue {
    /// One step's output.
    Output(ByteBuf),
    /// The outputs of all children in their order; nothing for one whose failure was tolerated.
    Children(Vec<Option<ByteBuf>>),
    /// An artifact that holds the encoded list of the children's outputs.
    ChildrenArtifact(Digest),
}

/// How one attempt ended, said by the worker that had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub attempt: AttemptRef,
    /// When it began by the worker's wall clock, in microseconds since the Unix epoch; for traces only.
    pub started_us: u64,
    /// Microseconds for which it held a slot.
    pub slot_us: u64,
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done. The output goes to the steps after it.
    Succeeded {
        output: ByteBuf,
        /// Whether an equal earlier result was used.
        cached: bool,
    },
    /// It is done once these children and their join are.
    Expanded(Expansion),
    /// A gate said no.
    Rejected { reason: String },
    /// It went wrong.
    Failed(Failure),
    /// It was handed back, through no fault of the task.
    Returned(ReturnCause),
    /// It was told to stop, and has.
    Stopped,
}

/// Why an attempt was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnCause {
    /// The worker is shutting down.
    Draining,
    /// The machine is about to be taken away.
    SpotNotice,
    /// It waited in a bundle for too long.
    Unstarted,
    /// The lease's record was closed without a report.
    RecordClosed,
    /// What it waits for takes long; its slot is better used by others.
    Waiting,
}

/// Children of one task, and what follows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expansion {
    /// What each child does with its item.
    pub child: Template,
    pub items: Items,
    /// What runs once the children have ended; it gets their outputs.
    pub join: Template,
    pub on_failure: OnFailure,
}

/// What a task of an expansion does. Pool, priority, retries and limits are those of its step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Template {
    pub payload: ByteBuf,
}

/// What a failed child means for its siblings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The first one fails them all; what hasn't started doesn't.
    #[default]
    Fail,
    /// So many may fail.
    Tolerate(u32),
}

/// Something that happened to a shard's runs, in the order in which it did.
#[derive(Clone, Debug, PartialEq)]
pub struct InboxEntry {
    pub id: InboxId,
    /// The store's time at which it was put in.
    pub at: Timestamp,
    pub event: InboxEvent,
}

/// The place of an entry in its inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InboxId {
    pub ms: u64,
    pub seq: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InboxEvent {
    /// A run was submitted; its journal holds what.
    Created { run: RunId },
    /// A worker ended some attempts.
    Finished { worker: WorkerId, reports: Vec<Report> },
    /// Leases ran out.
    Expired { ended: Vec<Expired> },
    /// Attempts were taken back.
    Revoked { ended: Vec<Revoked> },
    /// Somebody asks for a run to stop.
    Cancel { run: RunId, by: String },
    /// Somebody asks for an ended run to go on.
    Resume { run: RunId, by: String },
}

/// A lease that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    pub attempt: AttemptRef,
    pub worker: WorkerId,
    pub cause: ExpiryCause,
}

/// Why a lease ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryCause {
    /// The worker wasn't heard of.
    Lost,
    /// The hard deadline has come.
    TimedOut,
}

/// An attempt that was taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub attempt: AttemptRef,
    /// Who had it, and until when it may still be at work; nobody when it was unclaimed.
    pub holder: Option<Holder>,
}

/// Who holds a lease, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub worker: WorkerId,
    pub until: Timestamp,
}

impl Report {
    /// About how many bytes it takes on the wire, for the limits of a finish call.
    pub fn size_hint(&self) -> usize {
        const FIXED: usize = 96;
        FIXED
            + match &self.outcome {
                Outcome::Succeeded { output, .. } => output.len(),
                Outcome::Expanded(expansion) => expansion.size_hint(),
                Outcome::Rejected { reason } => reason.len(),
                Outcome::Failed(failure) => failure.message.len() + failure.hint.as_ref().map_or(0, String::len),
                Outcome::Returned(_) | Outcome::Stopped => 0,
            }
    }
}

impl Expansion {
    /// About how many bytes it takes on the wire.
    pub fn size_hint(&self) -> usize {
        let items = match &self.items {
            Items::Inline(items) => items.iter().map(|item| item.len() + 2).sum(),
            Items::None | Items::Artifact { .. } => 96,
        };
        self.child.payload.len() + self.join.payload.len() + items
    }

    /// Checks the limits that a report must keep.
    pub fn check(&self) -> Result<(), String> {
        match &self.items {
            Items::None => Err("an expansion has no items".to_owned()),
            _ if self.items.count() == 0 => Err("an expansion has no items".to_owned()),
            _ if self.items.count() > limits::EXPAND_CHILDREN_MAX => Err(format!(
                "an expansion has {} children; the limit is {}",
                self.items.count(),
                limits::EXPAND_CHILDREN_MAX
            )),
            Items::Inline(items)
                if items.iter().map(|item| item.len()).sum::<usize>() > limits::EXPAND_INLINE_BYTES_MAX =>
            {
                Err(format!(
                    "an expansion's inline items are over {} bytes; they belong in an artifact",
                    limits::EXPAND_INLINE_BYTES_MAX
                ))
            }
            _ => Ok(()),
        }
    }
}
