//! Events in, facts and effects out; and replay.
//!
//! All decisions about a single task stand here; which ready task goes out next is decided in
//! [`crate::dispatch`]. Every decision is a fact, pushed to the step and applied to the run in one place
//! each, so the state never runs ahead of what is remembered.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::fact::{Cause, Fact, Next, RunStatus, Success, TaskRange};
use gristmill_protocol::limits::{EXPAND_DEPTH_MAX, OUTPUT_BYTES_MAX, RUN_TASKS_MAX};
use gristmill_protocol::message::{Expansion, Expired, ExpiryCause, Outcome, Report, ReturnCause, Revoked};
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{Plan, PlanError};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, ErrorCode, Failure, RunId, Timestamp, WorkerId};

use crate::explain::{self, WaitingOn};
use crate::pool::PoolSeen;
use crate::run::{Out, Run, Shared, StepView, TaskState, lingers_until};
use crate::step::{Effect, Step};

/// What happened outside. A closed list: nothing else can change the scheduler's mind.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// All facts of the run's journal were replayed: it may go on.
    Activated { run: RunId },
    /// A worker ended an attempt.
    Reported { worker: WorkerId, report: Report },
    /// A lease ran out.
    Expired(Expired),
    /// A lease ran out whose worker was on a machine that may be taken away: most likely it was, which says nothing
    /// against the task.
    Preempted(Expired),
    /// An attempt was taken back.
    Revoked(Revoked),
    /// An attempt's lease is closed but nothing says how: it counts as handed back.
    RecordClosed { attempt: AttemptRef },
    /// Somebody asks for the run to stop.
    CancelAsked { run: RunId, by: String },
    /// Somebody asks for the ended run to go on.
    ResumeAsked { run: RunId, by: String },
    /// The live workers of all pools.
    PoolsSeen(BTreeMap<String, PoolSeen>),
    /// Time has passed.
    Tick,
}

/// A journal that can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("the journal of `{run}` doesn't begin with its creation")]
    NotCreated { run: RunId },
    #[error("the plan of `{run}` can't be run")]
    Plan { run: RunId, source: PlanError },
    #[error("the journal of `{run}` names task {task}; there are {tasks}")]
    NoSuchTask { run: RunId, task: u32, tasks: u32 },
}

/// All runs of the shards that this process owns.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    pub(crate) runs: BTreeMap<RunId, Run>,
    pub(crate) shared: Shared,
    /// Runs whose consequences are to be worked out at the end of the turn.
    touched: BTreeSet<RunId>,
}

impl Scheduler {
    /// A scheduler that holds no runs.
    pub fn new() -> Scheduler {
        Scheduler::default()
    }

    /// Takes all that has happened and returns what follows from it.
    ///
    /// `now` must not go back from one turn to the next.
    pub fn turn(&mut self, now: Timestamp, events: impl IntoIterator<Item = Event>) -> Step {
        let mut step = Step::default();
        for event in events {
            self.take(now, event, &mut step);
        }
        self.fire_timers(now);
        self.settle(now, &mut step);
        self.dispatch(now, &mut step);
        step
    }

    /// A turn with one event.
    pub fn handle(&mut self, now: Timestamp, event: Event) -> Step {
        self.turn(now, [event])
    }

