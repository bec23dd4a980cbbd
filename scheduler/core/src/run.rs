//! One run: its tasks in columns, its groups, and what each decision changes.
//!
//! The methods named `apply_…` change the state by one decided thing and decide nothing; they serve live
//! turns and replays alike, which is why a replay gives the same state. What follows from a change but
//! needs a decision of its own is noted (`pending_steps`, `to_halt`) for [`crate::scheduler`].
//!
//! A task takes seven bytes in the columns and its output; what few tasks have (being out, waiting for a
//! retry, having failed) is in maps beside them.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::fact::{Cause, Next, RunStatus, Success, TaskRange};
use gristmill_protocol::limits::LEASE_MS;
use gristmill_protocol::message::{Expansion, InputValue, Items, OnFailure};
use gristmill_protocol::plan::Plan;
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, Digest, ErrorCode, Failure, RunId, TaskKey, Timestamp, wire};

use crate::backlog::{Durations, Remembered};
use crate::group::{Group, Kind, NewGroup};
use crate::limit::Limits;
use crate::pool::{LaneKey, Pool};
use crate::retry::Budget;
use crate::timing::Timing;

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// What it needs hasn't ended.
    Waiting,
    /// It could go out.
    Ready,
    /// An attempt is out.
    Out,
    /// It goes out again later.
    Backoff,
    /// Its children or its join are on their way.
    Expanded,
    Succeeded,
    Failed,
    /// Its gate said no.
    Rejected,
    /// It won't run: what it needs didn't end as it should, or a sibling failed.
    Skipped,
    /// It was stopped: the run was cancelled or a sibling failed.
    Dropped,
}

impl TaskState {
    /// Whether nothing more happens to the task, short of a resume.
    pub fn has_ended(self) -> bool {
        matches!(
            self,
            TaskState::Succeeded | TaskState::Failed | TaskState::Rejected | TaskState::Skipped | TaskState::Dropped
        )
    }
}

/// What all runs share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    pub(crate) pools: Vec<(String, Pool)>,
    pub(crate) limits: Limits,
    pub(crate) durations: Durations,
    /// When tasks in backoff may go out again.
    pub(crate) timers: BTreeSet<(Timestamp, RunId, u32)>,
    /// When attempts that were taken back have stopped at the latest.
    pub(crate) lingers: BTreeSet<(Timestamp, RunId, u32, u16)>,
    /// Lanes whose place in their pool's order must be found anew.
    pub(crate) dirty_lanes: Vec<(RunId, u16)>,
}

impl Shared {
    /// The pool with this name, made if there is none.
    pub(crate) fn pool(&mut self, name: &str) -> usize {
        match self.pools.iter().position(|(known, _)| known == name) {
            Some(at) => at,
            None => {
                self.pools.push((name.to_owned(), Pool::default()));
                self.pools.len() - 1
            }
        }
    }

    fn wake(&mut self, lanes: Vec<(RunId, u16)>) {
        self.dirty_lanes.extend(lanes);
    }
}

/// What is ready of a run for one pool at one priority and with the same named limits.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) pool: usize,
    pub(crate) priority: i8,
    pub(crate) limits: Vec<String>,
    /// Groups with something ready.
    pub(crate) groups: BTreeSet<usize>,
    pub(crate) ready: u64,
    /// Since when something has been ready and nothing went out.
    pub(crate) since: Timestamp,
    /// Its place in the pool's order, and when that changes by waiting.
    pub(crate) key: Option<(LaneKey, Timestamp)>,
}

/// An attempt that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub(crate) attempt: u16,
    /// How long it was expected to take when it went out; zero where that wasn't known.
    pub(crate) estimate_us: u32,
    pub(crate) solo: bool,
    pub(crate) since: Timestamp,
}

impl Out {
    pub(crate) fn estimate(&self) -> Option<u64> {
        (self.estimate_us > 0).then_some(u64::from(self.estimate_us))
    }
}

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) plan: Plan,
    pub(crate) cancelling: bool,
    pub(crate) ended: Option<RunStatus>,
    pub(crate) groups: Vec<Group>,
    /// First task index of each group, to find a task's group.
    firsts: Vec<u32>,
    states: Vec<TaskState>,
    attempts: Vec<u16>,
    outputs: Vec<u32>,
    pub(crate) lanes: Vec<Lane>,
    /// Expected microseconds of work out, by pool.
    pub(crate) out_work_us: BTreeMap<usize, u64>,
    pub(crate) out: BTreeMap<u32, Out>,
    pub(crate) backoffs: BTreeMap<u32, Timestamp>,
    pub(crate) budgets: BTreeMap<u32, Budget>,
    pub(crate) failures: BTreeMap<u32, Failure>,
    /// Expanded tasks and the group of their children.
    pub(crate) expansions: BTreeMap<u32, usize>,
    /// Attempts taken back that may still be at work and count against limits.
    pub(crate) lingering: BTreeMap<(u32, u16), Timestamp>,
    /// Newer attempts of tasks that an older attempt has settled, until they are known to be taken back.
    pub(crate) displaced: BTreeSet<(u32, u16)>,
    /// Steps that may have become ready, or must be skipped.
    pub(crate) pending_steps: BTreeSet<u16>,
    /// Groups in which more failed than is tolerated, whose rest must be skipped.
    pub(crate) to_halt: BTreeSet<usize>,
    /// Times by step and kind of group.
    timings: Vec<Timing>,
    /// Where such times are remembered beyond the run, in the same order.
    remembered: Vec<Remembered>,
}

