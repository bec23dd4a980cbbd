//! Streaming: what arrives in a queue or a RabbitMQ stream is scored, and the predictions go to an exchange.
//!
//! ```text
//! source ──> at most so many at hand ──> score, all at once ──> publish, confirmed ──> ack, or reached
//!  queue        order.rs: whose turn?      message.rs           one key: one after      progress.rs
//!  stream                                                       the other
//! ```
//!
//! - **Order.** Messages of one key go out in the order in which they came, each when the one before is safe.
//!   Different keys don't wait for each other: one key is as fast as the broker confirms, which takes it 5 to
//!   20 ms. Scoring has no side effect and begins at once; the engine makes
//!   batches of what has arrived.
//! - **Once.** A message may be scored and published again after a crash. Its effect has the same id whenever and by
//!   whomever it is published (`address.rs`), as `message-id` and as `x-deduplication-header`: whoever drops repeats
//!   by it, such as RabbitMQ's deduplication plugin, sees each effect once. An input is acknowledged only when its effect is
//!   safe, so none is lost.
//! - **One at a time.** Order needs that one process has the source: a queue that we declare has a single active
//!   consumer, and a stream has a holder (`progress.rs`). Others stand by. For several at work, split the source by
//!   key, as RabbitMQ's consistent hash exchange does, and score each part.
//! - **Poison.** What can't be scored is put aside, at once when the message is at fault and after some attempts when
//!   the model fails. What is nobody's fault, such as a broker or a model that is away, is waited for.
//!
//! **Invariant:** at most `at_once_max` messages are at hand; the rest stays where it is.

pub mod address;
mod lag;
mod life;
mod message;
mod order;
pub mod progress;

use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::broker::BrokerError;
use gristmill_backends::broker::rabbitmq::{Line, QueueType};
use tracing::info;

use self::address::{KeyOf, RoutingKey};
use self::life::{End, Life};
use self::progress::{Held, Progress};
use crate::models::Which;
use crate::outlets::Outlets;
use crate::scoring::Scoring;

/// How long the first connection may take: a broker that starts at the same time as we do needs some seconds.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Messages that are published at a time, each on a channel of its own. A broker confirms in 5 to 20 ms, and this is some
/// thousand messages a second; each channel costs it some processes.
const PUBLISH_AT_ONCE_MAX: usize = 64;
/// The pause before all is built anew; it doubles up to the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Where messages come from. What doesn't exist is declared; what does is taken as it is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A queue, declared with a single active consumer. One that exists without that keeps no order among several
    /// processes.
    Queue { queue: String, queue_type: QueueType },
    /// A RabbitMQ stream, from its first message or from where it was left. One that was deleted and made anew, which
    /// shows when it ends before where it was left, is scored from its first message, and the log has an error. Its
    /// messages are other ones at the same offsets, so effects that have their ids from offsets get new ones. One that has
    /// as many messages again by the time we look can't be told from the one before: give it another name.
    Stream { queue: String, progress: Arc<dyn Progress> },
}

impl Source {
    pub fn queue(&self) -> &str {
        let (Source::Queue { queue, .. } | Source::Stream { queue, .. }) = self;
        queue
    }
}

/// What becomes of a message that can't be scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poison {
    /// It goes to an exchange as it came, with the headers `gristmill-reason` and `gristmill-attempts`. Without an
    /// address it goes to the queue `<source>.dead`, which is declared.
    DeadLetter { to: Option<(String, String)> },
    /// An error goes out in the place of predictions, as V2 has it, with its status in the header `gristmill-status`.
    Publish,
}

/// How a stream is scored.
#[derive(Clone, Debug)]
pub struct StreamSettings {
    /// What metrics call it. It is part of the ids of effects: under another name all of them are new.
    pub name: String,
    pub source: Source,
    /// Where predictions go. The exchange must exist; the empty one delivers to the queue that the routing key names.
    pub exchange: String,
    pub routing_key: RoutingKey,
    /// Who scores; with one model in the source of models, that one.
    pub model: Option<String>,
    pub which: Which,
    pub key: KeyOf,
    /// Messages at hand at a time: scoring, or waiting for their turn. Memory holds as many bodies.
    pub at_once_max: u16,
    /// Attempts of a model, or of finding a queue for a prediction, before a message is put aside.
    pub attempts_max: u32,
    pub poison: Poison,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Bytes of one body, after it was inflated.
    pub body_bytes_max: usize,
    /// How long messages at hand may take when the stream ends.
    pub drain_max: Duration,
}

