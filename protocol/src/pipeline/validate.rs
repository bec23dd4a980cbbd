//! The `validate` step of a pipeline file: what is measured of a model, and what it must reach.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::names::NAME_PATTERN;
use super::steps::metrics;

/// Slices at the most: each is a pass over its rows, and a table of more isn't read by anyone.
const SLICES_MAX: u32 = 50;

/// Measures a model on a dataset and, with `require`, decides whether it is good enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// The model: a `train` step.
    pub model: String,
    /// The dataset to measure it on.
    pub input: String,
    /// How sure the metrics are: confidence intervals, by drawing the rows anew.
    #[serde(default)]
    pub intervals: Intervals,
    /// Parts of the rows that are measured by themselves: a name for each, and a SQL condition over the dataset's
    /// columns.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(extend("maxProperties" = SLICES_MAX))]
    pub slices: IndexMap<String, String>,
    /// Does the model decide for one group as it does for another?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<FairnessCheck>,
    /// How many predictions change when the inputs are a little wrong; `{}` takes the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robustness: Option<RobustnessCheck>,
    /// How much worse the model is without each input; `{}` takes the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceCheck>,
    /// What moved single predictions of trees and linear models; `{}` takes the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributions: Option<AttributionCheck>,
    /// What the model must reach; all of it, or the run ends rejected.
    #[serde(default)]
    pub require: Vec<Gate>,
}

/// Confidence intervals of metrics, by the bootstrap. More than 20,000 rows are drawn from evenly, and the width made
/// that of all rows, so that the time doesn't grow with the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    /// How often the rows are drawn: 0 for no intervals, else 100 or more. Default 400.
    #[serde(default = "default_draws")]
    #[schemars(extend("minimum" = 0, "maximum" = 10_000))]
    pub draws: u32,
    /// The chance that an interval holds the true value. Default 0.95.
    #[serde(default = "default_level")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub level: f64,
    /// The seed of the draws. Default 0.
    #[serde(default)]
    pub seed: u64,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals { draws: default_draws(), level: default_level(), seed: 0 }
    }
}

/// Decisions by group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FairnessCheck {
    /// The columns whose values are the groups, each by itself. They needn't be among the model's inputs.
    #[schemars(extend("minItems" = 1))]
    pub by: Vec<String>,
    /// The class that is a positive decision. Default: the second of two (`true`, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<Value>,
    /// Rows below which a group is listed and not compared: its rates are mostly chance. Default 100.
    #[serde(default = "default_group_rows")]
    #[schemars(extend("minimum" = 1))]
    pub min_rows: u64,
}

/// Inputs made wrong, on at most 10,000 rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RobustnessCheck {
    /// Normal noise on every number, of this share of its standard deviation. Default 0.1.
    #[serde(default = "tenth")]
    #[schemars(extend("minimum" = 0))]
    pub noise: f64,
    /// The chance of each value to be missing. Default 0.05.
    #[serde(default = "twentieth")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub missing: f64,
    /// The chance of each number to lie outside of what it ever was, by as much as it ranges. Default 0.05.
    #[serde(default = "twentieth")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub out_of_range: f64,
    /// The seed. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// Permutation importance, on at most 10,000 rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportanceCheck {
    /// The metric that gets worse. Default `roc_auc`, `accuracy` for more than two classes, `rmse` for regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = metrics()))]
    pub metric: Option<String>,
    /// How often each input is dealt out anew. Default 5.
    #[serde(default = "five")]
    #[schemars(extend("minimum" = 1, "maximum" = 100))]
    pub repeats: u32,
    /// The seed. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// Shapley values of single rows: exact, for trees and linear models of a number or two classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttributionCheck {
    /// Rows that are explained. Default 200: a row takes a forest of a hundred deep trees some hundredths of a second.
    #[serde(default = "two_hundred")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub rows: u32,
}

fn two_hundred() -> u32 {
    200
}

/// One gate: a bound of a metric, of a difference between groups, of predictions that flip, of size or time; or
/// "at least as good as an alias".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The metric, such as `roc_auc` or `rmse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = metrics()))]
    pub metric: Option<String>,
    /// Bounds the lower or the upper end of the metric's confidence interval instead of the metric itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<End>,
    /// Bounds the metric in this slice instead of on all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Bounds how far groups are apart: by the `ratio` of the smallest rate to the largest (0.8 is the four-fifths
    /// rule), or by their `difference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness: Option<Apart>,
    /// The rates that `fairness` compares. Default `demographic_parity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure: Option<FairnessMeasure>,
    /// The column whose groups `fairness` compares. Default: the only one of the step's `fairness`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Bounds the share of predictions that change when inputs are wrong in this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Wrong>,
    /// Bounds what the model costs: its bytes, or the microseconds that half of single rows are scored within.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Smallest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// An alias of the registered model: the new one must not be worse on the same rows, by `metric` (default `roc_auc`,
    /// `accuracy` for more than two classes, `rmse` for regression). Passes when the alias has no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub beats: Option<String>,
    /// The registered model that `beats` looks at. Default: the name under which the pipeline registers this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub name: Option<String>,
    /// Whether the new model must be better by more than the rows at hand explain: by a paired test (DeLong's for
    /// `roc_auc` of two classes, McNemar's for `accuracy`, else the paired bootstrap). Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub significant: bool,
    /// The largest p-value of that test that passes, two-sided. Default 0.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub p_max: Option<f64>,
}

/// An end of a confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Lower,
    Upper,
}

/// How far rates of groups are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apart {
    /// The smallest over the largest: 1 is equal.
    Ratio,
    /// The largest minus the smallest: 0 is equal.
    Difference,
}

/// The rates of groups that are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FairnessMeasure {
    /// The share of rows that are decided positive.
    #[default]
    DemographicParity,
    /// The share of the positive rows that are decided positive.
    EqualOpportunity,
    /// The worse of the shares of positive and of negative rows that are decided positive.
    EqualisedOdds,
    /// The share of the rows decided positive that are positive.
    PredictiveParity,
}

/// How inputs are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    Noise,
    Missing,
    OutOfRange,
}

/// What a model costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// The size of the model in bytes.
    ModelBytes,
    /// Microseconds from a row of the dataset to its prediction; half of the rows take no longer (p50). Measured where
    /// the step runs, so machines differ.
    RowUs,
}

fn default_draws() -> u32 {
    400
}
fn default_level() -> f64 {
    0.95
}
fn default_group_rows() -> u64 {
    100
}
fn tenth() -> f64 {
    0.1
}
fn twentieth() -> f64 {
    0.05
}
fn five() -> u32 {
    5
}
