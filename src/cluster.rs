//! A scheduler and a worker, each to be started in this process, and where they meet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use gristmill_backends::broker::Broker;
use gristmill_backends::broker::embedded::EmbeddedBroker;
use gristmill_backends::broker::rabbitmq::{self, RabbitBroker, RabbitOptions};
use gristmill_backends::broker::submissions::SubmissionQueue;
use gristmill_backends::state::WorkerAbout;
use gristmill_protocol::limits::{DRAIN_MS, LEASE_MS, SHARD_LEASE_MS};
use gristmill_protocol::{WorkerId, wire};
use gristmill_scheduler::{Driver, DriverConfig};
use gristmill_telemetry::Telemetry;
use gristmill_telemetry::readiness::Contact;
use gristmill_worker::{Executor, Resources};
use gristmill_worker_runtime::{Drain, Execute, Heartbeat, Usage, Worker, WorkerConfig};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::home::Home;
use crate::observe::{Observed, SchedulerObserver, System};
use crate::settings::{QueueType, Settings};

/// Share of the machine's memory that one task may plan with.
const MEMORY_SHARE: u64 = 2;
/// What is planned with when the machine doesn't say how much it has.
const MEMORY_UNKNOWN: u64 = 2 << 30;
/// How long a part may take to stop, beyond a worker's grace period.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How long the end may wait for the traces of runs that ended last: one call of the store, and some more.
const TELL_PATIENCE: Duration = Duration::from_secs(3);

/// How a worker is set up.
#[derive(Clone, Debug)]
pub struct WorkerSetup {
    pub pools: Vec<String>,
    pub slots: u32,
    pub memory_bytes: u64,
    pub about: WorkerAbout,
    /// What runs may take so long after the worker was told to end.
    pub grace: Duration,
}

impl WorkerSetup {
    /// The machine's cores and half of its memory, unless said otherwise.
    pub fn new(pools: Vec<String>, slots: Option<u32>, memory_mib: Option<u64>) -> WorkerSetup {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let memory_bytes = memory_mib.map_or_else(machine_memory, |mib| mib << 20);
        let about =
            WorkerAbout { labels: BTreeMap::new(), host: host_name(), pid: std::process::id(), reads: wire::VERSION };
        let grace = Duration::from_millis(DRAIN_MS);
        WorkerSetup { pools, slots: slots.unwrap_or(cores), memory_bytes, about, grace }
    }

    /// The same with another grace period.
    #[must_use]
    pub fn grace(self, grace: Duration) -> WorkerSetup {
        WorkerSetup { grace, ..self }
    }

    /// The same under these labels, which reads messages up to that version.
    #[must_use]
    pub fn about(self, labels: BTreeMap<String, String>, reads: u8) -> WorkerSetup {
        WorkerSetup { about: WorkerAbout { labels, reads, ..self.about }, ..self }
    }
}

/// A broker, and the queue of submissions where it has one: nobody else can send to a broker of this process.
#[derive(Clone)]
pub struct OpenBroker {
    pub broker: Arc<dyn Broker>,
    pub submissions: Option<Arc<dyn SubmissionQueue>>,
    /// Its name in traces.
    pub system: System,
}

impl OpenBroker {
    /// A broker of this process.
    pub fn embedded() -> OpenBroker {
        OpenBroker { broker: Arc::new(EmbeddedBroker::new()), submissions: None, system: System("gristmill") }
    }
}

/// The broker that the settings name; one of this process when they name none.
pub async fn open_broker(settings: &Settings) -> anyhow::Result<OpenBroker> {
    open_broker_within(settings, RabbitOptions::default().connect_within).await
}

/// The same, with another limit on how long is tried.
pub async fn open_broker_within(settings: &Settings, connect_within: Duration) -> anyhow::Result<OpenBroker> {
    let Some(url) = &settings.broker else { return Ok(OpenBroker::embedded()) };
    let options = RabbitOptions { queue_type: queue_type(settings), connect_within, ..RabbitOptions::default() };
    let broker = Arc::new(RabbitBroker::connect(url, options).await.context("failed to connect to the broker")?);
    Ok(OpenBroker { broker: broker.clone(), submissions: Some(broker), system: System("rabbitmq") })
}

