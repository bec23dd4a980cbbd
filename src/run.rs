//! `run` and `resume`: start everything in this process, watch the run to its end, sum up.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use gristmill_backends::state::embedded::Synchronous;
use gristmill_protocol::fact::{About, RunStatus};
use gristmill_protocol::message::InboxEvent;
use gristmill_protocol::payload::plan_of;
use gristmill_protocol::{RunId, Timestamp};
use gristmill_scheduler::history::History;
use gristmill_scheduler::submit::{Submission, submit};
use gristmill_worker_runtime::Drain;

use crate::check;
use crate::cli::{HowArgs, ResumeArgs, RunArgs};
use crate::cluster::{Cluster, ClusterConfig, random_bits};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::progress::Progress;
use crate::read;

/// Between two looks at a run: often enough for the eye, and for a run that does no work.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// `gristmill run`.
pub async fn run(home_folder: &Path, args: RunArgs) -> anyhow::Result<Exit> {
    let (mut pipeline, source) = check::load(&args.pipeline, &args.parameters)?;
    eprint!("{}", pipeline.warnings);
    if args.no_cache {
        for step in &mut pipeline.steps {
            step.cache = false;
        }
    }
    let folder = folder_of(&args.pipeline)?;
    let work_folder = std::env::current_dir().context("failed to find the working folder")?;
    let home = Home::own(home_folder, synchronous(&args.how))?;
    let plan = plan_of(&pipeline, &folder.display().to_string(), &work_folder.display().to_string());
    let pools = pools_of(plan.steps.iter().map(|step| step.pool.clone()));
    let submission = Submission {
        plan,
        about: About {
            source,
            params: pipeline.params.clone().into_iter().collect(),
            folder: folder.display().to_string(),
        },
        namespace: "default".to_owned(),
        key: format!("{:032x}", random_bits()),
        is_callers_key: false,
        at: wall_clock(),
    };
    let config = ClusterConfig::new(pools, args.how.slots, args.how.memory);
    let cluster = Cluster::start(&home, config).await?;
    let run = submit(&*home.state, submission).await?;
    watch_and_sum_up(&home, cluster, run, args.how.json).await
}

/// `gristmill resume`.
pub async fn resume(home_folder: &Path, args: ResumeArgs) -> anyhow::Result<Exit> {
    let home = Home::own(home_folder, synchronous(&args.how))?;
    let run = home.find_run(args.run.as_deref()).await?;
    let history = History::read(&*home.state, run).await?;
    match history.status {
        Some(RunStatus::Succeeded) => {
            return Err(Problem::usage(format!("`{run}` has succeeded; there is nothing to go on with")).into());
        }
        Some(_) => {
            let by = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
            home.state.post(run.shard(), InboxEvent::Resume { run, by }).await?;
        }
        // It was cut off, and goes on by itself as soon as a scheduler owns its shard.
        None => {}
    }
    let pools = pools_of(history.plan.steps.iter().map(|step| step.pool.clone()));
    let config = ClusterConfig::new(pools, args.how.slots, args.how.memory);
    let cluster = Cluster::start(&home, config).await?;
    if history.status.is_some() {
        wait_until_open(&home, run).await?;
    }
    watch_and_sum_up(&home, cluster, run, args.how.json).await
}

/// The folder that relative paths of a pipeline start from: its own.
fn folder_of(pipeline: &Path) -> anyhow::Result<PathBuf> {
    let whole = std::path::absolute(pipeline).context("failed to find the working folder")?;
    Ok(whole.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned))
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

fn wall_clock() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

/// Waits until the scheduler has taken a resume into account.
async fn wait_until_open(home: &Home, run: RunId) -> anyhow::Result<()> {
    const LOOKS_MAX: u32 = 1_200;
    for _ in 0..LOOKS_MAX {
        if home.state.run(run).await?.is_some_and(|record| record.status.is_none()) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Problem::failed(format!("`{run}` couldn't be resumed")).hint("`gristmill explain` may say why").into())
}

/// Watches a run to its end and prints what came of it. Ctrl-C hands everything back; `resume` goes on.
async fn watch_and_sum_up(home: &Home, cluster: Cluster, run: RunId, json: bool) -> anyhow::Result<Exit> {
    let watched = tokio::select! {
        watched = watch(home, &cluster, run) => Some(watched),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("failed to listen for Ctrl-C")?;
            None
        }
    };
    let Some(watched) = watched else {
        eprintln!("\nstopping; what succeeded is kept");
        cluster.stop(Drain::Now).await;
        eprintln!("hint: `gristmill resume` goes on with {run}");
        return Ok(Exit::Cancelled);
    };
    watched?;
    cluster.stop(Drain::Finish).await;
    let history = History::read(&*home.state, run).await?;
    read::print_end(home, &history, json).await?;
    Ok(history.status.map_or(Exit::Failed, Exit::from))
}

async fn watch(home: &Home, cluster: &Cluster, run: RunId) -> anyhow::Result<()> {
    let history = History::read(&*home.state, run).await?;
    eprintln!("{run}  {}", history.plan.pipeline);
    let steps: Vec<String> = history.plan.steps.iter().map(|step| step.name.clone()).collect();
    let mut progress = Progress::new(&steps);
    let mut ended_steps = 0;
    loop {
        let record = home.state.run(run).await?;
        let over = record.is_none_or(|record| record.status.is_some());
        let view = cluster.handle.view(run).await;
        if let Some(view) = &view {
            let now_ended = view.steps.iter().filter(|step| step.state.has_ended()).count();
            if now_ended > ended_steps && !over {
                ended_steps = now_ended;
                progress.ended(&History::read(&*home.state, run).await?);
            }
            progress.update(run, view, &home.state.workers().await?);
        }
        if over {
            progress.ended(&History::read(&*home.state, run).await?);
            progress.finish();
            return Ok(());
        }
        if cluster.is_broken() {
            return Err(Problem::failed("a part of the program has ended by itself")
                .hint("this is a fault of gristmill; `gristmill resume` goes on with the run")
                .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
