//! Scaling past this machine, simulated: what is paid for loads that come and go, what a task costs as clusters grow, and
//! what a large cluster does when a third of it is gone.

use gristmill_scaling::scenarios::{Compared, Grown, full_day, growth, is_well, large, rules};
use gristmill_scaling::{Outcome, Waits};

use crate::live::Live;
use crate::outcome::{Better, Distribution, Found, PERCENTILES, Series};

#[derive(Clone, Debug, clap::Args, serde::Serialize)]
pub struct ScalingArgs {
    /// What is simulated.
    #[arg(long, value_enum, default_value_t = Part::All)]
    pub part: Part,
    /// Workers there are at the most, where loads come and go.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub workers: u32,
    /// Tasks of the largest runs.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    pub tasks: u32,
    /// Runs of a day.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub runs: u32,
    /// The same seed gives the same outcome, but for the measured cost of the core.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    All,
    /// An hour of bursts, of a ramp, of day and night, of quiet and a spike, under the policy and under KEDA's rule.
    Rules,
    /// The cost of a task as tasks, workers and schedulers grow.
    Growth,
    /// Ten thousand workers, and the loss of a third of them.
    Large,
    /// A day of many runs, and the loss of a third of the workers at noon.
    Day,
}

/// Simulates in this process. No servers are needed.
pub fn scaling(live: &Live, args: &ScalingArgs) -> Found {
    let mut found = Found { passed: Some(true), ..Found::default() };
    let asked = |part| args.part == Part::All || args.part == part;
    if asked(Part::Rules) {
        live.phase("an hour of each load");
        rules(args.workers, args.seed, |compared| {
            live.say(&format!(
                "{} under {}: {:.3} of the optimum",
                compared.shape.name(),
                compared.rule,
                compared.ratio()
            ));
            tell_rule(&mut found, compared);
        });
    }
    if asked(Part::Growth) {
        live.phase("growth");
        let all = growth(args.tasks, args.seed, |grown| {
            live.say(&format!("{} {}: {:.2} µs a task", grown.size, grown.what, grown.core_us));
        });
        tell_growth(&mut found, &all);
    }
    if asked(Part::Large) {
        for (name, loses) in [("large", false), ("large_loss", true)] {
            live.phase(if loses { "a large cluster loses a third" } else { "a large cluster" });
            tell(&mut found, name, &large(args.tasks, 10_000, loses, args.seed));
        }
    }
    if asked(Part::Day) {
        live.phase("a day");
        let (outcome, optimum_s) = full_day(args.runs, args.workers, args.seed);
        found.figure("day_paid_ratio", outcome.paid_s / optimum_s, "×", Some(Better::Lower));
        found.series.push(workers_over_time("day_workers", &outcome));
        tell(&mut found, "day", &outcome);
    }
    found.notes.push(
        "the optimum is an estimate of what who knows the future would pay: see loadtest/scaling/src/optimum.rs"
            .to_owned(),
    );
    found
}

fn tell_rule(found: &mut Found, compared: &Compared) {
    let name = |figure: &str| format!("{}_{}_{figure}", compared.shape.name(), compared.rule);
    let (outcome, better) = (&compared.outcome, Some(Better::Lower));
    found.figure(&name("paid_worker_seconds"), outcome.paid_s, "s", better);
    found.figure(&name("paid_ratio"), compared.ratio(), "×", better);
    for (figure, share) in [("wait_p50_seconds", 0.5), ("wait_p95_seconds", 0.95)] {
        found.figure(&name(figure), outcome.waits.quantile(share).unwrap_or(0.0), "s", better);
    }
    found.series.push(workers_over_time(&name("workers"), outcome));
    judge(found, &name("load"), outcome);
    if compared.rule == "policy" && outcome.left_workers > 0 {
        found.notes.push(format!("{}: {} workers are left", compared.shape.name(), outcome.left_workers));
        found.passed = Some(false);
    }
}

fn tell_growth(found: &mut Found, all: &[Grown]) {
    for what in ["tasks", "workers", "owners"] {
        let of = || all.iter().filter(|grown| grown.what == what);
        let points = |value: fn(&Grown) -> f64| of().map(|grown| (grown.size as f64, value(grown))).collect();
        let series = [
            (format!("core_time_by_{what}"), "µs", points(|grown| grown.core_us)),
            (format!("longest_turn_by_{what}"), "ms", points(|grown| grown.longest_turn_ms)),
        ];
        for (name, unit, points) in series {
            found.series.push(Series { name, unit: unit.to_owned(), x_unit: what.to_owned(), points });
        }
        for grown in of() {
            let name = format!("core_microseconds_a_task_at_{}_{what}", grown.size);
            found.figure(&name, grown.core_us, "µs", Some(Better::Lower));
            if !grown.passed {
                found.notes.push(format!("{} {what}: not all of it ended, once each", grown.size));
                found.passed = Some(false);
            }
        }
    }
}

fn tell(found: &mut Found, name: &str, outcome: &Outcome) {
    found.figure(&format!("{name}_tasks"), outcome.tasks as f64, "", None);
    found.figure(&format!("{name}_imagined_seconds"), outcome.ended_s, "s", Some(Better::Lower));
    found.figure(&format!("{name}_lost_workers"), outcome.lost_workers as f64, "", None);
    for (what, seconds) in [("recovery", outcome.recovered_s), ("replacement", outcome.replaced_s)] {
        if let Some(seconds) = seconds {
            found.figure(&format!("{name}_{what}_seconds"), seconds, "s", Some(Better::Lower));
        }
    }
    let core_us = outcome.core.as_secs_f64() * 1e6 / outcome.tasks.max(1) as f64;
    found.figure(&format!("{name}_core_microseconds_a_task"), core_us, "µs", Some(Better::Lower));
    found.distributions.push(waits(&format!("{name}_wait"), &outcome.waits));
    judge(found, name, outcome);
}

fn judge(found: &mut Found, name: &str, outcome: &Outcome) {
    if is_well(outcome) {
        return;
    }
    let Outcome { twice, unended, early, .. } = outcome;
    found.notes.push(format!("{name}: {twice} recorded twice, {unended} runs not ended, {early} begun too early"));
    found.passed = Some(false);
}

fn waits(name: &str, waits: &Waits) -> Distribution {
    let at = |percent: f64| Some((percent, waits.quantile(percent / 100.0)?));
    let percentiles = PERCENTILES.into_iter().filter_map(at).collect();
    Distribution { name: name.to_owned(), unit: "s".to_owned(), percentiles }
}

fn workers_over_time(name: &str, outcome: &Outcome) -> Series {
    let (unit, x_unit) = ("workers".to_owned(), "s".to_owned());
    Series { name: name.to_owned(), unit, x_unit, points: outcome.workers.clone() }
}
