//! `explain`: why a run's steps wait, or why the run ended as it did, each with what to try.
//!
//! The reasons of an open run are the core's own: its journal is replayed into a core that is thrown away,
//! which then says what it would do and what each task waits for. So they hold with no scheduler running.
//! Which workers there are is known to stores that are shared; beside an embedded one it isn't, and then
//! nothing is said of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::history::{self, Folding, History, HistoryError, StepHistory, StepState};
use crate::pools_seen;
use gristmill_backends::state::{State, WorkerView};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::{RunId, Timestamp};
use gristmill_scheduler_core::{Event, GroupKind, Scheduler, TaskState, WaitingOn};
use serde_json::{Value, json};

use crate::text;

/// Why a run is where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    pub run: RunId,
    /// How it stands, in a word.
    pub status: &'static str,
    /// How it stands, in a sentence.
    pub summary: String,
    /// The steps that haven't succeeded, each with why.
    pub steps: Vec<StepReason>,
    /// What to do about the run as a whole.
    pub hint: Option<String>,
}

/// Why a step is where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReason {
    pub step: String,
    pub state: StepState,
    /// The nearest reason first.
    pub reasons: Vec<String>,
    pub hint: Option<String>,
}

/// Reads a run's journal and says why the run is where it is; `workers` are the live ones, where they are known.
pub async fn explain(
    state: &dyn State,
    run: RunId,
    workers: Option<&[WorkerView]>,
    now: Timestamp,
) -> Result<Explanation, HistoryError> {
    let mut folding = Folding::new(run);
    history::read_facts(state, run, |fact| folding.push(fact)).await?;
    Ok(explain_history(&folding.finish()?, folding.core(), workers, now))
}

/// Says why a run is where it is whose journal is folded already.
pub fn explain_history(
    history: &History,
    core: &Scheduler,
    workers: Option<&[WorkerView]>,
    now: Timestamp,
) -> Explanation {
    match history.status {
        Some(status) => explain_ended(history, status),
        None => explain_open(history, core.clone(), workers, now),
    }
}

/// Says why one task of an open run isn't getting on: the nearest reason first, and what to try.
pub fn explain_task(
    history: &History,
    core: &Scheduler,
    task: u32,
    workers: Option<&[WorkerView]>,
    now: Timestamp,
) -> (Vec<String>, Option<String>) {
    if history.status.is_some() || core.task_state(history.run, task).is_none_or(TaskState::has_ended) {
        return (Vec::new(), None);
    }
    let mut core = core.clone();
    let was_out = would_do(&mut core, history.run, workers, now);
    let mut reasons = Reasons { core: &core, history, workers, now, was_out: &was_out, lines: Vec::new(), hint: None };
    reasons.of_task(task);
    (reasons.lines, reasons.hint)
}

fn explain_ended(history: &History, status: RunStatus) -> Explanation {
    let steps = history.steps.iter().filter(|step| step.state != StepState::Succeeded);
    let steps: Vec<StepReason> = steps.map(|step| ended_step(history, step)).collect();
    let run = history.run;
    let named = |state: StepState| {
        let steps = history.steps.iter().filter(|step| step.state == state);
        steps.map(|step| format!("`{}`", step.name)).collect::<Vec<_>>().join(", ")
    };
    let (summary, hint) = match status {
        RunStatus::Succeeded if steps.is_empty() => ("every step succeeded".to_owned(), None),
        RunStatus::Succeeded => ("no step failed; some weren't needed".to_owned(), None),
        RunStatus::Failed => (
            format!("it failed because of {}", named(StepState::Failed)),
            Some(format!("once that is mended, `gristmill resume {run}` goes on from what succeeded")),
        ),
        RunStatus::Rejected => (
            format!("it was rejected by {}: nothing went wrong, a requirement isn't met", named(StepState::Rejected)),
            Some(format!("`gristmill report {run} -o report.html` shows what was measured")),
        ),
        RunStatus::Cancelled => {
            let by = history.cancelled_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            (format!("it was cancelled{by}"), Some(format!("`gristmill resume {run}` goes on from what succeeded")))
        }
    };
    Explanation { run, status: status.as_str(), summary, steps, hint }
}

