//! Soak: half of what the cluster can do, for long, while everything that could grow is looked at.
//!
//! Two kinds of things are told apart. Memory of processes, queues and files of processes must stay flat. What the store
//! keeps of runs that have ended (its memory, keys and journal) grows with each run by design; of those the growth *per
//! run* must stay flat.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gristmill_backends::broker::Broker as _;
use gristmill_backends::state::State;
use gristmill_protocol::RunId;

use crate::Place;
use crate::cluster::{Process, Program, memory_of};
use crate::histogram::Histogram;
use crate::live::{Live, Now};
use crate::load::{self, submit_once, wall_clock_us};
use crate::outcome::{Found, median};
use crate::servers::{Server, Servers};
use crate::slope::Slope;
use crate::verdict::judge;

/// No run takes longer when anything works at all.
const PATIENCE: Duration = Duration::from_secs(120);
/// Tasks of each run of the load: enough that the work is in tasks, and few enough that runs come all the time.
const TASKS: u32 = 100;
/// Runs that may be under way; beyond it the cluster doesn't keep up, which is told.
const OPEN_MAX: usize = 500;
/// Between two looks at the runs that are open: each asks the store for each of them, so looking more often is a load itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The first part of the samples in which caches and pools fill, left out of the slopes.
const WARM_UP: f64 = 0.2;
/// Growth over the whole test that is tolerated beside what chance explains: a share of the mean, but not less than the
/// smallest step in which an allocator takes memory.
const TOLERATED_SHARE: f64 = 0.05;
const TOLERATED_BYTES: f64 = 8.0 * 1024.0 * 1024.0;
/// As much for counts of messages and files.
const TOLERATED_COUNT: f64 = 20.0;
/// By how much a later run may cost the store more than an earlier one.
const TOLERATED_PER_RUN: f64 = 0.10;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct SoakArgs {
    #[arg(long, default_value_t = 30.0)]
    pub minutes: f64,
    /// The part of the measured capacity that is asked for.
    #[arg(long, default_value_t = 0.5)]
    pub share: f64,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 10.0)]
    pub every: f64,
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Tasks that a worker runs at a time.
    #[arg(long, default_value_t = 1)]
    pub slots: usize,
    /// Runs, submitted at once, by which the capacity is measured.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub capacity_runs: u32,
}

/// How something should behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    FlatBytes,
    FlatCount,
    /// It grows with runs, each as much as the one before.
    PerRun,
}

/// One thing over time: seconds, runs ended until then, value.
type Samples = BTreeMap<String, (Kind, Vec<(f64, f64, f64)>)>;

