//! Scoring by queue: a request is a message with an address for its answer, and any process that serves may take it.
//!
//! ```text
//! queue ──> at most so many at a time ──> deadline passed? ──> score ──> reply, confirmed ──> ack
//!                                            └─ dropped, counted    └─ too much at once: wait here, and take no more
//! ```
//!
//! The body is a V2 infer request as HTTP has it; headers name the model (`gristmill-model`, `gristmill-model-version`)
//! where it isn't the default one. The answer goes to `reply-to` with the same `correlation-id`: HTTP's body, and
//! HTTP's status in the header `gristmill-status`.
//!
//! The queue is the buffer. What the engine would shed over HTTP waits in its place here, which takes up room
//! among the messages at hand, so that the rest stays in the queue for whoever has time. A request is dropped without an
//! answer when nobody would read it: after its deadline (`expiration`, or the header `gristmill-timeout-ms`, from the
//! message's timestamp), without a `reply-to`, and when its answer is refused again and again. Scoring has no side effect, so a server that dies costs
//! nothing: RabbitMQ delivers again what was not acknowledged, and an answer may come twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gristmill_backends::broker::rabbitmq::{Line, QueueType, RabbitConsumer, RabbitSettle};
use gristmill_backends::broker::{BrokerError, Consumer};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::FieldTable;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::deadline::Deadline;
use crate::infer::{Asked, Inferred, infer};
use crate::letter;
use crate::outlets::{Destination, Outlets, PublishError};
use crate::refusal::Refusal;
use crate::scoring::Scoring;
use crate::server::{decoded, named_or_only};

/// How long the first connection may take: a broker that starts at the same time as we do needs some seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Answers that are published at a time; more wait for their turn, some milliseconds.
const REPLIES_AT_ONCE: usize = 16;
/// The pauses before a request is tried again that the engine had no room for.
const ROOM_PAUSE_MIN: Duration = Duration::from_millis(2);
const ROOM_PAUSE_MAX: Duration = Duration::from_millis(250);
/// The pause before an answer is sent again.
const REPLY_PAUSE: Duration = Duration::from_millis(500);
/// Times that the queue of replies may refuse an answer. One that has no leader just now has one within two seconds; one
/// that is full belongs to a client that takes no answers, whose requests must not stand in the way of others'.
const REFUSED_MAX: u32 = 5;
/// The header in which quorum queues count deliveries that were given back.
const DELIVERIES: &str = "x-delivery-count";
/// Deliveries of a request, each of which tried for all of its time to send an answer.
const DELIVERIES_MAX: u32 = 5;
/// The prefix of the addresses that RabbitMQ delivers to directly. It reports those as not delivered whatever it did.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// How requests by queue are served.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// The queue, which is declared as durable.
    pub queue: String,
    /// What the queue is; all servers of one need the same.
    pub queue_type: QueueType,
    /// Who answers requests that name no model; with one model in the source, that one.
    pub default_model: Option<String>,
    /// Requests at hand at a time: scoring, or waiting for room. Memory holds as many bodies.
    pub at_once_max: u16,
    /// Bytes of one body, after it was inflated.
    pub body_bytes_max: usize,
    /// How long a request may take, from its arrival here, that has no deadline of its own.
    pub timeout: Duration,
    /// How long requests at hand may take when the server ends.
    pub drain_max: Duration,
    /// Leave what columns a model has out of errors.
    pub hide_schema: bool,
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings {
            queue: "gristmill.score".to_owned(),
            queue_type: QueueType::Classic,
            default_model: None,
            at_once_max: 64,
            body_bytes_max: 16 * 1024 * 1024,
            timeout: Duration::from_secs(30),
            drain_max: Duration::from_secs(25),
            hide_schema: false,
        }
    }
}

/// How a request ended, as metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answered,
    /// Answered with an error.
    Refused,
    /// Its deadline passed.
    Expired,
    /// It has no `reply-to`, there is nobody behind it who takes the answer, or the answer is nothing that the broker
    /// takes.
    Unanswerable,
    /// Its answer couldn't be published. Another server gets it, or we do when there is a connection again.
    Returned,
}

struct Server {
    scoring: Arc<Scoring>,
    settings: QueueSettings,
    replies: Outlets,
}

