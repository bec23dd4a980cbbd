//! Runs models: at once where that is short, else on threads of its own, in batches of whatever waits.
//!
//! ```text
//! score ── short, and nothing waits ──────────> predict right here
//!    └──── else ── admitted? ──> lane's queue ──> thread: takes what waits, one call for all of it
//!                     └─ no: 503, before it and others are late
//! ```
//!
//! Handing a request to another thread costs about what a small model does, so small models run where the request
//! was read. There is no timer that holds a request back to fill a batch: a batch is what came while the threads
//! were busy. A request is admitted by what it would wait for, which is known from what calls took so far. What it has
//! waited before it came here, for its connection's turn, is the server's to judge (`server/arrival.rs`).

mod cost;
mod lane;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::lane::Job;
pub use self::lane::{Lane, Scored, guarded};
use crate::deadline::Deadline;
use crate::predictor::PredictError;
use crate::refusal::Refusal;
use crate::rows::{Predictions, Rows};

/// What a call is taken to cost before the first one of a model.
const FIRST_ESTIMATE: Duration = Duration::from_millis(1);

/// A shorter backlog teaches nothing about how long requests wait.
const STRETCH_BACKLOG_MIN: Duration = Duration::from_micros(500);
/// The weight of one request in what is learned of waits.
const STRETCH_STEP: f64 = 0.02;
/// Waits are believed to be up to this many times what the backlog says.
const STRETCH_MAX: f64 = 16.0;

/// How the engine runs.
#[derive(Clone, Copy, Debug)]
pub struct EngineSettings {
    /// Threads that run models; one a core makes sense.
    pub threads: usize,
    /// Rows of one call.
    pub batch_rows_max: usize,
    /// Rows that wait, of all models together. Past this a request is shed whatever it would wait.
    pub waiting_rows_max: usize,
    /// A call that is expected to take no longer runs where the request was read.
    pub inline_max: Duration,
    /// The longest wait that is accepted, if the request's deadline allows it; a model whose single call takes
    /// longer may make a request wait for two of them.
    pub wait_max: Duration,
}

impl Default for EngineSettings {
    fn default() -> EngineSettings {
        EngineSettings {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            batch_rows_max: 1_024,
            waiting_rows_max: 1_000_000,
            inline_max: Duration::from_micros(50),
            wait_max: Duration::from_millis(20),
        }
    }
}

/// The threads. Dropping it finishes what waits and ends them.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    settings: EngineSettings,
    turns: Mutex<Turns>,
    wake: Condvar,
    /// Nanoseconds of work that was admitted and isn't done.
    backlog_ns: AtomicU64,
    waiting_rows: AtomicUsize,
    /// How many times longer requests wait than the backlog says, as a number's bits: models share the cores with the
    /// connections and with whatever else runs.
    stretch: AtomicU64,
}

struct Turns {
    /// One entry a request, in the order they came; those that an earlier batch took along find nothing to do.
    ready: VecDeque<Arc<Lane>>,
    /// Threads with nothing to do.
    idle: usize,
    open: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Engine({} threads)", self.threads.len())
    }
}

