//! Upgrade: the processes of an old program are replaced by those of a new one under load, one at a time, and then back.
//!
//! Beside each that goes its successor is started first, as the page on deployment advises. What goes is told to end
//! (SIGTERM) and finishes what it has.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gristmill_backends::state::State;
use gristmill_protocol::RunId;

use crate::cluster::{Process, Program};
use crate::histogram::Histogram;
use crate::live::{Live, Now};
use crate::load::{self, Dice, submit_once, wall_clock_us};
use crate::outcome::Found;
use crate::verdict::judge;

/// After the last replacement every run must have ended within this.
const QUIET_MAX: Duration = Duration::from_secs(180);
/// How long a started process may take until the store knows it.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether something has come or ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct UpgradeArgs {
    /// The program that runs first.
    #[arg(long, value_name = "FILE")]
    pub old: PathBuf,
    /// The program that takes over. Default: the one under test.
    #[arg(long, value_name = "FILE")]
    pub new: Option<PathBuf>,
    #[arg(long, default_value_t = 2)]
    pub schedulers: usize,
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
    /// Runs under way at a time.
    #[arg(long, default_value_t = 20)]
    pub runs_at_once: usize,
    /// Seconds of load between two replacements.
    #[arg(long, default_value_t = 3.0)]
    pub every: f64,
    /// Replacements there and back, so many times.
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// Repeats the choice of load.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A load that goes on while processes are replaced.
struct Load<'a> {
    state: &'a dyn State,
    live: &'a Live,
    dice: Dice,
    runs: Vec<RunId>,
    open: Vec<RunId>,
    at_once: usize,
    /// From submission to end as the store knows them, in microseconds.
    took: Histogram,
    errors: u64,
}

/// Replaces all, twice; nothing may be lost, recorded twice or left open, and no attempt may be lost with its worker.
pub async fn upgrade(program: &Program, live: &Live, args: &UpgradeArgs) -> anyhow::Result<Found> {
    let file = |path: &PathBuf| path.canonicalize().with_context(|| format!("there is no `{}`", path.display()));
    let old = Program { binary: file(&args.old)?, ..program.clone() };
    let new = Program { binary: args.new.as_ref().map_or(Ok(program.binary.clone()), file)?, ..program.clone() };
    let state = program.servers.state().await?;
    live.phase("starting the old cluster");
    let mut processes = old.cluster(&state, args.schedulers, args.workers, 2).await?;
    let mut load = Load {
        state: &state,
        live,
        dice: Dice::new(args.seed),
        runs: Vec::new(),
        open: Vec::new(),
        at_once: args.runs_at_once,
        took: Histogram::default(),
        errors: 0,
    };
    let began = Instant::now();
    let (mut replaced, mut drains) = (0u64, Vec::new());
    let pause = Duration::from_secs_f64(args.every);
    load.goes_on(pause).await;
    for round in 0..args.rounds * 2 {
        let (to, way) = if round % 2 == 0 { (&new, "to the new program") } else { (&old, "back to the old one") };
        live.phase(way);
        for process in &mut processes {
            replaced += 1;
            let seconds = replace(to, &state, process, replaced, &mut load).await?;
            drains.push((began.elapsed().as_secs_f64(), seconds));
            load.goes_on(pause).await;
        }
    }
    let loaded_seconds = began.elapsed().as_secs_f64();
    live.phase("quiet");
    let quiet = Instant::now();
    while !load.open.is_empty() && quiet.elapsed() < QUIET_MAX {
        load.look().await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let judged = judge(&state, load.runs.iter().copied()).await?;
    for process in &mut processes {
        process.end().await?;
    }
    let mut found = Found::default();
    judged.tell(&mut found);
    found.lower("runs_not_ended", load.open.len() as f64, "");
    found.lower("submissions_refused", load.errors as f64, "");
    found.lower("run_ms_p99", load.took.ms(99.0), "ms");
    let longest = drains.iter().map(|(_, seconds)| *seconds).fold(f64::NAN, f64::max);
    found.lower("drain_seconds_max", longest, "s");
    found.count("replaced", replaced, "processes");
    found.higher("tasks_per_second_meanwhile", judged.tasks as f64 / loaded_seconds, "1/s");
    found.series("drain of a replaced process", "s", "s", drains);
    found.distribution("run", &load.took);
    let none_lost = judged.lost_workers == 0 && load.errors == 0 && load.open.is_empty();
    found.passed = Some(judged.is_right() && none_lost);
    Ok(found)
}

/// Starts a successor, waits until it takes part, and ends the other. How long that one took to end, in seconds.
async fn replace(
    to: &Program,
    state: &dyn State,
    process: &mut Process,
    number: u64,
    load: &mut Load<'_>,
) -> anyhow::Result<f64> {
    let is_scheduler = process.name.starts_with("scheduler");
    let (kind, arguments): (_, &[&str]) =
        if is_scheduler { ("scheduler", &["scheduler"]) } else { ("worker", &["worker", "--slots", "2"]) };
    let known = async || -> anyhow::Result<usize> {
        Ok(if is_scheduler { state.schedulers().await?.len() } else { state.workers().await?.len() })
    };
    let before = known().await?;
    let successor = to.start(&format!("{kind}-r{number}"), arguments)?;
    let end = Instant::now() + START_PATIENCE;
    while known().await? <= before {
        ensure!(Instant::now() < end, "{} isn't heard of; see its log", successor.name);
        load.look().await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let mut former = std::mem::replace(process, successor);
    let began = Instant::now();
    let ending = former.end();
    tokio::pin!(ending);
    loop {
        tokio::select! {
            ended = &mut ending => break ended?,
            () = tokio::time::sleep(LOOK_EVERY) => load.look().await,
        }
    }
    Ok(began.elapsed().as_secs_f64())
}

impl Load<'_> {
    /// Keeps the load up for a while.
    async fn goes_on(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.top_up().await;
            self.look().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn top_up(&mut self) {
        while self.open.len() < self.at_once {
            let key = format!("upgrade-{}-{}", self.runs.len(), wall_clock_us());
            let Ok((plan, _)) = load::mixed(&mut self.dice, 200) else { return };
            match submit_once(self.state, plan, &key).await {
                Ok(run) => {
                    self.runs.push(run);
                    self.open.push(run);
                }
                Err(error) => {
                    self.errors += 1;
                    self.live.say(&format!("a submission failed: {error:#}"));
                    return;
                }
            }
        }
    }

    /// Takes out the runs that have ended.
    async fn look(&mut self) {
        let mut open = Vec::new();
        for run in std::mem::take(&mut self.open) {
            match self.state.run(run).await {
                Ok(Some(record)) if record.status.is_some() => {
                    let ended = record.ended.unwrap_or(record.created);
                    self.took.record(ended.0.saturating_sub(record.created.0) * 1_000);
                }
                // What the store doesn't know or can't say is asked again.
                _ => open.push(run),
            }
        }
        self.open = open;
        let more = format!("{} runs ended, {} under way", self.runs.len() - self.open.len(), self.open.len());
        let now = Now { p99_ms: Some(self.took.ms(99.0)), errors: self.errors, more, ..Now::default() };
        self.live.show(&now);
    }
}
