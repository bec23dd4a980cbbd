//! What operators see: this process's logs, its metrics, and its part of every run's trace.
//!
//! A run's root and steps are told by the scheduler when the run has ended, from its journal; attempts by the
//! worker that made them; a message by whoever published it and whoever worked on it. Their ids follow from
//! their names, so they meet in one tree though nobody passed them on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use gristmill_backends::broker::Message;
use gristmill_backends::state::{Backlog, State};
use gristmill_protocol::message::{Assignment, Outcome};
use gristmill_protocol::{AttemptRef, RunId};
use gristmill_scheduler::history::History;
use gristmill_scheduler::observe::Observe;
use gristmill_telemetry::ids::{TraceContext, parse_traceparent, traceparent};
use gristmill_telemetry::metrics::{Counter, Gauge, Histogram, Metrics};
use gristmill_telemetry::readiness::{self, Contact};
use gristmill_telemetry::serve::{Server, serve};
use gristmill_telemetry::spans::{Finished, Messages, Spans};
use gristmill_telemetry::{KeyValue, Settings, Telemetry};
use gristmill_worker_runtime::{Execute, TaskControl, Work};
use tokio::task::JoinSet;

use crate::cluster::wall_clock_us;

/// Starts logs, metrics and traces as the environment says.
pub fn start(service: &'static str, instance: String) -> anyhow::Result<Telemetry> {
    let settings = Settings::from_env(service, instance)?;
    Ok(Telemetry::start(&settings)?)
}

/// Serves metrics and health at an address, if one is given. Ready is who has reached these lately.
pub async fn listen(
    telemetry: &Telemetry,
    address: Option<SocketAddr>,
    contacts: Vec<Arc<Contact>>,
) -> anyhow::Result<Option<Server>> {
    let Some(address) = address else { return Ok(None) };
    let server =
        serve(address, telemetry.metrics(), readiness::all(contacts)).await.context("failed to serve metrics")?;
    eprintln!("metrics at http://{}/metrics", server.address());
    Ok(Some(server))
}

/// The broker's name in messaging spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System(pub &'static str);

/// What a scheduler tells.
pub struct SchedulerObserver {
    pub spans: Spans,
    pub metrics: Arc<Metrics>,
    pub state: Arc<dyn State>,
    pub system: System,
    /// The store, as the scheduler's looks at it find it.
    pub store: Arc<Contact>,
    /// Pools that have had work.
    pub pools: Mutex<BTreeSet<String>>,
    /// Runs that have ended and aren't told yet.
    pub telling: Mutex<JoinSet<()>>,
}

impl SchedulerObserver {
    /// Waits until all runs that have ended are told: a run's root span is written a moment after its end.
    pub async fn told(&self) {
        let mut telling = std::mem::take(&mut *self.telling.lock().unwrap_or_else(PoisonError::into_inner));
        while telling.join_next().await.is_some() {}
    }
}

impl fmt::Debug for SchedulerObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchedulerObserver({:?})", self.spans)
    }
}

fn messages(system: System, destination: &str, id: Option<String>, count: usize) -> Messages {
    Messages {
        system: system.0,
        destination: destination.to_owned(),
        message_id: id,
        batch: (count > 1).then_some(count),
    }
}

impl Observe for SchedulerObserver {
    fn traceparent(&self, assignment: &Assignment) -> Option<String> {
        let first = assignment.attempts().next().filter(|_| self.spans.is_exported())?;
        Some(traceparent(first.run, self.spans.new_id()))
    }

    fn published(&self, assignment: &Assignment, context: Option<&str>, took: Duration) {
        self.metrics.messages.with(&["publish", "ok"]).add(1);
        let Some(context) = context.and_then(parse_traceparent) else { return };
        let end_us = wall_clock_us();
        let finished = Finished::new("", end_us.saturating_sub(took.as_micros() as u64), end_us);
        let id = assignment.attempts().next().map(|attempt| attempt.to_string());
        let messages = messages(self.system, &assignment.pool, id, assignment.attempts().count());
        self.spans.publish(TraceContext::of_run(context.run), context.span, &messages, finished);
    }

