//! The types of a pipeline file, as people write it.
//!
//! Unknown fields are errors here: a misspelt option must not be silently ignored. Defaults are spelled
//! out where they are declared, and show in the published schema.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use super::algorithms::{
    Algorithm, Dbscan, DecisionTree, EarlyStopping, ElasticNet, GradientBoosting, KMeans, KNearestNeighbors, Lasso,
    LinearRegression, LogisticRegression, NaiveBayes, RandomForest, RegressionLoss, Ridge, SupportVectorMachine,
    SvmKernel,
};
pub use super::decide::{Calibrate, Costs, Threshold, ThresholdMetric};
use super::duration::DURATION_PATTERN;
pub use super::features::{
    CategoricalColumn, Clip, DateColumn, DatePart, Encoding, Features, Impute, Listed, NumericColumn, OfColumn,
    PcaFeature, Quantiles, Scale, TextColumn,
};
use super::names::NAME_PATTERN;
use super::schema::exactly_one_kind;
pub use super::search::{FoldKind, SearchFolds, SearchHalving, SearchParameter, SearchSampler, SearchType, Tune};
pub use super::validate::{
    Apart, AttributionCheck, Budget, End, FairnessCheck, FairnessMeasure, Gate, ImportanceCheck, Intervals,
    RobustnessCheck, Validate, Wrong,
};
use crate::limits::{EXPAND_CHILDREN_MAX, STEPS_MAX};

/// Metrics of models that tell classes.
pub const CLASSIFICATION_METRICS: [&str; 11] = [
    "roc_auc",
    "pr_auc",
    "log_loss",
    "brier",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "mcc",
    "ece",
];
/// Metrics of models that tell numbers.
pub const REGRESSION_METRICS: [&str; 7] = ["rmse", "mae", "medae", "r2", "mape", "max_error", "bias"];

/// All metrics, and null for "not given", as the values that the schema allows.
pub(super) fn metrics() -> Vec<Value> {
    let names = CLASSIFICATION_METRICS.iter().chain(&REGRESSION_METRICS);
    names.map(|name| Value::from(*name)).chain([Value::Null]).collect()
}

/// A pipeline: named steps, and what each takes from the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// Name of the pipeline: lower-case letters, digits, `-` and `_`, starting with a letter.
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub name: String,
    /// What the pipeline is for, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Parameters with their defaults, used as `${name}`. `null` means that the caller must give one.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(extend("propertyNames" = json!({ "format": "name", "pattern": NAME_PATTERN })))]
    pub params: IndexMap<String, Value>,
    /// Named concurrency limits: at most so many tasks that name one run at a time, over all runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = json!({ "format": "name", "pattern": NAME_PATTERN }), "additionalProperties" = json!({ "type": "integer", "format": "uint32", "minimum": 1 })))]
    pub limits: BTreeMap<String, u32>,
    /// Priority of all steps that don't say otherwise; higher runs first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = -100, "maximum" = 100))]
    pub priority: Option<i8>,
    /// Share of a pool this run gets beside others of the same priority. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 1000))]
    pub weight: Option<u16>,
    /// The steps, by name.
    #[schemars(extend("propertyNames" = json!({ "format": "name", "pattern": NAME_PATTERN }), "minProperties" = 1, "maxProperties" = STEPS_MAX))]
    pub steps: IndexMap<String, StepFile>,
}

/// One step: exactly one kind (`ingest`, `transform`, ...) and what is common to all kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = exactly_one_kind)]
pub struct StepFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Ingest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<Train>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tune: Option<Tune>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<Validate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<Register>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Python>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noop: Option<Noop>,

    /// Runs after these steps though it takes nothing from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// When it runs, by how the steps before it ended. Default `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// How often it is tried again after a failure that may pass. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 0, "maximum" = 100))]
    pub retries: Option<u16>,
    /// How long one attempt may take once a worker has begun it: `90s`, `30m`, `2h`. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "span", "pattern" = DURATION_PATTERN))]
    pub timeout: Option<String>,
    /// The pool whose workers run it. Default `default`, for `python` steps `python`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub pool: Option<String>,
    /// Priority within the pool, -100 to 100; higher runs first. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = -100, "maximum" = 100))]
    pub priority: Option<i8>,
    /// Named limits its tasks count against, declared under `limits` of the pipeline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Whether an equal earlier result may be used. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
}

/// When a step runs, by how the steps before it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// All of them succeeded.
    #[default]
    Success,
    /// At least one of them failed or was rejected.
    Failure,
    /// All of them ended, however.
    Always,
}

/// One value or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    /// The values as a list.
    pub fn to_vec(&self) -> Vec<T> {
        match self {
            OneOrMany::One(value) => vec![value.clone()],
            OneOrMany::Many(values) => values.clone(),
        }
    }
}

/// Reads files into a dataset: Parquet partitions, a schema and a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ingest {
    /// A file, a folder or a glob (`data/*.csv.gz`), or a list of them; relative to the pipeline file.
    pub source: OneOrMany<String>,
    /// The format. Default: by the files' endings (`.csv`, `.tsv`, `.parquet`, `.ndjson`, `.jsonl`, each also `.gz`
    /// but for Parquet).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The character between fields of a CSV file. Default `,` (a tab for `.tsv`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Texts that mean "no value" in CSV. Default: empty, `NA`, `N/A`, `NaN`, `nan`, `null`, `NULL`, `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Vec<String>>,
    /// The columns to keep. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Types of columns, where the inferred ones are not what is wanted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, ColumnType>,
    /// How many lines that can't be read are kept apart before the step fails.
    #[serde(default)]
    pub bad_lines: BadLines,
}

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Csv,
    Parquet,
    Ndjson,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// A 64-bit whole number.
    Integer,
    /// A 64-bit floating-point number.
    Float,
    /// Text in UTF-8.
    String,
    /// A day, without a time.
    Date,
    /// A point in time, in microseconds, UTC.
    Timestamp,
}

