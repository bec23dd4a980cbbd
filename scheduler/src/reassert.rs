//! After the store went back: what it lost is written again before anything new is.
//!
//! A new life of the store, or a journal that ends before it should, means that up to two seconds are gone:
//! of journals, leases and inboxes alike. The owner writes the journals again from its own memory, reads the
//! inboxes from their start and repeats what it asked to be taken back; workers say again what they hold and
//! what they have finished. What nobody alive remembers happens again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::state::{AppendEntry, Ownership, RunRecord, State, StateError, StatusChange};
use gristmill_protocol::limits::SHARD_LEASE_MS;
use gristmill_protocol::message::InboxId;
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{RunId, Shard};
use gristmill_scheduler_core::Event;
use tracing::{debug, warn};

use crate::calls::in_time;
use crate::driver::Driver;
use crate::shard::Missing;

/// What came of writing again.
enum Reasserted {
    /// Memory and store agree.
    Done,
    /// The shard is another's.
    Lost,
}

impl Driver {
    /// The store may have gone back: nothing new is appended before it knows again what was written.
    pub(crate) fn doubt_all(&mut self) {
        for owned in self.shards.values_mut() {
            owned.doubted = true;
        }
        self.work.stop_reading();
        self.sweep.republish_all();
    }

    /// Brings store and memory together again, of the shards where they may differ. What can't be asked just
    /// now is asked at the next poll.
    pub(crate) async fn reassert_doubted(&mut self) {
        let doubted: Vec<Shard> = self.shards.values().filter(|owned| owned.doubted).map(|owned| owned.shard).collect();
        for shard in doubted {
            self.reassert(shard).await;
        }
    }

    pub(crate) async fn reassert(&mut self, shard: Shard) {
        match self.try_reassert(shard).await {
            Ok(Reasserted::Done) => self.go_on(shard),
            Ok(Reasserted::Lost) => self.lose(shard),
            Err(StateError::Deposed { .. }) => self.lose(shard),
            // Journals move while they are written again: another call of ours has come through.
            Err(error) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "what was lost can't be written again yet");
                self.clock.doubt();
            }
        }
    }

    async fn try_reassert(&mut self, shard: Shard) -> Result<Reasserted, StateError> {
        let Some(owned) = self.shards.get(&shard) else { return Ok(Reasserted::Lost) };
        let (token, known) = (owned.token, owned.known_runs());
        let ttl = Duration::from_millis(SHARD_LEASE_MS);
        let new = match in_time("own a shard", self.state.own(shard, token, ttl)).await {
            Ok(Ownership::Owned { new }) => new,
            Err(error) => {
                // As with a renewal, nobody will say it again if the right had run out.
                if let Some(owned) = self.shards.get_mut(&shard) {
                    owned.broken = true;
                }
                return Err(error);
            }
            Ok(Ownership::HeldBy(other)) => {
                debug!(%shard, ?other, "the shard is another's");
                return Ok(Reasserted::Lost);
            }
        };
        let Some(owned) = self.shards.get_mut(&shard) else { return Ok(Reasserted::Lost) };
        owned.broken |= new;
        owned.unconsume();
        let broken = owned.broken;
        let open: BTreeMap<RunId, RunRecord> = in_time("list open runs", self.state.open_runs(shard))
            .await?
            .into_iter()
            .map(|record| (record.run, record))
            .collect();
        let mut entries: Vec<AppendEntry> = Vec::new();
        // Runs that can't be brought together with what is stored.
        let mut anew: Vec<RunId> = Vec::new();
        for run in known {
            let record = match open.get(&run) {
                Some(record) => Some(record.clone()),
                None => in_time("look up a run", self.state.run(run)).await?,
            };
            let found = record.map_or(0, |record| record.head);
            let Some(owned) = self.shards.get(&shard) else { return Ok(Reasserted::Lost) };
            let missing = match owned.missing(run, found) {
                Missing::Unknown => Missing::Unknown,
                Missing::Nothing if !broken => Missing::Nothing,
                missing if is_stored(self.state.clone(), owned.recent(run, found)).await? => missing,
                _ => Missing::Unknown,
            };
            let Some(owned) = self.shards.get(&shard) else { return Ok(Reasserted::Lost) };
            match missing {
                Missing::Nothing => {}
                Missing::Entries(positions) if !left_out(Twin::OwnerReasserts) => {
                    let lost = positions.into_iter().filter_map(|position| owned.recent(run, position));
                    entries.extend(without_undone(lost.collect()));
                }
                Missing::Entries(_) | Missing::Unknown => anew.push(run),
            }
        }
        for run in &anew {
            warn!(%run, "what is known of the run isn't what is stored; it is replayed");
            self.core.forget(*run);
            self.sweep.forget_run(*run);
            if let Some(owned) = self.shards.get_mut(&shard) {
                owned.drop_run(*run);
            }
        }
        let Some(owned) = self.shards.get_mut(&shard) else { return Ok(Reasserted::Lost) };
        if !entries.is_empty() {
            warn!(%shard, entries = entries.len(), "what the store lost is written again");
            let append = owned.append(entries.clone(), Vec::new());
            in_time("append", self.state.append(append)).await?;
            if let Some(owned) = self.shards.get_mut(&shard) {
                entries.into_iter().for_each(|entry| owned.remember(entry));
            }
        }
        // Those of another owner, those that are replayed, and those that couldn't be begun before.
        let strange = open.into_keys().filter(|run| !self.core.holds(*run)).collect();
        self.begin_all(strange).await?;
        Ok(Reasserted::Done)
    }

    /// Store and memory agree again: reads what is in the inbox anew, and repeats what the store may have
    /// forgotten to have been asked.
    fn go_on(&mut self, shard: Shard) {
        let Some(owned) = self.shards.get_mut(&shard) else { return };
        owned.doubted = false;
        owned.broken = false;
        if !left_out(Twin::OwnerRereads) {
            owned.seen = InboxId::default();
        }
        let again = if std::mem::take(&mut owned.refused) { owned.in_flight() } else { None };
        let runs: Vec<RunId> = owned.heads.keys().copied().filter(|run| self.core.holds(*run)).collect();
        self.work.stop_reading();
        self.turn(runs.into_iter().map(|run| Event::Activated { run }));
        if let Some(append) = again {
            self.push_append(shard, append, Duration::ZERO);
        }
    }
}

/// The entries of a run, without the changes of its status that a resume among them has undone. An end that is
/// written again would close what is worked on since the resume, which workers have said again by now.
fn without_undone(mut entries: Vec<AppendEntry>) -> Vec<AppendEntry> {
    let resumed = entries.iter().rposition(|entry| entry.status == StatusChange::Reopened).unwrap_or(0);
    for entry in &mut entries[..resumed] {
        entry.status = StatusChange::None;
    }
    entries
}

/// Whether an entry that was written or read here stands where it did: while the right to the shard had run
/// out another may have written, and a run that the store had lost may have been made anew. What is older than
/// the tail can't have been replaced.
async fn is_stored(state: Arc<dyn State>, known: Option<AppendEntry>) -> Result<bool, StateError> {
    let Some(known) = known else { return Ok(true) };
    let stored = in_time("read a journal", state.journal(known.run, known.position.saturating_sub(1), 1)).await?;
    Ok(stored.first().is_some_and(|entry| entry.body == known.body))
}
