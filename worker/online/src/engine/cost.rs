//! How long a model takes for a number of rows: so much a call and so much a row, learned from the last calls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The weight of what was known before, with each call. About the last 50 calls count.
const KEEP: f64 = 0.98;
/// A call that took longer than this many times its estimate counts as this many: the thread was probably
/// interrupted. A model that has become slow is known as such after a few calls still.
const SURPRISE_MAX: f64 = 4.0;
/// Nanoseconds that a call may take without being a surprise.
const SURPRISE_FREE_NS: f64 = 20_000.0;
/// No estimate yet.
const UNKNOWN: u64 = u64::MAX;

/// The estimate, read without a lock.
#[derive(Debug)]
pub struct Cost {
    sums: Mutex<Sums>,
    /// Nanoseconds a call.
    call_ns: AtomicU64,
    /// Nanoseconds a row.
    row_ns: AtomicU64,
}

/// Weighted sums of calls; n is rows and t is nanoseconds.
#[derive(Debug, Default)]
struct Sums {
    weight: f64,
    n: f64,
    nn: f64,
    t: f64,
    nt: f64,
}

impl Default for Cost {
    fn default() -> Cost {
        Cost { sums: Mutex::default(), call_ns: AtomicU64::new(0), row_ns: AtomicU64::new(UNKNOWN) }
    }
}

impl Cost {
    /// What a call with so many rows takes; none before the first call.
    pub fn estimate(&self, rows: usize) -> Option<Duration> {
        let row_ns = self.row_ns.load(Ordering::Relaxed);
        if row_ns == UNKNOWN {
            return None;
        }
        let all = row_ns.saturating_mul(rows as u64).saturating_add(self.call_ns.load(Ordering::Relaxed));
        Some(Duration::from_nanos(all))
    }

    /// Learns from a call. Calls that end at the same time as another may be left out.
    pub fn learn(&self, rows: usize, took: Duration) {
        let Ok(mut sums) = self.sums.try_lock() else { return };
        let mut t = took.as_nanos() as f64;
        if let Some(estimate) = self.estimate(rows) {
            t = t.min(SURPRISE_MAX * estimate.as_nanos() as f64 + SURPRISE_FREE_NS);
        }
        let (call_ns, row_ns) = sums.add(rows as f64, t);
        self.call_ns.store(call_ns as u64, Ordering::Relaxed);
        self.row_ns.store(row_ns as u64, Ordering::Relaxed);
    }
}

impl Sums {
    /// Adds a call and returns the line through all: nanoseconds a call and a row.
    fn add(&mut self, n: f64, t: f64) -> (f64, f64) {
        for sum in [&mut self.weight, &mut self.n, &mut self.nn, &mut self.t, &mut self.nt] {
            *sum *= KEEP;
        }
        self.weight += 1.0;
        self.n += n;
        self.nn += n * n;
        self.t += t;
        self.nt += n * t;
        let spread = self.weight * self.nn - self.n * self.n;
        // Calls that all have about the same rows say nothing of a call without any.
        if spread < 0.01 * self.weight * self.nn {
            return (0.0, self.t / self.n.max(1.0));
        }
        let row = ((self.weight * self.nt - self.n * self.t) / spread).max(0.0);
        let call = ((self.t - row * self.n) / self.weight).max(0.0);
        (call, row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_what_a_call_and_a_row_take() {
        let cost = Cost::default();
        assert_eq!(cost.estimate(1), None);
        for rows in (1..40).cycle().take(400) {
            cost.learn(rows, Duration::from_nanos(50_000 + 1_000 * rows as u64));
        }
        let close = |rows, expected: f64| {
            let estimate = cost.estimate(rows).unwrap().as_nanos() as f64;
            assert!((estimate / expected - 1.0).abs() < 0.02, "{estimate} for {expected}");
        };
        close(1, 51_000.0);
        close(100, 150_000.0);
    }

    #[test]
    fn one_interrupted_call_is_hardly_noticed_and_a_slow_model_is() {
        let cost = Cost::default();
        (0..100).for_each(|_| cost.learn(1, Duration::from_micros(10)));
        cost.learn(1, Duration::from_millis(50));
        assert!(cost.estimate(1).unwrap() < Duration::from_micros(12));
        (0..200).for_each(|_| cost.learn(1, Duration::from_millis(50)));
        assert!(cost.estimate(1).unwrap() > Duration::from_millis(25));
    }
}
