//! What comes out of a turn: facts to remember, effects to start.

use std::collections::BTreeMap;

use gristmill_protocol::fact::{AssignedRange, Fact, RunStatus, Succeeded, Success};
use gristmill_protocol::limits::JOURNAL_ENTRY_BYTES_MAX;
use gristmill_protocol::message::Assignment;
use gristmill_protocol::{AttemptRef, RunId, Shard, Timestamp, WorkerId};

/// Bytes that a success takes in its column beside its output, at most.
const COLUMN_ROW_BYTES: usize = 32;

/// What is asked of the outside. Each is safe to repeat and carries all that its performer needs.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Wake a worker of the pool.
    Publish(Assignment),
    /// Take attempts back, claimed or not.
    Revoke { shard: Shard, attempts: Vec<AttemptRef> },
    /// The run has ended: tell whoever waits, forget it.
    RunEnded { run: RunId, status: RunStatus },
}

impl Effect {
    /// The shard whose append must be safe before this starts.
    pub fn shard(&self) -> Shard {
        match self {
            Effect::Publish(assignment) => assignment.shard,
            Effect::Revoke { shard, .. } => *shard,
            Effect::RunEnded { run, .. } => run.shard(),
        }
    }
}

/// One turn of the scheduler.
#[must_use = "facts must be appended and effects started"]
#[derive(Debug, Default)]
pub struct Step {
    /// What was decided, by run and in order. Appended to the journals before any effect starts.
    pub facts: BTreeMap<RunId, RunFacts>,
    /// What the outside is asked to do.
    pub effects: Vec<Effect>,
}

/// The facts of one run.
#[derive(Debug, Default)]
pub struct RunFacts {
    pub facts: Vec<Fact>,
    /// Tasks whose success is among the facts.
    pub settled: Vec<u32>,
    /// The success added last, for the differences of the columns.
    last: (u32, u64),
    /// Bytes of outputs in the column that is being filled.
    column_bytes: usize,
}

impl Step {
    /// Whether the turn decided nothing and asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.effects.is_empty()
    }

    /// Remembers a fact.
    pub(crate) fn push(&mut self, run: RunId, fact: Fact) {
        self.facts.entry(run).or_default().facts.push(fact);
    }

    /// Remembers a success, beside those that the same worker has just reported.
    pub(crate) fn push_success(&mut self, run: RunId, worker: WorkerId, success: Success<'_>) {
        let facts = self.facts.entry(run).or_default();
        facts.settled.push(success.task);
        facts.column_bytes += success.output.len() + COLUMN_ROW_BYTES;
        match facts.facts.last_mut() {
            Some(Fact::Succeeded(column))
                if column.worker == Some(worker) && facts.column_bytes <= JOURNAL_ENTRY_BYTES_MAX / 2 =>
            {
                column.push(&mut facts.last, success);
            }
            _ => {
                facts.column_bytes = success.output.len() + COLUMN_ROW_BYTES;
                let mut column = Succeeded { worker: Some(worker), ..Succeeded::default() };
                facts.last = (0, 0);
                column.push(&mut facts.last, success);
                facts.facts.push(Fact::Succeeded(column));
            }
        }
    }

    /// Remembers that attempts are out, beside those of the same turn.
    pub(crate) fn push_assigned(&mut self, run: RunId, at: Timestamp, solo: bool, new: &[AssignedRange]) {
        let facts = self.facts.entry(run).or_default();
        match facts.facts.last_mut() {
            Some(Fact::Assigned { at: then, solo: same, ranges }) if *then == at && *same == solo => {
                for range in new {
                    extend_ranges(ranges, *range);
                }
            }
            _ => facts.facts.push(Fact::Assigned { at, solo, ranges: new.to_vec() }),
        }
    }
}

/// Adds a range, joined to the last one where it follows it.
pub(crate) fn extend_ranges(ranges: &mut Vec<AssignedRange>, range: AssignedRange) {
    match ranges.last_mut() {
        Some(last) if last.first + last.count == range.first && last.attempt == range.attempt => {
            last.count += range.count;
        }
        _ => ranges.push(range),
    }
}
