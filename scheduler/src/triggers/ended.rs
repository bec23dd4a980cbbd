//! Fires triggers for runs that have ended, once each.
//!
//! Runs are read in the order of their ends, from where it was left. That is said again after a crash or by several
//! keepers: a firing's run follows from the run that ended and when, so it is made once.

use std::collections::BTreeSet;

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{RunRecord, State, StateError};
use gristmill_protocol::fact::{Fact, JournalBody};
use gristmill_protocol::limits::RUN_PAGE_MAX;
use gristmill_protocol::trigger::{FiringOutcome, FiringRecord};
use gristmill_protocol::{ErrorCode, RunId, Timestamp, wire};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{TriggerDocument, TriggerError, record, submit};
use crate::message::Key;
use crate::schedules::told;

/// The document that says up to where ends were seen to.
const SEEN: &str = "trigger-ends";
/// Milliseconds of ends that are read again at each look: so much the store's clock may go back unnoticed, and ends
/// that were written then stand before others that were read.
const AGAIN_MS: u64 = 2_000;
/// Milliseconds between two notes of how far it is. After a restart as much is read again, which makes no runs.
const NOTE_MS: u64 = 10_000;

/// Up to where the ends of runs were seen to.
#[derive(Debug)]
pub(super) struct Ends {
    upto: Timestamp,
    /// Those of the last seconds.
    seen: BTreeSet<(Timestamp, RunId)>,
    noted: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Noted {
    upto_ms: Timestamp,
}

impl Ends {
    /// From where it was left; from `since` where that is later, as nobody waits for what was before.
    pub(super) async fn begin(state: &dyn State, since: Timestamp, now: Timestamp) -> Result<Ends, StateError> {
        let noted = noted(state).await?.map_or(since, |(_, noted)| noted.upto_ms.max(since));
        // What was noted by a clock that was ahead isn't waited for.
        let upto = noted.min(now);
        Ok(Ends { upto, seen: BTreeSet::new(), noted: upto })
    }

    /// Runs that ended and weren't seen to, oldest end first. They are told again until [`Ends::done`].
    pub(super) async fn next(&mut self, state: &dyn State, now: Timestamp) -> Result<Vec<RunRecord>, StateError> {
        // The clock was set back: ends are written before where we are.
        self.upto = self.upto.min(now);
        let from = Timestamp(self.upto.0.saturating_sub(AGAIN_MS));
        self.seen.retain(|(ended, _)| *ended >= from);
        let mut after = (from, RunId::from_u128(0));
        loop {
            let page = state.ended_runs(after, RUN_PAGE_MAX).await?;
            let Some(last) = page.last() else { return Ok(Vec::new()) };
            after = place(last);
            let new: Vec<RunRecord> = page.into_iter().filter(|record| !self.seen.contains(&place(record))).collect();
            if !new.is_empty() {
                return Ok(new);
            }
        }
    }

    /// A run was seen to.
    pub(super) fn done(&mut self, record: &RunRecord) {
        self.upto = self.upto.max(place(record).0);
        self.seen.insert(place(record));
    }

