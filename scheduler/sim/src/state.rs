//! One process's way to the simulated store: the verbs of the seam, as calls that travel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_backends::state::{
    Append, AppendEntry, Claim, ClaimAnswer, Claimed, Created, Document, Finish, FinishAnswer, JournalEntry, LeaseView,
    NewRun, Ownership, Renewal, Renewed, RunFilter, RunPage, RunRecord, SchedulerView, State, StateError, StoreClock,
    WorkerView,
};
use gristmill_protocol::fact::JournalBody;
use gristmill_protocol::message::{InboxEntry, InboxEvent, InboxId};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, Timestamp, WorkerId, wire};

use crate::books::entry_of;
use crate::process::Process;
use crate::store::{Effect, SimStore};

/// The store as one process sees it.
#[derive(Clone, Debug)]
pub struct SimState {
    store: Arc<SimStore>,
    process: Arc<Process>,
}

impl SimState {
    pub fn new(store: Arc<SimStore>, process: Arc<Process>) -> SimState {
        SimState { store, process }
    }

    async fn call<T: Send + 'static>(
        &self,
        verb: &'static str,
        effect: impl FnOnce(Effect<'_>) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        self.store.call(&self.process, verb, effect).await
    }

    /// A call after which an inbox may have news.
    async fn happen<T: Send + 'static>(
        &self,
        verb: &'static str,
        effect: impl FnOnce(Effect<'_>) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let store = self.store.clone();
        let effect = move |at: Effect<'_>| {
            let result = effect(at);
            store.tell_news();
            result
        };
        self.call(verb, effect).await
    }
}

/// The newest entry of a shard's inbox, if it is newer than `before`.
fn newest(effect: &Effect<'_>, shard: Shard, before: InboxId) -> Option<InboxEntry> {
    effect.inner.store.inbox(&[(shard, before)], usize::MAX).pop().map(|(_, entry)| entry)
}

fn last_id(effect: &Effect<'_>, shard: Shard) -> InboxId {
    effect.inner.store.model().last_inbox_id(shard)
}

fn append(effect: Effect<'_>, mut append: Append) -> Result<(), StateError> {
    let token = append.token;
    if left_out(Twin::AppendChecksOwner)
        && let Some(owner) = effect.inner.store.model().owner(append.shard)
    {
        append.token = owner;
    }
    let events: Vec<InboxEntry> =
        append.consumed.iter().filter_map(|id| entry_of(&effect.inner.store, append.shard, *id)).collect();
    if left_out(Twin::AppendChecksHead) {
        // A stream takes any id that is greater than its last one; what is not greater is dropped.
        let store = &effect.inner.store;
        let mut heads = std::collections::BTreeMap::new();
        append.entries.retain_mut(|entry| {
            let head = heads.entry(entry.run).or_insert_with(|| store.run(entry.run).map_or(0, |run| run.head));
            let greater = entry.position > *head;
            if greater {
                *head += 1;
                entry.position = *head;
            }
            greater
        });
    }
    let heads: Vec<Option<u64>> =
        append.entries.iter().map(|entry| effect.inner.store.run(entry.run).map(|run| run.head)).collect();
    effect.inner.store.append(&append, effect.now)?;
    effect.inner.check_owner("appends to", append.shard, token);
    let is_new = |(entry, head): (&AppendEntry, &Option<u64>)| head.is_some_and(|head| entry.position > head);
    let new: Vec<bool> = append.entries.iter().zip(&heads).map(is_new).collect();
    let written: Vec<&AppendEntry> =
        append.entries.iter().zip(new).filter(|(_, new)| *new).map(|(entry, _)| entry).collect();
    let inner = effect.inner;
    for entry in &written {
        inner.trace.say(|| told(entry));
    }
    inner.books.appended(&inner.store, &written, &events, &mut inner.ledger);
    Ok(())
}

/// An entry as a line of the trace.
fn told(entry: &AppendEntry) -> String {
    let facts = match wire::decode::<JournalBody>("an entry", &entry.body) {
        Ok(body) => body.facts.iter().map(|fact| format!("\n           {fact:?}")).collect(),
        Err(error) => error.to_string(),
    };
    format!("{} has entry {}:{facts}", entry.run, entry.position)
}

fn claim(effect: Effect<'_>, claim: &Claim) -> Result<Claimed, StateError> {
    let store = &mut effect.inner.store;
    let before = store.leases(claim.shard, &claim.attempts.iter().map(|item| item.attempt).collect::<Vec<_>>());
    let mut claimed = store.claim(claim, effect.now);
    if let Claimed::Answers(answers) = &mut claimed {
        for ((item, answer), before) in claim.attempts.iter().zip(answers.iter_mut()).zip(before) {
            let left = match answer {
                ClaimAnswer::Settled => Twin::ClaimChecksSettled,
                ClaimAnswer::Over => Twin::ClaimChecksRun,
                ClaimAnswer::Taken => Twin::ClaimChecksHolder,
                _ => continue,
            };
            let exists = store.run(item.attempt.run).is_some();
            if left_out(left) && exists && !matches!(before, LeaseView::Held(_)) | (left == Twin::ClaimChecksHolder) {
                *answer = ClaimAnswer::Granted;
            }
        }
        effect.inner.books.claimed(claim, answers, &mut effect.inner.ledger);
    }
    Ok(claimed)
}

