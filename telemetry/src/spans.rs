//! Spans that have ended, with ids and times that the caller knows.
//!
//! Whoever sees an end writes the span: the scheduler those of runs and steps, the worker those of attempts and
//! (`inner.rs`) what is inside them, both sides of the broker those of messages. A parent may be written after its children, and by
//! another process.
//!
//! Messaging spans follow the OpenTelemetry semantic conventions 1.44 ("Messaging spans").

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gristmill_protocol::{AttemptRef, RunId};
use opentelemetry::trace::{Link, SpanKind, Status};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::ids::{SpanId, TraceContext};
use crate::inner;
use crate::metrics::Metrics;

/// Links of one span. A bundle has 256 attempts at the most; collectors cut spans at 128 links, and the first
/// ones say where a batch came from.
const LINKS_MAX: usize = 128;

/// What all spans say of themselves.
#[derive(Clone, Debug)]
pub struct Finished {
    pub name: String,
    /// Microseconds since 1970.
    pub start_us: u64,
    pub end_us: u64,
    pub attributes: Vec<KeyValue>,
    /// The code of the failure and its text, when it failed.
    pub error: Option<(String, String)>,
}

impl Finished {
    /// Something that went well.
    pub fn new(name: impl Into<String>, start_us: u64, end_us: u64) -> Finished {
        Finished { name: name.into(), start_us, end_us, attributes: Vec::new(), error: None }
    }
}

/// What a messaging span says of its messages.
#[derive(Clone, Debug)]
pub struct Messages {
    /// `rabbitmq`, or the name of another system.
    pub system: &'static str,
    /// Exchange, routing key and queue with colons between them, as far as they are known.
    pub destination: String,
    /// The message's id, when it is one message.
    pub message_id: Option<String>,
    /// How many messages, when they are handled as a batch.
    pub batch: Option<usize>,
}

/// Where finished spans go. Clones share the queue; without a collector it is nowhere.
#[derive(Clone)]
pub struct Spans {
    processor: Option<Arc<BatchSpanProcessor>>,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spans(exported: {})", self.processor.is_some())
    }
}

impl Spans {
    /// Nowhere to send them.
    pub fn none() -> Spans {
        Spans::over(None)
    }

    pub(crate) fn over(processor: Option<Arc<BatchSpanProcessor>>) -> Spans {
        let scope = InstrumentationScope::builder("gristmill").with_version(env!("CARGO_PKG_VERSION")).build();
        Spans { processor, ids: RandomIdGenerator::default(), scope }
    }

    /// The layer that exports what happens inside attempts, when there is a collector.
    pub(crate) fn inner_layer<S>(&self, metrics: &Arc<Metrics>) -> Option<Box<dyn Layer<S> + Send + Sync>>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let processor = Arc::clone(self.processor.as_ref()?);
        Some(inner::layer(processor, self.scope.clone(), Arc::clone(metrics)).boxed())
    }

    /// Whether spans go anywhere: attributes that take work to gather needn't be.
    pub fn is_exported(&self) -> bool {
        self.processor.is_some()
    }

    /// An id for a span that has no name of its own. A publisher takes one before it publishes, because the
    /// message's `traceparent` has it.
    pub fn new_id(&self) -> SpanId {
        SpanId(u64::from_be_bytes(self.ids.new_span_id().to_bytes()))
    }

    /// A run: the root of its trace.
    pub fn run_span(&self, run: RunId, finished: Finished) {
        self.emit(TraceContext::of_run(run), None, SpanKind::Internal, Vec::new(), finished);
    }

    /// A step of a run.
    pub fn step_span(&self, run: RunId, step: &str, finished: Finished) {
        let parent = Some(SpanId::of_run(run));
        self.emit(TraceContext::of_step(run, step), parent, SpanKind::Internal, Vec::new(), finished);
    }

    /// One try at a task of a step.
    pub fn attempt_span(&self, attempt: AttemptRef, step: &str, finished: Finished) {
        let parent = Some(SpanId::of_step(attempt.run, step));
        self.emit(TraceContext::of_attempt(attempt), parent, SpanKind::Internal, Vec::new(), finished);
    }

    /// Something inside another span, under an id from [`Spans::new_id`].
    pub fn inner(&self, parent: TraceContext, id: SpanId, finished: Finished) {
        let context = TraceContext { run: parent.run, span: id };
        self.emit(context, Some(parent.span), SpanKind::Internal, Vec::new(), finished);
    }

    /// Messages were handed to the broker. `id` is the span that their `traceparent` names. The name in
    /// `finished` is replaced by the conventions'.
    pub fn publish(&self, parent: TraceContext, id: SpanId, messages: &Messages, finished: Finished) {
        let context = TraceContext { run: parent.run, span: id };
        let finished = messages.describe("publish", "send", finished);
        self.emit(context, Some(parent.span), SpanKind::Producer, Vec::new(), finished);
    }

    /// Messages were worked on, linked to where each was made. The parent is in one trace; a batch's messages
    /// may come from others, and the links lead there.
    pub fn process(
        &self,
        parent: TraceContext,
        id: SpanId,
        messages: &Messages,
        producers: &[TraceContext],
        finished: Finished,
    ) {
        let context = TraceContext { run: parent.run, span: id };
        let finished = messages.describe("process", "process", finished);
        let links = producers.iter().map(|producer| Link::new(producer.opentelemetry(true), Vec::new(), 0));
        self.emit(context, Some(parent.span), SpanKind::Consumer, links.collect(), finished);
    }

    fn emit(
        &self,
        context: TraceContext,
        parent: Option<SpanId>,
        span_kind: SpanKind,
        mut all_links: Vec<Link>,
        finished: Finished,
    ) {
        let Some(processor) = &self.processor else { return };
        let mut links = SpanLinks::default();
        links.dropped_count = u32::try_from(all_links.len().saturating_sub(LINKS_MAX)).unwrap_or(u32::MAX);
        all_links.truncate(LINKS_MAX);
        links.links = all_links;
        let mut attributes = finished.attributes;
        let status = match finished.error {
            Some((code, text)) => {
                attributes.push(KeyValue::new("error.type", code));
                Status::error(text)
            }
            None => Status::Unset,
        };
        processor.on_end(SpanData {
            span_context: context.opentelemetry(false),
            parent_span_id: parent.map_or(opentelemetry::trace::SpanId::INVALID, SpanId::opentelemetry),
            // Parents are mostly written by another process, and nothing tells which.
            parent_span_is_remote: parent.is_some(),
            span_kind,
            name: finished.name.into(),
            start_time: at(finished.start_us),
            // Clocks of two machines differ; an end before the start draws nothing.
            end_time: at(finished.end_us.max(finished.start_us)),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status,
            instrumentation_scope: self.scope.clone(),
        });
    }
}

impl Messages {
    /// Adds what the conventions ask for.
    fn describe(&self, operation: &'static str, operation_type: &'static str, mut finished: Finished) -> Finished {
        finished.name = format!("{operation} {}", self.destination);
        finished.attributes.extend([
            KeyValue::new("messaging.system", self.system),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.operation.type", operation_type),
            KeyValue::new("messaging.destination.name", self.destination.clone()),
        ]);
        let id = self.message_id.clone().map(|id| KeyValue::new("messaging.message.id", id));
        let count = self.batch.and_then(|count| i64::try_from(count).ok());
        let count = count.map(|count| KeyValue::new("messaging.batch.message_count", count));
        finished.attributes.extend(id.into_iter().chain(count));
        finished
    }
}

fn at(us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(us)
}
