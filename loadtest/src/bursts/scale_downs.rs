//! Many scale-downs under load: a pool is made to grow and shrink again and again while work goes on, and nothing that
//! has begun may be killed, repeated or lost.

use std::time::{Duration, Instant};

use anyhow::ensure;
use gristmill_backends::state::State;

use super::pool::Pool;
use super::{BurstsArgs, PATIENCE, tasks};
use crate::cluster::Program;
use crate::live::{Live, Now};
use crate::load::{submit_once, wait_for_end, wall_clock_us};
use crate::outcome::Found;
use crate::verdict::judge;

/// Seconds of each wave: half of it with work for all workers, half with work for one.
const WAVE: f64 = 6.0;
/// Work comes in so many portions a second, so that there is some at every scale-down.
const PORTIONS: f64 = 5.0;
/// A scale-down takes at most so long on average, or the pool doesn't scale.
const SECONDS_A_SCALE_DOWN: u64 = 20;

/// Waves of work until the pool has let go of as many workers as was asked for.
pub async fn scale_downs(
    program: &Program,
    state: &dyn State,
    live: &Live,
    args: &BurstsArgs,
    found: &mut Found,
) -> anyhow::Result<()> {
    live.phase("scale-downs");
    // A pool that reacts quickly: what is tested is the draining, not the policy.
    let quick = BurstsArgs { idle: None, drain_time: 1, ..args.clone() };
    let mut pool = Pool::start(program, &quick, "pool-scale-downs")?;
    let (began, limit) = (Instant::now(), Duration::from_secs(60 + args.scale_downs * SECONDS_A_SCALE_DOWN));
    let per_second = f64::from(args.max * args.slots) / (f64::from(args.task_ms) / 1e3);
    let mut runs = Vec::new();
    while pool.scale_downs() < args.scale_downs {
        ensure!(began.elapsed() < limit, "{} scale-downs in {limit:?}: the pool doesn't scale", pool.scale_downs());
        let is_high = (began.elapsed().as_secs_f64() / WAVE).fract() < 0.5;
        let share = if is_high { 0.9 } else { 0.5 / f64::from(args.max) };
        let count = ((per_second * share / PORTIONS) as u32).max(1);
        let key = format!("wave-{}-{}", runs.len(), wall_clock_us());
        runs.push(submit_once(state, tasks(count, args.task_ms)?, &key).await?);
        let done = Some((pool.scale_downs().min(args.scale_downs), args.scale_downs));
        let more = format!("{} workers", pool.last(|said| said.live).unwrap_or(0));
        live.show(&Now { done, more, ..Now::default() });
        tokio::time::sleep(Duration::from_secs_f64(1.0 / PORTIONS)).await;
        pool.look()?;
    }
    for run in &runs {
        wait_for_end(state, *run, PATIENCE).await?;
    }
    pool.end().await?;
    let judged = judge(state, runs.iter().copied()).await?;
    let lost = pool.last(|said| said.lost).unwrap_or(0);
    found.count("scale_downs", pool.scale_downs(), "");
    found.lower("scale_downs_tasks_killed", judged.lost_workers as f64, "");
    found.lower("scale_downs_tasks_recorded_twice", judged.recorded_twice as f64, "");
    found.lower("scale_downs_tasks_lost", judged.lost as f64, "");
    found.lower("scale_downs_workers_lost", lost as f64, "");
    found.count("scale_downs_tasks", judged.tasks, "");
    found.count("scale_downs_attempts_given_back", judged.returned, "");
    judged.examples.iter().for_each(|example| found.note(format!("wrong: {example}")));
    let is_right = judged.is_right() && judged.lost_workers == 0 && lost == 0;
    found.passed = Some(found.passed != Some(false) && is_right);
    Ok(())
}
