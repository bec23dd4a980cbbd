//! One message: scored, then published when its turn comes; or put aside when that can't be.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::sync::oneshot;

use super::address::effect_id;
use super::order::Key;
use super::{Poison, StreamSettings};
use crate::deadline::Deadline;
use crate::faces::v2;
use crate::infer::{Asked, Inferred, infer, text};
use crate::letter;
use crate::outlets::{Destination, Outlets, PublishError};
use crate::refusal::Refusal;
use crate::rows::Column;
use crate::scoring::Scoring;
use crate::server::{decoded, named_or_only, working};
use crate::signature::Input;

/// The pause before something is tried again; it doubles up to the longest. What waits here holds up its key, and with
/// time all: the first is short, and the longest is what a broker or a store that comes back is noticed after.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The header by which consumers, and RabbitMQ's plugin for it, know repeats.
const DEDUPLICATION: &str = "x-deduplication-header";
/// Why a message was put aside, and after how many attempts.
const REASON: &str = "gristmill-reason";
const ATTEMPTS: &str = "gristmill-attempts";
/// The header in which quorum queues count deliveries.
const DELIVERIES: &str = "x-delivery-count";
/// Deliveries after which a message is taken to be what ends the processes that score it. Connections that break count
/// too, so it is many.
const DELIVERIES_MAX: u64 = 20;
/// Bytes of a reason in a header, which must fit a frame together with all others.
const REASON_BYTES_MAX: usize = 1_024;

/// How a message ended, as metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Published,
    /// Published without an id by which repeats are known.
    Unidentified,
    /// An error was published in the place of predictions.
    Failed,
    DeadLettered,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Published => "published",
            Outcome::Unidentified => "unidentified",
            Outcome::Failed => "failed",
            Outcome::DeadLettered => "dead_lettered",
        }
    }
}

/// What messages share.
pub struct Work<'a> {
    pub scoring: &'a Scoring,
    pub settings: &'a StreamSettings,
    pub outlets: &'a Outlets,
    /// How often the stream was made anew.
    pub made: u64,
}

/// A message that can't become predictions.
struct Reject {
    refusal: Refusal,
    attempts: u32,
}

