//! How far behind a stream is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use gristmill_backends::broker::rabbitmq::{Cause, Line};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use tracing::debug;

use super::{Source, StreamSettings, address};
use crate::letter;
use crate::scoring::Scoring;

/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// How often is looked. Scrapes are rarer.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Messages that are delivered at a time while one is looked for, which is among the first of its chunk or of some
/// thousand.
const REACH_AT_ONCE: u16 = 100;

/// How far a stream is, written as it moves.
#[derive(Debug, Default)]
pub struct Reached {
    /// The offset below which all is done.
    pub next: AtomicU64,
    /// Messages at hand.
    pub at_hand: AtomicU64,
    /// When the oldest of them was sent, in milliseconds since 1970; 0 when there is none.
    pub oldest_ms: AtomicU64,
}

impl Reached {
    pub fn new(next: Option<u64>) -> Reached {
        Reached { next: AtomicU64::new(next.unwrap_or(0)), ..Reached::default() }
    }
}

/// Keeps a stream's gauges, for as long as it runs.
pub fn watch(
    line: Arc<Line>,
    settings: Arc<StreamSettings>,
    reached: Arc<Reached>,
    scoring: &Scoring,
) -> impl Future<Output = ()> + use<> {
    let metrics = scoring.metrics();
    let (messages, seconds) =
        (metrics.stream_lag_messages.with(&[&settings.name]), metrics.stream_lag_seconds.with(&[&settings.name]));
    async move {
        loop {
            match tokio::time::timeout(LOOK_WITHIN, behind(&line, &settings.source, &reached)).await {
                Ok(Ok(behind)) => messages.set(behind as f64),
                Ok(Err(error)) => debug!(stream = settings.name, error = &*error, "a stream's lag isn't known"),
                Err(_) => debug!(stream = settings.name, "a stream's lag isn't known in time"),
            }
            let oldest = reached.oldest_ms.load(Ordering::Relaxed);
            let age = if oldest == 0 { 0 } else { letter::now_ms().saturating_sub(oldest) };
            seconds.set(age as f64 / 1_000.0);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Sets a stream's gauges to nothing.
pub fn forget(scoring: &Scoring, stream: &str) {
    scoring.metrics().stream_lag_messages.with(&[stream]).set(0.0);
    scoring.metrics().stream_lag_seconds.with(&[stream]).set(0.0);
}

/// Messages that aren't done.
async fn behind(line: &Line, source: &Source, reached: &Reached) -> Result<u64, Cause> {
    match source {
        Source::Queue { queue, .. } => Ok(line.ready(queue).await? + reached.at_hand.load(Ordering::Relaxed)),
        Source::Stream { queue, .. } => {
            // AMQP tells neither the last offset nor when a stream loses its oldest part, so both ends are looked at:
            // the first message, and how many there are.
            let count = line.ready(queue).await?;
            if count == 0 {
                return Ok(0);
            }
            let first = first_offset(line, queue).await?;
            Ok((first + count).saturating_sub(reached.next.load(Ordering::Relaxed).max(first)))
        }
    }
}

async fn first_offset(line: &Line, queue: &str) -> Result<u64, Cause> {
    let channel = line.channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let consuming = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments);
    let mut consumer = consuming.await?;
    let delivery = consumer.next().await.ok_or("the broker cancelled the look")??;
    let offset = address::offset(&delivery).ok_or_else(|| format!("`{queue}` is no stream"));
    drop(delivery.acker.ack(BasicAckOptions::default()).await);
    drop(channel.close(200, "OK".into()).await);
    Ok(offset?)
}

/// Whether a stream ends before a message that was scored, the one before `next`: it was deleted and made anew, and the
/// broker would wait for that offset to come again and deliver nothing until then.
///
/// # Errors
/// When the broker can't be asked, or its answers don't fit together.
pub async fn is_anew(line: &Line, queue: &str, next: u64) -> Result<bool, Cause> {
    let Some(last) = next.checked_sub(1) else { return Ok(false) };
    // What the broker has, it delivers at once. How many messages it tells of may be some seconds old.
    match tokio::time::timeout(LOOK_WITHIN, reaches(line, queue, last)).await {
        Ok(reached) => return reached.map(|()| false),
        Err(_) => debug!(queue, last, "a message that was scored isn't in its stream"),
    }
    let end = async {
        let count = line.ready(queue).await?;
        let first = if count == 0 { 0 } else { first_offset(line, queue).await? };
        Ok::<u64, Cause>(first + count)
    };
    let end = tokio::time::timeout(LOOK_WITHIN, end).await??;
    if end >= next {
        return Err(format!("the broker has {end} messages and doesn't deliver the one with offset {last}").into());
    }
    Ok(true)
}

/// Waits for a message of this offset or a later one.
async fn reaches(line: &Line, queue: &str, offset: u64) -> Result<(), Cause> {
    let channel = line.channel().await?;
    channel.basic_qos(REACH_AT_ONCE, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongLongInt(offset.cast_signed()));
    let consuming = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments);
    let mut consumer = consuming.await?;
    loop {
        // The broker may begin with what is before it in its chunk.
        let delivery = consumer.next().await.ok_or("the broker cancelled the look")??;
        let found = address::offset(&delivery).ok_or_else(|| format!("`{queue}` is no stream"))?;
        delivery.acker.ack(BasicAckOptions::default()).await?;
        if found >= offset {
            drop(channel.close(200, "OK".into()).await);
            return Ok(());
        }
    }
}

/// Makes sure that a queue is there. One that exists is taken as it is.
pub async fn ensure(line: &Line, queue: &str, arguments: FieldTable) -> Result<(), Cause> {
    let channel = line.channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    if channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok() {
        drop(channel.close(200, "OK".into()).await);
        return Ok(());
    }
    // The question has closed its channel.
    Ok(line.declare_with("consume", queue, arguments).await?)
}
