//! What a process tells, and to whom, as the environment says it.
//!
//! The variables that begin with `OTEL_` are those of the OpenTelemetry specification ("OpenTelemetry Protocol
//! Exporter"), with one difference: where none of them is set nothing is sent, because most processes have no
//! collector beside them.

use std::fmt;
use std::time::Duration;

use crate::TelemetryError;

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

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC, mostly at port 4317.
    Grpc,
    /// Protobuf over HTTP, mostly at port 4318; what the specification asks for where nothing is said.
    #[default]
    HttpProtobuf,
}

impl Protocol {
    fn parse(text: &str) -> Option<Protocol> {
        match text {
            "grpc" => Some(Protocol::Grpc),
            "http/protobuf" => Some(Protocol::HttpProtobuf),
            _ => None,
        }
    }

    /// Where the specification expects a collector that speaks it.
    fn default_endpoint(self) -> &'static str {
        match self {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::HttpProtobuf => "http://localhost:4318",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http/protobuf",
        })
    }
}

/// Where one signal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub protocol: Protocol,
    /// A URL; over HTTP with the path of the signal: `http://collector:4318/v1/traces`, `https://collector:4317`.
    pub endpoint: String,
}

/// What a process tells, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The role: `gristmill-scheduler`, `gristmill-worker`.
    pub service: &'static str,
    /// The process: `w-…`, new at each start.
    pub instance: String,
    /// No log when absent, for a process that has one already; then what happens inside attempts isn't exported either.
    pub log: Option<LogSettings>,
    /// Where spans go.
    pub traces: Option<Destination>,
    /// Where metrics go.
    pub metrics: Option<Destination>,
    /// How long a batch of spans is gathered.
    pub spans_every: Duration,
    /// How often metrics are sent.
    pub metrics_every: Duration,
}

impl Settings {
    /// What the environment says: `GRISTMILL_LOG`, `GRISTMILL_LOG_FORMAT`, `OTEL_EXPORTER_OTLP_ENDPOINT`,
    /// `OTEL_EXPORTER_OTLP_PROTOCOL` (`grpc` or `http/protobuf`), and those two for traces and metrics alone
    /// (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and so on). Headers (`OTEL_EXPORTER_OTLP_HEADERS`) are read by the
    /// exporter.
    ///
    /// A signal is sent when an endpoint or a protocol is set for it; without an endpoint to the protocol's port on
    /// this machine.
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
        Ok(Settings {
            service,
            instance,
            // Errors alone, as long as nobody asks for more: what people need to know is printed.
            log: Some(LogSettings { filter: variable("GRISTMILL_LOG").unwrap_or_else(|| "error".to_owned()), format }),
            traces: destination("TRACES", "/v1/traces", &variable)?,
            metrics: destination("METRICS", "/v1/metrics", &variable)?,
            spans_every: Duration::from_secs(1),
            metrics_every: Duration::from_secs(15),
        })
    }
}

/// Where one signal goes; its own variables come before those for all.
fn destination(
    signal: &str,
    path: &str,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Destination>, TelemetryError> {
    let protocol = |name: String| match variable(&name) {
        None => Ok(None),
        Some(text) => Protocol::parse(&text).map(Some).ok_or(TelemetryError::Protocol { variable: name, text }),
    };
    let own = protocol(format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"))?;
    let shared = protocol("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned())?;
    let named = own.or(shared);
    let protocol = named.unwrap_or_default();
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let (name, endpoint) = match (variable(&own), variable("OTEL_EXPORTER_OTLP_ENDPOINT")) {
        (Some(endpoint), _) => (own, endpoint),
        (None, Some(base)) => ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), of_signal(&base, protocol, path)),
        (None, None) if named.is_some() => (own, of_signal(protocol.default_endpoint(), protocol, path)),
        (None, None) => return Ok(None),
    };
    if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
        return Err(TelemetryError::Endpoint { variable: name, text: endpoint, example: protocol.default_endpoint() });
    }
    Ok(Some(Destination { protocol, endpoint }))
}

/// The endpoint of a signal below the one for all: gRPC has no path of its own, because the service is the path.
fn of_signal(base: &str, protocol: Protocol, path: &str) -> String {
    match protocol {
        Protocol::Grpc => base.to_owned(),
        Protocol::HttpProtobuf => format!("{}{path}", base.trim_end_matches('/')),
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

    fn destinations(variables: &[(&str, &str)]) -> [Option<(Protocol, String)>; 2] {
        let settings = settings(variables).expect("valid");
        [settings.traces, settings.metrics].map(|to| to.map(|to| (to.protocol, to.endpoint)))
    }

    fn http(endpoint: &str) -> Option<(Protocol, String)> {
        Some((Protocol::HttpProtobuf, endpoint.to_owned()))
    }

    fn grpc(endpoint: &str) -> Option<(Protocol, String)> {
        Some((Protocol::Grpc, endpoint.to_owned()))
    }

    #[test]
    fn one_endpoint_serves_both_signals_unless_one_has_its_own() {
        assert_eq!(destinations(&[]), [None, None]);
        let both = destinations(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/x"),
        ]);
        assert_eq!(both, [http("http://c:4318/v1/traces"), http("http://m/x")]);
        let one = destinations(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/x")]);
        assert_eq!(one, [http("https://t/x"), None]);
    }

    #[test]
    fn a_protocol_brings_its_port_and_paths() {
        let both = destinations(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
        assert_eq!(both, [grpc("http://localhost:4317"), grpc("http://localhost:4317")]);
        let both = destinations(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ]);
        assert_eq!(both, [grpc("https://c:4317"), http("https://c:4317/v1/metrics")]);
        let one = destinations(&[("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")]);
        assert_eq!(one, [None, http("http://localhost:4318/v1/metrics")]);
    }

    #[test]
    fn a_protocol_that_is_none_is_refused_with_what_to_write() {
        for variable in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
            let error = settings(&[(variable, "http/json")]).expect_err("not spoken");
            let text = error.to_string();
            for part in [variable, "`http/json`", "`grpc`", "`http/protobuf`"] {
                assert!(text.contains(part), "{part} isn't in: {text}");
            }
        }
    }

    #[test]
    fn an_endpoint_needs_its_scheme() {
        let variables =
            [("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector.example:4317")];
        let text = settings(&variables).expect_err("no scheme").to_string();
        assert!(text.contains("`OTEL_EXPORTER_OTLP_ENDPOINT`") && text.contains("http://localhost:4317"), "{text}");
    }

    #[test]
    fn a_log_format_that_is_none_is_refused() {
        let format =
            |text| settings(&[("GRISTMILL_LOG_FORMAT", text)]).map(|settings| settings.log.map(|log| log.format));
        assert_eq!(format("json").expect("valid"), Some(LogFormat::Json));
        assert!(matches!(format("xml"), Err(TelemetryError::LogFormat { text }) if text == "xml"));
    }
}
