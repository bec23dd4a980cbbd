//! Facts: what was decided about a run and must be remembered. A run's journal is a list of them.
//!
//! Replaying a journal gives back the scheduler's state of the run exactly. Facts are vectors where tasks
//! come in numbers, so a run of a million tasks replays in seconds without snapshots.
//!
//! Facts are read by later versions for as long as a run can be resumed: a new meaning is a new variant.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::Value;

use crate::error::Failure;
use crate::id::WorkerId;
use crate::message::{Expansion, ReturnCause};
use crate::plan::Plan;
use crate::time::Timestamp;

/// One decided thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// The run exists. Always the first fact, and written by whoever submitted it.
    Created { at: Timestamp, plan: Plan, about: About },
    /// Attempts are out: to be published, or published.
    Assigned { at: Timestamp, solo: bool, ranges: Vec<AssignedRange> },
    /// Tasks are done.
    Succeeded(Succeeded),
    /// A task has grown children and a join.
    Expanded { task: u32, attempt: u16, worker: WorkerId, started_us: u64, slot_us: u64, expansion: Expansion },
    /// An attempt ended in another way.
    Ended { task: u32, attempt: u16, worker: Option<WorkerId>, at: Timestamp, cause: Cause, next: Next },
    /// Too many children of this task failed: nothing more of its expansion starts.
    Halted { task: u32 },
    /// These tasks won't run: what they need didn't end as they need it, or a sibling failed.
    Skipped { ranges: Vec<TaskRange> },
    /// The run is being cancelled: nothing more starts.
    Cancelling { at: Timestamp, by: String },
    /// The run goes on from what succeeded.
    Resumed { at: Timestamp, by: String },
    /// The run has ended.
    RunEnded { at: Timestamp, status: RunStatus },
}

/// Where a run came from, for people; the scheduler doesn't look at it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The pipeline file as it was submitted.
    pub source: String,
    /// The parameters it ran with.
    pub params: serde_json::Map<String, Value>,
    /// The folder that relative paths start from.
    pub folder: String,
    /// The schedule or trigger that submitted it; nothing when somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// What submitted a run by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `schedule nightly` or `trigger on-upload`; it is in the run's namespace.
    pub by: String,
    /// How many triggers on the ends of runs lie between it and what somebody, a clock or a file began.
    pub depth: u32,
}

/// Attempts with the same number at neighbouring tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedRange {
    pub first: u32,
    pub count: u32,
    pub attempt: u16,
}

/// Neighbouring tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRange {
    pub first: u32,
    pub count: u32,
}

/// Successes that one worker reported, column by column.
///
/// Indexes and start times are differences to the one before, so that most take a single byte.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Succeeded {
    pub worker: Option<WorkerId>,
    pub tasks: Vec<i64>,
    pub attempts: Vec<u16>,
    /// Microseconds since the Unix epoch by the worker's wall clock.
    pub started_us: Vec<i64>,
    /// Microseconds in a slot.
    pub slot_us: Vec<u64>,
    /// Empty when no task of this fact has an output.
    pub outputs: Vec<ByteBuf>,
    /// Tasks (by index) whose result was an equal earlier one.
    pub cached: Vec<u32>,
}

/// One success out of the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Success<'a> {
    pub task: u32,
    pub attempt: u16,
    pub started_us: u64,
    pub slot_us: u64,
    pub output: &'a [u8],
    pub cached: bool,
}

impl Succeeded {
    /// Adds a success; `last` is the one added before it, as task and start.
    pub fn push(&mut self, last: &mut (u32, u64), success: Success<'_>) {
        self.tasks.push(i64::from(success.task) - i64::from(last.0));
        self.attempts.push(success.attempt);
        self.started_us.push(success.started_us.wrapping_sub(last.1) as i64);
        self.slot_us.push(success.slot_us);
        if !success.output.is_empty() || !self.outputs.is_empty() {
            self.outputs.resize(self.tasks.len() - 1, ByteBuf::new());
            self.outputs.push(ByteBuf::from(success.output.to_vec()));
        }
        if success.cached {
            self.cached.push(success.task);
        }
        *last = (success.task, success.started_us);
    }

    /// The successes in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = Success<'_>> {
        let mut last = (0i64, 0u64);
        self.tasks.iter().enumerate().map(move |(at, delta)| {
            last.0 += delta;
            last.1 = last.1.wrapping_add(self.started_us.get(at).copied().unwrap_or(0) as u64);
            let task = u32::try_from(last.0).unwrap_or(u32::MAX);
            Success {
                task,
                attempt: self.attempts.get(at).copied().unwrap_or(0),
                started_us: last.1,
                slot_us: self.slot_us.get(at).copied().unwrap_or(0),
                output: self.outputs.get(at).map_or(&[], |output| output.as_slice()),
                cached: self.cached.contains(&task),
            }
        })
    }
}

/// Why an attempt ended without success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Failed(Failure),
    TimedOut,
    /// The worker wasn't heard of for the length of a lease.
    Lost,
    Returned(ReturnCause),
    Rejected {
        reason: String,
    },
    Cancelled,
}

/// What follows for the task when an attempt has ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// It runs again, not before `at`; `solo` when with no neighbour.
    Retry { at: Timestamp, solo: bool },
    /// The task has failed.
    Fail,
    /// The task's gate said no.
    Reject,
    /// The task won't run on: its run was cancelled or a sibling failed.
    Drop,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Succeeded,
    /// A gate said no.
    Rejected,
    Failed,
    Cancelled,
}

impl RunStatus {
    /// The status as it stands in files and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Succeeded => "succeeded",
            RunStatus::Rejected => "rejected",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        }
    }
}

/// The facts of one turn for one run: what a journal entry holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalBody {
    pub facts: Vec<Fact>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn successes_come_back_as_they_were_pushed() {
        let mut column = Succeeded { worker: Some(WorkerId(7)), ..Succeeded::default() };
        let mut last = (0, 0);
        let successes = [
            Success { task: 5, attempt: 1, started_us: 1_000_000, slot_us: 10, output: b"", cached: false },
            Success { task: 4, attempt: 2, started_us: 999_000, slot_us: 20, output: b"out", cached: true },
            Success { task: 9, attempt: 1, started_us: 1_000_500, slot_us: 5, output: b"", cached: false },
        ];
        for success in successes {
            column.push(&mut last, success);
        }
        let bytes = wire::encode(&Fact::Succeeded(column));
        let Ok(Fact::Succeeded(read)) = wire::decode("a fact", &bytes) else { panic!("the fact can't be read") };
        assert_eq!(read.iter().collect::<Vec<_>>(), successes);
    }
}
