//! The facts of a model's log. A new meaning is a new variant: logs are read for as long as models live.
//!
//! A log's entry is one [`LogEntry`]: a [`Record`], which is chained to the entry before, or one of the two kinds
//! that were written before there were records. Those stay readable, and the first record after them pins them.

use std::collections::BTreeMap;

use gristmill_protocol::{Digest, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::signature::Signature;

/// One entry of a model's log, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEntry {
    /// Read, no longer written.
    VersionCreated {
        at: Timestamp,
        by: String,
        version: u64,
        new: NewVersion,
    },
    /// Read, no longer written.
    AliasMoved(AliasMove),
    Recorded(Record),
}

/// What was done to a model in one step: wholly or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the log, from 1.
    pub number: u64,
    /// Which log it belongs to, so that entries of one can't stand in another.
    pub log: String,
    /// What the chain of all entries before it comes to; the digest of nothing for the first.
    pub previous: Digest,
    /// When, by the store's clock; never before the entry before.
    pub at: Timestamp,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The run on whose behalf it happened, which is its trace too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<RunId>,
    /// The caller's key, under which saying it again is saying it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    pub changes: Vec<Change>,
}

/// A caller's key, and what was asked under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub text: String,
    /// The digest of the request.
    pub asked: Digest,
}

/// One change, with what was before and what is after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The model is there, with no version yet.
    ModelCreated,
    VersionRegistered {
        version: u64,
        new: NewVersion,
        #[serde(default)]
        lineage: Lineage,
        /// What belongs to the version beside the model's bytes.
        #[serde(default)]
        artifacts: Vec<Digest>,
        /// Where it comes from, when no pipeline made it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        external: Option<Box<External>>,
    },
    /// A version is in another stage of its life.
    Staged {
        version: u64,
        before: Stage,
        after: Stage,
    },
    /// Somebody vouches for a version.
    VersionSigned {
        version: u64,
        signature: Signature,
    },
    AliasSet {
        alias: String,
        before: Option<u64>,
        after: u64,
    },
    AliasRemoved {
        alias: String,
        before: u64,
    },
    /// An alias moved under the gates' evidence.
    Promoted {
        alias: String,
        before: Option<u64>,
        after: u64,
        evidence: Option<Digest>,
    },
    /// An alias went back: what was undone isn't gone back to again.
    RolledBack {
        alias: String,
        before: u64,
        after: u64,
    },
    /// A tag of the model, or of a version; nothing after it means that it was removed.
    Tagged {
        version: Option<u64>,
        tag: String,
        before: Option<String>,
        after: Option<String>,
    },
    /// The description of the model, or of a version.
    Described {
        version: Option<u64>,
        before: String,
        after: String,
    },
    /// A version is gone; its artifacts stay until the time given.
    VersionDeleted {
        version: u64,
        retained_until: Timestamp,
    },
    /// The artifacts of a deleted version that nothing else needed were removed.
    VersionPurged {
        version: u64,
        artifacts: Vec<Digest>,
    },
    /// The model is gone with all its versions; their artifacts stay until the time given.
    ModelDeleted {
        retained_until: Timestamp,
    },
    /// The model goes on under another name: in that log, after the entry that claimed the name.
    RenamedTo {
        name: String,
        claim: u64,
    },
    /// The name is claimed for a model that is about to come from another log.
    ClaimedFor {
        name: String,
    },
    /// What was known of a subject is gone for good. `subject` says which request it was, never who asked.
    Erased {
        subject: String,
        artifacts: Vec<Digest>,
    },
    /// A version scored something. It stands in a log of its own, one a model's bytes.
    Scored {
        of: VersionRef,
        output: Digest,
        rows: u64,
        input: Option<Digest>,
    },
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

/// Where a version comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The manifests of the datasets that it learned from or was measured on.
    #[serde(default)]
    pub datasets: Vec<Digest>,
    /// The version that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<VersionRef>,
    /// The report of the study that found its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<Digest>,
}

/// What somebody who registered a version from outside says of it. Its model's bytes are a manifest of files, in a
/// format that nothing here reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The address that it was registered from.
    pub source: String,
    /// The tracked run that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// An address where that run can be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_link: Option<String>,
    /// The logged model that it is a version of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logged_model: Option<String>,
}

/// How far a version has come. Several versions can be in one stage; an alias says more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    #[default]
    None,
    Staging,
    Production,
    Archived,
}

impl Stage {
    /// Whether nobody has put the version into a stage.
    pub fn is_none(&self) -> bool {
        *self == Stage::None
    }
}

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VersionRef {
    pub name: String,
    pub version: u64,
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
