//! When a request came: when its bytes were there to be read, which is before its connection gets its turn where more is
//! asked than the cores can do.
//!
//! That wait shows in no queue of ours. The runtime wakes whoever waits for a socket as soon as it learns that there is
//! something to read, and runs them in that order; so the time of the wake is kept, and what is too old when it is read
//! can be refused before anything was done for it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// When the bytes came that a connection has read last.
#[derive(Debug)]
pub struct Arrival {
    /// Times are nanoseconds from here.
    start: Instant,
    at_ns: AtomicU64,
}

impl Arrival {
    /// Something comes now.
    pub fn new() -> Arrival {
        Arrival { start: Instant::now(), at_ns: AtomicU64::new(0) }
    }

    /// When the request at hand came.
    pub fn at(&self) -> Instant {
        self.start + Duration::from_nanos(self.at_ns.load(Ordering::Relaxed))
    }

    /// What comes from here on waits for nothing yet. A request that was sent before the answer to the one before it has
    /// waited for that answer, which is its client's will.
    pub fn restart(&self) {
        self.at_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A stream that tells when what it reads came.
#[derive(Debug)]
pub struct Timed<S> {
    stream: S,
    arrival: Arc<Arrival>,
    noticed: Arc<Noticed>,
    /// `noticed` in the form that the stream takes.
    waker: Waker,
}

/// Keeps the time of the first wake since the last look, and passes wakes on.
#[derive(Debug)]
struct Noticed {
    arrival: Arc<Arrival>,
    at_ns: AtomicU64,
    /// Who reads.
    reader: Mutex<Waker>,
}

/// Nobody was woken since the last look.
const NEVER: u64 = u64::MAX;

impl<S> Timed<S> {
    /// The first bytes of a stream came when it was accepted, or later.
    pub fn new(stream: S, arrival: Arc<Arrival>) -> Timed<S> {
        let reader = Mutex::new(Waker::noop().clone());
        let noticed = Noticed { arrival: Arc::clone(&arrival), at_ns: AtomicU64::new(0), reader };
        let noticed = Arc::new(noticed);
        let waker = Waker::from(Arc::clone(&noticed));
        Timed { stream, arrival, noticed, waker }
    }
}

impl Noticed {
    fn listen(&self, reader: &Waker) {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone_from(reader);
    }
}

impl Wake for Noticed {
    fn wake(self: Arc<Noticed>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Noticed>) {
        let now = self.arrival.now_ns();
        let _ = self.at_ns.compare_exchange(NEVER, now, Ordering::Relaxed, Ordering::Relaxed);
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.noticed.listen(cx.waker());
        // Taken whether something is read or not: a wake that brings nothing is no arrival of what comes later.
        let noticed = this.noticed.at_ns.swap(NEVER, Ordering::Relaxed);
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(&mut Context::from_waker(&this.waker), buffer);
        if buffer.filled().len() > before {
            // A wake meanwhile may be that of what was read just now.
            this.noticed.at_ns.store(NEVER, Ordering::Relaxed);
            // Without a wake it was there when it was looked for, and nobody knows since when.
            let at = if noticed == NEVER { this.arrival.now_ns() } else { noticed };
            this.arrival.at_ns.store(at, Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The next moment that differs from this one.
    fn later() -> Instant {
        let now = Instant::now();
        loop {
            let later = Instant::now();
            if later > now {
                return later;
            }
        }
    }

    #[tokio::test]
    async fn what_is_read_came_when_its_reader_was_woken() {
        let arrival = Arc::new(Arrival::new());
        let (mut client, stream) = tokio::io::duplex(64);
        let mut stream = Timed::new(stream, Arc::clone(&arrival));
        let mut buffer = [0; 64];
        let accepted = later();
        // The first bytes count from the start, whenever they are looked for.
        client.write_all(b"a").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
        assert!(arrival.at() < accepted);
        for _ in 0..3 {
            let asked = {
                let mut read = std::pin::pin!(stream.read(&mut buffer));
                let polled = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_pending()));
                assert!(polled.await);
                later()
            };
            client.write_all(b"b").await.unwrap();
            let written = later();
            client.write_all(b"c").await.unwrap();
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 2);
            assert!(asked <= arrival.at() && arrival.at() <= written);
        }
        // A wake that brings nothing is forgotten.
        for _ in 0..2 {
            let mut read = std::pin::pin!(stream.read(&mut buffer));
            let polled = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_pending()));
            assert!(polled.await);
            stream.waker.wake_by_ref();
        }
        {
            let mut read = std::pin::pin!(stream.read(&mut buffer));
            let polled = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_pending()));
            assert!(polled.await);
        }
        let asked = later();
        client.write_all(b"d").await.unwrap();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
        assert!(asked <= arrival.at());
        let answered = later();
        arrival.restart();
        assert!(arrival.at() >= answered);
    }
}
