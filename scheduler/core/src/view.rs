//! What a held run looks like to a reader: its groups, and what became of single tasks.
//!
//! Nothing here decides or changes anything; whoever folds a journal for people replays it first and then
//! looks.

use gristmill_protocol::message::task_name;
use gristmill_protocol::{AttemptRef, Failure, RunId, TaskKey};

use crate::group::{Group, Kind};
use crate::run::TaskState;
use crate::scheduler::Scheduler;

/// Tasks that share a template, at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupView {
    pub kind: GroupKind,
    /// Position of its step in the plan.
    pub step: u16,
    /// The task that expanded into it; for a step's own task that task.
    pub parent: u32,
    /// The place of its tasks under the step: empty, `2`, `2/join`, `1/17/1`.
    pub path: String,
    /// Index of its first task.
    pub first: u32,
    /// How many tasks it has.
    pub count: u32,
    /// The tag that its tasks share.
    pub tag: u32,
}

/// What a group is within its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// The step's own task.
    Step,
    /// Children of an expansion.
    Children,
    /// The task after an expansion's children.
    Join,
}

impl GroupView {
    fn of(group: &Group) -> GroupView {
        let kind = match group.kind {
            Kind::Root => GroupKind::Step,
            Kind::Children => GroupKind::Children,
            Kind::Join => GroupKind::Join,
        };
        GroupView {
            kind,
            step: group.step,
            parent: group.parent,
            path: group.path(),
            first: group.first,
            count: group.count,
            tag: group.tag,
        }
    }

    /// The name of one of its tasks, for people.
    pub fn task_name(&self, step: &str, task: u32) -> String {
        task_name(step, &self.path, self.first, task, self.kind != GroupKind::Children)
    }

    /// The full name of an attempt at one of its tasks.
    pub fn attempt(&self, run: RunId, task: u32, attempt: u16) -> AttemptRef {
        AttemptRef { run, task: TaskKey { index: task, tag: self.tag }, attempt }
    }
}

impl Scheduler {
    /// The groups of a held run, in the order of their first tasks.
    pub fn groups(&self, run: RunId) -> impl Iterator<Item = GroupView> + '_ {
        self.runs.get(&run).into_iter().flat_map(|run| run.groups.iter().map(GroupView::of))
    }

    /// The group at a position of [`Scheduler::groups`].
    pub fn group_at(&self, run: RunId, at: usize) -> Option<GroupView> {
        self.runs.get(&run)?.groups.get(at).map(GroupView::of)
    }

    /// Position of the group of a held run's task, in the order of [`Scheduler::groups`].
    pub fn group_of(&self, run: RunId, task: u32) -> Option<usize> {
        let run = self.runs.get(&run)?;
        run.state(task).map(|_| run.group_of(task))
    }

    /// Where a held run's task is.
    pub fn task_state(&self, run: RunId, task: u32) -> Option<TaskState> {
        self.runs.get(&run)?.state(task)
    }

    /// What a held run's task has put out; nothing before it succeeded.
    pub fn output(&self, run: RunId, task: u32) -> Option<&[u8]> {
        let run = self.runs.get(&run)?;
        (run.state(task)? == TaskState::Succeeded).then(|| run.output(task))
    }

    /// Why a held run's task failed or was rejected.
    pub fn failure(&self, run: RunId, task: u32) -> Option<&Failure> {
        self.runs.get(&run)?.failures.get(&task)
    }
}
