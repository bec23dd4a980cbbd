//! The simulated store: the model of the verbs behind a network that is slow, breaks and forgets to answer.
//!
//! A verb's request travels on its own: whoever sent it may be dead or asleep when it takes effect, and its
//! answer may come after the caller has given up. The store can be down, can come back as it was up to two
//! seconds ago, and its clock can be set. It keeps [`Books`] beside its state and says what is wrong at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gristmill_backends::state::memory::MemoryStore;
use gristmill_backends::state::model::Ageing;
use gristmill_backends::state::{StateError, StoreId};
use gristmill_protocol::limits::LEASE_MS;
use gristmill_protocol::message::{InboxEntry, InboxId};
use gristmill_protocol::{AttemptRef, OwnerToken, Shard, Timestamp, WorkerId};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::after::{Lost, LostEntry};
use crate::books::{Books, Ledger, lost};
use crate::dice::Dice;
use crate::process::{Blow, Moment, Process};
use crate::trace::Trace;

/// The store's time when an execution begins.
pub const BEGIN: Timestamp = Timestamp(1_700_000_000_000);
/// Milliseconds after which a worker that lives and reaches the store can't have been lost: a lease, the
/// longest call, and the pause between two heartbeats.
const LOST_NEEDS_MS: u64 = LEASE_MS + 4_000;

/// How bad the network is, in calls of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Calls that fail before or after their effect.
    pub fails: u64,
    /// Calls that are never answered.
    pub hangs: u64,
    /// Calls that take up to half a second.
    pub slow: u64,
}

/// The store of an execution.
#[derive(Debug)]
pub struct SimStore {
    inner: Mutex<Inner>,
    /// Wakes those who wait for an inbox.
    news: Notify,
    pub trace: Trace,
    start: Instant,
    /// When attempts were last published, as the broker knows it.
    pub(crate) published: Published,
}

/// When attempts were last published.
pub type Published = Arc<Mutex<BTreeMap<AttemptRef, Instant>>>;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: MemoryStore,
    pub(crate) books: Books,
    pub(crate) ledger: Ledger,
    offset_ms: i64,
    pub(crate) up: bool,
    /// All calls take seconds until then.
    slow_until: Instant,
    /// Nothing has been in the way of calls since.
    pub(crate) calm_since: Instant,
    weather: Weather,
    dice: Dice,
    pub(crate) trace: Trace,
    /// When shards last went from one owner to another.
    pub(crate) changes: BTreeMap<Shard, Instant>,
    /// All who ever owned a shard.
    owners: BTreeSet<(Shard, OwnerToken)>,
    pub(crate) workers: Vec<(WorkerId, Arc<Process>)>,
    pub(crate) schedulers: Vec<Arc<Process>>,
}

/// A state of the store, with the books that belong to it.
#[derive(Debug)]
pub struct Snapshot {
    store: MemoryStore,
    books: Books,
}

/// What happens to one call on its way.
struct Trip {
    before_ms: u64,
    after_ms: u64,
    fails_before: bool,
    fails_after: bool,
    hangs: bool,
}

/// A change to the store, made when the request arrives.
pub(crate) struct Effect<'a> {
    pub(crate) inner: &'a mut Inner,
    pub(crate) now: Timestamp,
    pub(crate) process: &'a Arc<Process>,
    /// When the request left.
    pub(crate) sent: Instant,
}

impl SimStore {
    /// An empty store.
    pub fn new(mut dice: Dice, weather: Weather, limit: usize, published: Published, trace: Trace) -> Arc<SimStore> {
        let now = Instant::now();
        let inner = Inner {
            store: MemoryStore::new(StoreId(dice.number()), Ageing::ByTime),
            books: Books::default(),
            ledger: Ledger { limit, ..Ledger::default() },
            offset_ms: 0,
            up: true,
            slow_until: now,
            calm_since: now,
            weather,
            dice,
            trace: trace.clone(),
            changes: BTreeMap::new(),
            owners: BTreeSet::new(),
            workers: Vec::new(),
            schedulers: Vec::new(),
        };
        Arc::new(SimStore { inner: Mutex::new(inner), news: Notify::new(), trace, start: now, published })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong.
    pub fn violation(&self, what: String) {
        self.trace.say(|| format!("WRONG: {what}"));
        self.lock().ledger.violation(what);
    }

    /// Work begins; returns whether it must be alone on its worker.
    pub fn work_begins(&self, attempt: AttemptRef, process: &Process) -> bool {
        self.trace.say(|| format!("{} begins {attempt}", process.name));
        self.lock().ledger.work_begins(attempt)
    }

    /// Takes note of a worker.
    pub fn add_worker(&self, worker: WorkerId, process: Arc<Process>) {
        self.lock().workers.push((worker, process));
    }

    /// Takes note of a scheduler.
    pub fn add_scheduler(&self, process: Arc<Process>) {
        self.lock().schedulers.push(process);
    }

    /// What time it is in the store.
    pub fn now(&self) -> Timestamp {
        self.time(self.lock().offset_ms)
    }

    fn time(&self, offset_ms: i64) -> Timestamp {
        let passed = self.start.elapsed().as_millis() as i64;
        Timestamp((BEGIN.0 as i64 + passed + offset_ms) as u64)
    }

    /// Sets the clock.
    pub fn step_clock(&self, by_ms: i64) {
        self.trace.say(|| format!("the store's clock is set by {by_ms} ms"));
        self.lock().offset_ms += by_ms;
    }

    /// All calls take long for so many milliseconds.
    pub fn be_slow(&self, ms: u64) {
        self.trace.say(|| format!("the store is slow for {ms} ms"));
        let until = Instant::now() + Duration::from_millis(ms);
        let mut inner = self.lock();
        inner.slow_until = until.max(inner.slow_until);
        // A slow call may go on for a while after.
        inner.calm_since = (until + Duration::from_millis(6_000)).max(inner.calm_since);
    }

    /// What the store is like now, to go back to.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        Snapshot { store: inner.store.clone(), books: inner.books.clone() }
    }

