//! The seam of letters that were put aside, as nobody could make anything of them: to look at them, and to send them
//! again or throw them away.
//!
//! A letter has an id that follows from what is in it, so it is the same at each look. Two that are the same in all
//! have the same id, and it doesn't matter which of them is meant.

use async_trait::async_trait;

use super::BrokerError;
use super::submissions::Letter;

/// Letters that one look shows at the most.
pub const LETTERS_MAX: usize = 500;

/// Why a letter can't be looked at, sent again or thrown away.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("`{0}` isn't a queue of letters that were put aside: their names end in `.dead`")]
    Queue(String),
    #[error("there is no letter `{0}`: it was sent again or dropped, or somebody else looks at it just now")]
    None(String),
    #[error("queue `{0}`, to which the letter would go, doesn't exist; start what takes from it first")]
    Gone(String),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// A letter that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What it is told apart by: 32 hexadecimal digits, a dot and the queue.
    pub id: String,
    /// Where it lies.
    pub queue: String,
    /// Where it came from, and goes when it is sent again.
    pub source: String,
    /// Why it was put aside, where that was said.
    pub reason: Option<String>,
    pub letter: Letter,
}

/// Queues of letters that were put aside.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// The queues that are known.
    fn queues(&self) -> Vec<String>;
    /// The first letters of a queue, at most `limit` and [`LETTERS_MAX`], oldest first. They stay where they are; while
    /// it is looked at them they can't be seen by others. A queue that doesn't exist has none.
    async fn look(&self, queue: &str, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError>;
    /// Sends a letter to where it came from. It is there safely before it leaves here, so after a crash between the two
    /// it is in both.
    async fn requeue(&self, id: &str) -> Result<(), DeadLetterError>;
    /// Throws a letter away.
    async fn discard(&self, id: &str) -> Result<(), DeadLetterError>;
}

/// Where nothing is ever put aside: in one process whoever submits hears at once what is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDeadLetters;

#[async_trait]
impl DeadLetters for NoDeadLetters {
    fn queues(&self) -> Vec<String> {
        Vec::new()
    }

    async fn look(&self, _queue: &str, _limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        Ok(Vec::new())
    }

    async fn requeue(&self, id: &str) -> Result<(), DeadLetterError> {
        Err(DeadLetterError::None(id.to_owned()))
    }

    async fn discard(&self, id: &str) -> Result<(), DeadLetterError> {
        Err(DeadLetterError::None(id.to_owned()))
    }
}
