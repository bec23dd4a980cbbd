//! Consuming: a task for each consumer, which builds all anew whenever something ends.
//!
//! RabbitMQ counts what is unsettled for each of its own consumers, and their prefetch can't be changed. Ours is made
//! of several where it must: what is still out from before a change counts against the new prefetch, and as it is
//! settled another RabbitMQ consumer is added for the credit that comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, SelectAll};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::line::{Line, passive};
use super::publisher::TRACEPARENT;
use super::{Cause, RETRY_FIRST, RETRY_MAX, in_time, unavailable};
use crate::broker::{BrokerError, Consumer, Delivery, Message, Settle};

/// RabbitMQ consumers that make up one of ours; past it they are cancelled and one takes their place. Each is a
/// process there, and a round trip when they are cancelled.
const PARTS_MAX: usize = 8;
/// After how long without a delivery the queue is asked for: an end that nobody told us of is noticed then.
const SILENCE: Duration = Duration::from_secs(10);

/// A consumer's end of its task, which declares the queue and builds the consumer anew whenever it ends.
pub struct RabbitConsumer {
    queue: String,
    buffer: Arc<Buffer>,
    commands: mpsc::UnboundedSender<Command>,
}

/// What was pushed and wasn't handed out.
#[derive(Default)]
struct Buffer {
    state: Mutex<BufferState>,
    filled: Notify,
}

#[derive(Default)]
struct BufferState {
    /// How often the task has built itself anew. What was delivered in another life is settled by nobody.
    life: u64,
    /// How often consumers were cancelled in this life.
    round: u64,
    pushed: VecDeque<lapin::message::Delivery>,
    /// Handed out and not settled: since the last round, and before it.
    out: usize,
    out_before: usize,
}

enum Command {
    SetPrefetch(u16, oneshot::Sender<()>),
    Settle { acker: Acker, life: u64, round: u64, requeue: bool },
    Close,
}

impl Buffer {
    fn lock(&self) -> MutexGuard<'_, BufferState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for RabbitConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RabbitConsumer({})", self.queue)
    }
}

impl RabbitConsumer {
    /// Consumes a queue, of which up to `prefetch` messages may be unsettled.
    ///
    /// # Errors
    /// When the broker can't be reached now, or the queue exists as something else. What happens later is retried.
    pub async fn start(line: Arc<Line>, queue: String, prefetch: u16) -> Result<RabbitConsumer, BrokerError> {
        let buffer = Arc::new(Buffer::default());
        let (commands, received) = mpsc::unbounded_channel();
        let task = Task { line, queue: queue.clone(), prefetch, buffer: Arc::clone(&buffer), commands: received };
        let mut life = task.begin().await?;
        life.fill(task.prefetch).await.map_err(|error| unavailable("consume", &queue, error))?;
        tokio::spawn(task.run(life));
        Ok(RabbitConsumer { queue, buffer, commands })
    }
}

impl RabbitConsumer {
    /// The next delivery as lapin has it. It is ours to settle with what comes with it. Nothing is lost when the wait
    /// is given up.
    pub async fn next_delivery(&mut self) -> (lapin::message::Delivery, RabbitSettle) {
        loop {
            {
                let mut state = self.buffer.lock();
                if let Some(delivery) = state.pushed.pop_front() {
                    state.out += 1;
                    let (life, round, acker) = (state.life, state.round, delivery.acker.clone());
                    return (delivery, RabbitSettle { commands: self.commands.clone(), acker, life, round });
                }
            }
            // Keeps one notice, so none is missed between the look and the wait.
            self.buffer.filled.notified().await;
        }
    }
}

impl RabbitConsumer {
    /// Ends it, and waits until the broker has heard what was settled. What wasn't is given back.
    pub async fn close(self) {
        drop(self.commands.send(Command::Close));
        self.commands.closed().await;
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let (delivery, settle) = self.next_delivery().await;
        let redelivered = delivery.redelivered;
        Ok(Delivery::new(message_of(delivery), redelivered, Box::new(settle)))
    }

    async fn set_prefetch(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        let gone = |_| unavailable("consume", &self.queue, "its task has ended");
        let (answer, answered) = oneshot::channel();
        self.commands.send(Command::SetPrefetch(prefetch, answer)).map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))
    }
}

impl Drop for RabbitConsumer {
    fn drop(&mut self) {
        drop(self.commands.send(Command::Close));
    }
}

/// Settles through the consumer's task, which is all that a destructor can do.
#[derive(Debug)]
pub struct RabbitSettle {
    commands: mpsc::UnboundedSender<Command>,
    acker: Acker,
    life: u64,
    round: u64,
}

impl RabbitSettle {
    /// The message is done with.
    pub fn ack(self) {
        self.settle(false);
    }

