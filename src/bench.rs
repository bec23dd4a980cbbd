//! `gristmill bench`: what this machine does, by the same code that runs pipelines.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context;
use gristmill_backends::state::embedded::Synchronous;
use gristmill_protocol::fact::{About, Fact, RunStatus};
use gristmill_protocol::limits::EXPAND_CHILDREN_MAX;
use gristmill_protocol::message::{Expansion, Items, OnFailure, Outcome, Report, Template};
use gristmill_protocol::payload::{Files, Payload, StepPayload};
use gristmill_protocol::pipeline::Task;
use gristmill_protocol::pipeline::steps::{Noop, When};
use gristmill_protocol::plan::{Plan, PlanNeed, PlanStep};
use gristmill_protocol::{AttemptRef, RunId, Timestamp, WorkerId, wire};
use gristmill_scheduler::history::History;
use gristmill_scheduler::submit::{Submission, submit};
use gristmill_scheduler_core::{Effect, Event, PoolSeen, Scheduler, Step};
use gristmill_telemetry::Telemetry;
use gristmill_worker_runtime::Drain;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use crate::cli::{BenchArgs, Scenario};
use crate::cluster::{Cluster, WorkerSetup};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::progress::grouped;

/// Slots that the core is told of: enough that its windows don't hold it back.
const CORE_SLOTS: u32 = 4_096;
/// Tasks of the small run that the large one is compared with.
const SMALL: u32 = 1_000;

/// Runs a scenario and prints its figures.
pub async fn bench(args: BenchArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let figures = match args.scenario {
        Scenario::Core => core(args.tasks.unwrap_or(1_000_000))?,
        Scenario::Noop => noop(args.tasks.unwrap_or(100_000), telemetry).await?,
        Scenario::Chain => chain(args.tasks.unwrap_or(1_000), telemetry).await?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&figures).context("failed to print JSON")?);
        return Ok(Exit::Success);
    }
    for (name, value) in figures.as_object().into_iter().flatten() {
        let text = match value {
            Value::Number(number) => number.as_u64().map_or_else(|| format!("{number:.3}"), grouped),
            other => other.to_string(),
        };
        println!("{:32} {text}", name.replace('_', " "));
    }
    Ok(Exit::Success)
}

/// The pure core: a run whose steps expand into no-op tasks, every one reported, all in memory.
fn core(tasks: u32) -> anyhow::Result<Value> {
    let steps = tasks.div_ceil(EXPAND_CHILDREN_MAX);
    if steps > 9 * 1_000_000 / EXPAND_CHILDREN_MAX + 1 {
        return Err(Problem::usage("a run has at most 1,000,000 tasks").into());
    }
    // Room for the steps' own tasks and joins within the limit of a run.
    let children = (tasks - 2 * steps).div_ceil(steps);
    let small = measure_core(1, SMALL);
    let large = measure_core(steps, children);
    Ok(json!({
        "tasks": large.tasks,
        "events": large.events,
        "events_per_second": (large.events as f64 / large.seconds) as u64,
        "nanoseconds_per_task": large.seconds * 1e9 / f64::from(large.tasks),
        "state_bytes_per_task": large.bytes as f64 / f64::from(large.tasks),
        "nanoseconds_per_task_of_1000": small.seconds * 1e9 / f64::from(small.tasks),
        "cost_ratio_to_1000": (large.seconds / f64::from(large.tasks)) / (small.seconds / f64::from(small.tasks)),
    }))
}

struct CoreFigures {
    tasks: u32,
    /// Attempts given out and reports taken in: two a task.
    events: u64,
    seconds: f64,
    /// The most that the run's state took.
    bytes: usize,
}

/// The best of some runs: what is measured is the code, not what else the machine does.
fn measure_core(steps: u32, children: u32) -> CoreFigures {
    let rounds = if children <= SMALL { 200 } else { 3 };
    let runs = (0..rounds).map(|_| measure_core_once(steps, children));
    runs.min_by(|one, other| one.seconds.total_cmp(&other.seconds)).expect("there is a round")
}

fn measure_core_once(steps: u32, children: u32) -> CoreFigures {
    let run = RunId::derive(Timestamp(1), "bench", "core", None);
    let expansion = Expansion {
        child: Template { payload: ByteBuf::new() },
        items: Items::Inline(vec![ByteBuf::new(); children as usize]),
        join: Template { payload: ByteBuf::new() },
        on_failure: OnFailure::Fail,
    };
    let plan = plan((0..steps).map(|at| plan_step(&format!("s{at}"), ByteBuf::new(), &[])).collect());
    let mut core = Scheduler::new();
    let seen = PoolSeen { workers: 1, slots: CORE_SLOTS, elsewhere: 0 };
    let mut figures = CoreFigures { tasks: 0, events: 0, seconds: 0.0, bytes: 0 };
    let created = Fact::Created { at: Timestamp(1), plan, about: About::default() };
    core.replay(run, &created).expect("the plan is valid");
    let started = Instant::now();
    let mut step = core.turn(
        Timestamp(2),
        [Event::Activated { run }, Event::PoolsSeen(BTreeMap::from([("default".to_owned(), seen)]))],
    );
    let mut ended = false;
    while !ended {
        let attempts: Vec<AttemptRef> = published(&step, &mut ended).collect();
        figures.events += 2 * attempts.len() as u64;
        let report = |attempt: AttemptRef| Event::Reported {
            worker: WorkerId(1),
            report: Report {
                attempt,
                started_us: 0,
                slot_us: 1,
                outcome: if attempt.task.index < steps {
                    Outcome::Expanded(expansion.clone())
                } else {
                    Outcome::Succeeded { output: ByteBuf::new(), cached: false }
                },
            },
        };
        step = core.turn(Timestamp(3), attempts.into_iter().map(report));
        figures.bytes = figures.bytes.max(core.heap_bytes());
    }
    figures.seconds = started.elapsed().as_secs_f64();
    figures.tasks = core.task_count(run);
    figures
}

