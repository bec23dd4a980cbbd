//! Registered models and versions as MLflow's clients read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_registry::{ModelView, Stage, VersionView};
use serde_json::{Value, json};

use super::downloads::folder;
use crate::pipelines::wire_id;
use crate::search::{Found, Searched, Subject};

/// The tag of what is a prompt and no model.
pub(super) const IS_PROMPT: &str = "mlflow.prompt.is_prompt";

/// A stage's name on the wire.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::None => "None",
        Stage::Staging => "Staging",
        Stage::Production => "Production",
        Stage::Archived => "Archived",
    }
}

/// The stage of a name, however it is written.
pub(super) fn stage_named(name: &str) -> Option<Stage> {
    let all = [Stage::None, Stage::Staging, Stage::Production, Stage::Archived];
    all.into_iter().find(|stage| stage_name(*stage).eq_ignore_ascii_case(name))
}

fn is_true(tags: &BTreeMap<String, String>) -> bool {
    tags.get(IS_PROMPT).is_some_and(|value| value == "true")
}

pub(super) fn is_prompt(model: &ModelView) -> bool {
    is_true(&model.tags)
}

/// Where a version comes from.
pub(super) fn source(model: &ModelView, version: &VersionView) -> String {
    match &version.external {
        Some(external) => external.source.clone(),
        None => folder(&model.name, version.version),
    }
}

/// The run that made a version; empty when none is known.
pub(super) fn run_id(version: &VersionView) -> String {
    match &version.external {
        Some(external) => external.run.clone().unwrap_or_default(),
        None => wire_id(version.new.run),
    }
}

fn tags(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

/// A version.
pub(super) fn version_json(model: &ModelView, version: &VersionView) -> Value {
    let external = version.external.as_ref();
    let run_link = external.and_then(|external| external.run_link.clone());
    let mut view = json!({
        "name": model.name,
        "version": version.version.to_string(),
        "creation_timestamp": version.at.0,
        "last_updated_timestamp": version.changed.0,
        "current_stage": stage_name(version.stage),
        "description": version.description,
        "source": source(model, version),
        "run_id": run_id(version),
        "status": "READY",
        "run_link": run_link.unwrap_or_default(),
    });
    if !version.tags.is_empty() {
        view["tags"] = tags(&version.tags);
    }
    let aliases = model.aliases_of(version.version);
    if !aliases.is_empty() {
        view["aliases"] = json!(aliases);
    }
    if let Some(id) = external.and_then(|external| external.logged_model.as_ref()) {
        view["model_id"] = json!(id);
    }
    if external.is_none() {
        view["user_id"] = json!(version.by);
        let metric = |(key, value): (&String, &f64)| json!({ "key": key, "value": crate::tracking::number(*value), "timestamp": version.at.0, "step": 0 });
        if !version.new.metrics.is_empty() {
            view["model_metrics"] = version.new.metrics.iter().map(metric).collect();
        }
    }
    view
}

/// The newest version of each stage, by number.
pub(super) fn latest(model: &ModelView) -> Vec<&VersionView> {
    let mut newest: BTreeMap<Stage, &VersionView> = BTreeMap::new();
    for version in &model.versions {
        newest.insert(version.stage, version);
    }
    let mut newest: Vec<&VersionView> = newest.into_values().collect();
    newest.sort_by_key(|version| version.version);
    newest
}

/// A registered model.
pub(super) fn model_json(model: &ModelView) -> Value {
    let mut view = json!({
        "name": model.name,
        "creation_timestamp": model.created.0,
        "last_updated_timestamp": model.changed.0,
    });
    if !model.description.is_empty() {
        view["description"] = json!(model.description);
    }
    let latest: Vec<Value> = latest(model).into_iter().map(|version| version_json(model, version)).collect();
    if !latest.is_empty() {
        view["latest_versions"] = Value::Array(latest);
    }
    if !model.tags.is_empty() {
        view["tags"] = tags(&model.tags);
    }
    if !model.aliases.is_empty() {
        let alias = |(alias, version): (&String, &u64)| json!({ "alias": alias, "version": version.to_string() });
        view["aliases"] = model.aliases.iter().map(alias).collect();
    }
    view
}

/// A registered model that is searched.
pub(super) struct SearchedModel(pub Arc<ModelView>);

impl Searched for SearchedModel {
    fn found(&self, subject: &Subject) -> Found<'_> {
        match subject {
            Subject::Attribute(key) if key == "name" => self.0.name.as_str().into(),
            Subject::Attribute(_) => Found::Number(self.0.changed.0 as f64),
            Subject::Tag(key) => self.0.tags.get(key).into(),
            _ => Found::Nothing,
        }
    }
}

/// A version that is searched.
pub(super) struct SearchedVersion {
    pub model: Arc<ModelView>,
    /// Its place among the versions.
    pub place: usize,
}

impl SearchedVersion {
    pub fn version(&self) -> &VersionView {
        &self.model.versions[self.place]
    }
    pub fn is_prompt(&self) -> bool {
        is_prompt(&self.model) || is_true(&self.version().tags)
    }
}

impl Searched for SearchedVersion {
    fn found(&self, subject: &Subject) -> Found<'_> {
        let version = self.version();
        match subject {
            Subject::Attribute(key) => match key.as_str() {
                "name" => self.model.name.as_str().into(),
                "run_id" => Found::Text(run_id(version).into()),
                "source_path" => Found::Text(source(&self.model, version).into()),
                "version_number" => Found::Number(version.version as f64),
                "creation_timestamp" => Found::Number(version.at.0 as f64),
                _ => Found::Number(version.changed.0 as f64),
            },
            Subject::Tag(key) => version.tags.get(key).into(),
            _ => Found::Nothing,
        }
    }
}
