//! Random events against random plans: invariants hold after every one, a replay gives the same state, every
//! run ends, and what is recorded keeps the promises.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::fact::{About, Cause, Fact, Next, RunStatus};
use gristmill_protocol::message::{
    Expansion, Expired, ExpiryCause, Holder, Items, OnFailure, Outcome, Report, ReturnCause, Revoked, Template,
};
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{NamedLimit, Plan, PlanNeed, PlanStep};
use gristmill_protocol::{AttemptRef, ErrorCode, Failure, RunId, Shard, TaskKey, Timestamp, WorkerId};
use gristmill_scheduler_core::{Effect, Event, PoolSeen, Scheduler, Step};
use serde_bytes::ByteBuf;

/// A small random number generator, so that one seed tells a whole history.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64 (Steele, Lea and Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The outside: it performs effects, ends attempts as the dice fall, and remembers the journals.
struct World {
    dice: Dice,
    now: Timestamp,
    core: Scheduler,
    journals: BTreeMap<RunId, Vec<Fact>>,
    /// Attempts that somebody may end, those of the past included.
    attempts: Vec<AttemptRef>,
    out: BTreeSet<AttemptRef>,
    to_revoke: Vec<AttemptRef>,
    ended: BTreeMap<RunId, RunStatus>,
}

fn random_plan(dice: &mut Dice) -> Plan {
    let steps = 1 + dice.below(6) as usize;
    let plan_step = |at: usize, dice: &mut Dice| PlanStep {
        name: format!("s{at}"),
        kind: "noop".to_owned(),
        payload: ByteBuf::from(vec![at as u8]),
        needs: (0..at as u16)
            .filter(|_| dice.chance(40))
            .map(|step| PlanNeed { step, output: step % 2 == 0 })
            .collect(),
        when: [When::Success, When::Success, When::Success, When::Failure, When::Always][dice.below(5) as usize],
        retries: dice.below(3) as u16,
        timeout_ms: dice.chance(30).then_some(20_000),
        pool: ["default", "big"][dice.below(2) as usize].to_owned(),
        priority: dice.below(5) as i8 - 2,
        limits: if dice.chance(30) { vec![0] } else { Vec::new() },
    };
    Plan {
        pipeline: "random".to_owned(),
        weight: 1 + dice.below(3) as u16,
        limits: vec![NamedLimit { name: "scarce".to_owned(), max: 1 + dice.below(2) as u32 }],
        steps: (0..steps).map(|at| plan_step(at, dice)).collect(),
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            dice: Dice(seed),
            now: Timestamp(1_000_000),
            core: Scheduler::new(),
            journals: BTreeMap::new(),
            attempts: Vec::new(),
            out: BTreeSet::new(),
            to_revoke: Vec::new(),
            ended: BTreeMap::new(),
        };
        let runs = 1 + world.dice.below(3);
        for run in 0..runs {
            let id = RunId::derive(world.now, "ns", &run.to_string(), Some(Shard(run as u8)));
            let plan = random_plan(&mut world.dice);
            let fact = Fact::Created { at: world.now, plan, about: About::default() };
            world.core.replay(id, &fact).expect("a new run");
            world.journals.insert(id, vec![fact]);
            world.turn(Event::Activated { run: id });
        }
        world.turn(pools(2, 2));
        world
    }

    fn turn(&mut self, event: Event) {
        let step = self.core.handle(self.now, event);
        self.perform(step);
        self.core.check_invariants();
        self.check_limit();
    }

    fn perform(&mut self, step: Step) {
        for (run, facts) in step.facts {
            self.journals.get_mut(&run).expect("a known run").extend(facts.facts);
        }
        for effect in step.effects {
            match effect {
                Effect::Publish(assignment) => {
                    for attempt in assignment.attempts() {
                        assert!(self.out.insert(attempt), "an attempt is published once: {attempt}");
                        self.attempts.push(attempt);
                    }
                }
                Effect::Revoke { attempts, .. } => self.to_revoke.extend(attempts),
                Effect::RunEnded { run, status } => {
                    self.ended.insert(run, status);
                }
            }
        }
    }

    /// At most so many attempts that name the limit are at work, by what the outside knows.
    fn check_limit(&self) {
        let mut max = u32::MAX;
        let mut working = 0;
        for (run, journal) in &self.journals {
            let Some(Fact::Created { plan, .. }) = journal.first() else { panic!("a journal begins with its run") };
            if !self.ended.contains_key(run) {
                max = max.min(plan.limits[0].max);
            }
            let limited = |step: u16| !plan.steps[usize::from(step)].limits.is_empty();
            working += self
                .core
                .out(*run)
                .iter()
                .filter(|(attempt, _)| {
                    (attempt.task.index as usize) < plan.steps.len() && limited(attempt.task.index as u16)
                })
                .count();
        }
        assert!(working as u32 <= max.max(1) || max == u32::MAX, "{working} tasks work under a limit of {max}");
    }

    /// Ends one attempt, mostly one that is out, in one of all possible ways.
    fn end_something(&mut self) {
        let at = self.dice.below(self.attempts.len() as u64) as usize;
        let attempt = match self.out.iter().nth(self.dice.below(self.out.len().max(1) as u64) as usize) {
            Some(out) if self.dice.0 % 10 < 8 => *out,
            _ => self.attempts[at],
        };
        self.out.remove(&attempt);
        let worker = WorkerId(self.dice.below(2));
        let expired = |cause| Event::Expired(Expired { attempt, worker, cause });
        let event = match self.dice.below(20) {
            0 => expired(ExpiryCause::Lost),
            1 => expired(ExpiryCause::TimedOut),
            2 if self.dice.chance(50) => Event::Preempted(Expired { attempt, worker, cause: ExpiryCause::Lost }),
            2 => Event::RecordClosed { attempt },
            3 => report(attempt, worker, Outcome::Returned(ReturnCause::Draining)),
            4 | 5 => report(attempt, worker, Outcome::Failed(Failure::new(ErrorCode::Unavailable, "away"))),
            6 => report(attempt, worker, Outcome::Failed(Failure::new(ErrorCode::BadInput, "bad"))),
            7 if self.dice.chance(50) => report(attempt, worker, Outcome::Rejected { reason: "no".to_owned() }),
            8..=11 if attempt.task.index < 8 || self.dice.chance(20) => {
                let outcome = Outcome::Expanded(self.expansion());
                report(attempt, worker, outcome)
            }
            _ => report(attempt, worker, Outcome::Succeeded { output: ByteBuf::from(vec![7]), cached: false }),
        };
        self.turn(event);
    }

    fn expansion(&mut self) -> Expansion {
        let count = 1 + self.dice.below(6);
        Expansion {
            child: Template { payload: ByteBuf::from(vec![1]) },
            items: Items::Inline((0..count).map(|item| ByteBuf::from(vec![item as u8])).collect()),
            join: Template { payload: ByteBuf::from(vec![2]) },
            on_failure: if self.dice.chance(50) { OnFailure::Fail } else { OnFailure::Tolerate(1) },
        }
    }

    fn act(&mut self) {
        self.now = self.now.plus_ms(self.dice.below(400));
        if !self.to_revoke.is_empty() && self.dice.chance(60) {
            let attempt = self.to_revoke.remove(0);
            let held = self.out.remove(&attempt) && self.dice.chance(70);
            let holder = held.then(|| Holder { worker: WorkerId(1), until: self.now.plus_ms(500) });
            return self.turn(Event::Revoked(Revoked { attempt, holder }));
        }
        let run = *self.journals.keys().nth(self.dice.below(self.journals.len() as u64) as usize).expect("a run");
        match self.dice.below(100) {
            0 => self.turn(Event::CancelAsked { run, by: "somebody".to_owned() }),
            1 | 2 if self.ended.get(&run).is_some_and(|status| *status != RunStatus::Succeeded) => {
                self.ended.remove(&run);
                self.turn(Event::ResumeAsked { run, by: "somebody".to_owned() });
            }
            3 | 4 => self.replay_one(run),
            5 => {
                let slots = self.dice.below(5) as u32;
                self.turn(pools(slots, 2));
            }
            6..=9 if !self.attempts.is_empty() => {
                // A worker stops of itself, or after a revoke.
                let attempt = self.attempts[self.dice.below(self.attempts.len() as u64) as usize];
                self.out.remove(&attempt);
                self.turn(report(attempt, WorkerId(1), Outcome::Stopped));
            }
            10..=19 => {
                self.now = self.core.next_deadline().unwrap_or(self.now).max(self.now);
                self.turn(Event::Tick);
            }
            _ if !self.attempts.is_empty() => self.end_something(),
            _ => self.turn(Event::Tick),
        }
    }

    /// A replay of the journal gives the state of the live run.
    fn replay_one(&mut self, run: RunId) {
        self.turn(Event::Tick);
        let mut replayed = Scheduler::new();
        for fact in &self.journals[&run] {
            replayed.replay(run, fact).expect("a journal replays");
        }
        let step = replayed.handle(self.now, Event::Activated { run });
        assert!(step.facts.is_empty(), "a replay leaves nothing to decide: {:?}", step.facts);
        replayed.check_invariants();
        assert_eq!(replayed.outline(run), self.core.outline(run));
        replayed.forget(run);
        replayed.check_invariants();
    }

    /// From here on all goes well, and every run ends.
    fn end_well(&mut self) {
        self.turn(pools(4, 1));
        for _ in 0..20_000 {
            if self.ended.len() == self.journals.len() {
                return;
            }
            for attempt in std::mem::take(&mut self.to_revoke) {
                self.out.remove(&attempt);
                self.turn(Event::Revoked(Revoked { attempt, holder: None }));
            }
            if let Some(attempt) = self.out.pop_first() {
                self.turn(report(attempt, WorkerId(9), Outcome::Succeeded { output: ByteBuf::new(), cached: false }));
            } else {
                self.now = self.core.next_deadline().unwrap_or(self.now).max(self.now.plus_ms(1));
                self.turn(Event::Tick);
                let lost: Vec<AttemptRef> = self
                    .journals
                    .keys()
                    .flat_map(|run| self.core.out(*run))
                    .map(|(attempt, _)| attempt)
                    .filter(|attempt| !self.out.contains(attempt))
                    .collect();
                for attempt in lost {
                    self.turn(Event::RecordClosed { attempt });
                }
            }
        }
        let open = self.journals.keys().filter(|run| !self.ended.contains_key(run));
        let reasons = |run: &RunId| {
            let tasks = 0..self.core.task_count(*run);
            tasks.map(|task| (task, self.core.explain(*run, task))).collect::<Vec<_>>()
        };
        panic!("not ended: {:?}", open.map(|run| (self.core.outline(*run), reasons(run))).collect::<Vec<_>>());
    }

    /// What the journals must never say.
    fn check_journals(&self) {
        for (run, facts) in &self.journals {
            let mut succeeded = BTreeSet::new();
            let mut open = true;
            for fact in facts {
                match fact {
                    Fact::Succeeded(column) => {
                        for success in column.iter() {
                            assert!(succeeded.insert(success.task), "{run}: task {} succeeded twice", success.task);
                        }
                        assert!(open, "{run}: something succeeded after the end");
                    }
                    Fact::Assigned { .. } => assert!(open, "{run}: something started after the end"),
                    Fact::Expanded { task, .. } => {
                        assert!(succeeded.insert(*task), "{run}: task {task} expanded twice");
                    }
                    Fact::Ended { cause: Cause::Rejected { .. }, next, .. } => {
                        assert!(matches!(next, Next::Reject | Next::Drop), "{run}: a rejection isn't retried");
                    }
                    Fact::RunEnded { .. } => open = false,
                    Fact::Resumed { .. } => open = true,
                    _ => {}
                }
            }
            assert!(!open, "{run} has ended");
        }
    }
}

