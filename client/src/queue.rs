//! Submitting over RabbitMQ: a submission is safe when the broker has confirmed it.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use gristmill_backends::broker::rabbitmq::{RabbitBroker, RabbitOptions};
use gristmill_backends::broker::submissions::{Letter, SubmissionQueue as _};
use gristmill_protocol::limits::MESSAGE_BYTES_MAX;
use gristmill_protocol::submission::SubmissionMessage;

use crate::ClientError;
use crate::client::random_key;

/// Submissions that may be unconfirmed at a time: what the broker confirms together.
const UNCONFIRMED_MAX: usize = 1_024;
const CONTENT_TYPE: &str = "application/vnd.gristmill.submission+msgpack; v=1";

/// Submits over RabbitMQ.
///
/// ```no_run
/// # async fn example() -> Result<(), gristmill_client::ClientError> {
/// use gristmill_client::{QueueClient, SubmissionMessage};
///
/// let client = QueueClient::connect("amqp://guest:guest@localhost:5672/%2f").await?;
/// let pipeline = Some("name: nightly\nsteps:\n  a: { noop: {} }\n".to_owned());
/// client.submit(&SubmissionMessage { pipeline, ..SubmissionMessage::default() }).await?;
/// # Ok(())
/// # }
/// ```
pub struct QueueClient {
    broker: RabbitBroker,
}

impl QueueClient {
    /// Connects to a broker, as `amqp://user:password@host:5672/%2f`.
    pub async fn connect(url: &str) -> Result<QueueClient, ClientError> {
        Ok(QueueClient { broker: RabbitBroker::connect(url, RabbitOptions::default()).await? })
    }

    /// Puts a submission into the queue; it is safe there when this ends. Without a key it gets one, so that it makes
    /// one run though the broker may deliver it twice.
    pub async fn submit(&self, message: &SubmissionMessage) -> Result<(), ClientError> {
        let body = rmp_serde::to_vec_named(message).map_err(|error| ClientError::Unsendable(error.to_string()))?;
        if body.len() > MESSAGE_BYTES_MAX {
            return Err(ClientError::Message { bytes: body.len(), max: MESSAGE_BYTES_MAX });
        }
        let letter = Letter {
            content_type: Some(CONTENT_TYPE.to_owned()),
            id: Some(random_key()),
            timestamp_s: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()),
            body: body.into(),
            ..Letter::default()
        };
        Ok(self.broker.submit(letter).await?)
    }

    /// Puts many submissions into the queue, confirmed together; all are safe there when this ends. After an error some
    /// are and some aren't: with keys they can be submitted again without harm.
    pub async fn submit_many(&self, messages: impl IntoIterator<Item = SubmissionMessage>) -> Result<(), ClientError> {
        stream::iter(messages)
            .map(|message| async move { self.submit(&message).await })
            .buffer_unordered(UNCONFIRMED_MAX)
            .try_collect()
            .await
    }
}
