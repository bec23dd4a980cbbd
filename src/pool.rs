//! `gristmill pool`: as many workers on this machine as a pool's work needs.
//!
//! ```text
//! rules.rs    what the pool's owner asks for
//! members.rs  the worker processes; signal.rs tells them to end
//! ```
//!
//! Each look asks the state who works and what waits, asks the policy how many workers there should be, and starts or
//! drains the difference. Workers of other machines count as they are; pools of the same name on several machines divide what
//! is to be started or let go.

mod members;
mod rules;
mod signal;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use gristmill_backends::state::{State, embedded::Synchronous};
use gristmill_pools::policy::{Decision, Memory, Rules, Sight, decide, share};
use gristmill_protocol::limits::DRAIN_MS;
use gristmill_protocol::{Timestamp, WorkerId};
use gristmill_scheduler::pools::{Thought, forget, sight, tell, thoughts};
use gristmill_telemetry::Telemetry;
use serde_json::json;
use tokio::time::Instant;

use self::members::{Change, Members, Recipe, Stage};
pub use self::rules::{PoolSettings, lacking};
use crate::cli::{PoolArgs, labels};
use crate::cluster::host_name;
use crate::home::Home;
use crate::observe::listen;
use crate::problem::{Exit, Problem};
use crate::services::{Ends, needs_servers};
use crate::settings::Settings;

/// Between two looks: a quarter of what schedulers take to say what they have, so that little is added to it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two decisions that are told though they say the same.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A pool on another machine that hasn't told anything for so long is gone.
const SILENT: Duration = Duration::from_secs(30);
/// The pause after a worker that ended before it took work; it doubles up to the longest.
const START_PAUSE_FIRST: Duration = Duration::from_secs(1);
const START_PAUSE_MAX: Duration = Duration::from_secs(60);
/// What a worker that is drained to make its pool smaller may take to finish: as long as its task does.
const GRACE_SECONDS: u64 = 7 * 24 * 3_600;