    /// When [`Event::Tick`] is next needed, if nothing else happens first.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.shared.timers.first().map(|(at, ..)| *at);
        let linger = self.shared.lingers.first().map(|(at, ..)| *at).filter(|at| at.0 < u64::MAX);
        [timer, linger].into_iter().flatten().min()
    }

    /// Applies a fact read back from a run's journal. Has no effects.
    pub fn replay(&mut self, run: RunId, fact: &Fact) -> Result<(), ReplayError> {
        if let Fact::Created { at, plan, .. } = fact {
            plan.check().map_err(|source| ReplayError::Plan { run, source })?;
            self.forget(run);
            let new = Run::new(run, plan.clone(), *at, &mut self.shared);
            self.runs.insert(run, new);
            return Ok(());
        }
        let state = self.runs.get_mut(&run).ok_or(ReplayError::NotCreated { run })?;
        check_tasks(state, fact)?;
        apply(state, fact, &mut self.shared);
        Ok(())
    }

    /// By pool, how many tasks are ready or out; pools without any are left out.
    pub fn demand(&self) -> BTreeMap<String, u64> {
        let pools = self.shared.pools.iter().map(|(name, pool)| (name.clone(), pool.demand()));
        pools.filter(|(_, demand)| *demand > 0).collect()
    }

    /// Whether something is ready in a pool that has no workers.
    pub fn lacks_workers(&self) -> bool {
        self.shared.pools.iter().any(|(_, pool)| pool.ready > 0 && pool.seen.slots == 0)
    }

    /// Drops a run and gives its window and limits back exactly.
    pub fn forget(&mut self, run: RunId) {
        if let Some(state) = self.runs.remove(&run) {
            state.release(&mut self.shared);
        }
        self.touched.remove(&run);
    }

    /// Whether the run is held.
    pub fn holds(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// The runs that are held.
    pub fn held_runs(&self) -> impl Iterator<Item = RunId> + '_ {
        self.runs.keys().copied()
    }

    /// How a held run has ended; nothing while it is open.
    pub fn status(&self, run: RunId) -> Option<RunStatus> {
        self.runs.get(&run).and_then(|run| run.ended)
    }

    /// The plan of a held run.
    pub fn plan(&self, run: RunId) -> Option<&Plan> {
        self.runs.get(&run).map(|run| &run.plan)
    }

    /// The tasks of a held run whose success is recorded.
    pub fn succeeded_tasks(&self, run: RunId) -> Vec<u32> {
        let Some(run) = self.runs.get(&run) else { return Vec::new() };
        (0..run.task_count()).filter(|task| run.state(*task) == Some(TaskState::Succeeded)).collect()
    }

    /// The steps of a held run at a glance.
    pub fn steps(&self, run: RunId) -> Vec<StepView> {
        self.runs.get(&run).map(Run::steps).unwrap_or_default()
    }

    /// Why a task of a held run isn't running; empty when it has ended or is at work.
    pub fn explain(&self, run: RunId, task: u32) -> Vec<WaitingOn> {
        explain::explain(self, run, task)
    }

    /// What is out of a held run, and since when.
    pub fn out(&self, run: RunId) -> Vec<(AttemptRef, Timestamp)> {
        let Some(run) = self.runs.get(&run) else { return Vec::new() };
        run.out.iter().map(|(task, out)| (run.attempt_ref(*task, out.attempt), out.since)).collect()
    }

    /// When an attempt that is out was given out.
    pub fn given_out(&self, attempt: AttemptRef) -> Option<Timestamp> {
        let out = self.runs.get(&attempt.run)?.out.get(&attempt.task.index)?;
        (out.attempt == attempt.attempt).then_some(out.since)
    }

    /// The pool that a held run's task belongs to.
    pub fn pool_of(&self, run: RunId, task: u32) -> Option<&str> {
        let run = self.runs.get(&run)?;
        run.state(task)?;
        let lane = &run.lanes[usize::from(run.groups[run.group_of(task)].lane)];
        Some(&self.shared.pools[lane.pool].0)
    }

    /// Whether an attempt is out.
    pub fn assignment_is_out(&self, attempt: AttemptRef) -> bool {
        let Some(run) = self.runs.get(&attempt.run) else { return false };
        let out = run.out.get(&attempt.task.index);
        out.is_some_and(|out| run.attempt_ref(attempt.task.index, out.attempt) == attempt)
    }

    /// The message that assigns an attempt which is out, to be published again; nothing when it isn't out.
    pub fn assignment_of(&mut self, attempt: AttemptRef) -> Option<gristmill_protocol::message::Assignment> {
        let run = self.runs.get_mut(&attempt.run)?;
        let out = run.out.get(&attempt.task.index).filter(|out| out.attempt == attempt.attempt).copied()?;
        if run.attempt_ref(attempt.task.index, out.attempt) != attempt {
            return None;
        }
        Some(crate::dispatch::assignment(run, &self.shared, attempt.task.index, &out))
    }

    /// The state of a held run's tasks as text: equal for a live run and its replay.
    pub fn outline(&self, run: RunId) -> String {
        self.runs.get(&run).map(Run::outline).unwrap_or_default()
    }

    /// Bytes of state that the held runs take.
    pub fn heap_bytes(&self) -> usize {
        self.runs.values().map(Run::heap_bytes).sum()
    }

    /// How many tasks a held run has so far.
    pub fn task_count(&self, run: RunId) -> u32 {
        self.runs.get(&run).map_or(0, Run::task_count)
    }

    fn take(&mut self, now: Timestamp, event: Event, step: &mut Step) {
        match event {
            Event::Activated { run } => self.activate(now, run, step),
            Event::Reported { worker, report } => self.reported(now, worker, report, step),
            Event::Preempted(Expired { attempt, worker, cause: ExpiryCause::Lost }) => {
                let cause = Cause::Returned(ReturnCause::SpotNotice);
                self.attempt_ended(now, attempt, Some(worker), None, cause, step);
            }
            Event::Expired(expired) | Event::Preempted(expired) => {
                let cause = match expired.cause {
                    ExpiryCause::Lost => Cause::Lost,
                    ExpiryCause::TimedOut => Cause::TimedOut,
                };
                // A worker whose deadline has come may be at work until it learns of it, as when it is taken back.
                let until = match expired.cause {
                    ExpiryCause::Lost => None,
                    ExpiryCause::TimedOut => Some(lingers_until(now)),
                };
                self.attempt_ended(now, expired.attempt, Some(expired.worker), until, cause, step);
            }
            Event::Revoked(revoked) => {
                let worker = revoked.holder.map(|holder| holder.worker);
                // The holder's time is the store's, which may have been set back since `now` was read.
                let until = revoked.holder.map(|holder| holder.until.max(lingers_until(now)));
                self.attempt_ended(now, revoked.attempt, worker, until, Cause::Cancelled, step);
            }
            Event::RecordClosed { attempt } => {
                self.attempt_ended(now, attempt, None, None, Cause::Returned(ReturnCause::RecordClosed), step);
            }
            Event::CancelAsked { run, by } => self.cancel(now, run, by, step),
            Event::ResumeAsked { run, by } => self.resume(now, run, by, step),
            Event::PoolsSeen(seen) => {
                for (name, pool) in &mut self.shared.pools {
                    pool.seen = seen.get(name).copied().unwrap_or_default();
                }
                for (name, seen) in seen {
                    let at = self.shared.pool(&name);
                    self.shared.pools[at].1.seen = seen;
                }
            }
            Event::Tick => {}
        }
    }

    /// A run has been replayed: repeats the effects that a crash may have kept from happening.
    fn activate(&mut self, now: Timestamp, id: RunId, step: &mut Step) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        self.touched.insert(id);
        if let Some(status) = run.ended {
            step.effects.push(Effect::RunEnded { run: id, status });
            return;
        }
        run.pending_steps = (0..run.plan.steps.len() as u16).collect();
        let mut attempts: Vec<AttemptRef> =
            run.displaced.iter().map(|(task, attempt)| run.attempt_ref(*task, *attempt)).collect();
        let stopped = |task: u32| run.cancelling || run.groups[run.group_of(task)].halted;
        attempts.extend(
            run.out.iter().filter(|(task, _)| stopped(**task)).map(|(task, out)| run.attempt_ref(*task, out.attempt)),
        );
        // What lingers without an end is given a lease's time from now.
        let unknown: Vec<(u32, u16)> =
            run.lingering.iter().filter(|(_, until)| until.0 == u64::MAX).map(|(key, _)| *key).collect();
        for (task, attempt) in unknown {
            run.apply_attempt_ended(
                task,
                attempt,
                Some(lingers_until(now)),
                &Cause::Cancelled,
                Next::Drop,
                &mut self.shared,
            );
            run.displaced.insert((task, attempt));
        }
        if !left_out(Twin::TakeOverRevokes) {
            push_revoke(step, id, attempts);
        }
        // What is ready is so before the turn's next event: a success that is reported of it counts.
        while let Some(at) = run.pending_steps.pop_first() {
            evaluate(run, at, &mut self.shared, step);
        }
    }

    fn reported(&mut self, now: Timestamp, worker: WorkerId, report: Report, step: &mut Step) {
        let Some(run) = self.runs.get_mut(&report.attempt.run) else { return };
        let AttemptRef { task: key, attempt, .. } = report.attempt;
        let task = key.index;
        let is_of_this = |run: &Run| run.attempt_ref(task, attempt).task == key || left_out(Twin::TagCheck);
        if run.state(task).is_none() || !is_of_this(run) {
            // It is of other items than the ones recorded here.
            return;
        }
        match report.outcome {
            Outcome::Succeeded { output, cached } => {
                if output.len() > OUTPUT_BYTES_MAX {
                    let message = format!("its output has {} bytes; the limit is {OUTPUT_BYTES_MAX}", output.len());
                    let cause = Cause::Failed(Failure::new(ErrorCode::TooLarge, message));
                    return self.attempt_ended(now, report.attempt, Some(worker), None, cause, step);
                }
                let success = Success {
                    task,
                    attempt,
                    started_us: report.started_us,
                    slot_us: report.slot_us,
                    output: &output,
                    cached,
                };
                self.succeeded(report.attempt, worker, success, step);
            }
            Outcome::Expanded(expansion) => match check_expansion(run, task, &expansion) {
                Ok(()) => {
                    let fact = Fact::Expanded {
                        task,
                        attempt,
                        worker,
                        started_us: report.started_us,
                        slot_us: report.slot_us,
                        expansion,
                    };
                    self.expanded(report.attempt, fact, step);
                }
                Err(failure) => {
                    self.attempt_ended(now, report.attempt, Some(worker), None, Cause::Failed(failure), step);
                }
            },
            Outcome::Rejected { reason } => {
                self.attempt_ended(now, report.attempt, Some(worker), None, Cause::Rejected { reason }, step);
            }
            Outcome::Failed(failure) => {
                self.attempt_ended(now, report.attempt, Some(worker), None, Cause::Failed(failure), step);
            }
            Outcome::Returned(why) => {
                self.attempt_ended(now, report.attempt, Some(worker), None, Cause::Returned(why), step);
            }
            Outcome::Stopped => {
                run.apply_stopped(task, attempt, &mut self.shared);
                self.touched.insert(report.attempt.run);
                // A worker that stops unasked (its lease was lost on the way) gives its attempt back.
                if run.out.get(&task).is_some_and(|out| out.attempt == attempt) {
                    let cause = if run.cancelling || run.groups[run.group_of(task)].halted {
                        Cause::Cancelled
                    } else {
                        Cause::Returned(ReturnCause::RecordClosed)
                    };
                    self.attempt_ended(now, report.attempt, Some(worker), None, cause, step);
                }
            }
        }
    }

    /// First success wins, whatever attempt it is of; a newer attempt is taken back.
    fn succeeded(&mut self, attempt: AttemptRef, worker: WorkerId, success: Success<'_>, step: &mut Step) {
        let Some(run) = open_task(&mut self.runs, attempt) else { return };
        let newer = newer_out(run, attempt);
        if left_out(Twin::FirstSuccessWins) && !newer.is_empty() {
            return;
        }
        run.apply_success(success, &mut self.shared);
        step.push_success(attempt.run, worker, success);
        push_revoke(step, attempt.run, newer);
        self.touched.insert(attempt.run);
    }

    fn expanded(&mut self, attempt: AttemptRef, fact: Fact, step: &mut Step) {
        let Some(run) = open_task(&mut self.runs, attempt) else { return };
        let newer = newer_out(run, attempt);
        apply(run, &fact, &mut self.shared);
        step.push(attempt.run, fact);
        push_revoke(step, attempt.run, newer);
        self.touched.insert(attempt.run);
    }

    fn attempt_ended(
        &mut self,
        now: Timestamp,
        attempt: AttemptRef,
        worker: Option<WorkerId>,
        holder_until: Option<Timestamp>,
        cause: Cause,
        step: &mut Step,
    ) {
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        let task = attempt.task.index;
        if run.ended.is_some() || run.state(task).is_none() || run.attempt_ref(task, attempt.attempt) != attempt {
            return;
        }
        let current = run.out.get(&task).is_some_and(|out| out.attempt == attempt.attempt);
        let displaced = run.displaced.contains(&(task, attempt.attempt));
        if !current && !displaced {
            // Ends of old attempts change nothing.
            return;
        }
        let next = if current { decide_next(run, now, attempt, &cause) } else { Next::Drop };
        run.apply_attempt_ended(task, attempt.attempt, holder_until, &cause, next, &mut self.shared);
        step.push(attempt.run, Fact::Ended { task, attempt: attempt.attempt, worker, at: now, cause, next });
        self.touched.insert(attempt.run);
    }

    fn cancel(&mut self, now: Timestamp, id: RunId, by: String, step: &mut Step) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.ended.is_none() && !run.cancelling) else { return };
        let fact = Fact::Cancelling { at: now, by };
        apply(run, &fact, &mut self.shared);
        step.push(id, fact);
        let attempts = run.out.iter().map(|(task, out)| run.attempt_ref(*task, out.attempt)).collect();
        if !left_out(Twin::CancelRevokes) {
            push_revoke(step, id, attempts);
        }
        self.touched.insert(id);
    }

    fn resume(&mut self, now: Timestamp, id: RunId, by: String, step: &mut Step) {
        let resumable = |run: &&mut Run| run.ended.is_some_and(|status| status != RunStatus::Succeeded);
        let Some(run) = self.runs.get_mut(&id).filter(resumable) else { return };
        let fact = Fact::Resumed { at: now, by };
        apply(run, &fact, &mut self.shared);
        step.push(id, fact);
        self.touched.insert(id);
    }

    fn fire_timers(&mut self, now: Timestamp) {
        while let Some(&(at, id, task)) = self.shared.timers.first() {
            if at > now {
                break;
            }
            self.shared.timers.remove(&(at, id, task));
            if let Some(run) = self.runs.get_mut(&id) {
                run.backoffs.remove(&task);
                run.apply_ready(task, &mut self.shared);
            }
        }
        while let Some(&(until, id, task, attempt)) = self.shared.lingers.first() {
            if until > now {
                break;
            }
            self.shared.lingers.remove(&(until, id, task, attempt));
            if let Some(run) = self.runs.get_mut(&id) {
                run.apply_stopped(task, attempt, &mut self.shared);
                self.touched.insert(id);
            }
        }
    }

    /// Works out what follows from the turn's events within each run, until nothing more does.
    fn settle(&mut self, now: Timestamp, step: &mut Step) {
        for id in std::mem::take(&mut self.touched) {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            if run.ended.is_some() {
                continue;
            }
            loop {
                if let Some(group) = run.to_halt.pop_first() {
                    halt(run, group, &mut self.shared, step);
                } else if let Some(at) = run.pending_steps.pop_first() {
                    evaluate(run, at, &mut self.shared, step);
                } else {
                    break;
                }
            }
            if run.is_idle() {
                let status = status_of(run);
                let fact = Fact::RunEnded { at: now, status };
                apply(run, &fact, &mut self.shared);
                step.push(id, fact);
                step.effects.push(Effect::RunEnded { run: id, status });
            }
        }
    }
}

