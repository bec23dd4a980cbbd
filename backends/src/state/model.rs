//! The rules of the state's verbs as plain code: no IO, no clock (`now` is an argument), no randomness.
//!
//! The embedded store and the simulator are built on it and other stores are compared with it, so what is
//! decided here is what a verb means. It holds what a shard needs to decide: who owns it, its inbox, where
//! its journals end, which attempts are leased and which tasks are settled (`leases.rs` has the rules of
//! attempts). Bodies of journals, documents and logs are elsewhere: a store that keeps them on a disk checks
//! an append here, commits it there, and only then applies it here.
//!
//! All maps are ordered, so that nothing that comes out depends on the order of a hash.

mod leases;
mod schedulers;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::limits::{ACTIVE_RUNS_MAX, INBOX_MAX, RUN_RECORD_DAYS, RUN_TASKS_MAX};
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, Digest, OwnerToken, RunId, Shard, TaskKey, Timestamp, WorkerId};

use self::leases::LeaseRecord;
use super::{Append, AppendEntry, Created, Ownership, SchedulerView, StateError, StatusChange, WorkerView};

/// What ends a lease whose worker isn't heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ageing {
    /// The store's time: no heartbeat for the length of a lease. Owners of shards age the same way.
    ByTime,
    /// Only the hard deadline. Store and workers are one process and end together, and a laptop that slept
    /// must find its work as it left it. A shard stays its owner's until another asks for it.
    ByDeadline,
}

/// What all shards of a store know.
#[derive(Clone, Debug)]
pub struct StoreModel {
    ageing: Ageing,
    shards: BTreeMap<Shard, ShardModel>,
    workers: BTreeMap<WorkerId, WorkerView>,
    /// When each scheduler was heard of, and what it said.
    schedulers: BTreeMap<u64, (Timestamp, SchedulerView)>,
    /// When workers that went silent were last forgotten.
    pruned: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct ShardModel {
    owner: Option<Owner>,
    inbox: BTreeMap<InboxId, InboxEntry>,
    /// The last id given out; ids go up even when the inbox has been emptied or the clock went back.
    last: InboxId,
    runs: BTreeMap<RunId, RunModel>,
    /// How many of them are open or closing.
    active: usize,
    /// When open leases may end.
    due: BTreeSet<(Timestamp, AttemptRef)>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    token: OwnerToken,
    until: Timestamp,
}

#[derive(Clone, Debug)]
struct RunModel {
    head: RunHead,
    settled: Bits,
    /// When a success was last recorded.
    settled_at: Timestamp,
    leases: BTreeMap<TaskKey, LeaseRecord>,
}

/// Where a run's journal ends, and whether the run is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHead {
    /// The position of the last entry.
    pub position: u64,
    /// The number of the append that wrote it.
    pub append: u64,
    pub state: RunState,
}

/// Whether attempts of a run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    Open,
    /// It is being cancelled: what runs goes on until it is revoked, nothing new begins.
    Closing,
    Ended(RunStatus),
}

impl RunState {
    /// How it ended; nothing while it is open or closing.
    pub fn ended(self) -> Option<RunStatus> {
        match self {
            RunState::Ended(status) => Some(status),
            RunState::Open | RunState::Closing => None,
        }
    }
}

/// An idempotency key that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub run: RunId,
    pub submission: Digest,
    pub at: Timestamp,
}

/// The first moment from which an idempotency key is still remembered.
pub fn keys_remembered_from(now: Timestamp) -> Timestamp {
    const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
    Timestamp(now.0.saturating_sub(RUN_RECORD_DAYS * DAY_MS))
}

/// What a submission comes to when its key was used before, or its run exists; nothing when it is new.
pub fn submitted_before(
    key: Option<KeyUse>,
    submission: Option<Digest>,
    existing: Option<RunId>,
    now: Timestamp,
) -> Option<Created> {
    match key.filter(|key| key.at >= keys_remembered_from(now)) {
        Some(key) if Some(key.submission) == submission => Some(Created::Existing(key.run)),
        Some(key) => Some(Created::KeyTaken(key.run)),
        None => existing.map(Created::Existing),
    }
}

impl StoreModel {
    /// A store in which nothing has happened yet.
    pub fn new(ageing: Ageing) -> StoreModel {
        StoreModel {
            ageing,
            shards: BTreeMap::new(),
            workers: BTreeMap::new(),
            schedulers: BTreeMap::new(),
            pruned: Timestamp(0),
        }
    }

    fn shard(&self, shard: Shard) -> Option<&ShardModel> {
        self.shards.get(&shard)
    }

    fn shard_mut(&mut self, shard: Shard) -> &mut ShardModel {
        self.shards.entry(shard).or_default()
    }

