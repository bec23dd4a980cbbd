//! Adds runs to the sums as they end, each once: the sums of the day and up to where ends were counted stand in one
//! document, which is written by compare-and-set.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use gristmill_backends::state::{RunRecord, State, StateError};
use gristmill_pools::costs::Prices;
use gristmill_protocol::limits::COST_DAYS_MAX;
use gristmill_protocol::{RunId, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::cost::{Lived, RunCost};
use super::sums::Day;
use super::{DAY_MS, DAYS, OPEN, read, write};
use crate::calls::in_time;
use crate::history::{History, HistoryError};

/// Runs that are counted with one writing of the sums: at some milliseconds each, well under the keeper's lease.
const RUNS_AT_A_TIME: usize = 256;
/// Journals that are read at a time. The largest take 100 MB each.
const AT_ONCE: usize = 4;
/// Days that are removed when one ends: more than ever are too old, but after a pause.
const DAYS_REMOVED: usize = 8;

/// The day that isn't over, and up to where ends were counted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    /// End and id of the last run that was counted.
    pub place: (Timestamp, RunId),
    pub today: Day,
}

/// What is open and its version; nothing before the first run was counted.
pub(super) async fn open(state: &dyn State) -> Result<Option<(u64, Open)>, StateError> {
    read(state, OPEN).await
}

/// Counts the next runs that have ended; says whether there may be more.
pub(super) async fn count(state: &dyn State, prices: &Prices) -> Result<bool, StateError> {
    // At first from the oldest run that is remembered.
    let begin = || (0, Open { place: (Timestamp(0), RunId::from_u128(0)), today: Day::default() });
    let (version, mut open) = in_time("read the open costs", open(state)).await?.unwrap_or_else(begin);
    let ended = in_time("list ended runs", state.ended_runs(open.place, RUNS_AT_A_TIME)).await?;
    let Some(first) = ended.first() else { return Ok(false) };
    let day = day_of(first);
    if day > open.today.day {
        end_day(state, &open.today).await?;
        open.today = Day::new(day);
        return write(state, OPEN, version, &open).await;
    }
    // What ended on a later day is counted when this one is written for the last time.
    let ended: Vec<RunRecord> = ended.into_iter().take_while(|record| day_of(record) <= open.today.day).collect();
    let since = open.place.0;
    let counted: Vec<_> = ended.iter().map(|record| costs(state, prices, record, since).boxed()).collect();
    let counted: Vec<_> = stream::iter(counted).buffered(AT_ONCE).try_collect().await?;
    for (record, cost) in ended.iter().zip(counted) {
        if let Some((cost, models)) = cost {
            open.today.count(record, &cost, &models);
        }
        open.place = (record.ended.unwrap_or_default(), record.run);
    }
    // Another keeper's sums hold if it was faster: they are read again.
    write(state, OPEN, version, &open).await?;
    Ok(true)
}

/// What a run has cost since ends were counted up to a time, and the models that it made.
async fn costs(
    state: &dyn State,
    prices: &Prices,
    record: &RunRecord,
    since: Timestamp,
) -> Result<Option<(RunCost, Vec<String>)>, StateError> {
    let told = async {
        let lived = Lived::read(state, record.run).await?;
        let history = lived.folding.finish()?;
        let cost = RunCost::of(&history, &Default::default(), prices, |life| lived.is_new(life, since));
        Ok::<_, HistoryError>((cost, models(&history)))
    };
    match told.await {
        Ok(told) => Ok(Some(told)),
        Err(HistoryError::State { source: source @ StateError::Unavailable { .. }, .. }) => Err(source),
        Err(error) => {
            // It won't be readable soon, and must not hold up the runs after it.
            warn!(run = %record.run, error = &error as &dyn std::error::Error, "a run's cost can't be counted");
            Ok(None)
        }
    }
}

/// The models of which a run registered a version.
fn models(history: &History) -> Vec<String> {
    let registered = history.models().into_iter().filter(|model| model.version.is_some()).map(|model| model.name);
    let mut names: Vec<String> = registered.collect();
    names.sort();
    names.dedup();
    names
}

fn day_of(record: &RunRecord) -> u64 {
    record.ended.unwrap_or_default().0 / DAY_MS
}

/// Writes a day that is over, and removes those that are too old.
async fn end_day(state: &dyn State, day: &Day) -> Result<(), StateError> {
    if day.runs == 0 {
        return Ok(());
    }
    let key = format!("{DAYS}{:06}", day.day);
    // A keeper that ended before the next day was begun has written the same.
    let version = in_time("read a day's costs", state.get(&key)).await?.map_or(0, |found| found.version);
    write(state, &key, version, day).await?;
    let oldest = format!("{DAYS}{:06}", day.day.saturating_sub(COST_DAYS_MAX));
    for key in in_time("list days", state.keys(DAYS, "", DAYS_REMOVED)).await?.iter().filter(|key| **key < oldest) {
        if let Some(found) = in_time("read a day's costs", state.get(key)).await? {
            match state.delete(key, found.version).await {
                Ok(()) | Err(StateError::Conflict { .. } | StateError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
