//! Versions of registered models: the registry's versions.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::routing::MethodFilter;
use gristmill_protocol::RunId;
use gristmill_registry::{External, NewVersion, Registration, Stage, VersionView};
use serde_json::json;

use super::downloads::folder;
use super::model_views::{IS_PROMPT, source, stage_named, version_json};
use super::registered_models::NAME;
use super::sources::Content;
use super::{Answer, Api, endpoint, nothing, search_models};
use crate::Mlflow;
use crate::manifest::{ALGORITHM, Manifest, is_manifest};
use crate::pipelines::run_of;
use crate::refusal::{Code, Refusal};
use crate::request::{Asked, Field, KEY_VALUE, Kind};
use crate::validate;

/// Metrics of its run that a version keeps: what tells it from others.
const METRICS_MAX: usize = 100;

const VERSION: Field = Field::text("version").required();
const KEY: Field = Field::text("key").required();

pub(super) fn routes() -> Api {
    const CREATE: &[Field] = &[
        NAME,
        Field::text("source").required(),
        Field::text("run_id"),
        Field::new("tags", Kind::Objects(KEY_VALUE)),
        Field::text("run_link"),
        Field::text("description"),
        Field::text("model_id"),
    ];
    const UPDATE: &[Field] = &[NAME, VERSION, Field::text("description")];
    const STAGE: &[Field] =
        &[NAME, VERSION, Field::text("stage").required(), Field::new("archive_existing_versions", Kind::Bool)];
    const SEARCH: &[Field] =
        &[Field::text("filter"), Field::int("max_results"), Field::texts("order_by"), Field::text("page_token")];
    const URI: &[Field] = &[Field::text("name").unchecked(), Field::text("version").unchecked()];
    const TAG: &[Field] = &[NAME, VERSION, KEY, Field::text("value")];
    let (get, post, patch, remove) = (MethodFilter::GET, MethodFilter::POST, MethodFilter::PATCH, MethodFilter::DELETE);
    Api::new()
        .route("/model-versions/create", endpoint(post, CREATE, create))
        .route("/model-versions/get", endpoint(get, &[NAME, VERSION], show))
        .route("/model-versions/update", endpoint(patch, UPDATE, update))
        .route("/model-versions/transition-stage", endpoint(post, STAGE, transition))
        .route("/model-versions/delete", endpoint(remove, &[NAME, VERSION], delete))
        .route("/model-versions/search", endpoint(get, SEARCH, search_models::search_versions))
        .route("/model-versions/get-download-uri", endpoint(get, URI, download_uri))
        .route("/model-versions/set-tag", endpoint(post, TAG, set_tag))
        .route("/model-versions/delete-tag", endpoint(remove, &[NAME, VERSION, KEY], delete_tag))
}

/// The name and the number that a request is about, once there is such a version.
async fn of(mlflow: &Mlflow, asked: &Asked) -> Result<(String, u64, VersionView), Refusal> {
    let name = asked.text("name");
    validate::model_name(name)?;
    let number = validate::version(asked.text("version"))?;
    let model = mlflow.find_model(name).await?;
    let found = model.as_ref().and_then(|model| model.version(number)).cloned();
    let found = found.ok_or_else(|| Refusal::no_version(name, asked.text("version")))?;
    Ok((name.to_owned(), number, found))
}

async fn told(mlflow: &Mlflow, name: &str, version: u64) -> Answer {
    let model = mlflow.model(name).await?;
    let found = model.version(version).ok_or_else(|| Refusal::no_version(name, version))?;
    Ok(json!({ "model_version": version_json(&model, found) }))
}

