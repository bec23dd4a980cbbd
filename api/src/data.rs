//! Files that come in, artifacts that go out, datasets.
//!
//! Artifacts are named by the digest of their bytes: who knows a digest was told it. They are read by any token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{RunFilter, StatusFilter};
use gristmill_protocol::api::{Dataset, DatasetItem, Page, Partition, Uploaded};
use gristmill_protocol::fact::RunStatus;
use gristmill_protocol::output::{DatasetRef, Output};
use gristmill_protocol::{Digest, ErrorCode, RunId};
use gristmill_scheduler::history::History;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::request::{Asked, Named, Nothing, Paged, cursor, limit};
use crate::{Api, Caller, Refusal};

/// Bytes of a file that comes in by one request. Larger data is better read where it is.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Bytes of an artifact that are read at a time on their way out.
const PIECE: u64 = 1024 * 1024;
/// Bytes of a manifest or a profile: thousands of columns fit.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Runs that a page of datasets is looked for in.
const RUNS_LOOKED_AT: usize = 20;

/// `POST /v1/files`
pub(crate) async fn upload(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
    request: Request,
) -> Result<(StatusCode, Json<Uploaded>), Refusal> {
    let failed = |error: std::io::Error| {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull => ErrorCode::OutOfDisk,
            _ => ErrorCode::Internal,
        };
        Refusal::new(code, format!("failed to keep the file: {error}"))
    };
    let file = tempfile::NamedTempFile::new_in(api.artifacts.scratch()).map_err(failed)?;
    let mut writing = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    let mut body = request.into_body().into_data_stream();
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Refusal::bad_input(format!("the file broke off: {error}")))?;
        bytes += piece.len();
        if bytes > FILE_BYTES_MAX {
            let text = format!("the file is larger than {FILE_BYTES_MAX} bytes");
            return Err(
                Refusal::new(ErrorCode::TooLarge, text).hint("split it, or let the pipeline read it where it is")
            );
        }
        writing.write_all(&piece).await.map_err(failed)?;
    }
    writing.flush().await.map_err(failed)?;
    drop(writing);
    let (digest, bytes) = api.artifacts.put_file(file.path()).await?;
    Ok((StatusCode::CREATED, Json(Uploaded { digest, bytes })))
}

