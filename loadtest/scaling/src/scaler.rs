//! Who says how many workers there should be.

use std::collections::VecDeque;

use gristmill_pools::policy::{Memory, Rules, Sight, decide};
use gristmill_protocol::Timestamp;

/// A way to scale.
#[derive(Clone, Debug)]
pub enum Scaler {
    /// Always so many.
    Fixed(u32),
    /// The real policy, asked as often as `gristmill pool` asks it.
    Policy(Rules),
    /// KEDA on the length of the queue.
    QueueLength(QueueRule),
}

/// KEDA's rule for queues and the autoscaler below it: `ceil(length / target)` replicas.
///
/// Defaults: a poll every 30 s and 300 s of cooldown before the last replica goes (KEDA, "ScaledObject specification");
/// the highest of the last 300 s when fewer are wanted, and at most twice as many or four more every 15 s, whichever is
/// more (Kubernetes, "Horizontal Pod Autoscaling", default behavior).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueRule {
    /// Messages a replica.
    pub target: f64,
    pub poll_ms: u64,
    pub stabilization_ms: u64,
    pub cooldown_ms: u64,
    pub max: u32,
}

impl QueueRule {
    /// The defaults, with the target at which the share of the queue of a replica of `slots` lasts for `drain_ms`.
    pub fn usual(max: u32, slots: u32, drain_ms: u64, task_ms: u32) -> QueueRule {
        let target = (f64::from(slots) * drain_ms as f64 / f64::from(task_ms)).max(1.0);
        QueueRule { target, poll_ms: 30_000, stabilization_ms: 300_000, cooldown_ms: 300_000, max }
    }

    /// Set as quick as its documents allow without flapping at every poll.
    pub fn quick(max: u32, slots: u32, drain_ms: u64, task_ms: u32) -> QueueRule {
        QueueRule {
            poll_ms: 5_000,
            stabilization_ms: 30_000,
            cooldown_ms: 30_000,
            ..QueueRule::usual(max, slots, drain_ms, task_ms)
        }
    }
}

/// Milliseconds between two synchronisations of the horizontal autoscaler.
const HPA_SYNC_MS: u64 = 15_000;

/// A scaler at work.
pub(crate) struct Scaling {
    scaler: Scaler,
    memory: Memory,
    polled_at: Option<u64>,
    synced_at: u64,
    length: u64,
    active_at: u64,
    wanted: VecDeque<(u64, u32)>,
    last: u32,
}

impl Scaling {
    pub(crate) fn new(scaler: Scaler) -> Scaling {
        let (memory, wanted) = (Memory::default(), VecDeque::new());
        Scaling { scaler, memory, polled_at: None, synced_at: 0, length: 0, active_at: 0, wanted, last: 0 }
    }

    /// Workers that there should be.
    pub(crate) fn wanted(&mut self, sight: &Sight) -> u32 {
        match self.scaler.clone() {
            Scaler::Fixed(workers) => workers,
            Scaler::Policy(rules) => decide(&rules, &mut self.memory, sight).wanted,
            Scaler::QueueLength(rule) => self.by_length(&rule, sight),
        }
    }

    /// The queue's length counts what is delivered and not acknowledged too, as KEDA's scaler for RabbitMQ does.
    fn by_length(&mut self, rule: &QueueRule, sight: &Sight) -> u32 {
        let Timestamp(now) = sight.now;
        let length = sight.ready + sight.out;
        // KEDA's own poll wakes the first replica and lets the last one go; in between the autoscaler asks by itself.
        if self.polled_at.is_none_or(|at| now >= at + rule.poll_ms) {
            self.polled_at = Some(now);
            self.length = length;
            if length > 0 {
                self.active_at = now;
                self.last = self.last.max(1);
            }
        }
        if now >= self.synced_at + HPA_SYNC_MS {
            self.synced_at = now;
            let wanted = ((length as f64 / rule.target).ceil() as u32).clamp(1, rule.max);
            self.wanted.push_back((now, wanted));
            while self.wanted.front().is_some_and(|(at, _)| now - at > rule.stabilization_ms) {
                self.wanted.pop_front();
            }
            let stable = self.wanted.iter().map(|(_, wanted)| *wanted).max().unwrap_or(1);
            if self.last > 0 {
                // More comes at once, up to the rate; fewer when no more were wanted for a while.
                let most = (self.last * 2).max(self.last + 4);
                self.last = if wanted > self.last { wanted.min(most) } else { stable.min(self.last) };
            }
        }
        if self.length == 0 && now - self.active_at >= rule.cooldown_ms {
            self.last = 0;
        }
        self.last
    }
}
