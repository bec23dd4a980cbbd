//! The worker's loop: deliveries → claims → slots → reports.
//!
//! A message wakes; the store's claim decides. Granted attempts go to one list that all slots take from. The
//! message is acknowledged when its work has ended or a second after the claim, whichever is first: until
//! then it is the slots' credit, so a busy worker hoards nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use gristmill_backends::broker::{Broker, BrokerError, Consumer, Delivery};
use gristmill_backends::state::{Claim, ClaimAnswer, ClaimItem, Claimed, Finish, State, StateError, WorkerAbout};
use gristmill_protocol::limits::{ACK_AFTER_MS, STORE_CALL_MS, UNSTARTED_RETURN_MS};
use gristmill_protocol::message::{Assignment, Outcome, Report, ReturnCause};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::wire::{self, WireError};
use gristmill_protocol::{AttemptRef, Shard, WorkerId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::heartbeat::Heartbeat;
use crate::held::Held;
use crate::outbox::Outbox;
use crate::usage::Usage;
use crate::work::{Execute, Item, TaskControl, Work};

/// The pause before a store call that failed, or found the inbox full, is made again.
const RETRY: Duration = Duration::from_millis(50);

/// How long a worker takes nothing after it met a message that it can't read: two heartbeats, in which schedulers
/// learn of it and write what it reads.
const LEAVES_FOR: Duration = Duration::from_secs(2);

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// New at every start.
    pub worker: WorkerId,
    /// The pools it serves.
    pub pools: Vec<String>,
    /// Tasks that it runs at a time.
    pub slots: u32,
    /// What it says of itself. It reads messages up to the version that stands there.
    pub about: WorkerAbout,
    /// What runs may take so long after the worker was told to end before it is handed back.
    pub grace: Duration,
}

/// A worker process.
pub struct Worker {
    config: WorkerConfig,
    state: Arc<dyn State>,
    broker: Arc<dyn Broker>,
    execute: Arc<dyn Execute>,
    held: Held,
    beat: Arc<Notify>,
    /// Set to drain; set again to hand everything back at once.
    drain: watch::Receiver<Drain>,
    wall_clock: fn() -> u64,
    /// Who measures what attempts use, if anybody does.
    usage: Option<Usage>,
    messages: BTreeMap<u64, Message>,
    next_message: u64,
    ready: VecDeque<Granted>,
    /// A message whose work must run alone, until nothing else does.
    solo: Option<(Delivery, Assignment)>,
    /// Attempts that run; `alone` while one that must be does.
    running: FuturesUnordered<Boxed<Ended>>,
    running_alone: bool,
    /// Attempts of messages that were acknowledged while they ran on.
    long_running: BTreeSet<AttemptRef>,
    claims: FuturesUnordered<Boxed<Answered>>,
    /// Reports on their way, with the store's life in which they left.
    finishes: FuturesUnordered<Boxed<(Shard, Vec<Report>, u64)>>,
    outbox: Outbox,
    /// How many lives of the store the heartbeat has seen. Nothing is taken before the first: whoever doesn't
    /// know in which life it began can't tell that another has begun, and what it must say again.
    lives: u64,
    /// Until when nothing is taken, so that those take it who can read it; and the message that was given back last.
    leaves_until: Option<Instant>,
    too_new: Option<String>,
}

/// How a worker is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drain {
    /// Not at all.
    #[default]
    No,
    /// Take nothing more; finish what runs, or hand it back when the grace period is over.
    Finish,
    /// Hand everything back now.
    Now,
    /// Hand everything back now, because the machine is about to be taken away.
    Spot,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A message whose attempts were claimed.
struct Message {
    delivery: Option<Delivery>,
    claimed: Instant,
    open: usize,
    attempts: Vec<AttemptRef>,
}

/// An attempt that is the worker's.
struct Granted {
    work: Work,
    pool: Arc<str>,
    message: u64,
    claimed: Instant,
    alone: bool,
}