/// `GET /v1/artifacts/{digest}`
pub(crate) async fn artifact(
    State(api): State<Arc<Api>>,
    Named(digest): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let digest = digest_of(&digest)?;
    let size = api.artifacts.size(digest).await?;
    let size =
        size.ok_or_else(|| Refusal::new(ErrorCode::ArtifactMissing, format!("there is no artifact `{digest}`")))?;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (from, to, status) = match range.map(|range| range_of(range, size)) {
        None | Some(Range::NotOurs) => (0, size, StatusCode::OK),
        Some(Range::Bytes(from, to)) => (from, to, StatusCode::PARTIAL_CONTENT),
        Some(Range::Outside) => {
            let headers = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let first = api.artifacts.range(digest, 0, size.min(1)).await?;
    // Documents are objects or lists; data and models aren't text.
    let content_type = match first.first() {
        Some(b'{' | b'[') => "application/json",
        _ => "application/octet-stream",
    };
    let artifacts = api.artifacts.clone();
    let pieces = stream::try_unfold(from, move |at| {
        let artifacts = artifacts.clone();
        async move {
            if at >= to {
                return Ok(None);
            }
            let len = PIECE.min(to - at);
            let piece = artifacts.range(digest, at, len).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(Some((piece, at + len)))
        }
    });
    let mut response = Body::from_stream(pieces).into_response();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let set = |headers: &mut HeaderMap, name, value: String| {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    };
    set(headers, header::CONTENT_TYPE, content_type.to_owned());
    set(headers, header::CONTENT_LENGTH, (to - from).to_string());
    set(headers, header::ACCEPT_RANGES, "bytes".to_owned());
    // What a digest names never changes.
    set(headers, header::CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned());
    set(headers, header::ETAG, format!("\"{digest}\""));
    set(headers, header::CONTENT_DISPOSITION, "attachment".to_owned());
    if status == StatusCode::PARTIAL_CONTENT {
        set(headers, header::CONTENT_RANGE, format!("bytes {from}-{}/{size}", to - 1));
    }
    Ok(response)
}

/// What a header `Range` asks for.
enum Range {
    /// From the first to before the second.
    Bytes(u64, u64),
    Outside,
    /// Several ranges, or another unit: the whole is answered.
    NotOurs,
}

fn range_of(text: &str, size: u64) -> Range {
    let Some((from, to)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::NotOurs;
    };
    let (from, to) = match (from.trim().parse::<u64>(), to.trim()) {
        (Ok(from), "") => (from, size),
        (Ok(from), to) => match to.parse::<u64>() {
            Ok(to) if to >= from => (from, to.saturating_add(1).min(size)),
            _ => return Range::NotOurs,
        },
        (Err(_), to) if from.trim().is_empty() => match to.parse::<u64>() {
            Ok(last) if last > 0 => (size.saturating_sub(last), size),
            _ => return Range::NotOurs,
        },
        _ => return Range::NotOurs,
    };
    if from >= size { Range::Outside } else { Range::Bytes(from, to) }
}

fn digest_of(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error| Refusal::bad_input(format!("{error}")))
}

/// `GET /v1/datasets`: of the newest runs that succeeded first.
pub(crate) async fn datasets(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Page<DatasetItem>>, Refusal> {
    let limit = limit(asked.limit)?;
    let before: Option<RunId> = cursor(asked.cursor.as_deref())?;
    let status = Some(StatusFilter::Ended(RunStatus::Succeeded));
    let filter = RunFilter { namespaces: caller.namespaces, status, ..RunFilter::default() };
    let page = api.state.find_runs(&filter, before, RUNS_LOOKED_AT.min(limit)).await?;
    let mut items = Vec::new();
    let mut last = None;
    for record in &page.records {
        // A page ends between two runs, so that the cursor is a run.
        if items.len() >= limit {
            return Ok(Json(Page { items, next: last.map(|run: RunId| run.to_string()) }));
        }
        let history = api.views.look(&*api.state, record.run, |viewed| viewed.history()).await?;
        items.extend(made_by(&history));
        last = Some(record.run);
    }
    Ok(Json(Page { items, next: page.next.map(|run| run.to_string()) }))
}

fn made_by(history: &History) -> Vec<DatasetItem> {
    let mut items = Vec::new();
    for step in history.steps.iter().filter(|step| !step.is_cached()) {
        let mut add = |part: Option<&String>, dataset: &DatasetRef| {
            items.push(DatasetItem {
                digest: dataset.manifest,
                rows: dataset.rows,
                run: history.run,
                pipeline: history.plan.pipeline.clone(),
                step: step.name.clone(),
                part: part.cloned(),
                made_ms: step.tally.span_us.map_or(history.created.0, |(_, end_us)| end_us / 1_000),
            });
        };
        match &step.output {
            Some(Output::Dataset { dataset, .. }) => add(None, dataset),
            Some(Output::Parts { parts }) => parts.iter().for_each(|(part, dataset)| add(Some(part), dataset)),
            _ => {}
        }
    }
    items
}

/// A dataset's manifest, as far as it is shown.
#[derive(Deserialize)]
struct Manifest {
    schema: Value,
    partitions: Vec<Partition>,
    #[serde(default)]
    profile: Option<Digest>,
}

/// `GET /v1/datasets/{digest}`
pub(crate) async fn dataset(
    State(api): State<Arc<Api>>,
    Named(digest): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Dataset>, Refusal> {
    let digest = digest_of(&digest)?;
    let bytes = document(&*api.artifacts, digest).await?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| {
        Refusal::not_found(format!("dataset `{digest}`: the artifact of that digest is something else"))
    })?;
    let profile = match manifest.profile {
        Some(profile) => {
            let bytes = document(&*api.artifacts, profile).await?;
            let damaged =
                |error| Refusal::new(ErrorCode::ArtifactCorrupt, format!("the profile can't be read: {error}"));
            Some(serde_json::from_slice(&bytes).map_err(damaged)?)
        }
        None => None,
    };
    Ok(Json(Dataset {
        digest,
        rows: manifest.partitions.iter().map(|partition| partition.rows).sum(),
        bytes: manifest.partitions.iter().map(|partition| partition.bytes).sum(),
        columns: manifest.schema.get("columns").cloned().unwrap_or(manifest.schema),
        partitions: manifest.partitions,
        profile,
    }))
}

/// The bytes of a document among the artifacts.
async fn document(artifacts: &dyn Artifacts, digest: Digest) -> Result<Bytes, Refusal> {
    match artifacts.size(digest).await? {
        None => Err(Refusal::new(ErrorCode::ArtifactMissing, format!("there is no artifact `{digest}`"))),
        Some(size) if size > DOCUMENT_BYTES_MAX => {
            Err(Refusal::not_found(format!("dataset `{digest}`: the artifact of that digest is something else")))
        }
        Some(_) => Ok(artifacts.get(digest).await?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        let range = |text: &str| match range_of(text, 10) {
            Range::Bytes(from, to) => Some((from, to)),
            Range::Outside => Some((99, 99)),
            Range::NotOurs => None,
        };
        assert_eq!(range("bytes=0-3"), Some((0, 4)));
        assert_eq!(range("bytes=4-"), Some((4, 10)));
        assert_eq!(range("bytes=-3"), Some((7, 10)));
        assert_eq!(range("bytes=5-100"), Some((5, 10)));
        assert_eq!(range("bytes=10-"), Some((99, 99)));
        assert_eq!(range("bytes=3-1"), None);
        assert_eq!(range("bytes=0-1,3-4"), None);
        assert_eq!(range("lines=0-3"), None);
    }
}
