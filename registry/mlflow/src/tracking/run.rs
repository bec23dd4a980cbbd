//! A tracked run, from the facts of its log. Histories of metrics stay in the log; here is the newest of each.

use std::collections::BTreeMap;

use gristmill_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::{FileFact, Files};
use super::metric::Metric;
use crate::logs::View;

/// The tag that a run's name is repeated in.
pub(crate) const RUN_NAME: &str = "mlflow.runName";

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    #[default]
    Running,
    Scheduled,
    Finished,
    Failed,
    Killed,
}

impl RunStatus {
    /// All, by their numbers on the wire from 1.
    pub const NAMES: &'static [&'static str] = &["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        RunStatus::NAMES[self as usize]
    }

    /// The status of a name.
    pub fn named(name: &str) -> Option<RunStatus> {
        use RunStatus::{Failed, Finished, Killed, Running, Scheduled};
        [Running, Scheduled, Finished, Failed, Killed].into_iter().find(|status| status.name() == name)
    }
}

/// What happened to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunFact {
    Created { id: String, experiment: String, user: String, name: String, start_time: i64, artifact_uri: String },
    Updated { status: Option<RunStatus>, end_time: Option<i64>, name: Option<String> },
    Deleted,
    Restored,
    Measured { metrics: Vec<Metric> },
    Param { key: String, value: String },
    Tagged { key: String, value: Option<String> },
    DatasetUsed { input: DatasetInput },
    ModelUsed { model: String },
    ModelMade { model: String, step: i64 },
    File(FileFact),
}

/// A dataset that a run used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatasetInput {
    pub tags: Vec<(String, String)>,
    pub name: String,
    pub digest: String,
    pub source_type: String,
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// A tracked run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Run {
    /// Empty when there is no such run.
    pub id: String,
    pub experiment: String,
    pub user: String,
    pub name: String,
    pub status: RunStatus,
    pub start_time: i64,
    pub end_time: Option<i64>,
    pub artifact_uri: String,
    pub deleted: bool,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// The newest of each name.
    pub metrics: BTreeMap<String, Metric>,
    pub datasets: Vec<DatasetInput>,
    pub models_used: Vec<String>,
    pub models_made: Vec<(String, i64)>,
    pub files: Files,
}

impl View for Run {
    type Fact = RunFact;
    const KIND: &'static str = "mlflow-run/";

    fn apply(&mut self, _: Timestamp, fact: RunFact) {
        match fact {
            RunFact::Created { id, experiment, user, name, start_time, artifact_uri } => {
                *self = Run { id, experiment, user, start_time, artifact_uri, ..Run::default() };
                self.rename(name);
            }
            RunFact::Updated { status, end_time, name } => {
                self.status = status.unwrap_or(self.status);
                self.end_time = end_time.or(self.end_time);
                name.into_iter().for_each(|name| self.rename(name));
            }
            RunFact::Deleted => self.deleted = true,
            RunFact::Restored => self.deleted = false,
            RunFact::Measured { metrics } => {
                for metric in metrics {
                    let known = self.metrics.get(&metric.key);
                    if known.is_none_or(|known| metric.is_newer_than(known)) {
                        self.metrics.insert(metric.key.clone(), metric);
                    }
                }
            }
            RunFact::Param { key, value } => drop(self.params.insert(key, value)),
            RunFact::Tagged { key, value: Some(value) } => {
                if key == RUN_NAME {
                    self.rename(value);
                } else {
                    self.tags.insert(key, value);
                }
            }
            RunFact::Tagged { key, value: None } => drop(self.tags.remove(&key)),
            RunFact::DatasetUsed { input } => self.datasets.push(input),
            RunFact::ModelUsed { model } => self.models_used.push(model),
            RunFact::ModelMade { model, step } => self.models_made.push((model, step)),
            RunFact::File(fact) => self.files.apply(fact),
        }
    }

    fn weight(&self) -> usize {
        let pairs = self.params.iter().chain(&self.tags).map(|(key, value)| key.len() + value.len() + 64);
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let datasets = self
            .datasets
            .iter()
            .map(|one| one.source.len() + text(&one.schema) + text(&one.profile) + one.tags.len() * 100 + 200);
        let metrics = self.metrics.keys().map(|key| 2 * key.len() + 150);
        pairs.chain(datasets).chain(metrics).sum::<usize>()
            + self.files.weight()
            + (self.models_used.len() + self.models_made.len()) * 64
            + 300
    }
}

impl Run {
    fn rename(&mut self, name: String) {
        self.tags.insert(RUN_NAME.to_owned(), name.clone());
        self.name = name;
    }

    /// How many parameters, tags, metrics and inputs it has.
    pub fn entities(&self) -> usize {
        self.params.len()
            + self.tags.len()
            + self.metrics.len()
            + self.datasets.len()
            + self.models_used.len()
            + self.models_made.len()
    }

    /// As MLflow's clients read it, without its data. `deleted` says whether it counts as deleted.
    pub fn info(&self, deleted: bool) -> Value {
        let mut info = json!({
            "run_id": self.id,
            "run_uuid": self.id,
            "experiment_id": self.experiment,
            "run_name": self.name,
            "user_id": self.user,
            "status": self.status.name(),
            "start_time": self.start_time,
            "artifact_uri": self.artifact_uri,
            "lifecycle_stage": if deleted { "deleted" } else { "active" },
        });
        if let Some(end_time) = self.end_time {
            info["end_time"] = json!(end_time);
        }
        info
    }

    /// The whole run as MLflow's clients read it.
    pub fn json(&self, deleted: bool) -> Value {
        let metrics: Vec<Value> = self.metrics.values().map(Metric::json).collect();
        let data =
            without_empty(vec![("metrics", metrics), ("params", pairs(&self.params)), ("tags", pairs(&self.tags))]);
        let used: Vec<Value> = self.models_used.iter().map(|model| json!({ "model_id": model })).collect();
        let datasets = self.datasets.iter().map(DatasetInput::json).collect();
        let made = |(model, step): &(String, i64)| json!({ "model_id": model, "step": step });
        let outputs = self.models_made.iter().map(made).collect();
        json!({
            "info": self.info(deleted),
            "data": data,
            "inputs": without_empty(vec![("dataset_inputs", datasets), ("model_inputs", used)]),
            "outputs": without_empty(vec![("model_outputs", outputs)]),
        })
    }
}

impl DatasetInput {
    fn json(&self) -> Value {
        let mut dataset = json!({
            "name": self.name,
            "digest": self.digest,
            "source_type": self.source_type,
            "source": self.source,
        });
        for (name, text) in [("schema", &self.schema), ("profile", &self.profile)] {
            if let Some(text) = text {
                dataset[name] = json!(text);
            }
        }
        let tags: Vec<Value> = self.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let mut input = without_empty(vec![("tags", tags)]);
        input["dataset"] = dataset;
        input
    }
}

/// `[{"key": …, "value": …}]`.
pub(crate) fn pairs(pairs: &BTreeMap<String, String>) -> Vec<Value> {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// An object of lists, without those that are empty: so MLflow's server writes them.
pub(crate) fn without_empty(lists: Vec<(&str, Vec<Value>)>) -> Value {
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    Value::Object(lists.map(|(name, list)| (name.to_owned(), Value::Array(list))).collect())
}
