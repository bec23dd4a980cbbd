//! Speed, with the raw limits of the same broker and store measured beside it in the same run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use gristmill_backends::broker::rabbitmq::{RabbitBroker, RabbitOptions};
use gristmill_backends::broker::{Broker, Message};
use gristmill_backends::state::State;
use gristmill_protocol::plan::Plan;
use gristmill_protocol::{RunId, WorkerId};
use serde_json::{Value, json};

use crate::check::{self, Span};
use crate::cluster::{Process, Program};
use crate::load::{chain, facts, fan_out, submit_once, wait_for_end, wall_clock_us};

/// No run of these takes longer when anything works at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Runs whose first task's start is timed.
const STARTS: usize = 100;

/// Worker starts that are timed.
const FIRST_TASKS: usize = 5;

#[derive(Clone, Debug, clap::Args)]
pub struct SpeedArgs {
    #[arg(long, default_value_t = 1)]
    pub schedulers: usize,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// No-op tasks of the throughput's run.
    #[arg(long, default_value_t = 20_000)]
    pub tasks: u32,
    /// Messages of the raw round trips.
    #[arg(long, default_value_t = 5_000)]
    pub messages: usize,
}

/// Measures, and gives each figure with its goal.
pub async fn speed(program: &Program, args: &SpeedArgs) -> anyhow::Result<Value> {
    let state = program.servers.state().await?;
    let raw = raw_round_trips(program, args.messages).await?;
    let mut processes = Vec::new();
    for at in 0..args.schedulers {
        processes.push(program.start(&format!("scheduler-{at}"), &["scheduler"])?);
    }
    for at in 0..args.workers {
        processes.push(program.start(&format!("worker-{at}"), &["worker", "--slots", "4"])?);
    }
    program.wait_for_workers(&state, args.workers).await?;
    let idle =
        processes.iter().map(|process| (process.name.clone(), process.resident_kib())).collect::<BTreeMap<_, _>>();
    // The first run also warms up what is measured in the others.
    timed(&state, fan_out(1_000)?, "warm-up").await?;
    let before = cpu(&processes);
    let (large, large_seconds) = timed(&state, fan_out(args.tasks)?, "throughput").await?;
    let after = cpu(&processes);
    let mut thousands = Vec::new();
    for round in 0..9 {
        let (run, _) = timed(&state, fan_out(1_000)?, &format!("fan-out-{round}")).await?;
        thousands.push(whole_span_ms(&spans(&state, run).await?));
    }
    let (chained, _) = timed(&state, chain(100)?, "chain").await?;
    let hops = hops_ms(&spans(&state, chained).await?);
    let mut starts = Vec::new();
    for round in 0..STARTS {
        let began = wall_clock_us();
        let (run, _) = timed(&state, chain(1)?, &format!("start-{round}")).await?;
        let first = spans(&state, run).await?.first().map_or(began, |span| span.started_us);
        starts.push(first.saturating_sub(began) as f64 / 1e3);
    }
    let mut first_tasks = Vec::new();
    for round in 0..FIRST_TASKS {
        first_tasks.push(first_task_ms(program, &state, &mut processes[args.schedulers..], round).await?);
    }
    let tasks = f64::from(args.tasks) + 2.0;
    let throughput = tasks / large_seconds;
    let cpu_us: BTreeMap<String, f64> =
        after.iter().map(|(name, seconds)| (name.clone(), (seconds - before[name]) * 1e6 / tasks)).collect();
    let large_span = whole_span_ms(&spans(&state, large).await?);
    for process in &mut processes {
        process.signal("TERM").await?;
        process.wait().await?;
    }
    let fan_out_ms = at(&mut thousands, 0.5);
    let (hop_p50, hop_p99) = (at(&mut hops.clone(), 0.5), at(&mut hops.clone(), 0.99));
    Ok(json!({
        "raw": raw,
        "tasks_per_second": throughput,
        "tasks_per_second_to_raw": throughput / raw["round_trips_per_second"].as_f64().unwrap_or(f64::NAN),
        "fan_out_of_tasks_and_join_ms": large_span,
        "fan_out_of_1000_and_join_ms_p50": fan_out_ms,
        "hop_ms_p50": hop_p50,
        "hop_ms_p99": hop_p99,
        "hop_p50_to_raw": hop_p50 / raw["alone_ms_p50"].as_f64().unwrap_or(f64::NAN),
        "submit_to_start_ms_p50": at(&mut starts.clone(), 0.5),
        "submit_to_start_ms_p99": at(&mut starts.clone(), 0.99),
        "worker_start_to_first_task_ms_p50": at(&mut first_tasks.clone(), 0.5),
        "worker_start_to_first_task_ms_max": at(&mut first_tasks, 1.0),
        "cpu_us_per_task": cpu_us,
        "idle_resident_kib": idle,
        "goals": {
            "tasks_per_second_to_raw": "at least 2",
            "hop_p50_to_raw": "at most 1.5",
            "fan_out_of_1000_and_join_ms_p50": "under 60",
            "worker_start_to_first_task_ms_p50": "under 300",
            "idle_resident_kib": "under 40960 each",
        },
    }))
}