/// The run of a task whose result is still wanted.
fn open_task(runs: &mut BTreeMap<RunId, Run>, attempt: AttemptRef) -> Option<&mut Run> {
    let run = runs.get_mut(&attempt.run).filter(|run| run.ended.is_none())?;
    let state = run.state(attempt.task.index)?;
    matches!(state, TaskState::Out | TaskState::Ready | TaskState::Backoff).then_some(run)
}

/// The one place where facts read back and facts just decided change a run.
fn apply(run: &mut Run, fact: &Fact, shared: &mut Shared) {
    match fact {
        Fact::Created { .. } => {}
        Fact::Assigned { at, solo, ranges } => {
            for range in ranges {
                // What it is expected to take isn't remembered; after a replay it is learnt anew.
                let out = Out { attempt: range.attempt, estimate_us: 0, solo: *solo, since: *at };
                let mut first = range.first;
                let end = range.first + range.count;
                // A range may run over the end of a group.
                while first < end {
                    let group = &run.groups[run.group_of(first)];
                    let count = (group.first + group.count).min(end) - first;
                    run.apply_assigned(first, count, out, shared);
                    first += count;
                }
            }
        }
        Fact::Succeeded(column) => {
            for success in column.iter() {
                run.apply_success(success, shared);
            }
        }
        Fact::Expanded { task, attempt, slot_us, expansion, .. } => {
            run.apply_expanded(*task, *attempt, *slot_us, expansion, shared);
        }
        Fact::Ended { task, attempt, worker, at, cause, next } => {
            let stopped_by_us = matches!(cause, Cause::Cancelled | Cause::TimedOut);
            let until = (worker.is_some() && stopped_by_us).then(|| lingers_until(*at));
            run.apply_attempt_ended(*task, *attempt, until, cause, *next, shared);
        }
        Fact::Halted { task } => run.apply_halted(*task, shared),
        Fact::Skipped { ranges } => {
            for range in ranges {
                run.apply_skipped(range.first, range.count, shared);
            }
        }
        Fact::Cancelling { .. } => run.apply_cancelling(shared),
        Fact::Resumed { .. } => run.apply_resumed(shared),
        Fact::RunEnded { status, .. } => run.ended = Some(*status),
    }
}

