//! What an operator sees of a process: its log, its metrics and its part of every run's trace.
//!
//! ```text
//! tracing events ──> log.rs ────────────────> stderr (text or JSON)
//! finished spans ──> spans.rs ──> queue ──┐
//! measurements ────> metrics.rs ──────────┼─> otlp.rs ──> collector, when one is set
//!                         └──> serve.rs ──┘   /metrics, /healthz, /readyz
//! ```
//!
//! The run id is the trace id, and the ids of runs, steps and attempts follow from their names (`ids.rs`). So
//! a scheduler and a worker that never met agree about one tree, and spans are written when they have ended,
//! by whoever knows of the end.
//!
//! **Invariant:** nothing here blocks or fails its caller. Without a collector spans cost an `if`; with one
//! that is away they fill a bounded queue and are dropped.
//!
//! Deliberately absent: the bridge from `tracing` spans to OpenTelemetry. Its spans begin and end in one process
//! and make ids of their own; ours don't.

pub mod ids;
mod log;
pub mod metrics;
mod otlp;
pub mod serve;
pub mod spans;

use std::sync::Arc;
use std::time::Duration;

pub use opentelemetry::KeyValue;

use crate::metrics::Metrics;
use crate::otlp::Exporters;
use crate::spans::Spans;

/// How long the end of a process may wait for a collector. People wait for a command to end, and whoever
/// drains a worker has 30 s for all of it.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Where the log goes and which lines are in it.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Directives as in `info,gristmill_worker=debug`. Nothing is logged that they don't name.
    pub filter: String,
    pub format: LogFormat,
}

/// What a process tells, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The role: `gristmill-scheduler`, `gristmill-worker`.
    pub service: &'static str,
    /// The process: `w-…`, new at each start.
    pub instance: String,
    /// No log when absent, for a process that has one already.
    pub log: Option<LogSettings>,
    /// Where OTLP requests with spans go, with their path: `http://collector:4318/v1/traces`.
    pub traces_endpoint: Option<String>,
    /// The same for metrics: `http://collector:4318/v1/metrics`.
    pub metrics_endpoint: Option<String>,
    /// How long a batch of spans is gathered.
    pub spans_every: Duration,
    /// How often metrics are sent.
    pub metrics_every: Duration,
}

impl Settings {
    /// What the environment says: `GRISTMILL_LOG`, `GRISTMILL_LOG_FORMAT`, `OTEL_EXPORTER_OTLP_ENDPOINT` and the
    /// two for traces and metrics alone. Headers (`OTEL_EXPORTER_OTLP_HEADERS`) are read by the exporter.
    pub fn from_env(service: &'static str, instance: String) -> Result<Settings, TelemetryError> {
        Settings::from_variables(service, instance, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(
        service: &'static str,
        instance: String,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, TelemetryError> {
        let format = match variable("GRISTMILL_LOG_FORMAT").as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(TelemetryError::LogFormat { text: other.to_owned() }),
        };
        let of_signal = |name: &str, path: &str| {
            let base = || Some(format!("{}{path}", variable("OTEL_EXPORTER_OTLP_ENDPOINT")?.trim_end_matches('/')));
            variable(name).or_else(base)
        };
        Ok(Settings {
            service,
            instance,
            // Errors alone, as long as nobody asks for more: what people need to know is printed.
            log: Some(LogSettings { filter: variable("GRISTMILL_LOG").unwrap_or_else(|| "error".to_owned()), format }),
            traces_endpoint: of_signal("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/v1/traces"),
            metrics_endpoint: of_signal("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "/v1/metrics"),
            spans_every: Duration::from_secs(1),
            metrics_every: Duration::from_secs(15),
        })
    }
}

/// Why telemetry can't start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`{text}` is no log format: set `GRISTMILL_LOG_FORMAT` to `text` or `json`")]
    LogFormat { text: String },
    #[error("`{text}` in `GRISTMILL_LOG` names no log lines: write `info` or `info,gristmill_worker=debug`")]
    LogFilter { text: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("failed to start the log")]
    Log { source: Box<dyn std::error::Error + Send + Sync> },
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
        if let Some(log) = &settings.log {
            log::start(log)?;
        }
        let exporters = Exporters::start(settings)?;
        let spans = exporters.as_ref().map_or_else(Spans::none, Exporters::spans);
        let metrics = Arc::new(Metrics::new(exporters.as_ref().and_then(Exporters::meter)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, TelemetryError> {
        Settings::from_variables("gristmill-worker", "w-1".to_owned(), |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn one_endpoint_serves_both_signals_unless_one_has_its_own() {
        let none = settings(&[]).expect("valid");
        assert_eq!((none.traces_endpoint, none.metrics_endpoint), (None, None));
        let both = settings(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/x"),
        ]);
        let both = both.expect("valid");
        assert_eq!(both.traces_endpoint.as_deref(), Some("http://c:4318/v1/traces"));
        assert_eq!(both.metrics_endpoint.as_deref(), Some("http://m/x"));
    }

    #[test]
    fn a_log_format_that_is_none_is_refused() {
        let format =
            |text| settings(&[("GRISTMILL_LOG_FORMAT", text)]).map(|settings| settings.log.map(|log| log.format));
        assert_eq!(format("json").expect("valid"), Some(LogFormat::Json));
        assert!(matches!(format("xml"), Err(TelemetryError::LogFormat { text }) if text == "xml"));
    }
}
