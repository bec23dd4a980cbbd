//! What a run's journal says to people: its steps, how long they took, what they made, why they failed.
//!
//! The states come from replaying the journal through the core, so they are the ones that the scheduler
//! acts on; what the core has no use for (times by the workers' clocks, who did what) is tallied beside it.
//! A run of a hundred thousand tasks keeps a tally a group and the [`ATTEMPTS_KEPT`] attempts that tell
//! most; the others are counted.

mod kept;
mod made;
mod tally;
mod uses;

use std::collections::BTreeMap;

use gristmill_backends::state::{State, StateError};
use gristmill_protocol::fact::{About, Cause, Fact, JournalBody, RunStatus};
use gristmill_protocol::message::ReturnCause;
use gristmill_protocol::output::Output;
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{Plan, PlanNeed};
use gristmill_protocol::wire::{self, WireError};
use gristmill_protocol::{Failure, RunId, Timestamp, WorkerId};
use gristmill_scheduler_core::{GroupKind, GroupView, ReplayError, Scheduler, TaskState};

use kept::Kept;
pub use made::MadeModel;
pub use tally::Tally;
pub use uses::{StepUse, Uses};

/// Attempts that are kept for a timeline: more bars than a screen has lines to tell apart.
pub const ATTEMPTS_KEPT: usize = 2_000;

/// Entries of a journal that are read at a time; each has at most 256 KiB.
const READ_MAX: usize = 64;

/// Why a journal can't be told.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("the journal of `{run}` is empty")]
    Empty { run: RunId },
    #[error("failed to follow the journal of `{run}`")]
    Replay {
        run: RunId,
        #[source]
        source: ReplayError,
    },
    #[error("failed to read the journal of `{run}` at position {position}")]
    Damaged {
        run: RunId,
        position: u64,
        #[source]
        source: WireError,
    },
    #[error("failed to read the journal of `{run}`")]
    State {
        run: RunId,
        #[source]
        source: StateError,
    },
}

/// A run as its journal tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub run: RunId,
    pub plan: Plan,
    pub about: About,
    pub created: Timestamp,
    /// How it ended; nothing while it is open.
    pub status: Option<RunStatus>,
    /// Who asked for it to stop, unless it was resumed since.
    pub cancelled_by: Option<String>,
    /// The times in which it was open, one after the other: the first, and one a resume.
    pub lives: Vec<Life>,
    /// The steps in the order of the plan.
    pub steps: Vec<StepHistory>,
    /// Tasks that share a template, in the order in which they came to be; a step's own task first.
    pub groups: Vec<GroupHistory>,
    /// At most [`ATTEMPTS_KEPT`] attempts by their start: those of single tasks and those that didn't
    /// succeed before children that did, the longest of these before shorter ones.
    pub attempts: Vec<AttemptHistory>,
    /// Attempts that aren't among them.
    pub attempts_left_out: u64,
    /// Who worked on it.
    pub workers: BTreeMap<WorkerId, Tally>,
    /// What of slots its steps used, in each of its lives.
    pub uses: Uses,
}

/// A time in which the run was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub from: Timestamp,
    /// Who resumed it; nobody for the first.
    pub resumed_by: Option<String>,
    /// When it ended and how.
    pub ended: Option<(Timestamp, RunStatus)>,
}

/// Where a step is, in the words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepState {
    /// It hasn't begun.
    Waiting,
    /// A task of it is out.
    Running,
    /// It runs again after a failure.
    Retrying,
    Succeeded,
    Failed,
    /// Its gate said no.
    Rejected,
    /// What it needs didn't end as it should.
    Skipped,
    /// The run was cancelled before it ended.
    Cancelled,
}

