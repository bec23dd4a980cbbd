//! Costs, budgets and sizes of workers.
//!
//! Amounts are in units of the currency (euros, not cents), as sums of whole billionths; nothing where a pool has no price.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::RunId;

/// What a run costs, or has cost so far, at the prices of now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunCost {
    pub run: RunId,
    pub pipeline: String,
    pub namespace: String,
    /// Whether it has ended: what is out is counted from when it was given out until now.
    pub ended: bool,
    /// How the currency is written; nothing without prices.
    pub currency: Option<String>,
    /// What all priced use costs, and the part of it that brought nothing: attempts that failed, were lost, handed back
    /// or cancelled.
    pub amount: f64,
    pub wasted: f64,
    /// Milliseconds in slots, those that brought nothing, and those in pools that have no price.
    pub slot_ms: u64,
    pub wasted_ms: u64,
    pub unpriced_ms: u64,
    pub steps: Vec<StepCost>,
    pub pools: Vec<PoolCost>,
}

/// What a step costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepCost {
    pub step: String,
    pub pool: String,
    /// Attempts that have ended, and those of them whose result was there already.
    pub attempts: u64,
    pub cached: u64,
    pub slot_ms: u64,
    pub wasted_ms: u64,
    /// The part of `slot_ms` of attempts that are out.
    pub running_ms: u64,
    pub amount: Option<f64>,
    pub wasted: Option<f64>,
}

/// What a run used of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolCost {
    pub pool: String,
    pub slot_ms: u64,
    pub amount: Option<f64>,
    pub wasted: Option<f64>,
}

/// By what costs are summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostGroup {
    #[default]
    Pipeline,
    Namespace,
    Pool,
    /// `PIPELINE/STEP`.
    Step,
    /// What the runs cost, as a whole, that registered a version of the model. A run that made two counts for both, and
    /// one that made none for none.
    Model,
}

/// What ended runs cost on some days, at the prices of then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Costs {
    /// The days (UTC) that are summed up: the first millisecond, and the first one after them.
    pub from_ms: u64,
    pub until_ms: u64,
    pub by: CostGroup,
    pub currency: Option<String>,
    /// Runs that ended up to then are in it; nothing when none was counted yet.
    pub counted_until_ms: Option<u64>,
    /// All together; of models, what is in `items` may be in it several times or not at all.
    pub amount: f64,
    pub wasted: f64,
    /// The most expensive ones first, at most 1,000.
    pub items: Vec<CostItem>,
    /// Those beyond.
    pub left_out: usize,
}

/// A sum of costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CostItem {
    /// `…` stands for pipelines, steps or models that have no sum of their own.
    pub name: String,
    pub attempts: u64,
    pub slot_ms: u64,
    pub wasted_ms: u64,
    pub unpriced_ms: u64,
    pub amount: f64,
    pub wasted: f64,
}

/// How a budget stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetItem {
    pub name: String,
    /// Whose runs count; everybody's with neither.
    pub namespace: Option<String>,
    pub pipeline: Option<String>,
    /// `day`, `week`, `month` or `run`.
    pub period: String,
    /// Nothing where each run has its own.
    pub from_ms: Option<u64>,
    pub until_ms: Option<u64>,
    pub currency: Option<String>,
    pub amount: f64,
    /// In the period, with what open runs have cost so far; where each run has its own, by `run`.
    pub spent: f64,
    /// The part of it that is of open runs.
    pub open: f64,
    pub ratio: f64,
    /// The most expensive open run, where each run has its own.
    pub run: Option<RunId>,
    /// Whether runs are cancelled when all is spent.
    pub stops: bool,
    /// When it was first seen that four fifths were spent, and that all was.
    pub warned_ms: Option<u64>,
    pub reached_ms: Option<u64>,
    pub looked_ms: u64,
}

/// What is recommended for the workers of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sizing {
    pub pool: String,
    /// Attempts that were measured.
    pub tasks: u64,
    /// Slots of each worker; nothing when nothing was measured.
    pub slots: Option<u32>,
    /// MiB of each worker; nothing where no memory was measured.
    pub memory_mib: Option<u64>,
    /// `good`, `upper bound` (few attempts ran alone on their worker), `too few tasks` or `nothing measured`.
    pub confidence: String,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
    /// The machine that it is for: the one that was seen last.
    pub cores: Option<u32>,
    pub machine_memory_bytes: Option<u64>,
    /// Milliseconds that attempts waited for a slot on average, after they were given out, in runs that ended in the
    /// last seven days.
    pub mean_wait_ms: Option<f64>,
    pub steps: Vec<StepSizing>,
}

/// What attempts of a step used. Percentiles are never too low, and at most an eighth too high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepSizing {
    /// `…` stands for steps that have no measures of their own.
    pub step: String,
    pub tasks: u64,
    pub wall_ms_p50: f64,
    pub wall_ms_p95: f64,
    pub cpu_ms_p95: f64,
    /// Cores kept busy.
    pub cores_p95: f64,
    /// KiB beyond what the worker has without work: of attempts that ran alone, and an upper bound from others.
    pub peak_kib_p99_alone: Option<u64>,
    pub peak_kib_p99_shared: Option<u64>,
}
