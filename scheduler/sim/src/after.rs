//! What has to have happened some seconds after a fault by those who lived through it undisturbed.
//!
//! Most of what goes wrong is made good by slower rules in the end, so that a run which ends well shows nothing of
//! a fast rule that isn't kept. These checks look while only the fast one can have acted. They ask nothing of
//! processes, nor of the store, that something else was in the way of since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::state::{JournalEntry, LeaseView};
use gristmill_protocol::{AttemptRef, RunId, Shard, WorkerId};
use tokio::time::Instant;

use crate::books::without_tag;
use crate::process::Process;
use crate::store::SimStore;

/// Milliseconds within which all that is looked at here is done by whoever lives.
const WITHIN: Duration = Duration::from_millis(8_000);
/// A process must have been undisturbed for longer: what hit it just before may have its effect within.
const CALM: Duration = Duration::from_millis(10_000);

/// A journal entry that a rollback took, and who wrote to the shard before and after it.
#[derive(Debug)]
pub(crate) struct LostEntry {
    pub(crate) run: RunId,
    pub(crate) entry: JournalEntry,
    pub(crate) owner: Arc<Process>,
}

/// What a rollback took.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) entries: Vec<LostEntry>,
    /// Reports that had been accepted.
    pub(crate) reports: Vec<(WorkerId, AttemptRef)>,
}

impl SimStore {
    /// Looks in a while at what became of what a rollback took.
    pub(crate) fn look_after_rollback(self: &Arc<SimStore>, lost: Lost) {
        let (store, since) = (self.clone(), Instant::now());
        tokio::spawn(async move {
            tokio::time::sleep(WITHIN).await;
            store.check_written_again(&lost.entries);
            store.check_reported_again(&lost.reports, since);
        });
    }

    /// Looks in a while whether what was out and unclaimed has been published again: of a shard that has another
    /// owner now, or of all when the broker has come back without its messages.
    pub(crate) fn look_after_publishing(self: &Arc<SimStore>, shard: Option<Shard>) {
        let (store, since) = (self.clone(), Instant::now());
        tokio::spawn(async move {
            tokio::time::sleep(WITHIN).await;
            store.check_published_again(shard, since);
        });
    }

    /// Whether nothing was in the way of the store's callers.
    fn was_calm(&self) -> bool {
        let inner = self.lock();
        inner.up && inner.calm_since + WITHIN <= Instant::now()
    }

    fn check_written_again(&self, lost: &[LostEntry]) {
        if !self.was_calm() {
            return;
        }
        let inner = self.lock();
        let wrong: Vec<String> = lost
            .iter()
            .filter(|lost| lost.owner.was_calm_for(CALM))
            .filter(|lost| inner.changes.get(&lost.run.shard()).is_none_or(|at| at.elapsed() > WITHIN))
            .filter(|lost| {
                let found = inner.store.journal(lost.run, lost.entry.position - 1, 1);
                found.first().is_none_or(|entry| entry.body != lost.entry.body)
            })
            .map(|lost| {
                format!(
                    "entry {} of {} was lost in a rollback that its writer {} lived through",
                    lost.entry.position, lost.run, lost.owner.name
                )
            })
            .collect();
        drop(inner);
        wrong.into_iter().for_each(|what| self.violation(what));
    }

    fn check_reported_again(&self, lost: &[(WorkerId, AttemptRef)], since: Instant) {
        if !self.was_calm() {
            return;
        }
        let inner = self.lock();
        let lives = |worker: WorkerId| {
            let process = inner.workers.iter().find(|(known, _)| *known == worker);
            process.is_some_and(|(_, process)| process.was_calm_for(CALM))
        };
        let said = |report: &&(WorkerId, AttemptRef)| inner.ledger.reported.get(report).is_some_and(|at| *at >= since);
        let unsaid = lost.iter().filter(|report| lives(report.0)).filter(|report| !said(report));
        let wrong: Vec<String> = unsaid
            .map(|(worker, attempt)| {
                format!("{worker} lived through a rollback and hasn't said again how {attempt} ended")
            })
            .collect();
        drop(inner);
        wrong.into_iter().for_each(|what| self.violation(what));
    }

    fn check_published_again(&self, shard: Option<Shard>, since: Instant) {
        if !self.was_calm() {
            return;
        }
        let inner = self.lock();
        let is_asked = |attempt: AttemptRef| shard.is_none_or(|shard| attempt.run.shard() == shard);
        let has_calm_owner = |attempt: AttemptRef| {
            let owner = inner.store.model().owner(attempt.run.shard());
            let process =
                owner.and_then(|owner| inner.schedulers.iter().find(|known| known.instance == owner.instance));
            let is_new = inner.changes.get(&attempt.run.shard()).is_some_and(|at| *at > since);
            process.is_some_and(|process| process.was_calm_for(CALM)) && !is_new
        };
        let is_unclaimed = |attempt: AttemptRef| {
            inner.books.runs.get(&attempt.run).is_some_and(|shadow| shadow.is_out(attempt))
                && inner.store.leases(attempt.run.shard(), &[attempt]) == [LeaseView::Unclaimed]
        };
        let published = self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // After a rollback the same attempt may be of other items; the books don't know which it is.
        let mut latest: BTreeMap<AttemptRef, Instant> = BTreeMap::new();
        for (attempt, at) in published.iter() {
            let known = latest.entry(without_tag(*attempt)).or_insert(*at);
            *known = (*known).max(*at);
        }
        let wrong: Vec<String> = published
            .iter()
            .filter(|(attempt, _)| latest[&without_tag(**attempt)] < since && is_asked(**attempt))
            .filter(|(attempt, _)| is_unclaimed(**attempt) && has_calm_owner(**attempt))
            .map(|(attempt, _)| {
                let why = if shard.is_some() { "its shard has another owner" } else { "the broker lost its messages" };
                format!("{attempt} is out and unclaimed, and wasn't published again when {why}")
            })
            .collect();
        drop((inner, published));
        wrong.into_iter().for_each(|what| self.violation(what));
    }
}
