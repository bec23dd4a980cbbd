//! Publishing with a confirmation for each message.
//!
//! lapin attaches a message that came back to whichever confirmation comes next. So a channel has one message at a
//! time, and what comes back on it is that one; for several at a time there are several channels.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gristmill_backends::broker::rabbitmq::{Cause, Line};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind};
use tokio::sync::Semaphore;

/// How long a confirmation may take. Brokers that write to slow disks take some hundred milliseconds; one that is short
/// of memory or disk takes nothing at all, and is tried again.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// Why a message isn't where it should be.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nobody would have got it.
    #[error("no queue takes `{routing_key}` of exchange `{exchange}`")]
    Unroutable { exchange: String, routing_key: String },
    /// A queue that is full, or has no leader just now.
    #[error("the broker refused the message")]
    Refused,
    /// It is nothing that the broker takes, such as one that is too large, and will be nothing the next time.
    #[error("the broker takes no such message")]
    Unfit(#[source] lapin::Error),
    /// It may have been published or not.
    #[error("failed to publish")]
    Unknown(#[source] Cause),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a str,
    /// Whether it is an error that nobody gets it.
    pub mandatory: bool,
}

/// Channels to publish on.
pub struct Outlets {
    line: Arc<Line>,
    free: Mutex<Vec<Channel>>,
    slots: Semaphore,
}

impl Outlets {
    /// Up to `count` messages at a time.
    pub fn new(line: Arc<Line>, count: usize) -> Outlets {
        Outlets { line, free: Mutex::default(), slots: Semaphore::new(count.max(1)) }
    }

    /// Publishes a message and waits until the broker has it safe.
    pub async fn publish(
        &self,
        to: Destination<'_>,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let _slot = self.slots.acquire().await.map_err(|error| PublishError::Unknown(error.into()))?;
        let channel = match self.take() {
            Some(channel) => channel,
            None => match tokio::time::timeout(CONFIRM_WITHIN, self.open()).await {
                Ok(channel) => channel.map_err(PublishError::Unknown)?,
                Err(error) => return Err(PublishError::Unknown(error.into())),
            },
        };
        let published = tokio::time::timeout(CONFIRM_WITHIN, one(&channel, to, properties, body)).await;
        let Ok(confirmation) = published else {
            let text = format!("the broker didn't confirm it within {} s", CONFIRM_WITHIN.as_secs());
            return Err(PublishError::Unknown(text.into()));
        };
        let confirmation = confirmation.map_err(|error| match is_unfit(&error) {
            true => PublishError::Unfit(error),
            false => PublishError::Unknown(error.into()),
        })?;
        // Only a channel that waits for nothing is used again.
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        match confirmation {
            Confirmation::Ack(Some(_)) => {
                let (exchange, routing_key) = (to.exchange.to_owned(), to.routing_key.to_owned());
                Err(PublishError::Unroutable { exchange, routing_key })
            }
            Confirmation::Ack(None) | Confirmation::NotRequested => Ok(()),
            Confirmation::Nack(_) => Err(PublishError::Refused),
        }
    }

    fn take(&self) -> Option<Channel> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain(|channel| channel.status().connected());
        free.pop()
    }

    async fn open(&self) -> Result<Channel, Cause> {
        let channel = self.line.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }
}

/// Whether the broker has closed the channel for the message on it. An error that closes the connection says nothing: it
/// may be another's. An exchange that doesn't exist may be made.
fn is_unfit(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    let unfit = [AMQPSoftError::PRECONDITIONFAILED, AMQPSoftError::CONTENTTOOLARGE];
    matches!(error.kind(), AMQPErrorKind::Soft(soft) if unfit.contains(soft))
}

async fn one(
    channel: &Channel,
    to: Destination<'_>,
    properties: BasicProperties,
    body: &[u8],
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: to.mandatory, ..BasicPublishOptions::default() };
    channel.basic_publish(to.exchange.into(), to.routing_key.into(), options, body, properties).await?.await
}
