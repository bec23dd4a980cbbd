//! Submissions over RabbitMQ.
//!
//! What can't be understood is published to a queue of its own rather than rejected to a dead-letter exchange: the
//! broker would not say why, and by default it may lose what it moves.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_protocol::limits::ERROR_TEXT_BYTES_MAX;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::consumer::RabbitConsumer;
use super::dead_letters::{REASON, dead_letter_queue};
use super::publisher::short;
use super::{RabbitBroker, RabbitOptions};
use crate::broker::BrokerError;
use crate::broker::submissions::{Letter, Submission, SubmissionQueue, Submissions};

impl RabbitOptions {
    /// The queue of submissions, as RabbitMQ knows it.
    pub fn submission_queue(&self) -> String {
        format!("{}.submissions", self.prefix)
    }
}

impl RabbitBroker {
    /// The queue of submissions, as RabbitMQ knows it.
    pub fn submission_queue(&self) -> String {
        self.options.submission_queue()
    }

    /// The queue of those that nobody understands.
    pub fn dead_letter_queue(&self) -> String {
        dead_letter_queue(&self.submission_queue())
    }
}

#[async_trait]
impl SubmissionQueue for RabbitBroker {
    async fn submit(&self, letter: Letter) -> Result<(), BrokerError> {
        let queue = self.submission_queue();
        self.publisher.publish_safely(&queue, properties(&letter), letter.body).await
    }

    async fn submissions(&self, prefetch: u16) -> Result<Box<dyn Submissions>, BrokerError> {
        // So that it can be looked into before anything is in it.
        self.consuming.declare("consume", &self.dead_letter_queue()).await?;
        let queue = self.submission_queue();
        let consumer = RabbitConsumer::start(Arc::clone(&self.consuming), queue, prefetch).await?;
        Ok(Box::new(RabbitSubmissions(consumer)))
    }

    async fn dead_letter(&self, submission: Submission, reason: &str) -> Result<(), BrokerError> {
        let mut letter = submission.letter.clone();
        let reason = &reason[..reason.floor_char_boundary(ERROR_TEXT_BYTES_MAX)];
        letter.headers.insert(REASON.to_owned(), reason.to_owned());
        let queue = self.dead_letter_queue();
        self.publisher.publish_safely(&queue, properties(&letter), letter.body).await?;
        submission.ack();
        Ok(())
    }

    async fn reply(&self, to: &Letter, content_type: &str, body: Bytes) -> Result<(), BrokerError> {
        let Some(queue) = &to.reply_to else { return Ok(()) };
        let answer = Letter {
            content_type: Some(content_type.to_owned()),
            correlation_id: to.correlation_id.clone(),
            headers: to.headers.iter().filter(|(name, _)| *name == "traceparent").map(clone_pair).collect(),
            ..Letter::default()
        };
        self.publisher.publish_reply(queue, properties(&answer), body).await
    }
}

fn clone_pair((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

struct RabbitSubmissions(RabbitConsumer);

#[async_trait]
impl Submissions for RabbitSubmissions {
    async fn next(&mut self) -> Result<Submission, BrokerError> {
        let (delivery, settle) = self.0.next_delivery().await;
        let redelivered = delivery.redelivered;
        Ok(Submission::new(letter_of(delivery), redelivered, Box::new(settle)))
    }
}

/// A delivery as anybody could have sent it.
pub(super) fn letter_of(delivery: lapin::message::Delivery) -> Letter {
    let properties = delivery.properties;
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    let headers = properties.headers().iter().flat_map(|headers| headers.inner());
    Letter {
        content_type: text(properties.content_type()),
        id: text(properties.message_id()),
        timestamp_s: *properties.timestamp(),
        headers: headers.filter_map(|(name, value)| Some((name.to_string(), header_text(value)?))).collect(),
        reply_to: text(properties.reply_to()),
        correlation_id: text(properties.correlation_id()),
        body: Bytes::from(delivery.data),
    }
}

/// The text of a header, a number's included; nothing for what has none.
pub fn header_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Timestamp(value) => Some(value.to_string()),
        AMQPValue::Float(value) => Some(value.to_string()),
        AMQPValue::Double(value) => Some(value.to_string()),
        value => super::text_of(value),
    }
}

fn properties(letter: &Letter) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &letter.headers {
        headers.insert(short(name), AMQPValue::LongString(value.as_str().into()));
    }
    // Written to disk, as it exists nowhere else.
    let mut properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    if let Some(content_type) = &letter.content_type {
        properties = properties.with_content_type(short(content_type));
    }
    if let Some(id) = &letter.id {
        properties = properties.with_message_id(short(id));
    }
    if let Some(timestamp) = letter.timestamp_s {
        properties = properties.with_timestamp(timestamp);
    }
    if let Some(reply_to) = &letter.reply_to {
        properties = properties.with_reply_to(short(reply_to));
    }
    if let Some(correlation_id) = &letter.correlation_id {
        properties = properties.with_correlation_id(short(correlation_id));
    }
    properties
}
