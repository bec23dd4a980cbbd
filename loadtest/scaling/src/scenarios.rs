//! What is asked of the simulation: loads under several rules, growth, large clusters, a loss.

use gristmill_pools::policy::Rules;

use crate::loads::{Arrival, Shape, day, hour};
use crate::optimum;
use crate::scaler::{QueueRule, Scaler};
use crate::world::{Loss, Outcome, Setup, simulate};

/// Seconds in which each rule is to work off a backlog.
pub const DRAIN_MS: u64 = 30_000;
/// A container's start on a machine that is there and has its image.
pub const START_UP_MS: u64 = 10_000;
/// A task of the loads, on average.
pub const TASK_MS: u32 = 2_000;

/// One load under one rule.
#[derive(Clone, Debug)]
pub struct Compared {
    pub shape: Shape,
    /// `policy`, `keda`, `keda_quick`.
    pub rule: &'static str,
    pub outcome: Outcome,
    /// The least that could be paid for the waits that this rule gave.
    pub optimum_s: f64,
}

impl Compared {
    /// Worker-seconds for one of the optimum.
    pub fn ratio(&self) -> f64 {
        self.outcome.paid_s / self.optimum_s
    }
}

/// An hour of each shape on up to `workers` workers, under the policy and under KEDA's rule, as it comes and set quick.
pub fn rules(workers: u32, seed: u64, mut each: impl FnMut(&Compared)) -> Vec<Compared> {
    let policy = Rules {
        min: 0,
        max: workers,
        slots: 1,
        drain_ms: DRAIN_MS,
        start_up_ms: START_UP_MS,
        idle_ms: Rules::idle_ms_for(START_UP_MS),
    };
    let scalers = [
        ("policy", Scaler::Policy(policy)),
        ("keda", Scaler::QueueLength(QueueRule::usual(workers, 1, DRAIN_MS, TASK_MS))),
        ("keda_quick", Scaler::QueueLength(QueueRule::quick(workers, 1, DRAIN_MS, TASK_MS))),
    ];
    let mut all = Vec::new();
    for shape in Shape::ALL {
        for (rule, scaler) in scalers.clone() {
            let arrivals = hour(shape, workers, TASK_MS, seed);
            let setup = setup(arrivals.clone(), scaler, seed);
            let outcome = simulate(setup);
            let wait_s = outcome.waits.quantile(0.95).unwrap_or(0.0);
            let optimum_s = optimum::worker_seconds(&arrivals, outcome.work_s, wait_s, START_UP_MS, 1);
            let compared = Compared { shape, rule, outcome, optimum_s };
            each(&compared);
            all.push(compared);
        }
    }
    all
}

/// What one size of cluster costs.
#[derive(Clone, Debug)]
pub struct Grown {
    /// What grows: `tasks`, `workers`, `owners`.
    pub what: &'static str,
    pub size: u64,
    pub tasks: u64,
    /// Real microseconds of the core for each task.
    pub core_us: f64,
    /// Real milliseconds of the longest turn of a core.
    pub longest_turn_ms: f64,
    /// Imagined seconds.
    pub ended_s: f64,
    pub passed: bool,
}

/// How the cost of a task grows with tasks, workers and schedulers; `largest` bounds the tasks of a run of it.
pub fn growth(largest: u32, seed: u64, mut each: impl FnMut(&Grown)) -> Vec<Grown> {
    let powers = |most: u64| std::iter::successors(Some(1_u64), |at| Some(at * 10)).take_while(move |at| *at <= most);
    let tasks = powers(largest.into()).filter(|tasks| *tasks >= 1_000).map(|tasks| ("tasks", tasks, tasks, 1_000, 1));
    let middle = u64::from(largest / 10).max(1_000);
    let workers = powers(10_000).map(|workers| ("workers", workers, middle, workers, 1));
    let owners = [1, 4, 16, 64].map(|owners| ("owners", owners, middle, 1_000, owners));
    let mut all = Vec::new();
    for (what, size, tasks, workers, owners) in tasks.chain(workers).chain(owners) {
        let arrivals = runs_of(tasks, 10_000, 200);
        let fixed = Scaler::Fixed(workers as u32);
        let outcome = simulate(Setup { owners: owners as usize, ..setup(arrivals, fixed, seed) });
        let grown = Grown {
            what,
            size,
            tasks: outcome.tasks,
            core_us: outcome.core.as_secs_f64() * 1e6 / outcome.tasks.max(1) as f64,
            longest_turn_ms: outcome.longest_turn.as_secs_f64() * 1e3,
            ended_s: outcome.ended_s,
            passed: is_well(&outcome),
        };
        each(&grown);
        all.push(grown);
    }
    all
}

