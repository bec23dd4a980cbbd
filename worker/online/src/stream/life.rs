//! One life of a stream: a channel and what was delivered on it, until something ends.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use gristmill_backends::broker::rabbitmq::{Cause, Line, QueueType};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel, Consumer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::lag::{self, Reached};
use super::message::{Outcome, Work};
use super::order::Order;
use super::progress::{Held, STEP};
use super::{Poison, Source, StreamSettings, address};
use crate::letter;
use crate::outlets::Outlets;
use crate::scoring::Scoring;

/// After how long without a delivery the broker is asked whether our channel lives: an end that nobody told us of is
/// noticed then.
const SILENCE: Duration = Duration::from_secs(10);
/// How long an answer of the broker may take.
const CALL: Duration = Duration::from_secs(5);
/// How long a beginning may take, which is a connection and some answers.
const BEGIN: Duration = Duration::from_secs(30);

/// Why a life has ended.
pub enum End {
    /// We were asked to.
    Stopped,
    /// Another process has the source.
    Deposed,
    Broken(Cause),
}

pub struct Life {
    pub scoring: Arc<Scoring>,
    pub settings: Arc<StreamSettings>,
    pub taking: Arc<Line>,
    pub outlets: Arc<Outlets>,
}

/// Deliveries, by a task that owns the consumer and sees to its end, however ours comes: lapin cancels a consumer that is
/// dropped, and the broker would give what comes next to another consumer before it takes back what is unsettled. So the
/// channel is closed first.
struct Feed {
    deliveries: mpsc::Receiver<lapin::Result<Delivery>>,
    keeper: JoinHandle<()>,
}

/// What was delivered and isn't done.
struct Hands {
    order: Order,
    open: BTreeMap<u64, Open>,
    tasks: JoinSet<(u64, Outcome)>,
    /// Acknowledgements on their way; nothing waits for one.
    settling: FuturesUnordered<BoxFuture<'static, Result<(), Cause>>>,
    /// The offset after the last one that was delivered, or where a stream was left.
    next: Option<u64>,
    /// How often the stream was made anew.
    made: u64,
    reached: Arc<Reached>,
}

struct Open {
    acker: Acker,
    offset: Option<u64>,
    sent_ms: u64,
    turn: Option<oneshot::Sender<()>>,
}

