//! One owned shard: what was decided and isn't written yet, and what was written lately.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_backends::state::{Append, AppendEntry, StatusChange};
use gristmill_protocol::fact::{Fact, JournalBody};
use gristmill_protocol::limits::JOURNAL_ENTRY_BYTES_MAX;
use gristmill_protocol::message::InboxId;
use gristmill_protocol::{OwnerToken, RunId, Shard, wire};
use gristmill_scheduler_core::Effect;
use tokio::time::Instant;

use crate::tail::Tail;

/// A shard that this process owns.
#[derive(Debug)]
pub(crate) struct OwnedShard {
    pub(crate) shard: Shard,
    pub(crate) token: OwnerToken,
    /// The last inbox entry that was read.
    pub(crate) seen: InboxId,
    /// The position of each held run's last entry, written or in flight.
    pub(crate) heads: BTreeMap<RunId, u64>,
    /// The store may have gone back: nothing new is appended before what it lost is written again. An append
    /// that only consumes would otherwise be taken, and an event be gone whose facts are gone too.
    pub(crate) doubted: bool,
    /// The right to the shard had run out for a while, in which another may have written.
    pub(crate) broken: bool,
    batch: Batch,
    /// The append in flight, with the effects that wait for it.
    in_flight: Option<(Append, Vec<Effect>)>,
    /// The append in flight was refused: it is to be sent again once what was lost is written again.
    pub(crate) refused: bool,
    /// What was written or read within the last seconds, to be written again if the store goes back.
    tail: Tail,
    appends: u64,
}

/// What turns have decided since the last append began.
#[derive(Debug, Default)]
struct Batch {
    facts: BTreeMap<RunId, (Vec<Fact>, Vec<u32>)>,
    consumed: Vec<InboxId>,
    effects: Vec<Effect>,
}

/// What a run has lost when the store's journal ends earlier than it did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Nothing,
    /// All of it is known.
    Entries(Vec<u64>),
    /// It can't be written again; or the store has more than was written.
    Unknown,
}