/// An attempt that has ended here.
struct Ended {
    attempt: AttemptRef,
    message: u64,
    started_us: u64,
    slot: Duration,
    outcome: Outcome,
    alone: bool,
}

/// What came of a claim.
struct Answered {
    delivery: Delivery,
    assignment: Assignment,
    answers: Result<Vec<ClaimAnswer>, StateError>,
}

impl Worker {
    /// A worker on these seams, and its heartbeat; both are to run. `wall_clock` gives microseconds since the
    /// Unix epoch, for traces.
    pub fn new(
        config: WorkerConfig,
        state: Arc<dyn State>,
        broker: Arc<dyn Broker>,
        execute: Arc<dyn Execute>,
        drain: watch::Receiver<Drain>,
        wall_clock: fn() -> u64,
    ) -> (Worker, Heartbeat) {
        let (held, beat) = (Held::default(), Arc::new(Notify::new()));
        let heartbeat = Heartbeat {
            state: state.clone(),
            worker: config.worker,
            pools: config.pools.clone(),
            slots: config.slots,
            about: config.about.clone(),
            held: held.clone(),
            now: beat.clone(),
            answered: None,
        };
        let worker = Worker {
            config,
            state,
            broker,
            execute,
            held,
            beat,
            drain,
            wall_clock,
            usage: None,
            messages: BTreeMap::new(),
            next_message: 0,
            ready: VecDeque::new(),
            solo: None,
            running: FuturesUnordered::new(),
            running_alone: false,
            long_running: BTreeSet::new(),
            claims: FuturesUnordered::new(),
            finishes: FuturesUnordered::new(),
            outbox: Outbox::default(),
            lives: 0,
            leaves_until: None,
            too_new: None,
        };
        (worker, heartbeat)
    }

    /// The same worker, whose attempts are measured; `usage` is to run too.
    #[must_use]
    pub fn measured_by(self, usage: Usage) -> Worker {
        Worker { usage: Some(usage), ..self }
    }

