//! Letters that were put aside on RabbitMQ.
//!
//! Whatever puts a letter of queue `x` aside puts it into `x.dead`. A broker can't be asked over AMQP which queues it has,
//! so besides that of submissions those are known that are named to us; any other can be looked at by its name.
//!
//! To look is to get letters without acknowledging them, on a channel that is closed then: RabbitMQ puts them back
//! where they were. (A quorum queue with over a thousand letters shows others at the next look.) All goes over a connection of its own, which publishes: RabbitMQ stops reading from it when it is
//! short of memory, and nothing else may wait for that.

use async_trait::async_trait;
use gristmill_protocol::Digest;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::Mutex;

use super::line::{Line, soft_error};
use super::submissions::{header_text, letter_of};
use super::{Cause, RabbitOptions, in_time, unavailable};
use crate::broker::BrokerError;
use crate::broker::dead_letters::{DeadLetter, DeadLetterError, DeadLetters, LETTERS_MAX};

/// The headers that say why a letter was put aside, and after how many attempts.
pub(super) const REASON: &str = "gristmill-reason";
const ATTEMPTS: &str = "gristmill-attempts";
/// What the names of queues of letters that were put aside end in.
const DEAD: &str = ".dead";
/// What the names of headers begin with that the broker sets: it counts deliveries there, a look among them.
const BROKERS: &str = "x-";
/// Letters among which one is looked for. A queue with more has another problem than that letter, and to get each takes
/// a round trip.
const SEARCHED_MAX: usize = 10_000;
/// Letters of a queue that is kept in order by getting all of them: a second or less.
const IN_ORDER_MAX: u32 = 1_000;
/// Bytes of the letters of one look. It is kept in memory, and somebody reads it.
const LOOK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Hexadecimal digits of a letter's id.
const ID_DIGITS: usize = 32;

/// The queue into which letters of a queue are put aside.
pub fn dead_letter_queue(source: &str) -> String {
    format!("{source}{DEAD}")
}

/// Letters that were put aside on a RabbitMQ broker.
#[derive(Debug)]
pub struct RabbitDeadLetters {
    line: Line,
    queues: Vec<String>,
    /// One look at a time: what one holds another can't see.
    looking: Mutex<()>,
}

/// What becomes of a letter that is removed.
#[derive(Clone, Copy)]
enum Fate {
    /// It goes to where it came from.
    Again,
    Nothing,
}

impl RabbitDeadLetters {
    /// Letters on the broker at an address. Nothing is connected before it is looked. The queue of submissions is known;
    /// `sources` names queues and streams that are scored, whose letters are known then as well.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub fn new(url: &str, options: &RabbitOptions, sources: &[String]) -> Result<RabbitDeadLetters, BrokerError> {
        let line = Line::new(url, "dead letters", options.queue_type)?;
        let mut queues = vec![dead_letter_queue(&options.submission_queue())];
        for queue in sources.iter().map(|source| dead_letter_queue(source)) {
            if !queues.contains(&queue) {
                queues.push(queue);
            }
        }
        Ok(RabbitDeadLetters { line, queues, looking: Mutex::default() })
    }

    /// Finds a letter and removes it, when what is to become of it is done. The others go back, and so does it on an
    /// error.
    async fn remove(&self, id: &str, fate: Fate) -> Result<(), DeadLetterError> {
        let none = || DeadLetterError::None(id.chars().take(300).collect());
        let queue = queue_of(id).ok_or_else(none)?;
        let source = source_of(queue)?;
        let _looking = self.looking.lock().await;
        let failed = |error| DeadLetterError::Broker(unavailable("look at", queue, error));
        let channel = self.line.channel().await.map_err(failed)?;
        let removed = async {
            let letter = find(&channel, queue, id).await.map_err(failed)?.ok_or_else(none)?;
            match fate {
                Fate::Again => self.publish(source, &letter).await?,
                Fate::Nothing => {}
            }
            in_time(channel.basic_ack(letter.delivery_tag, BasicAckOptions::default())).await.map_err(failed)
        };
        let removed = removed.await;
        // The broker has heard of the acknowledgement when it answers this.
        let closed = in_time(channel.close(200, "OK".into())).await;
        removed.and_then(|()| closed.map_err(failed))
    }

    /// Publishes a letter to its source, as it was before it was put aside, and waits until it is safe there.
    async fn publish(&self, source: &str, letter: &lapin::message::Delivery) -> Result<(), DeadLetterError> {
        let failed = |error: Cause| DeadLetterError::Broker(unavailable("publish to", source, error));
        let channel = self.line.channel().await.map_err(failed)?;
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await.map_err(failed)?;
        // An answer of the broker that the queue doesn't exist comes before the confirmation.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = as_before(letter.properties.clone());
        let publish = channel.basic_publish("".into(), source.into(), options, &letter.data, properties);
        let confirmation = in_time(async { publish.await?.await }).await.map_err(failed)?;
        put_back(&channel).await;
        match confirmation {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(DeadLetterError::Gone(source.to_owned())),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(failed("the broker refused it".into())),
        }
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    fn queues(&self) -> Vec<String> {
        self.queues.clone()
    }

    async fn look(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let source = source_of(queue)?;
        let _looking = self.looking.lock().await;
        let failed = |error| DeadLetterError::Broker(unavailable("look at", queue, error));
        let channel = self.line.channel().await.map_err(failed)?;
        let gotten = first(&channel, queue, limit.min(LETTERS_MAX)).await.map_err(failed);
        put_back(&channel).await;
        let letter = |delivery: lapin::message::Delivery| {
            let id = id_of(queue, &delivery);
            let mut letter = letter_of(delivery);
            let reason = letter.headers.remove(REASON);
            DeadLetter { id, queue: queue.to_owned(), source: source.to_owned(), reason, letter }
        };
        Ok(gotten?.into_iter().map(letter).collect())
    }

    async fn requeue(&self, id: &str) -> Result<(), DeadLetterError> {
        self.remove(id, Fate::Again).await
    }

    async fn discard(&self, id: &str) -> Result<(), DeadLetterError> {
        self.remove(id, Fate::Nothing).await
    }
}

