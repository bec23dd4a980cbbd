//! What runs have cost that are still open.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use gristmill_backends::state::{RunFilter, RunRecord, State, StateError, StatusFilter};
use gristmill_pools::costs::{Amount, Prices};
use gristmill_protocol::limits::{BUDGET_OPEN_RUNS_MAX, RUN_PAGE_MAX};
use gristmill_protocol::{RunId, Timestamp};
use tracing::warn;

use super::cost::{Lived, RunCost};
use crate::calls::in_time;
use crate::history::HistoryError;

/// Journals that are read at a look, those that were read longest ago first: about a second's work. Others are told as
/// they were.
const READ_MAX: usize = 500;
/// Journals that are read at a time.
const AT_ONCE: usize = 4;

/// The open runs that some budget is for.
#[derive(Debug, Default)]
pub(super) struct OpenRuns {
    runs: BTreeMap<RunId, OpenRun>,
    /// How often was looked.
    looks: u64,
}

/// An open run as it was read.
#[derive(Debug)]
struct OpenRun {
    record: RunRecord,
    /// Position of the last entry that was read, and at which look.
    head: u64,
    read: u64,
    /// What its attempts cost that have ended, without lives that are in the sums.
    ended: Amount,
    /// Attempts that are out, by pool: how many, and the sum of the times since when.
    out: BTreeMap<String, (u64, u128)>,
}

impl OpenRun {
    fn cost(&self, prices: &Prices, now: Timestamp) -> Amount {
        let running = self.out.iter().filter_map(|(pool, (count, since))| {
            let ms = (u128::from(now.0) * u128::from(*count)).saturating_sub(*since);
            prices.cost(pool, u64::try_from(ms * 1_000).unwrap_or(u64::MAX))
        });
        self.ended + running.sum()
    }
}

impl OpenRuns {
    /// Reads what has changed of runs that are open and covered.
    pub(super) async fn look(
        &mut self,
        state: &dyn State,
        prices: &Prices,
        counted: Timestamp,
        covers: impl Fn(&RunRecord) -> bool,
    ) -> Result<(), StateError> {
        self.looks += 1;
        let records = open_runs(state).await?;
        let mut runs = std::mem::take(&mut self.runs);
        for record in records.into_iter().filter(|record| covers(record)) {
            let run = record.run;
            let known = runs.remove(&run).map(|known| OpenRun { record: record.clone(), ..known });
            let (ended, out) = (Amount::ZERO, BTreeMap::new());
            self.runs.insert(run, known.unwrap_or(OpenRun { record, head: 0, read: 0, ended, out }));
        }
        // What was only submitted has used nothing.
        let moved = |run: &&OpenRun| run.record.head > 1 && run.record.head != run.head;
        let mut moved: Vec<(u64, RunId)> =
            self.runs.values().filter(moved).map(|run| (run.read, run.record.run)).collect();
        moved.sort_unstable();
        let reads = moved
            .into_iter()
            .take(READ_MAX)
            .map(|(_, run)| async move { (run, read(state, prices, run, counted).await) });
        let reads: Vec<_> = stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
        for (run, read) in reads {
            let Some(known) = self.runs.get_mut(&run) else { continue };
            (known.head, known.read) = (known.record.head, self.looks);
            match read {
                Ok((ended, out)) => (known.ended, known.out) = (ended, out),
                Err(HistoryError::State { source: source @ StateError::Unavailable { .. }, .. }) => return Err(source),
                Err(error) => {
                    warn!(%run, error = &error as &dyn std::error::Error, "an open run's cost can't be told");
                }
            }
        }
        Ok(())
    }

    /// What each has cost so far.
    pub(super) fn costs(&self, prices: &Prices, now: Timestamp) -> impl Iterator<Item = (&RunRecord, Amount)> {
        self.runs.values().map(move |run| (&run.record, run.cost(prices, now)))
    }
}

/// All open runs, newest first, up to [`BUDGET_OPEN_RUNS_MAX`].
pub(super) async fn open_runs(state: &dyn State) -> Result<Vec<RunRecord>, StateError> {
    let filter = RunFilter { status: Some(StatusFilter::Open), ..RunFilter::default() };
    let (mut records, mut before) = (Vec::new(), None);
    while records.len() < BUDGET_OPEN_RUNS_MAX {
        let page = in_time("list open runs", state.find_runs(&filter, before, RUN_PAGE_MAX)).await?;
        records.extend(page.records);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    Ok(records)
}

type SoFar = (Amount, BTreeMap<String, (u64, u128)>);

async fn read(state: &dyn State, prices: &Prices, run: RunId, counted: Timestamp) -> Result<SoFar, HistoryError> {
    let lived = Lived::read(state, run).await?;
    let history = lived.folding.finish()?;
    // The life that it is in, and those that ended after the sums were made.
    let is_new = |life: usize| lived.ends.get(life - 1).is_none_or(|ended| *ended > counted);
    let cost = RunCost::of(&history, &BTreeMap::new(), prices, is_new);
    let mut out: BTreeMap<String, (u64, u128)> = BTreeMap::new();
    for (attempt, since) in lived.folding.core().out(run) {
        let Some(pool) = lived.folding.core().pool_of(run, attempt.task.index) else { continue };
        let (count, sum) = out.entry(pool.to_owned()).or_default();
        *count += 1;
        *sum += u128::from(since.0);
    }
    Ok((cost.amount, out))
}
