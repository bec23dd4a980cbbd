//! The ids of spans: what is named has an id that follows from its name, so that processes agree without asking.
//!
//! They are the ids that `gristmill trace` draws from the journal: of an attempt [`AttemptRef::span_id`], of a
//! step the first eight bytes of the SHA-256 of `run-…/step`, of the run those of `run-…/`.

use std::fmt;

use gristmill_protocol::{AttemptRef, Digest, RunId};
use opentelemetry::trace::{SpanContext, TraceFlags, TraceId, TraceState};

/// A span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub u64);

impl SpanId {
    /// The span of a whole run.
    pub fn of_run(run: RunId) -> SpanId {
        SpanId::of_step(run, "")
    }

    /// The span of a step.
    pub fn of_step(run: RunId, step: &str) -> SpanId {
        let digest = Digest::of(format!("{run}/{step}").as_bytes());
        let first = digest.as_bytes().first_chunk().expect("a SHA-256 has 32 bytes");
        SpanId(u64::from_be_bytes(*first))
    }

    /// The span of one try at a task.
    pub fn of_attempt(attempt: AttemptRef) -> SpanId {
        SpanId(attempt.span_id())
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span and the run whose trace it is in; what travels with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    pub run: RunId,
    pub span: SpanId,
}

impl TraceContext {
    pub fn of_run(run: RunId) -> TraceContext {
        TraceContext { run, span: SpanId::of_run(run) }
    }

    pub fn of_step(run: RunId, step: &str) -> TraceContext {
        TraceContext { run, span: SpanId::of_step(run, step) }
    }

    pub fn of_attempt(attempt: AttemptRef) -> TraceContext {
        TraceContext { run: attempt.run, span: SpanId::of_attempt(attempt) }
    }

    pub(crate) fn opentelemetry(self, is_remote: bool) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(self.run.as_u128().to_be_bytes()),
            self.span.opentelemetry(),
            TraceFlags::SAMPLED,
            is_remote,
            TraceState::default(),
        )
    }
}

impl SpanId {
    pub(crate) fn opentelemetry(self) -> opentelemetry::trace::SpanId {
        opentelemetry::trace::SpanId::from_bytes(self.0.to_be_bytes())
    }
}

/// The `traceparent` of a span (W3C Trace Context, level 1). Runs are always sampled: their ids are their trace.
pub fn traceparent(run: RunId, span: SpanId) -> String {
    format!("00-{:032x}-{span}-01", run.as_u128())
}

/// The span that a `traceparent` names; nothing when it names none.
///
/// As the recommendation asks: a later version may add fields, version `ff` is none, and ids of zeros mean nothing.
pub fn parse_traceparent(text: &str) -> Option<TraceContext> {
    let mut fields = text.split('-');
    let version = hex(fields.next()?, 2)?;
    let trace = hex(fields.next()?, 32)?;
    let span = hex(fields.next()?, 16)?;
    hex(fields.next()?, 2)?;
    let is_known = match version {
        0 => fields.next().is_none(),
        0xff => false,
        _ => true,
    };
    let span = u64::try_from(span).ok()?;
    (is_known && trace != 0 && span != 0).then(|| TraceContext { run: RunId::from_u128(trace), span: SpanId(span) })
}

fn hex(digits: &str, len: usize) -> Option<u128> {
    let spelt = digits.len() == len && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if spelt { u128::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_parses_as_what_it_was_made_of() {
        let run = RunId::from_u128(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        let text = traceparent(run, SpanId(0xb7ad_6b71_6920_3331));
        assert_eq!(text, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        assert_eq!(parse_traceparent(&text), Some(TraceContext { run, span: SpanId(0xb7ad_6b71_6920_3331) }));
    }

    #[test]
    fn later_versions_may_say_more_and_nonsense_says_nothing() {
        let good = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(parse_traceparent(&format!("01-{good}-more")).is_some());
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let upper = "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for bad in ["", "00", zeros, upper, &format!("ff-{good}"), &format!("00-{good}-more"), &format!("0-{good}")] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_follow_from_names() {
        let run = RunId::from_u128(7);
        assert_eq!(SpanId::of_step(run, "train"), SpanId::of_step(run, "train"));
        assert_ne!(SpanId::of_step(run, "train"), SpanId::of_step(run, "test"));
        assert_ne!(SpanId::of_run(run), SpanId::of_run(RunId::from_u128(8)));
    }
}
