//! A whole store in memory: the model of the verbs, with journals, documents and logs beside it.
//!
//! [`MemoryStore`] is plain data: the simulator copies it and puts the copy back, which is a store that went
//! back in time. [`SharedMemory`] is the same behind the [`State`] trait, with a clock that is set by hand.
//! Nothing here outlives the process; what does is in [`super::embedded`].

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, Timestamp, WorkerId};
use tokio::sync::Notify;

use super::model::{Ageing, KeyUse, StoreModel, keys_remembered_from, submitted_before};
use super::{
    Append, Claim, Claimed, Created, Document, Finish, FinishAnswer, JournalEntry, LeaseView, NewRun, Ownership,
    Renewal, Renewed, RunFilter, RunPage, RunRecord, SchedulerView, State, StateError, StoreClock, StoreId, WorkerView,
    page_size,
};

/// A store as a value. Each verb of [`State`] is a method here, with the time as an argument.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    /// Which life of the store this is.
    pub id: StoreId,
    model: StoreModel,
    records: BTreeMap<RunId, RunRecord>,
    journals: BTreeMap<RunId, Vec<JournalEntry>>,
    keys: BTreeMap<(String, String), KeyUse>,
    documents: BTreeMap<String, Document>,
    /// The last version given to a document: a document that is made again doesn't get an old version.
    version: u64,
    logs: BTreeMap<String, Vec<JournalEntry>>,
}

impl MemoryStore {
    /// A store in which nothing has happened yet.
    pub fn new(id: StoreId, ageing: Ageing) -> MemoryStore {
        MemoryStore {
            id,
            model: StoreModel::new(ageing),
            records: BTreeMap::new(),
            journals: BTreeMap::new(),
            keys: BTreeMap::new(),
            documents: BTreeMap::new(),
            version: 0,
            logs: BTreeMap::new(),
        }
    }

    /// Takes an entry out of an inbox, whose owner knows nothing of it: a fault, for the simulator.
    pub fn drop_entry(&mut self, shard: Shard, id: InboxId) {
        self.model.drop_entry(shard, id);
    }

    /// The model, for checks that look behind the verbs.
    pub fn model(&self) -> &StoreModel {
        &self.model
    }

    /// See [`State::own`].
    pub fn own(&mut self, shard: Shard, token: OwnerToken, ttl: Duration, now: Timestamp) -> Ownership {
        self.model.own(shard, token, ttl, now)
    }

    /// See [`State::disown`].
    pub fn disown(&mut self, shard: Shard, token: OwnerToken) {
        self.model.disown(shard, token);
    }

    /// See [`State::create_run`].
    pub fn create_run(&mut self, new: NewRun, now: Timestamp) -> Result<Created, StateError> {
        let run = new.run;
        let key = new.idempotency.as_ref().map(|(key, _)| (new.namespace.clone(), key.clone()));
        let known = key.as_ref().and_then(|key| self.keys.get(key).copied());
        let submission = new.idempotency.as_ref().map(|(_, submission)| *submission);
        let existing = self.records.contains_key(&run).then_some(run);
        if let Some(before) = submitted_before(known, submission, existing, now) {
            return Ok(before);
        }
        self.model.check_create(run)?;
        self.keys.retain(|_, used| used.at >= keys_remembered_from(now));
        if let (Some(key), Some(submission)) = (key, submission) {
            self.keys.insert(key, KeyUse { run, submission, at: now });
        }
        let record = RunRecord {
            run,
            pipeline: new.pipeline,
            namespace: new.namespace,
            status: None,
            created: now,
            ended: None,
            head: 1,
        };
        self.records.insert(run, record);
        self.journals.insert(run, vec![JournalEntry { position: 1, append: 0, at: now, body: new.entry }]);
        self.model.create(run, now);
        Ok(Created::New)
    }

    /// See [`State::run`].
    pub fn run(&self, run: RunId) -> Option<RunRecord> {
        self.records.get(&run).cloned()
    }

