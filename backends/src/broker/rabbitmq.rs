//! The broker seam on RabbitMQ, from 3.10 to 4.x.
//!
//! Publishing and consuming have a connection each: RabbitMQ stops reading from connections that publish when it
//! runs out of memory or disk, and acknowledgements must not wait behind that. What only asks or declares goes
//! over the consuming connection, on channels of its own, since an error closes the channel it happens on.
//!
//! lapin's own recovery is off. It gives up on some errors without saying so, and it can't know what of ours was
//! lost; instead each consumer builds itself anew (`consumer.rs`), and so does the publisher (`publisher.rs`), which
//! counts how often.
//!
//! What the seam doesn't say (replies to requests for predictions, streams) is built on the same parts by the crate that
//! needs it: [`Line`] is a connection that is made anew, [`RabbitConsumer`] a consumer that is.

mod consumer;
mod dead_letters;
mod line;
mod publisher;
mod submissions;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use gristmill_protocol::limits::{MESSAGE_BYTES_MAX, STORE_CALL_MS};
use lapin::types::{AMQPValue, FieldTable};

pub use self::consumer::{RabbitConsumer, RabbitSettle};
pub use self::dead_letters::{RabbitDeadLetters, dead_letter_queue};
pub use self::line::Line;
use self::publisher::Publisher;
pub use self::submissions::header_text;
use super::{Broker, BrokerError, Consumer, Message};

/// How long a call to the broker may take: as long as a call to the store, since the same callers wait for it.
const CALL: Duration = Duration::from_millis(STORE_CALL_MS);
/// How long [`RabbitBroker::connect`] tries: a broker that starts at the same time as we do needs some seconds.
const CONNECT_FIRST: Duration = Duration::from_secs(15);
/// The first pause before a connection is tried again; it doubles up to the longest, which is short since whatever
/// waits for a worker waits for it.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Deliveries of a message to a quorum queue's consumers. Giving back isn't failing here, so there should be no limit;
/// 4.0 limits to 20 if nothing is said, and 3.x refuses -1.
const DELIVERY_LIMIT: i64 = 1_000_000;

/// Why the broker or the connection to it failed.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What RabbitMQ keeps a queue as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueType {
    /// On one node: the fastest, and right where one broker runs.
    #[default]
    Classic,
    /// On a majority of a cluster's nodes: survives the loss of one.
    Quorum,
}

impl QueueType {
    /// As `x-queue-type` has it.
    pub fn name(self) -> &'static str {
        match self {
            QueueType::Classic => "classic",
            QueueType::Quorum => "quorum",
        }
    }

    /// What a queue of this type is declared with at the least.
    pub fn arguments(self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(self.name().into()));
        if self == QueueType::Quorum {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
        }
        arguments
    }
}

/// How RabbitMQ is used. All schedulers and workers of a cluster need the same.
#[derive(Clone, Debug)]
pub struct RabbitOptions {
    /// What queues are declared as. It can't be changed for a queue that exists.
    pub queue_type: QueueType,
    /// What the names of queues begin with, so that clusters can share a broker.
    pub prefix: String,
    /// Whether messages of classic queues are written to disk. The sweep publishes lost ones again, so this only
    /// saves time after a restart of the broker. Quorum queues always write.
    pub persistent: bool,
    /// How long `connect` tries before it fails.
    pub connect_within: Duration,
}

impl Default for RabbitOptions {
    fn default() -> Self {
        let (queue_type, connect_within) = (QueueType::default(), CONNECT_FIRST);
        RabbitOptions { queue_type, prefix: "gm".to_owned(), persistent: true, connect_within }
    }
}

/// Queues of a RabbitMQ broker.
pub struct RabbitBroker {
    consuming: Arc<Line>,
    publisher: Publisher,
    options: RabbitOptions,
}

impl RabbitBroker {
    /// Connects to the broker at an address such as `amqp://user:password@host:5672/%2f`.
    ///
    /// # Errors
    /// When the address makes no sense, or the broker can't be reached within the time that the options give.
    pub async fn connect(url: &str, options: RabbitOptions) -> Result<RabbitBroker, BrokerError> {
        let consuming = Arc::new(Line::new(url, "consume", options.queue_type)?);
        let publishing = Arc::new(Line::new(url, "publish", options.queue_type)?);
        let deadline = tokio::time::Instant::now() + options.connect_within;
        consuming.connect_until(deadline).await?;
        publishing.connect_until(deadline).await?;
        let publisher = Publisher::start(publishing, Arc::clone(&consuming), options.persistent);
        Ok(RabbitBroker { consuming, publisher, options })
    }

    /// A pool's queue, as RabbitMQ knows it.
    pub fn queue_of(&self, pool: &str) -> String {
        format!("{}.pool.{pool}", self.options.prefix)
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, queue: &str, message: Message) -> Result<(), BrokerError> {
        let bytes = message.body.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(BrokerError::TooLarge { queue: queue.to_owned(), bytes, limit: MESSAGE_BYTES_MAX });
        }
        self.publisher.publish(&self.queue_of(queue), message).await
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let consumer = RabbitConsumer::start(Arc::clone(&self.consuming), self.queue_of(queue), prefetch).await?;
        Ok(Box::new(consumer))
    }

    async fn ready(&self, queue: &str) -> Result<u64, BrokerError> {
        self.consuming.ready(&self.queue_of(queue)).await
    }

    fn generation(&self) -> u64 {
        self.publisher.generation()
    }
}

/// The error of a call that the broker didn't answer, or not in time.
fn unavailable(verb: &'static str, queue: &str, source: impl Into<Cause>) -> BrokerError {
    BrokerError::Unavailable { verb, queue: queue.to_owned(), source: source.into() }
}

/// The text of a header, which other clients send as one of several types.
fn text_of(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Waits for an answer of the broker, for as long as a call may take.
async fn in_time<T>(call: impl Future<Output = lapin::Result<T>>) -> Result<T, Cause> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(format!("there was no answer within {} s", CALL.as_secs()).into()),
    }
}
