//! Endpoints of online scoring, through whoever knows models.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::{Page, SetEndpoint};
use serde_json::Value;

use crate::request::{Asked, Body, Named, Nothing};
use crate::{Api, Caller, Refusal};

/// What the API needs of online scoring: the program that links models implements it.
#[async_trait]
pub trait Serving: Send + Sync {
    /// All endpoints by name, as `gristmill endpoint list --json` prints them.
    async fn endpoints(&self) -> Result<Vec<Value>, ServingError>;
    /// One with what its servers have seen, as `gristmill endpoint show --json` prints it.
    async fn endpoint(&self, name: &str) -> Result<Value, ServingError>;
    /// Sets what an endpoint serves.
    async fn set(&self, name: &str, wanted: SetEndpoint, by: &str) -> Result<(), ServingError>;
    /// Removes an endpoint; a model of its name answers again.
    async fn remove(&self, name: &str) -> Result<(), ServingError>;
    /// Whether a version with these bytes loads; the reason when it doesn't.
    fn prove(&self, algorithm: &str, bytes: &[u8]) -> Result<(), String>;
}

/// Why online scoring can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ServingError {
    pub code: ErrorCode,
    pub message: String,
}

impl From<ServingError> for Refusal {
    fn from(error: ServingError) -> Refusal {
        Refusal::new(error.code, error.message)
    }
}

impl Api {
    pub(crate) fn serving(&self) -> Result<&dyn Serving, Refusal> {
        self.serving
            .as_deref()
            .ok_or_else(|| Refusal::new(ErrorCode::Unavailable, "this server knows nothing of models that are served"))
    }
}

/// `GET /v1/endpoints`
pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Page<Value>>, Refusal> {
    // There are some hundreds at the most, which is a page.
    Ok(Json(Page { items: api.serving()?.endpoints().await?, next: None }))
}

/// `GET /v1/endpoints/{name}`
pub(crate) async fn endpoint(
    State(api): State<Arc<Api>>,
    Named(name): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(api.serving()?.endpoint(&name).await?))
}

/// `PUT /v1/endpoints/{name}`
pub(crate) async fn set(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Named(name): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
    Body(wanted): Body<SetEndpoint>,
) -> Result<Json<Value>, Refusal> {
    let serving = api.serving()?;
    serving.set(&name, wanted, &caller.name).await?;
    Ok(Json(serving.endpoint(&name).await?))
}

/// `DELETE /v1/endpoints/{name}`
pub(crate) async fn remove(
    State(api): State<Arc<Api>>,
    Named(name): Named<String>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<StatusCode, Refusal> {
    api.serving()?.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
