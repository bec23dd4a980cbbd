//! One owned shard: what was decided and isn't written yet, and what was written lately.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use gristmill_backends::state::{Append, AppendEntry, StatusChange};
use gristmill_protocol::fact::{Fact, JournalBody};
use gristmill_protocol::limits::{JOURNAL_ENTRY_BYTES_MAX, REASSERT_MS};
use gristmill_protocol::message::InboxId;
use gristmill_protocol::{OwnerToken, RunId, Shard, wire};
use gristmill_scheduler_core::Effect;
use tokio::time::Instant;

/// A shard that this process owns.
#[derive(Debug)]
pub(crate) struct OwnedShard {
    pub(crate) shard: Shard,
    pub(crate) token: OwnerToken,
    /// The last inbox entry that was read.
    pub(crate) seen: InboxId,
    /// The position of each held run's last entry, written or in flight.
    pub(crate) heads: BTreeMap<RunId, u64>,
    batch: Batch,
    /// The append in flight, with the effects that wait for it.
    in_flight: Option<(Append, Vec<Effect>)>,
    /// What was written within the last seconds, to be written again if the store goes back.
    recent: VecDeque<(Instant, AppendEntry, u64)>,
    appends: u64,
}

/// What turns have decided since the last append began.
#[derive(Debug, Default)]
struct Batch {
    facts: BTreeMap<RunId, (Vec<Fact>, Vec<u32>)>,
    consumed: Vec<InboxId>,
    effects: Vec<Effect>,
}

impl OwnedShard {
    /// A shard just taken over. `first_append` must not have been used under this token.
    pub(crate) fn new(shard: Shard, token: OwnerToken, first_append: u64) -> OwnedShard {
        OwnedShard {
            shard,
            token,
            seen: InboxId::default(),
            heads: BTreeMap::new(),
            batch: Batch::default(),
            in_flight: None,
            recent: VecDeque::new(),
            appends: first_append,
        }
    }

    /// Adds facts of a run, in the order in which they were decided.
    pub(crate) fn decided(&mut self, run: RunId, facts: Vec<Fact>, settled: Vec<u32>) {
        let batch = self.batch.facts.entry(run).or_default();
        batch.0.extend(facts);
        batch.1.extend(settled);
    }

    /// Adds an inbox entry that was taken into account.
    pub(crate) fn consumed(&mut self, id: InboxId) {
        self.batch.consumed.push(id);
    }

    /// Adds an effect that waits for what was decided before it.
    pub(crate) fn wants(&mut self, effect: Effect) {
        self.batch.effects.push(effect);
    }

    /// The next append, if there is something to write and none is in flight; it is in flight from now on.
    pub(crate) fn next_append(&mut self) -> Option<Append> {
        if self.in_flight.is_some() {
            return None;
        }
        let batch = std::mem::take(&mut self.batch);
        if batch.facts.is_empty() && batch.consumed.is_empty() && batch.effects.is_empty() {
            return None;
        }
        let mut entries = Vec::new();
        for (run, (facts, settled)) in batch.facts {
            let head = self.heads.entry(run).or_default();
            encode_entries(run, head, facts, settled, &mut entries);
        }
        self.appends += 1;
        let append =
            Append { shard: self.shard, token: self.token, id: self.appends, entries, consumed: batch.consumed };
        self.in_flight = Some((append.clone(), batch.effects));
        Some(append)
    }

    /// The append in flight is safe: returns the effects that waited for it.
    pub(crate) fn appended(&mut self) -> Vec<Effect> {
        let Some((append, effects)) = self.in_flight.take() else { return Vec::new() };
        let now = Instant::now();
        self.recent.extend(append.entries.into_iter().map(|entry| (now, entry, append.id)));
        while self.recent.front().is_some_and(|(at, ..)| now - *at > Duration::from_millis(REASSERT_MS)) {
            self.recent.pop_front();
        }
        effects
    }

    /// The append in flight, with what a run has lost since `found` put before it; nothing when that isn't
    /// known any more.
    pub(crate) fn reasserted(&mut self, run: RunId, found: u64) -> Option<Append> {
        let (append, _) = self.in_flight.as_mut()?;
        let first = append.entries.iter().find(|entry| entry.run == run).map(|entry| entry.position)?;
        let lost = lost_entries(&self.recent, run, found, first)?;
        append.entries.splice(0..0, lost);
        Some(append.clone())
    }

    /// An append that writes again what a run has lost since `found`; nothing when that isn't known any more.
    pub(crate) fn reassertion(&mut self, run: RunId, found: u64) -> Option<Append> {
        let head = *self.heads.get(&run)?;
        let in_flight = self.in_flight.as_ref().into_iter().flat_map(|(append, _)| &append.entries);
        let first = in_flight.filter(|entry| entry.run == run).map(|entry| entry.position).min().unwrap_or(head + 1);
        let entries = lost_entries(&self.recent, run, found, first)?;
        self.appends += 1;
        Some(Append { shard: self.shard, token: self.token, id: self.appends, entries, consumed: Vec::new() })
    }

    /// The append in flight, to be sent again as it is.
    pub(crate) fn in_flight(&self) -> Option<Append> {
        self.in_flight.as_ref().map(|(append, _)| append.clone())
    }