fn ended_step(history: &History, step: &StepHistory) -> StepReason {
    let mut hint = None;
    let mut reasons = Vec::new();
    match (step.state, &step.failure) {
        (StepState::Failed | StepState::Rejected, Some(failure)) => {
            reasons.push(failure.message.clone());
            if step.tally.failed > 1 {
                reasons.push(format!("{} of it failed", text::counted(step.tally.failed, "attempt")));
            }
            hint = failure.hint.clone();
        }
        (StepState::Skipped, _) => reasons.push(skipped_because(history, step)),
        (StepState::Cancelled, _) => reasons.push("the run ended before it did".to_owned()),
        _ => {}
    }
    StepReason { step: step.name.clone(), state: step.state, reasons, hint }
}

/// Why a step was skipped: the needs that ended otherwise than its `when` asks for.
fn skipped_because(history: &History, step: &StepHistory) -> String {
    let needs = step.needs.iter().map(|need| &history.steps[usize::from(need.step)]);
    let told = |states: &[StepState]| {
        let needs = needs.clone().filter(|need| states.contains(&need.state));
        needs.map(|need| format!("`{}` {}", need.name, was(need.state))).collect::<Vec<_>>().join(", ")
    };
    match step.when {
        When::Failure => "it runs only when a step before it fails, and none did".to_owned(),
        When::Success | When::Always => {
            told(&[StepState::Failed, StepState::Rejected, StepState::Skipped, StepState::Cancelled])
        }
    }
}

fn was(state: StepState) -> &'static str {
    match state {
        StepState::Rejected => "was rejected",
        StepState::Skipped => "was skipped",
        StepState::Cancelled => "was cancelled",
        other => other.as_str(),
    }
}

fn explain_open(history: &History, mut core: Scheduler, workers: Option<&[WorkerView]>, now: Timestamp) -> Explanation {
    let run = history.run;
    let was_out = would_do(&mut core, run, workers, now);
    let mut steps = Vec::new();
    for (at, step) in history.steps.iter().enumerate() {
        if step.state == StepState::Succeeded {
            continue;
        }
        let mut reasons =
            Reasons { core: &core, history, workers, now, was_out: &was_out, lines: Vec::new(), hint: None };
        reasons.of_step(at);
        let Reasons { lines, hint, .. } = reasons;
        steps.push(StepReason { step: step.name.clone(), state: step.state, reasons: lines, hint });
    }
    let open = steps.len();
    let done = history.steps.len() - open;
    let summary = match &history.cancelled_by {
        Some(by) => format!("it is being cancelled by {by}: what is out is being stopped"),
        None => format!("{done} of {} steps are done", history.steps.len()),
    };
    let hint = match workers {
        Some([]) => Some("no worker is alive: start one with `gristmill worker`".to_owned()),
        Some(_) => None,
        None => Some(format!("if nothing is at work on it, `gristmill resume {run}` goes on where it stopped")),
    };
    Explanation { run, status: history.status_name(), summary, steps, hint }
}

/// Lets a core that is thrown away do what it would do now: that it would is a reason, too. Says what was out before.
fn would_do(core: &mut Scheduler, run: RunId, workers: Option<&[WorkerView]>, now: Timestamp) -> Vec<u32> {
    let pools = pools_seen(workers.unwrap_or_default(), &[], 0);
    let was_out = core.out(run).iter().map(|(attempt, _)| attempt.task.index).collect();
    let _ = core.turn(now, [Event::PoolsSeen(pools), Event::Activated { run }]);
    was_out
}

/// The reasons of one step in the making.
struct Reasons<'a> {
    core: &'a Scheduler,
    history: &'a History,
    workers: Option<&'a [WorkerView]>,
    now: Timestamp,
    was_out: &'a [u32],
    lines: Vec<String>,
    hint: Option<String>,
}