impl Life {
    /// Lives until something ends. Returns why, and whether anything was delivered. What was at hand and isn't done
    /// comes again.
    pub async fn live<S: Future<Output = ()>>(&self, held: &mut Option<Held>, mut stop: Pin<&mut S>) -> (End, bool) {
        let next = held.as_ref().and_then(Held::next);
        if let Some(held) = held.as_mut()
            && !held.renew(next).await
        {
            return (End::Deposed, false);
        }
        let begun = tokio::select! {
            () = &mut stop => return (End::Stopped, false),
            begun = tokio::time::timeout(BEGIN, self.begin(held)) => begun,
        };
        let (channel, mut feed, next) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => return (End::Broken(error), false),
            Err(error) => return (End::Broken(error.into()), false),
        };
        let reached = Arc::new(Reached::new(next));
        let watch =
            lag::watch(Arc::clone(&self.taking), Arc::clone(&self.settings), Arc::clone(&reached), &self.scoring);
        let mut watching = JoinSet::new();
        watching.spawn(watch);
        let (order, open, tasks, settling) = Default::default();
        let made = held.as_ref().map_or(0, Held::made);
        let mut hands = Hands { order, open, tasks, settling, next, made, reached };
        let mut drained = None;
        let end = match self.run(&channel, &mut feed, &mut hands, held, stop, &mut drained).await {
            // Whatever cuts it short, it was asked to stop, and what is left comes again.
            End::Broken(error) if drained.is_some() => {
                tracing::warn!(stream = self.settings.name, error = &*error, "ended before all was done");
                End::Stopped
            }
            End::Deposed if drained.is_some() => {
                tracing::warn!(stream = self.settings.name, "ended before all was done: another process has it");
                End::Stopped
            }
            end => end,
        };
        let worked = hands.next != next || hands.order.reached() > 0;
        hands.tasks.shutdown().await;
        watching.shutdown().await;
        if !matches!(end, End::Broken(_)) {
            // Whoever scores it tells how far behind it is.
            lag::forget(&self.scoring, &self.settings.name);
        }
        if let (Some(held), End::Stopped | End::Broken(_)) = (held.as_mut(), &end) {
            // Whether it still is ours shows when it begins again.
            held.renew(hands.next_offset()).await;
        }
        feed.end().await;
        (end, worked)
    }

    /// A channel that consumes, and the offset with which it begins.
    async fn begin(&self, held: &mut Option<Held>) -> Result<(Channel, Feed, Option<u64>), Cause> {
        let (queue, mut declared, mut consumed) =
            (self.settings.source.queue(), FieldTable::default(), FieldTable::default());
        let text = |text: &str| AMQPValue::LongString(text.into());
        match &self.settings.source {
            Source::Queue { queue_type, .. } => {
                declared = queue_type.arguments();
                declared.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            }
            Source::Stream { .. } => {
                declared.insert("x-queue-type".into(), text("stream"));
            }
        }
        lag::ensure(&self.taking, queue, declared).await?;
        if let Some(held) = held
            && let Some(next) = held.next()
            && lag::is_anew(&self.taking, queue, next).await?
        {
            let stream = &self.settings.name;
            tracing::error!(
                stream,
                queue,
                next,
                "a stream was deleted and made anew; it is scored from its first message"
            );
            if !held.restart().await {
                return Err("another process has the stream".into());
            }
        }
        let next = held.as_ref().and_then(Held::next);
        if let Source::Stream { .. } = &self.settings.source {
            let from = next.map_or_else(|| text("first"), |next| AMQPValue::LongLongInt(next.cast_signed()));
            consumed.insert("x-stream-offset".into(), from);
        }
        if !matches!(self.settings.poison, Poison::DeadLetter { to: Some(_) }) {
            // What is put aside is kept as safe as what it was.
            let queue_type = match &self.settings.source {
                Source::Queue { queue_type, .. } => *queue_type,
                // A stream is replicated as quorum queues are, and can't be taken from.
                Source::Stream { .. } => QueueType::Quorum,
            };
            let dead = self.settings.dead_letter_queue();
            lag::ensure(&self.taking, &dead, queue_type.arguments()).await?;
        }
        let channel = self.taking.channel().await?;
        let begin = async {
            channel.basic_qos(self.settings.at_once_max.max(1), BasicQosOptions::default()).await?;
            channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), consumed).await
        };
        let consumer = tokio::time::timeout(CALL, begin).await??;
        Ok((channel.clone(), Feed::start(channel, consumer), next))
    }

    /// Scores until something ends. `drained` is set when `stop` has ended, which must not be asked again then: by when
    /// what is at hand must be done. The consumer isn't cancelled meanwhile: the broker would give what comes next to
    /// another before what is at hand is out.
    async fn run<S: Future<Output = ()>>(
        &self,
        channel: &Channel,
        feed: &mut Feed,
        hands: &mut Hands,
        held: &mut Option<Held>,
        mut stop: Pin<&mut S>,
        drained: &mut Option<Instant>,
    ) -> End {
        let mut heard = Instant::now();
        let mut renewed = Instant::now();
        loop {
            if drained.is_some() && hands.tasks.is_empty() && hands.settling.is_empty() {
                return End::Stopped;
            }
            tokio::select! {
                biased;
                () = &mut stop, if drained.is_none() => *drained = Some(Instant::now() + self.settings.drain_max),
                Some(done) = hands.tasks.join_next(), if !hands.tasks.is_empty() => {
                    let (number, outcome) = match done {
                        Ok(done) => done,
                        Err(error) => return End::Broken(error.into()),
                    };
                    self.scoring.metrics().stream_messages.with(&[&self.settings.name, outcome.name()]).add(1);
                    hands.done(number);
                }
                Some(settled) = hands.settling.next(), if !hands.settling.is_empty() => {
                    if let Err(error) = settled {
                        return End::Broken(error);
                    }
                }
                () = tokio::time::sleep_until(renewed + STEP), if held.is_some() => {
                    renewed = Instant::now();
                    if let Some(held) = held && !held.renew(hands.next_offset()).await {
                        return End::Deposed;
                    }
                }
                item = feed.deliveries.recv(), if drained.is_none() => match item {
                    Some(Ok(delivery)) => {
                        heard = Instant::now();
                        self.take(hands, delivery);
                    }
                    Some(Err(error)) => return End::Broken(error.into()),
                    None => return End::Broken("the broker cancelled it: was the queue deleted?".into()),
                },
                () = tokio::time::sleep_until(heard + SILENCE), if drained.is_none() => {
                    heard = Instant::now();
                    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
                    let queue = self.settings.source.queue().into();
                    match tokio::time::timeout(CALL, channel.queue_declare(queue, passive, FieldTable::default())).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return End::Broken(error.into()),
                        Err(error) => return End::Broken(error.into()),
                    }
                }
                () = tokio::time::sleep_until(drained.unwrap_or_else(Instant::now)), if drained.is_some() => {
                    tracing::warn!(stream = self.settings.name, open = hands.order.open(), "ended before all was done");
                    return End::Stopped;
                }
            }
        }
    }

    /// Begins with a message.
    fn take(&self, hands: &mut Hands, delivery: Delivery) {
        let offset = address::offset(&delivery);
        if let (Some(offset), Some(next)) = (offset, hands.next)
            && offset < next
        {
            // The broker begins with a chunk, and this is the part of it that was done before.
            return hands.settle(delivery.acker);
        }
        hands.next = offset.map(|offset| offset + 1).or(hands.next);
        let key = self.settings.key.of(&delivery);
        let (number, first) = hands.order.arrive(key.clone());
        let (sender, receiver) = oneshot::channel();
        let turn = (!first).then_some(receiver);
        let sent_ms = letter::sent_ms(&delivery.properties).map_or_else(letter::now_ms, |(sent, _)| sent);
        let open = Open { acker: delivery.acker.clone(), offset, sent_ms, turn: Some(sender) };
        hands.open.insert(number, open);
        hands.told();
        let (scoring, settings, outlets) =
            (Arc::clone(&self.scoring), Arc::clone(&self.settings), Arc::clone(&self.outlets));
        let made = hands.made;
        hands.tasks.spawn(async move {
            let work = Work { scoring: &scoring, settings: &settings, outlets: &outlets, made };
            (number, work.handle(delivery, key, turn).await)
        });
    }
}