/// Refuses facts that name tasks the run doesn't have.
fn check_tasks(run: &Run, fact: &Fact) -> Result<(), ReplayError> {
    let tasks = run.task_count();
    let check = |task: u32| {
        if task < tasks { Ok(()) } else { Err(ReplayError::NoSuchTask { run: run.id, task, tasks }) }
    };
    let last = |first: u32, count: u32| first.saturating_add(count.saturating_sub(1));
    match fact {
        Fact::Assigned { ranges, .. } => ranges.iter().try_for_each(|range| check(last(range.first, range.count))),
        Fact::Succeeded(column) => column.iter().try_for_each(|success| check(success.task)),
        Fact::Expanded { task, .. } | Fact::Ended { task, .. } | Fact::Halted { task } => check(*task),
        Fact::Skipped { ranges } => ranges.iter().try_for_each(|range| check(last(range.first, range.count))),
        Fact::Created { .. } | Fact::Cancelling { .. } | Fact::Resumed { .. } | Fact::RunEnded { .. } => Ok(()),
    }
}

/// What follows for a task when its current attempt has ended.
fn decide_next(run: &Run, now: Timestamp, attempt: AttemptRef, cause: &Cause) -> Next {
    let task = attempt.task.index;
    let group = &run.groups[run.group_of(task)];
    if run.cancelling || group.halted {
        return Next::Drop;
    }
    let mut budget = run.budgets.get(&task).copied().unwrap_or_default();
    budget.count(cause);
    match cause {
        // It was taken back though the task is wanted (the store went back in time, say).
        Cause::Cancelled => Next::Retry { at: now, solo: budget.solo },
        _ => budget.next(now, attempt, cause, run.plan.steps[usize::from(group.step)].retries + 1),
    }
}

