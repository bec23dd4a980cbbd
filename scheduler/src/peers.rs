//! How schedulers share shards and room: each says every second what it has, and takes its part of the rest.

use std::collections::BTreeMap;

use gristmill_backends::state::{SchedulerView, WorkerView};
use gristmill_protocol::wire;
use gristmill_scheduler_core::PoolSeen;

/// How many of `shards` one of `schedulers` owns at the most. Together they own all of them.
pub(crate) fn fair_share(shards: usize, schedulers: usize) -> usize {
    shards.div_ceil(schedulers.max(1))
}

/// What the live workers offer, and what the schedulers other than `instance` ask for, by pool.
pub fn pools_seen(workers: &[WorkerView], schedulers: &[SchedulerView], instance: u64) -> BTreeMap<String, PoolSeen> {
    let mut pools: BTreeMap<String, PoolSeen> = BTreeMap::new();
    for worker in workers.iter().filter(|worker| !worker.draining) {
        for pool in &worker.pools {
            let seen = pools.entry(pool.clone()).or_default();
            seen.workers += 1;
            seen.slots += worker.slots;
        }
    }
    for other in schedulers.iter().filter(|view| view.instance != instance) {
        for (pool, demand) in &other.demand {
            pools.entry(pool.clone()).or_default().elsewhere += demand;
        }
    }
    pools
}

/// The version of messages that all live workers read: the lowest, and that which everybody reads where none lives.
pub(crate) fn all_read(workers: &[WorkerView]) -> u8 {
    workers.iter().map(|worker| worker.about.reads.max(wire::BASE)).min().unwrap_or(wire::BASE)
}

#[cfg(test)]
mod tests {
    use gristmill_backends::state::WorkerAbout;
    use gristmill_protocol::{Timestamp, WorkerId};

    use super::*;

    #[test]
    fn the_shares_cover_all_shards_and_differ_little() {
        for schedulers in 1..=20 {
            let share = fair_share(16, schedulers);
            assert!(share * schedulers >= 16 && share * schedulers < 16 + schedulers);
        }
        assert_eq!(fair_share(16, 0), 16, "before anything is heard");
    }

    #[test]
    fn messages_are_written_as_the_oldest_worker_reads_them() {
        let worker = |reads| WorkerView {
            worker: WorkerId(1),
            pools: Vec::new(),
            slots: 1,
            draining: false,
            about: WorkerAbout { reads, ..WorkerAbout::default() },
            seen: Timestamp(1),
            held: Vec::new(),
        };
        assert_eq!(all_read(&[]), 1);
        assert_eq!(all_read(&[worker(2), worker(3)]), 2);
        assert_eq!(all_read(&[worker(2), worker(0)]), 1, "one of before versions were told reads the first");
    }

    #[test]
    fn what_the_others_ask_for_counts_and_ones_own_does_not() {
        let pools = vec!["default".to_owned()];
        let worker = WorkerView {
            worker: WorkerId(1),
            pools: pools.clone(),
            slots: 3,
            draining: false,
            about: WorkerAbout::default(),
            seen: Timestamp(1),
            held: Vec::new(),
        };
        let leaving = WorkerView { worker: WorkerId(2), draining: true, ..worker.clone() };
        let scheduler = |instance, demand| {
            let demand = [("default".to_owned(), demand)].into();
            SchedulerView { instance, shards: 8, demand, backlog: BTreeMap::new() }
        };
        let seen = pools_seen(&[worker, leaving], &[scheduler(1, 5), scheduler(2, 7)], 1);
        assert_eq!(seen["default"], PoolSeen { workers: 1, slots: 3, elsewhere: 7 });
    }
}