async fn create(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, tags) = (asked.text("name"), asked.pairs("tags"));
    let is_prompt = tags.iter().rfind(|(key, _)| key == IS_PROMPT).is_some_and(|(_, value)| value == "true");
    let origin = mlflow.origin_of(&asked, is_prompt).await?;
    tags.iter().try_for_each(|(key, value)| validate::model_tag(key, value))?;
    mlflow.model(name).await?;
    let run = origin.run.as_deref().and_then(run_of);
    let metrics = match &origin.run {
        Some(run) => mlflow.measured(run).await?,
        None => BTreeMap::new(),
    };
    let (new, artifacts) = match origin.content {
        Content::Same(version) => (version.new, version.artifacts),
        Content::Files(files) => {
            let mut artifacts: Vec<_> = files.iter().map(|one| one.file.digest).collect();
            artifacts.sort_unstable();
            artifacts.dedup();
            let manifest = Manifest::new(&origin.source, files);
            let new = NewVersion {
                model: mlflow.artifacts.put(manifest.bytes()).await?,
                run: run.unwrap_or(RunId::from_u128(0)),
                step: "mlflow".to_owned(),
                metrics,
                evidence: None,
                algorithm: ALGORITHM.to_owned(),
            };
            (new, artifacts)
        }
    };
    let text = |name: &str| Some(asked.text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let external = External {
        source: origin.source,
        run: origin.run,
        run_link: text("run_link"),
        logged_model: origin.logged_model.clone(),
    };
    let registration = Registration {
        artifacts,
        external: Some(external),
        description: asked.text("description").to_owned(),
        tags: tags.into_iter().collect(),
        // Two requests are two versions, as alike as they may be.
        anew: true,
        ..Registration::of(new)
    };
    let made = mlflow.acting(&asked.by).await?.register(name, registration).await?;
    if let Some(id) = origin.logged_model {
        mlflow.note_version(&id, &asked.by, name, made.version).await?;
    }
    told(&mlflow, name, made.version).await
}

impl Mlflow {
    /// The newest values of a run's metrics that are numbers; none of a run that isn't known.
    async fn measured(&self, run: &str) -> Result<BTreeMap<String, f64>, Refusal> {
        let run = match self.run(run).await {
            Err(refusal) if refusal.code == Code::ResourceDoesNotExist => return Ok(BTreeMap::new()),
            other => other?,
        };
        let finite = run.metrics.values().filter(|metric| metric.value.is_finite());
        Ok(finite.take(METRICS_MAX).map(|metric| (metric.key.clone(), metric.value)).collect())
    }
}

async fn show(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, version, _) = of(&mlflow, &asked).await?;
    told(&mlflow, &name, version).await
}

async fn update(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, version, _) = of(&mlflow, &asked).await?;
    mlflow.acting(&asked.by).await?.describe(&name, Some(version), asked.text("description")).await?;
    told(&mlflow, &name, version).await
}

async fn transition(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let text = asked.text("stage");
    let stage = stage_named(text).ok_or_else(|| {
        Refusal::invalid(format!(
            "Invalid Model Version stage: {text}. Value must be one of None, Staging, Production, Archived."
        ))
    })?;
    let archive = asked.bool("archive_existing_versions");
    if archive && !matches!(stage, Stage::Staging | Stage::Production) {
        return Err(Refusal::invalid(format!(
            "Model version transition cannot archive existing model versions because '{text}' is not an Active stage. \
             Valid stages are ['Staging', 'Production']"
        )));
    }
    let (name, version, _) = of(&mlflow, &asked).await?;
    mlflow.acting(&asked.by).await?.set_stage(&name, version, stage, archive).await?;
    told(&mlflow, &name, version).await
}

async fn delete(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, version, _) = of(&mlflow, &asked).await?;
    let until = mlflow.retained_until().await?;
    mlflow.acting(&asked.by).await?.delete_version_and_aliases(&name, version, until).await?;
    Ok(nothing())
}

/// Where a version can be downloaded: from its own folder, which never changes; what has no files here, from where it
/// was registered.
async fn download_uri(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (name, number, version) = of(&mlflow, &asked).await?;
    let here = !is_manifest(&version) || !version.artifacts.is_empty();
    let model = mlflow.model(&name).await?;
    let uri = if here { folder(&name, number) } else { source(&model, &version) };
    Ok(json!({ "artifact_uri": uri }))
}

async fn set_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let (key, value) = (asked.text("key"), asked.text("value"));
    validate::model_tag(key, value)?;
    let (name, version, _) = of(&mlflow, &asked).await?;
    mlflow.acting(&asked.by).await?.tag(&name, Some(version), key, Some(value)).await?;
    Ok(nothing())
}

async fn delete_tag(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let key = asked.text("key");
    validate::key("key", key)?;
    let (name, version, _) = of(&mlflow, &asked).await?;
    mlflow.acting(&asked.by).await?.tag(&name, Some(version), key, None).await?;
    Ok(nothing())
}