    /// The message goes back to its queue.
    pub fn requeue(self) {
        self.settle(true);
    }

    fn settle(self, requeue: bool) {
        let RabbitSettle { commands, acker, life, round } = self;
        // When the task has ended, the message was given back with the channel.
        drop(commands.send(Command::Settle { acker, life, round, requeue }));
    }
}

impl Settle for RabbitSettle {
    fn ack(self: Box<Self>) {
        self.settle(false);
    }

    fn requeue(self: Box<Self>) {
        self.settle(true);
    }
}

struct Task {
    line: Arc<Line>,
    queue: String,
    prefetch: u16,
    buffer: Arc<Buffer>,
    commands: mpsc::UnboundedReceiver<Command>,
}

/// A channel and what is consumed on it, for as long as nothing goes wrong.
struct Life {
    channel: Channel,
    queue: String,
    buffer: Arc<Buffer>,
    parts: SelectAll<lapin::Consumer>,
    tags: Vec<ShortString>,
    /// The prefetch of all parts together.
    credit: usize,
    settling: FuturesUnordered<BoxFuture<'static, lapin::Result<bool>>>,
}

/// Why a life has ended.
enum End {
    Closed,
    Broken(Cause),
}

impl Task {
    /// Opens a channel and makes sure of the queue.
    async fn begin(&self) -> Result<Life, BrokerError> {
        self.line.declare("consume", &self.queue).await?;
        let channel = self.line.channel().await.map_err(|error| unavailable("consume", &self.queue, error))?;
        let mut state = self.buffer.lock();
        *state = BufferState { life: state.life + 1, ..BufferState::default() };
        drop(state);
        Ok(Life {
            channel,
            queue: self.queue.clone(),
            buffer: Arc::clone(&self.buffer),
            parts: SelectAll::new(),
            tags: Vec::new(),
            credit: 0,
            settling: FuturesUnordered::new(),
        })
    }

    async fn run(mut self, mut life: Life) {
        loop {
            match self.live(&mut life).await {
                End::Closed => {
                    drop(in_time(life.channel.close(200, "OK".into())).await);
                    return;
                }
                End::Broken(error) => {
                    info!(queue = self.queue, error = &*error, "a consumer is built anew");
                    // What it held comes again; closing says so at once if the broker can still hear it.
                    self.buffer.lock().pushed.clear();
                    drop(in_time(life.channel.close(200, "OK".into())).await);
                }
            }
            life = match self.begin_again().await {
                Some(life) => life,
                None => return,
            };
        }
    }

    /// Tries until it succeeds; nothing when the consumer is dropped meanwhile.
    async fn begin_again(&mut self) -> Option<Life> {
        let mut pause = RETRY_FIRST;
        loop {
            match self.begin().await {
                Ok(life) => return Some(life),
                Err(error) => {
                    warn!(queue = self.queue, error = &error as &dyn std::error::Error, "a queue can't be consumed")
                }
            }
            let again = tokio::time::sleep(pause);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    command = self.commands.recv() => match command {
                        None | Some(Command::Close) => return None,
                        Some(Command::SetPrefetch(prefetch, answer)) => {
                            self.prefetch = prefetch;
                            _ = answer.send(());
                        }
                        Some(Command::Settle { .. }) => {}
                    },
                }
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn live(&mut self, life: &mut Life) -> End {
        let mut heard = Instant::now();
        loop {
            if let Err(error) = life.fill(self.prefetch).await {
                return End::Broken(error);
            }
            if life.parts.len() < life.tags.len() {
                return End::Broken("the broker cancelled a part of it".into());
            }
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None | Some(Command::Close) => {
                        life.finish_settling().await;
                        return End::Closed;
                    }
                    Some(Command::Settle { acker, life: of, round, requeue }) => life.settle(acker, of, round, requeue).await,
                    Some(Command::SetPrefetch(prefetch, answer)) => {
                        self.prefetch = prefetch;
                        let done = life.shrink(prefetch).await;
                        if let Err(error) = done {
                            // What was pushed goes back with the channel, which is what was asked for.
                            self.buffer.lock().pushed.clear();
                            _ = answer.send(());
                            return End::Broken(error);
                        }
                        _ = answer.send(());
                    }
                },
                Some(settled) = life.settling.next() => settled_as(settled, &self.queue),
                item = life.parts.next(), if !life.tags.is_empty() => match item {
                    Some(Ok(delivery)) => {
                        heard = Instant::now();
                        life.push(delivery);
                    }
                    Some(Err(error)) => return End::Broken(error.into()),
                    None => return End::Broken("the broker cancelled it: was the queue deleted?".into()),
                },
                () = tokio::time::sleep_until(heard + SILENCE) => {
                    heard = Instant::now();
                    let asked = life.channel.queue_declare(self.queue.as_str().into(), passive(), FieldTable::default());
                    if let Err(error) = in_time(asked).await {
                        return End::Broken(error);
                    }
                }
            }
        }
    }
}

