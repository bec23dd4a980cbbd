//! The endpoints: paths, methods, and the parameters that each takes.

mod artifacts;
mod downloads;
mod experiments;
mod history;
mod logged_models;
mod logging;
mod model_versions;
mod model_views;
mod registered_models;
mod run_views;
mod runs;
mod search_logged_models;
mod search_models;
mod search_runs;
mod sources;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use serde_json::Value;

use crate::Mlflow;
use crate::refusal::{Code, Refusal};
use crate::request::{self, Asked, Field};

/// What an endpoint answers.
type Answer = Result<Value, Refusal>;
type Api = Router<Arc<Mlflow>>;

/// The MLflow client's version whose server this behaves as.
const VERSION: &str = "3.17.2";

/// All endpoints over `mlflow`.
pub fn router(mlflow: Arc<Mlflow>) -> Router {
    let rest = Router::new()
        .merge(registered_models::routes())
        .merge(model_versions::routes())
        .merge(experiments::routes())
        .merge(runs::routes())
        .merge(logging::routes())
        .merge(logged_models::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(unknown);
    let files = artifacts::routes().fallback(unknown).method_not_allowed_fallback(unknown);
    Router::new()
        .nest("/api/2.0/mlflow", rest.clone())
        .nest("/ajax-api/2.0/mlflow", rest)
        .nest("/api/2.0/mlflow-artifacts", files.clone())
        .nest("/ajax-api/2.0/mlflow-artifacts", files)
        // Its 404 tells clients that there are no workspaces and no presigned addresses.
        .route("/api/3.0/mlflow/server-info", get(unknown))
        .route("/version", get(async || VERSION))
        .route("/health", get(async || "OK"))
        // Each endpoint has a limit of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(mlflow)
}

async fn unknown() -> Refusal {
    Refusal::new(Code::EndpointNotFound, "there is no such endpoint")
}

/// An endpoint that takes these parameters.
fn endpoint<F, Fut>(method: MethodFilter, fields: &'static [Field], answer: F) -> MethodRouter<Arc<Mlflow>>
where
    F: Fn(Arc<Mlflow>, Asked) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send,
{
    on(method, move |State(mlflow): State<Arc<Mlflow>>, request: Request| async move {
        match request::read(request, fields).await {
            Ok(asked) => respond(answer(mlflow, asked).await),
            Err(refusal) => refusal.into_response(),
        }
    })
}

fn respond(answer: Answer) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// The answer of an endpoint that has nothing to say.
fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// How many rows are asked for.
fn page_size(asked: &Asked, usual: i64, most: i64) -> Result<usize, Refusal> {
    let name = "max_results";
    let size = asked.int(name).unwrap_or(usual);
    if size > most {
        return Err(request::wrong(name, &size.into()));
    }
    let size = usize::try_from(size).ok().filter(|size| *size > 0);
    size.ok_or_else(|| {
        let asked = asked.int(name).unwrap_or_default();
        Refusal::invalid(format!(
            "Invalid value {asked} for parameter 'max_results' supplied. It must be a positive integer"
        ))
    })
}