impl StreamSettings {
    /// Settings for a source whose predictions go to an exchange.
    pub fn new(name: &str, source: Source, exchange: &str, routing_key: RoutingKey) -> StreamSettings {
        StreamSettings {
            name: name.to_owned(),
            source,
            exchange: exchange.to_owned(),
            routing_key,
            model: None,
            which: Which::Served,
            key: KeyOf::Nothing,
            at_once_max: 256,
            attempts_max: 5,
            poison: Poison::DeadLetter { to: None },
            timeout: Duration::from_secs(30),
            body_bytes_max: 4 * 1024 * 1024,
            drain_max: Duration::from_secs(25),
        }
    }

    /// The exchange and the routing key of what is put aside.
    fn dead_letters(&self) -> (String, String) {
        match &self.poison {
            Poison::DeadLetter { to: Some(to) } => to.clone(),
            Poison::DeadLetter { to: None } | Poison::Publish => (String::new(), self.dead_letter_queue()),
        }
    }

    /// The queue of what is put aside, unless it goes elsewhere.
    pub fn dead_letter_queue(&self) -> String {
        format!("{}.dead", self.source.queue())
    }
}

/// Scores a stream until `stop` ends, then finishes what is at hand. A connection that is lost is made anew, and where
/// another process scores the same source, this one stands by.
///
/// # Errors
/// When the address makes no sense, or the broker can't be reached at first.
pub async fn run_stream(
    url: &str,
    scoring: Arc<Scoring>,
    settings: StreamSettings,
    stop: impl Future<Output = ()>,
) -> Result<(), BrokerError> {
    let taking = Arc::new(Line::new(url, "stream", QueueType::Classic)?);
    // On a connection of its own: RabbitMQ stops reading from those that publish when it is short of memory.
    let publishing = Arc::new(Line::new(url, "predictions", QueueType::Classic)?);
    taking.connect_until(tokio::time::Instant::now() + CONNECT_WITHIN).await?;
    let outlets = Arc::new(Outlets::new(publishing, usize::from(settings.at_once_max).min(PUBLISH_AT_ONCE_MAX)));
    let settings = Arc::new(settings);
    let mut stop = std::pin::pin!(stop);
    let mut pause = AGAIN_FIRST;
    let mut held = None;
    let life = Life { scoring, settings: Arc::clone(&settings), taking, outlets };
    loop {
        if held.is_none() {
            held = tokio::select! {
                () = &mut stop => return Ok(()),
                held = hold(&settings) => held,
            };
        }
        let (end, worked) = life.live(&mut held, stop.as_mut()).await;
        if worked {
            pause = AGAIN_FIRST;
        }
        match end {
            End::Stopped => {
                if let Some(held) = held {
                    held.release().await;
                }
                return Ok(());
            }
            End::Deposed => {
                info!(stream = settings.name, "another process scores the stream");
                held = None;
            }
            End::Broken(error) => {
                info!(stream = settings.name, error = &*error, "a stream is built anew");
                tokio::select! {
                    () = &mut stop => {
                        if let Some(held) = held {
                            held.release().await;
                        }
                        return Ok(());
                    }
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(AGAIN_MAX),
                }
            }
        }
    }
}

/// Waits until the source is ours. For queues the broker sees to that.
async fn hold(settings: &StreamSettings) -> Option<Held> {
    match &settings.source {
        Source::Queue { .. } => None,
        Source::Stream { queue, progress } => {
            let key = format!("streams/{}/{queue}", settings.name);
            Some(Held::wait(Arc::clone(progress), key).await)
        }
    }
}
