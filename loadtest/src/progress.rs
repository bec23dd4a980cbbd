//! A run as it goes on, by its journal: for the live view, for series, and for what each of its tasks took.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gristmill_backends::state::State;
use gristmill_protocol::fact::{Fact, JournalBody, RunStatus};
use gristmill_protocol::plan::Plan;
use gristmill_protocol::{RunId, WorkerId, wire};

use crate::check::{self, Span};
use crate::live::{Live, Now};
use crate::load::{facts, submit_once, wall_clock_us};

/// The end of a run is asked for so often.
const ASK_EVERY: Duration = Duration::from_millis(2);
/// Its journal is read so often: seldom enough that the store doesn't notice.
const READ_EVERY: Duration = Duration::from_millis(500);
/// Journal entries read at a time.
const READ_MAX: usize = 256;

/// A run that has ended.
pub struct Ended {
    pub run: RunId,
    pub status: RunStatus,
    /// From its submission to its end, as its client sees it.
    pub seconds: f64,
    /// Seconds since the submission, and tasks done until then.
    pub done: Vec<(f64, f64)>,
}

/// Submits a run and waits for its end, while the view shows how many tasks are done.
///
/// # Errors
///
/// When it hasn't ended within `patience`.
pub async fn run_to_end(
    state: &dyn State,
    live: &Live,
    plan: Plan,
    key: &str,
    tasks: u64,
    patience: Duration,
) -> anyhow::Result<Ended> {
    let key = format!("{key}-{}", wall_clock_us());
    let began = Instant::now();
    let run = submit_once(state, plan, &key).await?;
    let (mut position, mut succeeded, mut done, mut read) = (0, 0u64, vec![(0.0, 0.0)], Instant::now());
    loop {
        if let Some(record) = state.run(run).await?
            && let Some(status) = record.status
        {
            let seconds = began.elapsed().as_secs_f64();
            done.push((seconds, tasks as f64));
            return Ok(Ended { run, status, seconds, done });
        }
        ensure!(began.elapsed() < patience, "{run} hasn't ended within {patience:?}");
        if read.elapsed() >= READ_EVERY {
            read = Instant::now();
            let entries = state.journal(run, position, READ_MAX).await?;
            for entry in &entries {
                let body: JournalBody = wire::decode("a journal entry", &entry.body).context("a journal is damaged")?;
                succeeded += body.facts.iter().map(successes).sum::<u64>();
                position = entry.position;
            }
            let (seconds, before) = (began.elapsed().as_secs_f64(), done.last().copied().unwrap_or_default());
            let rate = (succeeded as f64 - before.1) / (seconds - before.0);
            live.show(&Now { done: Some((succeeded.min(tasks), tasks)), rate: Some(rate), ..Now::default() });
            done.push((seconds, succeeded as f64));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn successes(fact: &Fact) -> u64 {
    match fact {
        Fact::Succeeded(column) => column.iter().count() as u64,
        Fact::Expanded { .. } => 1,
        _ => 0,
    }
}

/// A rate over time from how much was done until when.
pub fn rates(done: &[(f64, f64)]) -> Vec<(f64, f64)> {
    // What is closer together says more of the clock than of the rate.
    let pairs = done.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 0.05);
    pairs.map(|pair| (pair[1].0, (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0))).collect()
}

/// When each task of a run began and how long it took, in order.
pub async fn spans(state: &dyn State, run: RunId) -> anyhow::Result<Vec<Span>> {
    let facts = facts(state, run).await?;
    let mut spans = check::check(run, &facts).map_err(anyhow::Error::msg)?.spans;
    spans.sort_unstable_by_key(|span| (span.started_us, span.task, span.worker.map(|WorkerId(id)| id)));
    Ok(spans)
}

/// From the first start to the last end, in milliseconds.
pub fn whole_span_ms(spans: &[Span]) -> f64 {
    let first = spans.iter().map(|span| span.started_us).min().unwrap_or(0);
    let last = spans.iter().map(|span| span.started_us + span.slot_us).max().unwrap_or(0);
    (last - first) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_between_samples() {
        assert_eq!(rates(&[(0.0, 0.0), (0.5, 100.0), (0.51, 101.0), (1.51, 301.0)]), [(0.5, 200.0), (1.51, 200.0)]);
    }
}