    /// The store ends and begins another life after `down_ms`: as it was, or as it was at the snapshot.
    pub async fn restart(self: &Arc<SimStore>, down_ms: u64, back: Option<Snapshot>) {
        self.trace.say(|| format!("the store is down for {down_ms} ms; goes back: {}", back.is_some()));
        self.lock().up = false;
        self.news.notify_waiters();
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        let lost = {
            let mut inner = self.lock();
            let lost = back.map_or_else(Lost::default, |snapshot| inner.go_back(snapshot));
            inner.up = true;
            inner.calm_since = Instant::now().max(inner.calm_since);
            let id = StoreId(inner.dice.number());
            inner.store.id = id;
            lost
        };
        self.trace.say(|| format!("the store is up again; entries lost: {}", lost.entries.len()));
        self.look_after_rollback(lost);
    }

    /// Nothing is in the way of calls any more.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.weather = Weather::default();
        inner.slow_until = Instant::now();
    }

    /// One call: its request travels, takes effect, and its answer travels back.
    pub(crate) async fn call<T: Send + 'static>(
        self: &Arc<SimStore>,
        process: &Arc<Process>,
        verb: &'static str,
        effect: impl FnOnce(Effect<'_>) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let unavailable = move || StateError::Unavailable { verb, source: "the network is broken".into() };
        let mut blows_after: Option<Blow> = None;
        if let Some(fuse) = process.count_call(verb) {
            self.trace.say(|| format!("{} blows at {verb}: {fuse:?}", process.name));
            match fuse.moment {
                Moment::Before => process.blow(fuse.blow),
                Moment::After => blows_after = Some(fuse.blow),
            }
            if process.is_dead() {
                return std::future::pending().await;
            }
            if process.is_stopped() {
                // It isn't polled again before it goes on.
                tokio::task::yield_now().await;
            }
        }
        let (trip, life) = {
            let mut inner = self.lock();
            (inner.trip(), inner.store.id)
        };
        let sent = Instant::now();
        let (sender, answer) = oneshot::channel();
        let (store, process) = (self.clone(), process.clone());
        tokio::spawn(async move {
            pause(trip.before_ms).await;
            let result = {
                let mut inner = store.lock();
                let reached = inner.up && inner.store.id == life && !process.is_cut() && !trip.fails_before;
                if reached {
                    let now = store.time(inner.offset_ms);
                    let known = inner.ledger.violations.len();
                    let result = effect(Effect { inner: &mut inner, now, process: &process, sent });
                    let Inner { store: state, books, ledger, .. } = &mut *inner;
                    books.check_limit(state, now, ledger);
                    for wrong in &ledger.violations[known..] {
                        store.trace.say(|| format!("WRONG: {wrong}"));
                    }
                    result
                } else {
                    Err(unavailable())
                }
            };
            store
                .trace
                .say(|| format!("{} {verb}: {}", process.name, if result.is_ok() { "done" } else { "not done" }));
            if let Some(blow) = blows_after {
                process.blow(blow);
            }
            pause(trip.after_ms).await;
            if trip.hangs {
                // The caller waits for as long as it likes.
                let mut sender = sender;
                return sender.closed().await;
            }
            // The caller may have gone; that is its own affair.
            drop(sender.send(if trip.fails_after { Err(unavailable()) } else { result }));
        });
        match answer.await {
            Ok(result) => result,
            Err(_) => std::future::pending().await,
        }
    }

    /// A read of inboxes, which waits for news.
    pub(crate) async fn read_inbox(
        self: &Arc<SimStore>,
        process: &Arc<Process>,
        after: Vec<(Shard, InboxId)>,
        wait: Duration,
        limit: usize,
    ) -> Result<Vec<(Shard, InboxEntry)>, StateError> {
        let end = Instant::now() + wait;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // Listening starts before looking, so that nothing falls in between.
            news.as_mut().enable();
            let places = after.clone();
            let look = move |effect: Effect<'_>| {
                let entries = effect.inner.store.inbox(&places, limit);
                effect.inner.read(&entries);
                Ok(entries)
            };
            let entries = self.call(process, "read the inboxes", look).await?;
            if !entries.is_empty() || tokio::time::timeout_at(end, news).await.is_err() {
                return Ok(entries);
            }
        }
    }

    /// Wakes those who wait for an inbox.
    pub(crate) fn tell_news(&self) {
        self.news.notify_waiters();
    }
}

