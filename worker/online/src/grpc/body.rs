//! A request's bytes on their way in, counted among those of all requests in memory.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tonic::Status;

use super::status::status_of;
use crate::refusal::Refusal;
use crate::server::Shared;

/// What one request takes, for as long as this is there.
#[derive(Debug)]
pub struct Counted {
    bytes: AtomicUsize,
    shared: Arc<Shared>,
}

impl Counted {
    pub fn new(shared: &Arc<Shared>) -> Arc<Counted> {
        Arc::new(Counted { bytes: AtomicUsize::new(0), shared: Arc::clone(shared) })
    }

    /// Counts some more, which the limit of one body or that of all may refuse.
    pub fn add(&self, bytes: usize) -> Result<(), Status> {
        let settings = &self.shared.settings;
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let all = self.shared.bodies_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        // Decoded, a request takes up to some times its bytes.
        if own > settings.body_bytes_max.saturating_mul(4) {
            return Err(status_of(&Refusal::TooLarge { limit: settings.body_bytes_max }));
        }
        if all > settings.bodies_bytes_max {
            return Err(status_of(&Refusal::Overloaded { retry_after: Duration::from_secs(1) }));
        }
        Ok(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.bodies_bytes.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A body whose frames are counted as they come.
pub struct CountedBody {
    pub incoming: Incoming,
    pub counted: Arc<Counted>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::cancelled(format!("failed to read the message: {error}")))?;
            self.counted.add(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