/// How many lines that can't be read, or rows that can't be scored, are tolerated; both bounds hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BadLines {
    /// Share of all, 0 to 1. Default 0.01.
    #[serde(default = "default_bad_share")]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub max_share: f64,
    /// Number of them. Default: no bound of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

impl Default for BadLines {
    fn default() -> Self {
        BadLines { max_share: default_bad_share(), max: None }
    }
}

fn default_bad_share() -> f64 {
    0.01
}

/// Makes a dataset with one SQL query over the datasets it names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// A `select`. Tables are steps by their names (`parts.train` as `"parts.train"`).
    pub sql: String,
}

/// Checks a dataset; passes it on unchanged when no rule of severity `error` is broken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The dataset to check.
    pub input: String,
    /// What must hold.
    #[schemars(extend("minItems" = 1))]
    pub rules: Vec<Rule>,
}

/// One rule: about the whole table (`rows`), a `column`, or each row (`sql`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// How many rows the table has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Bounds>,
    /// The column that the rule's other keys speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Share of rows without a value, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Bounds>,
    /// Smallest and largest value allowed; both count as inside, `null` means no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<[Option<Value>; 2]>,
    /// The values allowed.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub is_in: Option<Vec<Value>>,
    /// A regular expression that the whole text matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// Whether no value may come twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<bool>,
    /// A condition in SQL that each row meets; a row for which it is null counts as failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Whether a broken rule rejects the run or is only reported. Default `error`.
    #[serde(default)]
    pub severity: Severity,
    /// Share of rows, 0 to 1, that may fail before the rule counts as broken. Default 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub tolerate: f64,
}

/// What a broken rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The step rejects its input, and the run ends rejected.
    #[default]
    Error,
    /// The breach is reported and the run goes on.
    Warn,
}

/// Bounds of a number; both count as inside.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Parts a dataset into `train` and `test` (and `validation`), taken as `step.train`, `step.test`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The dataset to part.
    pub input: String,
    /// Share of rows, over 0 and under 1, that become `test`.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub test: f64,
    /// Share of rows that become `validation`. Default 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub validation: f64,
    /// A column whose values keep their shares in every part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratify: Option<String>,
    /// A column to order by: the last rows become `test`, those before them `validation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The seed of the choice. Default 0.
    #[serde(default)]
    pub seed: u64,
}

/// Trains a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// The dataset to learn from.
    pub input: String,
    /// The column to predict. `k_means` and `dbscan`, which find groups, have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What is learned. Default: by the target's type (boolean and text: classification; floating-point: regression;
    /// whole numbers: classification when there are two values, else regression).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Learning>,
    /// The columns to learn from, and how they are prepared.
    pub features: Features,
    /// The algorithm and its settings.
    pub algorithm: Algorithm,
    /// A column with the weight of each row, 0 or more: a row of weight 2 counts like two rows. Not among the features,
    /// unless it is named there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// The weight of each class; with `weight`, both are multiplied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weight: Option<ClassWeight>,
    /// Makes probabilities mean what they say, by a curve fitted on rows kept apart; part of the model.
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
    /// The seed of everything random. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Tasks that a forest's trees are spread over; the model is the same for any number. Default: one for each
    /// ten seconds or so of one thread's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = 1000))]
    pub parts: Option<u32>,
}

/// The weights of classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ClassWeight {
    Balance(Balance),
    /// By class, as text; classes that aren't named have 1.
    ByClass(IndexMap<String, f64>),
}

/// Weights that follow from the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The rows of each class together weigh the same.
    Balanced,
}

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Learning {
    Classification,
    Regression,
    /// Groups, without a target.
    Clustering,
}

/// Makes the model a version in the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// The model: a `train` step.
    pub model: String,
    /// The `validate` step whose metrics and gates go with the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The name in the registry.
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub name: String,
    /// An alias that moves to the new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub alias: Option<String>,
}

/// Scores rows with a model into a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The model: a `train` step, or `name@alias` or `name@3` of the registry.
    pub model: String,
    /// The dataset to score.
    pub input: String,
    /// The file to write, `.parquet` or `.csv`; relative to the working folder.
    pub output: String,
    /// Columns of the input that go along. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Vec<String>>,
    /// How many rows that can't be scored are kept apart before the step fails.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bad_rows: BadLines,
}

fn is_default(bad: &BadLines) -> bool {
    *bad == BadLines::default()
}

/// Calls a function of Python workers with datasets. What it returns is a dataset, or metrics and other values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Python {
    /// The task: the name that the function has with its workers, `@gristmill.task("name")`.
    #[schemars(extend("format" = "name", "pattern" = NAME_PATTERN))]
    pub task: String,
    /// The datasets that the function gets, each by the name of an argument.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(extend("propertyNames" = json!({ "format": "name", "pattern": NAME_PATTERN })))]
    pub inputs: IndexMap<String, String>,
    /// Other arguments of the function, each by its name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(extend("propertyNames" = json!({ "format": "name", "pattern": NAME_PATTERN })))]
    pub params: IndexMap<String, Value>,
}

/// Does nothing, in as many tasks as asked for: for trying out pools and for benchmarks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Noop {
    /// Number of parallel tasks. Default: one task that doesn't expand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minimum" = 1, "maximum" = EXPAND_CHILDREN_MAX))]
    pub tasks: Option<u32>,
    /// Milliseconds that each task waits. Default 0.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "maximum" = 86_400_000))]
    pub ms: u64,
    /// Fails with this code instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<crate::ErrorCode>,
}
