//! Publishing and taking back, once what they follow from is safe.
//!
//! A performer never looks anything up and never chooses; each effect carries what it needs. It tries until
//! it succeeds: what it repeats is harmless, and when the shard is lost its future is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::broker::{Broker, Message};
use gristmill_backends::state::{State, StateError};
use gristmill_protocol::message::{Assignment, InputValue};
use gristmill_protocol::{OwnerToken, wire};
use gristmill_scheduler_core::Effect;
use tokio::time::Instant;
use tracing::warn;

use crate::calls::in_time;
use crate::observe::Observe;

/// Bytes of children's outputs that travel in the message; more become an artifact.
const INLINE_CHILDREN_BYTES_MAX: usize = 64 * 1024;
/// The first pause after a failure; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// What an assignment is on the broker.
pub(crate) const ASSIGNMENT: &str = "application/vnd.gristmill.assignment+msgpack; v=";

/// Performs the effects of one append, in order.
pub(crate) struct Performer {
    pub(crate) state: Arc<dyn State>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) artifacts: Arc<dyn Artifacts>,
    pub(crate) token: OwnerToken,
    /// The version of messages that all workers read.
    pub(crate) writes: u8,
    pub(crate) observer: Arc<dyn Observe>,
}

impl Performer {
    pub(crate) async fn perform(&self, effects: VecDeque<Effect>) {
        for effect in effects {
            let mut pause = RETRY_FIRST;
            while let Err(error) = self.try_once(&effect).await {
                warn!(error = &*error, "an effect is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }

    async fn try_once(&self, effect: &Effect) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match effect {
            Effect::Publish(assignment) => {
                let began = Instant::now();
                let message = self.message(assignment).await?;
                let traceparent = message.traceparent.clone();
                self.broker.publish(&assignment.pool, message).await?;
                self.observer.published(assignment, traceparent.as_deref(), began.elapsed());
                Ok(())
            }
            Effect::Revoke { shard, attempts } => {
                match in_time("revoke", self.state.revoke(*shard, self.token, attempts)).await {
                    // The shard's new owner takes them back.
                    Err(StateError::Deposed { .. }) => Ok(()),
                    result => Ok(result?),
                }
            }
            Effect::RunEnded { .. } => Ok(()),
        }
    }

    async fn message(&self, assignment: &Assignment) -> Result<Message, ArtifactError> {
        let body = match self.with_large_inputs_put(assignment).await? {
            Some(smaller) => wire::encode_up_to(self.writes, &smaller),
            None => wire::encode_up_to(self.writes, assignment),
        };
        let content_type = format!("{ASSIGNMENT}{}", wire::version(&body).unwrap_or(wire::BASE));
        let id = assignment.attempts().next().map(|attempt| attempt.to_string()).unwrap_or_default();
        let traceparent = self.observer.traceparent(assignment);
        Ok(Message { content_type, id, traceparent, body: Bytes::from(body) })
    }

    /// The assignment with children's outputs that are too large for a message made artifacts, if there are any.
    async fn with_large_inputs_put(&self, assignment: &Assignment) -> Result<Option<Assignment>, ArtifactError> {
        let is_large = |value: &InputValue| match value {
            InputValue::Children(outputs) => {
                outputs.iter().map(|output| output.as_ref().map_or(1, |output| output.len() + 3)).sum::<usize>()
                    > INLINE_CHILDREN_BYTES_MAX
            }
            InputValue::Output(_) | InputValue::ChildrenArtifact(_) => false,
        };
        if !assignment.parts.iter().flat_map(|part| &part.inputs).any(|input| is_large(&input.value)) {
            return Ok(None);
        }
        let mut smaller = assignment.clone();
        for input in smaller.parts.iter_mut().flat_map(|part| &mut part.inputs) {
            if let InputValue::Children(outputs) = &input.value
                && is_large(&input.value)
            {
                let digest = self.artifacts.put(Bytes::from(wire::encode(outputs))).await?;
                input.value = InputValue::ChildrenArtifact(digest);
            }
        }
        Ok(Some(smaller))
    }
}
