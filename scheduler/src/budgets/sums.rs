//! Sums of costs.

use std::collections::BTreeMap;

use gristmill_backends::state::RunRecord;
use gristmill_pools::costs::Amount;
use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::{COST_MODELS_MAX, COST_ROWS_MAX};
use serde::{Deserialize, Serialize};

use super::cost::RunCost;

/// What stands for pipelines, steps and models that have no sum of their own.
pub(super) const OTHERS: &str = "…";

/// What was spent, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Attempts that ended.
    pub attempts: u64,
    /// Microseconds in slots, those that brought nothing, and those that have no price.
    pub slot_us: u64,
    pub wasted_us: u64,
    pub unpriced_us: u64,
    pub amount: Amount,
    pub wasted: Amount,
    /// Attempts of which it is known how long they waited for a slot, and how long that was.
    pub waits: u64,
    pub waited_us: u64,
}

impl Spent {
    /// Adds what was spent elsewhere.
    pub fn add(&mut self, other: &Spent) {
        self.attempts += other.attempts;
        self.slot_us = self.slot_us.saturating_add(other.slot_us);
        self.wasted_us = self.wasted_us.saturating_add(other.wasted_us);
        self.unpriced_us = self.unpriced_us.saturating_add(other.unpriced_us);
        self.amount += other.amount;
        self.wasted += other.wasted;
        self.waits += other.waits;
        self.waited_us = self.waited_us.saturating_add(other.waited_us);
    }
}

/// What was spent by a step in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub namespace: String,
    pub pipeline: String,
    pub pool: String,
    pub step: String,
    #[serde(flatten)]
    pub spent: Spent,
}

impl Row {
    fn key(&self) -> (&str, &str, &str, &str) {
        (&self.namespace, &self.pipeline, &self.pool, &self.step)
    }
}

/// What was spent in a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Days since 1970.
    pub day: u64,
    /// Runs that ended.
    pub runs: u64,
    /// By namespace, pipeline, pool and step; at most [`COST_ROWS_MAX`] and one for each namespace and pool.
    rows: Vec<Row>,
    /// By model and namespace. A model costs what the runs cost that made a version of it, as a whole; a run that made
    /// two counts for both.
    models: BTreeMap<String, BTreeMap<String, Spent>>,
}

impl Day {
    pub(super) fn new(day: u64) -> Day {
        Day { day, ..Day::default() }
    }

    /// The sums by namespace, pipeline, pool and step.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Model, namespace and what was spent.
    pub fn models(&self) -> impl Iterator<Item = (&str, &str, &Spent)> {
        self.models.iter().flat_map(|(model, namespaces)| {
            namespaces.iter().map(move |(namespace, spent)| (model.as_str(), namespace.as_str(), spent))
        })
    }

    /// Counts a run that has ended, and the models that it made.
    pub(super) fn count(&mut self, record: &RunRecord, cost: &RunCost, models: &[String]) {
        self.runs += 1;
        let mut whole = Spent::default();
        for step in cost.steps.iter().filter(|step| step.used.attempts > 0) {
            let spent = Spent {
                attempts: step.used.attempts,
                slot_us: step.slot_us(),
                wasted_us: step.used.wasted_us,
                unpriced_us: if step.amount.is_none() { step.slot_us() } else { 0 },
                amount: step.amount.unwrap_or_default(),
                wasted: step.wasted.unwrap_or_default(),
                waits: step.used.waits,
                waited_us: step.used.waited_us,
            };
            whole.add(&spent);
            let (namespace, pipeline) = (record.namespace.clone(), record.pipeline.clone());
            self.add(Row { namespace, pipeline, pool: step.pool.clone(), step: step.step.clone(), spent });
        }
        for model in models {
            let is_known = self.models.contains_key(model) || self.models.len() < COST_MODELS_MAX;
            let name = if is_known { model.clone() } else { OTHERS.to_owned() };
            self.models.entry(name).or_default().entry(record.namespace.clone()).or_default().add(&whole);
        }
    }

    fn add(&mut self, mut row: Row) {
        let find = |rows: &[Row], row: &Row| rows.binary_search_by(|known| known.key().cmp(&row.key()));
        let mut found = find(&self.rows, &row);
        if found.is_err() && self.rows.len() >= COST_ROWS_MAX {
            (row.pipeline, row.step) = (OTHERS.to_owned(), OTHERS.to_owned());
            found = find(&self.rows, &row);
        }
        match found {
            Ok(at) => self.rows[at].spent.add(&row.spent),
            Err(at) => self.rows.insert(at, row),
        }
    }
}

/// What was spent on some days.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    pub days: Vec<Day>,
    /// Runs that ended later may not be in it; nothing when none was counted yet.
    pub counted_until: Option<Timestamp>,
}

impl Sums {
    /// What was spent on all of them together, where the row fits.
    pub fn spent(&self, fits: impl Fn(&Row) -> bool) -> Spent {
        let mut spent = Spent::default();
        self.days.iter().flat_map(|day| &day.rows).filter(|row| fits(row)).for_each(|row| spent.add(&row.spent));
        spent
    }
}
