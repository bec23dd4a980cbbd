//! The checker: reads journals by itself, with none of the scheduler's code, and counts what must not be.
//!
//! It knows of facts what their documentation says: tasks are numbered densely in the order of the journal,
//! first the steps, then for each expansion its children and their join.

use std::collections::BTreeMap;

use gristmill_protocol::fact::{Cause, Fact, Next, RunStatus};
use gristmill_protocol::message::Items;
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::Plan;
use gristmill_protocol::{RunId, WorkerId};

/// What a run's journal says.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How it ended; nothing when it hasn't.
    pub status: Option<RunStatus>,
    pub tasks: u64,
    pub attempts: u64,
    pub lost_workers: u64,
    /// Attempts that a worker gave back.
    pub returned: u64,
    /// Tasks whose success is recorded more than once.
    pub recorded_twice: Vec<String>,
    /// Tasks given out before what they need had ended.
    pub before_ready: Vec<String>,
    /// Tasks of a run that succeeded without a recorded end of their own.
    pub without_end: Vec<String>,
    /// When work under each named limit began and ended, in microseconds of the workers' clock.
    pub under_limit: BTreeMap<String, Vec<(u64, u64)>>,
    /// Successes with their workers, by start in microseconds, and how long each took.
    pub spans: Vec<Span>,
}

/// One success.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub task: u32,
    pub worker: Option<WorkerId>,
    pub started_us: u64,
    pub slot_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Out,
    Expanded,
    Succeeded,
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Step(usize),
    Child { parent: u32 },
    Join { parent: u32, first: u32, count: u32 },
}

struct Task {
    kind: Kind,
    step: usize,
    state: State,
    /// Its expansion's join, whose end is its own.
    join: Option<u32>,
}

struct Journal {
    plan: Plan,
    tasks: Vec<Task>,
}

impl Journal {
    fn new(plan: Plan) -> Journal {
        let task = |step| Task { kind: Kind::Step(step), step, state: State::Open, join: None };
        Journal { tasks: (0..plan.steps.len()).map(task).collect(), plan }
    }

    /// What became of a task, its expansion included.
    fn end_of(&self, task: u32) -> State {
        let mut task = task;
        loop {
            let found = &self.tasks[task as usize];
            match (found.state, found.join) {
                (State::Expanded, Some(join)) => task = join,
                (state, _) => return state,
            }
        }
    }

    fn has_ended(&self, task: u32) -> bool {
        matches!(self.end_of(task), State::Succeeded | State::Ended)
    }

    fn is_ready(&self, task: u32) -> bool {
        match self.tasks[task as usize].kind {
            Kind::Step(step) => {
                let step = &self.plan.steps[step];
                let mut needs = step.needs.iter().map(|need| u32::from(need.step));
                match step.when {
                    When::Success => needs.all(|need| self.end_of(need) == State::Succeeded),
                    _ => needs.all(|need| self.has_ended(need)),
                }
            }
            Kind::Child { parent } => self.tasks[parent as usize].state == State::Expanded,
            Kind::Join { first, count, .. } => (first..first + count).all(|child| self.has_ended(child)),
        }
    }

    fn name(&self, run: RunId, task: u32) -> String {
        let step = &self.plan.steps[self.tasks[task as usize].step].name;
        match self.tasks[task as usize].kind {
            Kind::Step(_) => format!("{run}:{step}"),
            Kind::Child { parent } | Kind::Join { parent, .. } => format!("{run}:{step} (task {task}, of {parent})"),
        }
    }
}

/// Reads the facts of one run.
pub fn check<'a>(run: RunId, facts: impl IntoIterator<Item = &'a Fact>) -> Result<Verdict, String> {
    let mut verdict = Verdict::default();
    let mut facts = facts.into_iter();
    let Some(Fact::Created { plan, .. }) = facts.next() else {
        return Err(format!("{run}: its journal doesn't begin with its plan"));
    };
    let mut journal = Journal::new(plan.clone());
    for fact in facts {
        apply(run, &mut journal, &mut verdict, fact)?;
    }
    verdict.tasks = journal.tasks.len() as u64;
    if verdict.status == Some(RunStatus::Succeeded) {
        let open = |task: &u32| !journal.has_ended(*task);
        verdict.without_end =
            (0..journal.tasks.len() as u32).filter(open).map(|task| journal.name(run, task)).collect();
    }
    Ok(verdict)
}