/// A step at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepView {
    pub name: String,
    pub kind: String,
    pub state: TaskState,
    /// Tasks known so far: 1, or with an expansion its children and joins too.
    pub tasks: u32,
    pub ended: u32,
    pub out: u32,
}

/// Where what is known of the tasks of one kind of a step is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(usize);

/// Where a plan's durations are remembered: three kinds of group a step, as in [`Kind`].
fn remembered(plan: &Plan, durations: &mut Durations) -> Vec<Remembered> {
    let kinds = [Kind::Root, Kind::Children, Kind::Join];
    let of_step = |name: &str| kinds.map(|kind| durations.place(&plan.pipeline, name, kind));
    plan.steps.iter().map(|step| step.name.as_str()).flat_map(of_step).collect()
}

impl Run {
    /// A run none of whose steps has started.
    pub(crate) fn new(id: RunId, plan: Plan, now: Timestamp, shared: &mut Shared) -> Run {
        let steps = plan.steps.len();
        let mut run = Run {
            id,
            cancelling: false,
            ended: None,
            groups: Vec::with_capacity(steps),
            firsts: Vec::with_capacity(steps),
            states: Vec::with_capacity(steps),
            attempts: Vec::with_capacity(steps),
            outputs: Vec::with_capacity(steps),
            lanes: Vec::new(),
            out_work_us: BTreeMap::new(),
            out: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            budgets: BTreeMap::new(),
            failures: BTreeMap::new(),
            expansions: BTreeMap::new(),
            lingering: BTreeMap::new(),
            displaced: BTreeSet::new(),
            pending_steps: (0..steps as u16).collect(),
            to_halt: BTreeSet::new(),
            timings: vec![Timing::default(); steps * 3],
            remembered: remembered(&plan, &mut shared.durations),
            plan,
        };
        for limit in &run.plan.limits {
            shared.limits.declare(id, &limit.name, limit.max);
        }
        for step in 0..steps as u16 {
            let lane = run.lane_of_step(step, now, shared);
            let payload = run.plan.steps[usize::from(step)].payload.clone();
            run.add_group(NewGroup {
                kind: Kind::Root,
                step,
                parent: u32::from(step),
                sibling: usize::from(step),
                first: u32::from(step),
                count: 1,
                depth: 0,
                round: 0,
                base: String::new(),
                tag: 0,
                payload,
                items: Items::None,
                on_failure: OnFailure::Fail,
                lane,
            });
        }
        run
    }

    fn lane_of_step(&mut self, step: u16, now: Timestamp, shared: &mut Shared) -> u16 {
        let step = &self.plan.steps[usize::from(step)];
        let pool = shared.pool(&step.pool);
        let limits: Vec<String> =
            step.limits.iter().map(|&at| self.plan.limits[usize::from(at)].name.clone()).collect();
        let same = |lane: &Lane| lane.pool == pool && lane.priority == step.priority && lane.limits == limits;
        let at = self.lanes.iter().position(same).unwrap_or_else(|| {
            self.lanes.push(Lane {
                pool,
                priority: step.priority,
                limits,
                groups: BTreeSet::new(),
                ready: 0,
                since: now,
                key: None,
            });
            self.lanes.len() - 1
        });
        at as u16
    }

    fn add_group(&mut self, new: NewGroup) -> usize {
        let state = if new.kind == Kind::Children { TaskState::Ready } else { TaskState::Waiting };
        let tasks = self.states.len() + new.count as usize;
        self.states.reserve_exact(new.count as usize);
        self.states.resize(tasks, state);
        self.attempts.reserve_exact(new.count as usize);
        self.attempts.resize(tasks, 0);
        self.outputs.reserve_exact(new.count as usize);
        self.outputs.resize(tasks, 0);
        self.firsts.push(new.first);
        self.groups.push(Group::new(new));
        self.groups.len() - 1
    }

