//! Files that come in, artifacts, datasets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Digest, RunId};

/// A file that is an artifact now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uploaded {
    pub digest: Digest,
    pub bytes: u64,
}

/// A dataset in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetItem {
    /// Of its manifest.
    pub digest: Digest,
    pub rows: u64,
    /// The run and step that made it.
    pub run: RunId,
    pub pipeline: String,
    pub step: String,
    /// `train` or `test` of a split.
    pub part: Option<String>,
    pub made_ms: u64,
}

/// A dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dataset {
    pub digest: Digest,
    pub rows: u64,
    pub bytes: u64,
    /// Names, types and whether values may be missing, as its manifest has them.
    pub columns: Value,
    pub partitions: Vec<Partition>,
    /// What its columns hold, where that was counted.
    pub profile: Option<Value>,
}

/// A part of a dataset: a Parquet artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Partition {
    pub digest: Digest,
    pub rows: u64,
    pub bytes: u64,
}
