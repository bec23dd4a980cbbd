//! The log: one line an event to stderr, as text for people or as JSON for machines.
//!
//! A JSON line has the event's fields beside `timestamp`, `level`, `target` and `message`, and `trace_id` and
//! `span_id` at its top when it was written inside a scope that has them, as workers' attempts are, so that a log
//! store finds a run's lines by its trace. Where spans are exported, `span_id` is that of the innermost one.

use std::fmt;

use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use crate::{LogFormat, LogSettings, TelemetryError};

/// What a layer of the process's log stands on.
pub(crate) type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// Makes this the log of the process; it can have one. `spans` gets the spans, whatever the log's filter says.
pub(crate) fn start(settings: &LogSettings, spans: Option<Boxed>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(&settings.filter);
    let filter =
        filter.map_err(|source| TelemetryError::LogFilter { text: settings.filter.clone(), source: source.into() })?;
    let lines: Boxed = match settings.format {
        LogFormat::Text => tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(filter).boxed(),
        LogFormat::Json => json_lines(std::io::stderr).with_filter(filter).boxed(),
    };
    let layers: Vec<Boxed> = spans.into_iter().chain([lines]).collect();
    let started = tracing_subscriber::registry().with(layers).try_init();
    started.map_err(|source| TelemetryError::Log { source: source.into() })
}

fn json_lines<S, W>(writer: W) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    KeepFields.and_then(tracing_subscriber::fmt::layer().with_writer(writer).event_format(JsonLines))
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
        let current = opentelemetry::Context::current();
        let exported = current.span().span_context().clone();
        if exported.is_valid() && exported.is_sampled() {
            line.insert("trace_id".to_owned(), exported.trace_id().to_string().into());
            line.insert("span_id".to_owned(), exported.span_id().to_string().into());
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

    use tracing::Dispatch;

    use super::*;

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

    /// The one line that is written.
    fn line(log: impl FnOnce(Written) -> Dispatch, write: impl FnOnce()) -> Value {
        let written = Written::default();
        tracing::dispatcher::with_default(&log(written.clone()), write);
        let written = written.0.lock().expect("not poisoned");
        serde_json::from_slice(&written).expect("one object")
    }

    fn attempt() -> tracing::Span {
        tracing::error_span!("task", name = "train", trace_id = format!("{:032x}", 0xabc), span_id = "00000000000000ef")
    }

    #[test]
    fn a_json_line_carries_the_ids_of_its_scope() {
        // The strictest filter that lets the line pass.
        let log = |written: Written| {
            let lines = json_lines(move || written.clone()).with_filter(EnvFilter::new("error"));
            Dispatch::new(tracing_subscriber::registry().with(lines))
        };
        let line = line(log, || {
            let _scope = attempt().entered();
            let _inner = tracing::info_span!(target: "gristmill_worker::spans", "train units").entered();
            tracing::error!(rows = 5, ok = false, path = %"a\"b", "failed to read");
        });
        assert_eq!(
            (&line["trace_id"], &line["span_id"]),
            (&format!("{:032x}", 0xabc).into(), &"00000000000000ef".into())
        );
        assert_eq!(line["name"], "train");
        assert_eq!((&line["rows"], &line["ok"], &line["path"]), (&5.into(), &false.into(), &"a\"b".into()));
        assert_eq!((&line["message"], &line["level"]), (&"failed to read".into(), &"ERROR".into()));
        assert!(line["timestamp"].as_str().is_some_and(|text| text.ends_with('Z')), "{line}");
    }

    #[test]
    fn where_spans_are_exported_a_line_names_the_innermost() {
        let kept = crate::inner::tests::Kept::default();
        let metrics = std::sync::Arc::new(crate::metrics::Metrics::new(None));
        let log = |written: Written| {
            let spans: Boxed = Box::new(kept.layer(&metrics));
            let lines = json_lines(move || written.clone()).with_filter(EnvFilter::new("error")).boxed();
            Dispatch::new(tracing_subscriber::registry().with(vec![spans, lines]))
        };
        let line = line(log, || {
            let _scope = attempt().entered();
            let _inner = tracing::info_span!(target: "gristmill_worker::spans", "train units").entered();
            tracing::error!("failed to train");
        });
        let [span] = &kept.spans()[..] else { panic!("one span") };
        assert_eq!(line["trace_id"], format!("{:032x}", 0xabc));
        assert_eq!(line["span_id"], span.span_context.span_id().to_string());
        assert_ne!(line["span_id"], "00000000000000ef");
    }
}
