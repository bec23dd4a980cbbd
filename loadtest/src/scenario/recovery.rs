//! How long it takes until work goes on after something died, and whether small runs wait behind large ones.

use std::time::{Duration, Instant};

use gristmill_backends::state::State;
use gristmill_protocol::fact::{Cause, Fact};
use gristmill_protocol::message::InboxEvent;

use crate::check;
use crate::cluster::Program;
use crate::live::Live;
use crate::load::{chain, facts, fan_out, plan, submit_once, wait_for_end, wall_clock_us};
use crate::outcome::Found;
use crate::servers::Server;

const PATIENCE: Duration = Duration::from_secs(120);
/// Runs submitted after a scheduler's death: with 64, the chance that none falls to one of 16 shards is 1.6 %.
const RUNS_AFTER_DEATH: usize = 64;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct RecoveryArgs {
    /// How often each death is tried.
    #[arg(long, default_value_t = 10)]
    pub rounds: usize,
}

/// Kills a worker, a scheduler and the broker, each some times, and tells the longest wait.
pub async fn recovery(program: &Program, live: &Live, args: &RecoveryArgs) -> anyhow::Result<Found> {
    let state = program.servers.state().await?;
    live.phase("starting the cluster");
    let mut schedulers = program.cluster(&state, 2, 2, 1).await?;
    let mut workers = schedulers.split_off(2);
    live.phase("killing workers");
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
            live.say(&format!("a killed worker's task ran elsewhere after {:.2} s", (again - killed) as f64 / 1e6));
        }
        program.restart(&mut workers[0]).await?;
        program.wait_for_workers(&state, 2).await?;
    }
    live.phase("killing schedulers");
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
        let seconds = began.elapsed().as_secs_f64();
        scheduler_seconds.push(seconds);
        live.say(&format!("new runs of all shards ended {seconds:.2} s after a scheduler was killed"));
        program.restart(&mut schedulers[at]).await?;
    }
    live.phase("killing the broker");
    let mut broker_seconds = Vec::new();
    for round in 0..args.rounds.min(5) {
        program.servers.kill(Server::RabbitMq).await?;
        let run = submit_once(&state, chain(2)?, &format!("broker-{round}-{}", wall_clock_us())).await?;
        program.servers.start_one(Server::RabbitMq).await?;
        let began = Instant::now();
        wait_for_end(&state, run, PATIENCE).await?;
        let seconds = began.elapsed().as_secs_f64();
        broker_seconds.push(seconds);
        live.say(&format!("a waiting run ended {seconds:.2} s after the broker was back"));
    }
    live.phase("cancelling");
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
        let seconds = began.elapsed().as_secs_f64();
        cancel_seconds.push(seconds);
        live.say(&format!("a cancelled run had ended and its workers had let go after {seconds:.2} s"));
    }
    live.phase("a small run behind a large one");
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
    for process in schedulers.iter_mut().chain(&mut workers) {
        process.kill().await?;
    }
    let longest = |values: &[f64]| values.iter().copied().fold(f64::NAN, f64::max);
    let mut found = Found::default();
    let goals = [
        ("killed_worker_to_start_elsewhere_seconds_max", longest(&worker_seconds), 10.0),
        ("killed_scheduler_to_end_of_new_runs_seconds_max", longest(&scheduler_seconds), 6.0),
        ("broker_back_to_end_of_a_waiting_run_seconds_max", longest(&broker_seconds), 3.0),
        ("cancel_to_workers_free_seconds_max", longest(&cancel_seconds), 2.0),
        ("run_of_3_behind_100000_seconds", fairness, 1.0),
    ];
    for (name, seconds, goal) in goals {
        found.lower(name, seconds, "s").limit("goal", goal);
    }
    found.count("killed_worker_rounds", worker_seconds.len() as u64, "");
    found.passed = Some(goals.iter().all(|(_, seconds, goal)| seconds <= goal) && large_was_open);
    if !large_was_open {
        found.note("the large run ended before the small one: its wait says nothing");
    }
    Ok(found)
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
