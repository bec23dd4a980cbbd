//! Logged models: what MLflow 3 makes of a model before it is registered.

use std::sync::Arc;

use axum::routing::MethodFilter;
use serde_json::json;
use uuid::Uuid;

use super::{Answer, Api, endpoint, nothing};
use crate::Mlflow;
use crate::refusal::Refusal;
use crate::request::{Asked, Field, KEY_VALUE, Kind};
use crate::tracking::{LoggedModel, LoggedModelFact, MemberFact, ModelStatus};

/// Logged models of one experiment: a search looks at each.
const LOGGED_MODELS_MAX: usize = 100_000;
/// Bytes of a parameter's or a tag's value.
const VALUE_BYTES_MAX: usize = 100_000;
/// Parameters and tags of one logged model.
const PAIRS_MAX: usize = 5_000;
/// The tag that says of which versions it is the model.
const VERSIONS: &str = "mlflow.modelVersions";

pub(super) fn routes() -> Api {
    const PAIRS: Kind = Kind::Objects(KEY_VALUE);
    const CREATE: &[Field] = &[
        Field::text("experiment_id").required(),
        Field::text("name"),
        Field::text("model_type"),
        Field::text("source_run_id"),
        Field::new("params", PAIRS),
        Field::new("tags", PAIRS),
    ];
    const FINALIZE: &[Field] = &[Field::text("model_id").required(), Field::new("status", Kind::Name).required()];
    const GET: &[Field] = &[Field::new("allow_deleted", Kind::Bool).unchecked()];
    const TAGS: &[Field] = &[Field::new("tags", PAIRS)];
    const PARAMS: &[Field] = &[Field::text("model_id").required(), Field::new("params", PAIRS)];
    const LIST: &[Field] = &[Field::text("artifact_directory_path"), Field::text("page_token").unchecked()];
    const DATASET: &[Field] = &[Field::text("dataset_name"), Field::text("dataset_digest")];
    const ORDER: &[Field] = &[
        Field::text("field_name"),
        Field::new("ascending", Kind::Bool),
        Field::text("dataset_name"),
        Field::text("dataset_digest"),
    ];
    const SEARCH: &[Field] = &[
        Field::texts("experiment_ids").required(),
        Field::text("filter"),
        Field::new("datasets", Kind::Objects(DATASET)),
        Field::int("max_results"),
        Field::new("order_by", Kind::Objects(ORDER)),
        Field::text("page_token"),
    ];
    let (get, post, patch, remove) = (MethodFilter::GET, MethodFilter::POST, MethodFilter::PATCH, MethodFilter::DELETE);
    let one = endpoint(get, GET, show).merge(endpoint(patch, FINALIZE, finalize)).merge(endpoint(remove, &[], delete));
    Api::new()
        .route("/logged-models", endpoint(post, CREATE, create))
        .route("/logged-models/search", endpoint(post, SEARCH, super::search_logged_models::search))
        .route("/logged-models/{id}", one)
        .route("/logged-models/{id}/tags", endpoint(patch, TAGS, set_tags))
        .route("/logged-models/{id}/tags/{key}", endpoint(remove, &[], delete_tag))
        .route("/logged-models/{id}/params", endpoint(post, PARAMS, log_params))
        .route("/logged-models/{id}/artifacts/directories", endpoint(get, LIST, super::artifacts::list_of_model))
}

fn none(id: &str) -> Refusal {
    Refusal::missing(format!("Logged model with ID '{id}' not found."))
}

impl Mlflow {
    /// A logged model that wasn't deleted.
    pub(super) async fn logged_model(&self, id: &str) -> Result<Arc<LoggedModel>, Refusal> {
        let model = self.logged_models.read(id).await?;
        if model.id.is_empty() || model.deleted { Err(none(id)) } else { Ok(model) }
    }

    /// Adds facts to a logged model.
    pub(super) async fn change_logged_model(
        &self,
        id: &str,
        by: &str,
        decide: impl Fn(&LoggedModel) -> Result<Vec<LoggedModelFact>, Refusal>,
    ) -> Result<(), Refusal> {
        let checked = |model: &LoggedModel| {
            if model.id.is_empty() || model.deleted {
                return Err(none(id));
            }
            Ok((decide(model)?, ()))
        };
        self.logged_models.change(id, by, checked).await
    }

    /// Notes with a logged model that it was registered.
    pub(super) async fn note_version(&self, id: &str, by: &str, name: &str, version: u64) -> Result<(), Refusal> {
        let decide = |model: &LoggedModel| {
            let known = model.tags.get(VERSIONS).and_then(|text| serde_json::from_str(text).ok());
            let mut all: Vec<serde_json::Value> = known.unwrap_or_default();
            all.push(json!({ "name": name, "version": version }));
            let value = serde_json::Value::Array(all).to_string();
            // What a tag can't hold any more is still told by the registry.
            let fits = value.len() <= VALUE_BYTES_MAX;
            Ok(fits
                .then(|| LoggedModelFact::Tagged { key: VERSIONS.to_owned(), value: Some(value) })
                .into_iter()
                .collect())
        };
        self.change_logged_model(id, by, decide).await
    }
}