fn renew(effect: Effect<'_>, mut renewal: Renewal) -> Result<Renewed, StateError> {
    let inner = effect.inner;
    if left_out(Twin::RenewReestablishes) {
        let absent =
            |attempt: AttemptRef| inner.store.leases(attempt.run.shard(), &[attempt]) == [LeaseView::Unclaimed];
        let (gone, kept) = renewal.held.drain(..).partition(|held| absent(held.attempt));
        renewal.held = kept;
        let whole = Renewal { held: renewal.held.iter().chain(&gone).cloned().collect(), ..renewal.clone() };
        let mut renewed = inner.store.renew(renewal, effect.now);
        renewed.stop.extend(gone.into_iter().map(|held| held.attempt));
        inner.books.renewed(&whole, &renewed, &mut inner.ledger);
        return Ok(renewed);
    }
    let mut renewed = inner.store.renew(renewal.clone(), effect.now);
    inner.books.renewed(&renewal, &renewed, &mut inner.ledger);
    if left_out(Twin::RenewStops) {
        renewed.stop.clear();
    }
    Ok(renewed)
}

fn finish(effect: Effect<'_>, mut finish: Finish) -> Result<Vec<FinishAnswer>, StateError> {
    let inner = effect.inner;
    let whole = finish.clone();
    let before = inner.store.model().last_inbox_id(finish.shard);
    if left_out(Twin::FinishEndsLease) && inner.dice_says(100) {
        // The event goes in and the lease stays.
        let worker = finish.worker;
        let reports = std::mem::take(&mut finish.reports);
        inner.store.post(finish.shard, InboxEvent::Finished { worker, reports }, effect.now)?;
        return Ok(vec![FinishAnswer::Recorded; whole.reports.len()]);
    }
    let answers = inner.store.finish(finish, effect.now);
    let event = inner.store.inbox(&[(whole.shard, before)], 1).pop().map(|(_, entry)| entry.event);
    inner.books.finished(&whole, event.as_ref(), &mut inner.ledger);
    if left_out(Twin::FinishPutsEvent) && inner.dice_says(100) {
        let last = inner.store.model().last_inbox_id(whole.shard);
        if last != before {
            inner.store.drop_entry(whole.shard, last);
        }
    }
    Ok(answers)
}

fn owner_or(effect: &Effect<'_>, twin: Twin, shard: Shard, token: OwnerToken) -> OwnerToken {
    if left_out(twin) { effect.inner.store.model().owner(shard).unwrap_or(token) } else { token }
}