    /// Works until it has drained.
    pub async fn run(mut self) {
        let mut consumers = Consumers::new(self.broker.clone(), self.config.pools.clone());
        let mut drain_deadline: Option<Instant> = None;
        loop {
            self.begin_work();
            let drain = *self.drain.borrow();
            if drain != Drain::No {
                let deadline = *drain_deadline.get_or_insert_with(|| {
                    self.begin_draining();
                    Instant::now() + self.config.grace
                });
                if drain >= Drain::Now || Instant::now() >= deadline {
                    self.held.stop_all();
                }
                if self.is_empty() {
                    break;
                }
            }
            let credit = if drain == Drain::No && self.lives > 0 { self.credit() } else { 0 };
            // A deadline that has passed has had its effect: to wake for it again would be to spin.
            let drain_deadline = drain_deadline.filter(|at| *at > Instant::now());
            let wake = [self.next_wake(), drain_deadline].into_iter().flatten().min();
            tokio::select! {
                biased;
                Some(ended) = self.running.next() => self.ended(ended),
                Some(answered) = self.claims.next() => self.answered(answered),
                Some((shard, reports, life)) = self.finishes.next() => self.answered_finish(shard, reports, life),
                () = self.held.another_life.notified() => self.say_again(),
                delivery = consumers.next(credit) => self.delivered(delivery),
                Ok(()) = self.drain.changed() => {}
                () = sleep_until(wake), if wake.is_some() => self.woken(),
            }
        }
        let timeout = Duration::from_millis(STORE_CALL_MS);
        match tokio::time::timeout(timeout, self.state.leave(self.config.worker)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(error = &error as &dyn std::error::Error, "the worker couldn't say that it leaves")
            }
            Err(_) => debug!("nobody has heard that the worker leaves"),
        }
    }

    /// Fills free slots and sends reports that are due.
    fn begin_work(&mut self) {
        self.begin_solo();
        while !self.running_alone && self.running.len() < self.config.slots as usize {
            let Some(granted) = self.ready.pop_front() else { break };
            if granted.alone && !self.running.is_empty() {
                self.ready.push_front(granted);
                break;
            }
            self.start(granted);
        }
        if self.outbox.is_due(self.running.is_empty() && self.ready.is_empty()) {
            for (shard, reports) in self.outbox.take() {
                self.finish(shard, reports);
            }
        }
    }

    fn start(&mut self, granted: Granted) {
        let Granted { work, pool, message, alone, claimed } = granted;
        let attempt = work.attempt;
        if self.held.was_stopped(attempt) {
            self.report(attempt, message, Outcome::Stopped);
            return;
        }
        let control = TaskControl::default();
        let deadline = work.timeout_ms.map(|ms| claimed + Duration::from_millis(ms));
        self.held.begin(attempt, deadline, control.clone());
        if let Some(usage) = &self.usage {
            usage.begin(attempt, &pool, &work.step);
        }
        let (started, started_us) = (Instant::now(), (self.wall_clock)());
        let execution = self.execute.execute(work, control);
        self.running_alone |= alone;
        self.running.push(
            execution
                .map(move |outcome| Ended { attempt, message, started_us, slot: started.elapsed(), outcome, alone })
                .boxed(),
        );
    }

    fn ended(&mut self, ended: Ended) {
        self.running_alone &= !ended.alone;
        if let Some(usage) = &self.usage {
            usage.end(ended.attempt);
        }
        let outcome = match ended.outcome {
            // Stopped by us, and not because the store said so: it is handed back.
            Outcome::Stopped if !self.held.was_stopped(ended.attempt) => Outcome::Returned(self.returned()),
            outcome => outcome,
        };
        self.held.end(ended.attempt);
        self.long_running.remove(&ended.attempt);
        self.outbox.push(Report {
            attempt: ended.attempt,
            started_us: ended.started_us,
            slot_us: ended.slot.as_micros() as u64,
            outcome,
        });
        self.one_less(ended.message);
    }

    /// Reports an attempt that didn't run.
    fn report(&mut self, attempt: AttemptRef, message: u64, outcome: Outcome) {
        self.held.end(attempt);
        self.long_running.remove(&attempt);
        self.outbox.push(Report { attempt, started_us: (self.wall_clock)(), slot_us: 0, outcome });
        self.one_less(message);
    }

    /// One attempt of a message has ended; the last one acknowledges it.
    fn one_less(&mut self, id: u64) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        message.open -= 1;
        if message.open == 0
            && let Some(delivery) = self.messages.remove(&id).and_then(|message| message.delivery)
        {
            delivery.ack();
        }
    }

    /// Messages that may be delivered: one a slot, less the slots that long tasks keep.
    fn credit(&self) -> u16 {
        if self.solo.is_some() || self.running_alone || self.leaves_until.is_some() {
            return 0;
        }
        let free = (self.config.slots as usize).saturating_sub(self.long_running.len());
        u16::try_from(free).unwrap_or(u16::MAX)
    }

    fn delivered(&mut self, delivery: Result<Delivery, BrokerError>) {
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "a queue can't be consumed");
                return;
            }
        };
        match wire::decode_up_to::<Assignment>(
            self.config.about.reads.max(wire::BASE),
            "an assignment",
            &delivery.message.body,
        ) {
            Ok(assignment) if assignment.solo && !self.is_idle() && !left_out(Twin::Solo) => {
                self.solo = Some((delivery, assignment))
            }
            Ok(assignment) => self.claim(delivery, assignment),
            Err(WireError::Version { found, .. }) if self.too_new.as_ref() != Some(&delivery.message.id) => {
                // Workers that are being upgraded beside this one read it. One that meets it again is alone with it:
                // it drops the message, and who published it finds the attempt unclaimed.
                warn!(id = delivery.message.id, found, "a message is for later versions; it is given back");
                self.too_new = Some(delivery.message.id.clone());
                self.leaves_until = Some(Instant::now() + LEAVES_FOR);
                delivery.requeue();
            }
            Err(error) => {
                // Whoever published it will find the attempt unclaimed; it can't be worked on as it is.
                error!(id = delivery.message.id, error = &error as &dyn std::error::Error, "a message is dropped");
                delivery.ack();
            }
        }
    }

    /// Claims work that must run alone once nothing else runs.
    fn begin_solo(&mut self) {
        if self.is_idle()
            && let Some((delivery, assignment)) = self.solo.take()
        {
            self.claim(delivery, assignment);
        }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.ready.is_empty() && self.claims.is_empty()
    }

    fn claim(&mut self, delivery: Delivery, assignment: Assignment) {
        let (state, worker) = (self.state.clone(), self.config.worker);
        let claim = async move {
            let items = assignment
                .parts
                .iter()
                .flat_map(|part| part.attempts().map(|attempt| ClaimItem { attempt, timeout_ms: part.timeout_ms }));
            let claim = Claim { shard: assignment.shard, worker, attempts: items.collect() };
            let answers = claim_until_answered(&*state, claim).await;
            Answered { delivery, assignment, answers }
        };
        self.claims.push(claim.boxed());
    }

    /// Takes the attempts that were granted; a message without any is done with.
    fn answered(&mut self, answered: Answered) {
        let Answered { delivery, assignment, answers } = answered;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "attempts can't be claimed");
                delivery.requeue();
                return;
            }
        };
        let id = self.next_message;
        let claimed = Instant::now();
        let alone = assignment.solo && !left_out(Twin::Solo);
        let pool: Arc<str> = assignment.pool.as_str().into();
        let mut granted: Vec<Granted> = Vec::new();
        let mut answers = answers.into_iter();
        for part in &assignment.parts {
            let payload: Arc<[u8]> = part.payload.to_vec().into();
            let inputs: Arc<[_]> = part.inputs.clone().into();
            for (place, attempt) in part.attempts().enumerate() {
                match answers.next() {
                    Some(ClaimAnswer::Granted) => {}
                    answer => {
                        debug!(%attempt, ?answer, "not granted");
                        continue;
                    }
                }
                if self.held.holds(attempt) {
                    // Published twice, and this worker has it already.
                    continue;
                }
                let index = attempt.task.index;
                let work = Work {
                    attempt,
                    name: part.task_name(index),
                    step: part.step.clone(),
                    payload: payload.clone(),
                    inputs: inputs.clone(),
                    item: Item::of(&part.items, place, index.saturating_sub(part.first)),
                    timeout_ms: part.timeout_ms,
                };
                let deadline = part.timeout_ms.map(|ms| claimed + Duration::from_millis(ms));
                self.held.begin(attempt, deadline, TaskControl::default());
                granted.push(Granted { work, pool: pool.clone(), message: id, claimed, alone });
            }
        }
        if granted.is_empty() {
            delivery.ack();
            return;
        }
        let attempts: Vec<AttemptRef> = granted.iter().map(|granted| granted.work.attempt).collect();
        self.execute.received(&delivery.message, &attempts);
        self.next_message += 1;
        let message = Message { delivery: Some(delivery), claimed, open: granted.len(), attempts };
        self.messages.insert(id, message);
        self.ready.extend(granted);
    }

    fn finish(&self, shard: Shard, reports: Vec<Report>) {
        let (state, worker, life) = (self.state.clone(), self.config.worker, self.lives);
        let finish = async move {
            finish_until_answered(&*state, Finish { shard, worker, reports: reports.clone() }).await;
            (shard, reports, life)
        };
        self.finishes.push(finish.boxed());
    }

    /// Reports were taken. If the store has begun another life since they left, it may have taken them in the
    /// life before and have forgotten them.
    fn answered_finish(&mut self, shard: Shard, reports: Vec<Report>, life: u64) {
        if life == self.lives || left_out(Twin::ReportsAreKept) {
            self.outbox.keep(shard, reports, self.held.store_lived_at());
        } else {
            self.finish(shard, reports);
        }
    }

    /// The store is known, or has begun another life and may have gone back: says again what was said lately.
    fn say_again(&mut self) {
        self.lives += 1;
        if left_out(Twin::ReportsAreKept) || self.lives == 1 {
            return;
        }
        for (shard, reports) in self.outbox.take_kept() {
            self.finish(shard, reports);
        }
        self.beat.notify_one();
    }

    /// What is due by time: acknowledgements and attempts that have waited in the list for too long.
    fn woken(&mut self) {
        let now = Instant::now();
        self.leaves_until = self.leaves_until.filter(|until| now < *until);
        let acknowledge = Duration::from_millis(ACK_AFTER_MS);
        for message in self.messages.values_mut() {
            if now - message.claimed >= acknowledge
                && let Some(delivery) = message.delivery.take()
            {
                let running = message.attempts.iter().filter(|attempt| self.held.holds(**attempt));
                self.long_running.extend(running.copied());
                delivery.ack();
            }
        }
        let patience = Duration::from_millis(UNSTARTED_RETURN_MS);
        let late = |granted: &Granted| now - granted.claimed >= patience;
        while self.ready.front().is_some_and(late) {
            let Some(granted) = self.ready.pop_front() else { break };
            let outcome = Outcome::Returned(ReturnCause::Unstarted);
            self.report(granted.work.attempt, granted.message, outcome);
        }
    }

    /// When something is due by time.
    fn next_wake(&self) -> Option<Instant> {
        let acknowledge = self.messages.values().filter(|message| message.delivery.is_some());
        let acknowledge = acknowledge.map(|message| message.claimed + Duration::from_millis(ACK_AFTER_MS)).min();
        let unstarted = self.ready.front().map(|granted| granted.claimed + Duration::from_millis(UNSTARTED_RETURN_MS));
        let outbox = self.outbox.deadline().filter(|_| !self.outbox.is_empty());
        [acknowledge, unstarted, outbox, self.leaves_until].into_iter().flatten().min()
    }

    /// Takes nothing more, and hands back what hasn't started.
    fn begin_draining(&mut self) {
        self.held.set_draining();
        self.beat.notify_one();
        self.solo = None;
        for granted in std::mem::take(&mut self.ready) {
            let outcome = Outcome::Returned(self.returned());
            self.report(granted.work.attempt, granted.message, outcome);
        }
    }

    /// Why it hands back.
    fn returned(&self) -> ReturnCause {
        match *self.drain.borrow() {
            Drain::Spot => ReturnCause::SpotNotice,
            Drain::No | Drain::Finish | Drain::Now => ReturnCause::Draining,
        }
    }

    fn is_empty(&self) -> bool {
        self.is_idle() && self.outbox.is_empty() && self.finishes.is_empty()
    }
}

