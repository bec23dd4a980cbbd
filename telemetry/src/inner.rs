//! What happens inside an attempt, as children of the attempt's span.
//!
//! ```text
//! worker: error_span!("task", trace_id, span_id)     the scope: names the attempt's span, isn't exported itself
//!           └─ info_span!("train units")             exported as its child
//!                └─ info_span!("write artifact")     as that one's
//! ```
//!
//! The attempt's span is written when the attempt has ended, by whoever ran it, under an id that follows from its
//! name; so its children can be written before it. Exported is a small fixed set: the spans of level info in the
//! modules named `spans` of our crates, and of those the first [`INNER_SPANS_MAX`] of an attempt. The others are
//! counted (`gristmill_inner_spans_dropped_total`). A child of a dropped span is dropped too, because it comes later.
//!
//! Without a collector this layer isn't there, and the spans are turned off where they are made.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context as Telling, ContextGuard, InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SamplingDecision, SamplingResult, SdkTracerProvider, ShouldSample, Span, SpanData,
    SpanProcessor,
};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::metrics::Metrics;

/// Inner spans of one attempt. A step over a year of data has a few dozen; more would hide the others in a
/// collector's picture, and ten thousand attempts with as many would fill its disk.
const INNER_SPANS_MAX: u32 = 128;

/// The layer that exports inner spans through a processor.
pub(crate) fn layer<S>(
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    metrics: Arc<Metrics>,
) -> impl Layer<S> + Send + Sync + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let provider = SdkTracerProvider::builder()
        .with_span_processor(Forward(processor))
        .with_sampler(FirstOfAttempt { metrics })
        .build();
    // What the bridge would add by itself (places in the code, threads) says nothing to an operator.
    let bridge = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    let inner = FilterFn::new(is_inner as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::INFO);
    let scopes = FilterFn::new(is_scope as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::ERROR);
    Scopes.with_filter(scopes).and_then(bridge.with_filter(inner))
}

fn is_inner(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let is_ours = target.starts_with("gristmill") && target.ends_with("::spans");
    metadata.is_span() && *metadata.level() == Level::INFO && is_ours
}

fn is_scope(metadata: &Metadata<'_>) -> bool {
    let has = |name| metadata.fields().field(name).is_some();
    metadata.is_span() && metadata.target().starts_with("gristmill") && has("trace_id") && has("span_id")
}

/// Makes the span that a scope names the parent of what is inside the scope.
struct Scopes;

thread_local! {
    /// The scopes that this thread is in; most recent last.
    static ENTERED: RefCell<Vec<(Id, ContextGuard)>> = const { RefCell::new(Vec::new()) };
}

/// How many more inner spans an attempt may have. Travels with the context, from parents to children.
struct Left(AtomicU32);

/// The ids that a scope's fields name.
#[derive(Default)]
struct Ids {
    trace: Option<TraceId>,
    span: Option<SpanId>,
}

impl Visit for Ids {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace_id" => self.trace = TraceId::from_hex(value).ok(),
            "span_id" => self.span = SpanId::from_hex(value).ok(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "trace_id" | "span_id") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Scopes {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut ids = Ids::default();
        attributes.record(&mut ids);
        if let (Some(trace), Some(span), Some(scope)) = (ids.trace, ids.span, context.span(id)) {
            let attempt = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default());
            let telling = Telling::new().with_remote_span_context(attempt);
            scope.extensions_mut().insert(telling.with_value(Left(AtomicU32::new(INNER_SPANS_MAX))));
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let telling = context.span(id).and_then(|scope| scope.extensions().get::<Telling>().cloned());
        if let Some(telling) = telling {
            let guard = telling.attach();
            ENTERED.with_borrow_mut(|entered| entered.push((id.clone(), guard)));
        }
    }

    fn on_exit(&self, id: &Id, _context: Context<'_, S>) {
        let left = ENTERED.with_borrow_mut(|entered| {
            let at = entered.iter().rposition(|(known, _)| known == id)?;
            Some(entered.remove(at))
        });
        drop(left);
    }
}

/// Takes the first inner spans of each attempt, and none that are in no attempt.
#[derive(Clone, Debug)]
struct FirstOfAttempt {
    metrics: Arc<Metrics>,
}

impl ShouldSample for FirstOfAttempt {
    fn should_sample(
        &self,
        parent: Option<&Telling>,
        _trace: TraceId,
        _name: &str,
        _kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let left = parent.and_then(|parent| parent.get::<Left>());
        let one_less = |left: u32| left.checked_sub(1);
        let taken = left.map(|left| left.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok());
        if taken == Some(false) {
            self.metrics.inner_spans_dropped.with(&[]).add(1);
        }
        let decision = if taken == Some(true) { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop };
        SamplingResult { decision, attributes: Vec::new(), trace_state: TraceState::default() }
    }
}

/// Hands spans on to the queue that all others go through too, which has an end of its own.
#[derive(Debug)]
struct Forward(Arc<BatchSpanProcessor>);