impl Reasons<'_> {
    fn of_step(&mut self, at: usize) {
        let task = at as u32;
        if self.core.task_state(self.history.run, task) != Some(TaskState::Expanded) {
            return self.of_task(task);
        }
        // The tasks of one group wait for the same things: one of each state speaks for the others.
        for group in self.history.groups.iter().filter(|group| usize::from(group.view.step) == at) {
            if group.view.kind == GroupKind::Step {
                continue;
            }
            let view = &group.view;
            let name = view.task_name(&self.history.steps[at].name, view.first);
            let children = view.kind == GroupKind::Children;
            if children && group_open(group) > 0 {
                let prefix = name.rsplit_once('/').map_or(name.as_str(), |(prefix, _)| prefix);
                let done = text::count(u64::from(view.count - group_open(group)));
                let count = text::counted(u64::from(view.count), "task");
                self.lines.push(format!("{done} of {count} of `{prefix}` are done"));
            }
            let mut examples: BTreeMap<TaskState, (u32, u32)> = BTreeMap::new();
            for task in view.first..view.first + view.count {
                if let Some(state) = self.core.task_state(self.history.run, task).filter(|state| !state.has_ended()) {
                    examples.entry(state).or_insert((0, task)).0 += 1;
                }
            }
            for (state, (count, task)) in examples {
                // Joins that wait for their children say no more than the children do.
                if state == TaskState::Waiting || state == TaskState::Expanded {
                    continue;
                }
                let first = self.lines.len();
                self.of_task(task);
                if children {
                    let reasons = self.lines.split_off(first).join("; ");
                    self.lines.push(format!("{}: {reasons}", text::counted(u64::from(count), "task")));
                }
            }
        }
    }

    fn of_task(&mut self, task: u32) {
        let run = self.history.run;
        if self.core.task_state(run, task) == Some(TaskState::Out) && !self.was_out.contains(&task) {
            let pool = self.core.pool_of(run, task).unwrap_or_default();
            self.lines.push(format!("it can start: the next free slot of pool `{pool}` takes it"));
            return;
        }
        for reason in self.core.explain(run, task) {
            let (line, hint) = self.told(task, &reason);
            self.lines.push(line);
            self.hint = self.hint.take().or(hint);
        }
    }

    fn told(&self, task: u32, reason: &WaitingOn) -> (String, Option<String>) {
        match reason {
            WaitingOn::Out { attempt, since } => {
                let age = text::seconds(self.now.since(*since) as f64 / 1e3);
                let holder = self.workers.unwrap_or_default().iter().find_map(|worker| {
                    let mut held = worker.held.iter();
                    held.find(|(held, _)| {
                        held.run == self.history.run && held.task.index == task && held.attempt == *attempt
                    })
                    .map(|(_, progress)| (worker.worker, progress.clone()))
                });
                match holder {
                    Some((worker, progress)) => {
                        let progress = progress.map(|progress| match progress.total {
                            Some(total) => {
                                format!(", {} of {} {}", text::count(progress.done), text::count(total), progress.unit)
                            }
                            None => format!(", {} {}", text::count(progress.done), progress.unit),
                        });
                        let progress = progress.unwrap_or_default();
                        (format!("attempt {attempt} is at work on {worker}, out for {age}{progress}"), None)
                    }
                    None if self.workers.is_none() => (format!("attempt {attempt} is out for {age}"), None),
                    None => {
                        (format!("attempt {attempt} is out for {age}, and no live worker says that it has it"), None)
                    }
                }
            }
            WaitingOn::Backoff { until, attempt } => {
                let left = text::seconds(until.since(self.now) as f64 / 1e3);
                let why = self.last_failure(task);
                (format!("attempt {attempt} failed{why}; it is tried again in {left}"), None)
            }
            WaitingOn::NoWorker { pool } => match self.workers {
                None => (format!("it can start: a free slot of pool `{pool}` takes it"), None),
                // With no worker at all the run as a whole has the hint.
                Some([]) => (reason.to_string(), None),
                Some(workers) => {
                    let served = pools_text(workers);
                    (reason.to_string(), Some(format!("no worker serves pool `{pool}`; they serve {served}")))
                }
            },
            WaitingOn::Limit { name, max, .. } => (
                reason.to_string(),
                Some(format!("raise `limits: {{ {name}: {max} }}` of the pipeline if more may run at a time")),
            ),
            other => (other.to_string(), None),
        }
    }

    fn last_failure(&self, task: u32) -> String {
        let attempts = self.history.attempts.iter().rev();
        let mut failed = attempts.filter(|attempt| attempt.task == task).filter_map(|attempt| match &attempt.outcome {
            history::AttemptOutcome::Failed(failure) => Some(format!(" ({failure})")),
            _ => None,
        });
        failed.next().unwrap_or_default()
    }
}

