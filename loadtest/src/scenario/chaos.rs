//! Chaos: a mixed load, and everything that can be killed is. Then the checker counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use gristmill_backends::state::State;
use gristmill_protocol::{RunId, Timestamp};

use crate::cluster::{Process, Program};
use crate::live::{Live, Now};
use crate::load::{self, Dice, submit_under, wall_clock};
use crate::outcome::Found;
use crate::servers::Server;
use crate::verdict::judge;

/// The capacity of the load's named limit.
const LIMIT: usize = 2;
/// Runs under way at a time: enough that every process always has something to lose.
const RUNS_AT_ONCE: usize = 40;
/// After the last fault every run must have ended within this.
const QUIET_MAX: Duration = Duration::from_secs(180);
/// A submission is repeated until its run has been safe for so long: a store may forget 2 s.
const SAFE_AFTER: Duration = Duration::from_secs(5);

/// What a store that writes its file every second may lose is up to 2 s; the kill takes some of it.
const ROLLED_BACK: Duration = Duration::from_millis(1_500);

/// How much of it.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct ChaosArgs {
    /// Tasks to submit in all.
    #[arg(long, default_value_t = 20_000)]
    pub tasks: u64,
    /// Seconds between two faults.
    #[arg(long, default_value_t = 2.0)]
    pub every: f64,
    /// Faults at least, however quickly the load is done.
    #[arg(long, default_value_t = 24)]
    pub faults: u64,
    #[arg(long, default_value_t = 2)]
    pub schedulers: usize,
    #[arg(long, default_value_t = 4)]
    pub workers: usize,
    /// Repeats the choice of load and faults.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillWorker,
    KillScheduler,
    /// Past its leases, so that it comes back as one who was taken for dead.
    StopWorker,
    StopScheduler,
    KillRabbitMq,
    KillRedis,
    /// Its process is killed and its file loses the last second and a half, as with a machine that fails.
    RollBackRedis,
    CutRabbitMq,
    CutRedis,
    MemoryAlarm,
}

const FAULTS: [Fault; 10] = [
    Fault::KillWorker,
    Fault::KillScheduler,
    Fault::StopWorker,
    Fault::StopScheduler,
    Fault::KillRabbitMq,
    Fault::KillRedis,
    Fault::RollBackRedis,
    Fault::CutRabbitMq,
    Fault::CutRedis,
    Fault::MemoryAlarm,
];

struct Run {
    id: RunId,
    key: String,
    plan: gristmill_protocol::plan::Plan,
    at: Timestamp,
    safe: bool,
    submitted: Instant,
    ended: bool,
}

struct Chaos<'a> {
    program: &'a Program,
    live: &'a Live,
    state: &'a dyn State,
    schedulers: Vec<Process>,
    workers: Vec<Process>,
    dice: Dice,
    /// Faults that haven't been made in this round.
    to_come: Vec<Fault>,
    counts: BTreeMap<Fault, u64>,
    /// What the store's file lost in all.
    bytes_rolled_back: u64,
}

