//! Sending spans and metrics to a collector over OTLP, from threads of our own.
//!
//! The SDK's processor and reader each have a thread that waits for its requests. Timers and sockets of the requests
//! are those of a small runtime here, so that nothing depends on the caller's, and a caller who blocks its own
//! runtime at the end doesn't keep the last batch from leaving.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanProcessor as _};
use tokio::runtime::Runtime;

use crate::collector::{Problem, metric_exporter, span_exporter};
use crate::spans::Spans;
use crate::{Settings, TelemetryError};

/// Spans that wait for a collector. At about half a KiB each they take 4 MiB, and last a busy worker some seconds.
const QUEUE_SPANS: usize = 8 * 1024;
/// Spans in one request: about 250 KiB, under the 4 MiB that collectors take.
const BATCH_SPANS: usize = 512;

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
        let Some(any) = settings.traces.as_ref().or(settings.metrics.as_ref()) else { return Ok(None) };
        let failed =
            |endpoint: &str, source: Problem| TelemetryError::Exporter { endpoint: endpoint.to_owned(), source };
        // One thread: it serializes nothing, and waits for one or two connections.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("telemetry")
            .enable_all()
            .build()
            .map_err(|source| failed(&any.endpoint, source.into()))?;
        let resource = Resource::builder()
            .with_service_name(settings.service)
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", settings.instance.clone()),
            ])
            .build();
        let processor = settings.traces.as_ref().map(|to| {
            let exporter = span_exporter(to, runtime.handle()).map_err(|source| failed(&to.endpoint, source))?;
            let config = BatchConfigBuilder::default()
                .with_max_queue_size(QUEUE_SPANS)
                .with_max_export_batch_size(BATCH_SPANS)
                .with_scheduled_delay(settings.spans_every)
                .build();
            let mut processor = BatchSpanProcessor::new(exporter, config);
            processor.set_resource(&resource);
            Ok(Arc::new(processor))
        });
        let meters = settings.metrics.as_ref().map(|to| {
            let exporter = metric_exporter(to, runtime.handle()).map_err(|source| failed(&to.endpoint, source))?;
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
            let _ = ended.send(());
        }
        let spans_left = self.processor.is_none_or(|processor| processor.shutdown_with_timeout(limit).is_ok());
        let metrics_left = end.recv_timeout(limit.saturating_sub(started.elapsed())).is_ok();
        if spans_left && metrics_left {
            self.runtime.shutdown_background();
        } else {
            // A request that still waits would find its timer gone, and panic. The runtime ends with the process.
            std::mem::forget(self.runtime);
        }
    }
}