/// Serves requests from a queue until `stop` ends, then answers those at hand. Returns the number of requests that
/// took longer than the settings allow and were given back. A connection that is lost is made anew.
///
/// # Errors
/// When the address makes no sense, the broker can't be reached at first, or the queue is of another type.
pub async fn serve_queue(
    url: &str,
    scoring: Arc<Scoring>,
    settings: QueueSettings,
    stop: impl Future<Output = ()>,
) -> Result<usize, BrokerError> {
    let taking = Arc::new(Line::new(url, "score", settings.queue_type)?);
    // On a connection of its own: RabbitMQ stops reading from those that publish when it is short of memory.
    let replying = Arc::new(Line::new(url, "reply", settings.queue_type)?);
    taking.connect_until(tokio::time::Instant::now() + CONNECT_WITHIN).await?;
    let at_once_max = settings.at_once_max.max(1);
    let mut consumer = RabbitConsumer::start(taking, settings.queue.clone(), at_once_max).await?;
    let replies = Outlets::new(replying, REPLIES_AT_ONCE);
    let server = Arc::new(Server { scoring, settings, replies });
    let room = Arc::new(Semaphore::new(at_once_max.into()));
    let mut at_hand = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let slot = Arc::clone(&room).acquire_owned().await;
            (slot, consumer.next_delivery().await)
        };
        tokio::select! {
            () = &mut stop => break,
            (slot, (delivery, settle)) = next => {
                at_hand.spawn(Arc::clone(&server).handle(delivery, settle, slot.ok()));
            }
            Some(done) = at_hand.join_next(), if !at_hand.is_empty() => told(done),
        }
    }
    // What was pushed here and isn't begun is another server's at once.
    if let Err(error) = consumer.set_prefetch(0).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the consumer has ended already");
    }
    let all = async {
        while let Some(done) = at_hand.join_next().await {
            told(done);
        }
    };
    let cut = match tokio::time::timeout(server.settings.drain_max, all).await {
        Ok(()) => 0,
        Err(_) => at_hand.len(),
    };
    at_hand.shutdown().await;
    consumer.close().await;
    Ok(cut)
}

/// Says in the log how a task failed.
fn told(done: Result<(), JoinError>) {
    if let Err(error) = done {
        tracing::error!(error = &error as &dyn std::error::Error, "a request's task has failed");
    }
}

/// A request that isn't settled: given back when it is dropped, as by a task that fails.
struct Unsettled {
    settle: Option<RabbitSettle>,
    redelivered: bool,
}

impl Unsettled {
    fn ack(mut self) {
        if let Some(settle) = self.settle.take() {
            settle.ack();
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let Some(settle) = self.settle.take() else { return };
        if std::thread::panicking() && self.redelivered {
            // It would do so for ever. Its client hears nothing, as of one that was too late; the log has the panic.
            settle.ack();
        } else {
            settle.requeue();
        }
    }
}

/// Whether a request without a deadline of its own, to which no answer could be sent for all of its time, is given back:
/// not when it has been, by what is known of that. A classic queue only says that it was delivered before.
fn may_return(properties: &BasicProperties, redelivered: bool, timeout: Duration) -> bool {
    let delivered = letter::header(properties, DELIVERIES).and_then(|text| text.parse::<u64>().ok());
    match (delivered, letter::age(properties)) {
        (Some(delivered), _) => delivered < u64::from(DELIVERIES_MAX),
        (None, Some(age)) => !redelivered || age < timeout.saturating_mul(DELIVERIES_MAX),
        (None, None) => !redelivered,
    }
}

impl Server {
    async fn handle(self: Arc<Self>, delivery: Delivery, settle: RabbitSettle, slot: Option<OwnedSemaphorePermit>) {
        let unsettled = Unsettled { settle: Some(settle), redelivered: delivery.redelivered };
        let outcome = self.outcome(delivery).await;
        match outcome {
            Outcome::Returned => drop(unsettled),
            _ => unsettled.ack(),
        }
        let name = match outcome {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Expired => "expired",
            Outcome::Unanswerable => "unanswerable",
            Outcome::Returned => "returned",
        };
        self.scoring.metrics().queue_requests.with(&[&self.settings.queue, name]).add(1);
        drop(slot);
    }

