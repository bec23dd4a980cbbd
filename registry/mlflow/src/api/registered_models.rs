//! Registered models: the registry's models.

use std::sync::Arc;

use axum::routing::MethodFilter;
use gristmill_protocol::Timestamp;
use gristmill_registry::{ModelView, RegistryError};
use serde_json::{Value, json};

use super::model_views::{latest, model_json, stage_named, version_json};
use super::{Answer, Api, endpoint, nothing, search_models};
use crate::Mlflow;
use crate::refusal::{Code, Refusal};
use crate::request::{Asked, Field, KEY_VALUE, Kind};
use crate::validate;

/// Days for which the artifacts of what was deleted are kept: long enough to notice a mistake.
const RETAINED_DAYS: u64 = 30;

pub(super) const NAME: Field = Field::text("name").required();
const ALIAS: Field = Field::text("alias").required();
const KEY: Field = Field::text("key").required();

pub(super) fn routes() -> Api {
    const CREATE: &[Field] = &[NAME, Field::new("tags", Kind::Objects(KEY_VALUE)), Field::text("description")];
    const RENAME: &[Field] = &[NAME, Field::text("new_name").required()];
    const UPDATE: &[Field] = &[NAME, Field::text("description")];
    const SEARCH: &[Field] =
        &[Field::text("filter"), Field::int("max_results"), Field::texts("order_by"), Field::text("page_token")];
    const LATEST: &[Field] = &[NAME, Field::texts("stages")];
    const TAG: &[Field] = &[NAME, KEY, Field::text("value")];
    const SET_ALIAS: &[Field] = &[NAME, ALIAS, Field::text("version").required()];
    let (get, post, patch, remove) = (MethodFilter::GET, MethodFilter::POST, MethodFilter::PATCH, MethodFilter::DELETE);
    let alias = endpoint(post, SET_ALIAS, set_alias)
        .merge(endpoint(remove, &[NAME, ALIAS], delete_alias))
        .merge(endpoint(get, &[NAME, ALIAS], by_alias));
    Api::new()
        .route("/registered-models/create", endpoint(post, CREATE, create))
        .route("/registered-models/get", endpoint(get, &[NAME], show))
        .route("/registered-models/rename", endpoint(post, RENAME, rename))
        .route("/registered-models/update", endpoint(patch, UPDATE, update))
        .route("/registered-models/delete", endpoint(remove, &[NAME], delete))
        .route("/registered-models/search", endpoint(get, SEARCH, search_models::search_models))
        .route("/registered-models/get-latest-versions", endpoint(get.or(post), LATEST, latest_versions))
        .route("/registered-models/set-tag", endpoint(post, TAG, set_tag))
        .route("/registered-models/delete-tag", endpoint(remove, &[NAME, KEY], delete_tag))
        .route("/registered-models/alias", alias)
}

impl Mlflow {
    /// A model, if it is there. What can't be a name is nobody's.
    pub(super) async fn find_model(&self, name: &str) -> Result<Option<Arc<ModelView>>, Refusal> {
        match self.registry.find(name).await {
            Err(RegistryError::BadName { .. }) => Ok(None),
            other => Ok(other?),
        }
    }

    /// A model that is there.
    pub(super) async fn model(&self, name: &str) -> Result<Arc<ModelView>, Refusal> {
        validate::model_name(name)?;
        self.find_model(name).await?.ok_or_else(|| Refusal::no_model(name))
    }

    /// Until when the artifacts of what is deleted now are kept.
    pub(super) async fn retained_until(&self) -> Result<Timestamp, Refusal> {
        Ok(self.now().await?.plus_ms(RETAINED_DAYS * 24 * 60 * 60 * 1_000))
    }
}

async fn told(mlflow: &Mlflow, name: &str) -> Answer {
    Ok(json!({ "registered_model": model_json(&*mlflow.model(name).await?) }))
}