    /// How many tasks the run has so far.
    pub(crate) fn task_count(&self) -> u32 {
        self.states.len() as u32
    }

    /// Where a task is; nothing when there is no such task.
    pub(crate) fn state(&self, task: u32) -> Option<TaskState> {
        self.states.get(task as usize).copied()
    }

    /// The number of a task's last attempt, 0 before the first.
    pub(crate) fn attempt(&self, task: u32) -> u16 {
        self.attempts[task as usize]
    }

    /// The group of a task.
    pub(crate) fn group_of(&self, task: u32) -> usize {
        self.firsts.partition_point(|&first| first <= task) - 1
    }

    /// An attempt of a task, by its full name.
    pub(crate) fn attempt_ref(&self, task: u32, attempt: u16) -> AttemptRef {
        let tag = self.groups[self.group_of(task)].tag;
        AttemptRef { run: self.id, task: TaskKey { index: task, tag }, attempt }
    }

    /// The output of a task that succeeded.
    pub(crate) fn output(&self, task: u32) -> &[u8] {
        self.groups[self.group_of(task)].output(self.outputs[task as usize])
    }

    /// The outputs of a join's children.
    pub(crate) fn children_outputs(&self, children: usize) -> InputValue {
        let group = &self.groups[children];
        let output = |task: u32| {
            let succeeded = self.states[task as usize] == TaskState::Succeeded;
            succeeded.then(|| group.output(self.outputs[task as usize]).to_vec().into())
        };
        InputValue::Children((group.first..group.first + group.count).map(output).collect())
    }

    /// The times of a group's tasks, shared with the other groups of its kind and step.
    pub(crate) fn timing(&mut self, group: usize) -> &mut Timing {
        let Place(at) = self.place(group);
        &mut self.timings[at]
    }

    /// Where the times of a group's tasks are.
    pub(crate) fn place(&self, group: usize) -> Place {
        let group = &self.groups[group];
        Place(usize::from(group.step) * 3 + group.kind as usize)
    }

    /// Where the times of the children are that a group's tasks may grow.
    pub(crate) fn children_place(&self, group: usize) -> Place {
        Place(usize::from(self.groups[group].step) * 3 + Kind::Children as usize)
    }

    pub(crate) fn mean_us(&self, Place(at): Place) -> Option<u64> {
        self.timings[at].mean_us()
    }

    pub(crate) fn remembered_at(&self, Place(at): Place) -> Remembered {
        self.remembered[at]
    }

    /// The limits that a task counts against.
    fn limits_of(&self, task: u32) -> &[String] {
        &self.lanes[usize::from(self.groups[self.group_of(task)].lane)].limits
    }

    /// Whether nothing is out, ready or coming again; nor counts against a limit still.
    pub(crate) fn is_idle(&self) -> bool {
        self.out.is_empty()
            && self.backoffs.is_empty()
            && self.displaced.is_empty()
            && self.lingering.is_empty()
            && (self.cancelling || self.lanes.iter().all(|lane| lane.ready == 0))
    }

    /// Changes what is ready of a group and keeps the counts of its lane and pool right.
    fn change_ready(&mut self, at: usize, shared: &mut Shared, change: impl FnOnce(&mut Group)) {
        let group = &mut self.groups[at];
        let before = u64::from(group.ready());
        change(group);
        let after = u64::from(group.ready());
        if before == after {
            return;
        }
        let lane = &mut self.lanes[usize::from(group.lane)];
        lane.ready = lane.ready + after - before;
        let pool = &mut shared.pools[lane.pool].1;
        pool.ready = pool.ready + after - before;
        if after == 0 {
            lane.groups.remove(&at);
        } else if before == 0 {
            lane.groups.insert(at);
        }
        shared.dirty_lanes.push((self.id, group.lane));
    }

    /// Makes a task ready.
    pub(crate) fn apply_ready(&mut self, task: u32, shared: &mut Shared) {
        self.states[task as usize] = TaskState::Ready;
        self.tag_by_inputs(self.group_of(task));
        self.change_ready(self.group_of(task), shared, |group| {
            group.again.insert(task);
        });
    }

