//! The HTTP API and the dashboard: everything that the command line does with runs, models and the cluster, for programs
//! and browsers.
//!
//! ```text
//! routes.rs     the table of endpoints: path, right, shapes, handler; the router and OpenAPI follow from it
//! openapi.rs    the published document
//! access.rs     tokens, roles, namespaces, the audit
//! request.rs    bodies and parameters, read strictly
//! refusal.rs    errors in one shape
//! server.rs     connections, TLS, draining
//! runs.rs       submit, list, cancel, resume; runs/ looks into one
//! pipelines.rs  pipelines kept by name and version
//! schedules.rs  what is submitted at which times; triggers.rs: when something happens
//! data.rs       files, artifacts, datasets
//! models.rs     registered models
//! endpoints.rs  what online scoring serves, through whoever knows models
//! cluster.rs    workers
//! pools.rs      what waits in pools, and how many workers they should have
//! costs.rs      what runs cost, budgets, sizes of workers
//! dead_letters.rs  messages that nobody could make anything of
//! session.rs    who am I, signing in, tokens, the audit
//! dashboard.rs  the pages
//! ```
//!
//! *Invariants:* it decides nothing: a run's state comes from folding its journal, as the command line's does; what is
//! changed goes through the same functions. It links neither Arrow nor any model: whoever does is passed in
//! ([`Serving`]).

mod access;
mod cluster;
mod costs;
mod dashboard;
mod data;
mod dead_letters;
mod endpoints;
mod models;
mod openapi;
mod pipelines;
mod pools;
mod refusal;
mod request;
mod routes;
mod runs;
mod schedules;
mod server;
mod session;
mod triggers;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::MethodRouter;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::broker::dead_letters::DeadLetters;
use gristmill_backends::state::State;
use gristmill_registry::Registry;
use tokio::sync::watch;

pub use access::{Caller, MlflowCaller, Need, TokenError, Tokens};
pub use endpoints::{Serving, ServingError};
pub use openapi::document as openapi;
pub use pools::Scaled;
pub use refusal::Refusal;
pub use routes::{Route, routes};
pub use server::{ServerSettings, TlsError, serve, tls};

use crate::access::Audit;
use crate::runs::Views;

/// Bytes of a request's body, where its endpoint doesn't allow more: a pipeline and its parameters, with room.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How the API behaves.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Whether it listens to this machine alone: then nobody needs a token until one is made.
    pub is_local: bool,
    /// In whose name things are done without a token.
    pub local_name: String,
    /// Whether connections are encrypted: cookies are sent over nothing else then.
    pub is_encrypted: bool,
    /// Where people look at traces; `{trace}` stands for a trace's id.
    pub trace_url: Option<String>,
}

/// What the API is served from.
pub struct Stores {
    pub state: Arc<dyn State>,
    pub artifacts: Arc<dyn Artifacts>,
    pub registry: Registry,
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Who knows models and endpoints, if anybody does.
    pub serving: Option<Arc<dyn Serving>>,
    /// The pools that KEDA asks after here.
    pub scaled: Scaled,
}

/// The API.
pub struct Api {
    state: Arc<dyn State>,
    artifacts: Arc<dyn Artifacts>,
    registry: Registry,
    dead_letters: Arc<dyn DeadLetters>,
    serving: Option<Arc<dyn Serving>>,
    scaled: Scaled,
    settings: ApiSettings,
    tokens: Tokens,
    audit: Audit,
    views: Views,
    /// Whether the server ends: streams end then.
    ending: watch::Sender<bool>,
}

impl Api {
    /// The API over open stores.
    pub fn new(stores: Stores, settings: ApiSettings) -> Api {
        let Stores { state, artifacts, registry, dead_letters, serving, scaled } = stores;
        Api {
            tokens: Tokens::new(state.clone()),
            audit: Audit::new(state.clone()),
            views: Views::default(),
            ending: watch::Sender::new(false),
            state,
            artifacts,
            registry,
            dead_letters,
            serving,
            scaled,
            settings,
        }
    }

    /// Ends streams, and writes down what is left to write.
    pub async fn end(&self) {
        self.ending.send_replace(true);
        if let Err(error) = self.audit.write_counted(true).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the audit can't be written");
        }
    }
}

/// All of it as one service; `mlflow` is MLflow's API, which is let in by the same tokens.
pub fn router(api: &Arc<Api>, mlflow: Option<Router>) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let guard = from_fn_with_state((api.clone(), route.need), access::guard);
        let guarded: MethodRouter<Arc<Api>> = route.handler.layer(guard);
        let limited = guarded.layer(DefaultBodyLimit::max(route.body_bytes_max.unwrap_or(BODY_BYTES_MAX)));
        router = router.route(route.path, limited);
    }
    let router = router.with_state(api.clone()).merge(dashboard::router());
    let router = match mlflow {
        Some(mlflow) => router.merge(mlflow.layer(from_fn_with_state(api.clone(), access::guard_mlflow))),
        None => router,
    };
    router.fallback(nowhere).method_not_allowed_fallback(no_such_method).layer(from_fn(dress))
}

async fn nowhere(request: Request) -> Refusal {
    Refusal::not_found(format!("endpoint `{}`", request.uri().path())).hint("`/openapi.json` lists them")
}

async fn no_such_method(request: Request) -> Refusal {
    let (method, path) = (request.method(), request.uri().path());
    Refusal::not_found(format!("method {method} at `{path}`")).hint("`/openapi.json` lists what there is")
}

/// What every answer has: an id to ask after, and what browsers are to keep to.
async fn dress(request: Request, next: Next) -> Response {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let mut bits = [0; 8];
    getrandom::fill(&mut bits).expect("the system's source of randomness answers");
    let id = format!("{:016x}", u64::from_le_bytes(bits));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    response
}
