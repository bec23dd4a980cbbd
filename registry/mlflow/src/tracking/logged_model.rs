//! A logged model: files that a run made, with parameters, tags and metrics of their own.

use std::collections::BTreeMap;

use gristmill_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{FileFact, Files};
use super::metric::Metric;
use super::run::{pairs, without_empty};
use crate::logs::View;

/// Whether a logged model's files are all there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModelStatus {
    Unspecified,
    #[default]
    Pending,
    Ready,
    Failed,
}

impl ModelStatus {
    /// All, by their numbers on the wire from 0.
    pub const NAMES: &'static [&'static str] = &[
        "LOGGED_MODEL_STATUS_UNSPECIFIED",
        "LOGGED_MODEL_PENDING",
        "LOGGED_MODEL_READY",
        "LOGGED_MODEL_UPLOAD_FAILED",
    ];

    pub fn name(self) -> &'static str {
        ModelStatus::NAMES[self as usize]
    }

    /// What it is called in filters.
    pub fn short(self) -> &'static str {
        ["UNSPECIFIED", "PENDING", "READY", "FAILED"][self as usize]
    }

    pub fn named(name: &str) -> Option<ModelStatus> {
        use ModelStatus::{Failed, Pending, Ready, Unspecified};
        [Unspecified, Pending, Ready, Failed].into_iter().find(|status| status.name() == name)
    }
}

/// What happened to a logged model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LoggedModelFact {
    Created { id: String, experiment: String, name: String, model_type: String, run: String, artifact_uri: String },
    Finalized { status: ModelStatus },
    Deleted,
    Param { key: String, value: String },
    Tagged { key: String, value: Option<String> },
    Measured { metrics: Vec<Metric> },
    File(FileFact),
}

/// A metric's name, its dataset's name and digest, and the run that measured it.
type MetricPlace = (String, Option<(String, String)>, Option<String>);

/// A logged model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LoggedModel {
    /// Empty when there is no such model.
    pub id: String,
    pub experiment: String,
    pub name: String,
    pub model_type: String,
    /// The run that made it; empty when none did.
    pub run: String,
    pub artifact_uri: String,
    pub status: ModelStatus,
    pub created: Timestamp,
    pub changed: Timestamp,
    pub deleted: bool,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// The newest by name, dataset and run.
    pub metrics: BTreeMap<MetricPlace, Metric>,
    pub files: Files,
}

impl View for LoggedModel {
    type Fact = LoggedModelFact;
    const KIND: &'static str = "mlflow-logged-model/";

    fn apply(&mut self, at: Timestamp, fact: LoggedModelFact) {
        match fact {
            LoggedModelFact::Created { id, experiment, name, model_type, run, artifact_uri } => {
                let (created, changed) = (at, at);
                let made =
                    LoggedModel { id, experiment, name, model_type, run, artifact_uri, ..LoggedModel::default() };
                *self = LoggedModel { created, changed, ..made };
            }
            LoggedModelFact::Finalized { status } => {
                self.status = status;
                self.changed = at;
            }
            LoggedModelFact::Deleted => {
                self.deleted = true;
                self.changed = at;
            }
            LoggedModelFact::Param { key, value } => drop(self.params.insert(key, value)),
            LoggedModelFact::Tagged { key, value: Some(value) } => drop(self.tags.insert(key, value)),
            LoggedModelFact::Tagged { key, value: None } => drop(self.tags.remove(&key)),
            LoggedModelFact::Measured { metrics } => {
                for metric in metrics {
                    let place = (metric.key.clone(), metric.dataset.clone(), metric.run.clone());
                    let known = self.metrics.get(&place);
                    if known.is_none_or(|known| metric.is_newer_than(known)) {
                        self.metrics.insert(place, metric);
                    }
                }
            }
            LoggedModelFact::File(fact) => self.files.apply(fact),
        }
    }

    fn weight(&self) -> usize {
        let pairs = self.params.iter().chain(&self.tags).map(|(key, value)| key.len() + value.len() + 64);
        pairs.sum::<usize>() + self.metrics.len() * 400 + self.files.weight() + 400
    }
}

impl LoggedModel {
    /// How many parameters, tags and metrics it has.
    pub fn entities(&self) -> usize {
        self.params.len() + self.tags.len() + self.metrics.len()
    }

    /// As MLflow's clients read it.
    pub fn json(&self) -> Value {
        let mut info = json!({
            "model_id": self.id,
            "experiment_id": self.experiment,
            "name": self.name,
            "creation_timestamp_ms": self.created.0,
            "last_updated_timestamp_ms": self.changed.0,
            "artifact_uri": self.artifact_uri,
            "status": self.status.name(),
            "model_type": self.model_type,
            "source_run_id": self.run,
        });
        if !self.tags.is_empty() {
            info["tags"] = Value::Array(pairs(&self.tags));
        }
        let metrics: Vec<Value> = self.metrics.values().map(Metric::json).collect();
        let data = without_empty(vec![("params", pairs(&self.params)), ("metrics", metrics)]);
        json!({ "info": info, "data": data })
    }
}
