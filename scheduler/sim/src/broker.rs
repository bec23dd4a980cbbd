//! The simulated broker: messages are late, swapped, doubled and lost; queues and connections go away.
//!
//! It pushes up to `prefetch` messages to a consumer whether or not that one is awake, as real brokers do.
//! What was pushed and not settled comes again when the consumer goes, unless the broker forgot it.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use gristmill_backends::broker::{Broker, BrokerError, Consumer, Delivery, Message, Settle};
use gristmill_protocol::message::Assignment;
use gristmill_protocol::wire;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::process::{Blow, Moment, Process};
use crate::store::Published;
use crate::trace::Trace;

/// How badly the broker treats messages, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    pub loses: u64,
    pub doubles: u64,
    pub swaps: u64,
    pub delays: u64,
}

/// The broker of an execution.
#[derive(Debug)]
pub struct SimBroker {
    inner: Mutex<Inner>,
    /// When attempts were last published.
    pub published: Published,
    trace: Trace,
}

#[derive(Debug)]
struct Inner {
    queues: BTreeMap<String, VecDeque<(Message, bool)>>,
    consumers: BTreeMap<u64, Consuming>,
    last: u64,
    /// How often the broker was started.
    starts: u64,
    up: bool,
    manners: Manners,
    dice: Dice,
}

#[derive(Debug)]
struct Consuming {
    queue: String,
    process: String,
    prefetch: u16,
    /// Pushed and not settled, by number.
    unsettled: BTreeMap<u64, Message>,
    /// Pushed and not taken by the consumer yet.
    pushed: VecDeque<(u64, bool)>,
    waker: Option<Waker>,
    broken: bool,
}

impl SimBroker {
    /// A broker without messages.
    pub fn new(dice: Dice, manners: Manners, trace: Trace) -> Arc<SimBroker> {
        let inner =
            Inner { queues: BTreeMap::new(), consumers: BTreeMap::new(), last: 0, starts: 0, up: true, manners, dice };
        Arc::new(SimBroker { inner: Mutex::new(inner), published: Published::default(), trace })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the attempts that a message assigns.
    fn note(&self, message: &Message) {
        let Ok(assignment) = wire::decode::<Assignment>("an assignment", &message.body) else { return };
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.extend(assignment.attempts().map(|attempt| (attempt, Instant::now())));
    }

    /// Changes the broker, then pushes what can be pushed.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        let wakers = inner.push();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// The broker ends and starts again after `down_ms`, with its messages or without.
    pub async fn restart(self: &Arc<SimBroker>, down_ms: u64, forgets: bool) {
        self.trace.say(|| format!("the broker is down for {down_ms} ms; forgets its messages: {forgets}"));
        self.change(|inner| {
            inner.up = false;
            inner.break_consumers(|_| true, !forgets);
            if forgets {
                inner.queues.clear();
            }
        });
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        self.change(|inner| {
            inner.up = true;
            inner.starts += 1;
        });
    }

    /// Somebody deletes a queue and what is in it; who consumed it learns that it is gone.
    pub fn delete_queue(&self, queue: &str) {
        self.trace.say(|| format!("queue `{queue}` is deleted"));
        self.change(|inner| {
            inner.break_consumers(|consumer| consumer.queue == queue, false);
            inner.queues.remove(queue);
        });
    }

    /// The connections of a process are cut.
    pub fn cut(&self, process: &Process) {
        self.change(|inner| inner.break_consumers(|consumer| consumer.process == process.name, true));
    }

    /// Nothing is in the way of messages any more.
    pub fn heal(&self) {
        self.lock().manners = Manners::default();
    }
}

impl Inner {
    /// Gives messages to consumers with credit, in turns.
    fn push(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        if !self.up {
            return wakers;
        }
        for (name, queue) in &mut self.queues {
            while !queue.is_empty() {
                let has_credit = |consumer: &Consuming| {
                    consumer.queue == *name
                        && !consumer.broken
                        && consumer.unsettled.len() < usize::from(consumer.prefetch)
                };
                let free: Vec<u64> =
                    self.consumers.iter().filter(|(_, consumer)| has_credit(consumer)).map(|(id, _)| *id).collect();
                let Some(id) = self.dice.pick(&free).copied() else { break };
                let (Some((message, again)), Some(consumer)) = (queue.pop_front(), self.consumers.get_mut(&id)) else {
                    break;
                };
                self.last += 1;
                consumer.unsettled.insert(self.last, message);
                consumer.pushed.push_back((self.last, again));
                wakers.extend(consumer.waker.take());
            }
        }
        wakers
    }

    fn break_consumers(&mut self, which: impl Fn(&Consuming) -> bool, requeue: bool) {
        let ids: Vec<u64> = self.consumers.iter().filter(|(_, consumer)| which(consumer)).map(|(id, _)| *id).collect();
        for id in ids {
            self.empty_consumer(id, requeue);
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.broken = true;
                if let Some(waker) = consumer.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Takes all that was pushed to a consumer from it.
    fn empty_consumer(&mut self, id: u64, requeue: bool) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.pushed.clear();
        let unsettled = std::mem::take(&mut consumer.unsettled);
        if requeue {
            let queue = self.queues.entry(consumer.queue.clone()).or_default();
            for message in unsettled.into_values().rev() {
                queue.push_front((message, true));
            }
        }
    }

    fn enqueue(&mut self, name: &str, message: Message) {
        let (dice, manners) = (&mut self.dice, self.manners);
        if dice.chance(manners.loses) {
            return;
        }
        let copies = 1 + u64::from(dice.chance(manners.doubles));
        let queue = self.queues.entry(name.to_owned()).or_default();
        for _ in 0..copies {
            let place =
                if dice.chance(manners.swaps) { dice.below(queue.len() as u64 + 1) as usize } else { queue.len() };
            queue.insert(place, (message.clone(), false));
        }
    }

    fn settle(&mut self, consumer: u64, number: u64, requeue: bool) {
        let Some(consumer) = self.consumers.get_mut(&consumer) else { return };
        let Some(message) = consumer.unsettled.remove(&number) else { return };
        if requeue {
            self.queues.entry(consumer.queue.clone()).or_default().push_front((message, true));
        }
    }
}

/// The broker as one process sees it.
#[derive(Clone, Debug)]
pub struct BrokerHandle {
    broker: Arc<SimBroker>,
    process: Arc<Process>,
}

impl BrokerHandle {
    pub fn new(broker: Arc<SimBroker>, process: Arc<Process>) -> BrokerHandle {
        BrokerHandle { broker, process }
    }