impl OwnedShard {
    /// A shard just taken over. Appends are numbered from `first_append`.
    pub(crate) fn new(shard: Shard, token: OwnerToken, first_append: u64) -> OwnedShard {
        OwnedShard {
            shard,
            token,
            seen: InboxId::default(),
            heads: BTreeMap::new(),
            doubted: false,
            broken: false,
            batch: Batch::default(),
            in_flight: None,
            refused: false,
            tail: Tail::default(),
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
        if self.in_flight.is_some() || self.doubted {
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
        let append = self.append(entries, batch.consumed);
        self.in_flight = Some((append.clone(), batch.effects));
        Some(append)
    }

    /// An append of this shard, with a number of its own.
    pub(crate) fn append(&mut self, entries: Vec<AppendEntry>, consumed: Vec<InboxId>) -> Append {
        self.appends = self.appends.wrapping_add(1);
        Append { shard: self.shard, token: self.token, id: self.appends, entries, consumed }
    }

    /// The append in flight is safe: returns the effects that waited for it.
    pub(crate) fn appended(&mut self) -> Vec<Effect> {
        let Some((append, effects)) = self.in_flight.take() else { return Vec::new() };
        for entry in append.entries {
            self.remember(entry);
        }
        effects
    }

    /// Keeps an entry that was written or read just now.
    pub(crate) fn remember(&mut self, entry: AppendEntry) {
        self.tail.push(entry);
    }

    /// The store lived at that time, and has since the last time it was asked: what was written long enough
    /// before can't be lost. Time in which the store is away doesn't count, nor does time in which what the store
    /// lost hasn't been written again.
    pub(crate) fn store_lived(&mut self, at: Instant) {
        if !self.doubted {
            self.tail.store_lived(at);
        }
    }

    /// The last position of a run that was written or read lately.
    pub(crate) fn last_known(&self, run: RunId) -> Option<u64> {
        self.tail.span(run).map(|(_, last)| last)
    }

    /// What the inbox holds is to be read again, and consumed then: whatever was to be consumed may have been
    /// taken for something else by what was known here.
    pub(crate) fn unconsume(&mut self) {
        self.batch.consumed.clear();
        if let Some((append, _)) = &mut self.in_flight {
            append.consumed.clear();
        }
    }

    /// Which entries a run lacks whose journal ends at `found`.
    pub(crate) fn missing(&self, run: RunId, found: u64) -> Missing {
        let flying = self.in_flight.iter().flat_map(|(append, _)| &append.entries).filter(|entry| entry.run == run);
        let last = flying.clone().map(|entry| entry.position).max();
        let span = self.tail.span(run);
        let written = match flying.map(|entry| entry.position).min() {
            Some(first) => first - 1,
            // A run that has ended isn't held any more, and yet the store may have lost its end.
            None => self.heads.get(&run).copied().or(span.map(|(_, last)| last)).unwrap_or(found),
        };
        match found {
            found if found == written || (Some(found) == last && !self.refused) => Missing::Nothing,
            // Without its first entry the run isn't there: whoever submitted it says so again.
            found if found > written || found == 0 => Missing::Unknown,
            found if span.is_some_and(|(first, last)| first <= found + 1 && written <= last) => {
                Missing::Entries((found + 1..=written).collect())
            }
            _ => Missing::Unknown,
        }
    }

    /// An entry that was written or read lately.
    pub(crate) fn recent(&self, run: RunId, position: u64) -> Option<AppendEntry> {
        self.tail.get(run, position).cloned()
    }

    /// The append in flight, to be sent again as it is.
    pub(crate) fn in_flight(&self) -> Option<Append> {
        self.in_flight.as_ref().map(|(append, _)| append.clone())
    }

    /// Forgets a run, and what was decided about it and isn't written.
    pub(crate) fn drop_run(&mut self, run: RunId) {
        self.heads.remove(&run);
        self.tail.forget(run);
        self.batch.facts.remove(&run);
        drop_effects(&mut self.batch.effects, run);
        if let Some((append, effects)) = &mut self.in_flight {
            append.entries.retain(|entry| entry.run != run);
            drop_effects(effects, run);
        }
    }

    /// The append in flight takes places of its own after those it had. Only the broken twin does that.
    pub(crate) fn moved_on(&mut self) {
        let Some((append, _)) = &mut self.in_flight else { return };
        self.appends = self.appends.wrapping_add(1);
        append.id = self.appends;
        let mut moved: BTreeMap<RunId, u64> = BTreeMap::new();
        for entry in &append.entries {
            *moved.entry(entry.run).or_default() += 1;
        }
        for entry in &mut append.entries {
            entry.position += moved[&entry.run];
        }
        for (run, by) in moved {
            *self.heads.entry(run).or_default() += by;
        }
    }

    /// Runs of which something was written or read lately, or that are held.
    pub(crate) fn known_runs(&self) -> BTreeSet<RunId> {
        self.tail.runs().into_iter().chain(self.heads.keys().copied()).collect()
    }
}

/// Takes out what is asked for on behalf of a run. A bundle of several runs goes whole: the attempts of the
/// others are found unclaimed.
fn drop_effects(effects: &mut Vec<Effect>, run: RunId) {
    effects.retain(|effect| match effect {
        Effect::Publish(assignment) => assignment.parts.iter().all(|part| part.run != run),
        Effect::Revoke { attempts, .. } => attempts.iter().all(|attempt| attempt.run != run),
        Effect::RunEnded { run: ended, .. } => *ended != run,
    });
}

/// The entry that a fact-by-fact reading of a journal's entry gives: what it settles and changes.
pub(crate) fn entry_as_read(run: RunId, position: u64, body: Vec<u8>, facts: &[Fact]) -> AppendEntry {
    let settled = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Succeeded(column) => Some(column.iter().map(|success| success.task).collect::<Vec<_>>()),
            _ => None,
        })
        .flatten()
        .collect();
    let status = facts.iter().map(status_change).rfind(|change| *change != StatusChange::None);
    AppendEntry { run, position, body, settled, status: status.unwrap_or(StatusChange::None) }
}

