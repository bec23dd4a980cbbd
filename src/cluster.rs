//! Scheduler, worker and stores in this process.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use gristmill_backends::broker::embedded::EmbeddedBroker;
use gristmill_protocol::WorkerId;
use gristmill_scheduler::{Driver, DriverConfig, DriverHandle};
use gristmill_worker::{Executor, Resources};
use gristmill_worker_runtime::{Drain, Execute, Worker, WorkerConfig};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::home::Home;

/// Share of the machine's memory that one task may plan with.
const MEMORY_SHARE: u64 = 2;
/// What is planned with when the machine doesn't say how much it has.
const MEMORY_UNKNOWN: u64 = 2 << 30;

/// How the parts are set up.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub pools: Vec<String>,
    pub slots: u32,
    pub memory_bytes: u64,
}

impl ClusterConfig {
    /// The machine's cores and half of its memory, unless said otherwise.
    pub fn new(pools: Vec<String>, slots: Option<u32>, memory_mib: Option<u64>) -> ClusterConfig {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let memory_bytes = memory_mib.map_or_else(machine_memory, |mib| mib << 20);
        ClusterConfig { pools, slots: slots.unwrap_or(cores), memory_bytes }
    }
}

/// A scheduler and a worker that run in this process.
pub struct Cluster {
    pub handle: DriverHandle,
    driver: JoinHandle<()>,
    worker: JoinHandle<()>,
    drain: watch::Sender<Drain>,
}

impl Cluster {
    /// Starts on the stores of a home. The worker is known to the scheduler from its first turn on.
    pub async fn start(home: &Home, config: ClusterConfig) -> anyhow::Result<Cluster> {
        let resources = Resources {
            state: home.state.clone(),
            artifacts: home.artifacts.clone(),
            registry: home.registry.clone(),
            threads: config.slots as usize,
            memory_bytes: config.memory_bytes,
        };
        Cluster::start_with(home, config, Arc::new(Executor::new(resources))).await
    }

    /// Starts with another way of doing the work.
    pub async fn start_with(home: &Home, config: ClusterConfig, execute: Arc<dyn Execute>) -> anyhow::Result<Cluster> {
        let broker = Arc::new(EmbeddedBroker::new());
        let (drain, drained) = watch::channel(Drain::No);
        let identity = random_bits();
        let worker_config =
            WorkerConfig { worker: WorkerId(identity as u64), pools: config.pools, slots: config.slots };
        let (worker, heartbeat) =
            Worker::new(worker_config, home.state.clone(), broker.clone(), execute, drained, wall_clock_us);
        heartbeat.beat().await;
        let driver_config = DriverConfig::all_shards((identity >> 64) as u64);
        let (driver, handle) = Driver::new(home.state.clone(), broker, home.artifacts.clone(), driver_config)
            .await
            .context("failed to start the scheduler")?;
        // Training takes every core for minutes; the heartbeat has a thread that it can't be kept from.
        std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || {
                if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    runtime.block_on(heartbeat.run());
                }
            })
            .context("failed to start a thread")?;
        Ok(Cluster { handle, driver: tokio::spawn(driver.run()), worker: tokio::spawn(worker.run()), drain })
    }

    /// Whether one of its parts has ended, which none does by itself.
    pub fn is_broken(&self) -> bool {
        self.driver.is_finished() || self.worker.is_finished()
    }

    /// Hands back what runs and stops.
    pub async fn stop(self, how: Drain) {
        const PATIENCE: Duration = Duration::from_secs(30);
        // Fails only when the worker has ended already.
        let asked = self.drain.send(how).is_ok();
        if asked && tokio::time::timeout(PATIENCE, self.worker).await.is_err() {
            tracing::warn!("a task didn't stop in time");
        }
        self.driver.abort();
    }
}

/// Bits that nobody else has: from the system's source, which doesn't fail once the machine has started.
pub fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).expect("the system's source of randomness answers");
    u128::from_le_bytes(bytes)
}

/// Microseconds since the Unix epoch.
fn wall_clock_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
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
