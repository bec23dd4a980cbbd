//! What is submitted: pipelines of no-op steps of every shape.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use gristmill_backends::state::State;
use gristmill_protocol::fact::{About, Fact, JournalBody};
use gristmill_protocol::payload::plan_of;
use gristmill_protocol::plan::Plan;
use gristmill_protocol::{RunId, Timestamp, pipeline, wire};
use gristmill_scheduler::submit::{Submission, submit};

/// Journal entries read at a time.
const READ_MAX: usize = 256;

/// Repeatable numbers: xorshift64 by Marsaglia, "Xorshift RNGs", 2003, section 3.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // The state must not be zero; a multiplication by an odd number spreads small seeds.
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// The plan of a pipeline text.
pub fn plan(text: &str) -> anyhow::Result<Plan> {
    let pipeline = pipeline::check("load", text, &[]).map_err(|complaints| anyhow::anyhow!("{complaints}"))?;
    Ok(plan_of(&pipeline, "", ""))
}

/// One step that grows into so many no-op tasks.
pub fn fan_out(tasks: u32) -> anyhow::Result<Plan> {
    plan(&format!("name: fan-out\nsteps:\n  a: {{ noop: {{ tasks: {tasks} }} }}\n"))
}

/// So many no-op steps, each after the one before.
pub fn chain(steps: u32) -> anyhow::Result<Plan> {
    let step = |at: u32| match at.checked_sub(1) {
        None => "  s0: { noop: {} }\n".to_owned(),
        Some(before) => format!("  s{at}: {{ noop: {{}}, after: [s{before}] }}\n"),
    };
    plan(&format!("name: chain\nsteps:\n{}", (0..steps).map(step).collect::<String>()))
}

/// A run of some shape, and how many tasks it has about.
pub fn mixed(dice: &mut Dice, left: u64) -> anyhow::Result<(Plan, u64)> {
    let text = match dice.below(6) {
        // A large fan-out of nothing.
        0 => {
            let tasks = left.clamp(1, 2_000);
            return Ok((fan_out(tasks as u32)?, tasks + 2));
        }
        // Tasks that take a while, some of them longer than a lease is renewed.
        1 => {
            let (tasks, ms) = (1 + dice.below(20), 20 + dice.below(1_500));
            return Ok((
                plan(&format!("name: slow\nsteps:\n  a: {{ noop: {{ tasks: {tasks}, ms: {ms} }} }}\n"))?,
                tasks + 2,
            ));
        }
        2 => return Ok((chain(10)?, 10)),
        // A named limit, over all runs.
        3 => "name: limited\nlimits: { scarce: 2 }\nsteps:\n  a: { noop: { tasks: 12, ms: 30 }, limits: [scarce] }\n  b: { noop: {}, after: [a] }\n".to_owned(),
        // Two fan-outs, one after the other, and a step when all is over.
        4 => "name: two\nsteps:\n  a: { noop: { tasks: 300 } }\n  b: { noop: { tasks: 200, ms: 1 }, after: [a] }\n  c: { noop: {}, after: [b], when: always }\n".to_owned(),
        // A step that fails for good, what is skipped by it, and what runs because of it.
        _ => "name: fails\nsteps:\n  a: { noop: { fail: bad_input } }\n  b: { noop: {}, after: [a] }\n  c: { noop: { tasks: 40 }, after: [a], when: failure }\n".to_owned(),
    };
    let tasks = if text.contains("two") { 505 } else { 45 };
    Ok((plan(&text)?, tasks))
}

/// Submits a plan under a key: saying it again makes no second run.
pub async fn submit_under(state: &dyn State, plan: Plan, key: &str, at: Timestamp) -> anyhow::Result<RunId> {
    let submission = Submission {
        plan,
        about: About::default(),
        namespace: "load".to_owned(),
        key: key.to_owned(),
        is_callers_key: true,
        at,
    };
    Ok(submit(state, submission).await?.run)
}

/// Submits a plan once.
pub async fn submit_once(state: &dyn State, plan: Plan, key: &str) -> anyhow::Result<RunId> {
    submit_under(state, plan, key, wall_clock()).await
}

pub fn wall_clock() -> Timestamp {
    Timestamp(wall_clock_us() / 1_000)
}

/// Microseconds since the Unix epoch.
pub fn wall_clock_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// All facts of a run.
pub async fn facts(state: &dyn State, run: RunId) -> anyhow::Result<Vec<Fact>> {
    let (mut facts, mut position) = (Vec::new(), 0);
    loop {
        let entries = state.journal(run, position, READ_MAX).await?;
        for entry in &entries {
            let body: JournalBody = wire::decode("a journal entry", &entry.body).context("a journal is damaged")?;
            facts.extend(body.facts);
            position = entry.position;
        }
        if entries.len() < READ_MAX {
            return Ok(facts);
        }
    }
}

/// Waits until a run has ended, and asks often.
pub async fn wait_for_end(state: &dyn State, run: RunId, limit: std::time::Duration) -> anyhow::Result<()> {
    let end = std::time::Instant::now() + limit;
    loop {
        if let Ok(Some(record)) = state.run(run).await
            && record.status.is_some()
        {
            return Ok(());
        }
        anyhow::ensure!(std::time::Instant::now() < end, "{run} hasn't ended within {limit:?}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