async fn create(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let name = asked.text("name");
    validate::model_name(name)?;
    let tags = asked.pairs("tags");
    tags.iter().try_for_each(|(key, value)| validate::model_tag(key, value))?;
    mlflow.acting(&asked.by).await?.create(name, asked.text("description"), &tags.into_iter().collect()).await?;
    told(&mlflow, name).await
}

async fn show(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    told(&mlflow, asked.text("name")).await
}

async fn rename(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, to) = (asked.text("name"), asked.text("new_name"));
    if to.trim().is_empty() {
        return Err(Refusal::invalid("Missing value for required parameter 'new_name'."));
    }
    validate::model_name(to)?;
    mlflow.model(name).await?;
    mlflow.acting(&asked.by).await?.rename(name, to).await?;
    told(&mlflow, to).await
}

async fn update(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let name = asked.text("name");
    mlflow.model(name).await?;
    mlflow.acting(&asked.by).await?.describe(name, None, asked.text("description")).await?;
    told(&mlflow, name).await
}

async fn delete(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let name = asked.text("name");
    mlflow.model(name).await?;
    let until = mlflow.retained_until().await?;
    mlflow.acting(&asked.by).await?.delete_model(name, until).await?;
    Ok(nothing())
}

async fn latest_versions(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let model = mlflow.model(asked.text("name")).await?;
    let stage = |name: &String| {
        stage_named(name).ok_or_else(|| {
            Refusal::invalid(format!(
                "Invalid Model Version stage: {name}. Value must be one of None, Staging, Production, Archived."
            ))
        })
    };
    let stages = asked.texts("stages").iter().map(stage).collect::<Result<Vec<_>, _>>()?;
    let mut versions = latest(&model);
    versions.retain(|version| stages.is_empty() || stages.contains(&version.stage));
    let versions: Vec<Value> = versions.into_iter().map(|version| version_json(&model, version)).collect();
    if versions.is_empty() { Ok(nothing()) } else { Ok(json!({ "model_versions": versions })) }
}

async fn set_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, key, value) = (asked.text("name"), asked.text("key"), asked.text("value"));
    validate::model_name(name)?;
    validate::model_tag(key, value)?;
    mlflow.model(name).await?;
    mlflow.acting(&asked.by).await?.tag(name, None, key, Some(value)).await?;
    Ok(nothing())
}

async fn delete_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, key) = (asked.text("name"), asked.text("key"));
    validate::model_name(name)?;
    validate::key("key", key)?;
    mlflow.model(name).await?;
    mlflow.acting(&asked.by).await?.tag(name, None, key, None).await?;
    Ok(nothing())
}

async fn set_alias(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, alias) = (asked.text("name"), asked.text("alias"));
    validate::model_name(name)?;
    validate::new_alias(alias)?;
    let version = validate::version(asked.text("version"))?;
    mlflow.model(name).await?;
    mlflow.acting(&asked.by).await?.set_alias(name, alias, version).await?;
    Ok(nothing())
}

async fn delete_alias(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, alias) = (asked.text("name"), asked.text("alias"));
    validate::model_name(name)?;
    validate::alias(alias)?;
    mlflow.model(name).await?;
    match mlflow.acting(&asked.by).await?.remove_alias(name, alias).await {
        // It isn't there, which is what was wanted.
        Ok(()) | Err(RegistryError::NoAlias { .. }) => Ok(nothing()),
        Err(error) => Err(error.into()),
    }
}

async fn by_alias(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, alias) = (asked.text("name"), asked.text("alias"));
    validate::model_name(name)?;
    validate::alias(alias)?;
    let model = mlflow.model(name).await?;
    // It is reserved, and means the version that was made last.
    let found = if alias.eq_ignore_ascii_case("latest") { model.versions.last() } else { model.aliased(alias) };
    match found {
        Some(version) => Ok(json!({ "model_version": version_json(&model, version) })),
        None => Err(Refusal::new(Code::InvalidParameterValue, format!("Registered model alias {alias} not found."))),
    }
}