fn check(model: &LoggedModel, pairs: &[(String, String)]) -> Result<(), Refusal> {
    if let Some((key, _)) = pairs.iter().find(|(key, value)| key.is_empty() || value.len() > VALUE_BYTES_MAX) {
        let text = format!("'{key}' is empty or has a value of more than {VALUE_BYTES_MAX} bytes");
        return Err(Refusal::invalid(text));
    }
    if model.params.len() + model.tags.len() + pairs.len() > PAIRS_MAX {
        return Err(Refusal::invalid(format!("a logged model has up to {PAIRS_MAX} parameters and tags")));
    }
    Ok(())
}

async fn create(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    crate::validate::logged_model_name(asked.text("name"))?;
    let experiment = mlflow.active_experiment(asked.text("experiment_id")).await?;
    let id = format!("m-{}", Uuid::new_v4().simple());
    let (params, tags) = (asked.pairs("params"), asked.pairs("tags"));
    check(&LoggedModel::default(), &[params.clone(), tags.clone()].concat())?;
    let name = Some(asked.text("name")).filter(|name| !name.is_empty()).unwrap_or(&id);
    let mut facts = vec![LoggedModelFact::Created {
        id: id.clone(),
        experiment: experiment.id.clone(),
        name: name.to_owned(),
        model_type: asked.text("model_type").to_owned(),
        run: asked.text("source_run_id").to_owned(),
        artifact_uri: format!("{}/models/{id}/artifacts", experiment.location),
    }];
    facts.extend(params.into_iter().map(|(key, value)| LoggedModelFact::Param { key, value }));
    facts.extend(tags.into_iter().map(|(key, value)| LoggedModelFact::Tagged { key, value: Some(value) }));
    mlflow.logged_models.change(&id, &asked.by, |_| Ok((facts.clone(), ()))).await?;
    mlflow
        .members
        .change(&experiment.id, &asked.by, |members| {
            if members.logged_models.len() >= LOGGED_MODELS_MAX {
                let text = format!("an experiment has up to {LOGGED_MODELS_MAX} logged models; begin another one");
                return Err(Refusal::invalid(text));
            }
            Ok((vec![MemberFact::LoggedModel { id: id.clone() }], ()))
        })
        .await?;
    told(&mlflow, &id).await
}

async fn told(mlflow: &Mlflow, id: &str) -> Answer {
    Ok(json!({ "model": mlflow.logged_model(id).await?.json() }))
}

async fn show(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let id = &asked.path["id"];
    let model = mlflow.logged_models.read(id).await?;
    if asked.bool("allow_deleted") && !model.id.is_empty() {
        return Ok(json!({ "model": model.json() }));
    }
    told(&mlflow, id).await
}

async fn finalize(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let id = &asked.path["id"];
    let status = asked.name_of("status", 0, ModelStatus::NAMES).and_then(ModelStatus::named);
    let status = status.ok_or_else(|| Refusal::invalid("Unknown model status"))?;
    mlflow.change_logged_model(id, &asked.by, |_| Ok(vec![LoggedModelFact::Finalized { status }])).await?;
    told(&mlflow, id).await
}

async fn delete(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    mlflow.change_logged_model(&asked.path["id"], &asked.by, |_| Ok(vec![LoggedModelFact::Deleted])).await?;
    Ok(nothing())
}

async fn set_tags(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let tags = asked.pairs("tags");
    let decide = |model: &LoggedModel| {
        check(model, &tags)?;
        Ok(tags.iter().cloned().map(|(key, value)| LoggedModelFact::Tagged { key, value: Some(value) }).collect())
    };
    mlflow.change_logged_model(&asked.path["id"], &asked.by, decide).await?;
    Ok(nothing())
}

async fn delete_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (id, key) = (&asked.path["id"], &asked.path["key"]);
    let decide = |model: &LoggedModel| match model.tags.contains_key(key) {
        true => Ok(vec![LoggedModelFact::Tagged { key: key.clone(), value: None }]),
        false => Err(Refusal::missing(format!("No tag with key '{key}' found for model with ID '{id}'."))),
    };
    mlflow.change_logged_model(id, &asked.by, decide).await?;
    Ok(nothing())
}

async fn log_params(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let params = asked.pairs("params");
    let decide = |model: &LoggedModel| {
        check(model, &params)?;
        let changed = params.iter().find(|(key, value)| model.params.get(key).is_some_and(|known| known != value));
        if let Some((key, _)) = changed {
            return Err(Refusal::invalid(format!("Changing param values is not allowed. '{key}' was already logged.")));
        }
        Ok(params.iter().cloned().map(|(key, value)| LoggedModelFact::Param { key, value }).collect())
    };
    mlflow.change_logged_model(&asked.path["id"], &asked.by, decide).await?;
    Ok(nothing())
}
