//! Chain: how long it takes from one step's end to the next one's start; also from a submission to its first task, and
//! from a worker's start to its first task.

use std::time::Duration;

use gristmill_backends::state::State;

use crate::check::Span;
use crate::cluster::{Process, Program};
use crate::histogram::Histogram;
use crate::live::{Live, Now};
use crate::load::{self, submit_once, wait_for_end, wall_clock_us};
use crate::outcome::{Found, median};
use crate::progress::{run_to_end, spans};
use crate::raw::raw_limits;

/// No run of these takes longer when anything works at all.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct ChainArgs {
    /// No-op steps, each after the one before.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub steps: u32,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Tasks that a worker runs at a time.
    #[arg(long, default_value_t = 1)]
    pub slots: usize,
    /// Runs of one step whose start is timed.
    #[arg(long, default_value_t = 100)]
    pub starts: u32,
    /// Starts of workers that are timed, each with a task that waits for it.
    #[arg(long, default_value_t = 5)]
    pub worker_starts: u32,
    /// Messages of the raw round trips.
    #[arg(long, default_value_t = 2_000)]
    pub messages: usize,
}

/// Milliseconds of each hop, start and worker's start.
pub async fn chain(program: &Program, live: &Live, args: &ChainArgs) -> anyhow::Result<Found> {
    let state = program.servers.state().await?;
    live.phase("raw round trips");
    let raw = raw_limits(program, args.messages).await?;
    live.phase("starting the cluster");
    let mut processes = program.cluster(&state, 1, args.workers, args.slots).await?;
    live.phase("warming up");
    run_to_end(&state, live, load::chain(50)?, "warm-up", 50, PATIENCE).await?;
    let (mut hops, mut p50, mut p99) = (Histogram::default(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        live.phase(&format!("round {round} of {}", args.rounds));
        let ended = run_to_end(&state, live, load::chain(args.steps)?, "chain", args.steps.into(), PATIENCE).await?;
        let round = hops_us(&spans(&state, ended.run).await?);
        p50.push(round.ms(50.0));
        p99.push(round.ms(99.0));
        hops.add(&round);
    }
    live.phase("starts of runs");
    let mut starts = Histogram::default();
    for round in 0..args.starts {
        let began = wall_clock_us();
        let ended = run_to_end(&state, live, load::chain(1)?, "start", 1, PATIENCE).await?;
        let first = spans(&state, ended.run).await?.first().map_or(began, |span| span.started_us);
        starts.record(first.saturating_sub(began));
        let p99_ms = Some(starts.ms(99.0));
        live.show(&Now { done: Some((u64::from(round + 1), args.starts.into())), p99_ms, ..Now::default() });
    }
    live.phase("starts of workers");
    let mut first_tasks = Vec::new();
    for _ in 0..args.worker_starts {
        first_tasks.push(first_task_ms(program, &state, &mut processes[1..]).await?);
    }
    for process in &mut processes {
        process.end().await?;
    }
    let mut found = Found::default();
    let limit = "RabbitMQ round trip of one message";
    found.lower("hop_ms_p50", hops.ms(50.0), "ms").limit(limit, raw.round_trip.ms(50.0)).rounds(&p50);
    found.lower("hop_ms_p99", hops.ms(99.0), "ms").limit(limit, raw.round_trip.ms(99.0)).rounds(&p99);
    found.lower("submit_to_start_ms_p50", starts.ms(50.0), "ms").limit(limit, raw.round_trip.ms(50.0));
    found.lower("submit_to_start_ms_p99", starts.ms(99.0), "ms").limit(limit, raw.round_trip.ms(99.0));
    if args.worker_starts > 0 {
        found.lower("worker_start_to_first_task_ms", median(&first_tasks), "ms").rounds(&first_tasks);
    }
    found.distribution("hop", &hops);
    found.distribution("submission to start", &starts);
    found.distribution("raw round trip of one message", &raw.round_trip);
    found.distribution("raw call of the store", &raw.store_call);
    Ok(found)
}

/// From each step's end to the next one's start.
fn hops_us(spans: &[Span]) -> Histogram {
    spans.windows(2).map(|pair| pair[1].started_us.saturating_sub(pair[0].started_us + pair[0].slot_us)).collect()
}

/// From the start of workers, where there are none and a task waits, to the start of the task.
async fn first_task_ms(program: &Program, state: &dyn State, workers: &mut [Process]) -> anyhow::Result<f64> {
    for worker in workers.iter_mut() {
        worker.end().await?;
    }
    let run = submit_once(state, load::chain(1)?, &format!("first-task-{}", wall_clock_us())).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_is_from_an_end_to_the_next_start() {
        let span = |task, started_us, slot_us| Span { task, worker: None, started_us, slot_us };
        let hops = hops_us(&[span(0, 100, 50), span(1, 400, 10), span(2, 405, 5)]);
        assert_eq!((hops.count(), hops.percentile(100.0), hops.percentile(0.0)), (2, 250, 0));
    }
}
