//! The part of a `train` step that turns scores into probabilities and decisions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which curve leads from a model's scores to probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Calibrate {
    /// A sigmoid: two numbers, for few rows.
    Platt,
    /// Steps that never fall: any shape, from about a thousand rows on.
    Isotonic,
}

/// What the probability from which on a row is decided positive is chosen for: one of these. For two classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The metric to be as large as can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<ThresholdMetric>,
    /// What decisions cost; the mean cost is to be as small as can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
    /// The best precision with at least this recall.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub min_recall: Option<f64>,
    /// The best recall with at least this precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub min_precision: Option<f64>,
}

/// A metric that a threshold is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMetric {
    Accuracy,
    BalancedAccuracy,
    F1,
    Mcc,
    /// Recall plus specificity minus 1.
    Youden,
}

/// A cost matrix of two classes: what a decision costs by what was true. Gains are negative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// A negative row is decided positive.
    pub false_positive: f64,
    /// A positive row is decided negative.
    pub false_negative: f64,
    /// A positive row is decided positive. Default 0.
    #[serde(default)]
    pub true_positive: f64,
    /// A negative row is decided negative. Default 0.
    #[serde(default)]
    pub true_negative: f64,
}
