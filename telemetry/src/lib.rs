//! What an operator sees of a process: its log, its metrics and its part of every run's trace.
//!
//! ```text
//! tracing events ──> log.rs ────────────────> stderr (text or JSON)
//! tracing spans ───> inner.rs ──┐
//! finished spans ──> spans.rs ──┴> queue ──┐
//! measurements ────> metrics.rs ───────────┼─> otlp.rs ──> collector.rs: gRPC or HTTP, when one is set
//!                         └──> serve.rs ───┘   /metrics, /healthz, /readyz
//! ```
//!
//! The run id is the trace id, and the ids of runs, steps and attempts follow from their names (`ids.rs`). So
//! a scheduler and a worker that never met agree about one tree, and spans are written when they have ended,
//! by whoever knows of the end. What happens inside an attempt begins and ends in one process: those are plain
//! `tracing` spans, and `inner.rs` hangs them below the attempt's.
//!
//! **Invariant:** nothing here blocks or fails its caller. Without a collector spans cost an `if`; with one
//! that is away they fill a bounded queue and are dropped.

mod collector;
pub mod ids;
mod inner;
mod log;
pub mod metrics;
mod otlp;
pub mod readiness;
pub mod serve;
mod settings;
pub mod spans;

use std::sync::Arc;
use std::time::Duration;

pub use opentelemetry::KeyValue;
pub use settings::{Destination, LogFormat, LogSettings, Protocol, Settings};

use crate::metrics::Metrics;
use crate::otlp::Exporters;
use crate::spans::Spans;

/// How long the end of a process may wait for a collector. People wait for a command to end, and whoever
/// drains a worker has 30 s for all of it.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Why telemetry can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`{text}` is no log format: set `GRISTMILL_LOG_FORMAT` to `text` or `json`")]
    LogFormat { text: String },
    #[error("`{text}` in `GRISTMILL_LOG` names no log lines: write `info` or `info,gristmill_worker=debug`")]
    LogFilter { text: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("failed to start the log")]
    Log { source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{text}` in `{variable}` is no protocol that is spoken here: write `grpc` or `http/protobuf`")]
    Protocol { variable: String, text: String },
    #[error("`{text}` in `{variable}` is no URL: write it as in `{example}`, with `https` for TLS")]
    Endpoint { variable: String, text: String, example: &'static str },
    #[error("failed to start exporting to `{endpoint}`; check `OTEL_EXPORTER_OTLP_ENDPOINT`")]
    Exporter { endpoint: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// The log, spans and metrics of a process.
#[derive(Debug)]
pub struct Telemetry {
    spans: Spans,
    metrics: Arc<Metrics>,
    exporters: Option<Exporters>,
}

impl Telemetry {
    /// Starts what the settings ask for. Needs no runtime of the caller's.
    pub fn start(settings: &Settings) -> Result<Telemetry, TelemetryError> {
        let exporters = Exporters::start(settings)?;
        let spans = exporters.as_ref().map_or_else(Spans::none, Exporters::spans);
        let metrics = Arc::new(Metrics::new(exporters.as_ref().and_then(Exporters::meter)));
        if let Some(log) = &settings.log {
            log::start(log, spans.inner_layer(&metrics))?;
        }
        Ok(Telemetry { spans, metrics, exporters })
    }

    /// Where finished spans go. Clones share the queue.
    pub fn spans(&self) -> Spans {
        self.spans.clone()
    }

    /// What is counted and measured.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Sends what is left, for two seconds at the most. It blocks: call it when the work has ended.
    pub fn shutdown(self) {
        if let Some(exporters) = self.exporters {
            exporters.shutdown(SHUTDOWN_LIMIT);
        }
    }
}