/// The newer attempt of the task that is out, if any.
fn newer_out(run: &Run, attempt: AttemptRef) -> Vec<AttemptRef> {
    let task = attempt.task.index;
    let out = run.out.get(&task).filter(|out| out.attempt != attempt.attempt);
    out.map(|out| run.attempt_ref(task, out.attempt)).into_iter().collect()
}

/// Skips what hasn't started of an expansion in which too many failed, and takes the rest back.
fn halt(run: &mut Run, group: usize, shared: &mut Shared, step: &mut Step) {
    let fact = Fact::Halted { task: run.groups[group].parent };
    apply(run, &fact, shared);
    step.push(run.id, fact);
    let (unstarted, attempts) = run.halted_rest(group);
    push_revoke(step, run.id, attempts);
    if !unstarted.is_empty() {
        let fact = Fact::Skipped { ranges: unstarted };
        apply(run, &fact, shared);
        step.push(run.id, fact);
    }
}

/// Decides about a step some of whose needs have ended.
fn evaluate(run: &mut Run, at: u16, shared: &mut Shared, step: &mut Step) {
    let task = u32::from(at);
    if run.state(task) != Some(TaskState::Waiting) || run.cancelling {
        return;
    }
    let plan = &run.plan.steps[usize::from(at)];
    let states: Vec<TaskState> = plan.needs.iter().filter_map(|need| run.state(u32::from(need.step))).collect();
    if !states.iter().all(|state| state.has_ended()) {
        return;
    }
    let runs = match plan.when {
        When::Success => states.iter().all(|state| *state == TaskState::Succeeded),
        When::Failure => states.iter().any(|state| matches!(state, TaskState::Failed | TaskState::Rejected)),
        When::Always => true,
    };
    if runs {
        run.apply_ready(task, shared);
    } else {
        let fact = Fact::Skipped { ranges: vec![TaskRange { first: task, count: 1 }] };
        apply(run, &fact, shared);
        step.push(run.id, fact);
    }
}