    /// Tells a step's or a join's task by what is put into it, as children are told by their items: if the
    /// store goes back, what it depends on may be done again with another result, and the work that was done
    /// with the former one is then of another task.
    fn tag_by_inputs(&mut self, at: usize) {
        let mut tag = InputTag::default();
        let group = &self.groups[at];
        match group.kind {
            Kind::Children => return,
            Kind::Root => {
                let needs = &self.plan.steps[usize::from(group.step)].needs;
                needs.iter().filter(|need| need.output).for_each(|need| tag.add(self.output(u32::from(need.step))));
            }
            Kind::Join => {
                let children = &self.groups[group.sibling];
                tag.add(&children.tag.to_be_bytes());
                for child in children.first..children.first + children.count {
                    // One whose failure is tolerated gives nothing, which isn't the same as an empty output.
                    match self.states[child as usize] {
                        TaskState::Succeeded => tag.add(self.output(child)),
                        _ => tag.add_nothing(),
                    }
                }
            }
        }
        self.groups[at].tag = tag.finish();
    }

    /// Attempts go out: `count` tasks from `first`, all with this attempt's number.
    pub(crate) fn apply_assigned(&mut self, first: u32, count: u32, out: Out, shared: &mut Shared) {
        let at = self.group_of(first);
        self.tag_by_inputs(at);
        for task in first..first + count {
            if self.states[task as usize] == TaskState::Backoff {
                self.leave_backoff(task, shared);
            }
            self.states[task as usize] = TaskState::Out;
            self.attempts[task as usize] = out.attempt;
            self.out.insert(task, out);
        }
        self.change_ready(at, shared, |group| {
            for task in first..first + count {
                if task - group.first >= group.cursor {
                    group.cursor = task - group.first + 1;
                } else {
                    group.again.remove(&task);
                }
            }
        });
        let lane = &mut self.lanes[usize::from(self.groups[at].lane)];
        lane.since = out.since;
        shared.pools[lane.pool].1.take(out.estimate(), count);
        *self.out_work_us.entry(lane.pool).or_default() += u64::from(out.estimate_us) * u64::from(count);
        shared.limits.take(&lane.limits, count);
    }

    /// An attempt isn't out any more. Its limits are given back unless it may still be at work.
    fn leave_out(&mut self, task: u32, lingers: bool, shared: &mut Shared) -> Option<Out> {
        let out = self.out.remove(&task)?;
        let group = self.group_of(task);
        let lane_at = self.groups[group].lane;
        let lane = &self.lanes[usize::from(lane_at)];
        shared.pools[lane.pool].1.give_back(out.estimate());
        if let Some(work) = self.out_work_us.get_mut(&lane.pool) {
            *work = work.saturating_sub(u64::from(out.estimate_us));
        }
        if !lingers {
            let woken = shared.limits.give_back(&lane.limits);
            shared.wake(woken);
        }
        shared.dirty_lanes.push((self.id, lane_at));
        Some(out)
    }

    fn leave_backoff(&mut self, task: u32, shared: &mut Shared) {
        if let Some(at) = self.backoffs.remove(&task) {
            shared.timers.remove(&(at, self.id, task));
        }
    }

    /// Takes a task out of wherever it waits to run.
    fn leave_queue(&mut self, task: u32, shared: &mut Shared) {
        match self.states[task as usize] {
            TaskState::Backoff => self.leave_backoff(task, shared),
            TaskState::Ready => self.change_ready(self.group_of(task), shared, |group| group.leave(task)),
            _ => {}
        }
    }

    /// A task has succeeded, by whatever attempt.
    pub(crate) fn apply_success(&mut self, success: Success<'_>, shared: &mut Shared) {
        self.apply_attempt_won(success.task, success.attempt, success.slot_us, shared);
        shared.durations.grew(self.remembered_at(self.place(self.group_of(success.task))), 0);
        self.finish_with_output(success.task, success.output, shared);
    }

    /// The task's attempt has brought a result: nothing else of the task is out or waits.
    fn apply_attempt_won(&mut self, task: u32, attempt: u16, slot_us: u64, shared: &mut Shared) {
        let group = self.group_of(task);
        self.timing(group).record(slot_us);
        shared.durations.record(self.remembered_at(self.place(group)), slot_us);
        if let Some(out) = self.out.get(&task).copied() {
            let displaced = out.attempt != attempt;
            self.leave_out(task, displaced, shared);
            if displaced {
                self.displaced.insert((task, out.attempt));
                if !self.limits_of(task).is_empty() {
                    self.linger(task, out.attempt, Timestamp(u64::MAX), shared);
                }
            }
        } else {
            self.leave_queue(task, shared);
        }
        let last = &mut self.attempts[task as usize];
        *last = attempt.max(*last);
    }

    fn finish_with_output(&mut self, task: u32, output: &[u8], shared: &mut Shared) {
        let group = self.group_of(task);
        self.outputs[task as usize] = self.groups[group].keep_output(output);
        self.states[task as usize] = TaskState::Succeeded;
        self.after_end(task, shared);
    }

