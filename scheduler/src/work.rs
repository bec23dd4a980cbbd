//! The futures beside the driver's loop, kept so that those of a shard can be dropped with it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use gristmill_protocol::Shard;

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures under way.
pub(crate) struct Work<T> {
    /// The one read of the inboxes.
    reading: Option<Boxed<T>>,
    /// What belongs to no shard.
    common: FuturesUnordered<Boxed<T>>,
    by_shard: BTreeMap<Shard, FuturesUnordered<Boxed<T>>>,
}

impl<T> Work<T> {
    pub(crate) fn new() -> Work<T> {
        Work { reading: None, common: FuturesUnordered::new(), by_shard: BTreeMap::new() }
    }

    /// Begins to read the inboxes, instead of the read that is under way.
    pub(crate) fn read(&mut self, reading: Boxed<T>) {
        self.reading = Some(reading);
    }

    /// Drops the read that is under way; what it would have brought is read again.
    pub(crate) fn stop_reading(&mut self) {
        self.reading = None;
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Lets a future run.
    pub(crate) fn push(&self, future: Boxed<T>) {
        self.common.push(future);
    }

    /// Lets a future run for as long as the shard is owned.
    pub(crate) fn push_for(&mut self, shard: Shard, future: Boxed<T>) {
        self.by_shard.entry(shard).or_default().push(future);
    }

    /// Drops the futures of a shard.
    pub(crate) fn drop_shard(&mut self, shard: Shard) {
        self.by_shard.remove(&shard);
    }

    /// The next thing that is done. Waits for ever when nothing is under way.
    pub(crate) async fn next(&mut self) -> T {
        poll_fn(|context| {
            for work in self.by_shard.values_mut().chain([&mut self.common]) {
                if let Poll::Ready(Some(done)) = work.poll_next_unpin(context) {
                    return Poll::Ready(done);
                }
            }
            if let Some(reading) = &mut self.reading
                && let Poll::Ready(done) = reading.as_mut().poll(context)
            {
                self.reading = None;
                return Poll::Ready(done);
            }
            Poll::Pending
        })
        .await
    }
}