/// Runs the scenario; the figures say what was found, `passed` whether all of it is as it must be.
pub async fn chaos(program: &Program, live: &Live, args: &ChaosArgs) -> anyhow::Result<Found> {
    let state = program.servers.state().await?;
    let mut chaos = Chaos {
        program,
        live,
        state: &state,
        schedulers: Vec::new(),
        workers: Vec::new(),
        dice: Dice::new(args.seed),
        to_come: Vec::new(),
        counts: BTreeMap::new(),
        bytes_rolled_back: 0,
    };
    live.phase("starting the cluster");
    let mut processes = program.cluster(&state, args.schedulers, args.workers, 4).await?;
    chaos.workers = processes.split_off(args.schedulers);
    chaos.schedulers = processes;
    live.phase("chaos");
    let began = Instant::now();
    let runs = chaos.load(args).await?;
    chaos.heal().await?;
    live.phase("quiet");
    let quiet = Instant::now();
    let ended = wait_for_all(&state, &runs).await;
    let quiet_seconds = quiet.elapsed().as_secs_f64();
    let judged = judge(&state, runs.iter().map(|run| run.id)).await?;
    let mut found = Found::default();
    judged.tell(&mut found);
    found.lower("limits_exceeded", f64::from(u8::from(judged.most_under_limit > LIMIT)), "");
    found.count("most_at_once_under_a_limit_of_2", judged.most_under_limit as u64, "");
    found.lower("runs_not_ended", (runs.len() - ended) as f64, "");
    found.lower("quiet_until_all_had_ended_seconds", quiet_seconds, "s");
    found.count("faults", chaos.counts.values().sum(), "");
    found.count("store_lost_bytes", chaos.bytes_rolled_back, "bytes");
    found.figure("load_seconds", began.elapsed().as_secs_f64(), "s", None);
    found.note(format!("faults: {:?}", chaos.counts));
    let is_zero = |name: &str| found.get(name).is_some_and(|figure| figure.value == 0.0);
    let passed = ["lost", "recorded_twice", "started_before_ready", "limits_exceeded", "runs_not_ended"];
    found.passed = Some(passed.into_iter().all(is_zero));
    for process in chaos.schedulers.iter_mut().chain(&mut chaos.workers) {
        process.kill().await?;
    }
    Ok(found)
}

