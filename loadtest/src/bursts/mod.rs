//! Bursts: loads that come and go on a real pool that scales itself, from zero and back.
//!
//! ```text
//! arrivals.rs     when how many tasks arrive
//! pool.rs         the real `gristmill pool`
//! scale_downs.rs  many scale-downs under load: is any task killed or repeated?
//! ```
//!
//! What who knows the future would pay, and what KEDA's rule pays for the same arrivals, are those of `gristmill-scaling`.

mod arrivals;
mod pool;
mod scale_downs;

use std::time::{Duration, Instant};

use gristmill_backends::state::State;
use gristmill_protocol::RunId;
use gristmill_scaling::{Arrival as Simulated, QueueRule, Scaler, Setup, simulate, worker_seconds};

use self::arrivals::{Arrival, SHAPES, Shape, arrivals};
use self::pool::Pool;
use crate::Place;
use crate::cluster::Program;
use crate::histogram::Histogram;
use crate::live::{Live, Now};
use crate::load::{self, submit_once, wait_for_end, wall_clock_us};
use crate::outcome::{Found, median};
use crate::progress::spans;
use crate::verdict::judge;

/// After the last arrival every run must have ended within this.
const PATIENCE: Duration = Duration::from_secs(300);
/// Beyond its cooldown a pool may take so long until the last worker has ended.
const ZERO_PATIENCE: Duration = Duration::from_secs(60);
/// The optimum may be missed by so much at equal wait.
const GOAL: f64 = 1.15;

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct BurstsArgs {
    /// The shapes of load, each on a pool of its own. Default: all.
    #[arg(long = "shape", value_enum)]
    pub shapes: Vec<Shape>,
    /// Seconds of each load.
    #[arg(long, default_value_t = 120.0)]
    pub seconds: f64,
    /// Workers at the most.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub max: u32,
    /// Tasks that a worker runs at a time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Milliseconds that a task takes. It waits, and takes no processor: many workers fit on few cores.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub task_ms: u32,
    /// Tasks of each run that arrives.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tasks: u32,
    /// The peak of the load, as a share of what all workers can do.
    #[arg(long, default_value_t = 0.8)]
    pub peak: f64,
    /// Seconds in which the pool works off what waits.
    #[arg(long, default_value_t = 5)]
    pub drain_time: u32,
    /// Seconds that a worker must have been too many before it is let go. Default: what the pool does by itself, by what a
    /// start takes.
    #[arg(long)]
    pub idle: Option<u32>,
    /// Then so many scale-downs under load, counting what is killed or repeated.
    #[arg(long, default_value_t = 0)]
    pub scale_downs: u64,
    /// Repeats the arrivals.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What is paid and waited for in each shape, beside the optimum and the rule; then the scale-downs.
pub async fn bursts(program: &Program, place: &Place, args: &BurstsArgs) -> anyhow::Result<Found> {
    let state = program.servers.state().await?;
    let live = &place.live;
    live.phase("starting a scheduler");
    let mut scheduler = program.start("scheduler-0", &["scheduler"])?;
    let mut found = Found { passed: Some(true), ..Found::default() };
    let shapes = match args.shapes.is_empty() {
        // Who asks for scale-downs alone needs no shape.
        true if args.scale_downs > 0 => &[],
        true => &SHAPES[..],
        false => &args.shapes[..],
    };
    for shape in shapes {
        one_shape(program, &state, live, args, *shape, &mut found).await?;
    }
    if args.scale_downs > 0 {
        scale_downs::scale_downs(program, &state, live, args, &mut found).await?;
    }
    scheduler.end().await?;
    Ok(found)
}

async fn one_shape(
    program: &Program,
    state: &dyn State,
    live: &Live,
    args: &BurstsArgs,
    shape: Shape,
    found: &mut Found,
) -> anyhow::Result<()> {
    let name = shape.name();
    live.phase(name);
    let task = f64::from(args.task_ms) / 1e3;
    let peak = args.peak * f64::from(args.max * args.slots) / task;
    let coming = arrivals(shape, args.seconds, peak, args.tasks, args.seed);
    let mut pool = Pool::start(program, args, &format!("pool-{name}"))?;
    let began_ms = load::wall_clock().0;
    let runs = drive(state, live, args, &mut pool, &coming).await?;
    for run in &runs {
        wait_for_end(state, *run, PATIENCE).await?;
    }
    let to_zero = pool.wait_for_zero(Duration::from_secs(args.idle.unwrap_or(0).into()) + ZERO_PATIENCE).await?;
    let paid = pool.paid_seconds();
    // From zero and back: one more run wakes the pool.
    let woken = Instant::now();
    let run = submit_once(state, load::chain(1)?, &format!("wake-{}", wall_clock_us())).await?;
    wait_for_end(state, run, PATIENCE).await?;
    let wake = woken.elapsed().as_secs_f64();
    pool.end().await?;
    let waits = waits(state, &runs).await?;
    let judged = judge(state, runs.iter().copied()).await?;
    let start_up = start_up(&pool.said);
    let wait_p95 = waits.ms(95.0) / 1e3;
    let others = Others::new(args, &coming, start_up);
    let optimum = others.optimum(wait_p95);
    let rules = [("keda", others.keda(QueueRule::usual)), ("keda_quick", others.keda(QueueRule::quick))];
    let key = name.replace('-', "_");
    found.lower(&format!("{key}_paid_worker_seconds"), paid, "s").limit("who knows the future, at equal wait", optimum);
    found.lower(&format!("{key}_paid_to_optimum"), paid / optimum, "×").limit("goal", GOAL);
    found.lower(&format!("{key}_wait_p95_seconds"), wait_p95, "s");
    for (rule, of) in &rules {
        found.figure(&format!("{key}_{rule}_paid_worker_seconds"), of.paid, "s", None);
        found.figure(&format!("{key}_{rule}_paid_to_optimum"), of.ratio, "×", None);
        found.figure(&format!("{key}_{rule}_wait_p95_seconds"), of.wait_p95, "s", None);
    }
    found.lower(&format!("{key}_wake_from_zero_seconds"), wake, "s");
    found.lower(&format!("{key}_last_end_to_zero_seconds"), to_zero, "s");
    found.figure(&format!("{key}_start_up_seconds"), start_up, "s", None);
    found.count(&format!("{key}_tasks"), judged.tasks, "");
    found.count(&format!("{key}_workers_lost"), pool.last(|said| said.lost).unwrap_or(0), "");
    let at = |said: &pool::Said| said.at_ms.saturating_sub(began_ms) as f64 / 1e3;
    let said = || pool.said.iter();
    found.series(
        &format!("{name}: workers"),
        &format!("workers ({name})"),
        "s",
        said().filter_map(|one| Some((at(one), f64::from(one.live? + one.starting? + one.draining?)))),
    );
    found.series(
        &format!("{name}: wanted"),
        &format!("workers ({name})"),
        "s",
        said().filter_map(|one| Some((at(one), f64::from(one.wanted?)))),
    );
    found.distribution(&format!("wait, {name}"), &waits);
    if paid > GOAL * optimum {
        found.note(format!("{name}: {:.2} times the optimum; the goal is {GOAL}", paid / optimum));
    }
    for (rule, of) in rules.iter().filter(|(_, of)| of.paid <= paid) {
        found.note(format!(
            "{name}: {rule} pays less: {:.1} s, at a p95 wait of {:.2} s; ours is {wait_p95:.2} s",
            of.paid, of.wait_p95
        ));
    }
    if !judged.is_right() {
        judged.tell(found);
        found.passed = Some(false);
    }
    Ok(())
}

/// The same arrivals for others than the real pool.
struct Others<'a> {
    args: &'a BurstsArgs,
    arrivals: Vec<Simulated>,
    start_up_ms: u64,
}