impl SpanProcessor for Forward {
    fn on_start(&self, _span: &mut Span, _context: &Telling) {}

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use opentelemetry_sdk::trace::SpanExporter;
    use tracing::{debug_span, error_span, info_span};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps what is exported.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Kept(Arc<Mutex<Vec<SpanData>>>, Arc<Mutex<Option<Arc<BatchSpanProcessor>>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("not poisoned").extend(batch);
            Ok(())
        }
    }

    impl Kept {
        /// The layer that exports to it.
        pub(crate) fn layer<S>(&self, metrics: &Arc<Metrics>) -> impl Layer<S> + Send + Sync + use<S>
        where
            S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
        {
            let processor = Arc::new(BatchSpanProcessor::builder(self.clone()).build());
            *self.1.lock().expect("not poisoned") = Some(Arc::clone(&processor));
            layer(processor, InstrumentationScope::builder("gristmill").build(), Arc::clone(metrics))
        }

        /// All spans that have ended.
        pub(crate) fn spans(&self) -> Vec<SpanData> {
            let processor = self.1.lock().expect("not poisoned").clone().expect("there is a layer");
            processor.force_flush().expect("kept");
            self.0.lock().expect("not poisoned").clone()
        }
    }

    /// What is exported of what `act` does, and how many spans were too many.
    fn exported(act: impl FnOnce()) -> (Vec<SpanData>, u64) {
        let (kept, metrics) = (Kept::default(), Arc::new(Metrics::new(None)));
        let subscriber = tracing_subscriber::registry().with(kept.layer(&metrics));
        tracing::subscriber::with_default(subscriber, act);
        let text = metrics.to_text();
        let dropped = text.lines().find_map(|line| line.strip_prefix("gristmill_inner_spans_dropped_total "));
        (kept.spans(), dropped.map_or(0, |count| count.parse().expect("a number")))
    }

    const TRACE: u128 = 0x0190_0000_0000_7000_8000_0000_0000_0001;

    fn attempt(span: u64) -> tracing::Span {
        let (trace_id, span_id) = (format_args!("{TRACE:032x}"), format_args!("{span:016x}"));
        error_span!("task", %trace_id, %span_id)
    }

    macro_rules! inner {
        ($name:literal $($rest:tt)*) => { info_span!(target: "gristmill_worker::spans", $name $($rest)*) };
    }

    #[test]
    fn what_is_in_a_scope_is_below_the_span_that_it_names() {
        let (spans, dropped) = exported(|| {
            let _attempt = attempt(7).entered();
            let train = inner!("train units", units = 3_i64);
            train.in_scope(|| inner!("write artifact").in_scope(|| {}));
            // On another thread nothing is known of the scope, but of the parent.
            let other = info_span!(target: "gristmill_worker::spans", parent: &train, "train unit");
            drop(other);
            inner!("read artifact").in_scope(|| {});
        });
        let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((spans.len(), dropped), (4, 0));
        assert!(spans.iter().all(|span| span.span_context.trace_id() == TraceId::from(TRACE)), "one trace");
        let train = find("train units");
        assert_eq!(train.parent_span_id, SpanId::from(7));
        assert_eq!(find("read artifact").parent_span_id, SpanId::from(7));
        assert_eq!(find("write artifact").parent_span_id, train.span_context.span_id());
        assert_eq!(find("train unit").parent_span_id, train.span_context.span_id());
        assert!(train.attributes.contains(&KeyValue::new("units", 3)), "{:?}", train.attributes);
        assert_eq!(train.attributes.len(), 1, "nothing is added: {:?}", train.attributes);
    }

    #[test]
    fn only_the_fixed_set_is_exported_and_only_inside_attempts() {
        let (spans, dropped) = exported(|| {
            inner!("before any attempt").in_scope(|| {});
            {
                let _attempt = attempt(7).entered();
                debug_span!(target: "gristmill_worker::spans", "too detailed").in_scope(|| {});
                info_span!(target: "gristmill_worker::tasks", "elsewhere").in_scope(|| {});
                info_span!(target: "lapin::spans", "another's").in_scope(|| {});
                inner!("read artifact").in_scope(|| {});
            }
            inner!("after it").in_scope(|| {});
        });
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!((names, dropped), (vec!["read artifact"], 0));
    }

    #[test]
    fn an_attempt_has_so_many_and_the_next_has_its_own() {
        let (spans, dropped) = exported(|| {
            for id in [7, 8] {
                let _attempt = attempt(id).entered();
                for _ in 0..100 {
                    inner!("score partition").in_scope(|| inner!("read artifact").in_scope(|| {}));
                }
            }
        });
        let max = INNER_SPANS_MAX as usize;
        assert_eq!((spans.len(), dropped), (2 * max, 2 * (200 - max as u64)));
        let ids: std::collections::BTreeSet<_> =
            spans.iter().map(|span| span.span_context.span_id().to_bytes()).collect();
        let attempts = [7, 8].map(|id| SpanId::from(id).to_bytes());
        for span in &spans {
            let parent = span.parent_span_id.to_bytes();
            assert!(attempts.contains(&parent) || ids.contains(&parent), "`{}` is an orphan", span.name);
        }
        assert_eq!(spans.iter().filter(|span| span.parent_span_id == SpanId::from(8)).count(), max / 2);
    }
}