    /// Runs of which something was written lately.
    pub(crate) fn recent_runs(&self) -> Vec<RunId> {
        let mut runs: Vec<RunId> = self.recent.iter().map(|(_, entry, _)| entry.run).collect();
        runs.sort_unstable();
        runs.dedup();
        runs
    }
}

/// The entries of a run after `found` and before `first`, all of them or nothing.
fn lost_entries(
    recent: &VecDeque<(Instant, AppendEntry, u64)>,
    run: RunId,
    found: u64,
    first: u64,
) -> Option<Vec<AppendEntry>> {
    let lost: Vec<AppendEntry> = recent
        .iter()
        .map(|(_, entry, _)| entry)
        .filter(|entry| entry.run == run && entry.position > found && entry.position < first)
        .cloned()
        .collect();
    let expected = first.checked_sub(found + 1)?;
    (expected > 0 && lost.len() as u64 == expected).then_some(lost)
}

/// Encodes facts into as few entries as the size limit and changes of the run's status allow.
fn encode_entries(run: RunId, head: &mut u64, facts: Vec<Fact>, mut settled: Vec<u32>, entries: &mut Vec<AppendEntry>) {
    let mut push = |facts: Vec<Fact>, status: StatusChange| {
        for body in split_bodies(facts) {
            *head += 1;
            let settled = std::mem::take(&mut settled);
            entries.push(AppendEntry { run, position: *head, body, settled, status: StatusChange::None });
        }
        if let Some(last) = entries.last_mut() {
            last.status = status;
        }
    };
    let mut pending = Vec::new();
    for fact in facts {
        let status = match &fact {
            Fact::Cancelling { .. } => StatusChange::Closing,
            Fact::Resumed { .. } => StatusChange::Reopened,
            Fact::RunEnded { status, .. } => StatusChange::Ended(*status),
            _ => StatusChange::None,
        };
        pending.push(fact);
        if status != StatusChange::None {
            push(std::mem::take(&mut pending), status);
        }
    }
    if !pending.is_empty() {
        push(pending, StatusChange::None);
    }
}

/// Bodies of at most the size limit each; a single fact is never split.
fn split_bodies(facts: Vec<Fact>) -> Vec<Vec<u8>> {
    let body = JournalBody { facts };
    let bytes = wire::encode(&body);
    if bytes.len() <= JOURNAL_ENTRY_BYTES_MAX || body.facts.len() == 1 {
        return vec![bytes];
    }
    let mut first = body.facts;
    let second = first.split_off(first.len() / 2);
    let mut bodies = split_bodies(first);
    bodies.extend(split_bodies(second));
    bodies
}

#[cfg(test)]
mod tests {
    use gristmill_protocol::fact::RunStatus;
    use gristmill_protocol::{Failure, Timestamp};

    use super::*;

    fn ended(text: &str) -> Fact {
        Fact::Ended {
            task: 0,
            attempt: 1,
            worker: None,
            at: Timestamp(1),
            cause: gristmill_protocol::fact::Cause::Failed(Failure::new(gristmill_protocol::ErrorCode::Internal, text)),
            next: gristmill_protocol::fact::Next::Fail,
        }
    }

    #[test]
    fn a_large_turn_is_split_and_keeps_its_order() {
        let facts: Vec<Fact> = (0..200).map(|at| ended(&format!("{at} {}", "x".repeat(3_000)))).collect();
        let bodies = split_bodies(facts.clone());
        assert!(bodies.len() > 1);
        let mut read = Vec::new();
        for body in &bodies {
            assert!(body.len() <= JOURNAL_ENTRY_BYTES_MAX);
            let body: JournalBody = wire::decode("an entry", body).expect("an entry reads");
            read.extend(body.facts);
        }
        assert_eq!(read, facts);
    }

    #[test]
    fn each_change_of_status_ends_an_entry() {
        let run = RunId::from_u128(1);
        let mut shard = OwnedShard::new(Shard(1), OwnerToken { epoch: 1, instance: 1 }, 0);
        shard.heads.insert(run, 4);
        let cancelling = Fact::Cancelling { at: Timestamp(1), by: "me".to_owned() };
        let over = Fact::RunEnded { at: Timestamp(1), status: RunStatus::Cancelled };
        shard.decided(run, vec![ended("a"), cancelling, ended("b"), over], vec![7]);
        let append = shard.next_append().expect("something to write");
        let entries: Vec<(u64, StatusChange, usize)> =
            append.entries.iter().map(|entry| (entry.position, entry.status, entry.settled.len())).collect();
        assert_eq!(entries, [(5, StatusChange::Closing, 1), (6, StatusChange::Ended(RunStatus::Cancelled), 0)]);
        assert!(shard.next_append().is_none(), "one append is in flight at a time");
    }

    #[test]
    fn what_the_store_lost_is_put_before_what_it_refused() {
        let run = RunId::from_u128(1);
        let mut shard = OwnedShard::new(Shard(1), OwnerToken { epoch: 1, instance: 1 }, 0);
        shard.heads.insert(run, 1);
        for text in ["a", "b", "c"] {
            shard.decided(run, vec![ended(text)], Vec::new());
            shard.next_append().expect("something to write");
            if text != "c" {
                shard.appended();
            }
        }
        let append = shard.reasserted(run, 1).expect("the lost entries are known");
        assert_eq!(append.entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(shard.reasserted(run, 0).is_none(), "what is older than the tail isn't known");
    }
}
