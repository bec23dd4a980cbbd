//! Pipelines' own runs, shown as experiments and runs that can only be read.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gristmill_protocol::{Digest, RunId, Timestamp};

use crate::refusal::{Code, Refusal};
use crate::tracking::{Experiment, Metric, Run, RunStatus};

/// What names of pipelines' experiments begin with. Nobody else's may.
pub(crate) const PREFIX: &str = "pipelines/";
/// Characters of an experiment's id, as clients check it.
const ID_CHARS_MAX: usize = 64;

/// Why pipelines' runs can't be told.
#[derive(Debug, thiserror::Error)]
#[error("failed to look up runs of pipelines")]
pub struct PipelineError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Who knows of pipelines' runs.
#[async_trait]
pub trait PipelineRuns: Send + Sync {
    /// The pipelines that have runs.
    async fn pipelines(&self) -> Result<Vec<Pipeline>, PipelineError>;
    /// Runs of a pipeline, newest first, that are older than `before`, at most `limit`.
    async fn runs(
        &self,
        pipeline: &str,
        before: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<PipelineRun>, PipelineError>;
    /// One run.
    async fn run(&self, run: RunId) -> Result<Option<PipelineRun>, PipelineError>;
}

/// A pipeline that has runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    pub name: String,
    /// When its first run that is known of was submitted, and its last.
    pub first: Timestamp,
    pub last: Timestamp,
}

/// A run of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineRun {
    pub run: RunId,
    pub pipeline: String,
    pub status: RunStatus,
    pub started: Timestamp,
    /// Nothing while it goes on.
    pub ended: Option<Timestamp>,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub metrics: BTreeMap<String, f64>,
}

impl From<PipelineError> for Refusal {
    fn from(error: PipelineError) -> Refusal {
        Refusal::new(Code::TemporarilyUnavailable, format!("{error}: {}", error.0))
    }
}

/// A run's id on MLflow's wire.
pub(crate) fn wire_id(run: RunId) -> String {
    format!("{:032x}", run.as_u128())
}

/// The run of an id on MLflow's wire, if it could be one of ours.
pub(crate) fn run_of(id: &str) -> Option<RunId> {
    let fits = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(id, 16).ok().map(RunId::from_u128)).flatten()
}

/// The id of a pipeline's experiment.
pub(crate) fn experiment_id(pipeline: &str) -> String {
    let id = format!("p-{pipeline}");
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if id.len() <= ID_CHARS_MAX && id.chars().all(fits) {
        return id;
    }
    format!("p-{}", &Digest::of(pipeline.as_bytes()).hex()[..32])
}

impl Pipeline {
    pub(crate) fn experiment(&self) -> Experiment {
        let id = experiment_id(&self.name);
        Experiment {
            location: format!("mlflow-artifacts:/{id}"),
            id,
            name: format!("{PREFIX}{}", self.name),
            created: self.first,
            changed: self.last,
            deleted: false,
            tags: BTreeMap::from([("gristmill.pipeline".to_owned(), self.name.clone())]),
        }
    }
}

impl PipelineRun {
    pub(crate) fn view(self) -> Run {
        let (id, experiment) = (wire_id(self.run), experiment_id(&self.pipeline));
        let time = |time: Timestamp| i64::try_from(time.0).unwrap_or(i64::MAX);
        let measured = time(self.ended.unwrap_or(self.started));
        let metric = |(key, value): (String, f64)| {
            let value = Metric::kept(value);
            let metric =
                Metric { key: key.clone(), value, timestamp: measured, step: 0, model: None, dataset: None, run: None };
            (key, metric)
        };
        let mut tags = self.tags;
        tags.insert("gristmill.pipeline".to_owned(), self.pipeline.clone());
        tags.entry("mlflow.runName".to_owned()).or_insert_with(|| self.run.to_string());
        Run {
            artifact_uri: format!("mlflow-artifacts:/{experiment}/{id}/artifacts"),
            name: tags["mlflow.runName"].clone(),
            id,
            experiment,
            user: "gristmill".to_owned(),
            status: self.status,
            start_time: time(self.started),
            end_time: self.ended.map(time),
            params: self.params,
            tags,
            metrics: self.metrics.into_iter().map(metric).collect(),
            ..Run::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_fit_what_clients_allow() {
        assert_eq!(experiment_id("churn"), "p-churn");
        for name in ["x".repeat(63), "flüge".to_owned(), "a/b".to_owned()] {
            let id = experiment_id(&name);
            assert!(id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{id}");
        }
        let run = RunId::from_u128(0xabc);
        assert_eq!(run_of(&wire_id(run)), Some(run));
        assert_eq!((run_of("abc"), run_of(&"G".repeat(32))), (None, None));
    }
}
