//! `scheduler`, `worker` and `up`: processes that run until they are told to end.
//!
//! The first SIGTERM (or Ctrl-C) drains: nothing new is taken, what runs may finish within the grace period.
//! A second one hands back now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gristmill_backends::state::embedded::Synchronous;
use gristmill_scheduler::budgets::CostsKeeper;
use gristmill_scheduler::schedules::SchedulesKeeper;
use gristmill_scheduler::triggers::TriggersKeeper;
use gristmill_telemetry::Telemetry;
use gristmill_telemetry::metrics::Metrics;
use gristmill_worker_runtime::Drain;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::api::{ApiPart, bind};
use crate::cli::{SchedulerArgs, ServeArgs, UpArgs, WorkerArgs, labels};
use crate::cluster::{SchedulerPart, WorkerPart, WorkerSetup, open_broker};
use crate::home::Home;
use crate::observe::listen;
use crate::pool::lacking;
use crate::problem::{Exit, Problem};
use crate::serve::OnlinePart;
use crate::settings::Settings;

/// SIGTERM and SIGINT, one after the other.
pub struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    /// Listens from here on.
    pub fn new() -> anyhow::Result<Ends> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Ends { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// `gristmill scheduler`.
pub async fn scheduler(settings: &Settings, args: SchedulerArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    needs_servers(settings, "scheduler")?;
    let mut ends = Ends::new()?;
    let home = Home::own(settings, Synchronous::Normal).await?;
    let broker = open_broker(settings).await?;
    let scheduler = SchedulerPart::start(&home, broker, settings.message_version, telemetry).await?;
    let _reconciling = reconcile(&home);
    let _keeping = keep(&home, settings, telemetry);
    let _metrics = listen(telemetry, args.metrics, vec![scheduler.store.clone()]).await?;
    eprintln!("scheduler is ready");
    wait_for_end(&mut ends, None, || scheduler.is_broken()).await?;
    eprintln!("scheduler ends; its shards are given up");
    scheduler.stop().await;
    Ok(Exit::Success)
}

/// `gristmill worker`.
pub async fn worker(settings: &Settings, args: WorkerArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    needs_servers(settings, "worker")?;
    let mut ends = Ends::new()?;
    let home = Home::own(settings, Synchronous::Normal).await?;
    let broker = open_broker(settings).await?;
    let (metrics, notice) = (args.metrics, args.spot_notice.clone());
    let setup = setup(settings, args)?;
    let (pools, slots) = (setup.pools.join(", "), setup.slots);
    let mut worker = WorkerPart::start(&home, &broker, setup, telemetry).await?;
    let _metrics = listen(telemetry, metrics, vec![worker.store.clone()]).await?;
    eprintln!("{} is ready: pools {pools}; {slots} slots", worker.id);
    let end = wait_for_end(&mut ends, notice, || worker.is_broken()).await?;
    drain(&mut worker, end, &mut ends).await;
    Ok(Exit::Success)
}

/// How a worker is set up, which must be what its pools ask for.
fn setup(settings: &Settings, args: WorkerArgs) -> anyhow::Result<WorkerSetup> {
    let labels = labels(&args.labels, args.spot);
    for pool in &args.pools {
        let requires = settings.pools.get(pool).map(|pool| &pool.requires);
        if let Some(lacks) = requires.and_then(|requires| lacking(requires, &labels)) {
            return Err(Problem::usage(format!("pool `{pool}` takes workers labelled {lacks}"))
                .hint("start the worker with `--label KEY=VALUE`, on a machine of which that is true")
                .into());
        }
    }
    let setup = WorkerSetup::new(args.pools, args.slots, args.memory);
    Ok(setup.about(labels, settings.message_version).grace(Duration::from_secs(args.grace)))
}

/// Waits for the file that says that the machine is about to be taken away; for ever where none is named.
async fn noticed(file: Option<PathBuf>) {
    /// Providers give between 30 s and two minutes.
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let Some(file) = file else { return std::future::pending().await };
    while !matches!(tokio::fs::try_exists(&file).await, Ok(true)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// `gristmill up`.
pub async fn up(settings: &Settings, args: UpArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let mut ends = Ends::new()?;
    let home = Home::own(settings, Synchronous::Normal).await?;
    let broker = open_broker(settings).await?;
    let (metrics, notice) = (args.worker.metrics, args.worker.spot_notice.clone());
    let setup = setup(settings, args.worker)?;
    let (pools, slots) = (setup.pools.join(", "), setup.slots);
    let mut worker = WorkerPart::start(&home, &broker, setup, telemetry).await?;
    let scheduler = SchedulerPart::start(&home, broker, settings.message_version, telemetry).await?;
    let _reconciling = reconcile(&home);
    let _keeping = keep(&home, settings, telemetry);
    let contacts = vec![scheduler.store.clone(), worker.store.clone()];
    let _metrics = listen(telemetry, metrics, contacts).await?;
    let api = match if args.no_api { None } else { bind(args.api).await? } {
        Some(listener) => Some(ApiPart::start(settings, &home, listener, &args.options).await?),
        None => None,
    };
    let online = match args.serve {
        Some(address) => Some(OnlinePart::start(settings, home.clone(), ServeArgs::at(address), telemetry).await?),
        None => None,
    };
    eprintln!("gristmill is up: a scheduler, and {} for pools {pools} with {slots} slots", worker.id);
    let is_broken =
        || worker.is_broken() || scheduler.is_broken() || online.as_ref().is_some_and(OnlinePart::is_broken);
    let end = wait_for_end(&mut ends, notice, is_broken).await?;
    let api = api.map(|api| tokio::spawn(api.stop()));
    let scored = match online {
        Some(online) => online.stop().await.map(drop),
        None => Ok(()),
    };
    drain(&mut worker, end, &mut ends).await;
    scheduler.stop().await;
    if let Some(api) = api {
        api.await.context("the API ended badly")?;
    }
    scored?;
    Ok(Exit::Success)
}

/// Fires schedules and triggers, counts costs and watches budgets, beside other processes that do the same: each is done
/// once.
fn keep(home: &Home, settings: &Settings, telemetry: &Telemetry) -> [AbortOnDrop; 4] {
    let schedules = SchedulesKeeper::new(home.state.clone(), home.artifacts.clone());
    let triggers = TriggersKeeper::new(home.state.clone(), home.artifacts.clone());
    let costs = CostsKeeper::new(home.state.clone(), settings.prices.clone(), settings.budgets.clone());
    let ratios = measure(costs.ratios(), telemetry.metrics());
    [
        AbortOnDrop(tokio::spawn(schedules.run())),
        AbortOnDrop(tokio::spawn(triggers.run())),
        AbortOnDrop(tokio::spawn(costs.run())),
        AbortOnDrop(tokio::spawn(ratios)),
    ]
}

/// Shows what is spent of budgets as metrics. Those of a keeper that works no more, or of budgets that are gone, are zero.
async fn measure(mut ratios: watch::Receiver<BTreeMap<String, f64>>, metrics: Arc<Metrics>) {
    let mut shown: BTreeSet<String> = BTreeSet::new();
    loop {
        let now = ratios.borrow_and_update().clone();
        shown.extend(now.keys().cloned());
        for budget in &shown {
            metrics.budget_spent.with(&[budget]).set(now.get(budget).copied().unwrap_or_default());
        }
        if ratios.changed().await.is_err() {
            return;
        }
    }
}

/// Brings the registry's logs and their copies together, beside everything else: nothing waits for it, since
/// whoever writes to a model does the same for that model first.
fn reconcile(home: &Home) -> AbortOnDrop {
    let registry = home.registry.clone();
    AbortOnDrop(tokio::spawn(async move {
        match registry.reconcile().await {
            Ok(0) => {}
            Ok(facts) => info!(facts, "the registry has got back what the state had lost"),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the registry isn't whole; `gristmill registry verify` says more"
            ),
        }
    }))
}

/// A task that ends with whoever started it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn needs_servers(settings: &Settings, what: &str) -> anyhow::Result<()> {
    if settings.is_distributed() {
        return Ok(());
    }
    Err(Problem::usage(format!("a {what} of its own needs servers to meet the others at"))
        .hint("set `GRISTMILL_STATE`, `GRISTMILL_BROKER` and `GRISTMILL_ARTIFACTS`, or use `gristmill up`, which needs none")
        .into())
}

/// Why a process is to end.
enum End {
    /// A signal has come.
    Told,
    /// The machine is about to be taken away.
    Spot,
}

/// Waits for a signal or a notice, or for a part to end by itself, which is a fault.
async fn wait_for_end(ends: &mut Ends, notice: Option<PathBuf>, broken: impl Fn() -> bool) -> anyhow::Result<End> {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    let mut noticed = std::pin::pin!(noticed(notice));
    loop {
        tokio::select! {
            () = ends.next() => return Ok(End::Told),
            () = &mut noticed => return Ok(End::Spot),
            () = tokio::time::sleep(LOOK_EVERY) => {
                if broken() {
                    return Err(Problem::failed("a part of the program has ended by itself")
                        .hint("this is a fault of gristmill; nothing is lost when it is started again")
                        .into());
                }
            }
        }
    }
}

/// Lets a worker finish what runs; a second signal makes it hand back now.
async fn drain(worker: &mut WorkerPart, end: End, ends: &mut Ends) {
    if let End::Spot = end {
        eprintln!("{} hands back at once: its machine is about to be taken away", worker.id);
        worker.drain(Drain::Spot);
        worker.ended().await;
        return;
    }
    eprintln!("{} drains; a second signal makes it hand back at once", worker.id);
    info!(worker = %worker.id, "drains");
    worker.drain(Drain::Finish);
    let hurried = tokio::select! {
        () = worker.ended() => false,
        () = ends.next() => true,
    };
    if hurried {
        worker.drain(Drain::Now);
        worker.ended().await;
    }
}