    fn turned(&self, events: usize) {
        self.metrics.turn_events.with(&[]).record(events as f64);
    }

    fn appended(&self, took: Duration) {
        self.metrics.append_duration.with(&[]).record_time(took);
    }

    fn owns(&self, shards: usize, runs: usize) {
        self.metrics.shards_owned.with(&[]).set(shards as f64);
        self.metrics.runs_active.with(&[]).set(runs as f64);
    }

    fn backlog(&self, backlog: &BTreeMap<String, Backlog>) {
        let mut known = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<String> = backlog.keys().filter(|pool| !known.contains(*pool)).cloned().collect();
        known.extend(new);
        for pool in &*known {
            // A pool without work isn't named any more.
            let ready = backlog.get(pool).map_or(0, |backlog| backlog.ready);
            self.metrics.queue_ready.with(&[pool]).set(ready as f64);
        }
        self.metrics.leases_held.with(&[]).set(backlog.values().map(|backlog| backlog.out).sum::<u64>() as f64);
    }

    fn waited(&self, pool: &str, wait: Duration) {
        self.metrics.task_wait.with(&[pool]).record_time(wait);
    }

    fn leases_lost(&self, leases: usize) {
        self.metrics.leases_lost.with(&[]).add(leases as u64);
    }

    fn store_answered(&self) {
        self.store.answered();
    }

    fn run_ended(&self, run: RunId) {
        let (state, spans, metrics) = (self.state.clone(), self.spans.clone(), self.metrics.clone());
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        while telling.try_join_next().is_some() {}
        telling.spawn(async move {
            match History::read(&*state, run).await {
                Ok(history) => tell(&history, &spans, &metrics),
                Err(error) => {
                    tracing::debug!(%run, error = &error as &dyn std::error::Error, "a run's trace isn't told");
                }
            }
        });
    }
}

/// The root span of a run and the spans of its steps.
fn tell(history: &History, spans: &Spans, metrics: &Metrics) {
    let outcome = history.status.map_or("open", |status| status.as_str());
    metrics.runs.with(&[outcome]).add(1);
    if !spans.is_exported() {
        return;
    }
    let (begin_us, end_us) = (history.created.0 * 1_000, history.ended().map_or(history.created.0, |at| at.0) * 1_000);
    let mut root = Finished::new(format!("run {}", history.plan.pipeline), begin_us, end_us);
    root.attributes = vec![
        KeyValue::new("gristmill.run", history.run.to_string()),
        KeyValue::new("gristmill.pipeline", history.plan.pipeline.clone()),
        KeyValue::new("gristmill.outcome", outcome),
    ];
    if outcome == "failed" {
        root.error = Some(("failed".to_owned(), "a step has failed".to_owned()));
    }
    spans.run_span(history.run, root);
    for step in &history.steps {
        // A step that never began is a moment at the run's end.
        let (first, last) = step.tally.span_us.unwrap_or((end_us, end_us));
        let mut finished = Finished::new(format!("step {}", step.name), first, last);
        finished.attributes = vec![
            KeyValue::new("gristmill.step", step.name.clone()),
            KeyValue::new("gristmill.step.kind", step.kind.clone()),
            KeyValue::new("gristmill.outcome", step.state.as_str()),
            KeyValue::new("gristmill.tasks", i64::from(step.tasks)),
        ];
        spans.step_span(history.run, &step.name, finished);
    }
}

/// Does the work through another, and tells of it.
pub struct Observed {
    inner: Arc<dyn Execute>,
    spans: Spans,
    metrics: Arc<Metrics>,
    worker: String,
    system: System,
    series: Series,
}

