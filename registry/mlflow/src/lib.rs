//! MLflow's REST API over Gristmill's registry, and a tracking store beside it, so that unmodified MLflow clients
//! register, find, alias and download models, and start and log runs.
//!
//! # What is served
//!
//! [`router`] answers under `/api/2.0/mlflow/` (and `/ajax-api/2.0/mlflow/`, which MLflow's pages ask): all endpoints of
//! registered models and their versions, experiments, runs, metrics and logged models; under
//! `/api/2.0/mlflow-artifacts/` the proxy through which clients store and read files; `/version` and `/health`.
//! Refusals have MLflow's codes and statuses (`refusal.rs`), filters its grammar (`search.rs`).
//!
//! # Where things are kept
//!
//! Registered models are those of [`gristmill_registry`]: what a pipeline registered is found here, and what comes in
//! here is a version there, numbered without gaps. Its model's bytes are a manifest (`manifest.rs`) of the files that
//! were stored under its source, so a version never changes, whatever becomes of the run. Nothing here reads any of
//! these files: a model that isn't ours is stored and given out, never executed.
//!
//! Experiments, runs and logged models are facts in the state's logs (`logs.rs`, `tracking.rs`); files are artifacts by
//! digest. Runs of pipelines show up as runs too where the caller knows of some ([`PipelineRuns`]); they can't be
//! changed here.
//!
//! # What is left out
//!
//! Traces, prompts' optimisation, scorers, gateways, webhooks, workspaces, uploads in parts and presigned addresses. Who
//! may do what is decided before a request comes here; a [`Caller`] in its extensions is in whose name facts are.

mod api;
mod logs;
mod manifest;
mod pipelines;
mod refusal;
mod request;
mod search;
mod tracking;
mod validate;

use std::sync::Arc;

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::State;
use gristmill_protocol::Timestamp;
use gristmill_registry::{Act, Acting, Registry};

pub use api::router;
pub use manifest::ALGORITHM;
pub use pipelines::{Pipeline, PipelineError, PipelineRun, PipelineRuns};
pub use refusal::{Code, Refusal};
pub use request::Caller;
pub use tracking::RunStatus;

use crate::logs::Logs;
use crate::tracking::{Experiments, LoggedModel, Members, Run};

/// What the API is served from.
pub struct Mlflow {
    registry: Registry,
    state: Arc<dyn State>,
    artifacts: Arc<dyn Artifacts>,
    pipelines: Option<Arc<dyn PipelineRuns>>,
    experiments: Logs<Experiments>,
    members: Logs<Members>,
    runs: Logs<Run>,
    logged_models: Logs<LoggedModel>,
}

impl Mlflow {
    /// The API over a registry, with tracked runs in the state and files among the artifacts. `runs` are pipelines' runs
    /// to show beside them.
    pub fn new(
        registry: Registry,
        state: Arc<dyn State>,
        artifacts: Arc<dyn Artifacts>,
        runs: Option<Arc<dyn PipelineRuns>>,
    ) -> Mlflow {
        Mlflow {
            registry,
            artifacts,
            pipelines: runs,
            experiments: Logs::new(Arc::clone(&state)),
            members: Logs::new(Arc::clone(&state)),
            runs: Logs::new(Arc::clone(&state)),
            logged_models: Logs::new(Arc::clone(&state)),
            state,
        }
    }

    /// The time of the store.
    async fn now(&self) -> Result<Timestamp, Refusal> {
        Ok(self.state.clock().await?.now)
    }

    /// The registry in somebody's hands.
    async fn acting(&self, by: &str) -> Result<Acting<'_>, Refusal> {
        let act =
            Act { by: by.to_owned(), why: Some("over MLflow".to_owned()), at: self.now().await?, ..Act::default() };
        Ok(self.registry.on_behalf(act))
    }
}