/// `gristmill pool`.
pub async fn pool(settings: &Settings, args: PoolArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    needs_servers(settings, "pool")?;
    let mut ends = Ends::new()?;
    let asked = settings.pools.get(&args.name).cloned().unwrap_or_default().under(&args);
    let rules = asked.rules(&args.name)?;
    let labels = labels(&args.labels, args.spot);
    if let Some(lacks) = lacking(&asked.requires, &labels) {
        return Err(Problem::usage(format!("pool `{}` takes workers labelled {lacks}", args.name))
            .hint("start it on such a machine, with `--label KEY=VALUE`")
            .into());
    }
    let home = Home::own(settings, Synchronous::Normal).await?;
    let host = host_name();
    let recipe = Recipe {
        program: std::env::current_exe().context("failed to find this program")?,
        arguments: arguments(&args, &asked, &labels),
        environment: settings.environment(),
        managed_by: format!("pool/{}", args.name),
        host: host.clone(),
    };
    let metrics = telemetry.metrics();
    let _metrics = listen(telemetry, args.metrics, Vec::new()).await?;
    eprintln!(
        "pool `{}`: {} to {} workers with {} slots each, for a backlog of {} s",
        args.name,
        rules.min,
        rules.max,
        rules.slots,
        rules.drain_ms as f64 / 1_000.0
    );
    let mut pool = Pool {
        name: args.name,
        by: host,
        json: args.json,
        rules,
        idle_follows: asked.idle.is_none(),
        state: home.state.clone(),
        members: Members::new(recipe),
        memory: Memory::default(),
        pause: Duration::ZERO,
        not_before: Instant::now(),
        now: Timestamp(0),
        told: None,
        metrics,
    };
    loop {
        pool.look().await;
        tokio::select! {
            () = ends.next() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    pool.end(&mut ends).await;
    Ok(Exit::Success)
}

/// What a worker of the pool is started with.
fn arguments(args: &PoolArgs, asked: &PoolSettings, labels: &BTreeMap<String, String>) -> Vec<String> {
    let (grace, slots) = (GRACE_SECONDS.to_string(), asked.slots().to_string());
    let mut arguments =
        ["worker", "--pools", &args.name, "--grace", &grace, "--slots", &slots].map(str::to_owned).to_vec();
    if let Some(memory) = asked.memory {
        arguments.extend(["--memory".to_owned(), memory.to_string()]);
    }
    if let Some(notice) = &args.spot_notice {
        arguments.extend(["--spot-notice".to_owned(), notice.display().to_string()]);
    }
    arguments.extend(labels.iter().flat_map(|(key, value)| ["--label".to_owned(), format!("{key}={value}")]));
    arguments
}

/// What others are told of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    wanted: u32,
    live: u32,
    starting: u32,
    is_able: bool,
}

struct Pool {
    name: String,
    by: String,
    json: bool,
    rules: Rules,
    /// Whether nobody has said how long to keep what isn't needed: then that follows from what a start takes.
    idle_follows: bool,
    state: std::sync::Arc<dyn State>,
    members: Members,
    memory: Memory,
    /// The pause before the next start after workers that didn't come up.
    pause: Duration,
    not_before: Instant,
    /// The store's time at the last look.
    now: Timestamp,
    /// What was told last, and when.
    told: Option<(Told, Instant)>,
    metrics: std::sync::Arc<gristmill_telemetry::metrics::Metrics>,
}

impl Pool {
    /// Looks once, decides, and acts.
    async fn look(&mut self) {
        let seen = match self.see().await {
            Ok(seen) => seen,
            Err(error) => {
                // Nothing is decided on what isn't known; workers go on by themselves.
                tracing::warn!(error = &*error, "the pool can't be seen");
                return;
            }
        };
        let decision = decide(&self.rules, &mut self.memory, &seen);
        if let Err(error) = self.act(&seen, &decision).await {
            tracing::warn!(error = &*error, "pools of other machines can't be seen; nothing is started or let go");
        }
        self.measure(&seen, &decision);
        self.tell(&seen, decision).await;
    }

    async fn see(&mut self) -> anyhow::Result<Sight> {
        let now = self.state.clock().await?.now;
        self.now = now;
        let (workers, schedulers) = (self.state.workers().await?, self.state.schedulers().await?);
        for change in self.members.look(&workers) {
            self.note(&change, now);
        }
        let workers = self.members.correct(workers);
        Ok(sight(now, &workers, &schedulers, &self.name, self.members.count(Stage::Starting)))
    }

    /// Starts or drains this machine's part of the difference between what there is and what is wanted.
    async fn act(&mut self, seen: &Sight, decision: &Decision) -> anyhow::Result<()> {
        let (have, wanted) = (seen.live + seen.starting, decision.wanted);
        if have == wanted {
            return Ok(());
        }
        let others = self.others(seen.now).await?;
        let have = have + others.iter().map(|other| other.starting).sum::<u32>();
        // All divide alike, in the order of their names.
        let at = others.partition_point(|other| other.by < self.by);
        let part = |total: u32, mine: u32, theirs: &dyn Fn(&Thought) -> u32| {
            let mut rooms: Vec<u32> = others.iter().map(theirs).collect();
            rooms.insert(at, mine);
            share(total, &rooms, at)
        };
        let room = |is_able: bool, max: u32| if is_able { max.saturating_sub(have) } else { 0 };
        let lack = wanted.saturating_sub(have);
        let to_start = part(lack, room(self.is_able(), self.rules.max), &|other| room(other.is_able, other.max));
        let surplus = have.saturating_sub(wanted);
        let to_drain = part(surplus, self.members.count(Stage::Live), &|other| other.live);
        for _ in 0..to_start {
            match self.members.start() {
                Ok(change) => self.note(&change, seen.now),
                Err(error) => {
                    eprintln!("warning: {error:#}");
                    self.start_later();
                    break;
                }
            }
        }
        for _ in 0..to_drain {
            let Some(change) = self.members.drain_one() else { break };
            self.note(&change, seen.now);
        }
        Ok(())
    }

    /// The pools of this name on other machines, by their names.
    async fn others(&self, now: Timestamp) -> anyhow::Result<Vec<Thought>> {
        let mut others = thoughts(&*self.state, &self.name, now).await?;
        let silent_ms = SILENT.as_millis() as u64;
        others.retain(|other| other.by != self.by && other.paid_ms.is_some() && now.since(other.at) < silent_ms);
        others.sort_by(|one, other| one.by.cmp(&other.by));
        Ok(others)
    }

    /// Whether workers can be started just now.
    fn is_able(&self) -> bool {
        Instant::now() >= self.not_before
    }

    fn start_later(&mut self) {
        self.pause = (self.pause * 2).clamp(START_PAUSE_FIRST, START_PAUSE_MAX);
        self.not_before = Instant::now() + self.pause;
    }

    /// Takes note of what has happened to a worker, and says so.
    fn note(&mut self, change: &Change, now: Timestamp) {
        let id = |worker: &Option<WorkerId>| worker.map_or_else(|| "a worker".to_owned(), |worker| worker.to_string());
        let (event, pid, worker) = match change {
            Change::Started { pid } => ("started", pid, None),
            Change::Ready { pid, worker, .. } => ("ready", pid, Some(*worker)),
            Change::Adopted { pid, worker } => ("adopted", pid, Some(*worker)),
            Change::Draining { pid, worker } => ("draining", pid, *worker),
            Change::Ended { pid, worker } => ("ended", pid, *worker),
            Change::Lost { pid, worker, .. } => ("lost", pid, *worker),
        };
        match change {
            Change::Ready { took, .. } => {
                self.pause = Duration::ZERO;
                // What was measured here is truer than what was assumed, by one part in four a start.
                let took_ms = took.as_millis() as u64;
                self.rules.start_up_ms = (self.rules.start_up_ms * 3 + took_ms) / 4;
                if self.idle_follows {
                    self.rules.idle_ms = Rules::idle_ms_for(self.rules.start_up_ms);
                }
            }
            Change::Lost { how, worker, .. } => {
                eprintln!("warning: {} ended by itself: {how}", id(worker));
                if worker.is_none() {
                    self.start_later();
                }
            }
            _ => {}
        }
        if self.json {
            let line = json!({
                "at_ms": now.0, "pool": self.name, "event": event, "pid": pid,
                "worker": worker.map(|worker| worker.to_string()),
                "live": self.members.count(Stage::Live), "starting": self.members.count(Stage::Starting),
                "draining": self.members.count(Stage::Draining),
                "paid_ms": self.members.paid().as_millis() as u64, "lost": self.members.lost,
            });
            println!("{line}");
        } else if !matches!(change, Change::Lost { .. }) {
            eprintln!("{event}: {} (process {pid})", id(&worker));
        }
    }

    fn measure(&self, seen: &Sight, decision: &Decision) {
        let pool = self.name.as_str();
        self.metrics.pool_wanted.with(&[pool]).set(f64::from(decision.wanted));
        let stages = [(Stage::Live, "live"), (Stage::Starting, "starting"), (Stage::Draining, "draining")];
        for (stage, name) in stages {
            self.metrics.pool_workers.with(&[pool, name]).set(f64::from(self.members.count(stage)));
        }
        self.metrics.pool_work.with(&[pool]).set(seen.work_ms as f64 / 1_000.0);
        let counted = [
            (self.metrics.pool_lost.with(&[pool]), self.members.lost),
            (self.metrics.pool_paid.with(&[pool]), self.members.paid().as_secs()),
        ];
        for (counter, value) in counted {
            counter.add(value.saturating_sub(counter.value()));
        }
    }

    /// Says what was decided, when that is new or was said a while ago.
    async fn tell(&mut self, seen: &Sight, decision: Decision) {
        let (live, starting) = (self.members.count(Stage::Live), self.members.count(Stage::Starting));
        let new = Told { wanted: decision.wanted, live, starting, is_able: self.is_able() };
        let told = self.told.as_ref().filter(|(_, at)| at.elapsed() < TELL_EVERY).map(|(told, _)| told);
        if told == Some(&new) {
            return;
        }
        let is_decided = told.is_none_or(|told| told.wanted != new.wanted);
        let changed = self.told.as_ref().is_none_or(|(told, _)| told.wanted != new.wanted);
        let why = decision.why.to_string();
        if self.json && is_decided {
            let line = json!({
                "at_ms": seen.now.0, "pool": self.name, "event": "decided", "wanted": decision.wanted, "live": seen.live,
                "starting": seen.starting, "draining": seen.draining, "ready": seen.ready, "out": seen.out,
                "work_ms": seen.work_ms, "unknown": seen.unknown, "why": why,
                "paid_ms": self.members.paid().as_millis() as u64, "lost": self.members.lost,
            });
            println!("{line}");
        } else if changed && !self.json {
            eprintln!("{} wanted: {why}", decision.wanted);
        }
        let thought = Thought {
            by: self.by.clone(),
            at: seen.now,
            wanted: decision.wanted,
            min: self.rules.min,
            max: self.rules.max,
            why,
            paid_ms: Some(self.members.paid().as_millis() as u64),
            lost: Some(self.members.lost),
            live,
            starting,
            is_able: new.is_able,
        };
        if let Err(error) = tell(&*self.state, &self.name, &thought).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a decision isn't told");
        }
        self.told = Some((new, Instant::now()));
    }

    /// Ends all workers: they finish what they run within the grace of a process that is told to end, else hand back.
    async fn end(&mut self, ends: &mut Ends) {
        eprintln!("pool `{}` ends: its workers drain; a second signal makes them hand back at once", self.name);
        let now = self.now;
        for change in self.members.drain_all() {
            self.note(&change, now);
        }
        let patience = Instant::now() + Duration::from_millis(DRAIN_MS);
        let mut hurried = false;
        while !self.members.is_empty() {
            tokio::select! {
                () = ends.next() => self.members.hurry(),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if !hurried && Instant::now() >= patience {
                self.members.hurry();
                hurried = true;
            }
            for change in self.members.look(&[]) {
                self.note(&change, now);
            }
        }
        if let Err(error) = forget(&*self.state, &self.name, &self.by).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the last decision stays a while");
        }
    }
}
