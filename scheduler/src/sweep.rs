//! Attempts of which nothing is heard: published but never claimed, or closed without a word.
//!
//! A message may be lost with its broker or its queue. An attempt is published again, under the same name,
//! when it is unclaimed and (a) the broker's connection was made anew since, or (b) one that was published to
//! the same queue ten seconds later has been claimed, or (c) its queue holds nothing and it is ten seconds
//! old. The pauses double. Publishing in vain is harmless: claims answer *taken* or *settled*.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gristmill_backends::broker::Broker;
use gristmill_backends::state::{LeaseView, State};
use gristmill_protocol::limits::{SWEEP_FIRST_MS, SWEEP_MAX_MS};
use gristmill_protocol::message::{Assignment, InboxEvent};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, RunId, Shard, Timestamp};
use gristmill_scheduler_core::Scheduler;
use tokio::time::Instant;

use crate::calls::in_time;

/// Time between two searches, by a clock that nobody sets: the store's may stand still for those who look at it
/// after it was set back.
const SEARCH_EVERY: Duration = Duration::from_secs(1);

/// What is known of the attempts that are out.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    published: BTreeMap<AttemptRef, Published>,
    /// By pool, the latest publication that is known to have been claimed.
    claimed_until: BTreeMap<String, Timestamp>,
    last_search: Option<Instant>,
    searching: bool,
    republish_all: bool,
}

#[derive(Clone, Debug)]
struct Published {
    pool: String,
    at: Timestamp,
    generation: u64,
    next_look: Timestamp,
    pause_ms: u64,
}

/// Attempts to look up.
pub(crate) struct Search {
    by_shard: BTreeMap<Shard, Vec<AttemptRef>>,
    pools: BTreeSet<String>,
    now: Timestamp,
}

/// What a search has found.
pub(crate) struct Findings {
    leases: Vec<(AttemptRef, LeaseView)>,
    /// Pools whose queues hold no message.
    empty: BTreeSet<String>,
    now: Timestamp,
}

/// What is to be done about it.
#[derive(Debug, Default)]
pub(crate) struct ToDo {
    pub(crate) publish: Vec<AttemptRef>,
    pub(crate) closed: Vec<AttemptRef>,
}

impl Sweep {
    /// Takes note of a publication.
    pub(crate) fn published(&mut self, assignment: &Assignment, at: Timestamp, generation: u64) {
        for attempt in assignment.attempts() {
            let known = self.published.get(&attempt);
            let pause_ms = known.map_or(SWEEP_FIRST_MS, |known| (known.pause_ms * 2).min(SWEEP_MAX_MS));
            let published =
                Published { pool: assignment.pool.clone(), at, generation, next_look: at.plus_ms(pause_ms), pause_ms };
            self.published.insert(attempt, published);
        }
    }

    /// Takes note of an attempt that is out since before this process owned its shard.
    pub(crate) fn took_over(&mut self, attempt: AttemptRef, pool: &str, at: Timestamp, generation: u64) {
        let next_look = at.plus_ms(SWEEP_FIRST_MS);
        let published = Published { pool: pool.to_owned(), at, generation, next_look, pause_ms: SWEEP_FIRST_MS };
        self.published.entry(attempt).or_insert(published);
    }

    /// Forgets the attempts of a shard that isn't owned any more.
    pub(crate) fn forget(&mut self, shard: Shard) {
        self.published.retain(|attempt, _| attempt.run.shard() != shard);
    }

    /// Forgets the attempts of a run that is replayed.
    pub(crate) fn forget_run(&mut self, run: RunId) {
        self.published.retain(|attempt, _| attempt.run != run);
    }

    /// Takes note of what has ended.
    pub(crate) fn heard(&mut self, event: &InboxEvent) {
        match event {
            InboxEvent::Finished { reports, .. } => {
                for report in reports {
                    self.ended(report.attempt, true);
                }
            }
            InboxEvent::Expired { ended } => ended.iter().for_each(|expired| self.ended(expired.attempt, true)),
            InboxEvent::Revoked { ended } => ended.iter().for_each(|revoked| self.ended(revoked.attempt, false)),
            InboxEvent::Created { .. } | InboxEvent::Cancel { .. } | InboxEvent::Resume { .. } => {}
        }
    }

