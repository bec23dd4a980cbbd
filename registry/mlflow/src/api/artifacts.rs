//! The proxy through which clients store and read files: a path says whose file it is.
//!
//! `<experiment>/<run>/artifacts/<path>` is a run's, `<experiment>/models/<logged model>/artifacts/<path>` a logged
//! model's, and `registered-models/<name>/<version>/<path>` a version's, which can only be read.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, any, get};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt;

use super::{Answer, Api, downloads, endpoint, nothing, respond};
use crate::request::{Asked, Caller, Field};
use crate::tracking::{FileFact, FileRef, Files, LoggedModel, LoggedModelFact, Run, RunFact};
use crate::{Mlflow, Refusal, validate};
use gristmill_protocol::Digest;
use gristmill_protocol::limits::MODEL_BYTES_MAX;

/// Bytes of one file. A version's files are read and checked one after the other when it is registered, each in memory,
/// so this is what a model may have in memory elsewhere.
const FILE_BYTES_MAX: usize = MODEL_BYTES_MAX;
/// Files of one run, or of one logged model: their paths are folded in memory.
const FILES_MAX: usize = 50_000;
/// Bytes of a path.
const PATH_BYTES_MAX: usize = 1_024;
/// Bytes read at a time of a file that is given out.
const CHUNK_BYTES: u64 = 1024 * 1024;

pub(super) fn routes() -> Api {
    const LIST: &[Field] = &[Field::text("path")];
    Api::new()
        .route("/artifacts", endpoint(MethodFilter::GET, LIST, list))
        .route("/artifacts/{*path}", get(download).put(upload).delete(delete))
        .route("/mpu/{*path}", any(in_parts))
        .route("/presigned/{*path}", any(in_parts))
}

/// Clients fall back to the plain way.
async fn in_parts() -> Refusal {
    let text = "files go through the proxy as a whole, not in parts and not to presigned addresses";
    Refusal::new(crate::Code::NotImplemented, text)
}

/// Whose a path is, and the path from there.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Run { id: String, path: String },
    LoggedModel { id: String, path: String },
    Version { name: String, version: u64, path: String },
}

impl Place {
    /// Nothing of a path that is nobody's.
    fn of(path: &str) -> Option<Place> {
        let parts: Vec<&str> = path.split('/').collect();
        if let [downloads::ROOT, name, version, rest @ ..] = &parts[..] {
            let (name, version) = (downloads::unescape(name)?, version.parse().ok()?);
            return Some(Place::Version { name, version, path: rest.join("/") });
        }
        let at = parts.iter().position(|part| *part == "artifacts").filter(|at| *at > 0)?;
        let (id, path) = (parts[at - 1].to_owned(), parts[at + 1..].join("/"));
        let models = at.checked_sub(2).is_some_and(|before| parts[before] == "models");
        Some(if models { Place::LoggedModel { id, path } } else { Place::Run { id, path } })
    }

    /// The path from where its owner's files begin.
    fn path(&self) -> &str {
        let (Place::Run { path, .. } | Place::LoggedModel { path, .. } | Place::Version { path, .. }) = self;
        path
    }
}

/// The path of an address that goes through this proxy.
pub(super) fn proxied(uri: &str) -> Option<&str> {
    let path = uri.strip_prefix("mlflow-artifacts:")?;
    // With a host, it is the proxy's.
    let path = path.strip_prefix("//").map_or(path, |rest| rest.split_once('/').map_or("", |(_, path)| path));
    Some(path.trim_start_matches('/'))
}

impl Mlflow {
    /// The files of whoever a place is of.
    async fn files_at(&self, place: &Place) -> Result<Files, Refusal> {
        match place {
            Place::Run { id, .. } => Ok(self.run(id).await?.files.clone()),
            Place::LoggedModel { id, .. } => Ok(self.logged_model(id).await?.files.clone()),
            Place::Version { name, version, .. } => self.files_of_version(name, *version).await,
        }
    }

    /// Adds facts on files to a run or a logged model, once `decide` has seen what files there are.
    async fn change_files(
        &self,
        place: &Place,
        by: &str,
        decide: impl Fn(&Files) -> Result<Vec<FileFact>, Refusal>,
    ) -> Result<(), Refusal> {
        match place {
            Place::Run { id, .. } => {
                let asked = Asked::naming("run_id", id, by);
                let facts = |run: &Run| Ok((decide(&run.files)?.into_iter().map(RunFact::File).collect(), ()));
                self.change_run(&asked, true, facts).await
            }
            Place::LoggedModel { id, .. } => {
                let facts =
                    |model: &LoggedModel| Ok(decide(&model.files)?.into_iter().map(LoggedModelFact::File).collect());
                self.change_logged_model(id, by, facts).await
            }
            Place::Version { name, version, .. } => {
                let text = format!("version {version} of `{name}` is registered, and its files never change");
                Err(Refusal::new(crate::Code::PermissionDenied, text))
            }
        }
    }
}