impl Engine {
    /// Starts the threads; the error is the system's when it has none left.
    pub fn start(settings: EngineSettings) -> std::io::Result<Engine> {
        let turns = Turns { ready: VecDeque::new(), idle: 0, open: true };
        let shared = Arc::new(Shared {
            settings,
            turns: Mutex::new(turns),
            wake: Condvar::new(),
            backlog_ns: AtomicU64::new(0),
            waiting_rows: AtomicUsize::new(0),
            stretch: AtomicU64::new(1f64.to_bits()),
        });
        let mut engine = Engine { shared, threads: Vec::new() };
        for at in 0..settings.threads.max(1) {
            let shared = Arc::clone(&engine.shared);
            let thread = std::thread::Builder::new().name(format!("predict-{at}"));
            engine.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(engine)
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.shared.settings
    }

    /// How long a request that comes now would wait for those before it.
    pub fn expected_wait(&self) -> Duration {
        self.shared.expected_wait()
    }

    /// The predictions for rows, which are of the lane's signature.
    pub async fn score(&self, lane: &Arc<Lane>, rows: Rows, deadline: Deadline) -> Result<Scored, Refusal> {
        let result = self.score_uncounted(lane, rows, deadline).await;
        lane.count(result.as_ref().map(|scored| scored.waited));
        result
    }

    async fn score_uncounted(&self, lane: &Arc<Lane>, rows: Rows, deadline: Deadline) -> Result<Scored, Refusal> {
        let settings = &self.shared.settings;
        let estimate = lane.cost.estimate(rows.len());
        if estimate.is_some_and(|estimate| estimate <= settings.inline_max) && lane.is_idle() {
            let (predictions, predicted) = lane.predict(&rows)?;
            return Ok(Scored { predictions, waited: Duration::ZERO, predicted });
        }
        let estimate = estimate.unwrap_or(FIRST_ESTIMATE);
        self.admit(&rows, estimate, deadline)?;
        if rows.len() <= settings.batch_rows_max {
            let reply = self.enqueue(lane, rows, estimate, deadline);
            return wait(reply, deadline).await;
        }
        // In parts, so that smaller requests get their turns between them.
        let parts = rows.len().div_ceil(settings.batch_rows_max);
        let part_of = |at: usize| at * settings.batch_rows_max..rows.len().min((at + 1) * settings.batch_rows_max);
        let one = estimate / u32::try_from(parts).unwrap_or(u32::MAX);
        let replies: Vec<_> = (0..parts).map(|at| self.enqueue(lane, rows.slice(part_of(at)), one, deadline)).collect();
        let mut whole: Option<Scored> = None;
        for reply in replies {
            let part = wait(reply, deadline).await?;
            whole = Some(match whole {
                None => part,
                Some(whole) => whole.joined(&part)?,
            });
        }
        whole.ok_or_else(|| Refusal::Failed("a request without rows has no parts".to_owned()))
    }

    /// Whether a request may wait: not when it would be late, or when what waits is too long already.
    fn admit(&self, rows: &Rows, estimate: Duration, deadline: Deadline) -> Result<(), Refusal> {
        let settings = &self.shared.settings;
        let wait = self.expected_wait();
        let acceptable = settings.wait_max.max(2 * estimate).min(deadline.left(Instant::now()));
        let too_many = self.shared.waiting_rows.load(Ordering::Relaxed) + rows.len() > settings.waiting_rows_max;
        if wait > acceptable || too_many {
            return Err(Refusal::Overloaded { retry_after: wait });
        }
        Ok(())
    }

    fn enqueue(
        &self,
        lane: &Arc<Lane>,
        rows: Rows,
        estimate: Duration,
        deadline: Deadline,
    ) -> oneshot::Receiver<Result<Scored, Refusal>> {
        let (reply, receiver) = oneshot::channel();
        let backlog = self.shared.backlog();
        self.shared.backlog_ns.fetch_add(estimate.as_nanos() as u64, Ordering::Relaxed);
        self.shared.waiting_rows.fetch_add(rows.len(), Ordering::Relaxed);
        lane.push(Job { rows, deadline, queued: Instant::now(), backlog, estimate, reply });
        self.shared.lock().ready.push_back(Arc::clone(lane));
        self.shared.wake.notify_one();
        receiver
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.lock().open = false;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A model's panic is caught; another one is a bug that the thread has printed already.
            let _ = thread.join();
        }
    }
}

async fn wait(reply: oneshot::Receiver<Result<Scored, Refusal>>, deadline: Deadline) -> Result<Scored, Refusal> {
    let gone = |_| Err(Refusal::NotReady("the server is shutting down".to_owned()));
    deadline.bound(reply).await?.unwrap_or_else(gone)
}

impl Scored {
    fn joined(mut self, part: &Scored) -> Result<Scored, Refusal> {
        if !self.predictions.append(&part.predictions) {
            return Err(Refusal::Failed("the model gave other outputs for other rows".to_owned()));
        }
        self.waited = self.waited.max(part.waited);
        self.predicted += part.predicted;
        Ok(self)
    }
}