/// Many tasks on many workers, a third of which may be lost half way.
pub fn large(tasks: u32, workers: u32, loses_a_third: bool, seed: u64) -> Outcome {
    let (task_ms, owners) = (2_000, 4);
    let half_way = u64::from(tasks) * u64::from(task_ms) / u64::from(workers.max(1)) / 2 + START_UP_MS;
    let loss = loses_a_third.then_some(Loss { at_ms: half_way, every: 3 });
    let arrivals = runs_of(tasks.into(), 50_000, task_ms);
    simulate(Setup { owners, loss, ..setup(arrivals, Scaler::Fixed(workers), seed) })
}

/// A day of many small runs under the policy, with a third of the workers lost at noon.
pub fn full_day(runs: u32, workers: u32, seed: u64) -> (Outcome, f64) {
    let rules = Rules {
        min: 0,
        max: workers,
        slots: 1,
        drain_ms: DRAIN_MS,
        start_up_ms: START_UP_MS,
        idle_ms: Rules::idle_ms_for(START_UP_MS),
    };
    let arrivals = day(runs, seed);
    let loss = Some(Loss { at_ms: 43_200_000, every: 3 });
    let outcome = simulate(Setup { owners: 4, loss, ..setup(arrivals.clone(), Scaler::Policy(rules), seed) });
    let wait_s = outcome.waits.quantile(0.95).unwrap_or(0.0);
    let optimum_s = optimum::worker_seconds(&arrivals, outcome.work_s, wait_s, START_UP_MS, 1);
    (outcome, optimum_s)
}

/// Whether nothing was lost, done twice or begun too early.
pub fn is_well(outcome: &Outcome) -> bool {
    outcome.twice == 0 && outcome.unended == 0 && outcome.early == 0
}

fn setup(arrivals: Vec<Arrival>, scaler: Scaler, seed: u64) -> Setup {
    // Half of a task's time is sure, and half varies.
    Setup { arrivals, scaler, start_up_ms: START_UP_MS, slots: 1, varies: 0.5, owners: 1, loss: None, seed }
}

/// So many tasks in runs of `each` at the most, all submitted at once.
fn runs_of(tasks: u64, each: u64, task_ms: u32) -> Vec<Arrival> {
    let whole = (0..tasks / each).map(|_| each);
    let rest = Some(tasks % each).filter(|rest| *rest > 0);
    whole.chain(rest).map(|tasks| Arrival { at_ms: 0, tasks: tasks as u32, task_ms }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_pays_little_more_than_who_knows_the_future_and_less_than_kedas_rule() {
        let compared = rules(200, 7, |_| {});
        for of_shape in compared.chunks(3) {
            let [policy, keda, quick] = of_shape else { panic!("three rules a shape") };
            assert!(is_well(&policy.outcome) && is_well(&keda.outcome));
            assert_eq!(policy.outcome.left_workers, 0, "{:?} doesn't go back to nothing", policy.shape);
            for rule in [keda, quick] {
                assert!(policy.outcome.paid_s < rule.outcome.paid_s, "{:?}, {}", policy.shape, rule.rule);
            }
            // A ramp needs each worker once: more starts would be flapping.
            let Outcome { starts, most_workers, .. } = policy.outcome;
            assert!(policy.shape != Shape::Ramp || starts < u64::from(most_workers) * 3 / 2, "{starts} {most_workers}");
            // Of a trickle on few workers the bound knows too little: it divides workers.
            let most = if policy.shape == Shape::QuietThenSpike { 1.20 } else { 1.15 };
            assert!(policy.ratio() < most, "{:?}: {}", policy.shape, policy.ratio());
        }
    }

    #[test]
    fn a_third_of_the_workers_may_go_and_nothing_is_lost_or_done_twice() {
        let (whole, less) = (large(20_000, 500, false, 3), large(20_000, 500, true, 3));
        for outcome in [&whole, &less] {
            assert_eq!((outcome.twice, outcome.unended, outcome.early), (0, 0, 0));
        }
        assert_eq!((whole.tasks, less.tasks), (20_001, 20_001));
        assert!(less.lost_workers > 150 && less.ended_s > whole.ended_s);
        // A lease and two tasks; a start and a look.
        let (recovered, replaced) = (less.recovered_s.expect("recovers"), less.replaced_s.expect("is replaced"));
        assert!((5.0..30.0).contains(&recovered) && (10.0..11.0).contains(&replaced), "{recovered} {replaced}");
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        let told = |seed| {
            let (outcome, optimum_s) = full_day(300, 50, seed);
            assert!(is_well(&outcome));
            (outcome.paid_s, outcome.starts, outcome.waits, outcome.workers, optimum_s.to_bits())
        };
        assert_eq!(told(5), told(5));
        assert!(told(5) != told(6));
    }

    #[test]
    fn schedulers_share_the_work_and_all_of_it_ends() {
        for grown in growth(10_000, 1, |_| {}) {
            assert!(grown.passed, "{grown:?}");
        }
    }
}