fn status_change(fact: &Fact) -> StatusChange {
    match fact {
        Fact::Cancelling { .. } => StatusChange::Closing,
        Fact::Resumed { .. } => StatusChange::Reopened,
        Fact::RunEnded { status, .. } => StatusChange::Ended(*status),
        _ => StatusChange::None,
    }
}

/// Encodes facts into as few entries as the size limit and changes of the run's status allow.
///
/// What is settled goes with the first entry, or with that of the last resume: at the end before it the store forgets all
/// that was settled until then, and a resume comes with all of it.
fn encode_entries(run: RunId, head: &mut u64, facts: Vec<Fact>, settled: Vec<u32>, entries: &mut Vec<AppendEntry>) {
    let first = entries.len();
    let mut push = |facts: Vec<Fact>, status: StatusChange| {
        for body in split_bodies(facts) {
            *head += 1;
            entries.push(AppendEntry { run, position: *head, body, settled: Vec::new(), status: StatusChange::None });
        }
        if let Some(last) = entries.last_mut() {
            last.status = status;
        }
    };
    let mut pending = Vec::new();
    for fact in facts {
        let status = status_change(&fact);
        pending.push(fact);
        if status != StatusChange::None {
            push(std::mem::take(&mut pending), status);
        }
    }
    if !pending.is_empty() {
        push(pending, StatusChange::None);
    }
    let ours = &mut entries[first..];
    let at = ours.iter().rposition(|entry| entry.status == StatusChange::Reopened).unwrap_or(0);
    if let Some(entry) = ours.get_mut(at) {
        entry.settled = settled;
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
    fn what_is_settled_comes_after_an_end_that_is_resumed_in_the_same_append() {
        let (run, mut head, mut entries) = (RunId::from_u128(1), 4, Vec::new());
        let over = Fact::RunEnded { at: Timestamp(1), status: RunStatus::Failed };
        let resumed = Fact::Resumed { at: Timestamp(2), by: "me".to_owned() };
        encode_entries(run, &mut head, vec![ended("a"), over, resumed, ended("b")], vec![3, 7], &mut entries);
        let settled: Vec<_> = entries.iter().map(|entry| (entry.position, entry.settled.as_slice())).collect();
        assert_eq!(settled, [(5, &[][..]), (6, &[3, 7]), (7, &[])]);
        encode_entries(run, &mut head, vec![ended("c")], vec![9], &mut entries);
        assert_eq!((entries[3].settled.as_slice(), entries[0].settled.as_slice()), (&[9][..], &[][..]));
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
    fn what_the_store_lost_is_known_for_as_long_as_it_can_be_lost() {
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
        assert_eq!(shard.missing(run, 1), Missing::Entries(vec![2, 3]));
        assert_eq!(shard.missing(run, 3), Missing::Nothing);
        assert_eq!(shard.missing(run, 4), Missing::Nothing, "the append in flight has come through");
        assert_eq!(shard.missing(run, 5), Missing::Unknown, "somebody else has written");
        assert_eq!(shard.missing(run, 0), Missing::Unknown, "the run isn't there");
        shard.appended();
        shard.heads.remove(&run);
        assert_eq!(shard.missing(run, 3), Missing::Entries(vec![4]), "the end of a run that isn't held any more");
    }

    #[test]
    fn nothing_is_appended_while_the_store_may_have_gone_back() {
        let run = RunId::from_u128(1);
        let mut shard = OwnedShard::new(Shard(1), OwnerToken { epoch: 1, instance: 1 }, 0);
        shard.consumed(InboxId { ms: 1, seq: 0 });
        shard.decided(run, vec![ended("a")], Vec::new());
        shard.doubted = true;
        assert!(shard.next_append().is_none());
        shard.doubted = false;
        assert!(shard.next_append().is_some());
    }
}
