//! One model version in memory: its predictor, the requests that wait for it, and how it has fared.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::cost::Cost;
use crate::deadline::Deadline;
use crate::faces::v2::metadata::ModelCounts;
use crate::predictor::{PredictError, Predictor};
use crate::refusal::Refusal;
use crate::rows::{Predictions, Rows};

/// What a request got, and where its time went.
#[derive(Clone, Debug)]
pub struct Scored {
    pub predictions: Predictions,
    pub waited: Duration,
    pub predicted: Duration,
}

/// A request that waits.
pub(super) struct Job {
    pub rows: Rows,
    pub deadline: Deadline,
    pub queued: Instant,
    /// What was before it.
    pub backlog: Duration,
    /// What it adds to the backlog until it is done.
    pub estimate: Duration,
    pub reply: oneshot::Sender<Result<Scored, Refusal>>,
}

/// A model version that serves.
pub struct Lane {
    name: Arc<str>,
    version: u64,
    predictor: Arc<dyn Predictor>,
    pub(super) cost: Cost,
    waiting: Mutex<VecDeque<Job>>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    rows: AtomicU64,
    batches: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    queue_ns: AtomicU64,
    predict_ns: AtomicU64,
    last_ms: AtomicU64,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({} {})", self.name, self.version)
    }
}

impl Lane {
    pub fn new(name: Arc<str>, version: u64, predictor: Arc<dyn Predictor>) -> Lane {
        let (cost, waiting, counts) = Default::default();
        Lane { name, version, predictor, cost, waiting, counts }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn predictor(&self) -> &dyn Predictor {
        &*self.predictor
    }

    /// How it has fared since it was loaded.
    pub fn counts(&self) -> ModelCounts {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (queue_ns, predict_ns) = (read(&self.counts.queue_ns), read(&self.counts.predict_ns));
        ModelCounts {
            rows: read(&self.counts.rows),
            batches: read(&self.counts.batches),
            succeeded: read(&self.counts.succeeded),
            failed: read(&self.counts.failed),
            request_ns: queue_ns + predict_ns,
            queue_ns,
            predict_ns,
            last_ms: read(&self.counts.last_ms),
        }
    }

    /// Predicts now, on this thread.
    pub(super) fn predict(&self, rows: &Rows) -> Result<(Predictions, Duration), PredictError> {
        let start = Instant::now();
        let predictions = guarded(&*self.predictor, rows)?;
        let took = start.elapsed();
        self.cost.learn(rows.len(), took);
        self.counts.batches.fetch_add(1, Ordering::Relaxed);
        self.counts.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.counts.predict_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        Ok((predictions, took))
    }

    /// Counts a request's end.
    pub(super) fn count(&self, result: Result<Duration, &Refusal>) {
        match result {
            Ok(waited) => {
                self.counts.succeeded.fetch_add(1, Ordering::Relaxed);
                self.counts.queue_ns.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
            }
            Err(_) => drop(self.counts.failed.fetch_add(1, Ordering::Relaxed)),
        }
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.counts.last_ms.store(u64::try_from(now_ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn push(&self, job: Job) {
        self.lock().push_back(job);
    }

    /// Takes whatever waits, up to `rows_max`, leaving a fair share for `others` who have nothing to do. The first
    /// request is taken whatever its size.
    pub(super) fn take(&self, rows_max: usize, others: usize) -> Vec<Job> {
        let mut waiting = self.lock();
        let all: usize = waiting.iter().map(|job| job.rows.len()).sum();
        let share = all.div_ceil(others + 1).min(rows_max);
        let mut rows = 0;
        let mut batch = Vec::new();
        while let Some(job) = waiting.pop_front_if(|job| rows == 0 || rows + job.rows.len() <= share) {
            rows += job.rows.len();
            batch.push(job);
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // Nothing is left half-done under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Predictions, whatever the model does: a panic, or a wrong number of them, is its failure.
pub fn guarded(predictor: &dyn Predictor, rows: &Rows) -> Result<Predictions, PredictError> {
    let failed = |text: &str| Err(PredictError::Failed(text.to_owned()));
    match catch_unwind(AssertUnwindSafe(|| predictor.predict(rows))) {
        Ok(Ok(predictions)) if predictions.is_of(rows.len()) => Ok(predictions),
        Ok(Ok(_)) => failed("the model gave another number of predictions than there are rows"),
        Ok(Err(error)) => Err(error),
        Err(_) => failed("the model panicked; the log has the reason"),
    }
}
