//! What the API needs of online scoring: endpoints as the command line sets and shows them, and whether a model loads.

use std::sync::Arc;

use async_trait::async_trait;
use gristmill_api::{Serving, ServingError};
use gristmill_backends::state::{State, StateError};
use gristmill_ml::model::Model;
use gristmill_protocol::ErrorCode;
use gristmill_protocol::api::SetEndpoint;
use gristmill_registry::{Registry, RegistryError};
use gristmill_worker::online::Served;
use gristmill_worker::online::endpoints::{CanarySpec, EndpointChange, EndpointError, EndpointSpec, Endpoints};
use serde_json::{Value, json};

use crate::endpoint::show_json;

/// Endpoints and models of the registry.
pub struct RegistryServing {
    registry: Registry,
    endpoints: Endpoints,
    state: Arc<dyn State>,
}

impl RegistryServing {
    pub fn new(registry: Registry, endpoints: Endpoints, state: Arc<dyn State>) -> RegistryServing {
        RegistryServing { registry, endpoints, state }
    }

    /// Refuses a model that isn't registered.
    async fn check(&self, text: &str) -> Result<(), ServingError> {
        match text.contains('@') {
            true => self.registry.version(text).await.map(drop),
            false => self.registry.model(text).await.map(drop),
        }
        .map_err(|error: RegistryError| ServingError { code: error.code(), message: error.to_string() })
    }
}

#[async_trait]
impl Serving for RegistryServing {
    async fn endpoints(&self) -> Result<Vec<Value>, ServingError> {
        let mut all = Vec::new();
        for name in self.endpoints.names().await.map_err(told)? {
            all.extend(self.endpoints.get(&name).await.map_err(told)?.map(|(_, document)| json!(document.spec)));
        }
        Ok(all)
    }

    async fn endpoint(&self, name: &str) -> Result<Value, ServingError> {
        let found = self.endpoints.get(name).await.map_err(told)?;
        let (_, document) = found.ok_or_else(|| told(EndpointError::None(name.to_owned())))?;
        let seen = self.endpoints.seen(name).await.map_err(told)?;
        Ok(show_json(&document, &seen))
    }

    async fn set(&self, name: &str, wanted: SetEndpoint, by: &str) -> Result<(), ServingError> {
        let SetEndpoint { champion, canary, shadows, shadow_core_share, why } = wanted;
        let mut spec = EndpointSpec::new(name, &champion);
        spec.canary = canary.map(|canary| {
            let usual = CanarySpec::new(&canary.model, canary.share);
            CanarySpec {
                disagreement_max: canary.disagreement_max.unwrap_or(usual.disagreement_max),
                latency_times: canary.latency_times.unwrap_or(usual.latency_times),
                failures_over: canary.failures_over.unwrap_or(usual.failures_over),
                ..usual
            }
        });
        spec.shadows = shadows;
        spec.shadow_core_share = shadow_core_share.unwrap_or(spec.shadow_core_share);
        let canary = spec.canary.iter().map(|canary| &canary.model);
        for model in [&spec.champion].into_iter().chain(canary).chain(&spec.shadows) {
            self.check(model).await?;
        }
        let at = self.state.clock().await.map_err(|error| told(error.into()))?.now;
        self.endpoints.set(spec, EndpointChange { at, by: by.to_owned(), why }).await.map_err(told)
    }

    async fn remove(&self, name: &str) -> Result<(), ServingError> {
        self.endpoints.remove(name).await.map_err(told)
    }

    fn prove(&self, algorithm: &str, bytes: &[u8]) -> Result<(), String> {
        prove(algorithm, bytes)
    }
}

/// Whether a version with these bytes loads and answers. What came from outside is in a format that nothing here reads;
/// that its files are whole is all that can be known.
pub fn prove(algorithm: &str, bytes: &[u8]) -> Result<(), String> {
    if algorithm == gristmill_mlflow::ALGORITHM {
        return Ok(());
    }
    let model = Model::from_bytes(bytes).map_err(|error| error.to_string())?;
    Served::new(model).map(drop).map_err(|error| error.to_string())
}

fn told(error: EndpointError) -> ServingError {
    let code = match &error {
        EndpointError::Bad(_) => ErrorCode::BadInput,
        EndpointError::None(_) => ErrorCode::NotFound,
        EndpointError::Damaged { .. } => ErrorCode::Internal,
        EndpointError::State(StateError::Conflict { .. }) => ErrorCode::Conflict,
        EndpointError::State(_) => ErrorCode::Unavailable,
    };
    ServingError { code, message: error.to_string() }
}
