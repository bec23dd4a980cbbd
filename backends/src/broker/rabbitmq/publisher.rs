//! Publishing: written is enough, confirms are handled as they come.
//!
//! A publication ends when its frames are written. What becomes of the message is told later, to a task of its
//! own: a message that the broker refused or couldn't route is published again within a bound. What was lost with a
//! connection can't be told, so the generation rises and the sweep above publishes again.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::line::Line;
use super::{CALL, Cause, RETRY_FIRST, RETRY_MAX, in_time, unavailable};
use crate::broker::{BrokerError, Message};

/// Messages that may be unconfirmed: a pool's whole window. A large message counts as several, so that what
/// is kept for them stays under 64 MiB.
const UNCONFIRMED_MAX: u32 = 4_096;
/// Bytes that count as one message.
const UNCONFIRMED_BYTES: usize = 16 * 1024;
/// Times that a message is published again after the broker refused or returned it. The first is for a queue that
/// was deleted; more are for one that is full or whose node fails over. The sweep is there for the rest.
const AGAIN_MAX: u8 = 4;
/// How long it may take until a message is confirmed: brokers that write to slow disks take some hundred milliseconds.
const CALL_SAFELY: Duration = Duration::from_secs(5);
/// Pause before a message that was refused is published again; doubles each time.
const AGAIN_PAUSE: Duration = Duration::from_millis(50);
/// How often a session is looked at. lapin doesn't tell of every end.
const LOOK: Duration = Duration::from_millis(100);
/// The header that counts how often a message was published again.
const AGAIN: &str = "gristmill-again";
/// The header of the W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";
/// Bytes of a message id, by AMQP.
const SHORT_STRING_BYTES_MAX: usize = 255;

/// Publishes, on a connection that it keeps alive.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
}

struct Shared {
    publishing: Arc<Line>,
    /// For declarations: the publishing line may be blocked.
    consuming: Arc<Line>,
    persistent: bool,
    generation: AtomicU64,
    unconfirmed: Arc<Semaphore>,
    session: watch::Sender<Option<Arc<Session>>>,
}

/// A connection and a channel in confirm mode, for as long as both live.
struct Session {
    connection: Arc<Connection>,
    channel: Channel,
    /// Queues that were there when they were last declared.
    declared: Mutex<BTreeSet<String>>,
    /// Held while lapin numbers a message and queues its frames: the broker numbers them as they arrive.
    order: Mutex<()>,
    broken: Notify,
}

/// A message on its way.
struct Outgoing {
    queue: String,
    properties: BasicProperties,
    body: Bytes,
    care: Care,
}

/// What is done about a message that doesn't arrive.
enum Care {
    /// It is published again, unless it was so often already.
    Again(u8),
    /// Its publisher is told what becomes of it.
    Told(oneshot::Sender<Result<(), Cause>>),
    /// Nothing: an answer to somebody who may be gone.
    None,
}

impl Publisher {
    pub(super) fn start(publishing: Arc<Line>, consuming: Arc<Line>, persistent: bool) -> Publisher {
        let shared = Arc::new(Shared {
            publishing,
            consuming,
            persistent,
            generation: AtomicU64::new(0),
            unconfirmed: Arc::new(Semaphore::new(UNCONFIRMED_MAX as usize)),
            session: watch::Sender::new(None),
        });
        let supervisor = tokio::spawn(supervise(Arc::clone(&shared))).abort_handle();
        Publisher { shared, supervisor }
    }

    pub(super) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Writes a message, waiting for a connection, for room and for a queue, all together as long as a call may take.
    pub(super) async fn publish(&self, queue: &str, message: Message) -> Result<(), BrokerError> {
        let outgoing = Outgoing {
            queue: queue.to_owned(),
            properties: self.shared.properties(&message),
            body: message.body,
            care: Care::Again(0),
        };
        Arc::clone(&self.shared).publish(outgoing, Instant::now() + CALL).await
    }
}

