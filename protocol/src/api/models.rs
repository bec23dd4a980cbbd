//! Registered models, and the endpoints that serve them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Digest, RunId};

/// A registered model in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelItem {
    pub name: String,
    /// How many there are.
    pub versions: u64,
    /// The number of the newest.
    pub latest: Option<u64>,
    pub aliases: BTreeMap<String, u64>,
    pub updated_ms: u64,
}

/// A registered model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Model {
    pub name: String,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    pub aliases: BTreeMap<String, u64>,
    /// Oldest first.
    pub versions: Vec<ModelVersion>,
    /// Where its aliases went, oldest first.
    pub history: Vec<AliasChange>,
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelVersion {
    pub version: u64,
    pub created_ms: u64,
    pub by: String,
    /// The run and step that made it.
    pub run: RunId,
    pub step: String,
    pub digest: Digest,
    pub algorithm: String,
    pub metrics: BTreeMap<String, f64>,
    /// The evaluation that its gates went by.
    pub evidence: Option<Digest>,
    pub description: String,
    pub tags: BTreeMap<String, String>,
    pub aliases: Vec<String>,
    /// The manifests of the rows that it learned from.
    pub datasets: Vec<Digest>,
    pub signed_by: Vec<String>,
}

/// A move of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AliasChange {
    pub at_ms: u64,
    pub alias: String,
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub by: String,
    pub why: Option<String>,
}

/// An alias that is to point to a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    pub version: u64,
    pub alias: String,
    #[serde(default)]
    pub why: String,
}

/// An alias that is to point to where it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    pub alias: String,
    #[serde(default)]
    pub why: String,
}

/// An alias that has moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AliasMoved {
    pub name: String,
    pub alias: String,
    pub from: Option<u64>,
    pub to: u64,
}

/// A fact of a model's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFact {
    /// Its place in the log.
    pub fact: u64,
    pub at_ms: u64,
    pub by: String,
    pub why: Option<String>,
    /// What changed, with what was there before.
    pub changes: Value,
}

/// What an endpoint is to serve. What isn't named isn't served by it any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEndpoint {
    /// Who answers: `name` (its champion), `name@alias` or `name@3`.
    pub champion: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<SetCanary>,
    /// Who scores along without being heard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<String>,
    /// The part of a core that each shadow may use. Default 0.25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_core_share: Option<f64>,
    /// Why, for the endpoint's history.
    #[serde(default)]
    pub why: String,
}

/// A model on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetCanary {
    pub model: String,
    /// The part of keys that it answers, from 0 to 1.
    pub share: f64,
    /// The part of rows on which it may differ from the champion. Default 0.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disagreement_max: Option<f64>,
    /// How many times the champion's p99 its own may be. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_times: Option<f64>,
    /// How much more often than the champion it may fail. Default 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_over: Option<f64>,
}