impl Shared {
    /// Work that was admitted and isn't done, for each thread.
    fn backlog(&self) -> Duration {
        Duration::from_nanos(self.backlog_ns.load(Ordering::Relaxed) / self.settings.threads.max(1) as u64)
    }

    fn expected_wait(&self) -> Duration {
        self.backlog().mul_f64(f64::from_bits(self.stretch.load(Ordering::Relaxed)))
    }

    /// Learns from how long a request has waited, which is about to run.
    fn learn(&self, job: &Job) {
        // Two threads that learn at the same time may forget one of both; more will come.
        let before = f64::from_bits(self.stretch.load(Ordering::Relaxed));
        let after = stretched(before, job.backlog, job.queued.elapsed());
        self.stretch.store(after.to_bits(), Ordering::Relaxed);
    }

    fn run(&self) {
        while let Some((lane, others)) = self.next() {
            let batch = lane.take(self.settings.batch_rows_max, others);
            if batch.is_empty() {
                continue;
            }
            let estimates: Duration = batch.iter().map(|job| job.estimate).sum();
            let rows: usize = batch.iter().map(|job| job.rows.len()).sum();
            self.waiting_rows.fetch_sub(rows, Ordering::Relaxed);
            batch.iter().for_each(|job| self.learn(job));
            answer(&lane, batch);
            self.backlog_ns.fetch_sub(estimates.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// The lane whose turn it is, and how many other threads have nothing to do.
    fn next(&self) -> Option<(Arc<Lane>, usize)> {
        let mut turns = self.lock();
        loop {
            if let Some(lane) = turns.ready.pop_front() {
                return Some((lane, turns.idle));
            }
            if !turns.open {
                return None;
            }
            turns.idle += 1;
            turns = self.wake.wait(turns).unwrap_or_else(PoisonError::into_inner);
            turns.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Nothing is left half-done under the lock.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stretch after a request waited for a time with so much before it.
fn stretched(before: f64, backlog: Duration, waited: Duration) -> f64 {
    if backlog < STRETCH_BACKLOG_MIN {
        // Short waits are the system's, and say nothing of long ones; what was learned fades.
        return before + (1.0 - before) * STRETCH_STEP;
    }
    let seen = (waited.as_secs_f64() / backlog.as_secs_f64()).clamp(1.0, STRETCH_MAX);
    before + (seen - before) * STRETCH_STEP
}

/// Predicts for a batch and answers each of its requests; those whose client has gone, or whose time has, cost nothing.
fn answer(lane: &Lane, mut batch: Vec<Job>) {
    let start = Instant::now();
    batch.retain(|job| !job.reply.is_closed() && job.deadline.at() > start);
    let Some(rows) = joined(&batch) else {
        return batch.into_iter().for_each(|job| answer_one(lane, job, start));
    };
    match lane.predict(&rows) {
        Ok((predictions, predicted)) => {
            let mut end = 0;
            for job in batch {
                let start_row = end;
                end += job.rows.len();
                reply(job, start, Ok((predictions.slice(start_row..end), predicted)));
            }
        }
        // Whose rows were at fault shows only one by one.
        Err(_) => batch.into_iter().for_each(|job| answer_one(lane, job, start)),
    }
}

fn answer_one(lane: &Lane, job: Job, start: Instant) {
    let result = lane.predict(&job.rows);
    reply(job, start, result);
}

/// The rows of all requests together, where there are several.
fn joined(batch: &[Job]) -> Option<Rows> {
    let (first, others) = batch.split_first()?;
    let mut rows = (!others.is_empty()).then(|| first.rows.clone())?;
    others.iter().all(|job| rows.append(&job.rows)).then_some(rows)
}

fn reply(job: Job, start: Instant, result: Result<(Predictions, Duration), PredictError>) {
    let waited = start.saturating_duration_since(job.queued);
    let scored = result.map(|(predictions, predicted)| Scored { predictions, waited, predicted });
    // Whoever has stopped waiting needs no answer.
    let _ = job.reply.send(scored.map_err(Refusal::from));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::predictor::Predictor;
    use crate::rows::{Column, Kind, Values};
    use crate::signature::{Field, Signature};

    /// Doubles its column. Before each call it says how many rows it has, and waits until it is told to go on.
    struct Doubler {
        signature: Signature,
        calls: Mutex<mpsc::Sender<usize>>,
        go: Option<Mutex<mpsc::Receiver<()>>>,
    }

    impl Predictor for Doubler {
        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
            self.calls.lock().unwrap().send(rows.len()).unwrap();
            if let Some(go) = &self.go {
                go.lock().unwrap().recv().unwrap();
            }
            let Values::Number(values) = rows.columns()[0].values() else { unreachable!() };
            assert!(!values.contains(&13.0), "thirteen");
            if values.contains(&-1.0) {
                return Err(PredictError::BadRows("-1 is no length".to_owned()));
            }
            let doubled: Vec<f64> = values.iter().map(|value| value * 2.0).collect();
            Ok(Predictions::new(vec![("prediction".into(), doubled.into())], rows.len()))
        }
    }

    struct Bench {
        engine: Engine,
        lane: Arc<Lane>,
        calls: mpsc::Receiver<usize>,
        go: mpsc::Sender<()>,
    }

    fn bench(held: bool, settings: EngineSettings) -> Bench {
        let (calls_sender, calls) = mpsc::channel();
        let (go, go_receiver) = mpsc::channel();
        let signature =
            Signature::new(vec![Field::new("x", Kind::Number)], vec![Field::new("prediction", Kind::Number)]);
        let go_receiver = held.then(|| Mutex::new(go_receiver));
        let doubler = Doubler { signature, calls: Mutex::new(calls_sender), go: go_receiver };
        let lane = Arc::new(Lane::new("m".into(), 1, Arc::new(doubler)));
        Bench { engine: Engine::start(settings).unwrap(), lane, calls, go }
    }

    fn settings() -> EngineSettings {
        EngineSettings { threads: 1, inline_max: Duration::ZERO, ..EngineSettings::default() }
    }

    fn minute() -> Deadline {
        Deadline::after(Instant::now(), Duration::from_secs(60))
    }

    impl Bench {
        fn rows(&self, values: Vec<f64>) -> Rows {
            let input = crate::signature::Input::Positional(vec![Column::from(values)]);
            self.lane.predictor().signature().bind(input).unwrap()
        }

        async fn score(&self, values: Vec<f64>) -> Result<Vec<f64>, Refusal> {
            let scored = self.engine.score(&self.lane, self.rows(values), minute()).await?;
            match scored.predictions.columns()[0].1.values() {
                Values::Number(values) => Ok(values.clone()),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn waits_that_are_longer_than_the_backlog_are_learned_and_forgotten() {
        let ms = Duration::from_millis;
        let slow = (0..200).fold(1.0, |stretch, _| stretched(stretch, ms(5), ms(20)));
        assert!((slow - 4.0).abs() < 0.1, "{slow}");
        let idle = (0..200).fold(slow, |stretch, _| stretched(stretch, ms(0), ms(1)));
        assert!((idle - 1.0).abs() < 0.1, "{idle}");
        assert!(stretched(1.0, ms(5), ms(1)) == 1.0);
    }

    #[tokio::test]
    async fn what_comes_while_a_call_runs_is_one_batch() {
        let bench = bench(true, settings());
        let first = bench.score(vec![1.0]);
        tokio::pin!(first);
        assert!(polled(first.as_mut()).await.is_none());
        assert_eq!(bench.calls.recv(), Ok(1));
        let (second, third) = (bench.score(vec![2.0, 3.0]), bench.score(vec![4.0]));
        tokio::pin!(second, third);
        assert!(polled(second.as_mut()).await.is_none());
        assert!(polled(third.as_mut()).await.is_none());
        (0..2).for_each(|_| bench.go.send(()).unwrap());
        assert_eq!(first.await, Ok(vec![2.0]));
        assert_eq!((second.await, third.await), (Ok(vec![4.0, 6.0]), Ok(vec![8.0])));
        assert_eq!(bench.calls.recv(), Ok(3));
    }

    #[tokio::test]
    async fn one_bad_request_of_a_batch_fails_alone() {
        let bench = bench(true, settings());
        let first = bench.score(vec![1.0]);
        tokio::pin!(first);
        assert!(polled(first.as_mut()).await.is_none());
        assert_eq!(bench.calls.recv(), Ok(1));
        let (good, bad, panics) = (bench.score(vec![2.0]), bench.score(vec![-1.0]), bench.score(vec![13.0]));
        tokio::pin!(good, bad, panics);
        assert!(polled(good.as_mut()).await.is_none());
        assert!(polled(bad.as_mut()).await.is_none());
        assert!(polled(panics.as_mut()).await.is_none());
        (0..5).for_each(|_| bench.go.send(()).unwrap());
        assert_eq!(first.await, Ok(vec![2.0]));
        assert_eq!(good.await, Ok(vec![4.0]));
        assert_eq!(bad.await, Err(Refusal::BadRequest("-1 is no length".to_owned())));
        assert_eq!(panics.await.unwrap_err().status(), 500);
    }

    #[tokio::test]
    async fn a_large_request_goes_in_parts_and_comes_back_whole() {
        let bench = bench(false, EngineSettings { batch_rows_max: 10, ..settings() });
        let values: Vec<f64> = (0..25).map(f64::from).filter(|value| *value != 13.0).collect();
        let doubled: Vec<f64> = values.iter().map(|value| value * 2.0).collect();
        assert_eq!(bench.score(values).await, Ok(doubled));
        assert_eq!(bench.calls.try_iter().collect::<Vec<_>>(), [10, 10, 4]);
    }

    #[tokio::test]
    async fn requests_are_shed_when_the_wait_would_be_too_long() {
        let settings = EngineSettings { wait_max: Duration::from_millis(3), ..settings() };
        let bench = bench(true, settings);
        let mut waiting = Vec::new();
        // Each counts as a millisecond before the first call is over.
        let shed = loop {
            let mut request = Box::pin(bench.score(vec![1.0]));
            match polled(request.as_mut()).await {
                None => waiting.push(request),
                Some(result) => break result.unwrap_err(),
            }
        };
        assert_eq!(waiting.len(), 4);
        assert_eq!(shed, Refusal::Overloaded { retry_after: Duration::from_millis(4) });
        assert_eq!(shed.retry_after_seconds(), Some(1));
        (0..8).for_each(|_| bench.go.send(()).unwrap());
        for request in waiting {
            assert_eq!(request.await, Ok(vec![2.0]));
        }
        // The backlog shrinks when all of a batch have their answers.
        let limit = Instant::now() + Duration::from_secs(60);
        while bench.engine.expected_wait() > Duration::ZERO {
            assert!(Instant::now() < limit, "the backlog stays");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_request_whose_time_is_over_is_told_and_not_run() {
        let bench = bench(true, settings());
        let mut first = Box::pin(bench.score(vec![1.0]));
        assert!(polled(first.as_mut()).await.is_none());
        assert_eq!(bench.calls.recv(), Ok(1));
        let soon = Deadline::after(Instant::now(), Duration::from_millis(20));
        let late = bench.engine.score(&bench.lane, bench.rows(vec![2.0]), soon).await;
        assert_eq!(late.unwrap_err(), Refusal::TimedOut { limit: Duration::from_millis(20) });
        (0..2).for_each(|_| bench.go.send(()).unwrap());
        assert_eq!(first.as_mut().await, Ok(vec![2.0]));
        drop(first);
        drop(bench.engine);
        assert_eq!(bench.calls.try_iter().count(), 0);
    }

    /// What a future has now, polled once.
    async fn polled<T>(mut future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
