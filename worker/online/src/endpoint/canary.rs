//! Whether a canary must be taken back, from what was seen of it and of the champion at the same time. Pure: no clock
//! and no chance in here.

use std::fmt;
use std::time::Duration;

/// Buckets of latency, each twice as wide as the one before; the first ends at one microsecond.
const BUCKETS: usize = 40;
/// How sure a rate must be: three standard deviations, so that one canary in some hundreds is taken back by chance.
const SURE: f64 = 3.0;

/// What was seen of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    pub requests: u64,
    /// Requests that failed by the model's fault.
    pub failed: u64,
    latency: [u64; BUCKETS],
    /// Rows that the other side scored too.
    pub compared: u64,
    pub disagreed: u64,
}

impl Default for Observed {
    fn default() -> Observed {
        Observed { requests: 0, failed: 0, latency: [0; BUCKETS], compared: 0, disagreed: 0 }
    }
}

/// From where on a canary is bad.
#[derive(Clone, Copy, Debug)]
pub struct CanaryLimits {
    /// Requests to see before any verdict.
    pub requests_min: u64,
    /// How much more often than the champion it may fail, as a part of requests.
    pub failures_over: f64,
    /// How many times the champion's p99 its own may be …
    pub latency_times: f64,
    /// … unless it is below this anyway.
    pub latency_free: Duration,
    /// The part of rows on which it may say something else than the champion.
    pub disagreement_max: f64,
}

impl Default for CanaryLimits {
    fn default() -> CanaryLimits {
        CanaryLimits {
            requests_min: 20,
            failures_over: 0.01,
            latency_times: 3.0,
            latency_free: Duration::from_millis(5),
            disagreement_max: 0.2,
        }
    }
}

/// Why a canary is taken back.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    Failures {
        canary: f64,
        champion: f64,
    },
    Latency {
        canary: Duration,
        champion: Duration,
    },
    Disagreement {
        part: f64,
        max: f64,
    },
    /// Another server, or a person, has taken it back.
    Told(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Failures { canary, champion } => {
                write!(f, "it fails at {:.1} % of requests, the champion at {:.1} %", canary * 100.0, champion * 100.0)
            }
            Reason::Latency { canary, champion } => {
                write!(f, "its p99 is about {canary:?}, the champion's {champion:?}")
            }
            Reason::Disagreement { part, max } => {
                write!(f, "it disagrees on {:.1} % of rows; the limit is {:.1} %", part * 100.0, max * 100.0)
            }
            Reason::Told(reason) => f.write_str(reason),
        }
    }
}

/// Why the canary must be taken back, if it must.
pub fn judge(canary: &Observed, champion: &Observed, limits: &CanaryLimits) -> Option<Reason> {
    if canary.requests < limits.requests_min {
        return None;
    }
    let champion_fails = part(champion.failed, champion.requests);
    if at_least(canary.failed, canary.requests) > champion_fails + limits.failures_over {
        return Some(Reason::Failures { canary: part(canary.failed, canary.requests), champion: champion_fails });
    }
    if at_least(canary.disagreed, canary.compared) > limits.disagreement_max {
        let part = part(canary.disagreed, canary.compared);
        return Some(Reason::Disagreement { part, max: limits.disagreement_max });
    }
    // A p99 of fewer is one request's latency.
    let enough = canary.requests >= 200 && champion.requests >= 200;
    let (slow, usual) = (canary.p99(), champion.p99());
    if enough && slow > limits.latency_free && slow.as_secs_f64() > usual.as_secs_f64() * limits.latency_times {
        return Some(Reason::Latency { canary: slow, champion: usual });
    }
    None
}

