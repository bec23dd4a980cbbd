//! The seam of jobs that come over a queue: anybody who can send a message to the broker can start a run.
//!
//! Other than what wakes workers, a submission exists nowhere else until its run is safe. So here an acknowledgement
//! does protect something: [`Submission::ack`] comes after the store has the run, a submission is given back when
//! it is dropped, and one that can't be understood is put aside with the reason instead of being thrown away.
//! Submissions can come twice; their ids tell.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BrokerError, Settle};

/// The queue of submissions and the one for those that nobody understands.
#[async_trait]
pub trait SubmissionQueue: Send + Sync {
    /// Puts a submission into the queue. Finished when the broker has it safe.
    async fn submit(&self, letter: Letter) -> Result<(), BrokerError>;
    /// Begins to receive, with at most `prefetch` unsettled submissions.
    async fn submissions(&self, prefetch: u16) -> Result<Box<dyn Submissions>, BrokerError>;
    /// Puts a submission aside, with the reason. It leaves the queue when it is safe there, and is given back when
    /// that fails.
    async fn dead_letter(&self, submission: Submission, reason: &str) -> Result<(), BrokerError>;
    /// Answers whoever sent a letter, if they said where to. They may be gone, so that it arrives is not promised.
    async fn reply(&self, to: &Letter, content_type: &str, body: Bytes) -> Result<(), BrokerError>;
}

/// Submissions as they come.
#[async_trait]
pub trait Submissions: Send {
    /// The next submission. Waits for as long as it takes; safe to drop while it waits.
    async fn next(&mut self) -> Result<Submission, BrokerError>;
}

/// A message as anybody may send it: all of it is optional but the body, and none of it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    pub content_type: Option<String>,
    pub id: Option<String>,
    /// When it was sent, in seconds since 1970.
    pub timestamp_s: Option<u64>,
    /// Texts and numbers by name, numbers as text; others are left out. `traceparent` is among them.
    pub headers: BTreeMap<String, String>,
    /// The queue to which an answer goes.
    pub reply_to: Option<String>,
    /// What the sender tells answers apart by.
    pub correlation_id: Option<String>,
    pub body: Bytes,
}

impl Letter {
    /// W3C trace context, where there is one.
    pub fn traceparent(&self) -> Option<&str> {
        self.headers.get("traceparent").map(String::as_str)
    }
}

/// A submission that is the receiver's until it is settled, which it can be once.
pub struct Submission {
    pub letter: Letter,
    /// Whether it may have been received before.
    pub redelivered: bool,
    settle: Option<Box<dyn Settle>>,
}

impl Submission {
    /// A submission settled through `settle`.
    pub fn new(letter: Letter, redelivered: bool, settle: Box<dyn Settle>) -> Submission {
        Submission { letter, redelivered, settle: Some(settle) }
    }

    /// Removes it from the queue: its run is safe.
    pub fn ack(mut self) {
        if let Some(settle) = self.settle.take() {
            settle.ack();
        }
    }

    /// Gives it back.
    pub fn requeue(self) {}
}

impl Drop for Submission {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.requeue();
        }
    }
}