/// The type of the broker's queues.
pub fn queue_type(settings: &Settings) -> rabbitmq::QueueType {
    match settings.queue_type {
        QueueType::Classic => rabbitmq::QueueType::Classic,
        QueueType::Quorum => rabbitmq::QueueType::Quorum,
    }
}

/// A scheduler that runs in this process.
pub struct SchedulerPart {
    driver: JoinHandle<()>,
    /// Takes submissions, where there is a queue of them.
    intake: Option<JoinHandle<()>>,
    stop: oneshot::Sender<()>,
    /// The store must answer while the shards are its own: past that another scheduler may have them.
    pub store: Arc<Contact>,
    observer: Arc<SchedulerObserver>,
}

impl SchedulerPart {
    /// Starts a scheduler that writes messages up to version `writes`.
    pub async fn start(
        home: &Home,
        open: OpenBroker,
        writes: u8,
        telemetry: &Telemetry,
    ) -> anyhow::Result<SchedulerPart> {
        let OpenBroker { broker, submissions, system } = open;
        let store = Contact::new("the scheduler's state store", Duration::from_millis(SHARD_LEASE_MS));
        let observer = SchedulerObserver {
            spans: telemetry.spans(),
            metrics: telemetry.metrics(),
            state: home.state.clone(),
            system,
            store: store.clone(),
            pools: Mutex::default(),
            telling: Mutex::default(),
        };
        let observer = Arc::new(observer);
        let config =
            DriverConfig { observer: observer.clone(), writes, ..DriverConfig::all_shards(random_bits() as u64) };
        let driver = Driver::new(home.state.clone(), broker, home.artifacts.clone(), config)
            .await
            .context("failed to start the scheduler")?;
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::spawn(driver.run_until(async {
            // A sender that is dropped has asked for the same.
            stopped.await.ok();
        }));
        let intake = submissions
            .map(|queue| tokio::spawn(crate::intake::serve(queue, home.state.clone(), home.artifacts.clone())));
        Ok(SchedulerPart { driver, intake, stop, store, observer })
    }

    /// Whether it has ended, which it doesn't by itself.
    pub fn is_broken(&self) -> bool {
        self.driver.is_finished()
    }

    /// Gives its shards up, so that others take them at once, and ends.
    pub async fn stop(self) {
        if let Some(intake) = self.intake {
            intake.abort();
        }
        if self.stop.send(()).is_ok() && tokio::time::timeout(STOP_PATIENCE, self.driver).await.is_err() {
            tracing::warn!("the scheduler didn't stop in time");
        }
        if tokio::time::timeout(TELL_PATIENCE, self.observer.told()).await.is_err() {
            tracing::debug!("runs that ended last aren't told");
        }
    }
}

/// A worker that runs in this process.
pub struct WorkerPart {
    pub id: WorkerId,
    worker: JoinHandle<()>,
    grace: Duration,
    drain: watch::Sender<Drain>,
    /// The store must answer while the leases are the worker's: past that its work is another's.
    pub store: Arc<Contact>,
}

impl WorkerPart {
    /// Starts a worker that does the work of all task kinds.
    pub async fn start(
        home: &Home,
        open: &OpenBroker,
        setup: WorkerSetup,
        telemetry: &Telemetry,
    ) -> anyhow::Result<WorkerPart> {
        let resources = Resources {
            signer: home.signer.clone(),
            state: home.state.clone(),
            artifacts: home.artifacts.clone(),
            registry: home.registry.clone(),
            threads: setup.slots as usize,
            memory_bytes: setup.memory_bytes,
            trials: Arc::default(),
        };
        WorkerPart::start_with(home, open, setup, telemetry, Arc::new(Executor::new(resources))).await
    }