/// Series that every task counts in, looked up once.
struct Series {
    busy: Arc<Gauge>,
    free: Arc<Gauge>,
    succeeded: Arc<Counter>,
    /// The histogram of the step that was met last: tasks of one step mostly come together.
    last: Mutex<Option<(String, Arc<Histogram>)>>,
}

impl Observed {
    /// Of a worker that runs up to `slots` tasks at a time.
    pub fn new(inner: Arc<dyn Execute>, telemetry: &Telemetry, worker: String, slots: u32, system: System) -> Observed {
        let metrics = telemetry.metrics();
        let series = Series {
            busy: metrics.slots.with(&["busy"]),
            free: metrics.slots.with(&["free"]),
            succeeded: metrics.tasks.with(&["succeeded"]),
            last: Mutex::default(),
        };
        series.free.set(f64::from(slots));
        Observed { inner, spans: telemetry.spans(), metrics, worker, system, series }
    }

    fn durations_of(&self, step: &str) -> Arc<Histogram> {
        let mut last = self.series.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, histogram)) if known == step => histogram.clone(),
            _ => {
                let histogram = self.metrics.task_duration.with(&[step]);
                *last = Some((step.to_owned(), histogram.clone()));
                histogram
            }
        }
    }
}

impl Execute for Observed {
    fn execute(&self, work: Work, control: TaskControl) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let (attempt, step, name) = (work.attempt, work.step.clone(), work.name.clone());
        let (spans, metrics, worker) = (self.spans.clone(), self.metrics.clone(), self.worker.clone());
        let started_us = wall_clock_us();
        let Series { busy, free, succeeded, .. } = &self.series;
        let (busy, free, succeeded) = (busy.clone(), free.clone(), succeeded.clone());
        let durations = self.durations_of(&step);
        busy.add(1.0);
        free.add(-1.0);
        let working = self.inner.execute(work, control);
        Box::pin(async move {
            let outcome = working.await;
            busy.add(-1.0);
            free.add(1.0);
            let ended_us = wall_clock_us();
            let (how, error) = told(&outcome);
            match how {
                "succeeded" => succeeded.add(1),
                how => metrics.tasks.with(&[how]).add(1),
            }
            durations.record(ended_us.saturating_sub(started_us) as f64 / 1e6);
            if spans.is_exported() {
                let mut finished = Finished::new(format!("task {name}"), started_us, ended_us);
                finished.error = error;
                finished.attributes = vec![
                    KeyValue::new("gristmill.attempt", i64::from(attempt.attempt)),
                    KeyValue::new("gristmill.outcome", how),
                    KeyValue::new("gristmill.worker", worker),
                ];
                spans.attempt_span(attempt, &step, finished);
            }
            outcome
        })
    }

    fn received(&self, message: &Message, attempts: &[AttemptRef]) {
        self.metrics.messages.with(&["process", "ok"]).add(1);
        let producer = message.traceparent.as_deref().and_then(parse_traceparent);
        if let (Some(producer), true) = (producer, self.spans.is_exported()) {
            let now_us = wall_clock_us();
            let messages = messages(self.system, "", Some(message.id.clone()), attempts.len());
            let finished = Finished::new("", now_us, now_us);
            let parent = TraceContext::of_run(producer.run);
            self.spans.process(parent, self.spans.new_id(), &messages, &[producer], finished);
        }
    }
}

/// How an attempt ended, and its error if it did with one.
fn told(outcome: &Outcome) -> (&'static str, Option<(String, String)>) {
    match outcome {
        Outcome::Succeeded { cached: true, .. } => ("cached", None),
        Outcome::Succeeded { .. } => ("succeeded", None),
        Outcome::Expanded(_) => ("expanded", None),
        Outcome::Rejected { .. } => ("rejected", None),
        Outcome::Failed(failure) => ("failed", Some((failure.code.to_string(), failure.message.clone()))),
        Outcome::Returned(_) => ("returned", None),
        Outcome::Stopped => ("stopped", None),
    }
}
