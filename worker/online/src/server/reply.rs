//! Answers on their way out.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::route::Voice;
use crate::json::write_text;
use crate::refusal::Refusal;

/// What goes out.
pub type Reply = Response<Full<Bytes>>;

/// Some clients show an error only when the content type is exactly this.
pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";
pub const BINARY: &str = "application/octet-stream";
pub const CSV: &str = "text/csv; charset=utf-8";
/// Bytes of JSON before the binary tensors.
pub const INFERENCE_HEADER: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Smaller answers aren't worth the time to compress.
const COMPRESS_BYTES_MIN: usize = 4 * 1024;

/// An answer with a body.
pub fn with(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

pub fn json(value: &Value) -> Reply {
    with(JSON, value.to_string())
}

/// 200 with nothing to say.
pub fn empty() -> Reply {
    Response::new(Full::new(Bytes::new()))
}

/// A refusal in the words that the client knows.
pub fn refused(refusal: &Refusal, voice: Voice) -> Reply {
    let message = refusal.to_string();
    let mut body = Vec::with_capacity(message.len() + 64);
    let mut reply = match (voice, refusal) {
        (Voice::Mlflow, Refusal::UnsupportedMedia(_)) => with(TEXT, message),
        (Voice::Mlflow, refusal) => {
            body.extend_from_slice(b"{\"error_code\":");
            write_text(&mut body, refusal.mlflow_code());
            body.extend_from_slice(b",\"message\":");
            write_text(&mut body, &message);
            body.push(b'}');
            with(JSON, body)
        }
        (Voice::Inference, _) => {
            body.extend_from_slice(b"{\"error\":");
            write_text(&mut body, &message);
            body.push(b'}');
            with(JSON, body)
        }
    };
    *reply.status_mut() = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Refusal::WrongMethod { allowed, .. } = refusal {
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(seconds) = refusal.retry_after_seconds() {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// A body compressed as the client likes, if it is large enough for that.
pub fn compressed(headers: &HeaderMap, body: Vec<u8>) -> (Vec<u8>, Option<&'static str>) {
    if body.len() < COMPRESS_BYTES_MIN {
        return (body, None);
    }
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    let accepts = |name: &str| {
        accepted.split(',').any(|one| {
            let (coding, quality) = one.split_once(';').unwrap_or((one, ""));
            coding.trim() == name && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
        })
    };
    // Writing to a vector does not fail; if it does, the body goes as it is.
    let encoded = if accepts("gzip") {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).and_then(|()| encoder.finish()).map(|bytes| (bytes, "gzip"))
    } else if accepts("deflate") {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&body).and_then(|()| encoder.finish()).map(|bytes| (bytes, "deflate"))
    } else {
        return (body, None);
    };
    encoded.map_or((body, None), |(bytes, name)| (bytes, Some(name)))
}
