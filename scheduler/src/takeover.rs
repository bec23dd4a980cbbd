//! Becoming the owner of a shard: replay its runs, then publish again what nobody has claimed.
//!
//! The inbox is read after the replay and from its start, so an attempt whose lease is found closed has its
//! end in what comes next; what is unclaimed is published again under the same attempt, which is harmless.

use gristmill_backends::state::{LeaseView, StateError, StatusChange};
use gristmill_protocol::fact::{JournalBody, RunStatus};
use gristmill_protocol::limits::REASSERT_MS;
use gristmill_protocol::message::InboxId;
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, wire};
use gristmill_scheduler_core::{Effect, Event};
use tracing::{error, info, warn};

use crate::calls::in_time;
use crate::driver::Driver;
use crate::shard::{OwnedShard, entry_as_read};

/// Journal entries read at a time.
const JOURNAL_READ_MAX: usize = 256;

impl Driver {
    /// Begins to own a shard under the token just granted. When the store can't be read it is tried again.
    pub(crate) async fn take_over(&mut self, shard: Shard, token: OwnerToken) {
        self.lose(shard);
        let first_append = self.next_append_number();
        let mut owned = OwnedShard::new(shard, token, first_append);
        if left_out(Twin::TakeOverReadsInbox) {
            owned.seen = InboxId { ms: self.clock.now().0, seq: 0 };
        }
        self.shards.insert(shard, owned);
        self.work.stop_reading();
        match self.load_all(shard).await {
            Ok(0) => {}
            Ok(runs) => info!(%shard, runs, "took the shard over"),
            Err(error) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "the shard can't be read");
                self.lose_for_now(shard);
            }
        }
    }

    /// Loads the open runs of a shard; returns how many there are.
    ///
    /// None goes on before all are there: what is out of a run that isn't counts against the limits that
    /// another names.
    async fn load_all(&mut self, shard: Shard) -> Result<usize, StateError> {
        let runs = in_time("list open runs", self.state.open_runs(shard)).await?;
        self.begin_all(runs.iter().map(|record| record.run).collect()).await?;
        Ok(runs.len())
    }

    /// Loads open runs and lets them go on: all or none, since one that is held counts as one that goes on.
    pub(crate) async fn begin_all(&mut self, runs: Vec<RunId>) -> Result<(), StateError> {
        let mut loaded = Vec::new();
        for run in runs {
            if let Err(error) = self.load_to_begin(run, &mut loaded).await {
                loaded.into_iter().for_each(|run| self.forget(run));
                return Err(error);
            }
        }
        self.turn(loaded.into_iter().map(|run| Event::Activated { run }));
        Ok(())
    }

    async fn load_to_begin(&mut self, run: RunId, loaded: &mut Vec<RunId>) -> Result<(), StateError> {
        if self.load(run).await? {
            loaded.push(run);
            self.publish_again(run).await?;
        }
        Ok(())
    }

    /// Replays a run's journal into the core. False when it can't be replayed, which is logged, or when the
    /// run can't go on.
    pub(crate) async fn load(&mut self, run: RunId) -> Result<bool, StateError> {
        let loaded = self.try_load(run).await;
        match loaded {
            Ok(Ok(())) if self.core.status(run) != Some(RunStatus::Succeeded) => return Ok(true),
            Ok(Ok(())) => {}
            Ok(Err(damage)) => error!(%run, error = &*damage, "the run's journal can't be replayed; it is left alone"),
            Err(error) => {
                self.forget(run);
                return Err(error);
            }
        }
        self.forget(run);
        Ok(false)
    }

    pub(crate) fn forget(&mut self, run: RunId) {
        self.core.forget(run);
        if let Some(owned) = self.shards.get_mut(&run.shard()) {
            owned.heads.remove(&run);
        }
    }

    async fn try_load(
        &mut self,
        run: RunId,
    ) -> Result<Result<(), Box<dyn std::error::Error + Send + Sync>>, StateError> {
        self.core.forget(run);
        let (mut position, mut recent) = (0, Vec::new());
        loop {
            let entries = in_time("read a journal", self.state.journal(run, position, JOURNAL_READ_MAX)).await?;
            let full = entries.len() >= JOURNAL_READ_MAX;
            for entry in entries {
                let body: JournalBody = match wire::decode("a journal entry", &entry.body) {
                    Ok(body) => body,
                    Err(damage) => return Ok(Err(damage.into())),
                };
                for fact in &body.facts {
                    if let Err(damage) = self.core.replay(run, fact) {
                        return Ok(Err(damage.into()));
                    }
                }
                position = entry.position;
                // All that follows a recent one counts as recent, whatever the clock said when it was written: the
                // tail has no gaps.
                if !recent.is_empty() || self.clock.store_time().since(entry.at) <= REASSERT_MS {
                    let mut entry = entry_as_read(run, position, entry.body, &body.facts);
                    if entry.status == StatusChange::Reopened {
                        // As when it was written first: the store forgot what was settled when the run ended.
                        entry.settled = self.core.succeeded_tasks(run);
                    }
                    recent.push(entry);
                }
            }
            if !full {
                break;
            }
        }
        if position == 0 {
            return Ok(Err(format!("`{run}` has no journal").into()));
        }
        if let Some(owned) = self.shards.get_mut(&run.shard()) {
            if let Some(expected) = owned.last_known(run).filter(|last| *last > position) {
                // The store went back and lost entries of a run that isn't held any more; they come first.
                return Err(StateError::Moved { run, expected, found: position });
            }
            recent.into_iter().for_each(|entry| owned.remember(entry));
            owned.heads.insert(run, position);
        }
        Ok(Ok(()))
    }

    /// Publishes what is out of a run and unclaimed.
    async fn publish_again(&mut self, run: RunId) -> Result<(), StateError> {
        let out: Vec<AttemptRef> = self.core.out(run).into_iter().map(|(attempt, _)| attempt).collect();
        if out.is_empty() {
            return Ok(());
        }
        let leases = in_time("look up leases", self.state.leases(run.shard(), &out)).await?;
        let (now, generation) = (self.clock.now(), self.broker.generation());
        for (attempt, lease) in out.into_iter().zip(leases) {
            if let Some(pool) = self.core.pool_of(run, attempt.task.index) {
                self.sweep.took_over(attempt, pool, now, generation);
            }
            if lease == LeaseView::Unclaimed
                && !left_out(Twin::TakeOverRepublishes)
                && let (Some(assignment), Some(owned)) =
                    (self.core.assignment_of(attempt), self.shards.get_mut(&run.shard()))
            {
                owned.wants(Effect::Publish(assignment));
            }
        }
        Ok(())
    }
}