impl Observed {
    /// Adds a request.
    pub fn add(&mut self, took: Duration, failed: bool) {
        self.requests += 1;
        self.failed += u64::from(failed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.latency[bucket.min(BUCKETS - 1)] += 1;
    }

    /// Adds rows that both sides scored.
    pub fn compare(&mut self, rows: u64, disagreed: u64) {
        self.compared += rows;
        self.disagreed += disagreed;
    }

    /// What was seen in two times together.
    pub fn with(&self, other: &Observed) -> Observed {
        let mut sum = *self;
        sum.requests += other.requests;
        sum.failed += other.failed;
        sum.compared += other.compared;
        sum.disagreed += other.disagreed;
        sum.latency.iter_mut().zip(other.latency).for_each(|(to, from)| *to += from);
        sum
    }

    /// The upper end of the bucket that 99 of 100 requests stayed within.
    pub fn p99(&self) -> Duration {
        let all: u64 = self.latency.iter().sum();
        let mut rest = all - all / 100;
        for (at, count) in self.latency.iter().enumerate() {
            if rest <= *count {
                return Duration::from_micros(1 << at);
            }
            rest -= count;
        }
        Duration::ZERO
    }
}

fn part(some: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

/// The lower end of Wilson's interval for a part: what it surely is at least.
fn at_least(some: u64, all: u64) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let (n, p) = (all as f64, part(some, all));
    let middle = p + SURE * SURE / (2.0 * n);
    let spread = SURE * (p * (1.0 - p) / n + SURE * SURE / (4.0 * n * n)).sqrt();
    (middle - spread) / (1.0 + SURE * SURE / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(requests: u64, failed: u64, ms: u64) -> Observed {
        let mut observed = Observed::default();
        (0..requests).for_each(|at| observed.add(Duration::from_millis(ms), at < failed));
        observed
    }

    #[test]
    fn nothing_is_said_before_enough_was_seen() {
        let limits = CanaryLimits::default();
        assert_eq!(judge(&observed(19, 19, 1), &Observed::default(), &limits), None);
        let expected = Some(Reason::Failures { canary: 1.0, champion: 0.0 });
        assert_eq!(judge(&observed(20, 20, 1), &Observed::default(), &limits), expected);
    }

    #[test]
    fn a_few_failures_are_chance_and_many_are_not() {
        let limits = CanaryLimits::default();
        assert_eq!(judge(&observed(100, 2, 1), &observed(1_000, 0, 1), &limits), None);
        assert!(judge(&observed(1_000, 50, 1), &observed(1_000, 0, 1), &limits).is_some());
        // Where the champion fails as often, the canary isn't to blame.
        assert_eq!(judge(&observed(1_000, 50, 1), &observed(1_000, 50, 1), &limits), None);
    }

    #[test]
    fn a_slow_canary_is_taken_back_and_a_fast_one_may_vary() {
        let limits = CanaryLimits::default();
        let reason = judge(&observed(300, 0, 40), &observed(300, 0, 4), &limits).unwrap();
        assert_eq!(reason.to_string(), "its p99 is about 65.536ms, the champion's 4.096ms");
        assert_eq!(judge(&observed(300, 0, 4), &observed(300, 0, 0), &limits), None);
        assert_eq!(judge(&observed(100, 0, 40), &observed(300, 0, 4), &limits), None);
    }

    #[test]
    fn disagreement_over_the_limit_takes_it_back() {
        let limits = CanaryLimits::default();
        let mut canary = observed(100, 0, 1);
        canary.compare(100, 30);
        assert_eq!(judge(&canary, &observed(100, 0, 1), &limits), None);
        canary.compare(900, 270);
        let reason = judge(&canary, &observed(100, 0, 1), &limits).unwrap();
        assert_eq!(reason.to_string(), "it disagrees on 30.0 % of rows; the limit is 20.0 %");
    }

    #[test]
    fn p99_leaves_out_one_in_a_hundred() {
        let mut observed = observed(99, 0, 1);
        observed.add(Duration::from_secs(1), false);
        assert_eq!(observed.p99(), Duration::from_micros(1_024));
        observed.add(Duration::from_secs(1), false);
        assert_eq!(observed.p99(), Duration::from_micros(1 << 20));
    }
}
