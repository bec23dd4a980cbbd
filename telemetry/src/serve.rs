//! What monitoring asks a process over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever
//! starts and stops it.
//!
//! Healthy means that the process answers; one that doesn't is best started anew. Ready means that it can do
//! its work; one that isn't says why, and nobody should end it for that.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::metrics::Metrics;

/// Says whether the process can do its work, and why not. It is asked at any time and must not block.
pub type Readiness = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Why it can't be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen at `{address}` for metrics; choose another address or end who has it")]
pub struct ServeError {
    address: SocketAddr,
    source: io::Error,
}

/// A server that ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

impl Server {
    /// Where it listens, with the port that the system picked when it was asked to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The three paths, for a process that has a server already.
pub fn routes(metrics: Arc<Metrics>, readiness: Readiness) -> Router {
    let text = move || async move {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.to_text())
    };
    let ready = move || async move {
        match readiness() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    };
    Router::new().route("/metrics", get(text)).route("/healthz", get(async || "ok\n")).route("/readyz", get(ready))
}

/// Serves them at an address.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>, readiness: Readiness) -> Result<Server, ServeError> {
    let failed = |source| ServeError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let app = routes(metrics, readiness);
    let task = tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(Server { address, task })
}
