//! Becoming the owner of a shard: replay its runs, then publish again what nobody has claimed.
//!
//! The inbox is read after the replay and from its start, so an attempt whose lease is found closed has its
//! end in what comes next; what is unclaimed is published again under the same attempt, which is harmless.

use gristmill_backends::state::{LeaseView, StateError};
use gristmill_protocol::fact::JournalBody;
use gristmill_protocol::{AttemptRef, OwnerToken, RunId, Shard, wire};
use gristmill_scheduler_core::{Effect, Event};
use tracing::{error, info, warn};

use crate::driver::Driver;
use crate::shard::OwnedShard;

/// Journal entries read at a time.
const JOURNAL_READ_MAX: usize = 256;

impl Driver {
    /// Begins to own a shard under the token just granted.
    pub(crate) async fn take_over(&mut self, shard: Shard, token: OwnerToken) {
        self.lose(shard);
        // A token's appends are numbered from the time of the take-over, so no number is used twice.
        self.shards.insert(shard, OwnedShard::new(shard, token, self.clock.now().0 << 20));
        self.work.stop_reading();
        let runs = match self.state.open_runs(shard).await {
            Ok(runs) => runs,
            Err(error) => {
                warn!(%shard, error = &error as &dyn std::error::Error, "the shard's runs can't be read");
                return self.lose(shard);
            }
        };
        for record in &runs {
            if self.load(record.run).await {
                self.turn([Event::Activated { run: record.run }]);
                if !self.publish_again(record.run).await {
                    return self.lose(shard);
                }
            }
        }
        if !runs.is_empty() {
            info!(%shard, runs = runs.len(), "took the shard over");
        }
    }

    /// Replays a run's journal into the core. False when it can't be, which is logged.
    pub(crate) async fn load(&mut self, run: RunId) -> bool {
        match self.try_load(run).await {
            Ok(Ok(())) => true,
            Ok(Err(damage)) => {
                error!(%run, error = &*damage, "the run's journal can't be replayed; the run is left alone");
                self.core.forget(run);
                false
            }
            Err(error) => {
                warn!(%run, error = &error as &dyn std::error::Error, "the run's journal can't be read");
                self.core.forget(run);
                false
            }
        }
    }

    async fn try_load(
        &mut self,
        run: RunId,
    ) -> Result<Result<(), Box<dyn std::error::Error + Send + Sync>>, StateError> {
        self.core.forget(run);
        let mut position = 0;
        loop {
            let entries = self.state.journal(run, position, JOURNAL_READ_MAX).await?;
            for entry in &entries {
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
            }
            if entries.len() < JOURNAL_READ_MAX {
                break;
            }
        }
        if position == 0 {
            return Ok(Err(format!("`{run}` has no journal").into()));
        }
        if let Some(owned) = self.shards.get_mut(&run.shard()) {
            owned.heads.insert(run, position);
        }
        Ok(Ok(()))
    }

    /// Publishes what is out of a run and unclaimed. False when the store can't be asked.
    async fn publish_again(&mut self, run: RunId) -> bool {
        let out: Vec<AttemptRef> = self.core.out(run).into_iter().map(|(attempt, _)| attempt).collect();
        if out.is_empty() {
            return true;
        }
        let leases = match self.state.leases(run.shard(), &out).await {
            Ok(leases) => leases,
            Err(error) => {
                warn!(%run, error = &error as &dyn std::error::Error, "leases can't be looked up");
                return false;
            }
        };
        let unclaimed = out.into_iter().zip(leases).filter(|(_, lease)| *lease == LeaseView::Unclaimed);
        for (attempt, _) in unclaimed {
            if let (Some(assignment), Some(owned)) =
                (self.core.assignment_of(attempt), self.shards.get_mut(&run.shard()))
            {
                owned.wants(Effect::Publish(assignment));
            }
        }
        true
    }
}
