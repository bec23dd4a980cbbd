//! gRPC of the Open Inference Protocol V2: `inference.GRPCInferenceService`, as KServe and Triton's clients call it.
//!
//! ```text
//! grpc.rs       connections, and which method is called
//! body.rs       bytes on their way in, counted
//! codec.rs      bytes ↔ messages, bounded before they are decoded
//! messages.rs   the messages
//! convert.rs    tensors ↔ columns
//! calls.rs      what is asked → answer
//! status.rs     refusals as statuses; the caller's deadline
//! ```
//!
//! Scoring is that of HTTP, and so are the limits. Messages are not compressed: a compressed one is `UNIMPLEMENTED`,
//! with the encodings that are taken, as gRPC asks.

mod body;
mod calls;
mod codec;
mod convert;
mod messages;
mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};

use self::body::{Counted, CountedBody};
use self::codec::MessageCodec;
use self::status::status_of;
use crate::deadline::Deadline;
use crate::scoring::Scoring;
use crate::server::{ServerSettings, Shared, Wire, run};

/// Calls of one connection at a time. Some clients send all of theirs over one; further ones wait at the client.
const STREAMS_MAX: u32 = 1_024;
/// Bytes of one call's headers: metadata is a key, an id and a deadline.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// How often a silent connection is asked whether it lives, and how long it may take to say so. Balancers cut
/// connections that are silent for a minute.
const ALIVE_EVERY: Duration = Duration::from_secs(45);
const ALIVE_WITHIN: Duration = Duration::from_secs(15);
/// The service's name in paths.
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// Serves gRPC until `stop` ends, then answers what is at hand and ends. Returns the number of connections that were
/// cut because they took longer than the settings allow.
pub async fn serve_grpc(
    listener: TcpListener,
    scoring: Arc<Scoring>,
    settings: ServerSettings,
    stop: impl Future<Output = ()>,
) -> usize {
    run(listener, scoring, settings, stop, Wire::Grpc).await
}

/// One connection, until the client closes it or the server ends.
pub(crate) async fn keep(
    stream: TcpStream,
    shared: &Arc<Shared>,
    ended: &mut watch::Receiver<bool>,
) -> hyper::Result<()> {
    let service = service_fn(|request| {
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(answer(shared, request).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN)
        // Windows grow with what a connection carries: large tensors need more than the 64 KiB of the start.
        .adaptive_window(true);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        result = connection.as_mut() => result,
        () = async { drop(ended.wait_for(|ended| *ended).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Answers a call, whatever it is.
async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let method = request.uri().path().strip_prefix(SERVICE).unwrap_or("");
    match method {
        "ServerLive" => unary(&shared, request, codec::small, calls::server_live).await,
        "ServerReady" => unary(&shared, request, codec::small, calls::server_ready).await,
        "ServerMetadata" => unary(&shared, request, codec::small, calls::server_metadata).await,
        "ModelReady" => unary(&shared, request, codec::small, calls::model_ready).await,
        "ModelMetadata" => unary(&shared, request, codec::small, calls::model_metadata).await,
        "ModelInfer" => unary(&shared, request, codec::of_infer, calls::model_infer).await,
        _ => {
            let text = format!("there is no method `{}`", request.uri().path());
            Status::new(Code::Unimplemented, text).into_http()
        }
    }
}

/// What a call has beside its message.
pub(crate) struct Context {
    pub shared: Arc<Shared>,
    pub start: Instant,
    pub deadline: Deadline,
    /// The bytes of the call, counted until it ends.
    _counted: Arc<Counted>,
}

/// Reads a message, answers it and writes the answer, all before the deadline.
async fn unary<Q, R, F, A>(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    cost: fn(bytes::Bytes) -> Result<usize, prost::DecodeError>,
    call: F,
) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    R: prost::Message + 'static,
    F: Fn(Context, tonic::Request<Q>) -> A,
    A: Future<Output = Result<tonic::Response<R>, Status>>,
{
    let start = Instant::now();
    let deadline = calls::deadline(&shared.settings, request.headers(), start);
    if deadline.left(Instant::now()).is_zero() {
        return status_of(&deadline.refusal()).into_http();
    }
    let counted = Counted::new(shared);
    let context = || Context { shared: Arc::clone(shared), start, deadline, _counted: Arc::clone(&counted) };
    let codec = MessageCodec::new(Arc::clone(&counted), cost);
    let mut grpc = Grpc::new(codec).max_decoding_message_size(shared.settings.body_bytes_max);
    let request = request.map(|incoming| CountedBody { incoming, counted: Arc::clone(&counted) });
    let service = Method(|request| call(context(), request));
    match deadline.bound(grpc.unary(service, request)).await {
        Ok(response) => response,
        Err(refusal) => status_of(&refusal).into_http(),
    }
}

/// A method as tonic calls it.
struct Method<F>(F);

impl<F, A, Q, R> UnaryService<Q> for Method<F>
where
    F: FnMut(tonic::Request<Q>) -> A,
    A: Future<Output = Result<tonic::Response<R>, Status>>,
{
    type Response = R;
    type Future = A;

    fn call(&mut self, request: tonic::Request<Q>) -> A {
        (self.0)(request)
    }
}
