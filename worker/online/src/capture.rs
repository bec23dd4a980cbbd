//! Keeps what was asked and answered, for labels that come later: sampled, bounded, and never in a request's way.
//!
//! Columns are dropped or hashed by the tags that the signature gives them, before they reach a sink.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gristmill_telemetry::metrics::Metrics;
use sha2::{Digest, Sha256};

use crate::engine::Lane;
use crate::rows::{Cell, Column, Kind, Predictions, Rows};

/// Requests that wait to be kept.
const WAITING_MAX: usize = 4_096;
/// Bytes of columns that wait to be kept.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Requests that a sink gets at a time.
const BATCH_MAX: usize = 512;
/// How long a sink isn't called at the most, so that it can let go of what has waited.
const TICK: Duration = Duration::from_secs(1);

/// One request that was answered. All columns have the same number of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub request_id: String,
    pub model: Arc<str>,
    pub version: u64,
    /// What was asked, without dropped columns and with hashed ones as text.
    pub inputs: Vec<(Arc<str>, Column)>,
    pub predictions: Predictions,
}

/// Where captured requests go. It is called on a thread of its own and may block.
pub trait Capture: Send + 'static {
    /// Takes some requests, to keep them now or later.
    fn keep(&mut self, batch: Vec<Captured>) -> Kept;
    /// Comes after about a second in which nothing came.
    fn tick(&mut self) -> Kept {
        Kept::default()
    }
    /// No more will come.
    fn finish(&mut self) -> Kept;
}

/// What became of requests since a sink was called last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Requests that are safe now.
    pub kept: u64,
    /// Requests that couldn't be kept and are gone, and why.
    pub lost: u64,
    pub reason: Option<String>,
}

impl Kept {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Kept) -> Kept {
        Kept { kept: self.kept + other.kept, lost: self.lost + other.lost, reason: other.reason.or(self.reason) }
    }
}

/// What to capture.
#[derive(Clone, Debug)]
pub struct CaptureSettings {
    /// The part of requests, from 0 to 1; the same request ids are in it everywhere.
    pub share: f64,
    /// Columns with one of these tags aren't kept.
    pub drop_tags: BTreeSet<String>,
    /// Columns with one of these tags are kept as a keyed hash, which still joins and groups.
    pub hash_tags: BTreeSet<String>,
    /// The key of the hash.
    pub hash_key: Vec<u8>,
}

/// Captures at work. Dropping it keeps what waits and ends its thread.
pub struct Captures {
    share: f64,
    metrics: Arc<Metrics>,
    /// Bytes of what waits.
    waiting_bytes: Arc<AtomicUsize>,
    sender: SyncSender<Told>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is told.
enum Told {
    Keep(Box<Pending>),
    /// No more will come.
    End,
}

/// A request on its way.
pub struct Pending {
    pub at: SystemTime,
    pub request_id: String,
    pub lane: Arc<Lane>,
    pub rows: Rows,
    pub predictions: Predictions,
}

impl Pending {
    fn bytes(&self) -> usize {
        let predictions = self.predictions.columns().iter().map(|(_, column)| column.bytes()).sum::<usize>();
        self.rows.columns().iter().map(Column::bytes).sum::<usize>() + predictions
    }
}

impl Captured {
    /// Bytes of its columns in memory.
    pub fn bytes(&self) -> usize {
        let columns = self.inputs.iter().chain(self.predictions.columns());
        columns.map(|(_, column)| column.bytes()).sum()
    }
}

impl std::fmt::Debug for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Captures({})", self.share)
    }
}

impl Captures {
    /// Starts the thread that feeds the sink.
    pub fn start(
        settings: CaptureSettings,
        metrics: Arc<Metrics>,
        mut sink: impl Capture,
    ) -> std::io::Result<Captures> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let (share, counted) = (settings.share, Arc::clone(&metrics));
        let thread = std::thread::Builder::new().name("capture".to_owned());
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = Arc::clone(&waiting_bytes);
        let thread = thread.spawn(move || run(&settings, &counted, &waiting, &receiver, &mut sink))?;
        Ok(Captures { share, metrics, waiting_bytes, sender, thread: Mutex::new(Some(thread)) })
    }

    /// Whether a request is in the sample.
    pub fn wants(&self, request_id: &str) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let digest = Sha256::digest(request_id.as_bytes());
        let head = digest.first_chunk::<8>().map_or(0, |head| u64::from_le_bytes(*head));
        (head as f64 / u64::MAX as f64) < self.share
    }

    /// Hands a request over, or drops it when too many wait.
    pub fn offer(&self, pending: Pending) {
        let bytes = pending.bytes();
        let fits = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= WAITING_BYTES_MAX;
        if !fits || self.sender.try_send(Told::Keep(Box::new(pending))).is_err() {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.captured.with(&["dropped"]).add(1);
        }
    }

    /// Keeps what waits, and nothing from here on. Blocks until it is kept.
    pub fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A thread that has ended by a panic takes nothing more, and its panic has been printed.
            self.sender.send(Told::End).ok();
            thread.join().ok();
        }
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        self.finish();
    }
}