    /// A task has grown children and a join.
    pub(crate) fn apply_expanded(
        &mut self,
        task: u32,
        attempt: u16,
        slot_us: u64,
        expansion: &Expansion,
        shared: &mut Shared,
    ) {
        self.apply_attempt_won(task, attempt, slot_us, shared);
        let grown = expansion.items.count();
        shared.durations.grew(self.remembered_at(self.place(self.group_of(task))), grown);
        self.states[task as usize] = TaskState::Expanded;
        let parent = &self.groups[self.group_of(task)];
        let (step, lane) = (parent.step, parent.lane);
        let (depth, round, base) = match parent.kind {
            Kind::Root => (1, 1, String::new()),
            Kind::Join => (parent.depth, parent.round + 1, parent.base.clone()),
            Kind::Children => (parent.depth + 1, 1, format!("{}/{}", parent.path(), task - parent.first)),
        };
        let (first, count) = (self.task_count(), expansion.items.count());
        let tag = expansion_tag(parent.tag, task, first, expansion);
        let children_at = self.groups.len();
        let group = |kind, sibling, first, count, payload, items| NewGroup {
            kind,
            step,
            parent: task,
            sibling,
            first,
            count,
            depth,
            round,
            base: base.clone(),
            tag,
            payload,
            items,
            on_failure: expansion.on_failure,
            lane,
        };
        let child = expansion.child.payload.clone();
        self.add_group(group(Kind::Children, children_at + 1, first, count, child, expansion.items.clone()));
        let join = expansion.join.payload.clone();
        self.add_group(group(Kind::Join, children_at, first + count, 1, join, Items::None));
        self.expansions.insert(task, children_at);
        // What is new is ready; the lane learns it by a change from nothing.
        let ready = u64::from(self.groups[children_at].ready());
        let lane_state = &mut self.lanes[usize::from(lane)];
        lane_state.ready += ready;
        lane_state.groups.insert(children_at);
        shared.pools[lane_state.pool].1.ready += ready;
        shared.dirty_lanes.push((self.id, lane));
    }

    /// An attempt ended without a result.
    pub(crate) fn apply_attempt_ended(
        &mut self,
        task: u32,
        attempt: u16,
        holder_until: Option<Timestamp>,
        cause: &Cause,
        next: Next,
        shared: &mut Shared,
    ) {
        let limited = !self.limits_of(task).is_empty();
        let current = self.out.get(&task).is_some_and(|out| out.attempt == attempt);
        if !current {
            // A newer attempt that an older one made needless has been taken back.
            self.displaced.remove(&(task, attempt));
            self.relinger(task, attempt, holder_until, shared);
            return;
        }
        let lingers = limited && holder_until.is_some() && !left_out(Twin::LimitLingers);
        self.leave_out(task, lingers, shared);
        if let (true, Some(until)) = (lingers, holder_until) {
            self.linger(task, attempt, until, shared);
        }
        self.budgets.entry(task).or_default().count(cause);
        match next {
            Next::Retry { at, .. } => {
                self.states[task as usize] = TaskState::Backoff;
                self.backoffs.insert(task, at);
                shared.timers.insert((at, self.id, task));
            }
            Next::Fail => {
                self.failures.insert(task, failure_of(cause));
                self.states[task as usize] = TaskState::Failed;
                self.after_end(task, shared);
            }
            Next::Reject => {
                self.failures.insert(task, failure_of(cause));
                self.states[task as usize] = TaskState::Rejected;
                self.after_end(task, shared);
            }
            Next::Drop => {
                self.states[task as usize] = TaskState::Dropped;
                self.after_end(task, shared);
            }
        }
    }

    /// Tasks won't run.
    pub(crate) fn apply_skipped(&mut self, first: u32, count: u32, shared: &mut Shared) {
        for task in first..first + count {
            self.leave_queue(task, shared);
            self.states[task as usize] = TaskState::Skipped;
            self.after_end(task, shared);
        }
    }