/// What another would pay, and let wait.
struct Paid {
    paid: f64,
    /// Of the optimum at its own wait.
    ratio: f64,
    wait_p95: f64,
}

impl Others<'_> {
    fn new<'a>(args: &'a BurstsArgs, coming: &[Arrival], start_up: f64) -> Others<'a> {
        let simulated =
            |one: &Arrival| Simulated { at_ms: (one.at * 1e3) as u64, tasks: one.tasks, task_ms: args.task_ms };
        Others { args, arrivals: coming.iter().map(simulated).collect(), start_up_ms: (start_up * 1e3) as u64 }
    }

    /// Worker-seconds of who knows the future, of nothing but the tasks' own time.
    fn optimum(&self, wait_s: f64) -> f64 {
        let work_s: f64 = self.arrivals.iter().map(|one| f64::from(one.tasks) * f64::from(one.task_ms) / 1e3).sum();
        worker_seconds(&self.arrivals, work_s, wait_s, self.start_up_ms, self.args.slots)
    }

    /// KEDA's rule, with the same time to drain and workers that start as quickly; neither images nor nodes have to be
    /// fetched, and what is let go drains.
    fn keda(&self, rule: fn(u32, u32, u64, u32) -> QueueRule) -> Paid {
        let &BurstsArgs { max, slots, drain_time, task_ms, seed, .. } = self.args;
        let outcome = simulate(Setup {
            arrivals: self.arrivals.clone(),
            scaler: Scaler::QueueLength(rule(max, slots, u64::from(drain_time) * 1_000, task_ms)),
            start_up_ms: self.start_up_ms,
            slots,
            varies: 0.0,
            owners: 1,
            loss: None,
            seed,
        });
        let wait_p95 = outcome.waits.quantile(0.95).unwrap_or(0.0);
        Paid { paid: outcome.paid_s, ratio: outcome.paid_s / self.optimum(wait_p95), wait_p95 }
    }
}