    /// Takes or keeps the right to write to a shard.
    pub fn own(&mut self, shard: Shard, token: OwnerToken, ttl: Duration, now: Timestamp) -> Ownership {
        let ageing = self.ageing;
        let owner = &mut self.shard_mut(shard).owner;
        let new = match *owner {
            Some(held) if held.token == token => ageing == Ageing::ByTime && held.until <= now,
            Some(held) if held.until > now => return Ownership::HeldBy(held.token),
            _ => true,
        };
        *owner = Some(Owner { token, until: now + ttl });
        Ownership::Owned { new }
    }

    /// Gives a shard up, if it is `token` that has it.
    pub fn disown(&mut self, shard: Shard, token: OwnerToken) {
        let owner = &mut self.shard_mut(shard).owner;
        if owner.is_some_and(|held| held.token == token) {
            *owner = None;
        }
    }

    /// Who was last given the right to write to a shard.
    pub fn owner(&self, shard: Shard) -> Option<OwnerToken> {
        self.shard(shard).and_then(|state| state.owner).map(|owner| owner.token)
    }

    fn check_owner(&self, shard: Shard, token: OwnerToken, now: Timestamp) -> Result<(), StateError> {
        let owner = self.shard(shard).and_then(|state| state.owner);
        let owns =
            owner.is_some_and(|held| held.token == token && (self.ageing == Ageing::ByDeadline || held.until > now));
        if owns { Ok(()) } else { Err(StateError::Deposed { shard }) }
    }

    /// Whether another run may be made in its shard.
    pub fn check_create(&self, run: RunId) -> Result<(), StateError> {
        self.check_inbox(run.shard())?;
        let active = self.shard(run.shard()).map_or(0, |shard| shard.active);
        if active >= ACTIVE_RUNS_MAX {
            return Err(StateError::TooMany {
                what: format!("shard {} has {active} active runs", run.shard()),
                limit: ACTIVE_RUNS_MAX,
            });
        }
        Ok(())
    }

    /// Makes a run whose first entry was written, and says so in the inbox.
    pub fn create(&mut self, run: RunId, now: Timestamp) {
        self.insert_run(run, RunHead { position: 1, append: 0, state: RunState::Open });
        self.shard_mut(run.shard()).push(now, InboxEvent::Created { run });
    }

    /// Puts in a run that was made before, as a store on a disk does when it is opened.
    pub fn insert_run(&mut self, run: RunId, head: RunHead) {
        let shard = self.shard_mut(run.shard());
        let model = RunModel { head, settled: Bits::default(), settled_at: Timestamp(0), leases: BTreeMap::new() };
        shard.active += usize::from(head.state.ended().is_none());
        if let Some(before) = shard.runs.insert(run, model) {
            shard.active -= usize::from(before.head.state.ended().is_none());
        }
    }

    /// Takes out a run that has ended; a store on a disk has all that is known of it.
    pub fn forget_ended(&mut self, run: RunId) {
        let shard = self.shard_mut(run.shard());
        if shard.runs.get(&run).is_some_and(|model| model.head.state.ended().is_some()) {
            shard.runs.remove(&run);
        }
    }

    /// Where a run's journal ends.
    pub fn head(&self, run: RunId) -> Option<RunHead> {
        self.run(run).map(|model| model.head)
    }

    fn run(&self, run: RunId) -> Option<&RunModel> {
        self.shard(run.shard()).and_then(|shard| shard.runs.get(&run))
    }

    /// Whether the inbox of a shard takes another event from outside.
    pub fn check_inbox(&self, shard: Shard) -> Result<(), StateError> {
        let waiting = self.shard(shard).map_or(0, |state| state.inbox.len());
        if waiting >= INBOX_MAX {
            return Err(StateError::TooMany {
                what: format!("the inbox of shard {shard} has {waiting} entries"),
                limit: INBOX_MAX,
            });
        }
        Ok(())
    }

    /// Puts an event into a shard's inbox. Whoever calls has asked [`StoreModel::check_inbox`].
    pub fn post(&mut self, shard: Shard, event: InboxEvent, now: Timestamp) -> InboxId {
        self.shard_mut(shard).push(now, event)
    }

    /// The last id that the inbox of a shard gave out.
    pub fn last_inbox_id(&self, shard: Shard) -> InboxId {
        self.shard(shard).map_or(InboxId::default(), |state| state.last)
    }

    /// How many entries the inbox of a shard holds.
    pub fn inbox_len(&self, shard: Shard) -> usize {
        self.shard(shard).map_or(0, |state| state.inbox.len())
    }

    /// Takes an entry out of an inbox, whose owner knows nothing of it: a fault, for the simulator.
    pub fn drop_entry(&mut self, shard: Shard, id: InboxId) {
        self.shard_mut(shard).inbox.remove(&id);
    }

    /// Entries of inboxes after the given places, at most `limit` a shard.
    pub fn inbox(&self, after: &[(Shard, InboxId)], limit: usize) -> Vec<(Shard, InboxEntry)> {
        let mut found = Vec::new();
        for &(at, after) in after {
            let Some(shard) = self.shard(at) else { continue };
            let entries = shard.inbox.range((Bound::Excluded(after), Bound::Unbounded)).take(limit);
            found.extend(entries.map(|(_, entry)| (at, entry.clone())));
        }
        found
    }