    /// What the end of a task means for what it is part of.
    fn after_end(&mut self, task: u32, shared: &mut Shared) {
        let mut task = task;
        loop {
            let at = self.group_of(task);
            let state = self.states[task as usize];
            let parent = self.groups[at].parent;
            match self.groups[at].kind {
                Kind::Root => {
                    let step = self.groups[at].step;
                    let needs =
                        |other: &u16| self.plan.steps[usize::from(*other)].needs.iter().any(|need| need.step == step);
                    let dependents: Vec<u16> = (0..self.plan.steps.len() as u16).filter(needs).collect();
                    self.pending_steps.extend(dependents);
                    return;
                }
                Kind::Join => {
                    if state == TaskState::Succeeded {
                        let output = self.output(task).to_vec();
                        let parent_group = self.group_of(parent);
                        self.outputs[parent as usize] = self.groups[parent_group].keep_output(&output);
                    }
                    self.end_parent(parent, task, state);
                    task = parent;
                }
                Kind::Children => {
                    let group = &mut self.groups[at];
                    group.open -= 1;
                    if matches!(state, TaskState::Failed | TaskState::Rejected) {
                        group.failed += 1;
                        if group.failed > group.tolerated() && !group.halted {
                            self.to_halt.insert(at);
                        }
                    }
                    let group = &self.groups[at];
                    if group.open > 0 {
                        return;
                    }
                    let (first, count, join) = (group.first, group.count, group.sibling);
                    if group.failed <= group.tolerated() && !self.cancelling && !group.halted {
                        self.apply_ready(self.groups[join].first, shared);
                        return;
                    }
                    let ended_as = |wanted| (first..first + count).find(|&t| self.states[t as usize] == wanted);
                    let (child, state) = match (ended_as(TaskState::Failed), ended_as(TaskState::Rejected)) {
                        (Some(child), _) => (child, TaskState::Failed),
                        (None, Some(child)) => (child, TaskState::Rejected),
                        (None, None) => (first, TaskState::Dropped),
                    };
                    self.to_halt.remove(&at);
                    self.end_parent(parent, child, state);
                    task = parent;
                }
            }
        }
    }

    fn end_parent(&mut self, parent: u32, by: u32, state: TaskState) {
        self.states[parent as usize] = state;
        if let Some(failure) = self.failures.get(&by).cloned() {
            self.failures.insert(parent, failure);
        }
    }

    /// Nothing more of a task's expansion starts, nor of the expansions within.
    pub(crate) fn apply_halted(&mut self, task: u32, shared: &mut Shared) {
        let Some(&children) = self.expansions.get(&task) else { return };
        for at in self.groups_within(children) {
            self.to_halt.remove(&at);
            self.change_ready(at, shared, |group| group.halted = true);
        }
    }

    /// What is left of a halted expansion: the ranges that never started, and the attempts that are out.
    pub(crate) fn halted_rest(&self, children: usize) -> (Vec<TaskRange>, Vec<AttemptRef>) {
        let mut unstarted: Vec<TaskRange> = Vec::new();
        let mut out = Vec::new();
        for at in self.groups_within(children) {
            let group = &self.groups[at];
            for task in group.first..group.first + group.count {
                match self.states[task as usize] {
                    TaskState::Ready | TaskState::Backoff => match unstarted.last_mut() {
                        Some(range) if range.first + range.count == task => range.count += 1,
                        _ => unstarted.push(TaskRange { first: task, count: 1 }),
                    },
                    TaskState::Out => out.push(self.attempt_ref(task, self.attempts[task as usize])),
                    _ => {}
                }
            }
        }
        (unstarted, out)
    }

    /// The groups of an expansion whose tasks may be at work: its children and all that these expanded into.
    fn groups_within(&self, children: usize) -> Vec<usize> {
        let mut within = vec![children];
        let mut next = 0;
        while let Some(&at) = within.get(next) {
            next += 1;
            let group = &self.groups[at];
            let inner = self.expansions.range(group.first..group.first + group.count);
            for (_, &children) in inner.filter(|(task, _)| self.states[**task as usize] == TaskState::Expanded) {
                within.push(children);
                within.push(self.groups[children].sibling);
            }
        }
        within.sort_unstable();
        within
    }

    /// An attempt that was taken back counts against its limits until then.
    fn linger(&mut self, task: u32, attempt: u16, until: Timestamp, shared: &mut Shared) {
        self.lingering.insert((task, attempt), until);
        shared.lingers.insert((until, self.id, task, attempt));
    }

    /// It is known better now until when that attempt may be at work; nothing means that it isn't.
    fn relinger(&mut self, task: u32, attempt: u16, until: Option<Timestamp>, shared: &mut Shared) {
        let Some(old) = self.lingering.get(&(task, attempt)).copied() else { return };
        match until {
            Some(until) => {
                shared.lingers.remove(&(old, self.id, task, attempt));
                self.linger(task, attempt, until, shared);
            }
            None => self.apply_stopped(task, attempt, shared),
        }
    }

    /// An attempt that was taken back has stopped, or must have by now.
    pub(crate) fn apply_stopped(&mut self, task: u32, attempt: u16, shared: &mut Shared) {
        if let Some(until) = self.lingering.remove(&(task, attempt)) {
            shared.lingers.remove(&(until, self.id, task, attempt));
            let woken = shared.limits.give_back(self.limits_of(task));
            shared.wake(woken);
        }
    }

