//! Sending spans and metrics to a collector: OTLP over HTTP, from threads of our own.
//!
//! The SDK's processor and reader each have a thread that waits for its requests. The requests themselves run
//! on a small runtime here, so that nothing depends on the caller's, and a caller who blocks its own
//! runtime at the end doesn't keep the last batch from leaving.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor as _};
use tokio::runtime::{Handle, Runtime};

use crate::spans::Spans;
use crate::{Settings, TelemetryError};

/// Spans that wait for a collector. At about half a KiB each they take 4 MiB, and last a busy worker some seconds.
const QUEUE_SPANS: usize = 8 * 1024;
/// Spans in one request: about 250 KiB, under the 4 MiB that collectors take.
const BATCH_SPANS: usize = 512;
/// How long one request may take. Past it the collector is as good as away, and the queue fills.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The ways to the collector.
pub(crate) struct Exporters {
    runtime: Runtime,
    processor: Option<Arc<BatchSpanProcessor>>,
    meters: Option<SdkMeterProvider>,
}

impl fmt::Debug for Exporters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exporters(spans: {}, metrics: {})", self.processor.is_some(), self.meters.is_some())
    }
}

impl Exporters {
    /// Starts those that the settings name; nothing when they name none.
    pub(crate) fn start(settings: &Settings) -> Result<Option<Exporters>, TelemetryError> {
        let any = settings.traces_endpoint.as_ref().or(settings.metrics_endpoint.as_ref());
        let Some(any) = any else { return Ok(None) };
        let failed = |endpoint: &str, source: Box<dyn std::error::Error + Send + Sync>| TelemetryError::Exporter {
            endpoint: endpoint.to_owned(),
            source,
        };
        // One thread: it serializes nothing, and waits for one or two connections.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()
            .map_err(|source| failed(any, source.into()))?;
        // One for both, and so one warning.
        let client: Arc<dyn HttpClient> =
            Arc::new(client(runtime.handle().clone()).map_err(|source| failed(any, source.into()))?);
        let resource = Resource::builder()
            .with_service_name(settings.service)
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", settings.instance.clone()),
            ])
            .build();
        let processor = settings.traces_endpoint.as_ref().map(|endpoint| {
            let exporter = SpanExporter::builder()
                .with_http()
                .with_shared_http_client(Arc::clone(&client))
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(endpoint)
                .with_timeout(REQUEST_TIMEOUT)
                .build()
                .map_err(|source| failed(endpoint, source.into()))?;
            let config = BatchConfigBuilder::default()
                .with_max_queue_size(QUEUE_SPANS)
                .with_max_export_batch_size(BATCH_SPANS)
                .with_scheduled_delay(settings.spans_every)
                .build();
            let mut processor = BatchSpanProcessor::new(exporter, config);
            processor.set_resource(&resource);
            Ok(Arc::new(processor))
        });
        let meters = settings.metrics_endpoint.as_ref().map(|endpoint| {
            let exporter = MetricExporter::builder()
                .with_http()
                .with_shared_http_client(Arc::clone(&client))
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(endpoint)
                .with_timeout(REQUEST_TIMEOUT)
                .build()
                .map_err(|source| failed(endpoint, source.into()))?;
            let reader = PeriodicReader::builder(exporter).with_interval(settings.metrics_every).build();
            Ok(SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader).build())
        });
        Ok(Some(Exporters { runtime, processor: processor.transpose()?, meters: meters.transpose()? }))
    }

    pub(crate) fn spans(&self) -> Spans {
        Spans::over(self.processor.clone())
    }

    pub(crate) fn meter(&self) -> Option<Meter> {
        Some(self.meters.as_ref()?.meter("gristmill"))
    }

    /// Sends what is left, and gives up after `limit`.
    pub(crate) fn shutdown(self, limit: Duration) {
        let started = Instant::now();
        let (ended, end) = mpsc::channel();
        if let Some(meters) = self.meters {
            // In a thread, because the SDK takes a limit here and doesn't keep to it.
            std::thread::spawn(move || {
                // What the collector didn't get is lost, as it is at any other time.
                let _ = meters.shutdown_with_timeout(limit);
                let _ = ended.send(());
            });
        } else {
            drop(ended);
        }
        if let Some(processor) = self.processor {
            let _ = processor.shutdown_with_timeout(limit);
        }
        let _ = end.recv_timeout(limit.saturating_sub(started.elapsed()));
        self.runtime.shutdown_background();
    }
}

/// A client that takes `http` and `https`.
fn client(runtime: Handle) -> std::io::Result<CollectorClient<impl HttpClient>> {
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .build();
    // The client registers its timer with the runtime that it is used on, not the one it is made on.
    let inner = Arc::new(HyperClient::new(connector, REQUEST_TIMEOUT, None));
    Ok(CollectorClient { inner, runtime, is_away: AtomicBool::new(false) })
}

/// Runs requests on our runtime, and says once when the collector goes away.
struct CollectorClient<C> {
    inner: Arc<C>,
    runtime: Handle,
    is_away: AtomicBool,
}

impl<C> fmt::Debug for CollectorClient<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectorClient")
    }
}

#[async_trait]
impl<C: HttpClient + 'static> HttpClient for CollectorClient<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let inner = Arc::clone(&self.inner);
        let endpoint = request.uri().to_string();
        let sent = self.runtime.spawn(async move { inner.send_bytes(request).await }).await;
        let sent = sent.map_err(HttpError::from).and_then(|sent| sent);
        let problem = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        let was_away = self.is_away.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !was_away => {
                tracing::warn!(endpoint, problem, "the collector doesn't take spans and metrics; they are dropped");
            }
            None if was_away => tracing::info!(endpoint, "the collector takes spans and metrics again"),
            _ => {}
        }
        sent
    }
}