#[async_trait]
impl State for SimState {
    async fn clock(&self) -> Result<StoreClock, StateError> {
        let look = |at: Effect<'_>| {
            at.inner.looked(at.process);
            Ok(StoreClock { store: at.inner.store.id, now: at.now })
        };
        self.call("ask for the time", look).await
    }

    async fn own(&self, shard: Shard, token: OwnerToken, ttl: Duration) -> Result<Ownership, StateError> {
        let store = self.store.clone();
        let own = move |at: Effect<'_>| {
            let before = at.inner.store.model().owner(shard);
            let ownership = at.inner.store.own(shard, token, ttl, at.now);
            if before != Some(token)
                && matches!(ownership, Ownership::Owned { .. })
                && at.inner.owners_changed(shard, token)
            {
                store.look_after_publishing(Some(shard));
            }
            Ok(ownership)
        };
        self.call("own a shard", own).await
    }

    async fn disown(&self, shard: Shard, token: OwnerToken) -> Result<(), StateError> {
        let disown = move |at: Effect<'_>| {
            at.inner.store.disown(shard, token);
            Ok(())
        };
        self.call("give a shard up", disown).await
    }

    async fn create_run(&self, run: NewRun) -> Result<Created, StateError> {
        let create = move |at: Effect<'_>| {
            let (id, entry) = (run.run, run.entry.clone());
            let created = at.inner.store.create_run(run, at.now)?;
            if created == Created::New {
                at.inner.books.created(id, &entry, &mut at.inner.ledger);
            }
            Ok(created)
        };
        self.happen("make a run", create).await
    }

    async fn run(&self, run: RunId) -> Result<Option<RunRecord>, StateError> {
        self.call("look up a run", move |at| Ok(at.inner.store.run(run))).await
    }

    async fn find_runs(&self, filter: &RunFilter, before: Option<RunId>, limit: usize) -> Result<RunPage, StateError> {
        let filter = filter.clone();
        self.call("list runs", move |at| at.inner.store.find_runs(&filter, before, limit)).await
    }

    async fn ended_runs(&self, after: (Timestamp, RunId), limit: usize) -> Result<Vec<RunRecord>, StateError> {
        self.call("list ended runs", move |at| Ok(at.inner.store.ended_runs(after, limit, at.now))).await
    }

    async fn open_runs(&self, shard: Shard) -> Result<Vec<RunRecord>, StateError> {
        self.call("list open runs", move |at| Ok(at.inner.store.open_runs(shard))).await
    }

    async fn post(&self, shard: Shard, event: InboxEvent) -> Result<(), StateError> {
        self.happen("post an event", move |at| at.inner.store.post(shard, event, at.now)).await
    }

    async fn inbox(
        &self,
        after: &[(Shard, InboxId)],
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        self.store.read_inbox(&self.process, after.to_vec(), wait, limit).await
    }

    async fn append(&self, what: Append) -> Result<(), StateError> {
        self.call("append", move |at| append(at, what)).await
    }

    async fn journal(&self, run: RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        self.call("read a journal", move |at| Ok(at.inner.store.journal(run, after, limit))).await
    }

    async fn claim(&self, what: Claim) -> Result<Claimed, StateError> {
        self.call("claim", move |at| claim(at, &what)).await
    }

    async fn renew(&self, what: Renewal) -> Result<Renewed, StateError> {
        self.call("renew", move |at| renew(at, what)).await
    }

    async fn finish(&self, what: Finish) -> Result<Vec<FinishAnswer>, StateError> {
        self.happen("finish", move |at| finish(at, what)).await
    }

    async fn expire(&self, shard: Shard, token: OwnerToken, limit: usize) -> Result<usize, StateError> {
        let expire = move |at: Effect<'_>| {
            let used = owner_or(&at, Twin::ExpireChecksOwner, shard, token);
            let before = last_id(&at, shard);
            let count = at.inner.store.expire(shard, used, limit, at.now)?;
            at.inner.check_owner("may end leases of", shard, token);
            if let Some(entry) = newest(&at, shard, before) {
                at.inner.books.happened(&entry.event);
                at.inner.check_lost(&entry, at.process, at.sent);
            }
            Ok(count)
        };
        self.happen("expire", expire).await
    }

    async fn revoke(&self, shard: Shard, token: OwnerToken, attempts: &[AttemptRef]) -> Result<(), StateError> {
        let attempts = attempts.to_vec();
        let revoke = move |at: Effect<'_>| {
            let used = owner_or(&at, Twin::RevokeChecksOwner, shard, token);
            let before = last_id(&at, shard);
            at.inner.store.revoke(shard, used, &attempts, at.now)?;
            at.inner.check_owner("takes attempts back of", shard, token);
            if let Some(entry) = newest(&at, shard, before) {
                at.inner.books.happened(&entry.event);
            }
            Ok(())
        };
        self.happen("revoke", revoke).await
    }

    async fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Result<Vec<LeaseView>, StateError> {
        let attempts = attempts.to_vec();
        self.call("look up leases", move |at| Ok(at.inner.store.leases(shard, &attempts))).await
    }

    async fn workers(&self) -> Result<Vec<WorkerView>, StateError> {
        self.call("list workers", |at| Ok(at.inner.store.workers(at.now))).await
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StateError> {
        let leave = move |at: Effect<'_>| {
            at.inner.store.leave(worker);
            Ok(())
        };
        self.call("leave", leave).await
    }

    async fn announce(&self, scheduler: SchedulerView) -> Result<Vec<SchedulerView>, StateError> {
        self.call("announce", move |at| Ok(at.inner.store.announce(scheduler, at.now))).await
    }

    async fn schedulers(&self) -> Result<Vec<SchedulerView>, StateError> {
        self.call("list schedulers", |at| Ok(at.inner.store.schedulers(at.now))).await
    }

    async fn retire(&self, instance: u64) -> Result<(), StateError> {
        let retire = move |at: Effect<'_>| {
            at.inner.store.retire(instance);
            Ok(())
        };
        self.call("retire", retire).await
    }

    async fn get(&self, key: &str) -> Result<Option<Document>, StateError> {
        let key = key.to_owned();
        self.call("read a document", move |at| Ok(at.inner.store.get(&key))).await
    }

    async fn put(&self, key: &str, expected: u64, body: Vec<u8>) -> Result<u64, StateError> {
        let key = key.to_owned();
        self.call("write a document", move |at| at.inner.store.put(&key, expected, body)).await
    }

    async fn delete(&self, key: &str, expected: u64) -> Result<(), StateError> {
        let key = key.to_owned();
        self.call("remove a document", move |at| at.inner.store.delete(&key, expected)).await
    }

    async fn keys(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, StateError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.call("list documents", move |at| Ok(at.inner.store.keys(&prefix, &after, limit))).await
    }

    async fn log_append(&self, log: &str, position: u64, token: u64, body: Vec<u8>) -> Result<(), StateError> {
        let log = log.to_owned();
        self.call("append to a log", move |at| at.inner.store.log_append(&log, position, token, body, at.now)).await
    }

    async fn log_read(&self, log: &str, after: u64, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        let log = log.to_owned();
        self.call("read a log", move |at| Ok(at.inner.store.log_read(&log, after, limit))).await
    }

    async fn logs(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let prefix = prefix.to_owned();
        self.call("list logs", move |at| Ok(at.inner.store.logs(&prefix))).await
    }
}
