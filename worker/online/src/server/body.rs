//! A request's body: read whole, bounded, inflated.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

use super::Shared;
use crate::refusal::Refusal;

/// Larger bodies are worked on where that holds up no connection.
const LARGE_BYTES: usize = 256 * 1024;

/// A body that counts as long as it is in memory.
#[derive(Debug)]
pub struct Held<'a> {
    bytes: Bytes,
    counted: usize,
    all: &'a AtomicUsize,
}

impl Held<'_> {
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Reads a body.
pub async fn read<'a>(shared: &'a Shared, headers: &HeaderMap, body: Incoming) -> Result<Held<'a>, Refusal> {
    let limit = shared.settings.body_bytes_max;
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > limit {
        return Err(Refusal::TooLarge { limit });
    }
    let mut held = Held { bytes: Bytes::new(), counted: 0, all: &shared.bodies_bytes };
    held.count(said, shared)?;
    held.bytes = gathered(&mut held, shared, body).await?;
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    held.bytes = decoded(encoding, std::mem::take(&mut held.bytes), limit)?;
    let more = held.bytes.len().saturating_sub(held.counted);
    held.count(more, shared)?;
    Ok(held)
}

/// A body without its encoding, if it has one.
pub fn decoded(encoding: Option<&[u8]>, bytes: Bytes, limit: usize) -> Result<Bytes, Refusal> {
    match encoding {
        None | Some(b"identity" | b"") => Ok(bytes),
        Some(b"gzip" | b"x-gzip") => working(bytes.len(), || inflated(GzDecoder::new(&*bytes), limit)),
        Some(b"deflate") => working(bytes.len(), || inflated(ZlibDecoder::new(&*bytes), limit)),
        Some(other) => {
            let text = format!("the content encoding `{}` is unknown; use gzip or deflate", other.escape_ascii());
            Err(Refusal::UnsupportedMedia(text))
        }
    }
}

/// Runs what takes time in proportion to a body, without holding up the connections of this thread.
pub fn working<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let several = tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread;
    if bytes > LARGE_BYTES && several { tokio::task::block_in_place(work) } else { work() }
}

impl Held<'_> {
    fn count(&mut self, bytes: usize, shared: &Shared) -> Result<(), Refusal> {
        let before = self.all.fetch_add(bytes, Ordering::Relaxed);
        self.counted += bytes;
        if before + bytes > shared.settings.bodies_bytes_max {
            return Err(Refusal::Overloaded { retry_after: Duration::from_secs(1) });
        }
        Ok(())
    }
}

async fn gathered(held: &mut Held<'_>, shared: &Shared, mut body: Incoming) -> Result<Bytes, Refusal> {
    let limit = shared.settings.body_bytes_max;
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::BadRequest(format!("failed to read the body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        // One piece, as small bodies come, is used as it is.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
        if all.len() > limit {
            return Err(Refusal::TooLarge { limit });
        }
        let more = all.len().saturating_sub(held.counted);
        held.count(more, shared)?;
    }
    if first.len() > limit {
        return Err(Refusal::TooLarge { limit });
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

fn inflated(from: impl Read, limit: usize) -> Result<Bytes, Refusal> {
    let mut bytes = Vec::new();
    let read = from.take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Refusal::BadRequest(format!("failed to inflate the body: {error}")))?;
    if bytes.len() > limit { Err(Refusal::TooLarge { limit }) } else { Ok(bytes.into()) }
}
