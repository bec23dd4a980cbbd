//! `tune`: what is searched for and how, as people write it.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::algorithms::Algorithm;
use super::decide::{Calibrate, Threshold};
use super::duration::DURATION_PATTERN;
use super::features::Features;
use super::steps::{ClassWeight, Learning, metrics};
/// Searches for the algorithm and the settings that do best in cross-validation, then trains the winner on all rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tune {
    /// The dataset to learn from.
    pub input: String,
    /// The column to predict.
    pub target: String,
    /// What is learned. Default: as for `train`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Learning>,
    /// The columns to learn from, and how they are prepared where the search doesn't say.
    pub features: Features,
    /// A column with the weight of each row, 0 or more: a row of weight 2 counts like two rows. Not among the features,
    /// unless it is named there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// The weight of each class; with `weight`, both are multiplied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weight: Option<ClassWeight>,
    /// The algorithms to choose among, each with the settings that aren't searched for.
    #[schemars(extend("minItems" = 1))]
    pub algorithms: Vec<Algorithm>,
    /// What is searched for: settings of algorithms (`random_forest.max_depth`) and of features
    /// (`features.encoding`). A setting of an algorithm counts only where that algorithm is chosen.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub space: IndexMap<String, SearchParameter>,
    /// What the best trial has the best mean of, over the folds. Default `roc_auc`, `accuracy` for more than two
    /// classes, `rmse` for regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = metrics()))]
    pub metric: Option<String>,
    /// Trials at the most. Default 30.
    #[serde(default = "default_trials")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub trials: u32,
    /// No trial begins later than so long after the search began: `30m`. Which trials these are, and so the winner,
    /// then depends on the machines. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "span", "pattern" = DURATION_PATTERN))]
    pub time: Option<String>,
    /// Makes probabilities mean what they say, by a curve fitted on rows kept apart; part of the model. Fitted for the winner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrate: Option<Calibrate>,
    /// Chooses the probability from which on a row is decided positive, on rows kept apart; part of the model.
    /// Default: over 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// The share of the rows that are kept apart for `calibrate` and `threshold`. Default 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub kept: Option<f64>,
    /// How trials are proposed. Default `tpe`.
    #[serde(default)]
    pub sampler: SearchSampler,
    /// Trials begin on few rows, and only the best go on with more (ASHA). Default: all trials see all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halving: Option<SearchHalving>,
    /// How rows are parted for cross-validation. Default: five folds, stratified for classes.
    #[serde(default)]
    pub folds: SearchFolds,
    /// Jobs that may be under way at a time. The proposals depend on it, not on how many workers there are. Default 4.
    #[serde(default = "default_in_flight")]
    #[schemars(extend("minimum" = 1, "maximum" = 1_000))]
    pub in_flight: u32,
    /// The seed of everything random. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// The values that a setting may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchParameter {
    pub r#type: SearchType,
    /// The values of a categorical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
    /// The smallest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Value>,
    /// The largest value of a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Value>,
    /// The distance of neighbouring values. Default: 1 for integers, none for floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Value>,
    /// Whether factors count instead of differences: for rates and strengths.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Counts only where other settings have one of these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub when: BTreeMap<String, Vec<Value>>,
}

/// What kind of values a setting has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchType {
    Categorical,
    Integer,
    Float,
}

/// How trials are proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchSampler {
    /// From what came of those before (tree-structured Parzen estimators).
    #[default]
    Tpe,
    /// Each independent of the others.
    Random,
    /// All points; five values of a float.
    Grid,
}

/// Successive halving without waiting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchHalving {
    /// Percent of the training rows that every trial begins with at the least. Default 10.
    #[serde(default = "ten_percent")]
    #[schemars(extend("minimum" = 1, "maximum" = 99))]
    pub min_percent: u32,
    /// One of so many goes on, with so many times as many rows. Default 3.
    #[serde(default = "default_eta")]
    #[schemars(extend("minimum" = 2, "maximum" = 100))]
    pub eta: u32,
}

/// How rows are parted for cross-validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchFolds {
    /// Default `stratified` for classes, else `random`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<FoldKind>,
    /// Number of folds. Default 5.
    #[serde(default = "default_folds")]
    #[schemars(extend("minimum" = 2, "maximum" = 1_000))]
    pub count: u32,
    /// The column that `group` or `time` go by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Rows left out between training and test, for `time`. Default 0.
    #[serde(default)]
    pub gap: u32,
}

impl Default for SearchFolds {
    fn default() -> SearchFolds {
        SearchFolds { by: None, count: default_folds(), column: None, gap: 0 }
    }
}

/// What parts the rows into folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoldKind {
    /// Chance.
    Random,
    /// Chance, with every fold having the classes in the same shares.
    Stratified,
    /// A column whose equal values stay together.
    Group,
    /// A column that says when: each fold is tested on what comes after what it was trained on.
    Time,
}

fn default_trials() -> u32 {
    30
}
fn default_in_flight() -> u32 {
    4
}
fn ten_percent() -> u32 {
    10
}
fn default_eta() -> u32 {
    3
}
fn default_folds() -> u32 {
    5
}