fn nobodys(path: &str) -> Refusal {
    Refusal::missing(format!("No such artifact: '{path}'"))
}

fn place_of(path: &str) -> Result<Place, Refusal> {
    if path.len() > PATH_BYTES_MAX {
        return Err(Refusal::invalid(format!("a path has up to {PATH_BYTES_MAX} bytes")));
    }
    let path = validate::artifact_path(path)?;
    Place::of(path).ok_or_else(|| nobodys(path))
}

async fn upload(
    State(mlflow): State<Arc<Mlflow>>,
    Path(path): Path<String>,
    caller: Option<axum::Extension<Caller>>,
    body: Body,
) -> Response {
    let by = caller.map_or_else(|| "mlflow".to_owned(), |caller| caller.0.0);
    match store(&mlflow, &path, &by, body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn store(mlflow: &Mlflow, path: &str, by: &str, body: Body) -> Result<(), Refusal> {
    let place = place_of(path)?;
    if place.path().is_empty() {
        return Err(Refusal::invalid("Invalid path"));
    }
    let check = |files: &Files| {
        let path = place.path();
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        if files.under(path).next().is_some() || parents.into_iter().any(|parent| files.0.contains_key(parent)) {
            return Err(Refusal::invalid(format!("'{path}' can't be a file and a folder at once")));
        }
        if files.0.len() >= FILES_MAX && !files.0.contains_key(path) {
            return Err(Refusal::invalid(format!("a run or a logged model has up to {FILES_MAX} files")));
        }
        Ok(())
    };
    // Before the bytes come, so that they don't come for nothing.
    check(&mlflow.files_at(&place).await?)?;
    let file = mlflow.keep(body).await?;
    let decide = |files: &Files| {
        check(files)?;
        Ok(vec![FileFact::Stored { path: place.path().to_owned(), file }])
    };
    mlflow.change_files(&place, by, decide).await
}

impl Mlflow {
    /// Puts what comes among the artifacts, by way of a file: it may be larger than memory.
    async fn keep(&self, body: Body) -> Result<FileRef, Refusal> {
        let failed = |error: std::io::Error| {
            Refusal::new(crate::Code::TemporarilyUnavailable, format!("failed to keep what was sent: {error}"))
        };
        let folder = self.artifacts.scratch();
        tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
        let path = tempfile::Builder::new().prefix("mlflow-").tempfile_in(&folder).map_err(failed)?.into_temp_path();
        let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
        let mut chunks = body.into_data_stream();
        let mut size = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk: Bytes = chunk.map_err(|error| Refusal::invalid(format!("the file broke off: {error}")))?;
            size += chunk.len();
            if size > FILE_BYTES_MAX {
                return Err(Refusal::invalid(format!("a file has up to {FILE_BYTES_MAX} bytes")));
            }
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        let path: &FilePath = &path;
        let (digest, size) = self.artifacts.put_file(path).await?;
        Ok(FileRef { digest, size })
    }
}

async fn download(State(mlflow): State<Arc<Mlflow>>, Path(path): Path<String>) -> Response {
    match give(&mlflow, &path).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn give(mlflow: &Mlflow, path: &str) -> Result<Response, Refusal> {
    let place = place_of(path)?;
    let files = mlflow.files_at(&place).await?;
    let file = *files.0.get(place.path()).ok_or_else(|| nobodys(path))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, file.size.to_string()),
        (header::CONTENT_DISPOSITION, "attachment".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    if file.size <= CHUNK_BYTES {
        return Ok((headers, mlflow.artifacts.get(file.digest).await?).into_response());
    }
    // Before the answer begins, since after it nothing can be said any more.
    if mlflow.artifacts.size(file.digest).await? != Some(file.size) {
        return Err(Refusal::missing(format!("the bytes of '{path}' aren't there any more")));
    }
    Ok((headers, Body::from_stream(checked(mlflow, file))).into_response())
}

/// The bytes of a file, some at a time. The last ones are held back until the digest is right: what isn't whole ends in
/// an error, and never in a file that looks whole.
fn checked(mlflow: &Mlflow, file: FileRef) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + use<> {
    let artifacts = Arc::clone(&mlflow.artifacts);
    stream::try_unfold((0, Sha256::new()), move |(offset, mut hash)| {
        let artifacts = Arc::clone(&artifacts);
        async move {
            if offset >= file.size {
                return Ok(None);
            }
            let length = CHUNK_BYTES.min(file.size - offset);
            let bytes = artifacts.range(file.digest, offset, length).await.map_err(std::io::Error::other)?;
            hash.update(&bytes);
            let end = offset + length;
            if end == file.size && Digest::from_bytes(hash.clone().finalize().into()) != file.digest {
                tracing::error!(digest = %file.digest, "an artifact is damaged");
                return Err(std::io::Error::other("the artifact is damaged"));
            }
            Ok(Some((bytes, (end, hash))))
        }
    })
}

async fn delete(
    State(mlflow): State<Arc<Mlflow>>,
    Path(path): Path<String>,
    caller: Option<axum::Extension<Caller>>,
) -> Response {
    let by = caller.map_or_else(|| "mlflow".to_owned(), |caller| caller.0.0);
    respond(remove(&mlflow, &path, &by).await)
}

/// Removes a file, or a folder with all that is in it; fine when neither is there. The bytes stay: versions may need
/// them.
async fn remove(mlflow: &Mlflow, path: &str, by: &str) -> Answer {
    let place = place_of(path)?;
    let decide = |files: &Files| {
        let path = place.path();
        let under =
            files.under(path).map(|(rest, _)| if path.is_empty() { rest.to_owned() } else { format!("{path}/{rest}") });
        let itself = files.0.contains_key(path).then(|| path.to_owned());
        Ok(under.chain(itself).map(|path| FileFact::Removed { path }).collect())
    };
    mlflow.change_files(&place, by, decide).await?;
    Ok(nothing())
}

async fn list(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let path = validate::artifact_path(asked.text("path"))?;
    let Some(place) = Place::of(path) else { return Ok(nothing()) };
    let files = match mlflow.files_at(&place).await {
        Err(refusal) if refusal.code == crate::Code::ResourceDoesNotExist => return Ok(nothing()),
        other => other?,
    };
    Ok(listed(&files, place.path(), ""))
}

/// What stands in a folder; names get `prefix` before them.
fn listed(files: &Files, folder: &str, prefix: &str) -> Value {
    let one = |(name, size): (String, Option<u64>)| match size {
        Some(size) => json!({ "path": format!("{prefix}{name}"), "is_dir": false, "file_size": size }),
        None => json!({ "path": format!("{prefix}{name}"), "is_dir": true }),
    };
    let all: Vec<Value> = files.list(folder).into_iter().map(one).collect();
    if all.is_empty() { nothing() } else { json!({ "files": all }) }
}

fn listed_under(root: &str, files: &Files, asked: &Asked, name: &str) -> Answer {
    let folder = validate::artifact_path(asked.text(name))?;
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut answer = listed(files, folder, &prefix);
    answer["root_uri"] = json!(root);
    Ok(answer)
}

pub(super) async fn list_of_run(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let run = mlflow.run(asked.text("run_id")).await?;
    listed_under(&run.artifact_uri, &run.files, &asked, "path")
}

pub(super) async fn list_of_model(mlflow: Arc<Mlflow>, asked: Asked) -> Answer {
    let model = mlflow.logged_model(&asked.path["id"]).await?;
    listed_under(&model.artifact_uri, &model.files, &asked, "artifact_directory_path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_whose_it_is() {
        let run = |id: &str, path: &str| Some(Place::Run { id: id.to_owned(), path: path.to_owned() });
        assert_eq!(Place::of("1/abc/artifacts/d/x"), run("abc", "d/x"));
        assert_eq!(Place::of("1/abc/artifacts"), run("abc", ""));
        assert_eq!(Place::of("some/where/abc/artifacts/artifacts/x"), run("abc", "artifacts/x"));
        let model = Place::LoggedModel { id: "m-1".to_owned(), path: "MLmodel".to_owned() };
        assert_eq!(Place::of("1/models/m-1/artifacts/MLmodel"), Some(model));
        let version = Place::Version { name: "a b".to_owned(), version: 3, path: "MLmodel".to_owned() };
        assert_eq!(Place::of("registered-models/a~20b/3/MLmodel"), Some(version));
        for path in ["", "1/abc", "artifacts/x", "registered-models/a/x/y", "registered-models/a~2/1"] {
            assert_eq!(Place::of(path), None, "{path}");
        }
    }

    #[test]
    fn addresses_of_the_proxy() {
        assert_eq!(proxied("mlflow-artifacts:/1/a"), Some("1/a"));
        assert_eq!(proxied("mlflow-artifacts://host:1/1/a"), Some("1/a"));
        assert_eq!(proxied("s3://1/a"), None);
    }
}