    /// See [`State::runs`].
    pub fn runs(&self, before: Option<RunId>, limit: usize) -> Vec<RunRecord> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((Bound::Unbounded, end)).rev().take(limit).map(|(_, record)| record.clone()).collect()
    }

    /// See [`State::find_runs`]. It looks at all runs: what others find by an index is compared with it.
    ///
    /// # Errors
    /// For too many namespaces.
    pub fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError> {
        let (filter, limit) = (filter.checked()?, page_size(limit));
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let fitting = self.records.range((Bound::Unbounded, end)).rev().filter(|(_, record)| filter.fits(record));
        let mut records: Vec<RunRecord> = fitting.take(limit + 1).map(|(_, record)| record.clone()).collect();
        let is_whole = records.len() <= limit;
        records.truncate(limit);
        let next = records.last().filter(|_| !is_whole).map(|last| last.run);
        Ok(RunPage { records, next })
    }

    /// See [`State::ended_runs`].
    pub fn ended_runs(&self, after: (Timestamp, RunId), limit: usize, now: Timestamp) -> Vec<RunRecord> {
        let place = |record: &RunRecord| record.ended.map(|ended| (ended, record.run));
        let is_told = |record: &&RunRecord| place(record).is_some_and(|place| place > after && place.0 < now);
        let mut ended: Vec<RunRecord> = self.records.values().filter(is_told).cloned().collect();
        ended.sort_by_key(place);
        ended.truncate(page_size(limit));
        ended
    }

    /// See [`State::open_runs`].
    pub fn open_runs(&self, shard: Shard) -> Vec<RunRecord> {
        let mut open: Vec<RunRecord> = self
            .records
            .values()
            .filter(|record| record.run.shard() == shard && record.status.is_none())
            .cloned()
            .collect();
        open.sort_by_key(|record| (record.head, record.run));
        open
    }

    /// See [`State::post`].
    pub fn post(&mut self, shard: Shard, event: InboxEvent, now: Timestamp) -> Result<(), StateError> {
        self.model.check_inbox(shard)?;
        self.model.post(shard, event, now);
        Ok(())
    }

    /// See [`State::inbox`]; answers at once.
    pub fn inbox(&self, after: &[(Shard, InboxId)], limit: usize) -> Vec<(Shard, InboxEntry)> {
        self.model.inbox(after, limit)
    }

    /// See [`State::append`].
    pub fn append(&mut self, append: &Append, now: Timestamp) -> Result<(), StateError> {
        let write = self.model.check_append(append, now)?;
        self.model.apply_append(append, &write, now);
        for entry in write.iter().filter_map(|&place| append.entries.get(place)) {
            self.journals.entry(entry.run).or_default().push(JournalEntry {
                position: entry.position,
                append: append.id,
                at: now,
                body: entry.body.clone(),
            });
            let (Some(record), Some(head)) = (self.records.get_mut(&entry.run), self.model.head(entry.run)) else {
                continue;
            };
            record.head = head.position;
            let status = head.state.ended();
            if record.status != status {
                record.status = status;
                record.ended = status.map(|_| now);
            }
        }
        Ok(())
    }

    /// See [`State::journal`].
    pub fn journal(&self, run: RunId, after: u64, limit: usize) -> Vec<JournalEntry> {
        self.journals.get(&run).map(|entries| entries_after(entries, after, limit)).unwrap_or_default()
    }

    /// See [`State::claim`].
    pub fn claim(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        self.model.claim(claim, now)
    }

    /// See [`State::renew`].
    pub fn renew(&mut self, renewal: Renewal, now: Timestamp) -> Renewed {
        let stop = self.model.renew(renewal, now);
        Renewed { clock: StoreClock { store: self.id, now }, stop }
    }

    /// See [`State::finish`].
    pub fn finish(&mut self, finish: Finish, now: Timestamp) -> Vec<FinishAnswer> {
        self.model.finish(finish, now)
    }

    /// See [`State::expire`].
    pub fn expire(
        &mut self,
        shard: Shard,
        token: OwnerToken,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StateError> {
        self.model.expire(shard, token, limit, now)
    }

    /// See [`State::revoke`].
    pub fn revoke(
        &mut self,
        shard: Shard,
        token: OwnerToken,
        attempts: &[AttemptRef],
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.model.revoke(shard, token, attempts, now)
    }

    /// See [`State::leases`].
    pub fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Vec<LeaseView> {
        self.model.leases(shard, attempts)
    }

    /// See [`State::workers`].
    pub fn workers(&self, now: Timestamp) -> Vec<WorkerView> {
        self.model.workers(now)
    }

    /// See [`State::leave`].
    pub fn leave(&mut self, worker: WorkerId) {
        self.model.leave(worker);
    }

    /// See [`State::announce`].
    pub fn announce(&mut self, scheduler: SchedulerView, now: Timestamp) -> Vec<SchedulerView> {
        self.model.announce(scheduler, now)
    }

    /// See [`State::schedulers`].
    pub fn schedulers(&self, now: Timestamp) -> Vec<SchedulerView> {
        self.model.schedulers(now)
    }

    /// See [`State::retire`].
    pub fn retire(&mut self, instance: u64) {
        self.model.retire(instance);
    }

    /// See [`State::get`].
    pub fn get(&self, key: &str) -> Option<Document> {
        self.documents.get(key).cloned()
    }

    /// See [`State::put`].
    pub fn put(&mut self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError> {
        self.check_document(key, expected)?;
        self.version += 1;
        self.documents.insert(key.to_owned(), Document { version: self.version, body });
        Ok(self.version)
    }

    /// See [`State::delete`].
    pub fn delete(&mut self, key: &str, expected: u64) -> Result<(), StateError> {
        self.check_document(key, expected)?;
        self.documents.remove(key);
        Ok(())
    }

    fn check_document(&self, key: &str, expected: u64) -> Result<(), StateError> {
        let found = self.documents.get(key).map_or(0, |document| document.version);
        if found == expected { Ok(()) } else { Err(StateError::Conflict { key: key.to_owned(), expected, found }) }
    }

    /// See [`State::keys`].
    pub fn keys(&self, prefix: &str, after: &str, limit: usize) -> Vec<String> {
        starting_with(&self.documents, prefix).filter(|key| key.as_str() > after).take(limit).cloned().collect()
    }

    /// See [`State::log_append`].
    pub fn log_append(
        &mut self,
        log: &str,
        position: u64,
        token: u64,
        body: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        let entries = self.logs.get(log).map_or(&[][..], Vec::as_slice);
        let same = entries.iter().find(|entry| entry.position == position).is_some_and(|entry| entry.append == token);
        if same {
            return Ok(());
        }
        let found = entries.len() as u64;
        if position != found + 1 {
            return Err(StateError::Conflict { key: log.to_owned(), expected: position.saturating_sub(1), found });
        }
        let entry = JournalEntry { position, append: token, at: now, body };
        self.logs.entry(log.to_owned()).or_default().push(entry);
        Ok(())
    }

    /// See [`State::log_read`].
    pub fn log_read(&self, log: &str, after: u64, limit: usize) -> Vec<JournalEntry> {
        self.logs.get(log).map(|entries| entries_after(entries, after, limit)).unwrap_or_default()
    }

    /// See [`State::logs`].
    pub fn logs(&self, prefix: &str) -> Vec<String> {
        starting_with(&self.logs, prefix).cloned().collect()
    }
}

/// Entries stand at their position less one.
fn entries_after(entries: &[JournalEntry], after: u64, limit: usize) -> Vec<JournalEntry> {
    let start = usize::try_from(after).unwrap_or(usize::MAX).min(entries.len());
    entries[start..].iter().take(limit).cloned().collect()
}

fn starting_with<'a, T>(map: &'a BTreeMap<String, T>, prefix: &'a str) -> impl Iterator<Item = &'a String> {
    map.range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .map(|(key, _)| key)
        .take_while(move |key| key.starts_with(prefix))
}

/// A [`MemoryStore`] that tasks of one process share, with a clock that stands still until it is set.
#[derive(Debug)]
pub struct SharedMemory {
    inner: Mutex<Inner>,
    /// Wakes those who wait for an inbox.
    news: Notify,
}

#[derive(Debug)]
struct Inner {
    store: MemoryStore,
    now: Timestamp,
}

impl SharedMemory {
    /// Shares a store, at a time.
    pub fn new(store: MemoryStore, now: Timestamp) -> SharedMemory {
        SharedMemory { inner: Mutex::new(Inner { store, now }), news: Notify::new() }
    }

    /// Sets the store's clock; it may go back, as real ones do.
    pub fn set_now(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut inner = self.lock();
        inner.now = inner.now + by;
    }

    /// The whole store as it is.
    pub fn snapshot(&self) -> MemoryStore {
        self.lock().store.clone()
    }

    /// Puts another store in its place: with an earlier copy under a new id, a store that went back.
    pub fn restore(&self, store: MemoryStore) {
        self.lock().store = store;
        self.news.notify_waiters();
    }

    /// Looks at the store as it is.
    pub fn inspect<T>(&self, look: impl FnOnce(&MemoryStore, Timestamp) -> T) -> T {
        let inner = self.lock();
        look(&inner.store, inner.now)
    }

    fn change<T>(&self, change: impl FnOnce(&mut MemoryStore, Timestamp) -> T) -> T {
        let mut inner = self.lock();
        let now = inner.now;
        change(&mut inner.store, now)
    }

    /// Changes the store in a way that may put something into an inbox.
    fn happen<T>(&self, change: impl FnOnce(&mut MemoryStore, Timestamp) -> T) -> T {
        let result = self.change(change);
        self.news.notify_waiters();
        result
    }

    /// A panic while the lock was held came from a check between verbs; each verb is whole or not begun.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl State for SharedMemory {
    async fn clock(&self) -> Result<StoreClock, StateError> {
        Ok(self.inspect(|store, now| StoreClock { store: store.id, now }))
    }

    async fn own(&self, shard: Shard, token: OwnerToken, ttl: Duration) -> Result<Ownership, StateError> {
        Ok(self.change(|store, now| store.own(shard, token, ttl, now)))
    }

    async fn disown(&self, shard: Shard, token: OwnerToken) -> Result<(), StateError> {
        self.change(|store, _| store.disown(shard, token));
        Ok(())
    }

    async fn create_run(&self, run: NewRun) -> Result<Created, StateError> {
        self.happen(|store, now| store.create_run(run, now))
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StateError> {
        Ok(self.inspect(|store, _| store.run(run)))
    }

    async fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError> {
        self.inspect(|store, _| store.find_runs(filter, before, limit))
    }

    async fn ended_runs(&self, after: (Timestamp, RunId), limit: usize) -> Result<Vec<RunRecord>, StateError> {
        Ok(self.inspect(|store, now| store.ended_runs(after, limit, now)))
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRecord>, StateError> {
        Ok(self.inspect(|store, _| store.open_runs(shard)))
    }

    async fn post(&self, shard: Shard, event: InboxEvent) -> Result<(), StateError> {
        self.happen(|store, now| store.post(shard, event, now))
    }

    async fn inbox(
        &self,
        after: &[(Shard, InboxId)],
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        let end = tokio::time::Instant::now() + wait;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // Listening starts before looking, so that nothing falls in between.
            news.as_mut().enable();
            let entries = self.inspect(|store, _| store.inbox(after, limit));
            if !entries.is_empty() || tokio::time::timeout_at(end, news).await.is_err() {
                return Ok(entries);
            }
        }
    }

    async fn append(&self, append: Append) -> Result<(), StateError> {
        self.change(|store, now| store.append(&append, now))
    }

    async fn journal(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        Ok(self.inspect(|store, _| store.journal(run, after, limit)))
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, StateError> {
        Ok(self.change(|store, now| store.claim(&claim, now)))
    }

    async fn renew(&self, renewal: Renewal) -> Result<Renewed, StateError> {
        Ok(self.change(|store, now| store.renew(renewal, now)))
    }

    async fn finish(&self, finish: Finish) -> Result<Vec<FinishAnswer>, StateError> {
        Ok(self.happen(|store, now| store.finish(finish, now)))
    }

    async fn expire(&self, shard: Shard, token: OwnerToken, limit: usize) -> Result<usize, StateError> {
        self.happen(|store, now| store.expire(shard, token, limit, now))
    }

    async fn revoke(&self, shard: Shard, token: OwnerToken, attempts: &[AttemptRef]) -> Result<(), StateError> {
        self.happen(|store, now| store.revoke(shard, token, attempts, now))
    }

    async fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Result<Vec<LeaseView>, StateError> {
        Ok(self.inspect(|store, _| store.leases(shard, attempts)))
    }

    async fn workers(&self) -> Result<Vec<WorkerView>, StateError> {
        Ok(self.inspect(|store, now| store.workers(now)))
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StateError> {
        self.change(|store, _| store.leave(worker));
        Ok(())
    }

    async fn announce(&self, scheduler: SchedulerView) -> Result<Vec<SchedulerView>, StateError> {
        Ok(self.change(|store, now| store.announce(scheduler, now)))
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerView>, StateError> {
        Ok(self.inspect(|store, now| store.schedulers(now)))
    }

    async fn retire(&self, instance: u64) -> Result<(), StateError> {
        self.change(|store, _| store.retire(instance));
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Option<Document>, StateError> {
        Ok(self.inspect(|store, _| store.get(key)))
    }

    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError> {
        self.change(|store, _| store.put(key, expected, body))
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<(), StateError> {
        self.change(|store, _| store.delete(key, expected))
    }

    async fn keys(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StateError> {
        Ok(self.inspect(|store, _| store.keys(prefix, after, limit)))
    }

    async fn log_append(&self, log: &str, position: u64, token: u64, body: Vec<u8>) -> Result<(), StateError> {
        self.change(|store, now| store.log_append(log, position, token, body, now))
    }

    async fn log_read(&self, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        Ok(self.inspect(|store, _| store.log_read(log, after, limit)))
    }

    async fn logs(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        Ok(self.inspect(|store, _| store.logs(prefix)))
    }
}
