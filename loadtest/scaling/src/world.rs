//! The events in their order: submissions, turns of the core, deliveries, starts and ends of workers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use gristmill_pools::policy::Sight;
use gristmill_protocol::fact::{About, Fact, RunStatus};
use gristmill_protocol::limits::{HEARTBEAT_MS, LEASE_MS};
use gristmill_protocol::message::{
    Expansion, Expired, ExpiryCause, Items, OnFailure, Outcome as End, Report, Template,
};
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{Plan, PlanStep};
use gristmill_protocol::{AttemptRef, RunId, Timestamp, WorkerId};
use gristmill_scheduler_core::{Effect, Event, PoolBacklog, PoolSeen, Scheduler, Step};
use serde_bytes::ByteBuf;

use crate::dice::Dice;
use crate::fleet::{Fleet, Number};
use crate::loads::Arrival;
use crate::scaler::{Scaler, Scaling};
use crate::waits::Waits;

const POOL: &str = "default";
/// From a decision to the message with a worker: an append, a publish and a claim (0.09, 0.30 and 0.09 ms, measured on
/// one machine), rounded up for a network.
const DELIVERY_MS: u64 = 2;
/// From a worker's report to the core's turn.
const REPORT_MS: u64 = 1;
/// Between two looks of schedulers at the workers; as in the driver.
const SEE_MS: u64 = 500;
/// Between two looks of whoever scales.
const LOOK_MS: u64 = 250;
/// A load that hasn't ended so long after its last arrival won't.
const QUIET_MS: u64 = 6 * 3_600_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    pub arrivals: Vec<Arrival>,
    pub scaler: Scaler,
    /// Milliseconds that a worker takes to start, which are paid.
    pub start_up_ms: u64,
    /// Tasks that a worker runs at a time.
    pub slots: u32,
    /// The part of a task's time that varies, exponentially; the rest is sure.
    pub varies: f64,
    /// Schedulers, each with its part of the runs.
    pub owners: usize,
    pub loss: Option<Loss>,
    pub seed: u64,
}

/// Workers that are lost at once.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub at_ms: u64,
    /// Every so many-th.
    pub every: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub runs: usize,
    pub tasks: u64,
    /// Worker-seconds from the start of each worker to its end.
    pub paid_s: f64,
    /// Seconds of slots that tasks took.
    pub work_s: f64,
    pub starts: u64,
    pub most_workers: u32,
    /// Workers that were there when all had ended and the scaler had had its time to let go.
    pub left_workers: u32,
    pub waits: Waits,
    /// Seconds of imagined time until the last run ended.
    pub ended_s: f64,
    /// Workers by time, in seconds.
    pub workers: Vec<(f64, f64)>,
    pub lost_workers: usize,
    /// Seconds from the loss until the last task that was lost with a worker had ended on another, and until as many
    /// workers took work as before. Nothing where it didn't come to that.
    pub recovered_s: Option<f64>,
    pub replaced_s: Option<f64>,
    /// What must not be: tasks whose success was recorded twice, runs that didn't end or failed, joins before children.
    pub twice: u64,
    pub unended: usize,
    pub early: u64,
    /// Real time that the cores took, in all and for the largest turn.
    pub core: Duration,
    pub longest_turn: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrives(usize),
    Reported(usize, Vec<Told>),
    Delivered(Vec<AttemptRef>),
    Done(Number, Vec<Told>),
    Ready(Number),
    Lose,
    Expired(Number, AttemptRef),
    Turn(usize),
    See,
    Look,
}

/// One attempt that has ended; how long it took.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    worker: Number,
    attempt: AttemptRef,
    slot_ms: u64,
}

struct Run {
    arrival: Arrival,
    /// When it arrived.
    since_ms: u64,
    settled: Vec<bool>,
    done: u32,
    ended: bool,
}

struct World {
    now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, What)>>,
    order: u64,
    cores: Vec<Scheduler>,
    backlog: PoolBacklog,
    runs: HashMap<RunId, Run>,
    queue: VecDeque<Vec<AttemptRef>>,
    fleet: Fleet,
    scaling: Scaling,
    setup: Setup,
    dice: Dice,
    open: usize,
    outcome: Outcome,
    /// Core that wake at that time already.
    waking: Vec<u64>,
    lost: Lost,
}

/// What a loss has left to be made up for.
#[derive(Default)]
struct Lost {
    tasks: HashSet<(RunId, u32)>,
    workers_before: u32,
}

