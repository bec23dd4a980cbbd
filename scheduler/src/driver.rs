//! The driver's loop: what has happened → the core → one append a shard → effects.
//!
//! One future owns all state; everything that can block is a future of its own beside it, and the loop only
//! ever waits for the first of them. Whoever drops the loop's future has killed the scheduler, at whatever
//! point it was; that is how the simulator does it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::broker::Broker;
use gristmill_backends::state::{Append, Backlog, Ownership, SchedulerView, State, StateError};
use gristmill_protocol::fact::{Fact, RunStatus};
use gristmill_protocol::limits::{EXPIRE_POLL_MS, SHARD_LEASE_MS, SHARD_RENEW_MS, STORE_CALL_MS};
use gristmill_protocol::message::{ExpiryCause, InboxEntry, InboxEvent, InboxId, Report};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{Digest, OwnerToken, RunId, Shard, Timestamp, WorkerId, wire};
use gristmill_scheduler_core::{Effect, Event, PoolBacklog, PoolSeen, Scheduler, Step};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::calls::{in_time, within};
use crate::clock::Clock;
use crate::effects;
use crate::observe::{Observe, Unobserved};
use crate::peers::{all_read, fair_share, pools_seen};
use crate::shard::OwnedShard;
use crate::sweep::Sweep;
use crate::telling::Telling;
use crate::work::Work;

/// Entries read from one inbox at a time: a turn stays well under a tenth of a second.
const INBOX_READ_MAX: usize = 1_024;
/// Milliseconds between two looks at the workers while something is ready in a pool that has none: a worker that starts
/// has its first task soon, and ten small calls a second are nothing to a store.
const STARVING_POLL_MS: u64 = 100;
/// Milliseconds between two tries of a store call that failed.
const RETRY_MS: u64 = 100;

/// How long a silent spot worker is remembered: its leases end within seconds, or once a store that was away is back.
const SPOT_REMEMBERED: Duration = Duration::from_secs(600);

/// How a driver is set up.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// A number that no other scheduler process has: part of the owner token.
    pub instance: u64,
    /// The shards to own, shared with the other schedulers that live.
    pub shards: Vec<Shard>,
    /// Milliseconds for which one read of the inboxes waits.
    pub inbox_wait_ms: u64,
    /// The highest version of messages that is written, where all workers read it.
    pub writes: u8,
    /// Who is told what happens.
    pub observer: Arc<dyn Observe>,
}

impl DriverConfig {
    /// A driver for all shards.
    pub fn all_shards(instance: u64) -> DriverConfig {
        let shards = Shard::all().collect();
        DriverConfig { instance, shards, inbox_wait_ms: 1_000, writes: wire::VERSION, observer: Arc::new(Unobserved) }
    }
}

/// What a future beside the loop came to.
pub(crate) enum Done {
    /// What was read, and when the reading began.
    Inbox(Result<Vec<(Shard, InboxEntry)>, StateError>, ReadAt),
    Append(Shard, Result<(), StateError>),
    Effects,
    /// It is time to read the inboxes again.
    Paused,
    Polled(Polled),
    /// It was said before its time what work there is.
    Told,
    Swept(crate::sweep::Findings),
}

/// When a reading of the inboxes began, by the store's time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadAt {
    time: Timestamp,
    /// How often the store's time had stepped; after another step the time says nothing any more.
    steps: u64,
}

/// One look at the store: its clock, its workers, what became of the right to our shards.
pub(crate) struct Polled {
    clock: Result<gristmill_backends::state::StoreClock, StateError>,
    /// When the clock answered.
    at: Instant,
    pools: Option<BTreeMap<String, PoolSeen>>,
    /// The version of messages that all workers read, if they were heard of.
    reads: Option<u8>,
    /// Live workers on machines that may be taken away.
    spot: Vec<WorkerId>,
    /// How many shards are ours at the most, if the other schedulers were heard of.
    share: Option<usize>,
    others: Vec<SchedulerView>,
    renewed: Vec<(Shard, OwnerToken, Result<Ownership, StateError>)>,
}