/// How a run in which nothing more happens has ended.
fn status_of(run: &Run) -> RunStatus {
    let any = |wanted| (0..run.plan.steps.len() as u32).any(|task| run.state(task) == Some(wanted));
    if run.cancelling {
        RunStatus::Cancelled
    } else if any(TaskState::Failed) {
        RunStatus::Failed
    } else if any(TaskState::Rejected) {
        RunStatus::Rejected
    } else {
        RunStatus::Succeeded
    }
}

/// The limits an expansion must keep, beside those of its message.
fn check_expansion(run: &Run, task: u32, expansion: &Expansion) -> Result<(), Failure> {
    expansion.check().map_err(|text| Failure::new(ErrorCode::TooLarge, text))?;
    let tasks = run.task_count().saturating_add(expansion.items.count()).saturating_add(1);
    if tasks > RUN_TASKS_MAX {
        let text = format!("the run would have {tasks} tasks; the limit is {RUN_TASKS_MAX}");
        return Err(Failure::new(ErrorCode::TooLarge, text));
    }
    let group = &run.groups[run.group_of(task)];
    if group.kind == crate::group::Kind::Children && group.depth >= EXPAND_DEPTH_MAX {
        let text = format!("expansions nest at most {EXPAND_DEPTH_MAX} deep");
        return Err(Failure::new(ErrorCode::TooLarge, text));
    }
    Ok(())
}

fn push_revoke(step: &mut Step, run: RunId, attempts: Vec<AttemptRef>) {
    if !attempts.is_empty() {
        step.effects.push(Effect::Revoke { shard: run.shard(), attempts });
    }
}