/// Simulates a load to its end.
pub fn simulate(setup: Setup) -> Outcome {
    let outcome = Outcome {
        runs: setup.arrivals.len(),
        tasks: 0,
        paid_s: 0.0,
        work_s: 0.0,
        starts: 0,
        most_workers: 0,
        left_workers: 0,
        waits: Waits::default(),
        ended_s: 0.0,
        workers: Vec::new(),
        lost_workers: 0,
        recovered_s: None,
        replaced_s: None,
        twice: 0,
        unended: 0,
        early: 0,
        core: Duration::ZERO,
        longest_turn: Duration::ZERO,
    };
    let mut world = World {
        now: 0,
        heap: BinaryHeap::new(),
        order: 0,
        cores: vec![Scheduler::new(); setup.owners.max(1)],
        backlog: PoolBacklog::default(),
        runs: HashMap::new(),
        queue: VecDeque::new(),
        fleet: Fleet::new(setup.slots),
        scaling: Scaling::new(setup.scaler.clone()),
        dice: Dice::new(setup.seed),
        open: setup.arrivals.len(),
        outcome,
        waking: vec![u64::MAX; setup.owners.max(1)],
        lost: Lost::default(),
        setup,
    };
    world.run();
    world.outcome
}

impl World {
    fn run(&mut self) {
        if let Some(first) = self.setup.arrivals.first() {
            self.at(first.at_ms, What::Arrives(0));
        }
        if let Some(loss) = self.setup.loss {
            self.at(loss.at_ms, What::Lose);
        }
        self.at(0, What::Look);
        self.at(0, What::See);
        let last_ms = self.setup.arrivals.last().map_or(0, |arrival| arrival.at_ms);
        let mut ended_ms = None;
        while let Some(Reverse((at, _, what))) = self.heap.pop() {
            self.now = at;
            if self.open == 0 && ended_ms.is_none() {
                ended_ms = Some(at);
            }
            // Time for the slowest rule to let go, and no more.
            if ended_ms.is_some_and(|ended| at > ended + 900_000) || at > last_ms + QUIET_MS {
                break;
            }
            self.happens(what);
        }
        let outcome = &mut self.outcome;
        outcome.ended_s = ended_ms.unwrap_or(self.now) as f64 / 1_000.0;
        outcome.paid_s = self.fleet.paid_ms(self.now) as f64 / 1_000.0;
        outcome.starts = self.fleet.starts;
        outcome.most_workers = self.fleet.most;
        outcome.left_workers = self.fleet.live() + self.fleet.starting() + self.fleet.draining();
        outcome.unended = self.open;
        outcome.waits.sort();
    }

