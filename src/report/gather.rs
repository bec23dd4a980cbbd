//! The artifacts behind a run, read for its report. What is missing becomes a sentence, never a failure: a
//! report of half a run is worth having.

use std::collections::BTreeSet;

use gristmill_backends::artifacts::Artifacts;
use gristmill_ml::expect::ExpectReport;
use gristmill_ml::model::Model;
use gristmill_ml::profile::TableProfile;
use gristmill_protocol::Digest;
use gristmill_protocol::output::{DatasetRef, Output};
use gristmill_scheduler::history::{History, StepHistory};
use gristmill_worker::documents::{Evidence, Manifest, StudyReport};
use serde::de::DeserializeOwned;

use crate::text;

/// Bytes of a JSON artifact that are read: profiles of thousands of columns have a few MiB.
const JSON_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a model that is opened: a larger one says little more than its evidence does.
const MODEL_BYTES_READ_MAX: u64 = 256 * 1024 * 1024;

/// What was read, or why it couldn't be, as a sentence.
pub type Found<T> = Result<T, String>;

/// What a run left behind.
#[derive(Debug, Default)]
pub struct Findings {
    pub datasets: Vec<Dataset>,
    pub checks: Vec<Check>,
    pub models: Vec<FoundModel>,
    pub evaluations: Vec<FoundEvidence>,
}

/// A dataset that a step made; the first to name it.
#[derive(Debug)]
pub struct Dataset {
    pub step: String,
    /// Which part of a split it is.
    pub part: Option<String>,
    pub rows: u64,
    pub manifest_digest: Digest,
    pub manifest: Found<Manifest>,
    /// Nothing when none was made.
    pub profile: Option<Found<TableProfile>>,
    /// Lines that couldn't be read.
    pub quarantined: Option<(u64, Digest)>,
}

/// What an expect step found.
#[derive(Debug)]
pub struct Check {
    pub step: String,
    pub report: Found<ExpectReport>,
}

/// A model that a step trained.
#[derive(Debug)]
pub struct FoundModel {
    pub step: String,
    pub digest: Digest,
    pub model: Found<Box<Model>>,
    /// The search that found its settings.
    pub study: Option<Found<StudyReport>>,
}

/// What a validate step measured.
#[derive(Debug)]
pub struct FoundEvidence {
    pub step: String,
    pub evidence: Found<Evidence>,
}

/// Reads the artifacts that a run's steps name.
pub async fn gather(history: &History, artifacts: &dyn Artifacts) -> Findings {
    let mut findings = Findings::default();
    let mut seen = BTreeSet::new();
    for step in &history.steps {
        match &step.output {
            Some(output) => gather_output(step, output, artifacts, &mut seen, &mut findings).await,
            None => gather_rejected(step, artifacts, &mut findings).await,
        }
    }
    findings
}

async fn gather_output(
    step: &StepHistory,
    output: &Output,
    artifacts: &dyn Artifacts,
    seen: &mut BTreeSet<Digest>,
    findings: &mut Findings,
) {
    let name = &step.name;
    match output {
        Output::Dataset { dataset, quarantine } => {
            let quarantined = quarantine.as_ref().map(|lines| (lines.lines, lines.table));
            let dataset = read_dataset(name, None, dataset, quarantined, artifacts).await;
            seen.insert(dataset.manifest_digest);
            findings.datasets.push(dataset);
        }
        Output::Parts { parts } => {
            for (part, dataset) in parts {
                if seen.insert(dataset.manifest) {
                    findings.datasets.push(read_dataset(name, Some(part), dataset, None, artifacts).await);
                }
            }
        }
        Output::Checked { report, .. } => {
            let report = read_json(artifacts, *report, "its report").await;
            findings.checks.push(Check { step: name.clone(), report });
        }
        Output::Model { model, study, .. } => {
            let found = read_model(artifacts, *model).await;
            let study = match study {
                Some(study) => Some(read_json(artifacts, *study, "its search").await),
                None => None,
            };
            findings.models.push(FoundModel { step: name.clone(), digest: *model, model: found, study });
        }
        Output::Evaluation { evaluation, .. } => {
            let evidence = read_json(artifacts, *evaluation, "its evidence").await;
            findings.evaluations.push(FoundEvidence { step: name.clone(), evidence });
        }
        Output::Version { .. } | Output::Scores { .. } | Output::Values { .. } | Output::Nothing => {}
    }
}

/// A step that was rejected has no output; its message names what it found.
async fn gather_rejected(step: &StepHistory, artifacts: &dyn Artifacts, findings: &mut Findings) {
    let Some(failure) = &step.failure else { return };
    for digest in digests_in(&failure.message) {
        match step.kind.as_str() {
            "validate" => {
                let evidence = read_json(artifacts, digest, "its evidence").await;
                findings.evaluations.push(FoundEvidence { step: step.name.clone(), evidence });
            }
            "expect" => {
                // The message may name the failing rows alone, which are no report.
                if let Ok(report) = read_json(artifacts, digest, "its report").await {
                    findings.checks.push(Check { step: step.name.clone(), report: Ok(report) });
                }
            }
            _ => {}
        }
    }
}

/// The digests that a text names.
fn digests_in(text: &str) -> Vec<Digest> {
    const DIGEST_CHARS: usize = 7 + 64;
    let starts = text.match_indices("sha256:").map(|(at, _)| at);
    starts.filter_map(|at| text.get(at..at + DIGEST_CHARS)?.parse().ok()).collect()
}

async fn read_dataset(
    step: &str,
    part: Option<&String>,
    dataset: &DatasetRef,
    quarantined: Option<(u64, Digest)>,
    artifacts: &dyn Artifacts,
) -> Dataset {
    let manifest: Found<Manifest> = read_json(artifacts, dataset.manifest, "its manifest").await;
    let profile = match manifest.as_ref().ok().and_then(|manifest| manifest.profile) {
        Some(digest) => Some(read_json(artifacts, digest, "its profile").await),
        None => None,
    };
    Dataset {
        step: step.to_owned(),
        part: part.cloned(),
        rows: dataset.rows,
        manifest_digest: dataset.manifest,
        manifest,
        profile,
        quarantined,
    }
}

async fn read_json<T: DeserializeOwned>(artifacts: &dyn Artifacts, digest: Digest, what: &str) -> Found<T> {
    let bytes = read(artifacts, digest, what, JSON_BYTES_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{what} ({}) can't be understood: {error}", digest.short()))
}

async fn read_model(artifacts: &dyn Artifacts, digest: Digest) -> Found<Box<Model>> {
    let bytes = read(artifacts, digest, "the model", MODEL_BYTES_READ_MAX).await?;
    Model::from_bytes(&bytes).map(Box::new).map_err(|error| error.to_string())
}

async fn read(artifacts: &dyn Artifacts, digest: Digest, what: &str, max: u64) -> Found<bytes::Bytes> {
    let short = digest.short();
    match artifacts.size(digest).await {
        Ok(Some(size)) if size > max => {
            Err(format!("{what} ({short}) has {}, too much for a report", text::bytes(size)))
        }
        Ok(Some(_)) => artifacts.get(digest).await.map_err(|error| format!("{what} can't be read: {error}")),
        Ok(None) => Err(format!("{what} ({short}) isn't in the artifact store any more")),
        Err(error) => Err(format!("{what} ({short}) can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_messages() {
        let digest = Digest::of(b"evidence");
        let text = format!("roc_auc is 0.7; the evaluation is artifact {digest}; é sha256:abc");
        assert_eq!(digests_in(&text), [digest]);
    }
}
