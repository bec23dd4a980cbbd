//! Pipelines: checked, and kept by name and version.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use gristmill_protocol::api::{
    CheckPipeline, CheckedPipeline, CheckedStep, KeepPipeline, Kept, Page, PipelineItem, PipelineVersion,
    PipelineVersionItem, PipelineVersions,
};
use gristmill_protocol::pipeline;
use gristmill_protocol::submission::SubmissionMessage;
use gristmill_scheduler::pipelines::{self as kept, KeptPipeline};

use crate::request::{Asked, Body, InNamespace, Named, Nothing, Paged, limit, namespace};
use crate::{Api, Caller, Refusal};

/// `POST /v1/pipelines/check`
pub(crate) async fn check(
    Asked(Nothing {}): Asked<Nothing>,
    Body(check): Body<CheckPipeline>,
) -> Result<Json<CheckedPipeline>, Refusal> {
    let message = SubmissionMessage { params: check.params, ..SubmissionMessage::default() };
    let checked = pipeline::check("pipeline", &check.pipeline, &message.parameters()).map_err(Refusal::wrong)?;
    let step = |step: &pipeline::Step| CheckedStep {
        name: step.name.clone(),
        kind: step.task.kind().to_owned(),
        needs: step.needs.iter().map(|need| need.step.clone()).collect(),
    };
    Ok(Json(CheckedPipeline {
        steps: checked.steps.iter().map(step).collect(),
        warnings: checked.warnings.complaints,
        name: checked.name,
    }))
}

/// `POST /v1/pipelines`
pub(crate) async fn keep(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(keep): Body<KeepPipeline>,
) -> Result<(StatusCode, Json<Kept>), Refusal> {
    let namespace = namespace(keep.namespace.as_deref())?;
    caller.check(&namespace)?;
    let (pipeline, is_new) = kept::keep(&*api.state, &namespace, &keep.pipeline, &caller.name).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Kept { name: pipeline.name, version: pipeline.version })))
}

/// `GET /v1/pipelines`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<PipelineItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let names = kept::names(&*api.state).await?;
    let path = |(namespace, name): &(String, String)| format!("{namespace}/{name}");
    let after = asked.cursor.unwrap_or_default();
    let mut visible = names.into_iter().filter(|name| caller.sees(&name.0) && path(name) > after);
    let mut items = Vec::new();
    let mut last = None;
    for name in visible.by_ref().take(limit) {
        last = Some(path(&name));
        let Some(KeptPipeline { namespace, name, version, by, at, .. }) =
            kept::find(&*api.state, &name.0, &name.1, None).await?
        else {
            continue;
        };
        items.push(PipelineItem { name, namespace, version, updated_ms: at.0, by });
    }
    let next = last.filter(|_| visible.next().is_some());
    Ok(Json(Page { items, next }))
}

/// `GET /v1/pipelines/{name}`
pub(crate) async fn versions(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(asked): Asked<InNamespace>,
) -> Result<Json<PipelineVersions>, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    let versions = match caller.sees(&namespace) {
        true => kept::versions(&*api.state, &namespace, &name).await?,
        false => Vec::new(),
    };
    if versions.is_empty() {
        return Err(missing(&namespace, &name));
    }
    let item = |kept: &KeptPipeline| PipelineVersionItem {
        version: kept.version,
        at_ms: kept.at.0,
        by: kept.by.clone(),
        digest: kept.digest(),
    };
    let versions = versions.iter().map(item).collect();
    Ok(Json(PipelineVersions { name, namespace, versions }))
}

/// `GET /v1/pipelines/{name}/versions/{version}`
pub(crate) async fn version(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named((name, version)): Named<(String, u64)>,
    Asked(asked): Asked<InNamespace>,
) -> Result<Json<PipelineVersion>, Refusal> {
    let namespace = namespace(asked.namespace.as_deref())?;
    let found = match caller.sees(&namespace) {
        true => kept::find(&*api.state, &namespace, &name, Some(version)).await?,
        false => None,
    };
    let found = found.ok_or_else(|| missing(&namespace, &name))?;
    Ok(Json(PipelineVersion {
        digest: found.digest(),
        name: found.name,
        namespace: found.namespace,
        version: found.version,
        at_ms: found.at.0,
        by: found.by,
        pipeline: found.text,
    }))
}

fn missing(namespace: &str, name: &str) -> Refusal {
    Refusal::not_found(format!("such version of a pipeline `{name}` in namespace `{namespace}`"))
        .hint("`GET /v1/pipelines` lists what is kept")
}