/// A message to one queue and its answer over another, as a task queue of one message a task would do it:
/// many under way at a time, and one alone.
async fn raw_round_trips(program: &Program, messages: usize) -> anyhow::Result<Value> {
    const WINDOW: usize = 256;
    const ALONE: usize = 500;
    let url = program.servers.get("GRISTMILL_BROKER").context("the broker isn't known")?;
    let there = RabbitBroker::connect(url, RabbitOptions::default()).await?;
    let back = RabbitBroker::connect(url, RabbitOptions::default()).await?;
    let mut tasks = there.consume("raw-tasks", WINDOW as u16).await?;
    let mut results = back.consume("raw-results", WINDOW as u16).await?;
    let echo = tokio::spawn(async move {
        loop {
            let Ok(delivery) = tasks.next().await else { return };
            if back.publish("raw-results", delivery.message.clone()).await.is_err() {
                return;
            }
            delivery.ack();
        }
    });
    let message = |at: usize| Message {
        content_type: "application/octet-stream".to_owned(),
        id: at.to_string(),
        traceparent: None,
        body: Bytes::from_static(&[0; 64]),
    };
    let began = Instant::now();
    let (mut sent, mut received) = (0, 0);
    while received < messages {
        while sent < messages && sent - received < WINDOW {
            there.publish("raw-tasks", message(sent)).await?;
            sent += 1;
        }
        results.next().await?.ack();
        received += 1;
    }
    let per_second = messages as f64 / began.elapsed().as_secs_f64();
    let mut alone = Vec::new();
    for at in 0..ALONE {
        let began = Instant::now();
        there.publish("raw-tasks", message(at)).await?;
        results.next().await?.ack();
        alone.push(began.elapsed().as_secs_f64() * 1e3);
    }
    echo.abort();
    let state = program.servers.state().await?;
    let mut calls = Vec::new();
    for _ in 0..ALONE {
        let began = Instant::now();
        state.clock().await?;
        calls.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(json!({
        "round_trips_per_second": per_second,
        "alone_ms_p50": at(&mut alone, 0.5),
        "store_call_ms_p50": at(&mut calls, 0.5),
    }))
}

async fn timed(state: &dyn State, plan: Plan, key: &str) -> anyhow::Result<(RunId, f64)> {
    let key = format!("{key}-{}", wall_clock_us());
    let began = Instant::now();
    let run = submit_once(state, plan, &key).await?;
    wait_for_end(state, run, PATIENCE).await?;
    Ok((run, began.elapsed().as_secs_f64()))
}

/// From the start of a worker, where there is none and a task waits, to the start of the task.
async fn first_task_ms(
    program: &Program,
    state: &dyn State,
    workers: &mut [Process],
    round: usize,
) -> anyhow::Result<f64> {
    for worker in workers.iter_mut() {
        worker.signal("TERM").await?;
        worker.wait().await?;
    }
    let run = submit_once(state, chain(1)?, &format!("first-task-{round}-{}", wall_clock_us())).await?;
    // The scheduler has heard of the run and found no worker for it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = wall_clock_us();
    for worker in workers.iter_mut() {
        program.restart(worker).await?;
    }
    wait_for_end(state, run, PATIENCE).await?;
    let first = spans(state, run).await?.first().map_or(began, |span| span.started_us);
    Ok(first.saturating_sub(began) as f64 / 1e3)
}

async fn spans(state: &dyn State, run: RunId) -> anyhow::Result<Vec<Span>> {
    let facts = facts(state, run).await?;
    let mut spans = check::check(run, &facts).map_err(anyhow::Error::msg)?.spans;
    spans.sort_unstable_by_key(|span| (span.started_us, span.task, span.worker.map(|WorkerId(id)| id)));
    Ok(spans)
}

/// From the first start to the last end.
fn whole_span_ms(spans: &[Span]) -> f64 {
    let first = spans.iter().map(|span| span.started_us).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.started_us + span.slot_us).max().unwrap_or(0);
    (last - first) as f64 / 1e3
}

/// From each step's end to the next one's start.
fn hops_ms(spans: &[Span]) -> Vec<f64> {
    let hop = |pair: &[Span]| pair[1].started_us.saturating_sub(pair[0].started_us + pair[0].slot_us) as f64 / 1e3;
    spans.windows(2).map(hop).collect()
}

fn cpu(processes: &[Process]) -> BTreeMap<String, f64> {
    processes.iter().map(|process| (process.name.clone(), process.cpu_seconds().unwrap_or(0.0))).collect()
}

/// The value below which that share of the values lies.
fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len().saturating_sub(1)) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}
