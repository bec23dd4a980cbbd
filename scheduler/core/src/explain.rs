//! Why a task isn't running. Whoever waits deserves a reason.

use std::fmt;

use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::{Failure, RunId, Timestamp};

use crate::group::Kind;
use crate::run::{Run, TaskState};
use crate::scheduler::Scheduler;

/// One thing that a task waits for, or why it won't run.
#[must_use = "an unread reason helps nobody"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitingOn {
    /// These steps haven't ended.
    Steps { steps: Vec<String> },
    /// The children of the same expansion haven't ended.
    Children { open: u32, count: u32 },
    /// The task has expanded; its children and their join are on their way.
    Expansion { open: u32, count: u32 },
    /// It is tried again at that time.
    Backoff { until: Timestamp, attempt: u16 },
    /// No live worker takes work of this pool.
    NoWorker { pool: String },
    /// As much is out in the pool as its workers can take.
    Window { pool: String, out: u32, slots: u32 },
    /// A named limit is used up.
    Limit { name: String, in_use: u32, max: u32 },
    /// Ready tasks of other runs, or of a higher priority, are served before it.
    Others { pool: String, ready: u64 },
    /// It was given out then and nothing was heard of it since.
    Out { attempt: u16, since: Timestamp },
    /// It has failed.
    Failed { failure: Failure },
    /// What it needs didn't end as it should.
    Skipped { by: Vec<String> },
    /// The run is being cancelled.
    Cancelling,
    /// The run has ended.
    RunEnded { status: RunStatus },
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitingOn::Steps { steps } => write!(f, "waits for {}", quoted(steps)),
            WaitingOn::Children { open, count } => write!(f, "waits for {open} of {count} parallel tasks"),
            WaitingOn::Expansion { open: 0, .. } => write!(f, "is being joined"),
            WaitingOn::Expansion { open, count } => write!(f, "{} of {count} parallel tasks are done", count - open),
            WaitingOn::Backoff { attempt, .. } => write!(f, "is tried again soon, after attempt {attempt}"),
            WaitingOn::NoWorker { pool } => write!(f, "no worker serves pool `{pool}`"),
            WaitingOn::Window { pool, out, slots } => {
                write!(f, "pool `{pool}` is full: {out} tasks out for {slots} slots")
            }
            WaitingOn::Limit { name, in_use, max } => write!(f, "limit `{name}` is used up: {in_use} of {max}"),
            WaitingOn::Others { pool, ready } => write!(f, "{ready} tasks are ready in pool `{pool}`"),
            WaitingOn::Out { attempt, .. } => write!(f, "attempt {attempt} is out"),
            WaitingOn::Failed { failure } => write!(f, "failed: {failure}"),
            WaitingOn::Skipped { by } => write!(f, "was skipped because of {}", quoted(by)),
            WaitingOn::Cancelling => write!(f, "the run is being cancelled"),
            WaitingOn::RunEnded { status } => write!(f, "the run has ended: {}", status.as_str()),
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// All reasons, the nearest first; empty for a task that succeeded or doesn't exist.
pub(crate) fn explain(scheduler: &Scheduler, id: RunId, task: u32) -> Vec<WaitingOn> {
    let Some(run) = scheduler.runs.get(&id) else { return Vec::new() };
    let Some(state) = run.state(task) else { return Vec::new() };
    let mut reasons = match state {
        TaskState::Succeeded => return Vec::new(),
        TaskState::Waiting => waiting(run, task),
        TaskState::Ready => ready(scheduler, run, task),
        TaskState::Out => run
            .out
            .get(&task)
            .map(|out| WaitingOn::Out { attempt: out.attempt, since: out.since })
            .into_iter()
            .collect(),
        TaskState::Backoff => run
            .backoffs
            .get(&task)
            .map(|until| WaitingOn::Backoff { until: *until, attempt: run.attempt(task) })
            .into_iter()
            .collect(),
        TaskState::Expanded => {
            let group = &run.groups[run.expansions[&task]];
            vec![WaitingOn::Expansion { open: group.open, count: group.count }]
        }
        TaskState::Failed | TaskState::Rejected => {
            run.failures.get(&task).map(|failure| WaitingOn::Failed { failure: failure.clone() }).into_iter().collect()
        }
        TaskState::Skipped | TaskState::Dropped => vec![WaitingOn::Skipped { by: needs(run, task, not_succeeded) }],
    };
    match run.ended {
        Some(status) => reasons.push(WaitingOn::RunEnded { status }),
        None if run.cancelling => reasons.push(WaitingOn::Cancelling),
        None => {}
    }
    reasons
}

fn waiting(run: &Run, task: u32) -> Vec<WaitingOn> {
    let group = &run.groups[run.group_of(task)];
    match group.kind {
        Kind::Join => {
            let children = &run.groups[group.sibling];
            vec![WaitingOn::Children { open: children.open, count: children.count }]
        }
        Kind::Root | Kind::Children => {
            vec![WaitingOn::Steps { steps: needs(run, task, |state| !state.has_ended()) }]
        }
    }
}

fn ready(scheduler: &Scheduler, run: &Run, task: u32) -> Vec<WaitingOn> {
    let lane = &run.lanes[usize::from(run.groups[run.group_of(task)].lane)];
    let (name, pool) = &scheduler.shared.pools[lane.pool];
    if pool.seen.workers == 0 {
        return vec![WaitingOn::NoWorker { pool: name.clone() }];
    }
    let full = |limit: &String| {
        let state = scheduler.shared.limits.get(limit)?;
        let (in_use, max) = (state.in_use, state.max());
        (in_use >= max).then(|| WaitingOn::Limit { name: limit.clone(), in_use, max })
    };
    let limits: Vec<WaitingOn> = lane.limits.iter().filter_map(full).collect();
    if !limits.is_empty() {
        return limits;
    }
    vec![
        WaitingOn::Window { pool: name.clone(), out: pool.out, slots: pool.seen.slots },
        WaitingOn::Others { pool: name.clone(), ready: pool.ready },
    ]
}

fn not_succeeded(state: TaskState) -> bool {
    state != TaskState::Succeeded
}

/// The steps that a step's task needs and whose state is of interest.
fn needs(run: &Run, task: u32, wanted: impl Fn(TaskState) -> bool) -> Vec<String> {
    let step = &run.plan.steps[usize::from(run.groups[run.group_of(task)].step)];
    let of_interest = step.needs.iter().filter(|need| run.state(u32::from(need.step)).is_some_and(&wanted));
    of_interest.map(|need| run.plan.steps[usize::from(need.step)].name.clone()).collect()
}
