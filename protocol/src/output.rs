//! What steps hand to the steps after them, and what they leave behind for people.
//!
//! An output is small and names artifacts; the scheduler keeps it without looking inside.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// A dataset: its manifest and how many rows it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetRef {
    /// The manifest: schema, partitions, profile.
    pub manifest: Digest,
    pub rows: u64,
}

/// What a step has made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "made")]
pub enum Output {
    /// Ingest, transform and Python. `quarantine` holds lines that couldn't be read, as Parquet.
    Dataset {
        dataset: DatasetRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quarantine: Option<Quarantined>,
    },
    /// Expect: its input, and the report on it.
    Checked { dataset: DatasetRef, report: Digest, warnings: u32 },
    /// Split.
    Parts { parts: BTreeMap<String, DatasetRef> },
    /// Train.
    Model {
        model: Digest,
        bytes: u64,
        rows: u64,
        algorithm: String,
        /// Tune: all trials and what came of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        study: Option<Digest>,
        /// The manifest of the rows that it learned from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        learned_from: Option<Digest>,
    },
    /// Validate: the evaluation, with its main metrics.
    Evaluation {
        evaluation: Digest,
        model: Digest,
        metrics: BTreeMap<String, f64>,
        /// What a person should look at; the evaluation says it.
        #[serde(default, skip_serializing_if = "is_zero")]
        warnings: u32,
    },
    /// Register.
    Version { name: String, version: u64, model: Digest, alias: Option<String> },
    /// Score: the file and what it held when it was written; or, where the caller's disk isn't the worker's,
    /// the artifact to put there.
    Scores {
        path: String,
        rows: u64,
        bytes: u64,
        modified_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        artifact: Option<Digest>,
        /// Rows that couldn't be scored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quarantine: Option<Quarantined>,
    },
    /// Python, when it returns no dataset: the values as a JSON document, and those of them that are numbers.
    Values { values: Digest, metrics: BTreeMap<String, f64> },
    /// No-op, and Python that returns nothing.
    Nothing,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Lines that couldn't be read, or rows that couldn't be scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quarantined {
    pub lines: u64,
    /// A Parquet file with the file, line, reason and text of the first of them; for rows the dataset, the row's
    /// number from 1, and its values as JSON.
    pub table: Digest,
}

impl Output {
    /// The dataset called `part` of what a step has made (its only one when no part is named).
    pub fn dataset(&self, part: Option<&str>) -> Option<&DatasetRef> {
        match (self, part) {
            (Output::Dataset { dataset, .. } | Output::Checked { dataset, .. }, None) => Some(dataset),
            (Output::Parts { parts }, Some(part)) => parts.get(part),
            _ => None,
        }
    }

    /// The artifacts it names: an earlier result may be used only while all of them exist.
    pub fn artifacts(&self) -> Vec<Digest> {
        match self {
            Output::Dataset { dataset, quarantine } => {
                [dataset.manifest].into_iter().chain(quarantine.as_ref().map(|lines| lines.table)).collect()
            }
            Output::Checked { dataset, report, .. } => vec![dataset.manifest, *report],
            Output::Parts { parts } => parts.values().map(|dataset| dataset.manifest).collect(),
            Output::Model { model, study, .. } => [*model].into_iter().chain(*study).collect(),
            Output::Version { model, .. } => vec![*model],
            Output::Evaluation { evaluation, model, .. } => vec![*evaluation, *model],
            Output::Scores { artifact, quarantine, .. } => {
                artifact.iter().copied().chain(quarantine.as_ref().map(|rows| rows.table)).collect()
            }
            Output::Values { values, .. } => vec![*values],
            Output::Nothing => Vec::new(),
        }
    }

    /// Rows that it speaks of, where it does.
    pub fn rows(&self) -> Option<u64> {
        match self {
            Output::Dataset { dataset, .. } | Output::Checked { dataset, .. } => Some(dataset.rows),
            Output::Parts { parts } => Some(parts.values().map(|dataset| dataset.rows).sum()),
            Output::Model { rows, .. } | Output::Scores { rows, .. } => Some(*rows),
            Output::Evaluation { .. } | Output::Version { .. } | Output::Values { .. } | Output::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::OUTPUT_BYTES_MAX;
    use crate::wire;

    #[test]
    fn the_largest_outputs_fit_the_limit() {
        let digest = Digest::of(b"x");
        let dataset = DatasetRef { manifest: digest, rows: u64::MAX };
        let parts = ["train", "test", "validation"].map(|part| (part.to_owned(), dataset.clone()));
        let metrics = (0..12).map(|at| (format!("balanced_accuracy_{at}"), 0.1)).collect();
        let outputs = [
            Output::Parts { parts: parts.into() },
            Output::Evaluation { evaluation: digest, model: digest, metrics, warnings: u32::MAX },
            Output::Version { name: "m".repeat(63), version: 1, model: digest, alias: Some("a".repeat(63)) },
        ];
        for output in outputs {
            let bytes = wire::encode(&output);
            assert!(bytes.len() <= OUTPUT_BYTES_MAX, "{} bytes: {output:?}", bytes.len());
            assert_eq!(wire::decode::<Output>("an output", &bytes).expect("it reads"), output);
        }
    }
}
