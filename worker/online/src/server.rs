//! The HTTP server: connections, and from a request's head and body to an answer's.
//!
//! ```text
//! server.rs     accept, keep connections, drain
//! arrival.rs    since when a request waits
//! route.rs      method and path → what is asked
//! body.rs       the body: bounded, inflated
//! handle.rs     what is asked → answer
//! reply.rs      answers, and refusals in each face's words
//! openapi.rs    all of it for programs to read
//! ```

mod arrival;
mod body;
mod handle;
mod openapi;
mod reply;
mod route;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::arrival::{Arrival, Timed};
use crate::grpc;
use crate::scoring::Scoring;

pub(crate) use self::body::{decoded, working};
pub(crate) use self::handle::{default_model, named_or_only};

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Who answers requests whose path names no model; with one model in the source, that one.
    pub default_model: Option<String>,
    /// A further path for predictions, as Vertex AI's `AIP_PREDICT_ROUTE` asks.
    pub predict_path: Option<String>,
    /// A further path for health, as `AIP_HEALTH_ROUTE` asks.
    pub health_path: Option<String>,
    /// Bytes of one body, after it was inflated.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are in memory.
    pub bodies_bytes_max: usize,
    /// How long a request may take that doesn't say so itself.
    pub timeout: Duration,
    /// The longest that a request may ask for.
    pub timeout_max: Duration,
    /// Connections at a time. Further ones wait to be accepted.
    pub connections_max: usize,
    /// How long a connection may be silent before a request's head is complete.
    pub idle_max: Duration,
    /// How long requests at hand may take when the server ends.
    pub drain_max: Duration,
    /// Leave what columns a model has out of errors.
    pub hide_schema: bool,
}

impl Default for ServerSettings {
    fn default() -> ServerSettings {
        ServerSettings {
            default_model: None,
            predict_path: None,
            health_path: None,
            body_bytes_max: 64 * 1024 * 1024,
            bodies_bytes_max: 512 * 1024 * 1024,
            timeout: Duration::from_secs(5),
            timeout_max: Duration::from_secs(300),
            connections_max: 10_000,
            idle_max: Duration::from_secs(300),
            drain_max: Duration::from_secs(25),
            hide_schema: false,
        }
    }
}

/// What connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub scoring: Arc<Scoring>,
    pub settings: ServerSettings,
    pub draining: AtomicBool,
    /// Bytes of bodies in memory.
    pub bodies_bytes: AtomicUsize,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    /// HTTP/1.1.
    Http,
    /// gRPC, over HTTP/2.
    Grpc,
}

/// Serves until `stop` ends, then answers what is at hand and ends. Returns the number of connections that were cut
/// because they took longer than the settings allow.
pub async fn serve(
    listener: TcpListener,
    scoring: Arc<Scoring>,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) -> usize {
    run(listener, scoring, settings, stop, Wire::Http).await
}

pub(crate) async fn run(
    listener: TcpListener,
    scoring: Arc<Scoring>,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
    wire: Wire,
) -> usize {
    let connections_max = settings.connections_max.clamp(1, u32::MAX as usize >> 1);
    let drain_max = settings.drain_max;
    let (draining, bodies_bytes) = Default::default();
    let shared = Arc::new(Shared { scoring, settings, draining, bodies_bytes });
    let slots = Arc::new(Semaphore::new(connections_max));
    let (end, ended) = watch::channel(false);
    let accept = accept(&listener, &shared, &slots, &ended, wire);
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    shared.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    drop(listener);
    end.send_replace(true);
    let all = slots.acquire_many(u32::try_from(connections_max).unwrap_or(u32::MAX));
    match tokio::time::timeout(drain_max, all).await {
        Ok(_) => 0,
        Err(_) => connections_max - slots.available_permits(),
    }
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    slots: &Arc<Semaphore>,
    ended: &watch::Receiver<bool>,
    wire: Wire,
) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(keep(stream, Arc::clone(shared), slot, ended.clone(), wire));
            }
            // Out of file descriptors, or a client that has gone already; some time may help, and a busy loop doesn't.
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// One connection, until the client closes it or the server ends.
async fn keep(
    stream: TcpStream,
    shared: Arc<Shared>,
    slot: OwnedSemaphorePermit,
    mut ended: watch::Receiver<bool>,
    wire: Wire,
) {
    // Answers are whole; waiting to send them together with the next helps nobody.
    let _ = stream.set_nodelay(true);
    let connections = shared.scoring.metrics().inference_connections.with(&[]);
    connections.add(1.0);
    let result = match wire {
        Wire::Http => keep_http(stream, &shared, &mut ended).await,
        Wire::Grpc => grpc::keep(stream, &shared, &mut ended).await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
    connections.add(-1.0);
    drop(slot);
}

async fn keep_http(stream: TcpStream, shared: &Arc<Shared>, ended: &mut watch::Receiver<bool>) -> hyper::Result<()> {
    let arrival = Arc::new(Arrival::new());
    let service = service_fn(|request| {
        let (shared, arrival) = (Arc::clone(shared), Arc::clone(&arrival));
        async move {
            let reply = handle::handle(&shared, request, arrival.at()).await;
            arrival.restart();
            Ok::<_, Infallible>(reply)
        }
    });
    let stream = TokioIo::new(Timed::new(stream, Arc::clone(&arrival)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(shared.settings.idle_max);
    let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
    tokio::select! {
        result = connection.as_mut() => result,
        () = async { drop(ended.wait_for(|ended| *ended).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