impl Feed {
    fn start(channel: Channel, mut consumer: Consumer) -> Feed {
        // One: what waits here has been delivered and is within the prefetch.
        let (sender, deliveries) = mpsc::channel(1);
        let keeper = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => break,
                    item = consumer.next() => match item {
                        Some(item) => if sender.send(item).await.is_err() { break },
                        None => break,
                    },
                }
            }
            // What is unsettled goes back to its place at once, if the broker can hear it.
            drop(tokio::time::timeout(CALL, channel.close(200, "OK".into())).await);
            drop(consumer);
        });
        Feed { deliveries, keeper }
    }

    /// Waits until the broker has taken back what is unsettled, or can't.
    async fn end(self) {
        drop(self.deliveries);
        if let Err(error) = self.keeper.await {
            tracing::error!(error = &error as &dyn std::error::Error, "a consumer's task has failed");
        }
    }
}

impl Hands {
    /// A message is out: the next of its key may go, and the broker may forget it.
    fn done(&mut self, number: u64) {
        let next = self.order.done(number);
        if let Some(turn) = next.and_then(|next| self.open.get_mut(&next)?.turn.take()) {
            // It waits, or hasn't come to that yet.
            let _ = turn.send(());
        }
        let open = self.open.remove(&number);
        self.told();
        if let Some(open) = open {
            self.settle(open.acker);
        }
    }

    fn settle(&self, acker: Acker) {
        self.settling.push(Box::pin(async move { acked(&acker).await }));
    }

    /// The offset below which all is done.
    fn next_offset(&self) -> Option<u64> {
        self.open.first_key_value().map_or(self.next, |(_, open)| open.offset)
    }

    /// Tells whoever watches the lag.
    fn told(&self) {
        self.reached.next.store(self.next_offset().unwrap_or(0), Ordering::Relaxed);
        self.reached.at_hand.store(self.open.len() as u64, Ordering::Relaxed);
        let oldest = self.open.first_key_value().map_or(0, |(_, open)| open.sent_ms);
        self.reached.oldest_ms.store(oldest, Ordering::Relaxed);
    }
}

async fn acked(acker: &Acker) -> Result<(), Cause> {
    match tokio::time::timeout(CALL, acker.ack(BasicAckOptions::default())).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err("a message was the broker's again before it was done".into()),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}
