//! A model that scores what another one answers, on a thread of its own, and is compared with it.
//!
//! **Invariant:** the live path never waits for it: a request is handed over without blocking, or dropped and counted.
//! A panic is a failure like others. A shadow uses a part of one core at the most.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;

use super::ModelRef;
use super::comparison::Comparison;
use crate::capture::{Captures, Pending};
use crate::engine::guarded;
use crate::models::Models;
use crate::rows::Predictions;
use crate::signature::Input;

/// Requests that wait for a shadow.
const WAITING_MAX: usize = 256;
/// Bytes of columns that wait for a shadow.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest pause after a request, so that the end of the server doesn't wait for it.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Failures in a row after which a shadow rests: a panic costs far more than a prediction, and nothing more is learned
/// from the next one. What comes meanwhile is dropped.
const FAILURES_IN_A_ROW_MAX: u32 = 20;
const REST: Duration = Duration::from_secs(1);

/// A request that was answered.
pub struct Answered {
    pub input: Arc<Input<'static>>,
    pub request_id: Option<String>,
    /// The version that answered.
    pub version: u64,
    /// What was answered, and how long the model took.
    pub predictions: Predictions,
    pub predicted: Duration,
}

/// Told of each comparison: rows, and those that disagree.
pub type Told = Box<dyn Fn(u64, u64) + Send>;

/// A shadow at work. Dropping it ends its thread after the request at hand.
pub struct Shadow {
    model: ModelRef,
    seen: Arc<Mutex<Comparison>>,
    dropped: Arc<AtomicU64>,
    waiting_bytes: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    sender: Option<SyncSender<Answered>>,
    thread: Option<JoinHandle<()>>,
}

struct Work {
    models: Arc<Models>,
    model: ModelRef,
    runtime: Handle,
    core_share: f64,
    seen: Arc<Mutex<Comparison>>,
    dropped: Arc<AtomicU64>,
    waiting_bytes: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// Where what it says is kept under the request's id, so that labels can judge it too.
    captures: Option<Arc<Captures>>,
    told: Told,
}

impl Shadow {
    /// Starts it; `core_share` is the part of a core that it may use, above 0 and up to 1.
    pub fn start(
        models: Arc<Models>,
        model: ModelRef,
        core_share: f64,
        captures: Option<Arc<Captures>>,
        told: Told,
    ) -> std::io::Result<Shadow> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let (seen, waiting_bytes, stop) = <(Arc<Mutex<Comparison>>, Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let dropped = Arc::new(AtomicU64::new(0));
        let work = Work {
            models,
            model: model.clone(),
            runtime: Handle::current(),
            core_share: core_share.clamp(0.01, 1.0),
            seen: Arc::clone(&seen),
            dropped: Arc::clone(&dropped),
            waiting_bytes: Arc::clone(&waiting_bytes),
            stop: Arc::clone(&stop),
            captures,
            told,
        };
        let thread = std::thread::Builder::new().name("shadow".to_owned()).spawn(move || work.run(&receiver))?;
        Ok(Shadow { model, seen, dropped, waiting_bytes, stop, sender: Some(sender), thread: Some(thread) })
    }

    pub fn model(&self) -> &ModelRef {
        &self.model
    }

    /// Hands a request over, or drops it when too much waits. Returns whether it was taken.
    pub fn offer(&self, answered: Answered) -> bool {
        let bytes = answered.bytes();
        let fits = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        let sent = match &self.sender {
            Some(sender) if fits => sender.try_send(answered),
            _ => Err(TrySendError::Full(answered)),
        };
        if sent.is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent.is_ok()
    }

    /// What was seen so far.
    pub fn seen(&self) -> Comparison {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Comparison { dropped: self.dropped.load(Ordering::Relaxed), ..seen }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender = None;
        // It ends by itself after the request at hand; nobody has to wait for that.
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

impl Answered {
    fn bytes(&self) -> usize {
        let columns: usize = match &*self.input {
            Input::Named(columns) => columns.iter().map(|(_, column)| column.bytes()).sum(),
            Input::Positional(columns) => columns.iter().map(crate::rows::Column::bytes).sum(),
        };
        columns + self.predictions.columns().iter().map(|(_, column)| column.bytes()).sum::<usize>()
    }
}

impl Work {
    fn run(&self, receiver: &Receiver<Answered>) {
        let (mut failures_in_a_row, mut rests_until) = (0, None);
        while let Ok(answered) = receiver.recv() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.waiting_bytes.fetch_sub(answered.bytes(), Ordering::Relaxed);
            let start = Instant::now();
            if rests_until.is_some_and(|until| start < until) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let compared = self.compare(&answered);
            failures_in_a_row = if compared.is_ok() { 0 } else { failures_in_a_row + 1 };
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match compared {
                Ok((version, predictions, took)) => {
                    *seen = seen.of(answered.version, version);
                    let before = (seen.rows, seen.agreed);
                    seen.add((&answered.predictions, answered.predicted), (&predictions, took));
                    let (rows, agreed) = (seen.rows - before.0, seen.agreed - before.1);
                    drop(seen);
                    (self.told)(rows, rows - agreed);
                }
                Err(reason) => {
                    seen.failed += 1;
                    drop(seen);
                    tracing::debug!(model = %self.model, reason, "shadow failed");
                }
            }
            // The live path has the cores first.
            if failures_in_a_row >= FAILURES_IN_A_ROW_MAX {
                rests_until = Some(Instant::now() + REST);
            }
            let pause = start.elapsed().mul_f64(1.0 / self.core_share - 1.0).min(PAUSE_MAX);
            if !pause.is_zero() && !self.stop.load(Ordering::Relaxed) {
                std::thread::park_timeout(pause);
            }
        }
    }

    /// Which version said what, and how long it took.
    fn compare(&self, answered: &Answered) -> Result<(u64, Predictions, Duration), String> {
        let resolved = self.runtime.block_on(self.models.resolve(&self.model.name, &self.model.which));
        let lane = resolved.map_err(|error| error.to_string())?;
        let version = lane.version();
        let rows = lane.predictor().signature().bind((*answered.input).clone()).map_err(|error| error.to_string())?;
        let start = Instant::now();
        let predictions = guarded(lane.predictor(), &rows).map_err(|error| error.to_string())?;
        let took = start.elapsed();
        let captures = self.captures.as_ref().zip(answered.request_id.as_deref());
        if let Some((captures, request_id)) = captures.filter(|(captures, id)| captures.wants(id)) {
            let (at, request_id) = (SystemTime::now(), request_id.to_owned());
            captures.offer(Pending { at, request_id, lane, rows, predictions: predictions.clone() });
        }
        Ok((version, predictions, took))
    }
}
