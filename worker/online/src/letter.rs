//! What a message says of itself: its headers, and until when its answer is wanted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gristmill_backends::broker::rabbitmq::header_text;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use sha2::{Digest, Sha256};

use crate::deadline::Deadline;
use crate::infer::Inferred;
use crate::json::write_text;
use crate::models::Which;
use crate::refusal::Refusal;

pub const MODEL: &str = "gristmill-model";
pub const MODEL_VERSION: &str = "gristmill-model-version";
/// What decides between champion and canary.
pub const KEY: &str = "gristmill-key";
/// How long the answer is wanted, in milliseconds from when the message was sent.
pub const TIMEOUT: &str = "gristmill-timeout-ms";
/// What became of it, by HTTP's numbers.
pub const STATUS: &str = "gristmill-status";
pub const REQUEST_ID: &str = "x-request-id";
/// Bytes of JSON before the binary tensors.
pub const JSON_BYTES: &str = "inference-header-content-length";
pub const TRACEPARENT: &str = "traceparent";
/// RabbitMQ's own time of a message, where its interceptor is on.
const SENT_MS: &str = "timestamp_in_ms";

/// Bytes of a header's value that we write. All of a message's headers must fit one frame, of 32 KiB or of what the broker
/// allows, which is 4 KiB at the least; the broker ends the connection over one that doesn't, with all that is on it.
const HEADER_BYTES_MAX: usize = 512;
/// Bytes of the headers that a message keeps when it is put aside. It came in one frame, of 32 KiB if nobody says
/// otherwise; the rest is for its other properties, which are up to 255 bytes each, and for what we add.
const HEADERS_BYTES_MAX: usize = 24 * 1_024;

/// The value of a header that we write: the text, or its digest where that is too long.
pub fn header_value(text: &str) -> AMQPValue {
    if text.len() <= HEADER_BYTES_MAX {
        return AMQPValue::LongString(text.into());
    }
    AMQPValue::LongString(format!("sha256:{}", sha256(text.as_bytes())).into())
}

/// A digest in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes out the longest headers until all fit a frame together with those that we write, and returns their names.
pub fn fitted(headers: &mut BTreeMap<ShortString, AMQPValue>) -> Vec<ShortString> {
    let mut out = Vec::new();
    while headers.iter().map(size).sum::<usize>() > HEADERS_BYTES_MAX {
        let Some(longest) = headers.iter().max_by_key(|header| size(*header)).map(|(name, _)| name.clone()) else {
            break;
        };
        headers.remove(&longest);
        out.push(longest);
    }
    out
}

/// Bytes of a header in a frame, with its name.
fn size((name, value): (&ShortString, &AMQPValue)) -> usize {
    2 + name.as_str().len() + value_size(value)
}

fn value_size(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(|value| 1 + value_size(value)).sum::<usize>(),
        AMQPValue::FieldTable(table) => 4 + table.inner().iter().map(size).sum::<usize>(),
        // Numbers.
        _ => 8,
    }
}

/// A header as text.
pub fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    header_text(properties.headers().as_ref()?.inner().get(name)?)
}

/// The model that a message asks for.
pub fn model(properties: &BasicProperties) -> (Option<String>, Which) {
    let which = header(properties, MODEL_VERSION).map_or(Which::Served, |version| Which::named(&version));
    (header(properties, MODEL), which)
}

/// Milliseconds since 1970 when a message was sent, and by how much that may be too early: AMQP's own timestamp has
/// whole seconds.
pub fn sent_ms(properties: &BasicProperties) -> Option<(u64, u64)> {
    let exact = header(properties, SENT_MS).and_then(|text| text.parse().ok()).map(|ms| (ms, 0));
    exact.or_else(|| Some((properties.timestamp().as_ref()?.saturating_mul(1_000), 999)))
}

/// How long ago a message was sent, at the least.
pub fn age(properties: &BasicProperties) -> Option<Duration> {
    let (sent, early) = sent_ms(properties)?;
    Some(Duration::from_millis(now_ms().saturating_sub(sent.saturating_add(early))))
}

/// When a message's own time ends, if it has one: the shorter of its header and AMQP's `expiration`, from when it was
/// sent. One that doesn't say when that was counts from its arrival.
pub fn deadline(properties: &BasicProperties, arrived: Instant) -> Option<Deadline> {
    let expiration = properties.expiration().as_ref().and_then(|text| text.as_str().parse::<u64>().ok());
    let own = header(properties, TIMEOUT).and_then(|text| text.trim().parse().ok());
    let limit = Duration::from_millis(own.into_iter().chain(expiration).min()?);
    let left = limit.saturating_sub(age(properties).unwrap_or(Duration::ZERO));
    // More than a day is none: nothing here waits that long, and clocks can't add any number.
    (left < Duration::from_secs(86_400)).then(|| Deadline::after(arrived, left))
}

