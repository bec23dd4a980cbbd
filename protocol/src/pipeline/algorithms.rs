//! The algorithms that `train` and `tune` know, and their settings, as people write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An algorithm and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Algorithm {
    /// Classification by a linear score.
    LogisticRegression(LogisticRegression),
    /// Regression by least squares.
    LinearRegression(LinearRegression),
    /// Least squares with an L2 penalty.
    Ridge(Ridge),
    /// Least squares with an L1 penalty.
    Lasso(Lasso),
    /// Least squares with both penalties.
    ElasticNet(ElasticNet),
    /// One tree.
    DecisionTree(DecisionTree),
    /// Many trees, each grown on a bootstrap sample.
    RandomForest(RandomForest),
    /// Many trees, each grown on all rows, with cuts drawn at random.
    ExtraTrees(RandomForest),
    /// Many small trees, each fitted to what the ones before it got wrong.
    GradientBoosting(GradientBoosting),
    /// What the nearest training rows are: classification or regression.
    KNearestNeighbors(KNearestNeighbors),
    /// Classification by a wide margin.
    SupportVectorMachine(SupportVectorMachine),
    /// Groups around their means, found without a target.
    KMeans(KMeans),
    /// Groups where rows lie densely, found without a target; rows that lie alone are in none.
    Dbscan(Dbscan),
    /// Classification by a normal distribution of each column in each class.
    NaiveBayes(NaiveBayes),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KNearestNeighbors {
    /// Neighbours that are asked. Default 5.
    #[serde(default = "five")]
    #[schemars(extend("minimum" = 1))]
    pub neighbors: u32,
    /// Whether near ones count more: by one over their distance. Default false.
    #[serde(default)]
    pub by_distance: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SupportVectorMachine {
    /// Default `rbf`.
    #[serde(default)]
    pub kernel: SvmKernel,
    /// What errors cost against a wide margin. Default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub c: f64,
    /// How fast the kernel `rbf` falls with the distance. Default: 1 / (columns · variance of all values).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub gamma: Option<f64>,
}

/// How the margin between classes may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SvmKernel {
    /// Flat: for any number of rows.
    Linear,
    /// Bent, by `exp(-gamma · distance²)`: for up to 20,000 rows.
    #[default]
    Rbf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KMeans {
    /// Groups to find. Default 8.
    #[serde(default = "eight")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub clusters: u32,
    /// Starts that are tried; the tightest groups are kept. Default 10.
    #[serde(default = "ten")]
    #[schemars(extend("minimum" = 1, "maximum" = 1_000))]
    pub starts: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dbscan {
    /// Rows up to this distance are neighbours. Default 0.5.
    #[serde(default = "half")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// A row with so many neighbours, itself included, is in the core of a group. Default 5.
    #[serde(default = "five")]
    #[schemars(extend("minimum" = 1))]
    pub min_samples: u32,
}

fn eight() -> u32 {
    8
}
fn ten() -> u32 {
    10
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NaiveBayes {}

fn five() -> u32 {
    5
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogisticRegression {
    /// Strength of the L2 penalty. Default 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0))]
    pub alpha: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearRegression {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ridge {
    /// Strength of the penalty. Default 1.
    #[serde(default = "one")]
    #[schemars(extend("minimum" = 0))]
    pub alpha: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lasso {
    /// Strength of the penalty. Default 1.
    #[serde(default = "one")]
    #[schemars(extend("minimum" = 0))]
    pub alpha: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticNet {
    /// Strength of the penalty. Default 1.
    #[serde(default = "one")]
    #[schemars(extend("minimum" = 0))]
    pub alpha: f64,
    /// Share of the L1 penalty, 0 to 1. Default 0.5.
    #[serde(default = "half")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub l1_ratio: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionTree {
    /// Levels below the root. Default 12.
    #[serde(default = "default_depth")]
    #[schemars(extend("minimum" = 1, "maximum" = 64))]
    pub max_depth: u16,
    /// Rows in a leaf at the least. Default 1.
    #[serde(default = "one_row")]
    #[schemars(extend("minimum" = 1))]
    pub min_samples_leaf: u32,
    /// Rows in a node at the least before it is parted. Default 2.
    #[serde(default = "two_rows")]
    #[schemars(extend("minimum" = 2))]
    pub min_samples_split: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomForest {
    /// Number of trees. Default 100.
    #[serde(default = "default_trees")]
    #[schemars(extend("minimum" = 1, "maximum" = 10_000))]
    pub trees: u32,
    /// Levels below the root. Default 12.
    #[serde(default = "default_depth")]
    #[schemars(extend("minimum" = 1, "maximum" = 64))]
    pub max_depth: u16,
    /// Rows in a leaf at the least. Default 1.
    #[serde(default = "one_row")]
    #[schemars(extend("minimum" = 1))]
    pub min_samples_leaf: u32,
    /// Rows in a node at the least before it is parted. Default 2.
    #[serde(default = "two_rows")]
    #[schemars(extend("minimum" = 2))]
    pub min_samples_split: u32,
    /// Columns tried at each node. Default: the square root of their number, for regression a third.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1))]
    pub max_features: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientBoosting {
    /// Trees at the most (of each class, for more than two). Default 100.
    #[serde(default = "default_trees")]
    #[schemars(extend("minimum" = 1, "maximum" = 100_000))]
    pub iterations: u32,
    /// What each tree is multiplied by. Default 0.1.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub learning_rate: f64,
    /// Leaves of a tree at the most; the leaf that gains most is parted first. Default 31.
    #[serde(default = "default_leaves")]
    #[schemars(extend("minimum" = 2, "maximum" = 4096))]
    pub max_leaves: u32,
    /// Levels below the root at the most. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 64))]
    pub max_depth: Option<u16>,
    /// Rows in a leaf at the least. Default 20.
    #[serde(default = "twenty_rows")]
    #[schemars(extend("minimum" = 1))]
    pub min_samples_leaf: u32,
    /// Strength of the L2 penalty on the values of leaves. Default 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0))]
    pub l2: f64,
    /// Share of the rows that each tree is grown on. Default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub subsample: f64,
    /// Share of the columns that each tree may use. Default 1.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub colsample: f64,
    /// What is made small, for regression: `squared`, `absolute` or `poisson` (for counts). Default `squared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<RegressionLoss>,
    /// Stops when trees don't help any more, measured on training rows kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

/// What boosting makes small when it learns a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegressionLoss {
    Squared,
    Absolute,
    Poisson,
}

/// When boosting stops before its last tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Trees in a row that may bring nothing. Default 10.
    #[serde(default = "ten_rounds")]
    #[schemars(extend("minimum" = 1))]
    pub rounds: u32,
    /// Share of the training rows that are kept apart. Default 0.1.
    #[serde(default = "tenth")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub validation_share: f64,
}

fn tenth() -> f64 {
    0.1
}
fn default_leaves() -> u32 {
    31
}
fn twenty_rows() -> u32 {
    20
}
fn ten_rounds() -> u32 {
    10
}
fn one() -> f64 {
    1.0
}
fn half() -> f64 {
    0.5
}
fn one_row() -> u32 {
    1
}
fn two_rows() -> u32 {
    2
}
fn default_depth() -> u16 {
    12
}
fn default_trees() -> u32 {
    100
}
