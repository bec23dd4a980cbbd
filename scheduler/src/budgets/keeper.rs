//! The loop that keeps sums and budgets. It runs in every scheduler process; the one that holds the lease works.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::state::{RunRecord, State, StateError};
use gristmill_pools::costs::{Amount, AtLimit, Budget, Budgets, Period, Prices};
use gristmill_protocol::message::InboxEvent;
use gristmill_protocol::{RunId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use super::open::{OpenRuns, open_runs};
use super::standing::{BudgetDocument, Seen, Word};
use super::{BUDGETS, DAY_MS, KEEPER, PRICES, counting, period, read, write};
use crate::calls::in_time;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long counting may take at a look; what is left is counted at the next one. Less than the lease has left then.
const COUNT: Duration = Duration::from_secs(4);
/// Milliseconds for which one keeper works and others don't, and those after which it says so again. One that ends is
/// followed by another within the lease.
const LEASE_MS: u64 = 10_000;
const RENEW_MS: u64 = 3_000;
/// Milliseconds between two looks at what budgets have left: what is spent in between is spent beyond the limit.
const BUDGETS_EVERY_MS: u64 = 10_000;
/// Milliseconds after which a run that is still open is cancelled again: the store may have lost the first time.
const AGAIN_MS: u64 = 30_000;

/// Keeps sums and budgets of a cluster.
pub struct CostsKeeper {
    state: Arc<dyn State>,
    prices: Prices,
    budgets: Budgets,
    /// Which keeper this is.
    keeper: u64,
    /// When the lease was last written.
    renewed: Option<Timestamp>,
    /// Whether the prices are known to those who ask.
    are_published: bool,
    open: OpenRuns,
    looked: Option<Timestamp>,
    /// How budgets stood at the last look.
    standing: BTreeMap<String, BudgetDocument>,
    /// Runs that were cancelled, and when.
    cancelled: BTreeMap<RunId, Timestamp>,
    ratios: watch::Sender<BTreeMap<String, f64>>,
}

/// Who works.
#[derive(Serialize, Deserialize)]
struct Lease {
    keeper: u64,
    until: Timestamp,
}

impl CostsKeeper {
    /// A keeper that hasn't looked yet. All processes of a cluster should have the same prices and budgets; those of
    /// the one that works hold.
    pub fn new(state: Arc<dyn State>, prices: Prices, budgets: Budgets) -> CostsKeeper {
        CostsKeeper {
            state,
            prices,
            budgets,
            keeper: RandomState::new().build_hasher().finish(),
            renewed: None,
            are_published: false,
            open: OpenRuns::default(),
            looked: None,
            standing: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            ratios: watch::Sender::new(BTreeMap::new()),
        }
    }

    /// The share that is spent of each budget, for `gristmill_budget_spent_ratio`. Empty while another keeper works.
    pub fn ratios(&self) -> watch::Receiver<BTreeMap<String, f64>> {
        self.ratios.subscribe()
    }

    /// Keeps sums and budgets until it is dropped, which it may be at any time.
    pub async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            looks.tick().await;
            match self.look().await {
                Ok(()) if std::mem::take(&mut is_away) => info!("costs are counted again"),
                Ok(()) => {}
                Err(error) if !std::mem::replace(&mut is_away, true) => {
                    warn!(error = &error as &dyn std::error::Error, "costs can't be counted");
                }
                Err(_) => {}
            }
        }
    }

    /// Looks once, and does what is due.
    pub(super) async fn look(&mut self) -> Result<(), StateError> {
        let now = in_time("read the clock", self.state.clock()).await?.now;
        if !self.holds_lease(now).await? {
            (self.are_published, self.looked) = (false, None);
            self.standing.clear();
            self.ratios.send_if_modified(|ratios| !std::mem::take(ratios).is_empty());
            return Ok(());
        }
        if !self.are_published {
            self.publish_prices().await?;
            self.remove_budgets().await?;
            self.are_published = true;
        }
        let until = Instant::now() + COUNT;
        while counting::count(&*self.state, &self.prices).await? && Instant::now() < until {}
        if self.budgets.0.is_empty() {
            return Ok(());
        }
        // A clock that was set back is no reason to wait.
        if self.looked.is_none_or(|looked| now < looked || now.since(looked) >= BUDGETS_EVERY_MS) {
            self.look_at_budgets(now).await?;
            self.looked = Some(now);
        }
        self.stop_runs(now).await
    }

    /// Takes or keeps the lease; false while another has it.
    async fn holds_lease(&mut self, now: Timestamp) -> Result<bool, StateError> {
        if self.renewed.is_some_and(|at| at <= now && now.since(at) < RENEW_MS) {
            return Ok(true);
        }
        let found = in_time("read the lease of costs", read::<Lease>(&*self.state, KEEPER)).await?;
        let version = match found {
            // One that ends further away was written before the clock was set back.
            Some((_, lease))
                if lease.keeper != self.keeper && lease.until > now && lease.until.since(now) <= LEASE_MS =>
            {
                self.renewed = None;
                return Ok(false);
            }
            Some((version, _)) => version,
            None => 0,
        };
        let lease = Lease { keeper: self.keeper, until: now.plus_ms(LEASE_MS) };
        let is_ours = in_time("take the lease of costs", write(&*self.state, KEEPER, version, &lease)).await?;
        self.renewed = is_ours.then_some(now);
        Ok(is_ours)
    }

    /// Writes the prices down for those who are asked what runs cost.
    async fn publish_prices(&self) -> Result<(), StateError> {
        let found = in_time("read prices", read::<Prices>(&*self.state, PRICES)).await;
        let version = match found {
            Ok(Some((_, prices))) if prices == self.prices => return Ok(()),
            Ok(found) => found.map_or(0, |(version, _)| version),
            // What a later version wrote is replaced.
            Err(StateError::Damaged { .. }) => {
                in_time("read prices", self.state.get(PRICES)).await?.map_or(0, |found| found.version)
            }
            Err(error) => return Err(error),
        };
        in_time("write prices", write(&*self.state, PRICES, version, &self.prices)).await.map(|_| ())
    }

    /// Removes how budgets stand that there are no more.
    async fn remove_budgets(&self) -> Result<(), StateError> {
        let keys = in_time("list budgets", self.state.keys(BUDGETS, "", 1_000)).await?;
        for key in keys {
            let is_known = key.strip_prefix(BUDGETS).is_some_and(|name| self.budgets.0.contains_key(name));
            if is_known {
                continue;
            }
            if let Some(found) = in_time("read a budget", self.state.get(&key)).await? {
                match self.state.delete(&key, found.version).await {
                    Ok(()) | Err(StateError::Conflict { .. } | StateError::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Sees what was spent, writes it down, and says what is to be said.
    async fn look_at_budgets(&mut self, now: Timestamp) -> Result<(), StateError> {
        let counted = counting::open(&*self.state).await?.map_or(Timestamp(0), |(_, open)| open.place.0);
        let budgets = self.budgets.clone();
        let covers = move |record: &RunRecord| {
            budgets.0.values().any(|budget| budget.scope.covers(&record.namespace, &record.pipeline))
        };
        self.open.look(&*self.state, &self.prices, counted, covers).await?;
        // The days of the longest period are read once for all.
        let sums = match self.first_day(now) {
            Some(first) => super::sums(&*self.state, first, now.0 / DAY_MS).await?,
            None => super::Sums::default(),
        };
        let mut ratios = BTreeMap::new();
        for (name, budget, seen) in self.seen(&sums, now) {
            let key = format!("{BUDGETS}{name}");
            let before = match read::<BudgetDocument>(&*self.state, &key).await {
                Err(StateError::Damaged { .. }) => {
                    let found = in_time("read a budget", self.state.get(&key)).await?;
                    (found.map_or(0, |found| found.version), None)
                }
                before => before?.map_or((0, None), |(version, before)| (version, Some(before))),
            };
            let (version, before) = before;
            let (next, words) = BudgetDocument::next(&name, &budget, &self.prices.currency, before.as_ref(), seen);
            if write(&*self.state, &key, version, &next).await? {
                words.into_iter().for_each(|word| say(word, &next));
            }
            ratios.insert(name.clone(), next.ratio());
            self.standing.insert(name, next);
        }
        self.ratios.send_replace(ratios);
        Ok(())
    }

    /// The first day of the longest period of a budget, counted since 1970.
    fn first_day(&self, now: Timestamp) -> Option<u64> {
        let periods = self.budgets.0.values().filter_map(|budget| period::around(budget.period, now));
        periods.map(|(from, _)| from.0 / DAY_MS).min()
    }

    /// What is seen of each budget: ended runs from the sums, and open ones.
    fn seen(&self, sums: &super::Sums, now: Timestamp) -> Vec<(String, Budget, Seen)> {
        let costs: Vec<(&RunRecord, Amount)> = self.open.costs(&self.prices, now).collect();
        let seen = |budget: &Budget| {
            let covered =
                || costs.iter().filter(|(record, _)| budget.scope.covers(&record.namespace, &record.pipeline)).copied();
            let around = period::around(budget.period, now);
            match around {
                Some((from, _)) => {
                    let days = sums.days.iter().filter(|day| day.day >= from.0 / DAY_MS);
                    let rows = days.flat_map(|day| day.rows());
                    let rows = rows.filter(|row| budget.scope.covers(&row.namespace, &row.pipeline));
                    let ended = rows.map(|row| row.spent.amount).sum();
                    Seen { now, period: around, ended, open: covered().map(|(_, amount)| amount).sum(), run: None }
                }
                None => {
                    let most = covered().max_by_key(|(record, amount)| (*amount, record.run));
                    let (run, open) = most.map_or((None, Amount::ZERO), |(record, open)| (Some(record.run), open));
                    Seen { now, period: None, ended: Amount::ZERO, open, run }
                }
            }
        };
        self.budgets.0.iter().map(|(name, budget)| (name.clone(), budget.clone(), seen(budget))).collect()
    }

    /// Cancels runs of budgets that are spent.
    async fn stop_runs(&mut self, now: Timestamp) -> Result<(), StateError> {
        let stopping: Vec<BudgetDocument> =
            self.standing.values().filter(|document| document.stops() && document.holds_at(now)).cloned().collect();
        if stopping.is_empty() {
            self.cancelled.clear();
            return Ok(());
        }
        let open = open_runs(&*self.state).await?;
        let stopped = self.stopped(&stopping, &open, now);
        self.cancelled.retain(|run, _| stopped.iter().any(|(stopped, _)| stopped == run));
        for (run, budget) in stopped {
            if self.cancelled.get(&run).is_some_and(|at| *at <= now && now.since(*at) < AGAIN_MS) {
                continue;
            }
            let cancel = InboxEvent::Cancel { run, by: format!("budget {budget}") };
            in_time("cancel a run", self.state.post(run.shard(), cancel)).await?;
            info!(%run, budget, "a run is cancelled: its budget is spent");
            self.cancelled.insert(run, now);
        }
        Ok(())
    }

    /// The open runs that a spent budget covers, and its name.
    fn stopped(&self, stopping: &[BudgetDocument], open: &[RunRecord], now: Timestamp) -> Vec<(RunId, String)> {
        let mut over: BTreeMap<RunId, Amount> = BTreeMap::new();
        if stopping.iter().any(|document| document.budget.period == Period::Run) {
            over.extend(self.open.costs(&self.prices, now).map(|(record, amount)| (record.run, amount)));
        }
        let stops = |record: &RunRecord| {
            let document = stopping.iter().find(|document| {
                let budget = &document.budget;
                let is_over = budget.period != Period::Run
                    || over.get(&record.run).is_some_and(|amount| *amount >= budget.amount);
                is_over && budget.scope.covers(&record.namespace, &record.pipeline)
            })?;
            Some((record.run, document.name.clone()))
        };
        open.iter().filter_map(stops).collect()
    }
}

fn say(word: Word, document: &BudgetDocument) {
    let BudgetDocument { name, currency, spent, budget, .. } = document;
    let (spent, amount) = (spent.units(), budget.amount.units());
    match (word, budget.at_limit) {
        (Word::Warned, _) => warn!(budget = name, spent, amount, currency, "four fifths of a budget are spent"),
        (Word::Reached, AtLimit::Warn) => warn!(budget = name, spent, amount, currency, "a budget is spent"),
        (Word::Reached, AtLimit::Stop) => {
            warn!(budget = name, spent, amount, currency, "a budget is spent: its runs are cancelled");
        }
    }
}
