//! When a request's answer is no longer wanted.

use std::time::{Duration, Instant};

use crate::refusal::Refusal;

/// A point in time, and the limit that it came from.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    pub fn after(start: Instant, limit: Duration) -> Deadline {
        Deadline { at: start + limit, limit }
    }

    /// The deadline, or an earlier one when the limit from `start` is shorter.
    pub fn shortened(self, start: Instant, limit: Option<Duration>) -> Deadline {
        match limit {
            Some(limit) if start + limit < self.at => Deadline::after(start, limit),
            _ => self,
        }
    }

    pub fn at(self) -> Instant {
        self.at
    }

    /// Time that is left; zero when it has passed.
    pub fn left(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }

    pub fn refusal(self) -> Refusal {
        Refusal::TimedOut { limit: self.limit }
    }

    /// What the future gives, unless the deadline comes first.
    pub async fn bound<T>(self, future: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::time::timeout_at(self.at.into(), future).await.map_err(|_| self.refusal())
    }
}