fn published<'a>(step: &'a Step, ended: &mut bool) -> impl Iterator<Item = AttemptRef> + 'a {
    *ended = step.effects.iter().any(|effect| matches!(effect, Effect::RunEnded { .. }));
    step.effects.iter().flat_map(|effect| match effect {
        Effect::Publish(assignment) => assignment.attempts().collect::<Vec<_>>(),
        Effect::Revoke { .. } | Effect::RunEnded { .. } => Vec::new(),
    })
}

/// No-op tasks end to end: scheduler, broker, worker and a durable journal in a home of their own.
async fn noop(tasks: u32, telemetry: &Telemetry) -> anyhow::Result<Value> {
    let steps = tasks.div_ceil(EXPAND_CHILDREN_MAX);
    let each = tasks.div_ceil(steps);
    let steps = (0..steps).map(|at| noop_step(&format!("s{at}"), Some(each), &[])).collect();
    let (history, seconds) = run_in_new_home(plan(steps), telemetry).await?;
    let tasks = history.tasks();
    Ok(json!({
        "tasks": tasks,
        "seconds": seconds,
        "tasks_per_second": (tasks as f64 / seconds) as u64,
    }))
}

/// A chain of no-op steps: from one step's end to the next one's start, by the worker's clock.
async fn chain(steps: u32, telemetry: &Telemetry) -> anyhow::Result<Value> {
    if steps < 2 || steps as usize > gristmill_protocol::limits::STEPS_MAX {
        let text = format!("a chain has from 2 to {} steps", gristmill_protocol::limits::STEPS_MAX);
        return Err(Problem::usage(text).into());
    }
    let step = |at: u16| {
        let needs: Vec<u16> = at.checked_sub(1).into_iter().collect();
        noop_step(&format!("s{at}"), None, &needs)
    };
    let (history, seconds) = run_in_new_home(plan((0..steps as u16).map(step).collect()), telemetry).await?;
    let mut spans: Vec<(u64, u64)> =
        history.attempts.iter().map(|attempt| (attempt.started_us, attempt.took_us.unwrap_or(0))).collect();
    spans.sort_unstable();
    let mut hops: Vec<u64> = spans.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0 + pair[0].1)).collect();
    hops.sort_unstable();
    let at = |share: f64| hops[((hops.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    Ok(json!({
        "steps": steps,
        "seconds": seconds,
        "hop_ms_p50": at(0.5),
        "hop_ms_p99": at(0.99),
        "hop_ms_max": at(1.0),
    }))
}

async fn run_in_new_home(plan: Plan, telemetry: &Telemetry) -> anyhow::Result<(History, f64)> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let home = Home::own_folder(folder.path(), Synchronous::Normal)?;
    let config = WorkerSetup::new(vec!["default".to_owned()], None, None);
    let cluster = Cluster::start(&home, config, telemetry).await?;
    let submission = Submission {
        plan,
        about: About::default(),
        namespace: "bench".to_owned(),
        key: "bench".to_owned(),
        is_callers_key: false,
        at: home.state.clock().await?.now,
    };
    let started = Instant::now();
    let run = submit(&*home.state, submission).await?.run;
    let status = loop {
        match home.state.run(run).await?.and_then(|record| record.status) {
            Some(status) => break status,
            None => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    cluster.stop(Drain::Finish).await;
    if status != RunStatus::Succeeded {
        return Err(Problem::failed(format!("the benchmark's run has {}", status.as_str())).into());
    }
    Ok((History::read(&*home.state, run).await?, seconds))
}

fn plan(steps: Vec<PlanStep>) -> Plan {
    Plan { pipeline: "bench".to_owned(), weight: 1, limits: Vec::new(), steps }
}

fn noop_step(name: &str, tasks: Option<u32>, needs: &[u16]) -> PlanStep {
    let payload = Payload::Step(Box::new(StepPayload {
        task: Task::Noop(Noop { tasks, ms: 0, fail: None }),
        needs: Vec::new(),
        folder: String::new(),
        work_folder: String::new(),
        cache: false,
        registers: BTreeMap::new(),
        files: Files::Here,
    }));
    plan_step(name, ByteBuf::from(wire::encode(&payload)), needs)
}

fn plan_step(name: &str, payload: ByteBuf, needs: &[u16]) -> PlanStep {
    PlanStep {
        name: name.to_owned(),
        kind: "noop".to_owned(),
        payload,
        needs: needs.iter().map(|step| PlanNeed { step: *step, output: false }).collect(),
        when: When::Success,
        retries: 2,
        timeout_ms: None,
        pool: "default".to_owned(),
        priority: 0,
        limits: Vec::new(),
    }
}
