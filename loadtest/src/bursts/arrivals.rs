//! Loads that come and go: when how many tasks arrive.

use crate::load::Dice;

/// The shape of a load over its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Everything in a short while at the beginning.
    Burst,
    /// From nothing to the peak, evenly.
    Ramp,
    /// Two waves, with little between them.
    DayAndNight,
    /// A trickle, and three quarters on the peak in its last quarter.
    QuietThenSpike,
}

pub const SHAPES: [Shape; 4] = [Shape::Burst, Shape::Ramp, Shape::DayAndNight, Shape::QuietThenSpike];

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Shape::Burst => "burst",
            Shape::Ramp => "ramp",
            Shape::DayAndNight => "day-and-night",
            Shape::QuietThenSpike => "quiet-then-spike",
        }
    }

    /// The rate at a share of the time, as a share of the peak.
    fn rate(self, at: f64) -> f64 {
        match self {
            Shape::Burst => f64::from(at < 0.1),
            Shape::Ramp => at,
            Shape::DayAndNight => 0.05 + 0.95 * (std::f64::consts::PI * 2.0 * at).sin().powi(2),
            Shape::QuietThenSpike if (0.7..0.85).contains(&at) => 1.0,
            Shape::QuietThenSpike => 0.03,
        }
    }
}

/// A run that arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Seconds since the beginning.
    pub at: f64,
    pub tasks: u32,
}

/// Runs of `tasks` tasks each, whose tasks a second follow the shape up to `peak`. Repeatable from a seed.
///
/// Poisson by thinning (Lewis and Shedler 1979): candidates come at the peak's rate, and each is kept with the shape's
/// share at its time.
pub fn arrivals(shape: Shape, seconds: f64, peak: f64, tasks: u32, seed: u64) -> Vec<Arrival> {
    const MILLION: u64 = 1_000_000;
    let mut dice = Dice::new(seed);
    let mut share = move || (dice.below(MILLION) + 1) as f64 / MILLION as f64;
    // The first numbers of a small seed are small, too.
    (0..16).for_each(|_| _ = share());
    let (mut all, mut at) = (Vec::new(), 0.0);
    let per_second = peak / f64::from(tasks.max(1));
    loop {
        at += -share().ln() / per_second;
        if at >= seconds {
            return all;
        }
        if share() <= shape.rate(at / seconds) {
            all.push(Arrival { at, tasks });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_follow_their_shape_and_repeat() {
        for (shape, least, most) in [
            (Shape::Burst, 0.08, 0.12),
            (Shape::Ramp, 0.45, 0.55),
            (Shape::DayAndNight, 0.45, 0.6),
            (Shape::QuietThenSpike, 0.15, 0.2),
        ] {
            let all = arrivals(shape, 100.0, 1_000.0, 10, 7);
            assert_eq!(all, arrivals(shape, 100.0, 1_000.0, 10, 7));
            let share = all.iter().map(|one| f64::from(one.tasks)).sum::<f64>() / 100_000.0;
            assert!((least..most).contains(&share), "{shape:?}: {share}");
            assert!(all.windows(2).all(|pair| pair[0].at <= pair[1].at));
        }
        assert!(arrivals(Shape::Burst, 100.0, 1_000.0, 10, 7).iter().all(|one| one.at < 10.0));
    }
}
