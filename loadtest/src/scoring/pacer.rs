//! When requests are due, and requests that are sent then: an open loop.
//!
//! Latency counts from when a request was *due*, not from when it was sent: what waits because all connections are busy,
//! or because the generator itself is late, has waited for its user too. A loop that counts from the sending leaves that
//! out ("coordinated omission") and looks best when the server is worst.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::load::Dice;

/// Moments at which requests are due, so many a second on average, with the gaps of independent users (Poisson).
#[derive(Clone, Debug)]
pub struct Schedule {
    dice: Dice,
    per_second: f64,
    at: f64,
    until: f64,
}

impl Schedule {
    pub fn new(per_second: f64, seconds: f64, seed: u64) -> Schedule {
        let mut dice = Dice::new(seed);
        // The first numbers of a small seed are small, too.
        (0..16).for_each(|_| _ = dice.below(2));
        Schedule { dice, per_second, at: 0.0, until: seconds }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        const FINE: u64 = 1 << 40;
        let share = (self.dice.below(FINE) + 1) as f64 / FINE as f64;
        self.at += -share.ln() / self.per_second;
        (self.at < self.until).then(|| Duration::from_secs_f64(self.at))
    }
}

/// Sends each moment when it has come. On a thread of its own: the runtime's timers are too coarse by a millisecond.
pub fn pace(schedule: Schedule, due: mpsc::UnboundedSender<Instant>) -> std::thread::JoinHandle<()> {
    let began = Instant::now();
    std::thread::spawn(move || {
        for at in schedule {
            let at = began + at;
            loop {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::park_timeout(left);
            }
            if due.send(at).is_err() {
                return;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    /// What one connection measures of a server that answers within a tenth of a millisecond but stands still once for a second,
    /// from the due time and from the sending.
    fn measure(schedule: Schedule) -> (Histogram, Histogram) {
        let (mut corrected, mut naive, mut free) = (Histogram::default(), Histogram::default(), 0u64);
        for due in schedule.map(|due| due.as_micros() as u64) {
            let sent = due.max(free);
            // It stands still from the fifth second to the sixth.
            let begins = if (5_000_000..6_000_000).contains(&sent) { 6_000_000 } else { sent };
            free = begins + 100;
            corrected.record(free - due);
            naive.record(free - sent);
        }
        (corrected, naive)
    }

    #[test]
    fn a_standstill_counts_for_all_who_waited() {
        let (corrected, naive) = measure(Schedule::new(500.0, 10.0, 3));
        // A tenth of the requests were due in the second of the standstill; each waited for the rest of it.
        assert!((450.0..650.0).contains(&corrected.ms(95.0)), "{}", corrected.ms(95.0));
        assert!(corrected.ms(99.0) > 850.0, "{}", corrected.ms(99.0));
        // The loop that counts from the sending has seen one slow answer.
        assert!(naive.ms(99.0) < 1.1, "{}", naive.ms(99.0));
        assert_eq!(corrected.count(), naive.count());
    }

    #[test]
    fn requests_come_as_from_independent_users() {
        let all: Vec<f64> = Schedule::new(1_000.0, 20.0, 1).map(|due| due.as_secs_f64()).collect();
        assert!((19_500..20_500).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential gap's standard deviation is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "{} {}", variance.sqrt(), mean);
        assert_eq!(all, Schedule::new(1_000.0, 20.0, 1).map(|due| due.as_secs_f64()).collect::<Vec<_>>());
    }
}
