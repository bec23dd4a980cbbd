//! Which schedulers share the shards: each says so every second, and is forgotten when it has been silent for as long
//! as a shard is owned without being renewed.

use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::SHARD_LEASE_MS;

use super::StoreModel;
use crate::state::SchedulerView;

impl StoreModel {
    /// A scheduler lives. Returns all that do, by instance.
    pub fn announce(&mut self, scheduler: SchedulerView, now: Timestamp) -> Vec<SchedulerView> {
        self.schedulers.insert(scheduler.instance, (now, scheduler));
        self.schedulers.retain(|_, (seen, _)| now.since(*seen) <= SHARD_LEASE_MS);
        self.schedulers(now)
    }

    /// The schedulers that live, by instance.
    pub fn schedulers(&self, now: Timestamp) -> Vec<SchedulerView> {
        let live = self.schedulers.values().filter(|(seen, _)| now.since(*seen) <= SHARD_LEASE_MS);
        live.map(|(_, view)| view.clone()).collect()
    }

    /// Forgets a scheduler that has shut down in order.
    pub fn retire(&mut self, instance: u64) {
        self.schedulers.remove(&instance);
    }
}