    /// Starts with another way of doing the work. It is known to the scheduler when this returns.
    pub async fn start_with(
        home: &Home,
        open: &OpenBroker,
        setup: WorkerSetup,
        telemetry: &Telemetry,
        execute: Arc<dyn Execute>,
    ) -> anyhow::Result<WorkerPart> {
        let (drain, drained) = watch::channel(Drain::No);
        let id = WorkerId(random_bits() as u64);
        let execute = Arc::new(Observed::new(execute, telemetry, id.to_string(), setup.slots, open.system));
        let broker = open.broker.clone();
        let grace = setup.grace;
        let config =
            WorkerConfig { worker: id, pools: setup.pools, slots: setup.slots, about: setup.about, grace: setup.grace };
        let (worker, heartbeat) = Worker::new(config, home.state.clone(), broker, execute, drained, wall_clock_us);
        let store = Contact::new("the worker's state store", Duration::from_millis(LEASE_MS));
        let beats = store.clone();
        let heartbeat = heartbeat.telling(Arc::new(move || beats.answered()));
        heartbeat.beat().await;
        let usage = Usage::new();
        let worker = worker.measured_by(usage.clone());
        beat_on_its_own_thread(heartbeat.with_state(home.heartbeat_state.clone()), usage.clone())?;
        let state = home.state.clone();
        let working = async move {
            worker.run().await;
            let flushed = tokio::time::timeout(TELL_PATIENCE, usage.flush(&*state)).await;
            if !matches!(flushed, Ok(Ok(()))) {
                tracing::debug!("what tasks used last isn't written down");
            }
        };
        Ok(WorkerPart { id, worker: tokio::spawn(working), grace, drain, store })
    }

    /// Whether it has ended, which it doesn't by itself.
    pub fn is_broken(&self) -> bool {
        self.worker.is_finished()
    }

    /// Asks it to end.
    pub fn drain(&self, how: Drain) {
        // Fails only when the worker has ended already.
        self.drain.send(how).ok();
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) {
        if tokio::time::timeout(self.grace + STOP_PATIENCE, &mut self.worker).await.is_err() {
            tracing::warn!("a task didn't stop in time");
        }
    }
}

/// Training takes every core for minutes; the heartbeat has a thread that it can't be kept from.
fn beat_on_its_own_thread(heartbeat: Heartbeat, usage: Usage) -> anyhow::Result<()> {
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                let measuring = usage.run(heartbeat.state());
                tokio::join!(heartbeat.run(), measuring);
            }),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "no heartbeat"),
        })
        .context("failed to start a thread")?;
    Ok(())
}

/// A scheduler and a worker on the stores of one home, and a broker between them.
pub struct Cluster {
    scheduler: SchedulerPart,
    worker: WorkerPart,
}

impl Cluster {
    /// Starts both. The worker is known to the scheduler from its first turn on.
    pub async fn start(home: &Home, setup: WorkerSetup, telemetry: &Telemetry) -> anyhow::Result<Cluster> {
        let open = OpenBroker::embedded();
        let worker = WorkerPart::start(home, &open, setup, telemetry).await?;
        let scheduler = SchedulerPart::start(home, open, wire::VERSION, telemetry).await?;
        Ok(Cluster { scheduler, worker })
    }

    /// Whether one of its parts has ended, which none does by itself.
    pub fn is_broken(&self) -> bool {
        self.scheduler.is_broken() || self.worker.is_broken()
    }

    /// Hands back what runs and stops.
    pub async fn stop(mut self, how: Drain) {
        self.worker.drain(how);
        self.worker.ended().await;
        self.scheduler.stop().await;
    }
}

/// Bits that nobody else has: from the system's source, which doesn't fail once the machine has started.
pub fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).expect("the system's source of randomness answers");
    u128::from_le_bytes(bytes)
}

/// Microseconds since the Unix epoch.
pub fn wall_clock_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// The machine's name, where it tells.
pub fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default()
}

/// Half of the machine's memory, in bytes.
fn machine_memory() -> u64 {
    let parse = |text: String| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(parse);
    kib.map_or(MEMORY_UNKNOWN, |kib| (kib << 10) / MEMORY_SHARE)
}