    /// Says which entries of an append are to be written (by their place in it), or why none may be.
    ///
    /// All is checked before anything is written, so that an append is done whole or not at all. Entries of
    /// a run whose head is already theirs are left out: they were written by an earlier call of the same
    /// append.
    pub fn check_append(&self, append: &Append, now: Timestamp) -> Result<Vec<usize>, StateError> {
        self.check_owner(append.shard, append.token, now)?;
        let mut heads: BTreeMap<RunId, Option<u64>> = BTreeMap::new();
        let mut write = Vec::with_capacity(append.entries.len());
        for (place, entry) in append.entries.iter().enumerate() {
            if let Some(&index) = entry.settled.iter().find(|&&index| index >= RUN_TASKS_MAX) {
                return Err(StateError::TooMany {
                    what: format!("`{}` has no task with index {index}", entry.run),
                    limit: RUN_TASKS_MAX as usize,
                });
            }
            let head = match heads.get(&entry.run) {
                Some(&head) => head,
                None => {
                    let head = self.head_before(append, entry)?;
                    heads.insert(entry.run, head);
                    head
                }
            };
            // Without a head to build on, the run's entries are written already.
            let Some(head) = head else { continue };
            if head.checked_add(1) != Some(entry.position) {
                let expected = entry.position.saturating_sub(1);
                return Err(StateError::Moved { run: entry.run, expected, found: head });
            }
            heads.insert(entry.run, Some(entry.position));
            write.push(place);
        }
        Ok(write)
    }

    /// The head that the first entry of a run must follow; nothing when this append was done for the run.
    fn head_before(&self, append: &Append, first: &AppendEntry) -> Result<Option<u64>, StateError> {
        let known = (first.run.shard() == append.shard).then(|| self.head(first.run)).flatten();
        let head =
            known.ok_or_else(|| StateError::NotFound { what: format!("`{}` in shard {}", first.run, append.shard) })?;
        let last = append.entries.iter().filter(|entry| entry.run == first.run).map(|entry| entry.position).max();
        let done = last == Some(head.position) && head.append == append.id;
        Ok((!done).then_some(head.position))
    }

    /// Makes a checked append true: heads, settled tasks and statuses of the entries at the places in
    /// `write`, and what it consumed.
    pub fn apply_append(&mut self, append: &Append, write: &[usize], now: Timestamp) {
        let shard = self.shard_mut(append.shard);
        for id in &append.consumed {
            shard.inbox.remove(id);
        }
        for entry in write.iter().filter_map(|&place| append.entries.get(place)) {
            shard.apply_entry(append.id, entry, now);
        }
    }
}

impl ShardModel {
    fn push(&mut self, now: Timestamp, event: InboxEvent) -> InboxId {
        let id = if now.0 > self.last.ms || (left_out(Twin::InboxIdsGoUp) && now.0 < self.last.ms) {
            InboxId { ms: now.0, seq: 0 }
        } else {
            InboxId { ms: self.last.ms, seq: self.last.seq + 1 }
        };
        self.last = id;
        self.inbox.insert(id, InboxEntry { id, at: now, event });
        id
    }

    fn apply_entry(&mut self, append: u64, entry: &AppendEntry, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&entry.run) else { return };
        run.head.position = entry.position;
        run.head.append = append;
        let was_active = run.head.state.ended().is_none();
        match entry.status {
            StatusChange::None => {}
            StatusChange::Closing => run.head.state = RunState::Closing,
            StatusChange::Reopened => run.head.state = RunState::Open,
            StatusChange::Ended(status) => {
                run.head.state = RunState::Ended(status);
                run.settled = Bits::default();
                self.due.retain(|(_, attempt)| attempt.run != entry.run);
                // What is known of attempts stays: after a resume a message of an old one may still come.
                run.leases.values_mut().for_each(|record| record.close_with_run(now));
            }
        }
        let is_active = run.head.state.ended().is_none();
        if is_active {
            for &index in &entry.settled {
                run.settle(index, now);
            }
        }
        self.active = self.active + usize::from(is_active) - usize::from(was_active);
    }
}

impl RunModel {
    /// Records a success. Records of attempts that have ended say nothing more beside it and would add up
    /// to a million in a large run; one that is still worked on stays, to be closed.
    fn settle(&mut self, index: u32, now: Timestamp) {
        self.settled.insert(index);
        self.settled_at = now;
        let all = TaskKey { index, tag: 0 }..=TaskKey { index, tag: u32::MAX };
        let over: Vec<TaskKey> =
            self.leases.range(all).filter(|(_, record)| !record.is_open()).map(|(&task, _)| task).collect();
        for task in over {
            self.leases.remove(&task);
        }
    }
}

/// A set of task indexes, one bit each.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn insert(&mut self, index: u32) {
        let word = index as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }

    fn contains(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}