impl StepState {
    /// The state as it stands in JSON and on the screen.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Running => "running",
            StepState::Retrying => "retrying",
            StepState::Succeeded => "succeeded",
            StepState::Failed => "failed",
            StepState::Rejected => "rejected",
            StepState::Skipped => "skipped",
            StepState::Cancelled => "cancelled",
        }
    }

    /// All states.
    pub const ALL: [StepState; 8] = [
        StepState::Waiting,
        StepState::Running,
        StepState::Retrying,
        StepState::Succeeded,
        StepState::Failed,
        StepState::Rejected,
        StepState::Skipped,
        StepState::Cancelled,
    ];

    /// A task's state in a run that is open or has ended.
    pub fn of(task: TaskState, run: Option<RunStatus>) -> StepState {
        match task {
            TaskState::Succeeded => StepState::Succeeded,
            TaskState::Failed => StepState::Failed,
            TaskState::Rejected => StepState::Rejected,
            TaskState::Skipped => StepState::Skipped,
            TaskState::Dropped => StepState::Cancelled,
            // What hadn't ended when the run did was cut off by its end.
            _ if run.is_some() => StepState::Cancelled,
            TaskState::Waiting | TaskState::Ready => StepState::Waiting,
            TaskState::Out | TaskState::Expanded => StepState::Running,
            TaskState::Backoff => StepState::Retrying,
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepHistory {
    pub name: String,
    pub kind: String,
    pub needs: Vec<PlanNeed>,
    pub when: When,
    pub state: StepState,
    /// Tasks known so far: 1, or with an expansion its children and joins too.
    pub tasks: u32,
    /// Tasks that have ended.
    pub ended: u32,
    /// Attempts that are out.
    pub out: u32,
    /// Since when the oldest of them is out, by the store's clock.
    pub out_since: Option<Timestamp>,
    /// What its attempts came to, all together.
    pub tally: Tally,
    /// Seconds from its first start to its last end, without the time in which the run had ended.
    pub seconds: f64,
    /// Why it failed, or what its gate said.
    pub failure: Option<Failure>,
    /// What it has made.
    pub output: Option<Output>,
}

impl StepHistory {
    /// Whether its result was there already: it succeeded without any work.
    pub fn is_cached(&self) -> bool {
        let tally = &self.tally;
        self.state == StepState::Succeeded && tally.succeeded > 0 && tally.cached == tally.succeeded
    }

    /// Seconds that it took, until `now` while a task of it is out.
    pub fn seconds_until(&self, now: Timestamp) -> f64 {
        let running = self.out_since.map_or(0.0, |since| now.since(since) as f64 / 1e3);
        // What has ended of a fan-out and what is out overlap; the longer one is nearer to the truth than the sum.
        self.seconds.max(running)
    }

    /// Rows of what it has made, where it has any.
    pub fn rows(&self) -> Option<u64> {
        self.output.as_ref().and_then(Output::rows)
    }
}

/// Tasks that share a template: a step's task, children of an expansion, a join.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupHistory {
    pub view: GroupView,
    /// Tasks by where they are, those in no state left out.
    pub states: BTreeMap<StepState, u32>,
    pub tally: Tally,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptHistory {
    pub task: u32,
    pub number: u16,
    /// Position in [`History::groups`].
    pub group: usize,
    /// Its task's name: `score`, `score/1/17`, `score/1/join`.
    pub name: String,
    pub worker: Option<WorkerId>,
    /// Microseconds since the Unix epoch: by the worker's clock where it reported, else from when it was
    /// given out by the store's.
    pub started_us: u64,
    /// Microseconds that it took; nothing while it is out.
    pub took_us: Option<u64>,
    pub outcome: AttemptOutcome,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// It is out.
    Running,
    Succeeded {
        cached: bool,
    },
    /// It became that many children and a join.
    Expanded {
        children: u32,
    },
    Rejected {
        reason: String,
    },
    Failed(Failure),
    TimedOut,
    /// Its worker wasn't heard of.
    Lost,
    Returned(ReturnCause),
    Cancelled,
}

impl AttemptOutcome {
    fn of(cause: &Cause) -> AttemptOutcome {
        match cause {
            Cause::Failed(failure) => AttemptOutcome::Failed(failure.clone()),
            Cause::TimedOut => AttemptOutcome::TimedOut,
            Cause::Lost => AttemptOutcome::Lost,
            Cause::Returned(why) => AttemptOutcome::Returned(*why),
            Cause::Rejected { reason } => AttemptOutcome::Rejected { reason: reason.clone() },
            Cause::Cancelled => AttemptOutcome::Cancelled,
        }
    }

    /// The outcome in a word.
    pub fn as_str(&self) -> &'static str {
        match self {
            AttemptOutcome::Running => "running",
            AttemptOutcome::Succeeded { cached: true } => "cached",
            AttemptOutcome::Succeeded { cached: false } => "succeeded",
            AttemptOutcome::Expanded { .. } => "expanded",
            AttemptOutcome::Rejected { .. } => "rejected",
            AttemptOutcome::Failed(_) => "failed",
            AttemptOutcome::TimedOut => "timed out",
            AttemptOutcome::Lost => "lost",
            AttemptOutcome::Returned(_) => "handed back",
            AttemptOutcome::Cancelled => "cancelled",
        }
    }
}

impl History {
    /// Tells the journal of a run.
    pub fn fold<'a>(run: RunId, facts: impl IntoIterator<Item = &'a Fact>) -> Result<History, HistoryError> {
        let mut folding = Folding::new(run);
        facts.into_iter().try_for_each(|fact| folding.push(fact))?;
        folding.finish()
    }

    /// Reads and tells the journal of a run.
    pub async fn read(state: &dyn State, run: RunId) -> Result<History, HistoryError> {
        let mut folding = Folding::new(run);
        read_facts(state, run, |fact| folding.push(fact)).await?;
        folding.finish()
    }

    /// How it stands, in a word.
    pub fn status_name(&self) -> &'static str {
        match self.status {
            Some(status) => status.as_str(),
            None if self.cancelled_by.is_some() => "cancelling",
            None => "running",
        }
    }

    /// When it ended; nothing while it is open.
    pub fn ended(&self) -> Option<Timestamp> {
        self.lives.last().and_then(|life| life.ended).map(|(at, _)| at)
    }

    /// Seconds in which it was open, until `now` if it still is.
    pub fn seconds(&self, now: Timestamp) -> f64 {
        let ms = |life: &Life| life.ended.map_or(now, |(at, _)| at).since(life.from);
        self.lives.iter().map(ms).sum::<u64>() as f64 / 1e3
    }

    /// The step with this name.
    pub fn step(&self, name: &str) -> Option<&StepHistory> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The models that it has registered, then those that it trained and didn't register.
    pub fn models(&self) -> Vec<MadeModel> {
        made::models(self)
    }

    /// Tasks known so far.
    pub fn tasks(&self) -> u64 {
        self.steps.iter().map(|step| u64::from(step.tasks)).sum()
    }

    /// The full name of an attempt, for its place in the run's trace.
    pub fn attempt_ref(&self, attempt: &AttemptHistory) -> gristmill_protocol::AttemptRef {
        self.groups[attempt.group].view.attempt(self.run, attempt.task, attempt.number)
    }
}