impl Inner {
    fn trip(&mut self) -> Trip {
        let (dice, weather) = (&mut self.dice, self.weather);
        let (mut before_ms, mut after_ms) = (dice.below(3), dice.below(3));
        if dice.chance(weather.slow) {
            before_ms += dice.below(400);
            after_ms += dice.below(400);
        }
        if Instant::now() < self.slow_until {
            before_ms += dice.below(3_000);
            after_ms += dice.below(3_000);
        }
        let fails = dice.chance(weather.fails);
        let fails_before = fails && dice.chance(500);
        Trip {
            before_ms,
            after_ms,
            fails_before,
            fails_after: fails && !fails_before,
            hangs: dice.chance(weather.hangs),
        }
    }

    /// Goes back to the snapshot; returns what that takes: of journals, of those whose shard keeps its owner.
    fn go_back(&mut self, snapshot: Snapshot) -> Lost {
        let Snapshot { store, books } = snapshot;
        let mut lost = Lost { entries: Vec::new(), reports: self.books.reported_since(&books) };
        for run in store.runs(None, usize::MAX) {
            let shard = run.run.shard();
            let owner = store.model().owner(shard).filter(|owner| self.store.model().owner(shard) == Some(*owner));
            let process = owner
                .and_then(|owner| self.schedulers.iter().find(|process| process.instance == owner.instance).cloned());
            let Some(owner) = process else { continue };
            for entry in self.store.journal(run.run, run.head, usize::MAX) {
                lost.entries.push(LostEntry { run: run.run, entry, owner: owner.clone() });
            }
        }
        self.store = store;
        self.books = books;
        self.ledger.rollbacks += 1;
        self.ledger.rolled_back = Some(Instant::now());
        lost
    }

    /// A shard has gone from one owner to another; says whether that one has never had it. One that comes back
    /// has published what is out itself.
    pub(crate) fn owners_changed(&mut self, shard: Shard, token: OwnerToken) -> bool {
        self.changes.insert(shard, Instant::now());
        self.owners.insert((shard, token))
    }

    /// Inbox entries were read.
    fn read(&mut self, entries: &[(Shard, InboxEntry)]) {
        use gristmill_protocol::twins::{Twin, left_out};
        if left_out(Twin::ConsumeWithAppend) {
            for (shard, entry) in entries {
                self.store.drop_entry(*shard, entry.id);
            }
        }
    }

    /// Whoever did something to a shard owns it.
    pub(crate) fn check_owner(&mut self, does: &str, shard: Shard, token: OwnerToken) {
        let owner = self.store.model().owner(shard);
        if owner != Some(token) {
            self.ledger.violation(format!("{token:?} {does} shard {shard}, which is of {owner:?}"));
        }
    }

    /// A process was told the time.
    pub(crate) fn looked(&self, process: &Process) {
        process.look(self.offset_ms, self.store.id);
    }

    /// True so many times out of a thousand.
    pub(crate) fn dice_says(&mut self, of_thousand: u64) -> bool {
        self.dice.chance(of_thousand)
    }

    /// A lease that was said to be lost was not renewed for as long as a lease holds.
    pub(crate) fn check_lost(&mut self, entry: &InboxEntry, process: &Process, sent: Instant) {
        let span = Duration::from_millis(LOST_NEEDS_MS);
        let now = Instant::now();
        if let Some(after) = process.learnt().and_then(|learnt| sent.checked_duration_since(learnt))
            && after < Duration::from_millis(LEASE_MS)
        {
            self.ledger.violation(format!(
                "{} ends leases {} ms after it learnt that the store's time can't be trusted",
                process.name,
                after.as_millis()
            ));
        }
        // Whoever hasn't looked at the clock since it was set can't know of it.
        let surprised = process.looked_at().is_none_or(|(offset_ms, _)| offset_ms != self.offset_ms);
        if surprised || now.saturating_duration_since(self.calm_since) < span {
            return;
        }
        for (attempt, worker) in lost(&entry.event) {
            let process = self.workers.iter().find(|(known, _)| *known == worker).map(|(_, process)| process);
            if process.is_some_and(|process| process.was_calm_for(span)) {
                self.ledger
                    .violation(format!("{attempt} is said to be lost though {worker} lives and reaches the store"));
            }
        }
    }
}

async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}