    fn unavailable(&self, verb: &'static str, queue: &str) -> BrokerError {
        BrokerError::Unavailable { verb, queue: queue.to_owned(), source: "the connection is broken".into() }
    }

    fn is_reached(&self) -> bool {
        self.broker.lock().up && !self.process.is_cut()
    }
}

#[async_trait]
impl Broker for BrokerHandle {
    async fn publish(&self, queue: &str, message: Message) -> Result<(), BrokerError> {
        let mut blows_after: Option<Blow> = None;
        if let Some(fuse) = self.process.count_call("publish") {
            self.broker.trace.say(|| format!("{} blows at publish: {fuse:?}", self.process.name));
            match fuse.moment {
                Moment::Before => self.process.blow(fuse.blow),
                Moment::After => blows_after = Some(fuse.blow),
            }
            if self.process.is_dead() {
                return std::future::pending().await;
            }
            if self.process.is_stopped() {
                // It isn't polled again before it goes on.
                tokio::task::yield_now().await;
            }
        }
        let delay_ms = {
            let mut inner = self.broker.lock();
            let delays = inner.manners.delays;
            inner.dice.below(3) + if inner.dice.chance(delays) { inner.dice.below(2_000) } else { 0 }
        };
        let (sender, answer) = oneshot::channel();
        let (handle, queue) = (self.clone(), queue.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            let result = if handle.is_reached() {
                handle.broker.trace.say(|| format!("{} publishes {}", handle.process.name, message.id));
                handle.broker.note(&message);
                handle.broker.change(|inner| inner.enqueue(&queue, message));
                Ok(())
            } else {
                Err(handle.unavailable("publish to", &queue))
            };
            if let Some(blow) = blows_after {
                handle.process.blow(blow);
            }
            drop(sender.send(result));
        });
        match answer.await {
            Ok(result) => result,
            Err(_) => std::future::pending().await,
        }
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !self.is_reached() {
            return Err(self.unavailable("consume", queue));
        }
        let id = self.broker.change(|inner| {
            inner.last += 1;
            let consumer = Consuming {
                queue: queue.to_owned(),
                process: self.process.name.clone(),
                prefetch,
                unsettled: BTreeMap::new(),
                pushed: VecDeque::new(),
                waker: None,
                broken: false,
            };
            inner.consumers.insert(inner.last, consumer);
            inner.last
        });
        Ok(Box::new(SimConsumer { handle: self.clone(), queue: queue.to_owned(), id }))
    }

    async fn ready(&self, queue: &str) -> Result<u64, BrokerError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if !self.is_reached() {
            return Err(self.unavailable("look at", queue));
        }
        Ok(self.broker.lock().queues.get(queue).map_or(0, |queue| queue.len() as u64))
    }

    fn generation(&self) -> u64 {
        self.broker.lock().starts
    }
}

struct SimConsumer {
    handle: BrokerHandle,
    queue: String,
    id: u64,
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let (handle, id) = (&self.handle, self.id);
        let taken = poll_fn(|context| {
            let mut inner = handle.broker.lock();
            let Some(consumer) = inner.consumers.get_mut(&id).filter(|consumer| !consumer.broken) else {
                return Poll::Ready(None);
            };
            match consumer.pushed.pop_front() {
                Some((number, again)) => {
                    let message = consumer.unsettled.get(&number).cloned();
                    Poll::Ready(message.map(|message| (number, message, again)))
                }
                None => {
                    consumer.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        match taken.await {
            Some((number, message, again)) => {
                let settle = SimSettle { broker: handle.broker.clone(), consumer: id, number };
                Ok(Delivery::new(message, again, Box::new(settle)))
            }
            None => Err(handle.unavailable("consume", &self.queue)),
        }
    }

    async fn set_prefetch(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        self.handle.broker.change(|inner| {
            let Some(consumer) = inner.consumers.get_mut(&self.id) else { return };
            consumer.prefetch = prefetch;
            // What was pushed beyond the new credit goes back.
            while consumer.unsettled.len() > usize::from(prefetch)
                && let Some((number, _)) = consumer.pushed.pop_back()
                && let Some(message) = consumer.unsettled.remove(&number)
            {
                inner.queues.entry(consumer.queue.clone()).or_default().push_front((message, true));
            }
        });
        Ok(())
    }
}

impl Drop for SimConsumer {
    fn drop(&mut self) {
        self.handle.broker.change(|inner| {
            inner.empty_consumer(self.id, true);
            inner.consumers.remove(&self.id);
        });
    }
}

struct SimSettle {
    broker: Arc<SimBroker>,
    consumer: u64,
    number: u64,
}

impl Settle for SimSettle {
    fn ack(self: Box<Self>) {
        self.broker.change(|inner| inner.settle(self.consumer, self.number, false));
    }

    fn requeue(self: Box<Self>) {
        self.broker.change(|inner| inner.settle(self.consumer, self.number, true));
    }
}