/// Reads the facts of a run's journal one after the other, a page of it in memory.
pub async fn read_facts(
    state: &dyn State,
    run: RunId,
    mut each: impl FnMut(&Fact) -> Result<(), HistoryError>,
) -> Result<(), HistoryError> {
    let mut position = 0;
    loop {
        let entries =
            state.journal(run, position, READ_MAX).await.map_err(|source| HistoryError::State { run, source })?;
        for entry in &entries {
            position = entry.position;
            let body: JournalBody = wire::decode("a journal entry", &entry.body)
                .map_err(|source| HistoryError::Damaged { run, position, source })?;
            body.facts.iter().try_for_each(&mut each)?;
        }
        if entries.len() < READ_MAX {
            return Ok(());
        }
    }
}

/// A history in the making.
#[derive(Debug)]
pub struct Folding {
    run: RunId,
    core: Scheduler,
    head: Option<(Timestamp, About)>,
    cancelled_by: Option<String>,
    lives: Vec<Life>,
    /// By position of the group.
    tallies: Vec<Tally>,
    /// From first start to last end in microseconds, by step and life.
    spans: BTreeMap<(u16, usize), (u64, u64)>,
    /// Attempts that are out, and since when.
    out: BTreeMap<(u32, u16), Timestamp>,
    kept: Kept,
    workers: BTreeMap<WorkerId, Tally>,
    uses: Uses,
}

/// An attempt's end on its way into the tallies.
struct End {
    task: u32,
    number: u16,
    worker: Option<WorkerId>,
    started_us: u64,
    took_us: u64,
    outcome: AttemptOutcome,
}

