//! A collector that keeps what it gets, over either protocol.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use gristmill_telemetry::{Destination, Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status};

/// Both protocols that a collector may speak.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];
/// A header that requests may carry.
pub const HEADER: &str = "x-tenant";

/// A collector that keeps what it gets.
pub struct Collector {
    pub protocol: Protocol,
    pub address: SocketAddr,
    spans: UnboundedReceiver<(String, Span)>,
    metrics: UnboundedReceiver<ExportMetricsServiceRequest>,
    headers: UnboundedReceiver<String>,
}

/// Its other end.
#[derive(Clone)]
struct Keep {
    spans: UnboundedSender<(String, Span)>,
    metrics: UnboundedSender<ExportMetricsServiceRequest>,
    headers: UnboundedSender<String>,
}

impl Collector {
    /// A collector on a port of its own. Runs on the caller's runtime.
    pub async fn start(protocol: Protocol) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (keep_spans, spans) = mpsc::unbounded_channel();
        let (keep_metrics, metrics) = mpsc::unbounded_channel();
        let (keep_headers, headers) = mpsc::unbounded_channel();
        let keep = Keep { spans: keep_spans, metrics: keep_metrics, headers: keep_headers };
        match protocol {
            Protocol::Grpc => drop(tokio::spawn(serve_grpc(listener, Some(keep)))),
            Protocol::HttpProtobuf => drop(tokio::spawn(serve_http(listener, keep))),
        }
        Collector { protocol, address, spans, metrics, headers }
    }

    /// Spans with their services, as far as they came.
    pub fn spans(&mut self) -> Vec<(String, Span)> {
        std::iter::from_fn(|| self.spans.try_recv().ok()).collect()
    }

    /// Requests with metrics, as far as they came.
    pub fn metrics(&mut self) -> Vec<ExportMetricsServiceRequest> {
        std::iter::from_fn(|| self.metrics.try_recv().ok()).collect()
    }

    /// Values of [`HEADER`] that requests with spans carried.
    pub fn headers(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.headers.try_recv().ok()).collect()
    }

    /// Where a signal goes to reach it.
    pub fn destination(&self, path: &str) -> Option<Destination> {
        Some(destination(self.protocol, self.address, path))
    }
}

/// Where a signal goes to reach whoever listens there.
pub fn destination(protocol: Protocol, address: SocketAddr, path: &str) -> Destination {
    let path = if protocol == Protocol::Grpc { "" } else { path };
    Destination { protocol, endpoint: format!("http://{address}{path}") }
}

/// Takes gRPC connections and requests, and never answers.
pub async fn start_hanging_grpc() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(serve_grpc(listener, None));
    address
}

impl Keep {
    fn spans(&self, request: ExportTraceServiceRequest) {
        for group in request.resource_spans {
            let resource = group.resource.expect("a resource");
            let service = attribute(&resource.attributes, "service.name").expect("it has a name");
            for all in group.scope_spans {
                all.spans.into_iter().for_each(|one| self.spans.send((service.clone(), one)).expect("the test waits"));
            }
        }
    }
}

#[async_trait::async_trait]
impl TraceService for Keep {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if let Some(value) = request.metadata().get(HEADER) {
            self.headers.send(value.to_str().expect("text").to_owned()).expect("the test waits");
        }
        self.spans(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[async_trait::async_trait]
impl MetricsService for Keep {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.metrics.send(request.into_inner()).expect("the test waits");
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// The services of a collector over HTTP/2; without anybody to keep what comes nothing is answered.
async fn serve_grpc(listener: TcpListener, keep: Option<Keep>) {
    while let Ok((stream, _)) = listener.accept().await {
        let keep = keep.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let keep = keep.clone();
            async move {
                let Some(keep) = keep else { return std::future::pending().await };
                match request.uri().path().starts_with("/opentelemetry.proto.collector.trace.v1.") {
                    true => TraceServiceServer::new(keep).call(request).await,
                    false => MetricsServiceServer::new(keep).call(request).await,
                }
            }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

async fn serve_http(listener: TcpListener, keep: Keep) {
    let kept = keep.clone();
    let traces = move |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        if let Some(value) = headers.get(HEADER) {
            kept.headers.send(value.to_str().expect("text").to_owned()).expect("the test waits");
        }
        kept.spans(ExportTraceServiceRequest::decode(body).expect("a request"));
        StatusCode::OK
    };
    let metrics = move |body: Bytes| async move {
        keep.metrics.send(ExportMetricsServiceRequest::decode(body).expect("a request")).expect("the test waits");
        StatusCode::OK
    };
    let app = Router::new().route("/v1/traces", post(traces)).route("/v1/metrics", post(metrics));
    axum::serve(listener, app).await.expect("it serves");
}

/// An attribute's value as text.
pub fn attribute(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}