/// Submits runs when they are due.
async fn drive(
    state: &dyn State,
    live: &Live,
    args: &BurstsArgs,
    pool: &mut Pool,
    coming: &[Arrival],
) -> anyhow::Result<Vec<RunId>> {
    let began = Instant::now();
    let mut runs = Vec::new();
    for arrival in coming {
        loop {
            let due = Duration::from_secs_f64(arrival.at).saturating_sub(began.elapsed());
            pool.look()?;
            let (wanted, workers) = (pool.last(|said| said.wanted), pool.last(|said| said.live));
            let more = format!("{} workers, {} wanted", workers.unwrap_or(0), wanted.unwrap_or(0));
            let seconds = Some((began.elapsed().as_secs_f64(), args.seconds));
            let done = Some((runs.len() as u64, coming.len() as u64));
            live.show(&Now { done, seconds, more, ..Now::default() });
            if due.is_zero() {
                break;
            }
            tokio::time::sleep(due.min(Duration::from_millis(200))).await;
        }
        let plan = tasks(arrival.tasks, args.task_ms)?;
        runs.push(submit_once(state, plan, &format!("burst-{}-{}", runs.len(), wall_clock_us())).await?);
    }
    Ok(runs)
}

/// A step of tasks that take a while.
fn tasks(tasks: u32, ms: u32) -> anyhow::Result<gristmill_protocol::plan::Plan> {
    load::plan(&format!("name: burst\nsteps:\n  a: {{ noop: {{ tasks: {tasks}, ms: {ms} }} }}\n"))
}

/// From a run's submission until each of its tasks began, in microseconds; neither for the step that grows nor for the
/// join, which waits for the others.
async fn waits(state: &dyn State, runs: &[RunId]) -> anyhow::Result<Histogram> {
    let mut waits = Histogram::default();
    for run in runs {
        let created_us = state.run(*run).await?.map_or(0, |record| record.created.0 * 1_000);
        let spans = spans(state, *run).await?;
        let join = spans.iter().map(|span| span.task).max().unwrap_or(0);
        let children = spans.iter().filter(|span| span.task > 0 && span.task < join);
        children.for_each(|span| waits.record(span.started_us.saturating_sub(created_us)));
    }
    Ok(waits)
}

/// How long workers took from their start until they were ready, in the middle.
fn start_up(said: &[pool::Said]) -> f64 {
    let mut seconds = Vec::new();
    for ready in said.iter().filter(|one| one.event == "ready") {
        let started =
            said.iter().rev().find(|one| one.event == "started" && one.pid == ready.pid && one.at_ms <= ready.at_ms);
        seconds.extend(started.map(|started| (ready.at_ms - started.at_ms) as f64 / 1e3));
    }
    let middle = median(&seconds);
    if middle.is_finite() { middle } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_from_the_process_to_its_readiness() {
        let line = |event: &str, pid: u32, at_ms: u64| {
            let text = format!(r#"{{"at_ms": {at_ms}, "event": "{event}", "pid": {pid}, "live": 1, "worker": null}}"#);
            serde_json::from_str(&text).expect("a line")
        };
        let said = [line("started", 1, 100), line("started", 2, 200), line("ready", 2, 350), line("ready", 1, 350)];
        assert_eq!((start_up(&said), start_up(&said[..2])), (0.2, 0.0));
    }
}