/// Bytes of JSON before the binary tensors, if a header says so. The error is that the body is nothing we read.
pub fn json_bytes(properties: &BasicProperties) -> Result<Option<usize>, Refusal> {
    if let Some(text) = header(properties, JSON_BYTES) {
        let wrong = || Refusal::BadRequest(format!("`{JSON_BYTES}` must be a number"));
        return text.trim().parse().map(Some).map_err(|_| wrong());
    }
    let content_type = properties.content_type().as_ref().map_or("", |content_type| content_type.as_str());
    match content_type.split(';').next().unwrap_or("").trim() {
        "application/json" | "" => Ok(None),
        other => Err(Refusal::UnsupportedMedia(format!("the content type `{other}` is unknown; use application/json"))),
    }
}

/// The body of an answer or of an error, as V2 has them, and its content type; the headers say what it is.
pub fn answer<R: std::borrow::Borrow<Refusal>>(
    result: Result<Inferred, R>,
    headers: &mut FieldTable,
) -> (&'static str, Vec<u8>) {
    const JSON: &str = "application/json";
    match result {
        Ok(Inferred { written, version }) => {
            headers.insert(STATUS.into(), AMQPValue::LongInt(200));
            headers.insert(MODEL_VERSION.into(), AMQPValue::LongString(version.to_string().into()));
            let Some(json) = written.json_bytes else { return (JSON, written.body) };
            headers.insert(JSON_BYTES.into(), AMQPValue::LongLongInt(i64::try_from(json).unwrap_or(i64::MAX)));
            ("application/octet-stream", written.body)
        }
        Err(refusal) => {
            let refusal = refusal.borrow();
            headers.insert(STATUS.into(), AMQPValue::LongInt(refusal.status().into()));
            let mut body = b"{\"error\":".to_vec();
            write_text(&mut body, &refusal.to_string());
            body.push(b'}');
            (JSON, body)
        }
    }
}

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(expiration: Option<&str>, timeout: Option<i64>, sent_s_ago: Option<u64>) -> Option<Duration> {
        let mut headers = FieldTable::default();
        if let Some(timeout) = timeout {
            headers.insert(TIMEOUT.into(), AMQPValue::LongLongInt(timeout));
        }
        let mut properties = BasicProperties::default().with_headers(headers);
        if let Some(expiration) = expiration {
            properties = properties.with_expiration(expiration.into());
        }
        if let Some(ago) = sent_s_ago {
            properties = properties.with_timestamp(now_ms() / 1_000 - ago);
        }
        let now = Instant::now();
        deadline(&properties, now).map(|deadline| deadline.left(now))
    }

    #[test]
    fn long_headers_are_digests_and_what_fits_no_frame_is_left_out() {
        let text = |length: usize| AMQPValue::LongString("k".repeat(length).into());
        assert_eq!(header_value(&"k".repeat(512)), text(512));
        let digest = header_value(&"k".repeat(513));
        assert!(digest.as_long_string().unwrap().to_string().starts_with("sha256:"), "{digest:?}");
        assert_ne!(digest, header_value(&"k".repeat(514)));
        let mut headers: BTreeMap<ShortString, AMQPValue> =
            [("a".into(), text(10)), ("b".into(), text(20_000)), ("c".into(), text(9_000))].into();
        assert_eq!(fitted(&mut headers), [ShortString::from("b")]);
        assert_eq!(fitted(&mut headers), []);
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn the_shorter_of_both_counts_from_when_the_message_was_sent() {
        assert_eq!(left(None, None, Some(5)), None);
        assert_eq!(left(Some("9000"), Some(2_000), None), Some(Duration::from_secs(2)));
        assert_eq!(left(Some("1000"), Some(2_000), None), Some(Duration::from_secs(1)));
        assert_eq!(left(Some("3000"), None, Some(60)), Some(Duration::ZERO));
        assert_eq!(left(Some("soon"), None, None), None);
        // A timestamp of whole seconds makes nothing late too early.
        assert_eq!(left(None, Some(500), Some(0)), Some(Duration::from_millis(500)));
        let some = left(None, Some(60_000), Some(10)).unwrap();
        assert!(some > Duration::from_secs(49) && some <= Duration::from_secs(52), "{some:?}");
    }
}