    async fn outcome(&self, delivery: Delivery) -> Outcome {
        let start = Instant::now();
        let properties = delivery.properties;
        let Some(reply_to) = properties.reply_to().clone() else { return Outcome::Unanswerable };
        let own = letter::deadline(&properties, start);
        let is_over = || own.is_some_and(|deadline| deadline.left(Instant::now()).is_zero());
        if is_over() {
            return Outcome::Expired;
        }
        let deadline = own.unwrap_or_else(|| Deadline::after(start, self.settings.timeout));
        let (asked, which) = letter::model(&properties);
        let name = named_or_only(&self.scoring, asked.as_ref().or(self.settings.default_model.as_ref()));
        let body = Bytes::from(delivery.data);
        let result = match &name {
            Some(name) => self.answered(name, &which, &properties, body, start, deadline).await,
            None => Err(Refusal::NotFound("no model is served here by default; name one in `gristmill-model`".into())),
        };
        let result = result.map_err(|refusal| refusal.without_schema(self.settings.hide_schema));
        let counted = result.as_ref().map(|_| ());
        self.scoring.count(name.as_deref().unwrap_or(""), start.elapsed(), counted);
        if is_over() {
            return Outcome::Expired;
        }
        let (outcome, reply, body) = self.reply(&properties, result);
        let mandatory = !reply_to.as_str().starts_with(DIRECT_REPLY);
        let to = Destination { exchange: "", routing_key: reply_to.as_str(), mandatory };
        let mut refused = 0;
        loop {
            let error = match self.replies.publish(to, reply.clone(), &body).await {
                Ok(()) => return outcome,
                Err(error) => error,
            };
            let is_last = match &error {
                PublishError::Unroutable { .. } => return Outcome::Unanswerable,
                PublishError::Unfit(_) => true,
                PublishError::Refused => {
                    refused += 1;
                    refused >= REFUSED_MAX
                }
                PublishError::Unknown(_) => false,
            };
            tracing::warn!(queue = self.settings.queue, error = &error as &dyn std::error::Error, "no answer sent");
            if is_last {
                return Outcome::Unanswerable;
            }
            tokio::time::sleep(REPLY_PAUSE).await;
            if is_over() {
                return Outcome::Expired;
            }
            if deadline.left(Instant::now()).is_zero() {
                // There is no connection, which isn't for the request to suffer; but not for ever.
                let again = may_return(&properties, delivery.redelivered, self.settings.timeout);
                return if again { Outcome::Returned } else { Outcome::Unanswerable };
            }
        }
    }

    /// Scores, as soon as the engine has room.
    async fn answered(
        &self,
        name: &str,
        which: &crate::models::Which,
        properties: &BasicProperties,
        body: Bytes,
        start: Instant,
        deadline: Deadline,
    ) -> Result<Inferred, Refusal> {
        let limit = self.settings.body_bytes_max;
        if body.len() > limit {
            return Err(Refusal::TooLarge { limit });
        }
        let encoding = properties.content_encoding().as_ref().map(|encoding| encoding.as_str().as_bytes());
        let body = decoded(encoding, body, limit)?;
        let json_bytes = letter::json_bytes(properties)?;
        let key = letter::header(properties, letter::KEY);
        let own_id = letter::header(properties, letter::REQUEST_ID);
        let id = own_id.as_deref().or_else(|| Some(properties.message_id().as_ref()?.as_str()));
        let asked = Asked { name, id, json_bytes, start, deadline };
        loop {
            let key = key.as_ref().map_or(&*body, |key| key.as_bytes());
            let routed = self.scoring.route(name, which, key, deadline).await?;
            match infer(&self.scoring, routed, asked, &body).await {
                Err(Refusal::Overloaded { retry_after }) => {
                    let pause = tokio::time::sleep(retry_after.clamp(ROOM_PAUSE_MIN, ROOM_PAUSE_MAX));
                    deadline.bound(pause).await?;
                }
                result => return result,
            }
        }
    }

    fn reply(&self, asked: &BasicProperties, result: Result<Inferred, Refusal>) -> (Outcome, BasicProperties, Vec<u8>) {
        let outcome = if result.is_ok() { Outcome::Answered } else { Outcome::Refused };
        let mut headers = FieldTable::default();
        let (content_type, body) = letter::answer(result, &mut headers);
        for name in [letter::REQUEST_ID, letter::TRACEPARENT] {
            if let Some(value) = letter::header(asked, name) {
                headers.insert(name.into(), letter::header_value(&value));
            }
        }
        let mut reply = BasicProperties::default().with_content_type(content_type.into()).with_headers(headers);
        // Who sets no correlation id knows its request by its message id.
        if let Some(id) = asked.correlation_id().as_ref().or(asked.message_id().as_ref()) {
            reply = reply.with_correlation_id(id.clone());
        }
        (outcome, reply, body)
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    #[test]
    fn a_request_that_no_answer_is_sent_to_isnt_given_back_for_ever() {
        let timeout = Duration::from_secs(30);
        let plain = BasicProperties::default();
        assert!(may_return(&plain, false, timeout));
        assert!(!may_return(&plain, true, timeout));
        let sent = |ago_s: u64| BasicProperties::default().with_timestamp(letter::now_ms() / 1_000 - ago_s);
        assert!(may_return(&sent(100), true, timeout));
        assert!(may_return(&sent(200), false, timeout));
        assert!(!may_return(&sent(200), true, timeout));
        let counted = |count: i64| {
            let mut headers = FieldTable::default();
            headers.insert(DELIVERIES.into(), AMQPValue::LongLongInt(count));
            BasicProperties::default().with_headers(headers)
        };
        assert!(may_return(&counted(4), true, timeout));
        assert!(!may_return(&counted(5), true, timeout));
    }
}