impl Life {
    /// Adds a part for credit that isn't used: at the start, after growth, and when what was out before is settled.
    async fn fill(&mut self, prefetch: u16) -> Result<(), Cause> {
        let free = |life: &Life| usize::from(prefetch).saturating_sub(life.credit + life.buffer.lock().out_before);
        if free(self) > 0 && self.tags.len() >= PARTS_MAX {
            self.cancel().await?;
        }
        let free = free(self);
        // Never a prefetch of 0: on the wire it means no limit.
        let Some(credit) = u16::try_from(free).ok().filter(|credit| *credit > 0) else { return Ok(()) };
        in_time(self.channel.basic_qos(credit, BasicQosOptions { global: false })).await?;
        let tag: ShortString = uuid::Uuid::new_v4().to_string().into();
        let options = BasicConsumeOptions::default();
        let consuming =
            self.channel.basic_consume(self.queue.as_str().into(), tag.clone(), options, FieldTable::default());
        self.parts.push(in_time(consuming).await?);
        self.tags.push(tag);
        self.credit += usize::from(credit);
        Ok(())
    }

    /// Cancels all parts when they have more credit than they may.
    async fn shrink(&mut self, prefetch: u16) -> Result<(), Cause> {
        let held = self.credit + self.buffer.lock().out_before;
        if held > usize::from(prefetch) { self.cancel().await } else { Ok(()) }
    }

    /// Cancels all parts and gives back what they pushed and nobody took.
    async fn cancel(&mut self) -> Result<(), Cause> {
        for tag in std::mem::take(&mut self.tags) {
            in_time(self.channel.basic_cancel(tag, BasicCancelOptions::default())).await?;
        }
        // Each part ends behind its last delivery.
        let mut late = Vec::new();
        let ends = async {
            while let Some(item) = self.parts.next().await {
                late.push(item?.acker);
            }
            Ok(())
        };
        in_time(ends).await?;
        self.parts = SelectAll::new();
        self.credit = 0;
        let pushed = {
            let mut state = self.buffer.lock();
            state.round += 1;
            state.out_before += std::mem::take(&mut state.out);
            std::mem::take(&mut state.pushed)
        };
        for acker in pushed.into_iter().map(|pushed| pushed.acker).chain(late) {
            self.requeue(acker).await;
        }
        Ok(())
    }

    fn push(&mut self, delivery: lapin::message::Delivery) {
        self.buffer.lock().pushed.push_back(delivery);
        self.buffer.filled.notify_one();
    }

    async fn settle(&mut self, acker: Acker, life: u64, round: u64, requeue: bool) {
        {
            let mut state = self.buffer.lock();
            if life != state.life {
                return;
            }
            let out = if round == state.round { &mut state.out } else { &mut state.out_before };
            *out = out.saturating_sub(1);
        }
        if requeue {
            self.requeue(acker).await;
        } else {
            self.settling.push(Box::pin(async move { acker.ack(BasicAckOptions::default()).await }));
        }
    }

    async fn requeue(&mut self, acker: Acker) {
        // One after the other: lapin may swap those that are under way together, and quorum queues keep the order
        // in which messages come back. Acknowledgements have no order.
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        match in_time(acker.nack(options)).await {
            Ok(settled) => settled_as(Ok(settled), &self.queue),
            Err(error) => debug!(queue = self.queue, error = &*error, "a message couldn't be given back"),
        }
    }

    async fn finish_settling(&mut self) {
        let queue = self.queue.clone();
        let all = async {
            while let Some(settled) = self.settling.next().await {
                settled_as(settled, &queue);
            }
            Ok(())
        };
        if let Err(error) = in_time(all).await {
            debug!(queue, error = &*error, "some messages couldn't be settled; they come again");
        }
    }
}

/// A message that can't be settled any more comes again, which is harmless.
fn settled_as(settled: lapin::Result<bool>, queue: &str) {
    match settled {
        Ok(true) => {}
        Ok(false) => debug!(queue, "a message was the broker's again before it was settled"),
        Err(error) => debug!(queue, error = &error as &dyn std::error::Error, "a message couldn't be settled"),
    }
}

fn message_of(delivery: lapin::message::Delivery) -> Message {
    let properties = delivery.properties;
    let text = |text: &Option<ShortString>| text.as_ref().map_or_else(String::new, ToString::to_string);
    let traceparent = properties.headers().as_ref().and_then(|headers| headers.inner().get(TRACEPARENT));
    Message {
        content_type: text(properties.content_type()),
        id: text(properties.message_id()),
        traceparent: traceparent.and_then(super::text_of),
        body: Bytes::from(delivery.data),
    }
}
