//! The broker inside one process: queues in memory, shared by whoever holds it.
//!
//! Messages stay in their queue until a consumer with credit asks for one, so nothing is hoarded and a
//! dropped `next()` can't lose anything. Consumers that wait are served in the order in which they began to.
//! Queues have no bound of their own: what is out in a pool is bounded by the scheduler's window.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use gristmill_protocol::limits::MESSAGE_BYTES_MAX;

use super::{Broker, BrokerError, Consumer, Delivery, Message, Settle};

/// Queues in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedBroker {
    queues: Arc<Mutex<BTreeMap<String, Arc<Queue>>>>,
}

impl EmbeddedBroker {
    /// A broker without any message.
    pub fn new() -> EmbeddedBroker {
        EmbeddedBroker::default()
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match queues.get(name) {
            Some(queue) => Arc::clone(queue),
            None => Arc::clone(queues.entry(name.to_owned()).or_default()),
        }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, queue: &str, message: Message) -> Result<(), BrokerError> {
        let bytes = message.body.len();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(BrokerError::TooLarge { queue: queue.to_owned(), bytes, limit: MESSAGE_BYTES_MAX });
        }
        self.queue(queue).change(|state| state.publish(message));
        Ok(())
    }

    async fn consume(&self, queue: &str, prefetch: u16) -> Result<Box<dyn Consumer>, BrokerError> {
        let queue = self.queue(queue);
        let id = queue.change(|state| state.add_consumer(prefetch));
        Ok(Box::new(EmbeddedConsumer { queue, id }))
    }

    async fn ready(&self, queue: &str) -> Result<u64, BrokerError> {
        Ok(self.queue(queue).lock().ready.len() as u64)
    }

    fn generation(&self) -> u64 {
        0
    }
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
}

/// A message's number in its queue: the order in which messages were published.
type Number = u64;
type ConsumerId = u64;

#[derive(Debug, Default)]
struct QueueState {
    /// In the order of their numbers, so that one that is given back goes where it was.
    ready: VecDeque<Ready>,
    last_number: Number,
    last_consumer: ConsumerId,
    unsettled: BTreeMap<Number, Unsettled>,
    consumers: BTreeMap<ConsumerId, ConsumerState>,
    /// Consumers that wait, longest first.
    waiting: VecDeque<(ConsumerId, Waker)>,
    /// How many consumers were woken for a message each and haven't come for it yet.
    woken: usize,
}

#[derive(Debug)]
struct Ready {
    number: Number,
    message: Message,
    redelivered: bool,
}

#[derive(Debug)]
struct Unsettled {
    consumer: ConsumerId,
    message: Message,
}

#[derive(Debug)]
struct ConsumerState {
    prefetch: u16,
    unsettled: u16,
    woken: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue, then wakes whoever that serves; not under the lock, which they need at once.
    fn change<T>(&self, change: impl FnOnce(&mut QueueState) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let wakers = state.wake_for_ready();
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        result
    }
}

impl QueueState {
    fn publish(&mut self, message: Message) {
        self.last_number += 1;
        self.ready.push_back(Ready { number: self.last_number, message, redelivered: false });
    }

    fn add_consumer(&mut self, prefetch: u16) -> ConsumerId {
        self.last_consumer += 1;
        self.consumers.insert(self.last_consumer, ConsumerState { prefetch, unsettled: 0, woken: false });
        self.last_consumer
    }

    /// Picks a waiting consumer with credit for each message that nobody was woken for.
    fn wake_for_ready(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.ready.len() > self.woken
            && let Some(place) = self.waiting.iter().position(|(id, _)| self.has_credit(*id))
            && let Some((id, waker)) = self.waiting.remove(place)
            && let Some(consumer) = self.consumers.get_mut(&id)
        {
            consumer.woken = true;
            self.woken += 1;
            wakers.push(waker);
        }
        wakers
    }

    fn has_credit(&self, id: ConsumerId) -> bool {
        self.consumers.get(&id).is_some_and(|consumer| consumer.unsettled < consumer.prefetch)
    }

    /// A consumer has come for its message or won't come: it waits no more.
    fn stop_waiting(&mut self, id: ConsumerId) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        let woken = self.consumers.get_mut(&id).is_some_and(|consumer| std::mem::replace(&mut consumer.woken, false));
        self.woken -= usize::from(woken);
    }

    fn poll_next(&mut self, id: ConsumerId, context: &Context<'_>) -> Poll<(Number, Message, bool)> {
        self.stop_waiting(id);
        // Messages for which others were woken are theirs: whoever waited longer is served first.
        if self.ready.len() > self.woken
            && self.has_credit(id)
            && let Some(Ready { number, message, redelivered }) = self.ready.pop_front()
            && let Some(consumer) = self.consumers.get_mut(&id)
        {
            consumer.unsettled += 1;
            self.unsettled.insert(number, Unsettled { consumer: id, message: message.clone() });
            return Poll::Ready((number, message, redelivered));
        }
        self.waiting.push_back((id, context.waker().clone()));
        Poll::Pending
    }

    /// Takes a message from those that are out; nothing when it was given back already.
    fn take_unsettled(&mut self, number: Number) -> Option<Message> {
        let Unsettled { consumer, message } = self.unsettled.remove(&number)?;
        if let Some(consumer) = self.consumers.get_mut(&consumer) {
            consumer.unsettled -= 1;
        }
        Some(message)
    }

    fn give_back(&mut self, number: Number) {
        if let Some(message) = self.take_unsettled(number) {
            let place = self.ready.partition_point(|ready| ready.number < number);
            self.ready.insert(place, Ready { number, message, redelivered: true });
        }
    }

    fn remove_consumer(&mut self, id: ConsumerId) {
        self.stop_waiting(id);
        let out: Vec<Number> = self
            .unsettled
            .iter()
            .filter(|(_, unsettled)| unsettled.consumer == id)
            .map(|(&number, _)| number)
            .collect();
        for number in out {
            self.give_back(number);
        }
        self.consumers.remove(&id);
    }
}

struct EmbeddedConsumer {
    queue: Arc<Queue>,
    id: ConsumerId,
}

/// Passes the turn on when a `next()` is dropped while it waits.
struct Waiting<'a> {
    consumer: &'a EmbeddedConsumer,
    served: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.served {
            self.consumer.queue.change(|state| state.stop_waiting(self.consumer.id));
        }
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let mut waiting = Waiting { consumer: self, served: false };
        let (number, message, redelivered) =
            poll_fn(|context| waiting.consumer.queue.change(|state| state.poll_next(waiting.consumer.id, context)))
                .await;
        waiting.served = true;
        let settle = EmbeddedSettle { queue: Arc::clone(&self.queue), number };
        Ok(Delivery::new(message, redelivered, Box::new(settle)))
    }

    async fn set_prefetch(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        self.queue.change(|state| {
            if let Some(consumer) = state.consumers.get_mut(&self.id) {
                consumer.prefetch = prefetch;
            }
        });
        Ok(())
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        self.queue.change(|state| state.remove_consumer(self.id));
    }
}

struct EmbeddedSettle {
    queue: Arc<Queue>,
    number: Number,
}

impl Settle for EmbeddedSettle {
    fn ack(self: Box<Self>) {
        self.queue.change(|state| {
            state.take_unsettled(self.number);
        });
    }

    fn requeue(self: Box<Self>) {
        self.queue.change(|state| state.give_back(self.number));
    }
}