    /// Notes how far it is, now and then.
    pub(super) async fn note(&mut self, state: &dyn State) -> Result<(), StateError> {
        if self.upto.since(self.noted) < NOTE_MS {
            return Ok(());
        }
        let (version, before) =
            noted(state).await?.map_or((0, Timestamp(0)), |(version, noted)| (version, noted.upto_ms));
        if before < self.upto {
            let body = serde_json::to_vec(&Noted { upto_ms: self.upto }).expect("plain data");
            match state.put(SEEN, version, body).await {
                // Another keeper notes the same.
                Ok(_) | Err(StateError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.noted = self.upto;
        Ok(())
    }
}

/// Where a run stands among the ends.
fn place(record: &RunRecord) -> (Timestamp, RunId) {
    (record.ended.unwrap_or_default(), record.run)
}

async fn noted(state: &dyn State) -> Result<Option<(u64, Noted)>, StateError> {
    let Some(found) = state.get(SEEN).await? else { return Ok(None) };
    let damaged = |error: serde_json::Error| StateError::Damaged { verb: "read ends seen", detail: error.to_string() };
    Ok(Some((found.version, serde_json::from_slice(&found.body).map_err(damaged)?)))
}

/// Fires a trigger for a run that has ended. Saying it again is harmless; an error means to do so.
pub(super) async fn fire(
    state: &dyn State,
    artifacts: &dyn Artifacts,
    document: &TriggerDocument,
    ended: &RunRecord,
) -> Result<(), TriggerError> {
    let (Some(status), Some(at)) = (ended.status, ended.ended) else { return Ok(()) };
    let TriggerDocument { namespace, name, .. } = document;
    let facts = json!({ "run": ended.run, "pipeline": ended.pipeline, "status": status.as_str() });
    // A run that is resumed ends again, at another time.
    let key = Key::Timed(format!("trigger/{namespace}/{name}/{}/{}", ended.run, at.0));
    let submitted = match depth(state, ended.run).await {
        Ok(depth) => submit(state, artifacts, document, &facts, key, at, depth + 1).await,
        Err(error) => Err(error.into()),
    };
    let outcome = match submitted {
        // Another keeper has recorded it.
        Ok(submitted) if !submitted.created => return Ok(()),
        Ok(submitted) => FiringOutcome::Fired { run: submitted.run },
        // What can't be read won't be readable soon, and must not hold up the ends after it.
        Err(error @ TriggerError::State(StateError::Damaged { .. })) => FiringOutcome::Failed { reason: told(&error) },
        Err(error) if error.code() == ErrorCode::Unavailable => return Err(error),
        Err(error) => FiringOutcome::Failed { reason: told(&error) },
    };
    let told = FiringRecord { at_ms: at, cause: ended.run.to_string(), outcome };
    record(state, namespace, name, told).await
}

/// How many triggers on ends of runs lie before a run.
async fn depth(state: &dyn State, run: RunId) -> Result<u32, StateError> {
    let entries = state.journal(run, 0, 1).await?;
    let Some(entry) = entries.first() else { return Ok(0) };
    let damaged =
        |error: wire::WireError| StateError::Damaged { verb: "read a run's journal", detail: error.to_string() };
    let body: JournalBody = wire::decode("a journal entry", &entry.body).map_err(damaged)?;
    let about = body.facts.into_iter().find_map(|fact| match fact {
        Fact::Created { about, .. } => Some(about),
        _ => None,
    });
    Ok(about.and_then(|about| about.origin).map_or(0, |origin| origin.depth))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
    use gristmill_backends::state::model::Ageing;
    use gristmill_backends::state::{Append, AppendEntry, NewRun, StatusChange, StoreId};
    use gristmill_protocol::OwnerToken;
    use gristmill_protocol::fact::RunStatus;

    use super::*;

    /// Ends a run of this name at the store's time.
    async fn end(state: &SharedMemory, name: &str) {
        let run = RunId::derive(Timestamp(0), "default", name, None);
        let (namespace, pipeline) = ("default".to_owned(), name.to_owned());
        let new = NewRun { run, pipeline, namespace, entry: Vec::new(), idempotency: None };
        state.create_run(new).await.expect("made");
        let (shard, token) = (run.shard(), OwnerToken { epoch: 1, instance: 1 });
        state.own(shard, token, Duration::from_secs(10)).await.expect("owned");
        let status = StatusChange::Ended(RunStatus::Succeeded);
        let entry = AppendEntry { run, position: 2, body: Vec::new(), settled: Vec::new(), status };
        let append = Append { shard, token, id: 1, entries: vec![entry], consumed: Vec::new() };
        state.append(append).await.expect("it ends");
    }

    async fn told(ends: &mut Ends, state: &SharedMemory, now: u64) -> Vec<String> {
        state.set_now(Timestamp(now));
        let mut names = Vec::new();
        loop {
            let records = ends.next(state, Timestamp(now)).await.expect("read");
            if records.is_empty() {
                ends.note(state).await.expect("noted");
                return names;
            }
            records.iter().for_each(|record| ends.done(record));
            names.extend(records.into_iter().map(|record| record.pipeline));
        }
    }

    #[tokio::test]
    async fn each_end_is_told_also_when_the_clock_goes_back() {
        let store = MemoryStore::new(StoreId(1), Ageing::ByDeadline);
        let state = SharedMemory::new(store, Timestamp(100_000));
        let mut ends = Ends::begin(&state, Timestamp(90_000), Timestamp(100_000)).await.expect("begun");
        end(&state, "a").await;
        assert_eq!(told(&mut ends, &state, 101_000).await, ["a"]);
        assert!(told(&mut ends, &state, 101_500).await.is_empty());
        // By half a second, which nobody notices, and by a minute.
        state.set_now(Timestamp(99_500));
        end(&state, "b").await;
        assert_eq!(told(&mut ends, &state, 101_600).await, ["b"]);
        state.set_now(Timestamp(40_000));
        end(&state, "c").await;
        assert!(told(&mut ends, &state, 41_000).await.contains(&"c".to_owned()));
        // Another keeper, later.
        assert!(told(&mut ends, &state, 120_000).await.iter().all(|name| name != "c"));
        end(&state, "d").await;
        assert_eq!(told(&mut ends, &state, 121_000).await, ["d"]);
        let mut other = Ends::begin(&state, Timestamp(0), Timestamp(121_000)).await.expect("begun");
        end(&state, "e").await;
        assert_eq!(told(&mut other, &state, 122_000).await.last().map(String::as_str), Some("e"));
    }
}