    fn at(&mut self, at: u64, what: What) {
        self.order += 1;
        self.heap.push(Reverse((at, self.order, what)));
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Arrives(at) => self.arrives(at),
            What::Reported(core, told) => {
                let events = told.into_iter().map(|told| self.report(told)).collect();
                self.turn(core, events);
            }
            What::Delivered(attempts) => {
                self.queue.push_back(attempts);
                self.hand_out();
            }
            What::Done(worker, told) => {
                // A worker that was lost meanwhile has done nothing.
                if let Some(first) = told.first().map(|told| told.attempt)
                    && self.fleet.holds(worker, first)
                {
                    self.fleet.done(worker, first, self.now);
                    let mut by_core: BTreeMap<usize, Vec<Told>> = BTreeMap::new();
                    for told in told {
                        by_core.entry(self.core_of(told.attempt.run)).or_default().push(told);
                    }
                    for (core, told) in by_core {
                        self.at(self.now + REPORT_MS, What::Reported(core, told));
                    }
                }
                self.hand_out();
            }
            What::Ready(worker) => {
                self.fleet.ready(worker);
                self.hand_out();
            }
            What::Lose => {
                let every = self.setup.loss.map_or(1, |loss| loss.every);
                self.lost.workers_before = self.fleet.live();
                let lost = self.fleet.lose_every(every, self.now);
                self.outcome.lost_workers = lost.len();
                for (worker, held) in lost {
                    for attempt in held {
                        self.lost.tasks.insert((attempt.run, attempt.task.index));
                        // The last heartbeat was up to a second ago.
                        let beat = self.dice.below(HEARTBEAT_MS);
                        self.at(self.now + LEASE_MS - beat, What::Expired(worker, attempt));
                    }
                }
            }
            What::Expired(worker, attempt) => {
                let core = self.core_of(attempt.run);
                let expired = Expired { attempt, worker: WorkerId(worker.into()), cause: ExpiryCause::Lost };
                self.turn(core, vec![Event::Expired(expired)]);
            }
            What::Turn(core) => {
                self.waking[core] = u64::MAX;
                self.turn(core, vec![Event::Tick]);
            }
            What::See => self.see(),
            What::Look => self.look(),
        }
    }

    fn core_of(&self, run: RunId) -> usize {
        (run.as_u128() as usize) % self.cores.len()
    }

    /// A run is submitted, and so is the next one in its time.
    fn arrives(&mut self, at: usize) {
        let arrival = self.setup.arrivals[at];
        if let Some(next) = self.setup.arrivals.get(at + 1) {
            self.at(next.at_ms, What::Arrives(at + 1));
        }
        let run = RunId::derive(Timestamp(self.now + 1), "simulated", &at.to_string(), None);
        let tasks = arrival.tasks as usize + 2;
        self.runs.insert(run, Run { arrival, since_ms: self.now, settled: vec![false; tasks], done: 0, ended: false });
        let core = self.core_of(run);
        let created = Fact::Created { at: Timestamp(self.now), plan: plan(arrival), about: About::default() };
        if let Err(error) = self.cores[core].replay(run, &created) {
            unreachable!("the plan is well: {error}");
        }
        self.turn(core, vec![Event::Activated { run }]);
    }

    /// What a worker reports of an attempt: a run's first task grows the children.
    fn report(&mut self, told: Told) -> Event {
        let Told { worker, attempt, slot_ms } = told;
        let outcome = match self.runs.get(&attempt.run) {
            Some(run) if attempt.task.index == 0 => End::Expanded(Expansion {
                child: Template { payload: ByteBuf::new() },
                items: Items::Inline(vec![ByteBuf::new(); run.arrival.tasks as usize]),
                join: Template { payload: ByteBuf::new() },
                on_failure: OnFailure::Fail,
            }),
            _ => End::Succeeded { output: ByteBuf::new(), cached: false },
        };
        let report = Report { attempt, started_us: self.now * 1_000, slot_us: slot_ms * 1_000, outcome };
        Event::Reported { worker: WorkerId(worker.into()), report }
    }

    /// One turn of a core, and what follows from it.
    fn turn(&mut self, core: usize, events: Vec<Event>) {
        let began = Instant::now();
        let step = self.cores[core].turn(Timestamp(self.now), events);
        let took = began.elapsed();
        self.outcome.core += took;
        self.outcome.longest_turn = self.outcome.longest_turn.max(took);
        self.take_note(&step);
        for effect in step.effects {
            match effect {
                Effect::Publish(assignment) => {
                    self.at(self.now + DELIVERY_MS, What::Delivered(assignment.attempts().collect()));
                }
                Effect::Revoke { .. } => {}
                Effect::RunEnded { run, status } => {
                    self.cores[core].forget(run);
                    if let Some(ended) = self.runs.get_mut(&run)
                        && !ended.ended
                        && status == RunStatus::Succeeded
                    {
                        ended.ended = true;
                        ended.settled = Vec::new();
                        self.open -= 1;
                    }
                }
            }
        }
        if let Some(Timestamp(at)) = self.cores[core].next_deadline()
            && at < self.waking[core]
        {
            self.waking[core] = at;
            self.at(at.max(self.now), What::Turn(core));
        }
    }

    /// Counts what must not be.
    fn take_note(&mut self, step: &Step) {
        for (run, facts) in &step.facts {
            let id = *run;
            let Some(run) = self.runs.get_mut(run) else { continue };
            for &task in &facts.settled {
                if self.lost.tasks.remove(&(id, task)) && self.lost.tasks.is_empty() {
                    self.outcome.recovered_s = since_loss(&self.setup, self.now);
                }
                match run.settled.get_mut(task as usize) {
                    Some(settled) if !*settled => {
                        *settled = true;
                        run.done += u32::from(task != 0);
                        self.outcome.tasks += 1;
                        let is_join = task == run.arrival.tasks + 1;
                        self.outcome.early += u64::from(is_join && run.done <= run.arrival.tasks);
                    }
                    _ => self.outcome.twice += 1,
                }
            }
        }
    }

    /// Deliveries go to free slots, which do the attempts of one after the other.
    fn hand_out(&mut self) {
        while self.fleet.has_free()
            && let Some(attempts) = self.queue.pop_front()
            && let Some(worker) = self.fleet.take(&attempts)
        {
            let mut at = self.now;
            let mut told = Vec::with_capacity(attempts.len());
            for attempt in attempts {
                let slot_ms = self.begin(attempt, at);
                at += slot_ms;
                told.push(Told { worker, attempt, slot_ms });
            }
            self.at(at, What::Done(worker, told));
        }
    }

    /// An attempt begins; how long it takes.
    fn begin(&mut self, attempt: AttemptRef, at: u64) -> u64 {
        let Some(run) = self.runs.get(&attempt.run) else { return 0 };
        let is_child = attempt.task.index != 0 && attempt.task.index <= run.arrival.tasks;
        if !is_child {
            return 1;
        }
        self.outcome.waits.add(at - run.since_ms.min(at));
        let mean = f64::from(run.arrival.task_ms);
        let varying = self.setup.varies * mean;
        let slot_ms = (mean - varying + self.dice.exponential(varying)) as u64;
        self.outcome.work_s += slot_ms as f64 / 1_000.0;
        slot_ms.max(1)
    }

    /// The schedulers look at the workers.
    fn see(&mut self) {
        let demands: Vec<u64> = self.cores.iter().map(|core| core.demand().values().sum::<u64>()).collect();
        let all: u64 = demands.iter().sum();
        for (core, demand) in demands.into_iter().enumerate() {
            let live = self.fleet.live();
            let seen = PoolSeen { workers: live, slots: live * self.setup.slots, elsewhere: all - demand };
            self.turn(core, vec![Event::PoolsSeen(BTreeMap::from([(POOL.to_owned(), seen)]))]);
        }
        self.at(self.now + SEE_MS, What::See);
    }

    /// Whoever scales looks at the pool.
    fn look(&mut self) {
        // Schedulers say once a second what they have.
        if self.now.is_multiple_of(1_000) {
            let now = Timestamp(self.now);
            let began = Instant::now();
            let backlogs = self.cores.iter().filter_map(|core| core.backlog(now).remove(POOL));
            self.backlog = backlogs.fold(PoolBacklog::default(), |sum, one| PoolBacklog {
                ready: sum.ready + one.ready,
                out: sum.out + one.out,
                work_us: sum.work_us + one.work_us,
                unknown: sum.unknown + one.unknown,
            });
            self.outcome.core += began.elapsed();
        }
        let PoolBacklog { ready, out, work_us, unknown } = self.backlog;
        let (live, starting, draining) = (self.fleet.live(), self.fleet.starting(), self.fleet.draining());
        let now = Timestamp(self.now);
        if self.outcome.replaced_s.is_none() && self.lost.workers_before > 0 && live >= self.lost.workers_before {
            self.outcome.replaced_s = since_loss(&self.setup, self.now);
        }
        // What draining workers hold is theirs to finish.
        let leaving = self.fleet.leaving().min(out);
        let stays = |whole: u64| {
            (u128::from(whole) * u128::from(ready + out - leaving) / u128::from((ready + out).max(1))) as u64
        };
        let (out, work_us, unknown) = (out - leaving, stays(work_us), stays(unknown));
        let sight = Sight { now, ready, out, work_ms: work_us / 1_000, unknown, live, starting, draining };
        let wanted = self.scaling.wanted(&sight);
        for _ in live + starting..wanted {
            let worker = self.fleet.start(self.now);
            self.at(self.now + self.setup.start_up_ms, What::Ready(worker));
        }
        for _ in wanted..live + starting {
            if !self.fleet.drain_one(self.now) {
                break;
            }
        }
        if self.now.is_multiple_of(10_000) {
            self.outcome.workers.push((self.now as f64 / 1_000.0, f64::from(live + starting + draining)));
        }
        self.at(self.now + LOOK_MS, What::Look);
    }
}

/// Seconds from the loss until now.
fn since_loss(setup: &Setup, now: u64) -> Option<f64> {
    setup.loss.map(|loss| now.saturating_sub(loss.at_ms) as f64 / 1_000.0)
}

/// One step whose task grows the run's tasks.
fn plan(arrival: Arrival) -> Plan {
    // Pipelines that are submitted again and again: their durations are known from run to run.
    let pipeline = format!("simulated-{}", arrival.task_ms.next_power_of_two());
    let step = PlanStep {
        name: "work".to_owned(),
        kind: "noop".to_owned(),
        payload: ByteBuf::new(),
        needs: Vec::new(),
        when: When::Success,
        retries: 2,
        timeout_ms: None,
        pool: POOL.to_owned(),
        priority: 0,
        limits: Vec::new(),
    };
    Plan { pipeline, weight: 1, limits: Vec::new(), steps: vec![step] }
}