fn group_open(group: &history::GroupHistory) -> u32 {
    let open = [StepState::Waiting, StepState::Running, StepState::Retrying];
    open.iter().filter_map(|state| group.states.get(state)).sum()
}

fn pools_text(workers: &[WorkerView]) -> String {
    let mut pools: Vec<&str> = workers.iter().flat_map(|worker| &worker.pools).map(String::as_str).collect();
    pools.sort_unstable();
    pools.dedup();
    pools.iter().map(|pool| format!("`{pool}`")).collect::<Vec<_>>().join(", ")
}

impl Explanation {
    /// The explanation as people read it.
    pub fn to_text(&self) -> String {
        let mut out = format!("{} {}: {}\n", self.run, self.status, self.summary);
        for step in &self.steps {
            write!(out, "\n  {} ({})", step.step, step.state.as_str()).expect("writing to memory");
            match step.reasons.as_slice() {
                [] => out.push('\n'),
                [only] => writeln!(out, ": {only}").expect("writing to memory"),
                many => {
                    out.push('\n');
                    many.iter().for_each(|reason| out += &format!("    - {reason}\n"));
                }
            }
            if let Some(hint) = &step.hint {
                writeln!(out, "    hint: {hint}").expect("writing to memory");
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(out, "\nhint: {hint}").expect("writing to memory");
        }
        out
    }

    /// The explanation for programs.
    pub fn to_json(&self) -> Value {
        let step = |step: &StepReason| json!({ "step": step.step, "status": step.state.as_str(), "reasons": step.reasons, "hint": step.hint });
        json!({
            "run": self.run.to_string(),
            "status": self.status,
            "summary": self.summary,
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "hint": self.hint,
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use gristmill_protocol::{ErrorCode, WorkerId};

    use gristmill_backends::state::WorkerAbout;

    use super::*;
    use crate::journal::{Recorder, dataset};

    fn check(run: &Recorder, workers: Option<&[WorkerView]>, expected: Expect) {
        let history = History::fold(run.run, &run.facts).expect("the core's journals can be told");
        let mut core = Scheduler::new();
        run.facts.iter().for_each(|fact| core.replay(run.run, fact).expect("a journal of the core"));
        expected.assert_eq(&explain_history(&history, &core, workers, run.now).to_text());
    }

    fn worker(pool: &str, slots: u32, now: Timestamp) -> WorkerView {
        let pools = vec![pool.to_owned()];
        WorkerView {
            worker: WorkerId(0xa1),
            pools,
            slots,
            draining: false,
            about: WorkerAbout::default(),
            seen: now,
            held: Vec::new(),
        }
    }

    #[test]
    fn a_step_waits_for_those_before_it_and_for_a_worker() {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
        run.after(2_000);
        check(
            &run,
            None,
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 running: 0 of 2 steps are done

              flights (running): attempt 1 is out for 2.0 s

              trips (waiting): waits for `flights`

            hint: if nothing is at work on it, `gristmill resume run-019424f8608871d68f8a99f8a2690153` goes on where it stopped
        "#]],
        );
        check(
            &run,
            Some(&[]),
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 running: 0 of 2 steps are done

              flights (running): attempt 1 is out for 2.0 s, and no live worker says that it has it

              trips (waiting): waits for `flights`

            hint: no worker is alive: start one with `gristmill worker`
        "#]],
        );
    }

    #[test]
    fn a_wrong_pool_is_named_with_those_that_are_served() {
        let mut plan = crate::journal::plan(&[("flights", "ingest", &[])]);
        plan.steps[0].pool = "bigmem".to_owned();
        let run = Recorder::of(plan, gristmill_protocol::fact::About::default());
        check(
            &run,
            Some(&[worker("default", 4, run.now)]),
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 running: 0 of 1 steps are done

              flights (waiting): no worker serves pool `bigmem`
                hint: no worker serves pool `bigmem`; they serve `default`
        "#]],
        );
    }

    #[test]
    fn what_could_start_says_so() {
        let mut run = Recorder::new(&[("flights", "ingest", &[]), ("trips", "transform", &["flights"])]);
        run.after(10).succeed(0, &dataset(1));
        // As after a crash between the success and the next assignment.
        run.facts.retain(
            |fact| !matches!(fact, gristmill_protocol::fact::Fact::Assigned { ranges, .. } if ranges[0].first == 1),
        );
        check(
            &run,
            Some(&[worker("default", 4, run.now)]),
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 running: 1 of 2 steps are done

              trips (waiting): it can start: the next free slot of pool `default` takes it
        "#]],
        );
    }

    #[test]
    fn a_retry_names_the_failure_before_it() {
        let mut run = Recorder::new(&[("flights", "ingest", &[])]);
        run.after(10).fail(0, ErrorCode::Unavailable, "the disk is away");
        check(
            &run,
            Some(&[worker("default", 4, run.now)]),
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 running: 0 of 1 steps are done

              flights (retrying): attempt 1 failed (the disk is away); it is tried again in 890 ms
        "#]],
        );
    }

    #[test]
    fn a_fan_out_tells_how_many_are_done_and_what_the_others_wait_for() {
        let mut run = Recorder::new(&[("scores", "score", &[])]);
        run.after(10).expand(0, 30).after(40);
        run.succeed(1, &gristmill_protocol::output::Output::Nothing).after(60);
        check(
            &run,
            Some(&[worker("default", 4, run.now)]),
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 running: 0 of 1 steps are done

              scores (running)
                - 1 of 30 tasks of `scores/1` are done
                - 21 tasks: pool `default` is full: 8 tasks out for 4 slots; 21 tasks are ready in pool `default`
                - 8 tasks: attempt 1 is out for 100 ms, and no live worker says that it has it
        "#]],
        );
    }

    #[test]
    fn an_ended_run_tells_why_it_ended_so() {
        let steps: &[(&str, &str, &[&str])] =
            &[("flights", "ingest", &[]), ("trips", "transform", &["flights"]), ("model", "train", &["trips"])];
        let mut failed = Recorder::new(steps);
        failed.after(10).succeed(0, &dataset(5)).after(5).fail(1, ErrorCode::BadInput, "there is no column `x`");
        check(
            &failed,
            None,
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 failed: it failed because of `trips`

              trips (failed): there is no column `x`

              model (skipped): `trips` failed

            hint: once that is mended, `gristmill resume run-019424f8608871d68f8a99f8a2690153` goes on from what succeeded
        "#]],
        );
        let mut rejected = Recorder::new(&[("quality", "validate", &[]), ("release", "register", &["quality"])]);
        rejected.after(10).reject(0, "roc_auc is 0.7; at least 0.85 is required");
        check(
            &rejected,
            None,
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 rejected: it was rejected by `quality`: nothing went wrong, a requirement isn't met

              quality (rejected): roc_auc is 0.7; at least 0.85 is required

              release (skipped): `quality` was rejected

            hint: `gristmill report run-019424f8608871d68f8a99f8a2690153 -o report.html` shows what was measured
        "#]],
        );
        let mut cancelled = Recorder::new(steps);
        cancelled.after(10).succeed(0, &dataset(5)).cancel("ann");
        check(
            &cancelled,
            None,
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 cancelled: it was cancelled by ann

              trips (cancelled): the run ended before it did

              model (cancelled): the run ended before it did

            hint: `gristmill resume run-019424f8608871d68f8a99f8a2690153` goes on from what succeeded
        "#]],
        );
        let mut succeeded = Recorder::new(&[("flights", "ingest", &[])]);
        succeeded.after(10).succeed(0, &dataset(5));
        check(
            &succeeded,
            None,
            expect![[r#"
            run-019424f8608871d68f8a99f8a2690153 succeeded: every step succeeded
        "#]],
        );
    }
}
