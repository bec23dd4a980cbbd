//! What a run costs.

use std::collections::BTreeMap;

use gristmill_backends::state::State;
use gristmill_pools::costs::{Amount, Prices};
use gristmill_protocol::fact::{Fact, JournalBody};
use gristmill_protocol::{RunId, Timestamp, wire};

use crate::history::{Folding, History, HistoryError, StepUse};

/// Entries of a journal that are read at a time; each has at most 256 KiB.
const READ_MAX: usize = 64;

/// What a run costs, or what it has cost so far.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCost {
    /// How the currency is written; empty without prices.
    pub currency: String,
    /// What all priced use costs.
    pub amount: Amount,
    /// The part of it that brought nothing.
    pub wasted: Amount,
    /// The steps in the order of the plan.
    pub steps: Vec<StepCost>,
}

/// What a step costs. Attempts that failed, were lost or repeated cost as others do, and are told apart as waste;
/// results that were there already cost next to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct StepCost {
    pub step: String,
    pub pool: String,
    /// What attempts that have ended used.
    pub used: StepUse,
    /// Microseconds of attempts that are out, since they were given out.
    pub running_us: u64,
    /// What both cost; nothing when the pool has no price.
    pub amount: Option<Amount>,
    /// The part of it that brought nothing.
    pub wasted: Option<Amount>,
}

impl StepCost {
    /// Microseconds in slots, all of them.
    pub fn slot_us(&self) -> u64 {
        self.used.slot_us.saturating_add(self.running_us)
    }
}

impl RunCost {
    /// What a run costs in those of its lives that are wanted; the first is 1.
    pub fn of(
        history: &History,
        running_us: &BTreeMap<u16, u64>,
        prices: &Prices,
        wanted: impl Fn(usize) -> bool,
    ) -> RunCost {
        let uses = history.uses.of_lives(wanted);
        let step = |(at, step): (usize, &crate::history::StepHistory)| {
            let pool = history.plan.steps[at].pool.clone();
            let used = uses.get(&(at as u16)).copied().unwrap_or_default();
            let running_us = running_us.get(&(at as u16)).copied().unwrap_or_default();
            let amount = prices.cost(&pool, used.slot_us.saturating_add(running_us));
            let wasted = prices.cost(&pool, used.wasted_us);
            StepCost { step: step.name.clone(), pool, used, running_us, amount, wasted }
        };
        let steps: Vec<StepCost> = history.steps.iter().enumerate().map(step).collect();
        RunCost {
            currency: prices.currency.clone(),
            amount: steps.iter().filter_map(|step| step.amount).sum(),
            wasted: steps.iter().filter_map(|step| step.wasted).sum(),
            steps,
        }
    }

    /// Microseconds in slots, all of them.
    pub fn slot_us(&self) -> u64 {
        self.steps.iter().fold(0, |sum, step| sum.saturating_add(step.slot_us()))
    }

    /// Microseconds in slots that brought nothing.
    pub fn wasted_us(&self) -> u64 {
        self.steps.iter().fold(0, |sum, step| sum.saturating_add(step.used.wasted_us))
    }

    /// Microseconds in slots of pools that have no price.
    pub fn unpriced_us(&self) -> u64 {
        let unpriced = self.steps.iter().filter(|step| step.amount.is_none());
        unpriced.fold(0, |sum, step| sum.saturating_add(step.slot_us()))
    }

    /// Time in slots, amount and waste by pool; no amount where the pool has no price.
    pub fn pools(&self) -> BTreeMap<String, (u64, Option<Amount>, Option<Amount>)> {
        let mut pools: BTreeMap<String, (u64, Option<Amount>, Option<Amount>)> = BTreeMap::new();
        for step in self.steps.iter().filter(|step| step.slot_us() > 0) {
            let (slot_us, amount, wasted) = pools.entry(step.pool.clone()).or_default();
            *slot_us = slot_us.saturating_add(step.slot_us());
            *amount = step.amount.map(|more| amount.unwrap_or_default() + more);
            *wasted = step.wasted.map(|more| wasted.unwrap_or_default() + more);
        }
        pools
    }
}

/// A run's journal, and when each of its lives ended, by the store's clock.
pub(super) struct Lived {
    pub folding: Folding,
    pub ends: Vec<Timestamp>,
}

impl Lived {
    /// Reads a journal, a page of it in memory.
    pub(super) async fn read(state: &dyn State, run: RunId) -> Result<Lived, HistoryError> {
        let (mut folding, mut ends, mut position) = (Folding::new(run), Vec::new(), 0);
        loop {
            let entries = state.journal(run, position, READ_MAX).await;
            let entries = entries.map_err(|source| HistoryError::State { run, source })?;
            for entry in &entries {
                position = entry.position;
                let body: JournalBody = wire::decode("a journal entry", &entry.body)
                    .map_err(|source| HistoryError::Damaged { run, position, source })?;
                for fact in &body.facts {
                    folding.push(fact)?;
                    if matches!(fact, Fact::RunEnded { .. }) {
                        ends.push(entry.at);
                    }
                }
            }
            if entries.len() < READ_MAX {
                return Ok(Lived { folding, ends });
            }
        }
    }

    /// Whether a life wasn't counted when ends were up to `place`; the first is 1.
    pub(super) fn is_new(&self, life: usize, place: Timestamp) -> bool {
        // The last one is what is asked about. Others ended before, and may have done so between two looks.
        life >= self.ends.len().max(1) || self.ends[life - 1] > place
    }
}