impl Folding {
    /// Of a run whose journal is yet to come.
    pub fn new(run: RunId) -> Folding {
        Folding {
            run,
            core: Scheduler::new(),
            head: None,
            cancelled_by: None,
            lives: Vec::new(),
            tallies: Vec::new(),
            spans: BTreeMap::new(),
            out: BTreeMap::new(),
            kept: Kept::new(ATTEMPTS_KEPT),
            workers: BTreeMap::new(),
            uses: Uses::default(),
        }
    }

    /// Takes the next fact of the journal.
    pub fn push(&mut self, fact: &Fact) -> Result<(), HistoryError> {
        let run = self.run;
        self.core.replay(run, fact).map_err(|source| HistoryError::Replay { run, source })?;
        match fact {
            Fact::Created { at, about, .. } => {
                self.head = Some((*at, about.clone()));
                self.lives = vec![Life { from: *at, resumed_by: None, ended: None }];
            }
            Fact::Assigned { at, ranges, .. } => {
                for range in ranges {
                    let tasks = range.first..range.first.saturating_add(range.count);
                    self.out.extend(tasks.map(|task| ((task, range.attempt), *at)));
                }
            }
            Fact::Succeeded(column) => {
                for success in column.iter() {
                    self.end(End {
                        task: success.task,
                        number: success.attempt,
                        worker: column.worker,
                        started_us: success.started_us,
                        took_us: success.slot_us,
                        outcome: AttemptOutcome::Succeeded { cached: success.cached },
                    });
                }
            }
            Fact::Expanded { task, attempt, worker, started_us, slot_us, expansion } => self.end(End {
                task: *task,
                number: *attempt,
                worker: Some(*worker),
                started_us: *started_us,
                took_us: *slot_us,
                outcome: AttemptOutcome::Expanded { children: expansion.items.count() },
            }),
            Fact::Ended { task, attempt, worker, at, cause, .. } => {
                // Who ends without a result doesn't say when it began; it was given out then.
                let since = self.out.get(&(*task, *attempt)).copied().unwrap_or(*at);
                self.end(End {
                    task: *task,
                    number: *attempt,
                    worker: *worker,
                    started_us: since.0.saturating_mul(1_000),
                    took_us: at.since(since).saturating_mul(1_000),
                    outcome: AttemptOutcome::of(cause),
                });
            }
            Fact::Cancelling { by, .. } => self.cancelled_by = Some(by.clone()),
            Fact::Resumed { at, by } => {
                self.cancelled_by = None;
                self.lives.push(Life { from: *at, resumed_by: Some(by.clone()), ended: None });
            }
            Fact::RunEnded { at, status } => {
                if let Some(life) = self.lives.last_mut() {
                    life.ended = Some((*at, *status));
                }
            }
            Fact::Halted { .. } | Fact::Skipped { .. } => {}
        }
        Ok(())
    }

    fn end(&mut self, end: End) {
        let given_out = self.out.remove(&(end.task, end.number));
        let Some(at) = self.core.group_of(self.run, end.task) else { return };
        if self.tallies.len() <= at {
            self.tallies.resize(at + 1, Tally::default());
        }
        self.tallies[at].count(end.started_us, end.took_us, &end.outcome);
        if let Some(worker) = end.worker {
            self.workers.entry(worker).or_default().count(end.started_us, end.took_us, &end.outcome);
        }
        let (kind, step) = match self.core.group_at(self.run, at) {
            Some(group) => (group.kind, group.step),
            None => return,
        };
        let end_us = end.started_us.saturating_add(end.took_us);
        let life = self.lives.len();
        let waited_us = given_out.map_or(0, |at| end.started_us.saturating_sub(at.0.saturating_mul(1_000)));
        self.uses.count(step, life, end.took_us, waited_us, &end.outcome);
        let span = self.spans.entry((step, life)).or_insert((end.started_us, end_us));
        *span = (span.0.min(end.started_us), span.1.max(end_us));
        let plain = kind == GroupKind::Children && matches!(end.outcome, AttemptOutcome::Succeeded { .. });
        self.kept.offer(
            plain,
            AttemptHistory {
                task: end.task,
                number: end.number,
                group: at,
                name: String::new(),
                worker: end.worker,
                started_us: end.started_us,
                took_us: Some(end.took_us),
                outcome: end.outcome,
            },
        );
    }

    /// The run as the scheduler would have it.
    pub fn core(&self) -> &Scheduler {
        &self.core
    }