fn pools(slots: u32, workers: u32) -> Event {
    let seen = PoolSeen { workers, slots, elsewhere: 0 };
    Event::PoolsSeen([("default".to_owned(), seen), ("big".to_owned(), seen)].into())
}

fn report(attempt: AttemptRef, worker: WorkerId, outcome: Outcome) -> Event {
    Event::Reported { worker, report: Report { attempt, started_us: 1, slot_us: 50, outcome } }
}

/// `GRISTMILL_SEED` repeats one history.
#[test]
fn any_history_keeps_the_invariants_and_ends() {
    let only = std::env::var("GRISTMILL_SEED").ok().map(|seed| seed.parse().expect("GRISTMILL_SEED is a number"));
    for seed in only.map_or(0..5_000, |seed: u64| seed..seed + 1) {
        let history = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..5 + seed % 150 {
                world.act();
            }
            world.end_well();
            world.check_journals();
        });
        if let Err(panic) = history {
            eprintln!("repeat with GRISTMILL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The assignment was recorded in what the store has forgotten; the work was done all the same.
#[test]
fn a_child_that_was_never_out_may_succeed() {
    let mut core = Scheduler::new();
    let run = RunId::derive(Timestamp(1), "ns", "1", None);
    let mut plan = random_plan(&mut Dice(1));
    plan.steps.truncate(1);
    plan.steps[0].limits.clear();
    plan.steps[0].pool = "default".to_owned();
    core.replay(run, &Fact::Created { at: Timestamp(1), plan, about: About::default() }).expect("a new run");
    let mut published: Vec<AttemptRef> = Vec::new();
    let mut take = |step: Step| {
        for effect in step.effects {
            if let Effect::Publish(assignment) = effect {
                published.extend(assignment.attempts());
            }
        }
        published.last().map_or(0, |attempt| attempt.task.tag)
    };
    take(core.turn(Timestamp(1), [pools(1, 1), Event::Activated { run }]));
    let root = AttemptRef { run, task: TaskKey { index: 0, tag: 0 }, attempt: 1 };
    let items = Items::Inline(vec![ByteBuf::from(vec![0]); 6]);
    let template = Template { payload: ByteBuf::new() };
    let expansion = Expansion { child: template.clone(), items, join: template, on_failure: OnFailure::Fail };
    let tag = take(core.handle(Timestamp(2), report(root, WorkerId(1), Outcome::Expanded(expansion))));
    let succeeded = |index| {
        let attempt = AttemptRef { run, task: TaskKey { index, tag }, attempt: 1 };
        report(attempt, WorkerId(1), Outcome::Succeeded { output: ByteBuf::new(), cached: false })
    };
    // The fifth child reports though only the first two are out.
    take(core.handle(Timestamp(3), succeeded(5)));
    core.check_invariants();
    for index in [1, 2, 3, 4, 6] {
        take(core.handle(Timestamp(4), succeeded(index)));
        core.check_invariants();
    }
    let out: Vec<u32> = published.iter().map(|attempt| attempt.task.index).collect();
    assert_eq!(out, [0, 1, 2, 3, 4, 6, 7], "each of the others goes out once, and then the join");
}

#[test]
fn a_report_for_other_items_is_refused() {
    let mut world = World::new(1);
    let run = *world.journals.keys().next().expect("a run");
    let before = world.core.outline(run);
    let attempt = AttemptRef { run, task: TaskKey { index: 0, tag: 99 }, attempt: 1 };
    world.turn(report(attempt, WorkerId(1), Outcome::Succeeded { output: ByteBuf::new(), cached: false }));
    assert_eq!(world.core.outline(run), before);
}