/// Claims until the store has answered; a claim that is made again by the same worker is granted again.
async fn claim_until_answered(state: &dyn State, claim: Claim) -> Result<Vec<ClaimAnswer>, StateError> {
    loop {
        match tokio::time::timeout(Duration::from_millis(STORE_CALL_MS), state.claim(claim.clone())).await {
            Ok(Ok(Claimed::Answers(answers))) => return Ok(answers),
            Ok(Ok(Claimed::Busy)) => {}
            Ok(Err(StateError::Unavailable { .. })) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Sends reports until the store has answered. What it answers changes nothing for the worker.
async fn finish_until_answered(state: &dyn State, finish: Finish) {
    loop {
        match tokio::time::timeout(Duration::from_millis(STORE_CALL_MS), state.finish(finish.clone())).await {
            Ok(Ok(answers)) => {
                debug!(?answers, "reported");
                return;
            }
            _ if left_out(Twin::FinishIsRepeated) => return,
            Ok(Err(error)) => warn!(error = &error as &dyn std::error::Error, "reports can't be sent"),
            Err(_) => warn!("reports had no answer"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The consumers of all pools.
///
/// What takes time (opening one, changing its prefetch) is kept here as a future, and goes on where it was when
/// [`Consumers::next`] is dropped and called again: a change that was cut off half way would leave the broker with
/// another prefetch than we think it has.
struct Consumers {
    broker: Arc<dyn Broker>,
    slots: Vec<(String, Slot)>,
    /// The pool to be asked first, so that none is always last.
    first: usize,
}

/// A consumer under the prefetch that it was given.
type Given = (Box<dyn Consumer>, u16);

enum Slot {
    /// On its way to being open, under another prefetch or at all.
    Changing(Boxed<Result<Given, BrokerError>>),
    /// A consumer and its prefetch.
    Open(Box<dyn Consumer>, u16),
    Closed,
}

/// What came of waiting for a slot.
enum Stepped {
    Delivered(Delivery),
    Failed(BrokerError),
    /// It can be used.
    Changed,
}

impl Consumers {
    fn new(broker: Arc<dyn Broker>, pools: Vec<String>) -> Consumers {
        Consumers { broker, slots: pools.into_iter().map(|pool| (pool, Slot::Closed)).collect(), first: 0 }
    }

    /// The next delivery of any pool, with at most `credit` of each unsettled; none at 0. Safe to drop while it waits.
    async fn next(&mut self, credit: u16) -> Result<Delivery, BrokerError> {
        loop {
            for (pool, slot) in &mut self.slots {
                slot.begin_change(&self.broker, pool, credit, Duration::ZERO);
            }
            if self.slots.is_empty() {
                return std::future::pending().await;
            }
            self.first = (self.first + 1) % self.slots.len();
            let (before, after) = self.slots.split_at_mut(self.first);
            let steps = after.iter_mut().chain(before).map(|(_, slot)| slot.step().boxed());
            let (stepped, at, _) = futures_util::future::select_all(steps).await;
            match stepped {
                Stepped::Delivered(delivery) => return Ok(delivery),
                Stepped::Changed => {}
                Stepped::Failed(error) => {
                    let at = (self.first + at) % self.slots.len();
                    let (pool, slot) = &mut self.slots[at];
                    slot.begin_change(&self.broker, pool, credit, RETRY);
                    return Err(error);
                }
            }
        }
    }
}

impl Slot {
    /// Begins to open a consumer that isn't, after a pause, or to change the prefetch of one that has another.
    fn begin_change(&mut self, broker: &Arc<dyn Broker>, pool: &str, credit: u16, pause: Duration) {
        *self = match std::mem::replace(self, Slot::Closed) {
            Slot::Closed => {
                let (broker, pool) = (broker.clone(), pool.to_owned());
                let opening = async move {
                    tokio::time::sleep(pause).await;
                    Ok((broker.consume(&pool, credit).await?, credit))
                };
                Slot::Changing(opening.boxed())
            }
            Slot::Open(mut consumer, given) if given != credit => {
                let changing = async move {
                    consumer.set_prefetch(credit).await?;
                    Ok((consumer, credit))
                };
                Slot::Changing(changing.boxed())
            }
            other => other,
        };
    }

    /// Waits for the end of a change, or for a delivery. Safe to drop while it waits.
    async fn step(&mut self) -> Stepped {
        let (slot, stepped) = match self {
            Slot::Changing(changing) => match changing.await {
                Ok((consumer, given)) => (Slot::Open(consumer, given), Stepped::Changed),
                Err(error) => (Slot::Closed, Stepped::Failed(error)),
            },
            Slot::Open(_, 0) | Slot::Closed => return std::future::pending().await,
            Slot::Open(consumer, _) => match consumer.next().await {
                Ok(delivery) => return Stepped::Delivered(delivery),
                Err(error) => (Slot::Closed, Stepped::Failed(error)),
            },
        };
        *self = slot;
        stepped
    }
}