    /// What attempts that are out have used until `now`, in microseconds by step: from when they were given out, so
    /// also while they waited for a slot.
    pub fn running_us(&self, now: Timestamp) -> BTreeMap<u16, u64> {
        let mut running: BTreeMap<u16, u64> = BTreeMap::new();
        for (attempt, since) in self.core.out(self.run) {
            let group = self.core.group_of(self.run, attempt.task.index);
            let Some(group) = group.and_then(|at| self.core.group_at(self.run, at)) else { continue };
            *running.entry(group.step).or_default() += now.since(since).saturating_mul(1_000);
        }
        running
    }

    /// The history of what was pushed so far.
    pub fn finish(&self) -> Result<History, HistoryError> {
        let run = self.run;
        let mut kept = self.kept.clone();
        let Some((created, about)) = self.head.clone() else { return Err(HistoryError::Empty { run }) };
        let Some(plan) = self.core.plan(run).cloned() else { return Err(HistoryError::Empty { run }) };
        let status = self.core.status(run);
        for (attempt, since) in self.core.out(run) {
            let (task, number) = (attempt.task.index, attempt.attempt);
            let Some(group) = self.core.group_of(run, task) else { continue };
            let started_us = since.0.saturating_mul(1_000);
            let outcome = AttemptOutcome::Running;
            let running = AttemptHistory {
                task,
                number,
                group,
                name: String::new(),
                worker: None,
                started_us,
                took_us: None,
                outcome,
            };
            kept.offer(false, running);
        }
        let groups = self.groups(status);
        let steps = self.steps(&plan, &groups, status);
        let (mut attempts, attempts_left_out) = kept.into_attempts();
        for attempt in &mut attempts {
            let view = &groups[attempt.group].view;
            attempt.name = view.task_name(&plan.steps[usize::from(view.step)].name, attempt.task);
        }
        Ok(History {
            run,
            plan,
            about,
            created,
            status,
            cancelled_by: self.cancelled_by.clone(),
            lives: self.lives.clone(),
            steps,
            groups,
            attempts,
            attempts_left_out,
            workers: self.workers.clone(),
            uses: self.uses.clone(),
        })
    }

    fn groups(&self, status: Option<RunStatus>) -> Vec<GroupHistory> {
        let group = |(at, view): (usize, GroupView)| {
            let mut states = BTreeMap::new();
            for task in view.first..view.first + view.count {
                if let Some(state) = self.core.task_state(self.run, task) {
                    *states.entry(StepState::of(state, status)).or_default() += 1;
                }
            }
            GroupHistory { view, states, tally: self.tallies.get(at).cloned().unwrap_or_default() }
        };
        self.core.groups(self.run).enumerate().map(group).collect()
    }

    fn steps(&self, plan: &Plan, groups: &[GroupHistory], status: Option<RunStatus>) -> Vec<StepHistory> {
        let out = self.core.out(self.run);
        let mut tallies = vec![Tally::default(); plan.steps.len()];
        groups.iter().for_each(|group| tallies[usize::from(group.view.step)].add(&group.tally));
        let step = |(at, view): (usize, gristmill_scheduler_core::StepView)| {
            let position = at as u16;
            let planned = &plan.steps[at];
            let of_step =
                |task: u32| self.core.group_of(self.run, task).is_some_and(|group| groups[group].view.step == position);
            let spans = self.spans.range((position, 0)..=(position, usize::MAX));
            let micros: u64 = spans.map(|(_, (start, end))| end - start).sum();
            let output = self.core.output(self.run, at as u32);
            StepHistory {
                name: view.name,
                kind: view.kind,
                needs: planned.needs.clone(),
                when: planned.when,
                state: StepState::of(view.state, status),
                tasks: view.tasks,
                ended: view.ended,
                out: view.out,
                out_since: out.iter().filter(|(a, _)| of_step(a.task.index)).map(|(_, since)| *since).min(),
                tally: tallies[at].clone(),
                seconds: micros as f64 / 1e6,
                failure: self.core.failure(self.run, at as u32).cloned(),
                // Outputs that aren't of this program's kinds (of a benchmark, say) are none to speak of.
                output: output.and_then(|bytes| wire::decode("an output", bytes).ok()),
            }
        };
        self.core.steps(self.run).into_iter().enumerate().map(step).collect()
    }
}
