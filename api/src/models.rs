//! Registered models: looked at, promoted, rolled back.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use bytes::Bytes;
use gristmill_protocol::api::{
    AliasChange, AliasMoved, Model, ModelFact, ModelItem, ModelVersion, Page, Promote, Rollback,
};
use gristmill_registry::{Act, Acting, LogEntry, ModelView, Promotion, VersionView};
use serde_json::json;

use crate::request::{Asked, Body, Named, Nothing, Paged, cursor, limit};
use crate::{Api, Caller, Refusal};

/// Bytes of the reason for a change.
const WHY_BYTES_MAX: usize = 4 * 1024;

/// `GET /v1/models`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<ModelItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let after = asked.cursor.unwrap_or_default();
    let mut names = api.registry.names().await?;
    names.sort_unstable();
    let mut names = names.into_iter().filter(|name| *name > after);
    let mut items = Vec::new();
    let mut last = None;
    for name in names.by_ref().take(limit) {
        // One that was renamed or deleted meanwhile isn't there any more.
        if let Some(model) = api.registry.find(&name).await? {
            items.push(item(&model));
        }
        last = Some(name);
    }
    let next = last.filter(|_| names.next().is_some());
    Ok(Json(Page { items, next }))
}

fn item(model: &ModelView) -> ModelItem {
    ModelItem {
        name: model.name.clone(),
        versions: model.versions.len() as u64,
        latest: model.versions.last().map(|version| version.version),
        aliases: model.aliases.clone(),
        updated_ms: model.changed.0,
    }
}

/// `GET /v1/models/{name}`
pub(crate) async fn model(
    State(api): State<Arc<Api>>,
    Named(name): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Model>, Refusal> {
    let model = api.registry.model(&name).await?;
    let mut history: Vec<AliasChange> = Vec::new();
    for (alias, points) in &model.history {
        let mut from = None;
        for point in points {
            let (alias, by, why) = (alias.clone(), point.by.clone(), point.why.clone());
            history.push(AliasChange { at_ms: point.at.0, alias, from, to: point.to, by, why });
            from = point.to;
        }
    }
    history.sort_by(|a, b| (a.at_ms, &a.alias).cmp(&(b.at_ms, &b.alias)));
    Ok(Json(Model {
        versions: model.versions.iter().map(|version| told_version(&model, version)).collect(),
        name: model.name,
        description: model.description,
        tags: model.tags,
        aliases: model.aliases,
        history,
    }))
}

fn told_version(model: &ModelView, version: &VersionView) -> ModelVersion {
    let new = &version.new;
    ModelVersion {
        version: version.version,
        created_ms: version.at.0,
        by: version.by.clone(),
        run: new.run,
        step: new.step.clone(),
        digest: new.model,
        algorithm: new.algorithm.clone(),
        metrics: new.metrics.clone(),
        evidence: new.evidence,
        description: version.description.clone(),
        tags: version.tags.clone(),
        aliases: model.aliases_of(version.version).into_iter().map(str::to_owned).collect(),
        datasets: version.lineage.datasets.clone(),
        signed_by: version.signatures.iter().map(|signature| signature.key.to_string()).collect(),
    }
}

/// `POST /v1/models/{name}/promote`: goes by the version's evidence.
pub(crate) async fn promote(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(promote): Body<Promote>,
) -> Result<Json<AliasMoved>, Refusal> {
    let from = api.registry.model(&name).await?.aliases.get(&promote.alias).copied();
    let acting = acting(&api, &caller, &promote.why).await?;
    acting.promote(&name, promote.version, &promote.alias, Promotion::OwnEvidence).await?;
    Ok(Json(AliasMoved { name, alias: promote.alias, from, to: promote.version }))
}

/// `POST /v1/models/{name}/rollback`: goes back to a version only once it is known to load and to answer.
pub(crate) async fn rollback(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(rollback): Body<Rollback>,
) -> Result<Json<AliasMoved>, Refusal> {
    let acting = acting(&api, &caller, &rollback.why).await?;
    let serving = api.serving()?;
    let prove = |version: &VersionView, bytes: &Bytes| serving.prove(&version.new.algorithm, bytes);
    let moved = acting.rollback(&name, &rollback.alias, &prove).await?;
    Ok(Json(AliasMoved { name, alias: moved.alias, from: moved.from, to: moved.to }))
}

/// The registry in the caller's hands.
async fn acting<'a>(api: &'a Api, caller: &Caller, why: &str) -> Result<Acting<'a>, Refusal> {
    if why.len() > WHY_BYTES_MAX {
        return Err(Refusal::bad_input(format!("`why` has at most {WHY_BYTES_MAX} bytes")));
    }
    let at = api.state.clock().await?.now;
    let why = (!why.is_empty()).then(|| why.to_owned());
    Ok(api.registry.on_behalf(Act { by: caller.name.clone(), why, at, ..Act::default() }))
}

/// `GET /v1/models/{name}/log`: oldest first.
pub(crate) async fn log(
    State(api): State<Arc<Api>>,
    Named(name): Named<String>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<ModelFact>>, Refusal> {
    let limit = limit(asked.limit)?;
    let after: u64 = cursor(asked.cursor.as_deref())?.unwrap_or(0);
    // A name that nobody has is told as such, not as an empty log.
    api.registry.model(&name).await?;
    let facts = api.registry.facts(&name, after, limit).await?;
    let next = (facts.len() == limit).then(|| facts.last().map(|(fact, _)| fact.to_string())).flatten();
    Ok(Json(Page { items: facts.iter().map(|(fact, entry)| told_fact(*fact, entry)).collect(), next }))
}

fn told_fact(fact: u64, entry: &LogEntry) -> ModelFact {
    match entry {
        LogEntry::Recorded(record) => ModelFact {
            fact,
            at_ms: record.at.0,
            by: record.by.clone(),
            why: record.why.clone(),
            changes: json!(record.changes),
        },
        LogEntry::VersionCreated { at, by, .. } => {
            ModelFact { fact, at_ms: at.0, by: by.clone(), why: None, changes: json!([entry]) }
        }
        LogEntry::AliasMoved(moved) => ModelFact {
            fact,
            at_ms: moved.at.0,
            by: moved.by.clone(),
            why: Some(moved.why.clone()),
            changes: json!([entry]),
        },
    }
}
