//! What arrives when.

use crate::dice::Dice;

/// A run that is submitted: so many equal tasks side by side, and what each takes on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at_ms: u64,
    pub tasks: u32,
    pub task_ms: u32,
}

/// A shape of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Many tasks at once, again and again, with nothing in between.
    Burst,
    /// From nothing to the most and back, evenly.
    Ramp,
    /// Up and down like the sun, twice.
    DayAndNight,
    /// A trickle, and then very many at once.
    QuietThenSpike,
}

impl Shape {
    pub const ALL: [Shape; 4] = [Shape::Burst, Shape::Ramp, Shape::DayAndNight, Shape::QuietThenSpike];

    /// As figures are named.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Burst => "burst",
            Shape::Ramp => "ramp",
            Shape::DayAndNight => "day_and_night",
            Shape::QuietThenSpike => "quiet_then_spike",
        }
    }
}

/// An hour of a shape that keeps up to `workers` slots busy, with tasks of `task_ms` each on average.
pub fn hour(shape: Shape, workers: u32, task_ms: u32, seed: u64) -> Vec<Arrival> {
    const HOUR_S: u64 = 3_600;
    let mut dice = Dice::new(seed);
    // Tasks a second that keep all slots busy.
    let full = f64::from(workers) * 1_000.0 / f64::from(task_ms);
    let mut arrivals = Vec::new();
    let mut put = |at_ms: u64, tasks: f64| {
        if tasks >= 1.0 {
            arrivals.push(Arrival { at_ms, tasks: tasks as u32, task_ms });
        }
    };
    match shape {
        Shape::Burst => (0..6).for_each(|burst| put(burst * 600_000 + dice.below(60_000), full * 40.0)),
        Shape::QuietThenSpike => {
            (0..300).for_each(|at| put(at * 10_000 + dice.below(10_000), (full * 0.05).max(1.0)));
            put(3_100_000, full * 60.0);
        }
        Shape::Ramp | Shape::DayAndNight => {
            for second in 0..HOUR_S {
                let at = second as f64 / HOUR_S as f64;
                let share = match shape {
                    Shape::Ramp => 0.9 * (1.0 - (2.0 * at - 1.0).abs()),
                    _ => 0.45 - 0.4 * (at * 2.0 * std::f64::consts::TAU).cos(),
                };
                // A second's arrivals vary by a third about their mean.
                let tasks = share * full * (2.0 / 3.0 + dice.unit() * 2.0 / 3.0);
                put(second * 1_000 + dice.below(1_000), tasks + dice.unit());
            }
        }
    }
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    arrivals
}

/// A day of small runs: more by day than by night, mostly of a few tasks and sometimes of hundreds.
pub fn day(runs: u32, seed: u64) -> Vec<Arrival> {
    const DAY_MS: f64 = 86_400_000.0;
    let mut dice = Dice::new(seed);
    let mut arrivals: Vec<Arrival> = Vec::with_capacity(runs as usize);
    while arrivals.len() < runs as usize {
        let at = dice.unit();
        // Refused more often by night.
        if dice.unit() > 0.6 - 0.4 * (at * std::f64::consts::TAU).cos() {
            continue;
        }
        let tasks = if dice.unit() < 0.05 { 50 + dice.below(450) } else { 1 + dice.below(10) };
        let task_ms = dice.exponential(4_000.0).max(5.0);
        arrivals.push(Arrival { at_ms: (at * DAY_MS) as u64, tasks: tasks as u32, task_ms: task_ms as u32 });
    }
    arrivals.sort_by_key(|arrival| arrival.at_ms);
    arrivals
}
