//! The log: one line an event to stderr, as text for people or as JSON for machines.
//!
//! A JSON line has the event's fields beside `timestamp`, `level`, `target` and `message`, and `trace_id` and
//! `span_id` at its top when it was written inside a scope that has them
//! ([`crate::ids::TraceContext::log_scope`]), so that a log store finds a run's lines by its trace.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::{LogFormat, LogSettings, TelemetryError};

/// Makes this the log of the process; it can have one.
pub(crate) fn start(settings: &LogSettings) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(&settings.filter);
    let filter =
        filter.map_err(|source| TelemetryError::LogFilter { text: settings.filter.clone(), source: source.into() })?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match settings.format {
        LogFormat::Text => registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).try_init(),
        LogFormat::Json => {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(JsonLines);
            registry.with(KeepFields).with(lines).try_init()
        }
    };
    started.map_err(|source| TelemetryError::Log { source: source.into() })
}

/// The fields of a scope, kept until a line is written in it.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.insert(field.name().to_owned(), value.to_string().into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}

/// Keeps the fields of scopes as values: what the formatter keeps by itself is text with colours.
struct KeepFields;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KeepFields {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            record.record(fields);
        }
    }
}

/// One JSON object a line.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), timestamp.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        // Outer scopes first: an inner one says it better. The event comes last for the same reason.
        for span in context.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(Fields(fields)) = span.extensions().get::<Fields>() {
                line.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        line.extend(fields.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use gristmill_protocol::RunId;

    use super::*;
    use crate::ids::TraceContext;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_carries_the_ids_of_its_scope() {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(JsonLines);
        // The strictest filter that lets the line pass.
        let log = tracing_subscriber::registry().with(EnvFilter::new("error")).with(KeepFields).with(lines);
        let context = TraceContext::of_run(RunId::from_u128(0xabc));
        tracing::subscriber::with_default(log, || {
            let _scope = context.log_scope().entered();
            tracing::error!(rows = 5, ok = false, path = %"a\"b", "failed to read");
        });
        let written = written.0.lock().expect("not poisoned");
        let line: Value = serde_json::from_slice(&written).expect("one object");
        assert_eq!(line["trace_id"], format!("{:032x}", 0xabc));
        assert_eq!(line["span_id"], context.span.to_string());
        assert_eq!(line["run"], context.run.to_string());
        assert_eq!((&line["rows"], &line["ok"], &line["path"]), (&5.into(), &false.into(), &"a\"b".into()));
        assert_eq!((&line["message"], &line["level"]), (&"failed to read".into(), &"ERROR".into()));
        assert!(line["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')), "{line}");
    }
}
