//! Random runs: what is submitted in an execution.

use gristmill_protocol::fact::About;
use gristmill_protocol::pipeline::steps::When;
use gristmill_protocol::plan::{NamedLimit, Plan, PlanNeed, PlanStep};
use gristmill_protocol::{RunId, Shard};
use gristmill_scheduler::submit::Submission;
use serde_bytes::ByteBuf;

use crate::dice::Dice;
use crate::store::BEGIN;

/// The namespace of all runs.
pub const NAMESPACE: &str = "sim";
/// The pools of an execution.
pub const POOLS: [&str; 2] = ["default", "big"];

/// The shards that an execution uses: that of runs with a limit, and another.
pub fn shards() -> [Shard; 2] {
    let pinned = Shard::of_namespace(NAMESPACE);
    [pinned, Shard((pinned.0 + 1) % 16)]
}

/// What the runs of an execution may have.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub limit: usize,
    /// How many steps of a thousand name the limit.
    pub limited: u64,
    /// How many steps of a thousand expand.
    pub expands: u64,
    /// Whether a step kills whatever worker takes it.
    pub poison: bool,
}

/// A random submission, the `number`th of its execution.
pub fn submission(number: u64, shape: Shape, dice: &mut Dice) -> Submission {
    let plan = plan(number, shape, dice);
    let at = BEGIN.plus_ms(dice.below(1_000));
    // A key is made up until its run falls on a shard that the schedulers of the execution own.
    let mut key = number * 1_000;
    let falls_on = |key: u64| RunId::derive(at, NAMESPACE, &key.to_string(), None).shard();
    while plan.limits.is_empty() && !shards().contains(&falls_on(key)) {
        key += 1;
    }
    Submission {
        plan,
        about: About::default(),
        namespace: NAMESPACE.to_owned(),
        key: key.to_string(),
        is_callers_key: dice.chance(500),
        at,
    }
}

fn plan(number: u64, shape: Shape, dice: &mut Dice) -> Plan {
    let steps = dice.between(1, 6) as usize;
    let has_limit = dice.chance(600) && shape.limited > 0;
    let poison = (shape.poison && number == 0).then(|| dice.below(steps as u64) as usize);
    let step = |at: usize, dice: &mut Dice| {
        let levels = if dice.chance(shape.expands) { dice.between(1, 2) as u8 } else { 0 };
        PlanStep {
            name: format!("s{at}"),
            kind: "sim".to_owned(),
            payload: ByteBuf::from(vec![levels, u8::from(poison == Some(at)), number as u8, at as u8]),
            needs: (0..at as u16)
                .filter_map(
                    |step| if dice.chance(400) { Some(PlanNeed { step, output: dice.chance(500) }) } else { None },
                )
                .collect(),
            when: [When::Success, When::Success, When::Success, When::Failure, When::Always][dice.below(5) as usize],
            retries: dice.below(4) as u16,
            timeout_ms: dice.chance(400).then(|| dice.between(2_000, 12_000)),
            pool: POOLS[usize::from(dice.chance(250))].to_owned(),
            priority: dice.below(5) as i8 - 2,
            limits: if has_limit && dice.chance(shape.limited) { vec![0] } else { Vec::new() },
        }
    };
    Plan {
        pipeline: "sim".to_owned(),
        weight: dice.between(1, 3) as u16,
        limits: if has_limit {
            vec![NamedLimit { name: "scarce".to_owned(), max: shape.limit as u32 }]
        } else {
            Vec::new()
        },
        steps: (0..steps).map(|at| step(at, dice)).collect(),
    }
}