/// The next letter of a queue; nothing when there is none, or no queue.
async fn get(channel: &Channel, queue: &str) -> Result<Option<lapin::message::BasicGetMessage>, Cause> {
    match in_time(channel.basic_get(queue.into(), BasicGetOptions { no_ack: false })).await {
        Ok(found) => Ok(found),
        Err(error) if soft_error(&*error) == Some(AMQPSoftError::NOTFOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first letters of a queue.
async fn first(channel: &Channel, queue: &str, limit: usize) -> Result<Vec<lapin::message::Delivery>, Cause> {
    let (mut letters, mut bytes) = (Vec::new(), 0);
    if limit > 0 {
        walk(channel, queue, |letter| {
            bytes += letter.data.len();
            letters.push(letter);
            letters.len() < limit && bytes < LOOK_BYTES_MAX
        })
        .await?;
    }
    Ok(letters)
}

/// The first letter of a queue with this id.
async fn find(channel: &Channel, queue: &str, id: &str) -> Result<Option<lapin::message::Delivery>, Cause> {
    let mut found = None;
    walk(channel, queue, |letter| {
        let is_it = id_of(queue, &letter) == id;
        if is_it {
            found = Some(letter);
        }
        !is_it
    })
    .await?;
    Ok(found)
}

/// Gets the letters of a queue one after the other, for as long as `wants` says. Of a queue that isn't long all are gotten,
/// since a quorum queue puts those that it gets back behind others that it got back before: so they stay in order.
async fn walk(
    channel: &Channel,
    queue: &str,
    mut wants: impl FnMut(lapin::message::Delivery) -> bool + Send,
) -> Result<(), Cause> {
    let (mut is_wanted, mut is_short) = (true, false);
    for count in 0..SEARCHED_MAX {
        if !is_wanted && !is_short {
            break;
        }
        let Some(found) = get(channel, queue).await? else { break };
        if count == 0 {
            is_short = found.message_count < IN_ORDER_MAX;
        }
        if is_wanted {
            is_wanted = wants(found.delivery);
        }
    }
    Ok(())
}

/// Closes a channel, with which all that was got over it goes back.
async fn put_back(channel: &Channel) {
    if let Err(error) = in_time(channel.close(200, "OK".into())).await {
        // The broker closes it after an error, and puts all back as well.
        tracing::debug!(error = &*error, "a channel was closed already");
    }
}

/// What tells a letter from others: what its sender and who put it aside have said, but nothing that the broker adds.
fn id_of(queue: &str, delivery: &lapin::message::Delivery) -> String {
    let properties = &delivery.properties;
    let mut content = Vec::new();
    let mut part = |bytes: &[u8]| {
        content.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        content.extend_from_slice(bytes);
    };
    part(properties.message_id().as_ref().map_or("", |id| id.as_str()).as_bytes());
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if !name.as_str().starts_with(BROKERS) {
            part(name.as_str().as_bytes());
            part(header_text(value).unwrap_or_default().as_bytes());
        }
    }
    part(&delivery.data);
    let digest: String = Digest::of(&content).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}.{queue}", &digest[..ID_DIGITS])
}

/// The queue that an id names.
fn queue_of(id: &str) -> Option<&str> {
    let (digits, queue) = id.split_once('.')?;
    (digits.len() == ID_DIGITS).then_some(queue)
}

/// The queue from which letters of a queue came.
fn source_of(queue: &str) -> Result<&str, DeadLetterError> {
    let source = queue.strip_suffix(DEAD).filter(|source| !source.is_empty());
    source.ok_or_else(|| DeadLetterError::Queue(queue.chars().take(300).collect()))
}

/// A letter's properties as they were before it was put aside.
fn as_before(properties: BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        if ![REASON, ATTEMPTS].contains(&name.as_str()) && !name.as_str().starts_with(BROKERS) {
            headers.insert(name.clone(), value.clone());
        }
    }
    properties.with_headers(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_queue() {
        let id = format!("{}.a.b.dead", "0".repeat(ID_DIGITS));
        assert_eq!(queue_of(&id), Some("a.b.dead"));
        assert_eq!(queue_of("0.a.b.dead"), None);
        assert_eq!(source_of("a.b.dead").expect("one"), "a.b");
        for queue in ["a.b", ".dead", ""] {
            source_of(queue).expect_err(queue);
        }
    }
}