    /// Nothing more starts.
    pub(crate) fn apply_cancelling(&mut self, shared: &mut Shared) {
        self.cancelling = true;
        let waiting: Vec<u32> = self.backoffs.keys().copied().collect();
        for task in waiting {
            self.leave_backoff(task, shared);
            self.apply_ready(task, shared);
        }
        // That a step is ready isn't remembered but worked out, and isn't any more once the run is cancelled.
        for task in 0..self.plan.steps.len() as u32 {
            if self.states[task as usize] == TaskState::Ready {
                self.leave_queue(task, shared);
                self.states[task as usize] = TaskState::Waiting;
            }
        }
        shared.dirty_lanes.extend((0..self.lanes.len() as u16).map(|lane| (self.id, lane)));
    }

    /// The run goes on: what succeeded and what was expanded is kept, all else starts anew with full budgets.
    pub(crate) fn apply_resumed(&mut self, shared: &mut Shared) {
        self.ended = None;
        self.cancelling = false;
        self.budgets.clear();
        self.failures.clear();
        self.to_halt.clear();
        shared.dirty_lanes.extend((0..self.lanes.len() as u16).map(|lane| (self.id, lane)));
        // What was ready is counted anew below.
        for at in 0..self.groups.len() {
            self.change_ready(at, shared, |group| {
                group.halted = true;
                group.again.clear();
            });
        }
        for at in (0..self.groups.len()).rev() {
            self.resume_group(at, shared);
        }
        self.pending_steps = (0..self.plan.steps.len() as u16).collect();
    }

    /// Groups are resumed from the last, so that of an expansion the children and the join come before the task.
    fn resume_group(&mut self, at: usize, shared: &mut Shared) {
        let (first, count, kind) = (self.groups[at].first, self.groups[at].count, self.groups[at].kind);
        if self.is_in_use(at) {
            return;
        }
        let mut open = 0;
        let mut again = BTreeSet::new();
        for task in first..first + count {
            let state = self.states[task as usize];
            if state == TaskState::Succeeded {
                continue;
            }
            open += 1;
            if self.expansions.contains_key(&task) {
                self.states[task as usize] = TaskState::Expanded;
                continue;
            }
            match kind {
                Kind::Root | Kind::Join => self.states[task as usize] = TaskState::Waiting,
                Kind::Children => {
                    self.states[task as usize] = TaskState::Ready;
                    if task - first < self.groups[at].cursor {
                        again.insert(task);
                    }
                }
            }
        }
        self.change_ready(at, shared, |group| {
            group.open = open;
            group.failed = 0;
            group.halted = false;
            group.again = again;
        });
        if kind == Kind::Children && open == 0 {
            let join = self.groups[self.groups[at].sibling].first;
            if self.states[join as usize] == TaskState::Waiting {
                self.apply_ready(join, shared);
            }
        }
    }

    /// Whether what came of a group is in use already, children whose failure was tolerated included: its
    /// join has begun the next round, or an expansion that it is part of has succeeded.
    fn is_in_use(&self, at: usize) -> bool {
        let mut at = at;
        loop {
            let group = &self.groups[at];
            let next_round = self.groups[group.sibling].first;
            match group.kind {
                Kind::Root => return false,
                Kind::Children if self.expansions.contains_key(&next_round) => return true,
                Kind::Children | Kind::Join if self.states[group.parent as usize] == TaskState::Succeeded => {
                    return true;
                }
                Kind::Children | Kind::Join => at = self.group_of(group.parent),
            }
        }
    }

    /// Gives back all that the run takes of what runs share.
    pub(crate) fn release(mut self, shared: &mut Shared) {
        let out: Vec<u32> = self.out.keys().copied().collect();
        for task in out {
            self.leave_out(task, false, shared);
        }
        let lingering: Vec<(u32, u16)> = self.lingering.keys().copied().collect();
        for (task, attempt) in lingering {
            self.apply_stopped(task, attempt, shared);
        }
        for (task, at) in &self.backoffs {
            shared.timers.remove(&(*at, self.id, *task));
        }
        for (at, lane) in self.lanes.iter().enumerate() {
            let pool = &mut shared.pools[lane.pool].1;
            pool.ready -= lane.ready;
            if let Some((key, aging)) = lane.key {
                pool.order.remove(&key);
                pool.aging.remove(&(aging, self.id, at as u16));
            }
        }
        for limit in &self.plan.limits {
            let woken = shared.limits.withdraw(self.id, &limit.name);
            shared.wake(woken);
        }
        shared.dirty_lanes.retain(|(run, _)| *run != self.id);
    }

