//! The broker seam: it wakes workers. What it carries can be lost or repeated without harm.
//!
//! An acknowledgement never means "done": the store's leases say that. A delivery that is dropped without
//! being settled comes again, to this consumer or another.

pub mod dead_letters;
pub mod embedded;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
pub mod submissions;

use async_trait::async_trait;
use bytes::Bytes;

/// Why the broker couldn't do as asked.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("failed to {verb} queue `{queue}`: the broker can't be reached")]
    Unavailable { verb: &'static str, queue: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the broker's address can't be understood: {why}")]
    Address { why: String },
    #[error("the broker at {place} can't be reached; does it run, and are the user, password and virtual host right?")]
    Unreachable { place: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "queue `{queue}` exists with other settings than those of a {wanted} queue; choose the queue type that it \
         has, or end what uses it and delete it (rabbitmqctl delete_queue {queue}): what was in it is published again"
    )]
    Mismatch { queue: String, wanted: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("a message of {bytes} bytes for queue `{queue}` is over the limit of {limit}")]
    TooLarge { queue: String, bytes: usize, limit: usize },
}

/// Queues that wake workers.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Puts a message into a queue. It is finished when written, not when confirmed.
    async fn publish(&self, queue: &str, message: Message) -> Result<(), BrokerError>;
    /// Begins to consume a queue with at most `prefetch` unsettled deliveries.
    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError>;
    /// How many messages of a queue wait for a consumer.
    async fn ready(&self, queue: &str) -> Result<u64, BrokerError>;
    /// How often the connection was made anew: what was published before may be lost.
    fn generation(&self) -> u64;
}

/// Deliveries of one queue.
#[async_trait]
pub trait Consumer: Send {
    /// The next delivery. Waits for as long as it takes; safe to drop while it waits.
    async fn next(&mut self) -> Result<Delivery, BrokerError>;
    /// Changes how many deliveries may be unsettled; none new come at 0.
    async fn set_prefetch(&mut self, prefetch: u16) -> Result<(), BrokerError>;
}

/// A message as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is, such as `application/vnd.gristmill.assignment+msgpack; v=1`.
    pub content_type: String,
    pub id: String,
    /// W3C trace context, where there is one.
    pub traceparent: Option<String>,
    pub body: Bytes,
}

/// A message that is the consumer's until it is settled, which it can be once.
pub struct Delivery {
    pub message: Message,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    settle: Option<Box<dyn Settle>>,
}

/// How one implementation settles a delivery; `requeue` is what happens when it is dropped, too.
pub trait Settle: Send {
    /// Removes the message.
    fn ack(self: Box<Self>);
    /// Gives it back.
    fn requeue(self: Box<Self>);
}

impl Delivery {
    /// A delivery settled through `settle`.
    pub fn new(message: Message, redelivered: bool, settle: Box<dyn Settle>) -> Delivery {
        Delivery { message, redelivered, settle: Some(settle) }
    }

    /// Removes the message from its queue.
    pub fn ack(mut self) {
        if let Some(settle) = self.settle.take() {
            settle.ack();
        }
    }

    /// Gives the message back to its queue.
    pub fn requeue(mut self) {
        if let Some(settle) = self.settle.take() {
            settle.requeue();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.requeue();
        }
    }
}