impl Chaos<'_> {
    /// Submits the load bit by bit, with a fault now and then.
    async fn load(&mut self, args: &ChaosArgs) -> anyhow::Result<Vec<Run>> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut submitted, mut faults) = (0u64, 0u64);
        let mut next_fault = Instant::now() + Duration::from_secs_f64(args.every);
        let mut load_dice = self.dice.clone();
        while submitted < args.tasks || faults < args.faults || runs.iter().any(|run| !run.safe) {
            let under_way = runs.iter().filter(|run| !run.ended).count();
            if under_way < RUNS_AT_ONCE && (submitted < args.tasks || faults < args.faults) {
                let (plan, tasks) = load::mixed(&mut load_dice, args.tasks.saturating_sub(submitted))?;
                let (key, at) = (format!("chaos-{}-{}", args.seed, runs.len()), wall_clock());
                if let Ok(id) = submit_under(self.state, plan.clone(), &key, at).await {
                    submitted += tasks;
                    runs.push(Run { id, key, plan, at, safe: false, submitted: Instant::now(), ended: false });
                }
            }
            if Instant::now() >= next_fault && faults < args.faults.max(1) {
                self.fault().await?;
                faults += 1;
                next_fault = Instant::now() + Duration::from_secs_f64(args.every);
            }
            self.wake_the_stopped().await?;
            self.look_after(&mut runs).await;
            let more = format!("{faults} faults, {under_way} runs under way");
            self.live.show(&Now { done: Some((submitted.min(args.tasks), args.tasks)), more, ..Now::default() });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(runs)
    }

    /// Submits again what the store may have forgotten, as any client does until its run is safe.
    async fn look_after(&self, runs: &mut [Run]) {
        for run in runs.iter_mut().filter(|run| !run.ended || !run.safe) {
            match self.state.run(run.id).await {
                Ok(Some(record)) => {
                    run.ended = record.status.is_some();
                    run.safe |= run.submitted.elapsed() >= SAFE_AFTER;
                }
                Ok(None) => {
                    if submit_under(self.state, run.plan.clone(), &run.key, run.at).await.is_ok() {
                        run.submitted = Instant::now();
                    }
                }
                // The store is away; the next look will tell.
                Err(_) => return,
            }
        }
    }

    async fn fault(&mut self) -> anyhow::Result<()> {
        // Each of them once before any comes again, in an order that the seed shuffles.
        if self.to_come.is_empty() {
            self.to_come = FAULTS.to_vec();
        }
        let fault = self.to_come.swap_remove(self.dice.below(self.to_come.len() as u64) as usize);
        *self.counts.entry(fault).or_default() += 1;
        let worker = self.dice.below(self.workers.len() as u64) as usize;
        let scheduler = self.dice.below(self.schedulers.len() as u64) as usize;
        let servers = &self.program.servers;
        match fault {
            Fault::KillWorker => {
                self.workers[worker].signal("KILL").await?;
                self.program.restart(&mut self.workers[worker]).await?;
            }
            Fault::KillScheduler => {
                self.schedulers[scheduler].signal("KILL").await?;
                self.program.restart(&mut self.schedulers[scheduler]).await?;
            }
            Fault::StopWorker => {
                self.workers[worker].signal("STOP").await?;
                self.workers[worker].stopped_until = Some(Instant::now() + Duration::from_secs(8));
            }
            Fault::StopScheduler => {
                self.schedulers[scheduler].signal("STOP").await?;
                self.schedulers[scheduler].stopped_until = Some(Instant::now() + Duration::from_secs(5));
            }
            Fault::KillRabbitMq => {
                servers.kill(Server::RabbitMq).await?;
                servers.start_one(Server::RabbitMq).await?;
            }
            Fault::KillRedis => {
                servers.kill(Server::Redis).await?;
                servers.start_one(Server::Redis).await?;
            }
            Fault::RollBackRedis => {
                let before = servers.redis_journal()?;
                tokio::time::sleep(ROLLED_BACK).await;
                servers.kill(Server::Redis).await?;
                let after = servers.redis_journal()?;
                // When it was written anew in between, it begins after that time, and nothing can be cut off.
                if before.0 == after.0 {
                    let file = std::fs::OpenOptions::new().write(true).open(&after.0);
                    let file = file.with_context(|| format!("failed to open `{}`", after.0.display()))?;
                    file.set_len(before.1).context("failed to cut the store's file")?;
                    self.bytes_rolled_back += after.1 - before.1;
                }
                servers.start_one(Server::Redis).await?;
            }
            Fault::CutRabbitMq => {
                servers.rabbitmqctl(&["close_all_connections", "chaos"]).await?;
            }
            Fault::CutRedis => cut_redis(servers.get("GRISTMILL_STATE").context("no state")?).await?,
            Fault::MemoryAlarm => {
                servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.0001"]).await?;
                servers.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]).await?;
            }
        }
        Ok(())
    }

    async fn wake_the_stopped(&mut self) -> anyhow::Result<()> {
        for process in self.workers.iter_mut().chain(&mut self.schedulers) {
            if process.stopped_until.is_some_and(|until| until <= Instant::now()) {
                process.signal("CONT").await?;
                process.stopped_until = None;
            }
        }
        Ok(())
    }

    /// Takes everything out of everybody's way.
    async fn heal(&mut self) -> anyhow::Result<()> {
        for process in self.workers.iter_mut().chain(&mut self.schedulers) {
            process.signal("CONT").await?;
            process.stopped_until = None;
        }
        Ok(())
    }
}

/// Ends all client connections of the store but the one that asks.
async fn cut_redis(url: &str) -> anyhow::Result<()> {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, port) = address.trim_end_matches('/').rsplit_once(':').context("the state's URL names no port")?;
    for kind in ["normal", "pubsub"] {
        let status = tokio::process::Command::new("redis-cli")
            .args(["-h", host, "-p", port, "client", "kill", "type", kind])
            .stdout(std::process::Stdio::null())
            .status()
            .await;
        status.context("failed to call redis-cli")?;
    }
    Ok(())
}

/// Waits for the end of all runs; returns how many have ended.
async fn wait_for_all(state: &dyn State, runs: &[Run]) -> usize {
    let end = Instant::now() + QUIET_MAX;
    loop {
        let mut ended = 0;
        for run in runs {
            if let Ok(Some(record)) = state.run(run.id).await {
                ended += usize::from(record.status.is_some());
            }
        }
        if ended == runs.len() || Instant::now() >= end {
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