fn run(
    settings: &CaptureSettings,
    metrics: &Metrics,
    waiting_bytes: &AtomicUsize,
    receiver: &Receiver<Told>,
    sink: &mut impl Capture,
) {
    let taken = |pending: Box<Pending>| {
        waiting_bytes.fetch_sub(pending.bytes(), Ordering::Relaxed);
        mask(settings, *pending)
    };
    let mut ended = false;
    while !ended {
        let first = match receiver.recv_timeout(TICK) {
            Ok(Told::Keep(first)) => first,
            Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                count(metrics, &sink.tick());
                continue;
            }
        };
        let mut batch = vec![taken(first)];
        while batch.len() < BATCH_MAX {
            match receiver.try_recv() {
                Ok(Told::Keep(pending)) => batch.push(taken(pending)),
                Ok(Told::End) => {
                    ended = true;
                    break;
                }
                Err(_) => break,
            }
        }
        count(metrics, &sink.keep(batch));
    }
    count(metrics, &sink.finish());
}

fn count(metrics: &Metrics, kept: &Kept) {
    metrics.captured.with(&["kept"]).add(kept.kept);
    if kept.lost > 0 {
        tracing::error!(requests = kept.lost, reason = kept.reason, "captured requests are lost");
        metrics.captured.with(&["failed"]).add(kept.lost);
    }
}

fn mask(settings: &CaptureSettings, pending: Pending) -> Captured {
    let mut inputs = Vec::new();
    for (field, column) in pending.lane.predictor().signature().inputs().iter().zip(pending.rows.columns()) {
        let tagged = |tags: &BTreeSet<String>| field.tags.iter().any(|tag| tags.contains(tag));
        if tagged(&settings.drop_tags) {
            continue;
        }
        let column = if tagged(&settings.hash_tags) { hashed(&settings.hash_key, column) } else { column.clone() };
        inputs.push((Arc::clone(&field.name), column));
    }
    Captured {
        at_ms: pending.at.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_millis() as u64),
        request_id: pending.request_id,
        model: Arc::clone(pending.lane.name()),
        version: pending.lane.version(),
        inputs,
        predictions: pending.predictions,
    }
}

/// Each value as 32 hexadecimal digits of a keyed hash; nulls stay.
fn hashed(key: &[u8], column: &Column) -> Column {
    let mut texts = Column::empty(Kind::Text);
    for row in 0..column.len() {
        let value = match column.cell(row) {
            Cell::Null => {
                texts.push_null();
                continue;
            }
            Cell::Number(value) => value.to_string(),
            Cell::Integer(value) => value.to_string(),
            Cell::Bool(value) => value.to_string(),
            Cell::Text(value) => value.into_owned(),
        };
        // The key is as long as a block at the most by its own hash, so that key and value can't be confused.
        let digest = Sha256::new().chain_update(Sha256::digest(key)).chain_update(value.as_bytes()).finalize();
        let mut text = String::with_capacity(32);
        for byte in digest.iter().take(16) {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = texts.push(&Cell::Text(text.into()));
    }
    texts
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::predictor::{PredictError, Predictor};
    use crate::signature::{Field, Input, Signature};

    struct Silent(Signature);

    impl Predictor for Silent {
        fn signature(&self) -> &Signature {
            &self.0
        }

        fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
            Ok(Predictions::new(Vec::new(), rows.len()))
        }
    }

    struct ToChannel(mpsc::Sender<Captured>);

    impl Capture for ToChannel {
        fn keep(&mut self, batch: Vec<Captured>) -> Kept {
            let kept = batch.len() as u64;
            batch.into_iter().for_each(|one| self.0.send(one).unwrap());
            Kept { kept, ..Kept::default() }
        }

        fn finish(&mut self) -> Kept {
            Kept::default()
        }
    }

    #[test]
    fn columns_are_dropped_and_hashed_by_their_tags() {
        let inputs = vec![
            Field::new("a", Kind::Number),
            Field::new("name", Kind::Text).tagged("pii"),
            Field::new("customer", Kind::Integer).tagged("id"),
        ];
        let signature = Signature::new(inputs, Vec::new());
        let texts: crate::rows::Texts = ["Ada"].into_iter().collect();
        let columns = vec![vec![0.5].into(), Column::from(texts), vec![42].into()];
        let rows = signature.bind(Input::Positional(columns)).unwrap();
        let lane = Arc::new(Lane::new("m".into(), 3, Arc::new(Silent(signature))));
        let settings = CaptureSettings {
            share: 1.0,
            drop_tags: ["pii".to_owned()].into(),
            hash_tags: ["id".to_owned()].into(),
            hash_key: b"k".to_vec(),
        };
        let (sender, receiver) = mpsc::channel();
        let metrics = Arc::new(Metrics::new(None));
        let captures = Captures::start(settings, Arc::clone(&metrics), ToChannel(sender)).unwrap();
        let predictions = Predictions::new(vec![("prediction".into(), vec![1].into())], 1);
        captures.offer(Pending {
            at: UNIX_EPOCH + Duration::from_millis(7),
            request_id: "r".to_owned(),
            lane,
            rows,
            predictions,
        });
        drop(captures);
        let captured = receiver.recv().unwrap();
        let names: Vec<&str> = captured.inputs.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a", "customer"]);
        let Cell::Text(hash) = captured.inputs[1].1.cell(0) else { panic!("a hash is text") };
        assert_eq!(hash.len(), 32);
        assert_eq!(metrics.captured.with(&["kept"]).value(), 1);
    }
}
