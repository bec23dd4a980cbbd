//! `run` and `resume`: watch a run to its end and sum up. With no server everything starts in this process;
//! on servers, schedulers and workers elsewhere do the work.

use gristmill_backends::state::embedded::Synchronous;
use gristmill_protocol::RunId;
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::message::InboxEvent;
use gristmill_scheduler::history::History;
use gristmill_scheduler::submit::submit;
use gristmill_telemetry::Telemetry;
use gristmill_worker_runtime::Drain;

use anyhow::Context;

use crate::cli::{HowArgs, ResumeArgs, RunArgs};
use crate::cluster::{Cluster, WorkerSetup};
use crate::follow::{look_every, watch};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::submission::{self, What};
use crate::who;
use crate::{files, read};

/// `gristmill run`.
pub async fn run(settings: &Settings, args: RunArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let what = What { pipeline: args.pipeline, parameters: args.parameters, no_cache: args.no_cache, priority: None };
    let checked = submission::check(&what)?;
    let home = Home::own(settings, synchronous(&args.how)).await?;
    let submission = submission::prepare(settings, &*home.artifacts, checked, &what, None).await?;
    let pools = pools_of(submission.plan.steps.iter().map(|step| step.pool.clone()));
    let cluster = start(settings, &home, pools, &args.how, telemetry).await?;
    let run = submit(&*home.state, submission).await?.run;
    watch_and_sum_up(settings, &home, cluster, run, args.how.json).await
}

/// `gristmill resume`.
pub async fn resume(settings: &Settings, args: ResumeArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let home = Home::own(settings, synchronous(&args.how)).await?;
    let run = home.find_run(args.run.as_deref()).await?;
    let history = History::read(&*home.state, run).await?;
    match history.status {
        Some(RunStatus::Succeeded) => {
            return Err(Problem::usage(format!("`{run}` has succeeded; there is nothing to go on with")).into());
        }
        Some(_) => home.state.post(run.shard(), InboxEvent::Resume { run, by: who() }).await?,
        // It was cut off, and goes on by itself as soon as a scheduler owns its shard.
        None => {}
    }
    let pools = pools_of(history.plan.steps.iter().map(|step| step.pool.clone()));
    let cluster = start(settings, &home, pools, &args.how, telemetry).await?;
    if history.status.is_some() {
        wait_until_open(settings, &home, run).await?;
    }
    watch_and_sum_up(settings, &home, cluster, run, args.how.json).await
}

/// A scheduler and a worker in this process, unless others do the work.
async fn start(
    settings: &Settings,
    home: &Home,
    pools: Vec<String>,
    how: &HowArgs,
    telemetry: &Telemetry,
) -> anyhow::Result<Option<Cluster>> {
    if settings.is_distributed() {
        return Ok(None);
    }
    Cluster::start(home, WorkerSetup::new(pools, how.slots, how.memory), telemetry).await.map(Some)
}

fn synchronous(how: &HowArgs) -> Synchronous {
    if how.durable { Synchronous::Full } else { Synchronous::Normal }
}

fn pools_of(pools: impl Iterator<Item = String>) -> Vec<String> {
    let mut pools: Vec<String> = pools.collect();
    pools.sort_unstable();
    pools.dedup();
    pools
}

/// Waits until a scheduler has taken a resume into account.
async fn wait_until_open(settings: &Settings, home: &Home, run: RunId) -> anyhow::Result<()> {
    const LOOKS_MAX: u32 = 1_200;
    for _ in 0..LOOKS_MAX {
        if home.state.run(run).await?.is_some_and(|record| record.status.is_none()) {
            return Ok(());
        }
        tokio::time::sleep(look_every(settings)).await;
    }
    Err(Problem::failed(format!("`{run}` couldn't be resumed")).hint("`gristmill explain` may say why").into())
}

/// Watches a run to its end and prints what came of it. Ctrl-C hands back what runs in this process.
async fn watch_and_sum_up(
    settings: &Settings,
    home: &Home,
    cluster: Option<Cluster>,
    run: RunId,
    json: bool,
) -> anyhow::Result<Exit> {
    let check = || match &cluster {
        Some(cluster) if cluster.is_broken() => Err(Problem::failed("a part of the program has ended by itself")
            .hint("this is a fault of gristmill; `gristmill resume` goes on with the run")
            .into()),
        _ => Ok(()),
    };
    let watched = tokio::select! {
        watched = watch(home, run, look_every(settings), check) => Some(watched),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("failed to listen for Ctrl-C")?;
            None
        }
    };
    match (watched, cluster) {
        (None, Some(cluster)) => {
            eprintln!("\nstopping; what succeeded is kept");
            cluster.stop(Drain::Now).await;
            eprintln!("hint: `gristmill resume` goes on with {run}");
            Ok(Exit::Cancelled)
        }
        (None, None) => {
            eprintln!("\n{run} goes on without being watched");
            eprintln!("hint: `gristmill watch {run}` watches it again, `gristmill cancel {run}` stops it");
            Ok(Exit::Cancelled)
        }
        (Some(watched), cluster) => {
            watched?;
            if let Some(cluster) = cluster {
                cluster.stop(Drain::Finish).await;
            }
            sum_up(home, run, json).await
        }
    }
}

/// Prints what came of a run that has ended, and fetches the files that it made elsewhere.
pub async fn sum_up(home: &Home, run: RunId, json: bool) -> anyhow::Result<Exit> {
    let history = History::read(&*home.state, run).await?;
    files::download(home, &history).await?;
    read::print_end(home, &history, json).await?;
    Ok(history.status.map_or(Exit::Failed, Exit::from))
}