    fn ended(&mut self, attempt: AttemptRef, was_claimed: bool) {
        if let Some(published) = self.published.remove(&attempt)
            && was_claimed
        {
            self.claimed(&published);
        }
    }

    fn claimed(&mut self, published: &Published) {
        let until = self.claimed_until.entry(published.pool.clone()).or_default();
        *until = published.at.max(*until);
    }

    /// Everything unclaimed is published again at the next search: the store may have forgotten claims.
    pub(crate) fn republish_all(&mut self) {
        self.republish_all = true;
    }

    /// The attempts to look up now, if it is time.
    pub(crate) fn due(&mut self, now: Timestamp, core: &Scheduler, generation: u64) -> Option<Search> {
        let is_early = self.last_search.is_some_and(|at| at.elapsed() < SEARCH_EVERY);
        if self.searching || (is_early && !self.republish_all) {
            return None;
        }
        self.last_search = Some(Instant::now());
        self.published.retain(|attempt, _| core.assignment_is_out(*attempt));
        let mut search = Search { by_shard: BTreeMap::new(), pools: BTreeSet::new(), now };
        for (attempt, published) in &self.published {
            if published.next_look <= now || published.generation != generation || self.republish_all {
                search.by_shard.entry(attempt.run.shard()).or_default().push(*attempt);
                search.pools.insert(published.pool.clone());
            }
        }
        if search.by_shard.is_empty() {
            self.republish_all = false;
            return None;
        }
        self.searching = true;
        Some(search)
    }

    /// Decides about what a search has found.
    ///
    /// `read_at` is the store's time at which a reading of the inboxes to their ends last began: the end of a lease
    /// that was closed later may still be on its way.
    pub(crate) fn found(&mut self, findings: Findings, core: &Scheduler, generation: u64, read_at: Timestamp) -> ToDo {
        self.searching = false;
        let mut to_do = ToDo::default();
        let all = std::mem::take(&mut self.republish_all);
        for (attempt, lease) in &findings.leases {
            if let (LeaseView::Held(_), Some(published)) = (lease, self.published.get(attempt).cloned()) {
                self.claimed(&published);
            }
        }
        for (attempt, lease) in findings.leases {
            let Some(published) = self.published.get_mut(&attempt) else { continue };
            if !core.assignment_is_out(attempt) {
                continue;
            }
            published.next_look = findings.now.plus_ms(published.pause_ms);
            match lease {
                LeaseView::Held(_) => published.generation = generation,
                LeaseView::Closed { since } => {
                    let unheard = read_at.since(since) >= SWEEP_FIRST_MS;
                    if unheard && !left_out(Twin::SweepClosed) && !left_out(Twin::Sweep) {
                        to_do.closed.push(attempt);
                    }
                }
                LeaseView::Unclaimed => {
                    let until = self.claimed_until.get(&published.pool).copied().unwrap_or_default();
                    let old = findings.now.since(published.at) >= SWEEP_FIRST_MS;
                    let overtaken = until.since(published.at) >= SWEEP_FIRST_MS;
                    let gone = old && findings.empty.contains(&published.pool);
                    let restarted = published.generation != generation && !left_out(Twin::RepublishAfterRestart);
                    if (all || restarted || overtaken || gone) && !left_out(Twin::Sweep) {
                        to_do.publish.push(attempt);
                    }
                }
            }
        }
        to_do
    }
}

impl Search {
    /// Asks the store and the broker. What can't be asked is asked at the next search.
    pub(crate) async fn look(self, state: &dyn State, broker: &dyn Broker) -> Findings {
        let mut findings = Findings { leases: Vec::new(), empty: BTreeSet::new(), now: self.now };
        for (shard, attempts) in self.by_shard {
            if let Ok(leases) = in_time("look up leases", state.leases(shard, &attempts)).await {
                findings.leases.extend(attempts.into_iter().zip(leases));
            }
        }
        for pool in self.pools {
            if let Ok(0) = broker.ready(&pool).await {
                findings.empty.insert(pool);
            }
        }
        findings
    }
}
