//! Submitting over RabbitMQ: a submission is safe when the broker has confirmed it.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use gristmill_backends::broker::rabbitmq::{RabbitBroker, RabbitOptions};
use gristmill_backends::broker::submissions::{Letter, SubmissionQueue as _};
use gristmill_protocol::limits::MESSAGE_BYTES_MAX;
use gristmill_protocol::submission::SubmissionMessage;

use crate::ClientError;
use crate::client::random_key;

/// Messages that may be unconfirmed at a time: what the broker confirms together.
const UNCONFIRMED_MAX: usize = 256;
/// Submissions of one message: so many that its cost hardly counts for each.
const LIST_MAX: usize = 200;
/// Bytes of one message's submissions, which leaves room for what else is in it.
const LIST_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 1024;
const CONTENT_TYPE: &str = "application/vnd.gristmill.submission+msgpack; v=1";
const LIST_CONTENT_TYPE: &str = "application/vnd.gristmill.submissions+msgpack; v=1";

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

    /// Puts a submission into the queue; it is safe there when this ends. Without a key it goes by its message's id, so
    /// that it makes one run though the broker may deliver it twice.
    pub async fn submit(&self, message: &SubmissionMessage) -> Result<(), ClientError> {
        self.send(CONTENT_TYPE, encoded(message)?).await
    }

    /// Puts many submissions into the queue, many in a message, confirmed together; all are safe there when this ends.
    /// After an error some are and some aren't: with keys they can be submitted again without harm.
    pub async fn submit_many(&self, messages: impl IntoIterator<Item = SubmissionMessage>) -> Result<(), ClientError> {
        let mut lists: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut bytes = 0;
        for message in messages {
            let body = encoded(&message)?;
            bytes += body.len();
            match lists.last_mut().filter(|list| list.len() < LIST_MAX && bytes <= LIST_BYTES_MAX) {
                Some(list) => list.push(body),
                None => {
                    bytes = body.len();
                    lists.push(vec![body]);
                }
            }
        }
        stream::iter(lists)
            .map(|list| async move { self.send(LIST_CONTENT_TYPE, joined(&list)).await })
            .buffer_unordered(UNCONFIRMED_MAX)
            .try_collect()
            .await
    }

    async fn send(&self, content_type: &str, body: Vec<u8>) -> Result<(), ClientError> {
        let letter = Letter {
            content_type: Some(content_type.to_owned()),
            id: Some(random_key()),
            timestamp_s: SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()),
            body: body.into(),
            ..Letter::default()
        };
        Ok(self.broker.submit(letter).await?)
    }
}

fn encoded(message: &SubmissionMessage) -> Result<Vec<u8>, ClientError> {
    let body = rmp_serde::to_vec_named(message).map_err(|error| ClientError::Unsendable(error.to_string()))?;
    match body.len() > MESSAGE_BYTES_MAX {
        true => Err(ClientError::Message { bytes: body.len(), max: MESSAGE_BYTES_MAX }),
        false => Ok(body),
    }
}

/// Encoded submissions as one encoded list: its length, then they.
fn joined(list: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(3 + list.iter().map(Vec::len).sum::<usize>());
    body.push(0xdc);
    body.extend_from_slice(&(list.len() as u16).to_be_bytes());
    list.iter().for_each(|message| body.extend_from_slice(message));
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_what_went_into_it() {
        let message = |key: usize| SubmissionMessage { key: Some(key.to_string()), ..SubmissionMessage::default() };
        let messages: Vec<SubmissionMessage> = (0..300).map(message).collect();
        let list: Vec<Vec<u8>> = messages.iter().map(|message| encoded(message).expect("small")).collect();
        assert_eq!(SubmissionMessage::decode_many(LIST_CONTENT_TYPE, &joined(&list)).expect("a list"), messages);
    }
}
