//! Throughput: no-op tasks, submitted and waited for, beside the round trips of the same broker.

use std::collections::BTreeMap;
use std::time::Duration;

use gristmill_protocol::fact::RunStatus;

use crate::cluster::{Process, Program};
use crate::live::Live;
use crate::load;
use crate::outcome::{Found, median};
use crate::progress::{rates, run_to_end};
use crate::raw::raw_limits;

/// No round takes longer when anything works at all.
const PATIENCE: Duration = Duration::from_secs(600);
/// Tasks of the run that warms up.
const WARM_UP: u32 = 1_000;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct ThroughputArgs {
    /// No-op tasks of a round.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tasks: u32,
    /// The figure is the median of so many rounds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    #[arg(long, default_value_t = 1)]
    pub schedulers: usize,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Tasks that a worker runs at a time.
    #[arg(long, default_value_t = 1)]
    pub slots: usize,
    /// Messages of the raw round trips.
    #[arg(long, default_value_t = 5_000)]
    pub messages: usize,
}

/// Tasks a second, from the submission to the end as the client sees it.
pub async fn throughput(program: &Program, live: &Live, args: &ThroughputArgs) -> anyhow::Result<Found> {
    let state = program.servers.state().await?;
    live.phase("raw round trips");
    let raw = raw_limits(program, args.messages).await?;
    live.phase("starting the cluster");
    let mut processes = program.cluster(&state, args.schedulers, args.workers, args.slots).await?;
    let idle: Vec<u64> = processes.iter().filter_map(Process::resident_bytes).collect();
    live.phase("warming up");
    run_to_end(&state, live, load::fan_out(WARM_UP)?, "warm-up", u64::from(WARM_UP), PATIENCE).await?;
    let before = cpu(&processes);
    // The step that grows and the one that joins are tasks too.
    let tasks = f64::from(args.tasks) + 2.0;
    let mut found = Found::default();
    let mut per_second = Vec::new();
    for round in 1..=args.rounds {
        live.phase(&format!("round {round} of {}", args.rounds));
        let plan = load::fan_out(args.tasks)?;
        let ended = run_to_end(&state, live, plan, "throughput", tasks as u64, PATIENCE).await?;
        anyhow::ensure!(ended.status == RunStatus::Succeeded, "a run of no-ops ended as {:?}", ended.status);
        per_second.push(tasks / ended.seconds);
        found.series(&format!("round {round}"), "tasks/s", "s", rates(&ended.done));
    }
    let after = cpu(&processes);
    for process in &mut processes {
        process.end().await?;
    }
    let all = tasks * f64::from(args.rounds);
    found
        .higher("tasks_per_second", median(&per_second), "1/s")
        .limit("RabbitMQ round trips", raw.round_trips_per_second)
        .rounds(&per_second);
    for (kind, seconds) in after {
        let used = seconds - before.get(&kind).copied().unwrap_or(0.0);
        found.lower(&format!("cpu_of_{kind}s_us_per_task"), used * 1e6 / all, "µs");
    }
    found.lower("idle_resident_bytes_max", idle.iter().copied().max().map_or(f64::NAN, |b| b as f64), "bytes");
    found.distribution("raw round trip of one message", &raw.round_trip);
    found.distribution("raw call of the store", &raw.store_call);
    Ok(found)
}

/// Seconds of CPU time so far, by what the processes are.
fn cpu(processes: &[Process]) -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    for process in processes {
        let kind = process.name.split('-').next().unwrap_or(&process.name).to_owned();
        *seconds.entry(kind).or_default() += process.cpu_seconds().unwrap_or(0.0);
    }
    seconds
}