fn apply(run: RunId, journal: &mut Journal, verdict: &mut Verdict, fact: &Fact) -> Result<(), String> {
    let known = |journal: &Journal, task: u32| match journal.tasks.get(task as usize) {
        Some(_) => Ok(()),
        None => Err(format!("{run}: a fact speaks of task {task}, which there isn't")),
    };
    match fact {
        Fact::Created { .. } => return Err(format!("{run}: it is created twice")),
        Fact::Assigned { ranges, .. } => {
            for task in ranges.iter().flat_map(|range| range.first..range.first + range.count) {
                known(journal, task)?;
                verdict.attempts += 1;
                if !journal.is_ready(task) {
                    verdict.before_ready.push(journal.name(run, task));
                }
                journal.tasks[task as usize].state = State::Out;
            }
        }
        Fact::Succeeded(column) => {
            for success in column.iter() {
                known(journal, success.task)?;
                if matches!(journal.tasks[success.task as usize].state, State::Succeeded | State::Expanded) {
                    verdict.recorded_twice.push(journal.name(run, success.task));
                }
                journal.tasks[success.task as usize].state = State::Succeeded;
                let (started_us, slot_us) = (success.started_us, success.slot_us);
                verdict.spans.push(Span { task: success.task, worker: column.worker, started_us, slot_us });
                let step = &journal.plan.steps[journal.tasks[success.task as usize].step];
                for limit in &step.limits {
                    let name = journal.plan.limits[usize::from(*limit)].name.clone();
                    verdict.under_limit.entry(name).or_default().push((started_us, started_us + slot_us));
                }
            }
        }
        Fact::Expanded { task, expansion, worker, started_us, slot_us, .. } => {
            known(journal, *task)?;
            if matches!(journal.tasks[*task as usize].state, State::Succeeded | State::Expanded) {
                verdict.recorded_twice.push(journal.name(run, *task));
            }
            let count = match &expansion.items {
                Items::None => 0,
                Items::Inline(items) => items.len() as u32,
                Items::Artifact { count, .. } => *count,
            };
            let (first, step) = (journal.tasks.len() as u32, journal.tasks[*task as usize].step);
            let child = |_| Task { kind: Kind::Child { parent: *task }, step, state: State::Open, join: None };
            journal.tasks.extend((0..count).map(child));
            let kind = Kind::Join { parent: *task, first, count };
            journal.tasks.push(Task { kind, step, state: State::Open, join: None });
            let expanded = &mut journal.tasks[*task as usize];
            (expanded.state, expanded.join) = (State::Expanded, Some(first + count));
            verdict.spans.push(Span { task: *task, worker: Some(*worker), started_us: *started_us, slot_us: *slot_us });
        }
        Fact::Ended { task, next, cause, .. } => {
            known(journal, *task)?;
            verdict.lost_workers += u64::from(matches!(cause, Cause::Lost));
            verdict.returned += u64::from(matches!(cause, Cause::Returned(_)));
            let task = &mut journal.tasks[*task as usize];
            task.state = match next {
                Next::Retry { .. } => State::Open,
                Next::Fail | Next::Reject | Next::Drop => State::Ended,
            };
        }
        Fact::Skipped { ranges } => {
            for task in ranges.iter().flat_map(|range| range.first..range.first + range.count) {
                known(journal, task)?;
                journal.tasks[task as usize].state = State::Ended;
            }
        }
        Fact::Resumed { .. } => {
            verdict.status = None;
            for task in &mut journal.tasks {
                if matches!(task.state, State::Ended | State::Out) {
                    task.state = State::Open;
                }
            }
        }
        Fact::RunEnded { status, .. } => verdict.status = Some(*status),
        Fact::Halted { .. } | Fact::Cancelling { .. } => {}
    }
    Ok(())
}

/// The most spans that overlap at any time.
pub fn most_at_once(spans: &[(u64, u64)]) -> usize {
    let mut edges: Vec<(u64, i32)> = spans.iter().flat_map(|&(from, to)| [(from, 1), (to, -1)]).collect();
    // What ends in the same microsecond as another begins doesn't overlap it.
    edges.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in edges {
        now += change;
        most = most.max(now);
    }
    most as usize
}

#[cfg(test)]
mod tests {
    use gristmill_protocol::fact::{About, AssignedRange, Succeeded, Success};
    use gristmill_protocol::payload::plan_of;
    use gristmill_protocol::{Timestamp, pipeline};

    use super::*;

    fn journal(facts: Vec<Fact>) -> Verdict {
        let text = "name: t\nsteps:\n  a: { noop: {} }\n  b: { noop: {}, after: [a] }\n";
        let plan = plan_of(&pipeline::check("t", text, &[]).expect("a pipeline"), "", "");
        let created = Fact::Created { at: Timestamp(1), plan, about: About::default() };
        let run = RunId::derive(Timestamp(1), "t", "t", None);
        let facts: Vec<Fact> = [created].into_iter().chain(facts).collect();
        check(run, &facts).expect("a journal")
    }

    fn assigned(task: u32) -> Fact {
        let ranges = vec![AssignedRange { first: task, count: 1, attempt: 1 }];
        Fact::Assigned { at: Timestamp(2), solo: false, ranges }
    }

    fn succeeded(task: u32) -> Fact {
        let mut column = Succeeded::default();
        let success = Success { task, attempt: 1, started_us: 5, slot_us: 2, output: b"", cached: false };
        column.push(&mut (0, 0), success);
        Fact::Succeeded(column)
    }

    #[test]
    fn what_is_right_passes() {
        let end = Fact::RunEnded { at: Timestamp(9), status: RunStatus::Succeeded };
        let verdict = journal(vec![assigned(0), succeeded(0), assigned(1), succeeded(1), end]);
        assert!(verdict.before_ready.is_empty() && verdict.recorded_twice.is_empty());
        assert!(verdict.without_end.is_empty());
        assert_eq!((verdict.status, verdict.attempts), (Some(RunStatus::Succeeded), 2));
    }

    #[test]
    fn what_starts_before_its_needs_is_seen() {
        assert_eq!(journal(vec![assigned(0), assigned(1)]).before_ready.len(), 1);
    }

    #[test]
    fn what_is_recorded_twice_is_seen() {
        assert_eq!(journal(vec![assigned(0), succeeded(0), succeeded(0)]).recorded_twice.len(), 1);
    }

    #[test]
    fn a_run_that_succeeded_without_all_its_tasks_is_seen() {
        let end = Fact::RunEnded { at: Timestamp(9), status: RunStatus::Succeeded };
        assert_eq!(journal(vec![assigned(0), succeeded(0), end]).without_end.len(), 1);
    }

    #[test]
    fn overlaps_are_counted() {
        assert_eq!(most_at_once(&[(0, 10), (5, 6), (6, 12), (10, 11)]), 2);
        assert_eq!(most_at_once(&[]), 0);
    }
}
