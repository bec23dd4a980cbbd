//! Pipelines that are checked and kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::Digest;
use crate::pipeline::complaint::Complaint;

/// A pipeline to check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckPipeline {
    /// The pipeline file's text.
    pub pipeline: String,
    #[serde(default)]
    pub params: Map<String, Value>,
}

/// A pipeline that has nothing wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CheckedPipeline {
    pub name: String,
    pub steps: Vec<CheckedStep>,
    /// What may not be what was meant.
    #[schemars(with = "Vec<Value>")]
    pub warnings: Vec<Complaint>,
}

/// A step of a checked pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckedStep {
    pub name: String,
    pub kind: String,
    /// The steps before it.
    pub needs: Vec<String>,
}

/// A pipeline to keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeepPipeline {
    /// The pipeline file's text.
    pub pipeline: String,
    /// Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The version under which a pipeline is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    pub name: String,
    pub version: u64,
}

/// A kept pipeline in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineItem {
    pub name: String,
    pub namespace: String,
    /// The newest.
    pub version: u64,
    pub updated_ms: u64,
    pub by: String,
}

/// A kept pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineVersions {
    pub name: String,
    pub namespace: String,
    /// Oldest first.
    pub versions: Vec<PipelineVersionItem>,
}

/// A version of a kept pipeline in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineVersionItem {
    pub version: u64,
    pub at_ms: u64,
    pub by: String,
    /// Of its text.
    pub digest: Digest,
}

/// A version of a kept pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PipelineVersion {
    pub name: String,
    pub namespace: String,
    pub version: u64,
    pub at_ms: u64,
    pub by: String,
    pub digest: Digest,
    /// The pipeline file's text.
    pub pipeline: String,
}