impl Work<'_> {
    /// Scores a message at once, waits for its turn and publishes what came of it. Ends when the broker has that safe;
    /// until then it tries again, so that a broker or a model that is away holds things up and loses nothing.
    pub async fn handle(&self, delivery: Delivery, key: Key, turn: Option<oneshot::Receiver<()>>) -> Outcome {
        let start = Instant::now();
        let name = self.named().await;
        let scored = self.score(&name, &delivery, key.as_deref()).await;
        let counted = scored.as_ref().map(|_| ()).map_err(|reject| &reject.refusal);
        self.scoring.count(&name, start.elapsed(), counted);
        if let Some(turn) = turn
            && turn.await.is_err()
        {
            // Whoever gives turns has ended, and ends this too. Out of turn nothing may go out meanwhile.
            std::future::pending::<()>().await;
        }
        let key = String::from_utf8_lossy(key.as_deref().unwrap_or_default());
        match scored {
            Ok(inferred) => self.publish(&name, &delivery, &key, Ok(inferred)).await,
            Err(reject) => self.put_aside(&name, &delivery, &key, reject).await,
        }
    }

    /// The model; waits until there is one.
    async fn named(&self) -> String {
        let mut pause = PAUSE_FIRST;
        loop {
            if let Some(name) = named_or_only(self.scoring, self.settings.model.as_ref()) {
                return name;
            }
            tracing::warn!(stream = self.settings.name, "a stream waits for a model; there is not exactly one");
            wait(&mut pause).await;
        }
    }

    async fn score(&self, name: &str, delivery: &Delivery, key: Option<&[u8]>) -> Result<Inferred, Reject> {
        let properties = &delivery.properties;
        let delivered = letter::header(properties, DELIVERIES).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if delivered > DELIVERIES_MAX {
            let text = format!("it was delivered {delivered} times and never done; it may end who scores it");
            return Err(Reject { refusal: Refusal::Failed(text), attempts: 0 });
        }
        let body = self.body(delivery).map_err(|refusal| Reject { refusal, attempts: 0 })?;
        let mut pause = PAUSE_FIRST;
        let mut attempts = 0;
        let mut is_measured = false;
        loop {
            let refusal = match self.attempt(name, properties, &body, key).await {
                Ok(inferred) => return Ok(inferred),
                Err(Refusal::Overloaded { retry_after }) => {
                    if !is_measured {
                        let measured = self.measured(name, properties, &body, key).await;
                        is_measured = measured.map_err(|refusal| Reject { refusal, attempts: attempts + 1 })?;
                    }
                    tokio::time::sleep(retry_after.clamp(Duration::from_millis(1), PAUSE_MAX)).await;
                    continue;
                }
                Err(refusal) => refusal,
            };
            match &refusal {
                // It isn't the message's fault, and the same for all of them.
                Refusal::NotReady(_) | Refusal::NotFound(_) => {
                    tracing::warn!(stream = self.settings.name, %refusal, "a stream waits for its model");
                }
                Refusal::Failed(_) | Refusal::TimedOut { .. } if attempts + 1 < self.settings.attempts_max => {
                    attempts += 1;
                }
                _ => return Err(Reject { refusal, attempts: attempts + 1 }),
            }
            wait(&mut pause).await;
        }
    }

    fn body(&self, delivery: &Delivery) -> Result<Bytes, Refusal> {
        let limit = self.settings.body_bytes_max;
        if delivery.data.len() > limit {
            return Err(Refusal::TooLarge { limit });
        }
        let encoding = delivery.properties.content_encoding().as_ref().map(|encoding| encoding.as_str().as_bytes());
        decoded(encoding, Bytes::copy_from_slice(&delivery.data), limit)
    }

    async fn attempt(
        &self,
        name: &str,
        properties: &BasicProperties,
        body: &[u8],
        key: Option<&[u8]>,
    ) -> Result<Inferred, Refusal> {
        let start = Instant::now();
        let deadline = Deadline::after(start, self.settings.timeout);
        let json_bytes = letter::json_bytes(properties)?;
        let own_id = letter::header(properties, letter::REQUEST_ID);
        let id = own_id.as_deref().or_else(|| Some(properties.message_id().as_ref()?.as_str()));
        let key = key.unwrap_or(body);
        let routed = self.scoring.route(name, &self.settings.which, key, deadline).await?;
        infer(self.scoring, routed, Asked { name, id, json_bytes, start, deadline }, body).await
    }

    /// Makes sure that the engine can ever have room for all rows of a message. Returns whether that is known.
    async fn measured(
        &self,
        name: &str,
        properties: &BasicProperties,
        body: &[u8],
        key: Option<&[u8]>,
    ) -> Result<bool, Refusal> {
        let json_bytes = letter::json_bytes(properties)?;
        let deadline = Deadline::after(Instant::now(), self.settings.timeout);
        let routed = self.scoring.route(name, &self.settings.which, key.unwrap_or(body), deadline).await;
        // Without a model there is nothing that its columns mean; the next attempt shows why there is none.
        let Ok(routed) = routed else { return Ok(false) };
        let json = json_bytes.unwrap_or(body.len()).min(body.len());
        let rows = working(body.len(), || match json_bytes {
            // One text, whatever it has.
            Some(0) => Ok::<usize, Refusal>(1),
            _ => Ok(rows(&v2::parse(text(&body[..json])?, &body[json..], routed.signature())?.input)),
        })?;
        let limit = self.scoring.engine().settings().waiting_rows_max;
        if rows > limit {
            return Err(Refusal::BadRequest(format!("it has {rows} rows, and the limit of the engine is {limit}")));
        }
        Ok(true)
    }

    /// Publishes an answer, or an error in its place, until that is safe.
    async fn publish(&self, name: &str, delivery: &Delivery, key: &str, result: Result<Inferred, &Refusal>) -> Outcome {
        let id = effect_id(&self.settings.name, self.settings.source.queue(), self.made, delivery);
        let outcome = match (&result, &id) {
            (Err(_), _) => Outcome::Failed,
            (Ok(_), Some(_)) => Outcome::Published,
            (Ok(_), None) => Outcome::Unidentified,
        };
        let mut headers = FieldTable::default();
        let (content_type, body) = letter::answer(result, &mut headers);
        let mut put = |name: &str, value: &str| {
            headers.insert(name.into(), letter::header_value(value));
        };
        put(letter::KEY, key);
        for name in [letter::REQUEST_ID, letter::TRACEPARENT] {
            if let Some(value) = letter::header(&delivery.properties, name) {
                put(name, &value);
            }
        }
        if let Some(id) = &id {
            put(DEDUPLICATION, id);
        }
        let mut properties = BasicProperties::default()
            .with_content_type(content_type.into())
            .with_delivery_mode(2)
            .with_timestamp(letter::now_ms() / 1_000)
            .with_headers(headers)
            .with_message_id(id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()).into());
        if let Some(id) = delivery.properties.correlation_id() {
            properties = properties.with_correlation_id(id.clone());
        }
        let filled = self.settings.routing_key.filled(key, name, delivery.routing_key.as_str());
        let Some(routing_key) = filled else {
            let refusal = Refusal::BadRequest("its routing key would be longer than 255 bytes".to_owned());
            return self.dead_letter(delivery, &Reject { refusal, attempts: 1 }).await;
        };
        let to = Destination { exchange: &self.settings.exchange, routing_key: &routing_key, mandatory: true };
        let mut unroutable = 0;
        let mut pause = PAUSE_FIRST;
        loop {
            match self.outlets.publish(to, properties.clone(), &body).await {
                Ok(()) => return outcome,
                Err(error @ PublishError::Unroutable { .. }) => {
                    unroutable += 1;
                    if unroutable >= self.settings.attempts_max {
                        let refusal = Refusal::NotFound(error.to_string());
                        return self.dead_letter(delivery, &Reject { refusal, attempts: unroutable }).await;
                    }
                }
                Err(PublishError::Unfit(error)) => {
                    let refusal = Refusal::Failed(format!("the broker doesn't take its predictions: {error}"));
                    return self.dead_letter(delivery, &Reject { refusal, attempts: 1 }).await;
                }
                Err(error) => self.warn(&error),
            }
            wait(&mut pause).await;
        }
    }

    async fn put_aside(&self, name: &str, delivery: &Delivery, key: &str, reject: Reject) -> Outcome {
        let refusal = &reject.refusal;
        tracing::warn!(stream = self.settings.name, %refusal, attempts = reject.attempts, "a message can't be scored");
        match &self.settings.poison {
            // A type that can be named keeps the future of one from containing that of the other.
            Poison::Publish => Box::pin(self.publish(name, delivery, key, Err(refusal))).await,
            Poison::DeadLetter { .. } => self.dead_letter(delivery, &reject).await,
        }
    }

    /// Publishes the message as it came, with the reason, until that is safe. Headers that fit no frame are left out.
    async fn dead_letter(&self, delivery: &Delivery, reject: &Reject) -> Outcome {
        let headers = delivery.properties.headers().clone().unwrap_or_default();
        let mut headers = headers.inner().clone();
        let left_out = letter::fitted(&mut headers);
        if !left_out.is_empty() {
            tracing::warn!(stream = self.settings.name, ?left_out, "headers of a message fit no frame");
        }
        let mut headers = FieldTable::from(headers);
        let reason = reject.refusal.to_string();
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
        headers.insert(ATTEMPTS.into(), AMQPValue::LongLongInt(reject.attempts.into()));
        headers.insert(letter::STATUS.into(), AMQPValue::LongInt(reject.refusal.status().into()));
        let mut properties = delivery.properties.clone();
        if let Some(id) = effect_id(&self.settings.name, self.settings.source.queue(), self.made, delivery) {
            headers.insert(DEDUPLICATION.into(), AMQPValue::LongString(id.as_str().into()));
            if properties.message_id().is_none() {
                properties = properties.with_message_id(ShortString::from(id));
            }
        }
        // It waits for a person, whatever its own time was.
        let properties = without_expiration(properties).with_headers(headers).with_delivery_mode(2);
        let (exchange, routing_key) = self.settings.dead_letters();
        let to = Destination { exchange: &exchange, routing_key: &routing_key, mandatory: true };
        let mut pause = PAUSE_FIRST;
        loop {
            match self.outlets.publish(to, properties.clone(), &delivery.data).await {
                Ok(()) => return Outcome::DeadLettered,
                Err(error) => self.warn(&error),
            }
            wait(&mut pause).await;
        }
    }

    fn warn(&self, error: &PublishError) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(stream = self.settings.name, error, "a message can't be published yet");
    }
}

/// The rows of a request, by its longest column: whether all are of one length shows when it is scored.
fn rows(input: &Input<'_>) -> usize {
    match input {
        Input::Named(columns) => columns.iter().map(|(_, column)| column.len()).max(),
        Input::Positional(columns) => columns.iter().map(Column::len).max(),
    }
    .unwrap_or(0)
}

async fn wait(pause: &mut Duration) {
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
}

/// lapin has no way to take a property back.
fn without_expiration(properties: BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    if let Some(value) = properties.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = properties.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = properties.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = properties.message_id() {
        kept = kept.with_message_id(value.clone());
    }
    if let Some(value) = properties.timestamp() {
        kept = kept.with_timestamp(*value);
    }
    kept
}