/// A scheduler process: the core, and all that it owns.
pub struct Driver {
    pub(crate) state: Arc<dyn State>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) artifacts: Arc<dyn Artifacts>,
    config: DriverConfig,
    pub(crate) core: Scheduler,
    pub(crate) shards: BTreeMap<Shard, OwnedShard>,
    pub(crate) clock: Clock,
    pub(crate) sweep: Sweep,
    pools: BTreeMap<String, PoolSeen>,
    pub(crate) work: Work<Done>,
    next_poll: Instant,
    next_renewal: Instant,
    next_expiry: Instant,
    polling: bool,
    /// Shards that are ours in the store and can't be read just now.
    to_take_again: BTreeMap<Shard, OwnerToken>,
    /// Shards that aren't ours are left alone until then: their owner may have to write again what was lost.
    no_taking_until: Instant,
    take_overs: u64,
    /// When a reading of the inboxes to their ends last began.
    read_at: ReadAt,
    /// The schedulers that were heard of last.
    others: Vec<SchedulerView>,
    /// When it is said before its time what work there is.
    telling: Telling,
    /// The version of messages that is written now.
    writes: u8,
    /// Workers on machines that may be taken away, and when they were heard of last.
    spot: BTreeMap<WorkerId, Instant>,
}

impl Driver {
    /// A driver on these seams.
    pub async fn new(
        state: Arc<dyn State>,
        broker: Arc<dyn Broker>,
        artifacts: Arc<dyn Artifacts>,
        config: DriverConfig,
    ) -> Result<Driver, StateError> {
        let clock = Clock::new(in_time("ask for the time", state.clock()).await?);
        Ok(Driver {
            state,
            broker,
            artifacts,
            config,
            core: Scheduler::new(),
            shards: BTreeMap::new(),
            clock,
            sweep: Sweep::default(),
            pools: BTreeMap::new(),
            work: Work::new(),
            next_poll: Instant::now(),
            next_renewal: Instant::now(),
            next_expiry: Instant::now(),
            polling: false,
            to_take_again: BTreeMap::new(),
            no_taking_until: Instant::now(),
            take_overs: 0,
            read_at: ReadAt::default(),
            others: Vec::new(),
            telling: Telling::new(),
            writes: wire::BASE,
            spot: BTreeMap::new(),
        })
    }

    /// Drives until dropped. What is in flight then has an unknown outcome, which the next owner finds out.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }

    /// Drives until `stop` is done, then gives the shards up, so that another owner takes them at once.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            self.begin_work();
            let deadline = self.next_wake();
            tokio::select! {
                biased;
                () = &mut stop => break,
                done = self.work.next() => self.finished(done).await,
                () = tokio::time::sleep_until(deadline) => {
                    let now = self.clock.now();
                    if self.core.next_deadline().is_some_and(|at| at <= now) {
                        self.turn([Event::Tick]);
                    }
                }
            }
        }
        let state = &self.state;
        let give_up = self.shards.values().map(|owned| async move {
            (owned.shard, in_time("give a shard up", state.disown(owned.shard, owned.token)).await)
        });
        for (shard, result) in join_all(give_up).await {
            if let Err(error) = result {
                // Its lease runs out by itself.
                debug!(%shard, error = &error as &dyn std::error::Error, "a shard isn't given up");
            }
        }
        if let Err(error) = in_time("retire", state.retire(self.config.instance)).await {
            // It is forgotten when it has been silent for a while.
            debug!(error = &error as &dyn std::error::Error, "the scheduler isn't retired");
        }
    }

    /// Starts whatever isn't under way and should be.
    fn begin_work(&mut self) {
        if !self.work.is_reading() && !self.shards.is_empty() {
            self.begin_reading();
        }
        if !self.polling && Instant::now() >= self.next_poll {
            self.begin_polling();
        }
        if self.telling.is_due(|| self.core.demand()) {
            self.begin_telling();
        }
        let shards: Vec<Shard> = self.shards.keys().copied().collect();
        for shard in shards {
            self.begin_append(shard);
        }
    }

    /// When the loop must turn even if nothing happens.
    fn next_wake(&mut self) -> Instant {
        let core = self.core.next_deadline().map(|at| self.clock.when(at));
        let poll = if self.polling { Instant::now() + Duration::from_millis(EXPIRE_POLL_MS) } else { self.next_poll };
        [core, self.telling.next_look()].into_iter().flatten().fold(poll, Instant::min)
    }

    fn begin_reading(&mut self) {
        let state = self.state.clone();
        let after: Vec<(Shard, InboxId)> = self.shards.values().map(|owned| (owned.shard, owned.seen)).collect();
        let wait = Duration::from_millis(self.config.inbox_wait_ms);
        let begun = ReadAt { time: self.clock.store_time(), steps: self.clock.steps() };
        let read = async move {
            let limit = wait + Duration::from_millis(STORE_CALL_MS);
            let read = within("read the inboxes", limit, state.inbox(&after, wait, INBOX_READ_MAX)).await;
            Done::Inbox(read, begun)
        };
        self.work.read(read.boxed());
    }

    fn begin_append(&mut self, shard: Shard) {
        let Some(owned) = self.shards.get_mut(&shard) else { return };
        if let Some(append) = owned.next_append() {
            self.push_append(shard, append, Duration::ZERO);
        }
    }

    pub(crate) fn push_append(&mut self, shard: Shard, append: Append, delay: Duration) {
        let state = self.state.clone();
        let observer = self.config.observer.clone();
        let call = async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let began = Instant::now();
            let result = in_time("append", state.append(append)).await;
            observer.appended(began.elapsed());
            Done::Append(shard, result)
        };
        self.work.push_for(shard, call.boxed());
    }

    /// Looks at the store's clock and workers, and keeps or takes shards.
    fn begin_polling(&mut self) {
        self.polling = true;
        let state = self.state.clone();
        let renew = Instant::now() >= self.next_renewal;
        let tokens: Vec<(Shard, OwnerToken)> = if renew {
            self.next_renewal = Instant::now() + Duration::from_millis(SHARD_RENEW_MS);
            self.config.shards.clone().into_iter().map(|shard| (shard, self.token_for(shard))).collect()
        } else {
            Vec::new()
        };
        let (known, patient) = (self.clock.store(), Instant::now() < self.no_taking_until);
        let ours: BTreeSet<Shard> = self.shards.keys().chain(self.to_take_again.keys()).copied().collect();
        let me = self.view();
        if renew {
            self.telling.tell(me.demand.clone());
        }
        let others = std::mem::take(&mut self.others);
        let shards = self.config.shards.len();
        let poll = async move {
            let ttl = Duration::from_millis(SHARD_LEASE_MS);
            let clock = in_time("ask for the time", state.clock()).await;
            let at = Instant::now();
            let own = |shard: Shard, token: OwnerToken| {
                let state = &state;
                async move { (shard, token, in_time("own a shard", state.own(shard, token, ttl)).await) }
            };
            let (ours, free): (Vec<_>, Vec<_>) = tokens.into_iter().partition(|(shard, _)| ours.contains(shard));
            let held = ours.len();
            let mut renewed = join_all(ours.into_iter().map(|(shard, token)| own(shard, token))).await;
            let instance = me.instance;
            let announced = match renew {
                true => in_time("announce a scheduler", state.announce(me)).await.ok(),
                false => None,
            };
            let share = announced.as_ref().map(|heard| fair_share(shards, heard.len()));
            // Whoever owned a shard before the store went back knows what it lost, so it comes first.
            let waits = patient || clock.as_ref().is_ok_and(|clock| clock.store != known);
            let mut lack = share.filter(|_| !waits).map_or(0, |share| share.saturating_sub(held));
            // From a place of our own, so that schedulers that start together ask for different ones first.
            let first = instance as usize % free.len().max(1);
            for &(shard, token) in free[first..].iter().chain(&free[..first]) {
                if lack == 0 {
                    break;
                }
                let answer = own(shard, token).await;
                lack -= usize::from(matches!(answer.2, Ok(Ownership::Owned { .. }) | Err(_)));
                renewed.push(answer);
            }
            let others = announced.unwrap_or(others);
            let workers = in_time("list workers", state.workers()).await.ok();
            let reads = workers.as_deref().map(all_read);
            let spot = workers.iter().flatten().filter(|worker| worker.is_spot()).map(|worker| worker.worker).collect();
            let pools = workers.map(|workers| pools_seen(&workers, &others, instance));
            Done::Polled(Polled { clock, at, pools, reads, spot, share, others, renewed })
        };
        self.work.push(poll.boxed());
    }

    /// Says what work there is. Should it not come through, it is said again within a second.
    fn begin_telling(&mut self) {
        let (state, me) = (self.state.clone(), self.view());
        self.telling.tell(me.demand.clone());
        let tell = async move {
            if let Err(error) = in_time("announce a scheduler", state.announce(me)).await {
                debug!(error = &error as &dyn std::error::Error, "what work there is isn't told");
            }
            Done::Told
        };
        self.work.push(tell.boxed());
    }

    /// This scheduler as others see it.
    fn view(&mut self) -> SchedulerView {
        let backlog = self.backlog();
        self.config.observer.backlog(&backlog);
        SchedulerView {
            instance: self.config.instance,
            shards: self.shards.len() as u32,
            demand: self.core.demand(),
            backlog,
        }
    }

    /// By pool, the work of the runs that are ours, for whoever decides how many workers there are.
    fn backlog(&mut self) -> BTreeMap<String, Backlog> {
        let told =
            |PoolBacklog { ready, out, work_us, unknown }| Backlog { ready, out, work_ms: work_us / 1_000, unknown };
        let backlog = self.core.backlog(self.clock.now());
        backlog.into_iter().map(|(pool, backlog)| (pool, told(backlog))).collect()
    }

    fn token_for(&mut self, shard: Shard) -> OwnerToken {
        match self.shards.get(&shard) {
            Some(owned) => owned.token,
            None if self.to_take_again.contains_key(&shard) => self.to_take_again[&shard],
            // The store's time of the take-over tells it from every earlier one of this process.
            None => OwnerToken { epoch: self.clock.now().0, instance: self.config.instance },
        }
    }

    /// A number from which the appends of a take-over are numbered: no other take-over, of this process or
    /// another, comes to the same ones.
    pub(crate) fn next_append_number(&mut self) -> u64 {
        self.take_overs += 1;
        let name = [self.config.instance, self.take_overs].map(u64::to_be_bytes).concat();
        let digest = Digest::of(&name);
        u64::from_be_bytes(digest.as_bytes()[..8].try_into().expect("a SHA-256 has 32 bytes"))
    }

    async fn finished(&mut self, done: Done) {
        match done {
            Done::Effects | Done::Paused | Done::Told => {}
            Done::Inbox(Ok(entries), begun) => {
                if entries.len() < INBOX_READ_MAX {
                    self.read_at = begun;
                }
                self.take_entries(entries).await;
            }
            Done::Inbox(Err(error), _) => {
                warn!(error = &error as &dyn std::error::Error, "the inboxes can't be read");
                self.clock.doubt();
                let pause = async {
                    tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                    Done::Paused
                };
                self.work.read(pause.boxed());
            }
            Done::Append(shard, result) => self.append_ended(shard, result).await,
            Done::Polled(polled) => self.polled(polled).await,
            Done::Swept(findings) => {
                let is_known = self.read_at.steps == self.clock.steps();
                let read_at = if is_known { self.read_at.time } else { Timestamp::default() };
                let to_do = self.sweep.found(findings, &self.core, self.broker.generation(), read_at);
                self.turn(to_do.closed.into_iter().map(|attempt| Event::RecordClosed { attempt }));
                for attempt in to_do.publish {
                    if let Some(assignment) = self.core.assignment_of(attempt) {
                        self.perform(assignment.shard, vec![Effect::Publish(assignment)]);
                    }
                }
            }
        }
    }

    /// Takes what came into the inboxes, in order, as one turn.
    ///
    /// That the store went back may show here first: then what it lost is written again, and the inbox read anew.
    async fn take_entries(&mut self, entries: Vec<(Shard, InboxEntry)>) {
        let mut events = Vec::new();
        // Shards of which a journal couldn't be read: nothing of what came for them may count as taken.
        let mut unread: BTreeSet<Shard> = BTreeSet::new();
        for (shard, entry) in entries {
            if unread.contains(&shard) {
                continue;
            }
            let Some(owned) = self.shards.get_mut(&shard) else { continue };
            if entry.id <= owned.seen {
                continue;
            }
            owned.seen = entry.id;
            owned.consumed(entry.id);
            self.sweep.heard(&entry.event);
            match entry.event {
                InboxEvent::Created { run } => match self.load_unless_held(run).await {
                    Ok(Some(true)) => events.push(Event::Activated { run }),
                    Ok(_) => {}
                    Err(_) => {
                        unread.insert(shard);
                    }
                },
                InboxEvent::Resume { run, by } => match self.load_unless_held(run).await {
                    Ok(None | Some(true)) => events.push(Event::ResumeAsked { run, by }),
                    Ok(Some(false)) => {}
                    Err(_) => {
                        unread.insert(shard);
                    }
                },
                InboxEvent::Cancel { run, by } => events.push(Event::CancelAsked { run, by }),
                InboxEvent::Finished { worker, reports } => {
                    reports.iter().for_each(|report| self.tell_wait(report));
                    events.extend(reports.into_iter().map(|report| Event::Reported { worker, report }));
                }
                InboxEvent::Expired { ended } => {
                    let lost = ended.iter().filter(|ended| ended.cause == ExpiryCause::Lost).count();
                    self.config.observer.leases_lost(lost);
                    events.extend(ended.into_iter().map(|expired| match self.spot.contains_key(&expired.worker) {
                        true => Event::Preempted(expired),
                        false => Event::Expired(expired),
                    }))
                }
                InboxEvent::Revoked { ended } => events.extend(ended.into_iter().map(Event::Revoked)),
            }
        }
        // What is remembered of the shard stays: the store may have gone back, and who forgets then loses it for good.
        for shard in &unread {
            if let Some(owned) = self.shards.get_mut(shard) {
                owned.doubted = true;
            }
        }
        self.turn(events);
        for shard in unread {
            self.reassert(shard).await;
        }
    }

    /// How long an attempt that has ended waited for a slot, where both are known: when it was given out, and when it
    /// began by its worker's clock.
    fn tell_wait(&self, report: &Report) {
        let Report { attempt, started_us, .. } = report;
        let given_out = self.core.given_out(*attempt).filter(|_| *started_us > 0);
        if let (Some(Timestamp(since)), Some(pool)) = (given_out, self.core.pool_of(attempt.run, attempt.task.index)) {
            self.config.observer.waited(pool, Duration::from_micros(started_us.saturating_sub(since * 1_000)));
        }
    }

    /// Loads a run that isn't held; says whether it can go on, and nothing when it is held already.
    async fn load_unless_held(&mut self, run: RunId) -> Result<Option<bool>, StateError> {
        if self.core.holds(run) {
            return Ok(None);
        }
        let loaded = self.load(run).await;
        if let Err(error) = &loaded {
            warn!(%run, error = error as &dyn std::error::Error, "the run's journal can't be read");
        }
        loaded.map(Some)
    }

    /// The one place that calls the core.
    pub(crate) fn turn(&mut self, events: impl IntoIterator<Item = Event>) {
        let now = self.clock.now();
        let mut count = 0;
        let step = self.core.turn(now, events.into_iter().inspect(|_| count += 1));
        self.config.observer.turned(count);
        if count > 0 {
            self.telling.stir();
        }
        if cfg!(debug_assertions) {
            self.core.check_invariants();
        }
        self.distribute(step);
    }

    fn distribute(&mut self, step: Step) {
        for (run, decided) in step.facts {
            let mut settled = decided.settled;
            if decided.facts.iter().any(|fact| matches!(fact, Fact::Resumed { .. })) {
                // The store forgot what was settled when the run ended.
                settled = self.core.succeeded_tasks(run);
                if left_out(Twin::ResumeSettles) {
                    settled.clear();
                }
            }
            if let Some(owned) = self.shards.get_mut(&run.shard()) {
                owned.decided(run, decided.facts, settled);
            }
        }
        for effect in step.effects {
            if left_out(Twin::DurableBeforeVisible) && matches!(effect, Effect::Publish(_)) {
                self.perform(effect.shard(), vec![effect]);
            } else if let Some(owned) = self.shards.get_mut(&effect.shard()) {
                owned.wants(effect);
            }
        }
    }

    async fn append_ended(&mut self, shard: Shard, result: Result<(), StateError>) {
        match result {
            Ok(()) => {
                let Some(owned) = self.shards.get_mut(&shard) else { return };
                let effects = owned.appended();
                self.perform(shard, effects);
            }
            Err(StateError::Deposed { .. }) if left_out(Twin::DeposedForgets) => {
                let Some(owned) = self.shards.get_mut(&shard) else { return };
                let effects = owned.appended();
                self.perform(shard, effects);
            }
            // Another owns the shard, or nobody does because our right has run out; a run has moved on, or isn't
            // there any more.
            Err(error @ (StateError::Deposed { .. } | StateError::Moved { .. } | StateError::NotFound { .. })) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "the store isn't where it was");
                let Some(owned) = self.shards.get_mut(&shard) else { return };
                owned.doubted = true;
                owned.refused = true;
                self.reassert(shard).await;
            }
            Err(error @ StateError::Unavailable { .. }) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "an append's outcome is unknown");
                self.clock.doubt();
                let Some(owned) = self.shards.get_mut(&shard) else { return };
                if left_out(Twin::UnknownIsRepeated) {
                    owned.moved_on();
                }
                if let Some(append) = owned.in_flight() {
                    self.push_append(shard, append, Duration::from_millis(RETRY_MS));
                }
            }
            Err(error) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "an append was refused");
                self.reload(shard).await;
            }
        }
    }

    /// Starts effects whose facts are safe.
    fn perform(&mut self, shard: Shard, effects: Vec<Effect>) {
        let mut outside = VecDeque::new();
        for effect in effects {
            match effect {
                Effect::RunEnded { run, status } => {
                    self.config.observer.run_ended(run);
                    self.run_ended(shard, run, status);
                }
                Effect::Publish(assignment) => {
                    self.sweep.published(&assignment, self.clock.now(), self.broker.generation());
                    outside.push_back(Effect::Publish(assignment));
                }
                Effect::Revoke { .. } => outside.push_back(effect),
            }
        }
        let Some(owned) = self.shards.get(&shard).filter(|_| !outside.is_empty()) else { return };
        let performer = effects::Performer {
            state: self.state.clone(),
            broker: self.broker.clone(),
            artifacts: self.artifacts.clone(),
            token: owned.token,
            writes: self.writes,
            observer: self.config.observer.clone(),
        };
        let perform = async move {
            performer.perform(outside).await;
            Done::Effects
        };
        self.work.push_for(shard, perform.boxed());
    }

    fn run_ended(&mut self, shard: Shard, run: RunId, status: RunStatus) {
        // A resume may have come in the same turn; then the run isn't over.
        if self.core.status(run).is_some() {
            info!(%run, status = status.as_str(), "run ended");
            self.core.forget(run);
            if let Some(owned) = self.shards.get_mut(&shard) {
                owned.heads.remove(&run);
            }
        }
    }

    async fn polled(&mut self, polled: Polled) {
        self.config.observer.owns(self.shards.len(), self.core.held_runs().count());
        self.polling = false;
        let pause = if self.core.lacks_workers() { STARVING_POLL_MS } else { EXPIRE_POLL_MS };
        self.next_poll = Instant::now() + Duration::from_millis(pause);
        match polled.clock {
            Ok(clock) => {
                self.config.observer.store_answered();
                if self.clock.look(clock, polled.at) {
                    warn!("the store has begun another life");
                    self.no_taking_until = Instant::now() + Duration::from_millis(SHARD_LEASE_MS);
                    self.doubt_all();
                } else {
                    self.shards.values_mut().for_each(|owned| owned.store_lived(polled.at));
                }
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "the store can't be asked for its time");
                self.clock.doubt();
            }
        }
        for (shard, token, result) in polled.renewed {
            match (result, self.shards.get_mut(&shard)) {
                (Ok(Ownership::Owned { new: false }), Some(_)) => {}
                // Another may have owned it in between; whether memory and store agree is found out below.
                (Ok(Ownership::Owned { new: true }), Some(owned)) => {
                    owned.doubted = true;
                    owned.broken = true;
                }
                (Ok(Ownership::Owned { .. }), None) => self.take_over(shard, token).await,
                (Ok(Ownership::HeldBy(other)), _) => {
                    debug!(%shard, ?other, "the shard is another's");
                    self.lose(shard);
                    if other.instance == self.config.instance {
                        // The answer to an earlier call of ours was lost.
                        self.to_take_again.insert(shard, other);
                    }
                }
                (Err(error), owned) => {
                    warn!(%shard, error = &error as &dyn std::error::Error, "the shard's lease can't be renewed");
                    if let Some(owned) = owned {
                        // The answer that is lost may have said that the right had run out; no later one will.
                        owned.doubted = true;
                        owned.broken = true;
                    }
                }
            }
        }
        self.reassert_doubted().await;
        self.others = polled.others;
        if let Some(share) = polled.share {
            self.give_up_beyond(share);
        }
        let now = Instant::now();
        self.spot.retain(|_, heard| now - *heard < SPOT_REMEMBERED);
        self.spot.extend(polled.spot.into_iter().map(|worker| (worker, now)));
        self.writes = polled.reads.map_or(self.writes, |reads| reads.min(self.config.writes));
        if let Some(pools) = polled.pools
            && pools != self.pools
        {
            self.pools = pools.clone();
            self.turn([Event::PoolsSeen(pools)]);
        }
        if Instant::now() >= self.next_expiry {
            self.next_expiry = Instant::now() + Duration::from_millis(EXPIRE_POLL_MS);
            if self.clock.is_trusted() {
                self.begin_expiry();
            }
            self.begin_sweep();
        }
    }

    /// Gives up what others are to have. Who takes a shard replays it, as if we had died; while the store may have
    /// gone back nothing is given up, because we know what it lost.
    fn give_up_beyond(&mut self, share: usize) {
        let excess = self.shards.len().saturating_sub(share);
        if excess == 0 || Instant::now() < self.no_taking_until || self.shards.values().any(|owned| owned.doubted) {
            return;
        }
        let given: Vec<(Shard, OwnerToken)> =
            self.shards.values().rev().take(excess).map(|owned| (owned.shard, owned.token)).collect();
        for (shard, token) in given {
            info!(%shard, "the shard is left to another scheduler");
            self.lose(shard);
            let state = self.state.clone();
            let give_up = async move {
                if let Err(error) = in_time("give a shard up", state.disown(shard, token)).await {
                    debug!(%shard, error = &error as &dyn std::error::Error, "a shard isn't given up");
                }
                Done::Effects
            };
            self.work.push(give_up.boxed());
        }
    }

    /// Ends leases that have run out; what ended comes back through the inbox.
    fn begin_expiry(&mut self) {
        let owners: Vec<(Shard, OwnerToken)> = self.shards.values().map(|owned| (owned.shard, owned.token)).collect();
        for (shard, token) in owners {
            let state = self.state.clone();
            let expire = async move {
                if let Err(error) = in_time("expire", state.expire(shard, token, INBOX_READ_MAX)).await {
                    debug!(%shard, error = &error as &dyn std::error::Error, "leases can't be looked at");
                }
                Done::Effects
            };
            self.work.push_for(shard, expire.boxed());
        }
    }

    fn begin_sweep(&mut self) {
        let now = self.clock.now();
        if let Some(search) = self.sweep.due(now, &self.core, self.broker.generation()) {
            let (state, broker) = (self.state.clone(), self.broker.clone());
            self.work.push(async move { Done::Swept(search.look(&*state, &*broker).await) }.boxed());
        }
    }

    /// Forgets a shard that is another's, and publishes nothing more for it.
    pub(crate) fn lose(&mut self, shard: Shard) {
        self.to_take_again.remove(&shard);
        if let Some(owned) = self.shards.remove(&shard) {
            for run in owned.heads.keys() {
                self.core.forget(*run);
            }
            self.sweep.forget(shard);
            self.work.drop_shard(shard);
            self.work.stop_reading();
            self.turn([]);
        }
    }

    /// Forgets a shard that is ours but can't be read just now; it is taken over anew as soon as it can.
    pub(crate) fn lose_for_now(&mut self, shard: Shard) {
        if let Some(token) = self.shards.get(&shard).map(|owned| owned.token) {
            self.lose(shard);
            self.to_take_again.insert(shard, token);
            self.next_renewal = Instant::now();
        }
    }

    /// Forgets a shard's runs and replays them: memory and store can't be brought together otherwise.
    pub(crate) async fn reload(&mut self, shard: Shard) {
        let Some(token) = self.shards.get(&shard).map(|owned| owned.token) else { return };
        warn!(%shard, "the shard is replayed");
        self.take_over(shard, token).await;
    }
}
