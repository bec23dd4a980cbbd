//! How long it takes until work goes on after something died, and whether small runs wait behind large ones.

use std::time::{Duration, Instant};

use gristmill_backends::state::State;
use gristmill_protocol::fact::{Cause, Fact};
use gristmill_protocol::message::InboxEvent;
use serde_json::{Value, json};

use crate::check;
use crate::cluster::{Program, Server};
use crate::load::{chain, facts, fan_out, plan, submit_once, wait_for_end, wall_clock_us};

const PATIENCE: Duration = Duration::from_secs(120);
/// Runs submitted after a scheduler's death: with 64, the chance that none falls to one of 16 shards is 1.6 %.
const RUNS_AFTER_DEATH: usize = 64;

#[derive(Clone, Debug, clap::Args)]
pub struct RecoveryArgs {
    /// How often each death is tried.
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
}

/// Kills a worker, a scheduler and the broker, each some times, and tells the longest wait.
pub async fn recovery(program: &Program, args: &RecoveryArgs) -> anyhow::Result<Value> {
    let state = program.servers.state().await?;
    let mut schedulers = Vec::new();
    for at in 0..2 {
        schedulers.push(program.start(&format!("scheduler-{at}"), &["scheduler"])?);
    }
    let mut workers = Vec::new();
    for at in 0..2 {
        workers.push(program.start(&format!("worker-{at}"), &["worker", "--slots", "1"])?);
    }
    program.wait_for_workers(&state, 2).await?;
    let mut worker_seconds = Vec::new();
    for round in 0..args.rounds {
        // Both workers are at work when it is seen in a heartbeat, so that one of two tasks dies with its worker.
        let text = "name: busy\nsteps:\n  a: { noop: { tasks: 2, ms: 4000 } }\n";
        let run = submit_once(&state, plan(text)?, &format!("worker-{round}-{}", wall_clock_us())).await?;
        wait_for_held(&state, 2).await?;
        let killed = wall_clock_us();
        workers[0].signal("KILL").await?;
        wait_for_end(&state, run, PATIENCE).await?;
        let facts = facts(&state, run).await?;
        let lost = facts.iter().any(|fact| matches!(fact, Fact::Ended { cause: Cause::Lost, .. }));
        let spans = check::check(run, &facts).map_err(anyhow::Error::msg)?.spans;
        let again = spans.iter().map(|span| span.started_us).filter(|at| *at > killed).min();
        if let (true, Some(again)) = (lost, again) {
            worker_seconds.push((again - killed) as f64 / 1e6);
            eprintln!("a killed worker's task ran elsewhere after {:.2} s", worker_seconds[worker_seconds.len() - 1]);
        }
        program.restart(&mut workers[0]).await?;
        program.wait_for_workers(&state, 2).await?;
    }
    let mut scheduler_seconds = Vec::new();
    for round in 0..args.rounds {
        let at = round % schedulers.len();
        schedulers[at].signal("KILL").await?;
        let began = Instant::now();
        // Enough runs that every shard has some, those of the dead scheduler included.
        let mut runs = Vec::new();
        for number in 0..RUNS_AFTER_DEATH {
            let key = format!("scheduler-{round}-{number}-{}", wall_clock_us());
            runs.push(submit_once(&state, chain(2)?, &key).await?);
        }
        for run in runs {
            wait_for_end(&state, run, PATIENCE).await?;
        }
        scheduler_seconds.push(began.elapsed().as_secs_f64());
        eprintln!(
            "new runs of all shards ended {:.2} s after a scheduler was killed",
            scheduler_seconds[scheduler_seconds.len() - 1]
        );
        program.restart(&mut schedulers[at]).await?;
    }
    let mut broker_seconds = Vec::new();
    for round in 0..args.rounds.min(5) {
        program.servers.kill(Server::RabbitMq).await?;
        let run = submit_once(&state, chain(2)?, &format!("broker-{round}-{}", wall_clock_us())).await?;
        program.servers.start_one(Server::RabbitMq).await?;
        let began = Instant::now();
        wait_for_end(&state, run, PATIENCE).await?;
        broker_seconds.push(began.elapsed().as_secs_f64());
        eprintln!("a waiting run ended {:.2} s after the broker was back", broker_seconds[broker_seconds.len() - 1]);
    }
    let mut cancel_seconds = Vec::new();
    for round in 0..args.rounds {
        // Two of four tasks run, in the two slots that there are, the others wait.
        let text = "name: long\nsteps:\n  a: { noop: { tasks: 4, ms: 60000 } }\n";
        let run = submit_once(&state, plan(text)?, &format!("cancel-{round}-{}", wall_clock_us())).await?;
        wait_for_held(&state, 2).await?;
        let began = Instant::now();
        state.post(run.shard(), InboxEvent::Cancel { run, by: "loadtest".to_owned() }).await?;
        wait_for_end(&state, run, PATIENCE).await?;
        wait_for_none_held(&state).await?;
        cancel_seconds.push(began.elapsed().as_secs_f64());
        eprintln!("a cancelled run had ended and its workers had let go after {:.2} s", cancel_seconds[round]);
    }
    // Fairness: a small run behind a large one.
    let large = submit_once(&state, fan_out(100_000)?, &format!("large-{}", wall_clock_us())).await?;
    // Its tasks are too short to be seen in a heartbeat; its journal grows.
    let end = Instant::now() + PATIENCE;
    while state.run(large).await?.is_none_or(|record| record.head < 5) {
        anyhow::ensure!(Instant::now() < end, "the large run doesn't begin");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let began = Instant::now();
    let small = submit_once(&state, chain(3)?, &format!("small-{}", wall_clock_us())).await?;
    wait_for_end(&state, small, PATIENCE).await?;
    let fairness = began.elapsed().as_secs_f64();
    let large_was_open = state.run(large).await?.is_some_and(|record| record.status.is_none());
    wait_for_end(&state, large, PATIENCE).await?;
    for process in schedulers.iter().chain(&workers) {
        process.signal("KILL").await?;
    }
    let longest = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    Ok(json!({
        "killed_worker_to_start_elsewhere_seconds_max": longest(&worker_seconds),
        "killed_worker_rounds": worker_seconds.len(),
        "killed_scheduler_to_end_of_new_runs_seconds_max": longest(&scheduler_seconds),
        "killed_scheduler_rounds": scheduler_seconds.len(),
        "broker_back_to_end_of_a_waiting_run_seconds_max": longest(&broker_seconds),
        "cancel_to_workers_free_seconds_max": longest(&cancel_seconds),
        "run_of_3_behind_100000_seconds": fairness,
        "large_run_was_still_open": large_was_open,
        "goals": { "worker": "under 10", "scheduler": "within 6", "broker": "within 3", "cancel": "within 2", "fairness": "within 1" },
    }))
}

/// Waits until so many attempts are held by workers.
async fn wait_for_held(state: &dyn State, count: usize) -> anyhow::Result<()> {
    wait_until_held(state, |held| held >= count).await
}

async fn wait_for_none_held(state: &dyn State) -> anyhow::Result<()> {
    wait_until_held(state, |held| held == 0).await
}

async fn wait_until_held(state: &dyn State, enough: impl Fn(usize) -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while !enough(state.workers().await?.iter().map(|worker| worker.held.len()).sum()) {
        anyhow::ensure!(Instant::now() < end, "the workers don't hold what they should");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
