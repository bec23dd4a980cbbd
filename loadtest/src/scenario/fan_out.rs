//! Fan-out: one step grows into thousands of tasks, and its end waits for all of them.

use std::time::Duration;

use crate::cluster::Program;
use crate::live::Live;
use crate::load;
use crate::outcome::{Found, median};
use crate::progress::{rates, run_to_end, spans, whole_span_ms};
use crate::raw::raw_limits;

/// No round takes longer when anything works at all.
const PATIENCE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct FanOutArgs {
    /// Tasks between the step that grows and the one that joins.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tasks: u32,
    /// The figures are medians of so many rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Tasks that a worker runs at a time.
    #[arg(long, default_value_t = 1)]
    pub slots: usize,
    /// Messages of the raw round trips.
    #[arg(long, default_value_t = 5_000)]
    pub messages: usize,
}

/// Seconds from the submission to the end, and from the first task's start to the last one's end.
pub async fn fan_out(program: &Program, live: &Live, args: &FanOutArgs) -> anyhow::Result<Found> {
    let state = program.servers.state().await?;
    live.phase("raw round trips");
    let raw = raw_limits(program, args.messages).await?;
    live.phase("starting the cluster");
    let mut processes = program.cluster(&state, 1, args.workers, args.slots).await?;
    live.phase("warming up");
    run_to_end(&state, live, load::fan_out(1_000)?, "warm-up", 1_000, PATIENCE).await?;
    let mut found = Found::default();
    let (mut whole, mut inside) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        live.phase(&format!("round {round} of {}", args.rounds));
        let tasks = u64::from(args.tasks) + 2;
        let ended = run_to_end(&state, live, load::fan_out(args.tasks)?, "fan-out", tasks, PATIENCE).await?;
        whole.push(ended.seconds);
        inside.push(whole_span_ms(&spans(&state, ended.run).await?) / 1e3);
        found.series(&format!("round {round}"), "tasks/s", "s", rates(&ended.done));
    }
    for process in &mut processes {
        process.end().await?;
    }
    let raw_seconds = f64::from(args.tasks) / raw.round_trips_per_second;
    let limit = "as many round trips of RabbitMQ";
    found.lower("fan_out_seconds", median(&whole), "s").limit(limit, raw_seconds).rounds(&whole);
    found.lower("first_start_to_last_end_seconds", median(&inside), "s").limit(limit, raw_seconds).rounds(&inside);
    found.distribution("raw round trip of one message", &raw.round_trip);
    Ok(found)
}