    /// The steps at a glance.
    pub(crate) fn steps(&self) -> Vec<StepView> {
        let view = |(at, step): (usize, &gristmill_protocol::plan::PlanStep)| StepView {
            name: step.name.clone(),
            kind: step.kind.clone(),
            state: self.states[at],
            tasks: 0,
            ended: 0,
            out: 0,
        };
        let mut views: Vec<StepView> = self.plan.steps.iter().enumerate().map(view).collect();
        for group in &self.groups {
            let view = &mut views[usize::from(group.step)];
            view.tasks += group.count;
            view.ended += match group.kind {
                Kind::Children => group.count - group.open,
                Kind::Root | Kind::Join => u32::from(self.states[group.first as usize].has_ended()),
            };
        }
        for task in self.out.keys() {
            views[usize::from(self.groups[self.group_of(*task)].step)].out += 1;
        }
        views
    }

    /// The state of all tasks as text.
    pub(crate) fn outline(&self) -> String {
        let mut text = format!("cancelling {} ended {:?}\n", self.cancelling, self.ended);
        for group in &self.groups {
            let of = &self.plan.steps[usize::from(group.step)].name;
            text += &format!(
                "{of} {:?} {} open {} failed {} cursor {} again {:?} halted {}:",
                group.kind,
                group.path(),
                group.open,
                group.failed,
                group.cursor,
                group.again,
                group.halted
            );
            for task in group.first..group.first + group.count {
                let (state, attempt) = (self.states[task as usize], self.attempts[task as usize]);
                let backoff = self.backoffs.get(&task).map_or(0, |at| at.0);
                text += &format!(" {state:?}#{attempt}/{:?}/{backoff}", self.output(task));
            }
            text.push('\n');
        }
        text
    }

    /// Bytes that the run takes in memory, beside itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let columns = self.states.capacity() + 2 * self.attempts.capacity() + 4 * self.outputs.capacity();
        let groups: usize = self.groups.iter().map(|group| size_of::<Group>() + group.heap_bytes()).sum();
        // A map's entry costs its key and value and about as much again in nodes that aren't full.
        let sparse = self.out.len() * 2 * (4 + size_of::<Out>())
            + (self.backoffs.len() + self.lingering.len()) * 32
            + self.budgets.len() * 2 * (4 + size_of::<Budget>())
            + self.failures.len() * 256
            + self.expansions.len() * 32;
        columns + groups + 4 * self.firsts.capacity() + sparse
    }
}

/// Until when an attempt that was taken back then may be at work, when that isn't known better.
pub(crate) fn lingers_until(at: Timestamp) -> Timestamp {
    at.plus_ms(LEASE_MS)
}

/// What a task is said to have failed of.
fn failure_of(cause: &Cause) -> Failure {
    match cause {
        Cause::Failed(failure) => failure.clone(),
        Cause::TimedOut => Failure::new(ErrorCode::TimedOut, "it took longer than its timeout")
            .with_hint("raise `timeout` of the step, or make the step smaller"),
        Cause::Lost => Failure::new(
            ErrorCode::Internal,
            "parked: a worker was lost with it more than once though nothing else ran there",
        )
        .with_hint("it probably needs more memory than a worker has; then `gristmill resume`"),
        Cause::Returned(_) => Failure::new(ErrorCode::Unavailable, "it was handed back too often"),
        Cause::Rejected { reason } => Failure::new(ErrorCode::BadInput, reason.clone()),
        Cause::Cancelled => Failure::new(ErrorCode::Cancelled, "it was cancelled"),
    }
}

/// The sum of what is put into a task: zero for nothing. FNV-1a (Fowler, Noll and Vo): it keeps apart what
/// chance brings together, and a million outputs cost little.
#[derive(Default)]
struct InputTag(u64);

impl InputTag {
    fn add(&mut self, input: &[u8]) {
        for byte in input.len().to_le_bytes().iter().chain(input) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            self.0 ^= 0xcbf2_9ce4_8422_2325;
        }
    }

    fn add_nothing(&mut self) {
        self.0 = (self.0 ^ u64::MAX).wrapping_mul(0x0100_0000_01b3);
    }

    fn finish(self) -> u32 {
        (self.0 ^ (self.0 >> 32)) as u32
    }
}

/// A number that tells an expansion's tasks from those of any other expansion at the same places, and from its
/// own at other places: if the store goes back, expansions may be recorded again in another order, and what was
/// the third child is then the fifth.
fn expansion_tag(parent_tag: u32, parent: u32, first: u32, expansion: &Expansion) -> u32 {
    let digest = Digest::of(&wire::encode(&(parent_tag, parent, first, expansion)));
    let bytes = digest.as_bytes();
    // Zero is the tag of a step's own task.
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).max(1)
}
