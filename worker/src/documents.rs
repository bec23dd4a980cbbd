//! The JSON artifacts that steps leave behind: manifests, evaluations, reports. Equal ones have equal bytes.

use gristmill_learn::search::{Better, Trial};
use gristmill_ml::assess::Assessment;
use gristmill_ml::metrics::Evaluation;
use gristmill_ml::model::Importance;
use gristmill_ml::table::TableSchema;
use gristmill_protocol::Digest;
use gristmill_protocol::output::DatasetRef;
use gristmill_protocol::pipeline::{Algorithm, Features};
use serde::{Deserialize, Serialize};

/// A dataset: what its columns are, and where its rows are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: TableSchema,
    /// The partitions in the order of their rows.
    pub partitions: Vec<PartitionRef>,
    /// The profile of the columns ([`gristmill_ml::profile::TableProfile`] as JSON), where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Digest>,
}

impl Manifest {
    /// How many rows all partitions have.
    pub fn rows(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.rows).sum()
    }
}

/// One partition: a Parquet artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRef {
    pub digest: Digest,
    pub rows: u64,
    pub bytes: u64,
}

/// What a validate step found out about a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub model: Digest,
    /// The rows it was measured on.
    pub input: DatasetRef,
    pub evaluation: Evaluation,
    /// What the input columns matter to the model, most first.
    pub importances: Vec<Importance>,
    /// Each gate, whether it passed and why.
    pub gates: Vec<GateResult>,
    /// How sure the metrics are, slices, groups, robustness, and what else was found out.
    #[serde(default)]
    pub assessment: Assessment,
}

/// What a search found: every trial, and the winner's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyReport {
    pub metric: String,
    pub better: Better,
    /// The number of the best trial.
    pub winner: u32,
    /// Its mean over the folds.
    pub score: f64,
    /// Percent of the rows that it was measured on.
    pub resource: u64,
    pub algorithm: Algorithm,
    pub features: Features,
    pub trials: Vec<Trial>,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    pub passed: bool,
    /// What was required and what was found, in a sentence.
    pub message: String,
}
