//! The way of one signal to its collector, whatever the protocol: requests run on our runtime, end in time, and
//! the log says once that they fail.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnectorBuilder};
use opentelemetry_http::HttpClient;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    MetricExporter, SpanExporter as OtlpSpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};

use crate::{Destination, Protocol};

/// How long one request may take, with its retries. Past it the collector is as good as away, and the queue fills.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no way to a collector.
pub(crate) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// What sends spans there.
pub(crate) fn span_exporter(to: &Destination, runtime: &Handle) -> Result<Guarded<OtlpSpanExporter>, Problem> {
    Guarded::new("spans", to, runtime, || {
        let exporter = OtlpSpanExporter::builder();
        Ok(match to.protocol {
            Protocol::Grpc => {
                let exporter = exporter.with_tonic().with_channel(channel(&to.endpoint)?);
                exporter.with_endpoint(&to.endpoint).with_timeout(REQUEST_TIMEOUT).build()?
            }
            Protocol::HttpProtobuf => {
                let exporter = exporter.with_http().with_shared_http_client(http_client(&to.endpoint)?);
                let exporter = exporter.with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
                exporter.with_endpoint(&to.endpoint).with_timeout(REQUEST_TIMEOUT).build()?
            }
        })
    })
}

/// What sends metrics there.
pub(crate) fn metric_exporter(to: &Destination, runtime: &Handle) -> Result<Guarded<MetricExporter>, Problem> {
    Guarded::new("metrics", to, runtime, || {
        let exporter = MetricExporter::builder();
        Ok(match to.protocol {
            Protocol::Grpc => {
                let exporter = exporter.with_tonic().with_channel(channel(&to.endpoint)?);
                exporter.with_endpoint(&to.endpoint).with_timeout(REQUEST_TIMEOUT).build()?
            }
            Protocol::HttpProtobuf => {
                let exporter = exporter.with_http().with_shared_http_client(http_client(&to.endpoint)?);
                let exporter = exporter.with_protocol(opentelemetry_otlp::Protocol::HttpBinary);
                exporter.with_endpoint(&to.endpoint).with_timeout(REQUEST_TIMEOUT).build()?
            }
        })
    })
}

/// A gRPC channel, which connects when it has something to send.
fn channel(endpoint: &str) -> Result<Channel, Problem> {
    let is_secure = endpoint.starts_with("https:");
    let endpoint = Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(REQUEST_TIMEOUT);
    if !is_secure {
        return Ok(endpoint.connect_lazy());
    }
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls()?).https_only().enable_http2().build();
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn http_client(endpoint: &str) -> Result<Arc<dyn HttpClient>, Problem> {
    if !endpoint.starts_with("https:") {
        return Ok(Arc::new(HyperClient::with_default_connector(REQUEST_TIMEOUT, None)));
    }
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls()?).https_only().enable_http1().build();
    Ok(Arc::new(HyperClient::new(connector, REQUEST_TIMEOUT, None)))
}

/// TLS that trusts whom the machine trusts. Asked for at need alone: a small container may trust nobody.
fn tls() -> Result<rustls::ClientConfig, Problem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_native_roots()?.with_no_client_auth())
}

/// An exporter whose requests run on a runtime of ours and end in time.
#[derive(Debug)]
pub(crate) struct Guarded<E> {
    exporter: E,
    endpoint: String,
    /// What is sent, for the log.
    signal: &'static str,
    runtime: Handle,
    is_away: AtomicBool,
}

impl<E> Guarded<E> {
    /// Makes the exporter on the runtime: a gRPC channel begins its work at once.
    fn new(
        signal: &'static str,
        to: &Destination,
        runtime: &Handle,
        make: impl FnOnce() -> Result<E, Problem>,
    ) -> Result<Guarded<E>, Problem> {
        let _inside = runtime.enter();
        let (endpoint, runtime) = (to.endpoint.clone(), runtime.clone());
        Ok(Guarded { exporter: make()?, endpoint, signal, runtime, is_away: AtomicBool::new(false) })
    }

    /// Drives a request on the SDK's thread, with our runtime's timers and sockets.
    async fn send(&self, request: impl Future<Output = OTelSdkResult> + Send) -> OTelSdkResult {
        let timed = {
            let _inside = self.runtime.enter();
            tokio::time::timeout(REQUEST_TIMEOUT, request)
        };
        let mut timed = pin!(timed);
        let sent = std::future::poll_fn(|context| {
            let _inside = self.runtime.enter();
            timed.as_mut().poll(context)
        });
        let sent = sent.await.unwrap_or(Err(OTelSdkError::Timeout(REQUEST_TIMEOUT)));
        self.tell(&sent);
        sent
    }

    fn tell(&self, sent: &OTelSdkResult) {
        let was_away = self.is_away.swap(sent.is_err(), Ordering::Relaxed);
        let (endpoint, signal) = (&self.endpoint, self.signal);
        match sent {
            Err(error) if !was_away => {
                let error = error as &dyn std::error::Error;
                tracing::warn!(endpoint, signal, error, "the collector doesn't take what is sent; it is dropped");
            }
            Ok(()) if was_away => tracing::info!(endpoint, signal, "the collector takes what is sent again"),
            _ => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Guarded<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.send(self.exporter.export(batch)).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Guarded<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.send(self.exporter.export(metrics)).await
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