impl Publisher {
    /// Publishes a message and waits until the broker has it safe.
    pub(super) async fn publish_safely(
        &self,
        queue: &str,
        properties: BasicProperties,
        body: Bytes,
    ) -> Result<(), BrokerError> {
        let deadline = Instant::now() + CALL_SAFELY;
        // The queue may be gone, which lapin wouldn't tell of this message for sure.
        match tokio::time::timeout_at(deadline, self.shared.consuming.declare("publish to", queue)).await {
            Ok(declared) => declared?,
            Err(_) => return Err(unavailable("publish to", queue, "the queue couldn't be declared in time")),
        }
        let (told, is_told) = oneshot::channel();
        let outgoing = Outgoing { queue: queue.to_owned(), properties, body, care: Care::Told(told) };
        Arc::clone(&self.shared).publish(outgoing, deadline).await?;
        match tokio::time::timeout_at(deadline, is_told).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(unavailable("publish to", queue, error)),
            Ok(Err(_)) => Err(unavailable("publish to", queue, "the connection has ended")),
            Err(_) => Err(unavailable("publish to", queue, "the broker didn't confirm the message in time")),
        }
    }

    /// Publishes an answer. It is dropped when its queue doesn't exist.
    pub(super) async fn publish_reply(
        &self,
        queue: &str,
        properties: BasicProperties,
        body: Bytes,
    ) -> Result<(), BrokerError> {
        let outgoing = Outgoing { queue: queue.to_owned(), properties, body, care: Care::None };
        Arc::clone(&self.shared).publish(outgoing, Instant::now() + CALL).await
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// Makes a session whenever there is none.
async fn supervise(shared: Arc<Shared>) {
    let mut pause = RETRY_FIRST;
    let mut first = true;
    loop {
        match shared.open().await {
            Ok(session) => {
                if !std::mem::replace(&mut first, false) {
                    // Before anybody can publish on it: what they publish isn't in doubt.
                    shared.generation.fetch_add(1, Ordering::AcqRel);
                    info!("RabbitMQ can be published to again");
                }
                pause = RETRY_FIRST;
                shared.session.send_replace(Some(Arc::clone(&session)));
                session.ended().await;
                shared.session.send_replace(None);
                warn!("the connection over which is published to RabbitMQ has ended");
            }
            Err(error) => {
                warn!(error = &*error, "RabbitMQ can't be published to");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

impl Session {
    async fn ended(&self) {
        while self.is_alive() {
            tokio::select! {
                () = self.broken.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    fn declared(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a message; the result is told of its confirmation.
    async fn write(&self, outgoing: &Outgoing) -> lapin::Result<lapin::PublisherConfirm> {
        let mandatory = !matches!(outgoing.care, Care::None);
        let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
        let mut writing = pin!(self.channel.basic_publish(
            "".into(),
            outgoing.queue.as_str().into(),
            options,
            &outgoing.body,
            outgoing.properties.clone(),
        ));
        poll_fn(|context| {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            writing.as_mut().poll(context)
        })
        .await
    }
}

impl Shared {
    async fn open(&self) -> Result<Arc<Session>, Cause> {
        let connection = self.publishing.connection().await?;
        let channel = in_time(connection.create_channel()).await?;
        in_time(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let (declared, order, broken) = (Mutex::default(), Mutex::default(), Notify::new());
        Ok(Arc::new(Session { connection, channel, declared, order, broken }))
    }

    fn properties(&self, message: &Message) -> BasicProperties {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut headers = FieldTable::default();
        if let Some(traceparent) = &message.traceparent {
            headers.insert(TRACEPARENT.into(), AMQPValue::LongString(traceparent.as_str().into()));
        }
        BasicProperties::default()
            .with_content_type(short(&message.content_type))
            .with_message_id(short(&message.id))
            .with_timestamp(seconds)
            .with_delivery_mode(if self.persistent { 2 } else { 1 })
            .with_headers(headers)
    }

    async fn publish(self: Arc<Self>, outgoing: Outgoing, deadline: Instant) -> Result<(), BrokerError> {
        let queue = outgoing.queue.clone();
        let late = |what: &str| unavailable("publish to", &queue, what);
        let size = 1 + u32::try_from(outgoing.body.len() / UNCONFIRMED_BYTES).unwrap_or(UNCONFIRMED_MAX);
        let room = Arc::clone(&self.unconfirmed).acquire_many_owned(size.min(UNCONFIRMED_MAX));
        let room = match tokio::time::timeout_at(deadline, room).await {
            Ok(room) => room.map_err(|error| unavailable("publish to", &queue, error))?,
            Err(_) => return Err(late("too many messages are unconfirmed")),
        };
        let session = self.session(deadline).await.map_err(late)?;
        let is_made_by_us = matches!(outgoing.care, Care::Again(_));
        if is_made_by_us && !session.declared().contains(&queue) {
            match tokio::time::timeout_at(deadline, self.consuming.declare("publish to", &queue)).await {
                Ok(declared) => declared?,
                Err(_) => return Err(late("the queue couldn't be declared in time")),
            }
            session.declared().insert(queue.clone());
        }
        // The write goes on when nobody waits for it any more: lapin has its frames, and room must be kept for it.
        let (written, is_written) = oneshot::channel();
        tokio::spawn(self.see_through(session, outgoing, room, written));
        match tokio::time::timeout_at(deadline, is_written).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(unavailable("publish to", &queue, error)),
            Ok(Err(_)) => Err(late("the connection has ended")),
            Err(_) => Err(late("the broker takes no messages: it may be short of memory or disk")),
        }
    }

    /// A session that can be written to.
    async fn session(&self, deadline: Instant) -> Result<Arc<Session>, &'static str> {
        let mut sessions = self.session.subscribe();
        let is_usable = |session: &Option<Arc<Session>>| session.as_ref().is_some_and(|session| session.is_alive());
        let session = match tokio::time::timeout_at(deadline, sessions.wait_for(is_usable)).await {
            Ok(Ok(session)) => session.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        let session = session.ok_or("there is no connection")?;
        // The broker says that it blocks us; what is written meanwhile would only be piled up.
        while session.connection.status().blocked() {
            if Instant::now() >= deadline {
                return Err("the broker is short of memory or disk and takes no messages");
            }
            tokio::time::sleep(LOOK / 5).await;
        }
        Ok(session)
    }

    /// Writes a message and handles its confirmation.
    async fn see_through(
        self: Arc<Self>,
        session: Arc<Session>,
        outgoing: Outgoing,
        room: OwnedSemaphorePermit,
        written: oneshot::Sender<Result<(), Cause>>,
    ) {
        let confirm = match session.write(&outgoing).await {
            Ok(confirm) => confirm,
            Err(error) => {
                session.broken.notify_one();
                drop(written.send(Err(error.into())));
                return;
            }
        };
        drop(written.send(Ok(())));
        let confirmation = confirm.await;
        drop(room);
        let result = match confirmation {
            Ok(Confirmation::Ack(returned)) => Ok(returned),
            Ok(Confirmation::Nack(returned)) => Err(("the broker refused it", returned)),
            Ok(Confirmation::NotRequested) => Ok(None),
            Err(error) => {
                // Its fate is unknown: the supervisor raises the generation.
                session.broken.notify_one();
                if let Care::Told(told) = outgoing.care {
                    drop(told.send(Err(error.into())));
                }
                return;
            }
        };
        let (refused, returned) = match result {
            Ok(returned) => (None, returned),
            Err((why, returned)) => (Some(why), returned),
        };
        // It may be another message than this: lapin attaches what came back to the next confirmation.
        if let Some(returned) = returned {
            self.returned(&session, returned.delivery);
        }
        match (outgoing.care, refused) {
            (Care::Told(told), refused) => drop(told.send(refused.map_or(Ok(()), |why| Err(why.into())))),
            (Care::Again(again), Some(why)) => {
                let Outgoing { queue, properties, body, .. } = outgoing;
                self.publish_again(queue, properties, body, again, why);
            }
            (Care::Again(_), None) | (Care::None, _) => {}
        }
    }

    /// Its queue is gone.
    fn returned(self: &Arc<Self>, session: &Session, message: lapin::message::Delivery) {
        let queue = message.routing_key.to_string();
        session.declared().remove(&queue);
        let header = message.properties.headers().as_ref().and_then(|headers| headers.inner().get(AGAIN).cloned());
        let again = header.and_then(|value| value.as_short_short_uint()).unwrap_or_default();
        self.publish_again(queue, message.properties, Bytes::from(message.data), again, "its queue doesn't exist");
    }

    fn publish_again(
        self: &Arc<Self>,
        queue: String,
        properties: BasicProperties,
        body: Bytes,
        again: u8,
        why: &'static str,
    ) {
        let id = properties.message_id().as_ref().map_or_else(String::new, ToString::to_string);
        if again >= AGAIN_MAX {
            warn!(queue, id, why, "a message is given up; the sweep publishes it again");
            self.generation.fetch_add(1, Ordering::AcqRel);
            return;
        }
        warn!(queue, id, why, "a message is published again");
        let pause = AGAIN_PAUSE * (1 << again);
        let again = again + 1;
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(AGAIN.into(), AMQPValue::ShortShortUInt(again));
        let outgoing = Outgoing { queue, properties: properties.with_headers(headers), body, care: Care::Again(again) };
        // A type that can be named keeps this future from containing itself.
        let publication: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin({
            let shared = Arc::clone(self);
            async move {
                tokio::time::sleep(pause).await;
                let publication = Arc::clone(&shared).publish(outgoing, Instant::now() + CALL);
                if let Err(error) = publication.await {
                    warn!(error = &error as &dyn std::error::Error, id, "a message couldn't be published again");
                    shared.generation.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        tokio::spawn(publication);
    }
}

/// As much of a text as fits. Ids that are longer only look alike in RabbitMQ's own tools.
pub(super) fn short(text: &str) -> ShortString {
    text[..text.floor_char_boundary(SHORT_STRING_BYTES_MAX)].into()
}