/// The slopes of everything, and whether any grows beyond its noise.
pub async fn soak(program: &Program, place: &Place, args: &SoakArgs) -> anyhow::Result<Found> {
    let (state, broker) = (program.servers.state().await?, program.servers.broker().await?);
    let live = &place.live;
    live.phase("starting the cluster");
    let mut processes = program.cluster(&state, 1, args.workers, args.slots).await?;
    let mut watched: Vec<(String, u32)> =
        processes.iter().filter_map(|process| Some((process.name.clone(), process.pid()?))).collect();
    for server in [Server::RabbitMq, Server::Redis] {
        watched.push((server.name().to_owned(), program.servers.pid(server).await?));
    }
    live.phase("measuring the capacity");
    let capacity = capacity(&state, live, args.capacity_runs).await?;
    let runs_per_second = capacity * args.share / f64::from(TASKS + 2);
    live.phase(&format!("{} tasks/s of {}", crate::text::number((capacity * args.share).round()), capacity.round()));
    let (mut load, mut samples) = (Load::new(&state, runs_per_second), Samples::new());
    let length = Duration::from_secs_f64(args.minutes * 60.0);
    let every = Duration::from_secs_f64(args.every.max(0.5));
    let mut next_look = Duration::ZERO;
    while load.began.elapsed() < length {
        load.step().await?;
        if load.began.elapsed() >= next_look {
            next_look += every;
            let queue = broker.ready("default").await?;
            let moment = (load.began.elapsed().as_secs_f64(), load.ended as f64);
            look(&mut samples, moment, &watched, &program.servers, queue, place).await?;
            let seconds = Some((moment.0, length.as_secs_f64()));
            let rate = Some(moment.1 * f64::from(TASKS + 2) / moment.0.max(0.1));
            let p99_ms = Some(load.took.ms(99.0));
            live.show(&Now { seconds, rate, p99_ms, queue: Some(queue), errors: load.refused, ..Now::default() });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let submitted = load.runs.len();
    live.phase("quiet");
    let quiet = Instant::now();
    while !load.open.is_empty() && quiet.elapsed() < PATIENCE {
        load.look().await?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let judged = judge(&state, load.runs.iter().copied()).await?;
    end(&mut processes).await?;
    let mut found = Found::default();
    let flat = tell(&mut found, &samples);
    judged.tell(&mut found);
    found.lower("runs_refused", load.refused as f64, "");
    found.lower("run_ms_p99", load.took.ms(99.0), "ms");
    found.figure("capacity_tasks_per_second", capacity, "1/s", None);
    let reached = submitted as f64 * f64::from(TASKS + 2) / length.as_secs_f64();
    found.figure("soak_tasks_per_second", reached, "1/s", None);
    found.distribution("run", &load.took);
    if load.refused > 0 {
        found.note(format!("{} runs weren't submitted: {OPEN_MAX} were under way", load.refused));
    }
    found.passed = Some(flat && judged.is_right() && load.open.is_empty() && load.refused == 0);
    Ok(found)
}

/// Tasks a second of runs like those of the load, many at once: the median of three rounds.
async fn capacity(state: &dyn State, live: &Live, runs: u32) -> anyhow::Result<f64> {
    let mut rates = Vec::new();
    for round in 0..3 {
        let mut load = Load::new(state, 0.0);
        for run in 0..runs {
            load.submit(&format!("capacity-{round}-{run}")).await?;
        }
        while !load.open.is_empty() {
            ensure!(load.began.elapsed() < PATIENCE, "{runs} runs of {TASKS} tasks didn't end within {PATIENCE:?}");
            live.show(&Now { done: Some((load.ended, runs.into())), ..Now::default() });
            load.look().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        rates.push(f64::from(runs * (TASKS + 2)) / load.began.elapsed().as_secs_f64());
    }
    Ok(median(&rates))
}

async fn end(processes: &mut [Process]) -> anyhow::Result<()> {
    for process in processes {
        process.end().await?;
    }
    Ok(())
}

/// Runs that come at a steady rate, whether those before have ended or not.
struct Load<'a> {
    state: &'a dyn State,
    per_second: f64,
    began: Instant,
    runs: Vec<RunId>,
    open: Vec<RunId>,
    ended: u64,
    refused: u64,
    /// From submission to end as the store knows them, in microseconds.
    took: Histogram,
}

impl<'a> Load<'a> {
    fn new(state: &'a dyn State, per_second: f64) -> Load<'a> {
        let (runs, open, took) = (Vec::new(), Vec::new(), Histogram::default());
        Load { state, per_second, began: Instant::now(), runs, open, ended: 0, refused: 0, took }
    }

    /// Submits what is due, and takes out what has ended.
    async fn step(&mut self) -> anyhow::Result<()> {
        let due = (self.began.elapsed().as_secs_f64() * self.per_second) as u64;
        while (self.runs.len() as u64 + self.refused) < due {
            if self.open.len() >= OPEN_MAX {
                self.refused += 1;
                continue;
            }
            self.submit(&format!("soak-{}", self.runs.len())).await?;
        }
        self.look().await
    }

    async fn submit(&mut self, name: &str) -> anyhow::Result<()> {
        let run = submit_once(self.state, load::fan_out(TASKS)?, &format!("{name}-{}", wall_clock_us())).await?;
        self.runs.push(run);
        self.open.push(run);
        Ok(())
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let mut open = Vec::new();
        for run in std::mem::take(&mut self.open) {
            match self.state.run(run).await? {
                Some(record) if record.status.is_some() => {
                    let ended = record.ended.unwrap_or(record.created);
                    self.took.record(ended.0.saturating_sub(record.created.0) * 1_000);
                    self.ended += 1;
                }
                _ => open.push(run),
            }
        }
        self.open = open;
        Ok(())
    }
}

/// One look at everything.
async fn look(
    samples: &mut Samples,
    moment: (f64, f64),
    watched: &[(String, u32)],
    servers: &Servers,
    queue: u64,
    place: &Place,
) -> anyhow::Result<()> {
    let mut add = |name: String, kind: Kind, value: f64| {
        samples.entry(name).or_insert((kind, Vec::new())).1.push((moment.0, moment.1, value));
    };
    for (name, pid) in watched {
        // Redis' memory is mostly what it keeps of runs.
        let kind = if name == "redis" { Kind::PerRun } else { Kind::FlatBytes };
        if let Some(bytes) = memory_of(*pid, "VmRSS:") {
            add(format!("{name} resident"), kind, bytes as f64);
        }
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
        if let Ok(files) = files {
            add(format!("{name} open files"), Kind::FlatCount, files as f64);
        }
    }
    let info = servers.redis_info().await?;
    let value = |name: &str| -> Option<f64> {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
    };
    if let Some(bytes) = value("used_memory") {
        add("redis used memory".to_owned(), Kind::PerRun, bytes);
    }
    let keys = info.lines().filter_map(|line| line.strip_prefix("db")?.split_once("keys=")?.1.split(',').next());
    add("redis keys".to_owned(), Kind::PerRun, keys.filter_map(|keys| keys.parse::<f64>().ok()).sum());
    if let Ok((_, bytes)) = servers.redis_journal() {
        // It is written anew now and then; what is told is not judged.
        add("redis journal".to_owned(), Kind::PerRun, bytes as f64);
    }
    add("queue of tasks".to_owned(), Kind::FlatCount, queue as f64);
    let (files, bytes) = folder_size(&servers.folder().unwrap_or(&place.folder).join("rabbitmq"));
    add("rabbitmq files".to_owned(), Kind::FlatCount, files as f64);
    add("rabbitmq files' size".to_owned(), Kind::FlatBytes, bytes as f64);
    let (_, bytes) = folder_size(&place.logs);
    add("logs of all processes".to_owned(), Kind::FlatBytes, bytes as f64);
    Ok(())
}

/// Files of a folder and those below, and their bytes. What is gone before it is looked at doesn't count.
fn folder_size(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => {
                let below = folder_size(&entry.path());
                (files, bytes) = (files + below.0, bytes + below.1);
            }
            Ok(about) => (files, bytes) = (files + 1, bytes + about.len()),
            Err(_) => {}
        }
    }
    (files, bytes)
}

/// Tells all slopes; whether nothing grows beyond its noise.
fn tell(found: &mut Found, samples: &Samples) -> bool {
    let mut is_flat = true;
    for (name, (kind, all)) in samples {
        let unit = if *kind == Kind::FlatCount || name.ends_with("keys") { "count" } else { "bytes" };
        found.series(name, unit, "s", all.iter().map(|(seconds, _, value)| (*seconds, *value)));
        let settled = &all[(all.len() as f64 * WARM_UP) as usize..];
        let figure = name.replace([' ', '\''], "_");
        if *kind == Kind::PerRun {
            is_flat &= tell_per_run(found, name, &figure, unit, settled);
            continue;
        }
        let points: Vec<(f64, f64)> = settled.iter().map(|(seconds, _, value)| (*seconds, *value)).collect();
        let Some(slope) = Slope::fit(&points) else {
            found.note(format!("{name}: too few samples for a slope"));
            continue;
        };
        let per_hour = slope.per_x * 3_600.0;
        found.figure(&format!("{figure}_growth_per_hour"), per_hour, unit, None);
        let tolerated = match kind {
            Kind::FlatCount => TOLERATED_COUNT.max(slope.mean * TOLERATED_SHARE),
            _ => TOLERATED_BYTES.max(slope.mean * TOLERATED_SHARE),
        };
        let value = |value: f64| crate::text::with_unit(value, if unit == "bytes" { unit } else { "" });
        let grows = slope.grows(tolerated);
        is_flat &= !grows;
        found.note(format!(
            "{name}: {} ± {} an hour around {}{}",
            value(per_hour),
            value(slope.margin * 3_600.0),
            value(slope.mean),
            if grows { " — it GROWS" } else { "" }
        ));
    }
    is_flat
}

/// What each run adds, in the earlier half and the later: whether the later ones add no more.
fn tell_per_run(found: &mut Found, name: &str, figure: &str, unit: &str, samples: &[(f64, f64, f64)]) -> bool {
    let (earlier, later) = samples.split_at(samples.len() / 2);
    let (Some(earlier), Some(later)) = (per_run(earlier), per_run(later)) else {
        found.note(format!("{name}: too few samples for what a run adds"));
        return true;
    };
    found.lower(&format!("{figure}_per_run"), later.0, unit);
    // Two standard errors of the difference.
    let noise = 2.0 * earlier.1.hypot(later.1);
    let more = later.0 - earlier.0;
    // A journal that is written anew, and memory that an allocator takes in steps, say nothing of single runs.
    let is_judged = name == "redis used memory" || name == "redis keys";
    let grows = is_judged && more > noise + TOLERATED_PER_RUN * earlier.0.abs();
    let verdict = if grows { " — later runs cost MORE" } else { "" };
    let show = |value: f64| crate::text::with_unit(value, if unit == "bytes" { unit } else { "" });
    found.note(format!("{name}: each run adds {}, before {}{verdict}", show(later.0), show(earlier.0)));
    !grows
}

/// What each run adds, with its standard error, by blocks of samples: a line's residuals would take growth that speeds up
/// for noise. Nothing for fewer than three blocks in which runs ended.
fn per_run(samples: &[(f64, f64, f64)]) -> Option<(f64, f64)> {
    const BLOCKS: usize = 8;
    let block = (samples.len() / BLOCKS).max(1);
    let ends: Vec<_> = samples.iter().step_by(block).collect();
    let pairs = ends.windows(2).filter(|pair| pair[1].1 > pair[0].1);
    let rates: Vec<f64> = pairs.map(|pair| (pair[1].2 - pair[0].2) / (pair[1].1 - pair[0].1)).collect();
    let count = rates.len() as f64;
    if rates.len() < 3 {
        return None;
    }
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Some((mean, (variance / count).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, kind: Kind, value: impl Fn(f64) -> f64) -> (bool, Found) {
        let all = (0..100).map(|at| (f64::from(at) * 10.0, f64::from(at) * 50.0, value(f64::from(at)))).collect();
        let mut found = Found::default();
        let flat = tell(&mut found, &Samples::from([(name.to_owned(), (kind, all))]));
        (flat, found)
    }

    #[test]
    fn growth_is_told_from_noise() {
        let mib = 1024.0 * 1024.0;
        let saw = |at: f64| (at % 7.0) * mib;
        assert!(told("worker resident", Kind::FlatBytes, |at| 30.0 * mib + saw(at)).0);
        let (flat, found) = told("worker resident", Kind::FlatBytes, |at| 30.0 * mib + saw(at) + at * 0.3 * mib);
        assert!(!flat && found.notes[0].contains("GROWS"), "{:?}", found.notes);
    }

    #[test]
    fn what_is_kept_of_each_run_may_grow_with_them_alone() {
        assert!(told("redis keys", Kind::PerRun, |at| 10.0 + 250.0 * at).0);
        let (flat, found) = told("redis keys", Kind::PerRun, |at| 10.0 + 2.0 * at * at);
        assert!(!flat && found.notes[0].contains("MORE"), "{:?}", found.notes);
    }
}
