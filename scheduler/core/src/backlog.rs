//! How much work a pool has before it, in time: what a pool is scaled by.
//!
//! A step's own last reports say how long its tasks take. A step that has none yet is expected to take as long as
//! the steps of its name did in earlier runs of its pipeline: most steps are one task, so a run by itself would
//! never know.

use std::collections::{BTreeMap, HashMap};

use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::DURATIONS_REMEMBERED;

use crate::group::Kind;
use crate::scheduler::Scheduler;

/// The work of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolBacklog {
    /// Tasks that could go out if a slot were free. Those that wait for a named limit can't, and don't count.
    pub ready: u64,
    /// Tasks that are out.
    pub out: u64,
    /// Microseconds of a slot that both together are expected to take still, as far as that is known.
    pub work_us: u64,
    /// How many of both together take nobody knows how long.
    pub unknown: u64,
}

/// Mean durations of tasks, by pipeline, step and kind of group. What is remembered changes no decision on a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    places: HashMap<(String, String, u8), u32>,
    means_us: Vec<Option<u64>>,
}

/// Where a step's durations are remembered; nowhere when too many are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered(Option<u32>);

impl Durations {
    pub(crate) fn place(&mut self, pipeline: &str, step: &str, kind: Kind) -> Remembered {
        let key = (pipeline.to_owned(), step.to_owned(), kind as u8);
        if let Some(&place) = self.places.get(&key) {
            return Remembered(Some(place));
        }
        if self.means_us.len() >= DURATIONS_REMEMBERED {
            return Remembered(None);
        }
        let place = self.means_us.len() as u32;
        self.means_us.push(None);
        self.places.insert(key, place);
        Remembered(Some(place))
    }

    /// One eighth of the way to what was measured, as retransmission timers smooth round trips (RFC 6298).
    pub(crate) fn record(&mut self, Remembered(place): Remembered, slot_us: u64) {
        let Some(mean_us) = place.and_then(|place| self.means_us.get_mut(place as usize)) else { return };
        *mean_us = Some(mean_us.map_or(slot_us, |mean| mean - mean / 8 + slot_us / 8).max(1));
    }

    pub(crate) fn mean_us(&self, Remembered(place): Remembered) -> Option<u64> {
        *self.means_us.get(place? as usize)?
    }
}

impl PoolBacklog {
    fn add(&mut self, count: u64, each_us: Option<u64>) {
        match each_us {
            Some(each_us) => self.work_us = self.work_us.saturating_add(count.saturating_mul(each_us)),
            None => self.unknown += count,
        }
    }
}

impl Scheduler {
    /// By pool, what is ready or out there; pools without any are left out. Costs a look at each run that is held.
    pub fn backlog(&self, now: Timestamp) -> BTreeMap<String, PoolBacklog> {
        let mut backlogs = vec![PoolBacklog::default(); self.shared.pools.len()];
        for run in self.runs.values().filter(|run| !run.cancelling) {
            let expected_us = |group: usize| {
                let remembered = run.remembered(group);
                run.timing_of(group).mean_us().or_else(|| self.shared.durations.mean_us(remembered))
            };
            for lane in run.lanes.iter().filter(|lane| lane.ready > 0) {
                let backlog = &mut backlogs[lane.pool];
                let mut room = self.shared.limits.room(&lane.limits).map_or(0, u64::from);
                for &group in &lane.groups {
                    let ready = u64::from(run.groups[group].ready()).min(room);
                    room -= ready;
                    backlog.ready += ready;
                    backlog.add(ready, expected_us(group));
                }
            }
            for (&task, out) in &run.out {
                let group = run.group_of(task);
                let backlog = &mut backlogs[run.lanes[usize::from(run.groups[group].lane)].pool];
                let elapsed_us = now.since(out.since) * 1_000;
                backlog.out += 1;
                backlog.add(1, expected_us(group).map(|each_us| each_us.saturating_sub(elapsed_us)));
            }
        }
        let named = self.shared.pools.iter().map(|(name, _)| name.clone()).zip(backlogs);
        named.filter(|(_, backlog)| backlog.ready + backlog.out > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_remembered_by_pipeline_step_and_kind_until_there_are_too_many() {
        let mut durations = Durations::default();
        let place = durations.place("nightly", "clean", Kind::Root);
        assert_eq!(durations.mean_us(place), None);
        durations.record(place, 800);
        durations.record(place, 1_600);
        assert_eq!(
            {
                let again = durations.place("nightly", "clean", Kind::Root);
                durations.mean_us(again)
            },
            Some(900)
        );
        let children = durations.place("nightly", "clean", Kind::Children);
        assert_eq!(durations.mean_us(children), None);
        for step in 0..DURATIONS_REMEMBERED {
            durations.place("other", &step.to_string(), Kind::Root);
        }
        let late = durations.place("late", "clean", Kind::Root);
        durations.record(late, 5);
        assert_eq!(durations.mean_us(late), None);
    }
}
