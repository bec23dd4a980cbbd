//! Journals as the real core writes them: a test says what happens to a run, and when.

use std::collections::BTreeMap;

use gristmill_protocol::fact::{About, Fact};
use gristmill_protocol::message::{Expansion, Expired, ExpiryCause, Items, OnFailure, Outcome, Report, Template};
use gristmill_protocol::output::{DatasetRef, Output};
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{Plan, PlanNeed, PlanStep};
use gristmill_protocol::{AttemptRef, Digest, ErrorCode, Failure, RunId, Shard, Timestamp, WorkerId, wire};
use gristmill_scheduler_core::{Effect, Event, PoolSeen, Scheduler, Step};
use serde_bytes::ByteBuf;

/// Milliseconds since the Unix epoch at which every recorded run is created: 2025-01-02 03:04:05 UTC.
pub const START_MS: u64 = 1_735_787_045_000;

/// A run to which things happen.
pub struct Recorder {
    pub run: RunId,
    pub now: Timestamp,
    pub facts: Vec<Fact>,
    core: Scheduler,
    /// When attempts went out.
    out: BTreeMap<u32, (AttemptRef, Timestamp)>,
    taken_back: Vec<AttemptRef>,
}

impl Recorder {
    /// A new run of steps, each with its kind and the names of the steps that it needs.
    pub fn new(steps: &[(&str, &str, &[&str])]) -> Recorder {
        Recorder::of(plan(steps), About::default())
    }

    /// A new run of a plan.
    pub fn of(plan: Plan, about: About) -> Recorder {
        let now = Timestamp(START_MS);
        let run = RunId::derive(now, "default", &plan.pipeline, Some(Shard(3)));
        let created = Fact::Created { at: now, plan, about };
        let mut core = Scheduler::new();
        core.replay(run, &created).expect("the plan can be run");
        let mut recorder =
            Recorder { run, now, facts: vec![created], core, out: BTreeMap::new(), taken_back: Vec::new() };
        let seen = PoolSeen { workers: 2, slots: 4, elsewhere: 0 };
        recorder.turn(Event::PoolsSeen(BTreeMap::from([("default".to_owned(), seen)])));
        recorder.turn(Event::Activated { run });
        recorder
    }

    /// Time passes.
    pub fn after(&mut self, ms: u64) -> &mut Recorder {
        self.now = self.now.plus_ms(ms);
        self.turn(Event::Tick);
        self
    }

    /// A task that is out succeeds.
    pub fn succeed(&mut self, task: u32, output: &Output) -> &mut Recorder {
        self.report(task, Outcome::Succeeded { output: wire::encode(output).into(), cached: false })
    }

    /// A task's result was there already.
    pub fn cached(&mut self, task: u32, output: &Output) -> &mut Recorder {
        self.report(task, Outcome::Succeeded { output: wire::encode(output).into(), cached: true })
    }

    /// A task grows children.
    pub fn expand(&mut self, task: u32, children: u32) -> &mut Recorder {
        self.expand_tolerating(task, children, OnFailure::Fail)
    }

    /// A task grows children of which some may fail.
    pub fn expand_tolerating(&mut self, task: u32, children: u32, on_failure: OnFailure) -> &mut Recorder {
        let template = |name: &str| Template { payload: ByteBuf::from(name.as_bytes().to_vec()) };
        self.report(
            task,
            Outcome::Expanded(Expansion {
                child: template("child"),
                items: Items::Inline(vec![ByteBuf::new(); children as usize]),
                join: template("join"),
                on_failure,
            }),
        )
    }

    /// A task fails.
    pub fn fail(&mut self, task: u32, code: ErrorCode, message: &str) -> &mut Recorder {
        self.report(task, Outcome::Failed(Failure::new(code, message)))
    }

    /// A task's gate says no.
    pub fn reject(&mut self, task: u32, reason: &str) -> &mut Recorder {
        self.report(task, Outcome::Rejected { reason: reason.to_owned() })
    }

    /// A task's worker is lost.
    #[allow(dead_code, reason = "not every test that includes this loses a worker")]
    pub fn lose(&mut self, task: u32) -> &mut Recorder {
        let attempt = self.take(task).0;
        self.turn(Event::Expired(Expired { attempt, worker: worker(task), cause: ExpiryCause::Lost }));
        self
    }

    /// Somebody cancels the run, and its workers stop.
    pub fn cancel(&mut self, by: &str) -> &mut Recorder {
        self.turn(Event::CancelAsked { run: self.run, by: by.to_owned() });
        for attempt in std::mem::take(&mut self.taken_back) {
            self.turn(Event::Revoked(gristmill_protocol::message::Revoked { attempt, holder: None }));
        }
        self
    }

    /// Somebody resumes the run.
    pub fn resume(&mut self, by: &str) -> &mut Recorder {
        self.turn(Event::ResumeAsked { run: self.run, by: by.to_owned() });
        self
    }

    /// An attempt at a task that is out ends; it began when it went out.
    pub fn report(&mut self, task: u32, outcome: Outcome) -> &mut Recorder {
        let (attempt, since) = self.take(task);
        let report = Report { attempt, started_us: since.0 * 1_000, slot_us: self.now.since(since) * 1_000, outcome };
        self.turn(Event::Reported { worker: worker(task), report });
        self
    }

    /// Tasks that are out.
    pub fn tasks_out(&self) -> Vec<u32> {
        self.out.keys().copied().collect()
    }

    fn take(&mut self, task: u32) -> (AttemptRef, Timestamp) {
        let out = self.out.remove(&task);
        out.unwrap_or_else(|| panic!("task {task} isn't out; these are: {:?}", self.out.keys()))
    }

    fn turn(&mut self, event: Event) {
        let Step { facts, effects } = self.core.handle(self.now, event);
        self.facts.extend(facts.into_values().flat_map(|facts| facts.facts));
        for effect in effects {
            match effect {
                Effect::Publish(assignment) => {
                    let now = self.now;
                    self.out.extend(assignment.attempts().map(|attempt| (attempt.task.index, (attempt, now))));
                }
                Effect::Revoke { attempts, .. } => {
                    for attempt in &attempts {
                        self.out.remove(&attempt.task.index);
                    }
                    self.taken_back.extend(attempts);
                }
                Effect::RunEnded { .. } => {}
            }
        }
    }
}

fn worker(task: u32) -> WorkerId {
    WorkerId(u64::from(task % 2) + 0xa1)
}

/// A plan of steps, each with its kind and the names of the steps that it needs.
pub fn plan(steps: &[(&str, &str, &[&str])]) -> Plan {
    let position = |name: &str| steps.iter().position(|step| step.0 == name).expect("a step is needed that exists");
    let step = |(name, kind, needs): &(&str, &str, &[&str])| PlanStep {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        payload: ByteBuf::new(),
        needs: needs.iter().map(|need| PlanNeed { step: position(need) as u16, output: true }).collect(),
        when: When::Success,
        retries: 2,
        timeout_ms: None,
        pool: "default".to_owned(),
        priority: 0,
        limits: Vec::new(),
    };
    Plan { pipeline: "flights".to_owned(), weight: 1, limits: Vec::new(), steps: steps.iter().map(step).collect() }
}

/// A dataset with that many rows, as an ingest or transform step makes it.
pub fn dataset(rows: u64) -> Output {
    let manifest = Digest::of(&rows.to_be_bytes());
    Output::Dataset { dataset: DatasetRef { manifest, rows }, quarantine: None }
}
