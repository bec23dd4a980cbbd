//! One connection to RabbitMQ, made anew when it is needed and broken.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{CALL, Cause, QueueType, RETRY_FIRST, RETRY_MAX, in_time, unavailable};
use crate::broker::BrokerError;

/// Seconds between heartbeats. A peer that is gone is noticed after two, under which nothing else that waits for
/// the broker has given up.
const HEARTBEAT_SECONDS: u16 = 10;
/// Bytes of a frame at the most. A connection keeps room for 32 of them both ways from its start, which at the broker's
/// own 128 KiB would be 16 MB for the two connections of an idle worker.
const FRAME_BYTES_MAX: u32 = 32 * 1_024;
/// How long one attempt to connect may take. Longer than a name look-up and a TLS handshake over a far line.
const ATTEMPT: Duration = Duration::from_secs(5);
/// A connection and what it takes to make it.
pub struct Line {
    uri: AMQPUri,
    /// What it is for; RabbitMQ's lists of connections show it.
    purpose: &'static str,
    queue_type: QueueType,
    connection: Mutex<Option<Arc<Connection>>>,
    /// On which is asked how many messages are ready. An answer that a queue doesn't exist closes it.
    asking: Mutex<Option<Channel>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({} {})", self.purpose, self.place())
    }
}

impl Line {
    /// A connection that isn't made yet, to an address such as `amqp://user:password@host:5672/%2f`. The purpose is shown in
    /// RabbitMQ's lists of connections; the type is that of queues that [`Line::declare`] makes.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub fn new(url: &str, purpose: &'static str, queue_type: QueueType) -> Result<Line, BrokerError> {
        let address = |why: String| BrokerError::Address { why };
        let mut uri: AMQPUri = url.parse().map_err(address)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.frame_max.get_or_insert(FRAME_BYTES_MAX);
        uri.query.connection_timeout.get_or_insert(ATTEMPT.as_millis() as u64);
        if uri.scheme == AMQPScheme::AMQPS {
            // Refused when there is one already, which is as good.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        let (connection, asking) = (Mutex::new(None), Mutex::new(None));
        Ok(Line { uri, purpose, queue_type, connection, asking })
    }

    /// Where it goes, without the password.
    fn place(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// The connection, made anew if it is broken.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Cause> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref().filter(|connection| connection.status().connected()) {
            return Ok(Arc::clone(connection));
        }
        *kept = None;
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("gristmill {} ({})", self.purpose, std::process::id()).into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        let connection = match tokio::time::timeout(ATTEMPT, connecting).await {
            Ok(connection) => Arc::new(connection?),
            Err(_) => return Err(format!("no connection within {} s", ATTEMPT.as_secs()).into()),
        };
        debug!(place = self.place(), purpose = self.purpose, "connected to RabbitMQ");
        *kept = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Connects for the first time, with more than one attempt.
    ///
    /// # Errors
    /// When the broker refuses us, or can't be reached before the deadline.
    pub async fn connect_until(&self, deadline: Instant) -> Result<(), BrokerError> {
        let mut pause = RETRY_FIRST;
        loop {
            match tokio::time::timeout_at(deadline, self.connection()).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if Instant::now() + pause >= deadline || is_final(&*error) => {
                    return Err(BrokerError::Unreachable { place: self.place(), source: error });
                }
                Ok(Err(error)) => info!(place = self.place(), error = &*error, "RabbitMQ isn't reached yet"),
                Err(_) => {
                    let source = "there was no answer in time".into();
                    return Err(BrokerError::Unreachable { place: self.place(), source });
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// A new channel, over a connection that is made anew if it is broken.
    ///
    /// # Errors
    /// When there is no connection, or no answer within the time of a call.
    pub async fn channel(&self) -> Result<Channel, Cause> {
        let connection = self.connection().await?;
        in_time(connection.create_channel()).await
    }

    /// Makes sure that a queue exists as the options say. On a channel of its own, which an error closes. The verb is what
    /// an error says that was attempted.
    ///
    /// # Errors
    /// When the queue exists and is something else, or the broker can't be asked.
    pub async fn declare(&self, verb: &'static str, queue: &str) -> Result<(), BrokerError> {
        self.declare_with(verb, queue, self.queue_type.arguments()).await
    }

    /// Makes sure that a queue exists with these arguments.
    ///
    /// # Errors
    /// As [`Line::declare`].
    pub async fn declare_with(
        &self,
        verb: &'static str,
        queue: &str,
        arguments: FieldTable,
    ) -> Result<(), BrokerError> {
        let channel = self.channel().await.map_err(|error| unavailable(verb, queue, error))?;
        let declared = in_time(channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)).await;
        match declared {
            Ok(_) => {
                // Nothing depends on its end: when it fails, the channel is gone already.
                drop(in_time(channel.close(200, "OK".into())).await);
                Ok(())
            }
            Err(source) if soft_error(&*source) == Some(AMQPSoftError::PRECONDITIONFAILED) => {
                let wanted = self.queue_type.name();
                Err(BrokerError::Mismatch { queue: queue.to_owned(), wanted, source })
            }
            Err(error) => Err(unavailable(verb, queue, error)),
        }
    }

    /// How many messages of a queue wait for a consumer. A queue that doesn't exist has none.
    ///
    /// # Errors
    /// When the broker can't be asked.
    pub async fn ready(&self, queue: &str) -> Result<u64, BrokerError> {
        match tokio::time::timeout(CALL, self.count(queue)).await {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) => Err(unavailable("look at", queue, error)),
            Err(_) => Err(unavailable("look at", queue, "there was no answer in time")),
        }
    }

    async fn count(&self, queue: &str) -> Result<u64, Cause> {
        let mut kept = self.asking.lock().await;
        let channel = match kept.take().filter(|channel| channel.status().connected()) {
            Some(channel) => channel,
            None => self.channel().await?,
        };
        match in_time(channel.queue_declare(queue.into(), passive(), FieldTable::default())).await {
            Ok(declared) => {
                *kept = Some(channel);
                Ok(declared.message_count().into())
            }
            Err(error) if soft_error(&*error) == Some(AMQPSoftError::NOTFOUND) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Asks for a queue without making it.
pub(super) fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() }
}

/// What the broker closed a channel for, if that is what happened.
pub(super) fn soft_error(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<AMQPSoftError> {
    match error.downcast_ref::<lapin::Error>()?.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

/// Whether another attempt would end in the same way: the broker is there and refuses us.
fn is_final(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<lapin::Error>();
    error.is_some_and(|error| matches!(error.kind(), ErrorKind::ProtocolError(_) | ErrorKind::AuthProviderError(_)))
}
