//! The facts of a model's log. A new meaning is a new variant: logs are read for as long as models live.

use std::collections::BTreeMap;

use gristmill_protocol::{Digest, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// One thing that happened to a registered model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelFact {
    VersionCreated { at: Timestamp, by: String, version: u64, new: NewVersion },
    AliasMoved(AliasMove),
}

/// What makes a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewVersion {
    /// The model's bytes.
    pub model: Digest,
    /// The run and step that registered it.
    pub run: RunId,
    pub step: String,
    /// What it was measured to reach.
    pub metrics: BTreeMap<String, f64>,
    /// The validate step's evidence, where there is one.
    pub evidence: Option<Digest>,
    /// The name of the algorithm.
    pub algorithm: String,
}

/// An alias that moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AliasMove {
    pub at: Timestamp,
    pub by: String,
    pub why: String,
    pub alias: String,
    /// The version before; nothing when the alias is new.
    pub from: Option<u64>,
    pub to: u64,
    /// Whether it went back instead of forward: what was undone isn't gone back to again.
    #[serde(default)]
    pub rollback: bool,
}
