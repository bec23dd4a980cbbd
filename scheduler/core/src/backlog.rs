//! How much work a pool has before it, in time: what a pool is scaled by.
//!
//! A step's own last reports say how long its tasks take. A step that has none yet is expected to take as long as
//! the steps of its name did in earlier runs of its pipeline: most steps are one task, so a run by itself would
//! never know. A task that grew children in earlier runs will again, and their work is as good as there: runs that
//! queue behind others are seen by what they will be.

use std::collections::{BTreeMap, HashMap};

use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::DURATIONS_REMEMBERED;

use crate::group::Kind;
use crate::run::Place;
use crate::scheduler::Scheduler;

/// The work of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolBacklog {
    /// Tasks that could go out if a slot were free. Those that wait for a named limit can't, and don't count.
    pub ready: u64,
    /// Tasks that are out.
    pub out: u64,
    /// Microseconds of a slot that both together are expected to take still, and the children that they will grow into,
    /// as far as that is known.
    pub work_us: u64,
    /// How many of both together, and of their children, take nobody knows how long.
    pub unknown: u64,
}

/// Mean durations of tasks, and how many children they grow, by pipeline, step and kind of group. What is remembered
/// changes no decision on a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durations {
    places: HashMap<(String, String, u8), u32>,
    means: Vec<Mean>,
}

/// What tasks of one place did on average.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    duration_us: Option<u64>,
    /// Thousandths of a child.
    children_milli: Option<u64>,
}

/// What a task is expected to take by itself, and to grow into.
#[derive(Clone, Copy, Debug)]
struct Expected {
    each_us: Option<u64>,
    children_milli: u64,
    child_us: Option<u64>,
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
        if self.means.len() >= DURATIONS_REMEMBERED {
            return Remembered(None);
        }
        let place = self.means.len() as u32;
        self.means.push(Mean::default());
        self.places.insert(key, place);
        Remembered(Some(place))
    }

    /// A task took so long.
    pub(crate) fn record(&mut self, place: Remembered, slot_us: u64) {
        if let Some(mean) = self.at(place) {
            mean.duration_us = Some(mean.duration_us.map_or(slot_us, |mean| towards(mean, slot_us)).max(1));
        }
    }

    /// A task grew so many children.
    pub(crate) fn grew(&mut self, place: Remembered, children: u32) {
        if let Some(mean) = self.at(place) {
            let milli = u64::from(children) * 1_000;
            mean.children_milli = Some(mean.children_milli.map_or(milli, |mean| towards(mean, milli)));
        }
    }

    fn at(&mut self, Remembered(place): Remembered) -> Option<&mut Mean> {
        self.means.get_mut(place? as usize)
    }

    pub(crate) fn mean_us(&self, place: Remembered) -> Option<u64> {
        self.mean(place).duration_us
    }

    fn mean(&self, Remembered(place): Remembered) -> Mean {
        place.and_then(|place| self.means.get(place as usize)).copied().unwrap_or_default()
    }
}

/// One eighth of the way to what was measured, as retransmission timers smooth round trips (RFC 6298).
fn towards(mean: u64, measured: u64) -> u64 {
    mean - mean / 8 + measured / 8
}

impl PoolBacklog {
    /// So many tasks, each `elapsed_us` under way.
    fn add(&mut self, count: u64, expected: Expected, elapsed_us: u64) {
        self.add_work(count, expected.each_us.map(|each_us| each_us.saturating_sub(elapsed_us)));
        self.add_work(count.saturating_mul(expected.children_milli) / 1_000, expected.child_us);
    }

    fn add_work(&mut self, count: u64, each_us: Option<u64>) {
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
            let durations = &self.shared.durations;
            let expected = |group: usize| {
                let (own, of_children) = (run.place(group), run.children_place(group));
                let mean_us = |place: Place| run.mean_us(place).or_else(|| durations.mean_us(run.remembered_at(place)));
                let children_milli = durations.mean(run.remembered_at(own)).children_milli.unwrap_or(0);
                Expected { each_us: mean_us(own), children_milli, child_us: mean_us(of_children) }
            };
            for lane in run.lanes.iter().filter(|lane| lane.ready > 0) {
                let backlog = &mut backlogs[lane.pool];
                let mut room = self.shared.limits.room(&lane.limits).map_or(0, u64::from);
                for &group in &lane.groups {
                    let ready = u64::from(run.groups[group].ready()).min(room);
                    room -= ready;
                    backlog.ready += ready;
                    backlog.add(ready, expected(group), 0);
                }
            }
            for (&task, out) in &run.out {
                let group = run.group_of(task);
                let backlog = &mut backlogs[run.lanes[usize::from(run.groups[group].lane)].pool];
                backlog.out += 1;
                backlog.add(1, expected(group), now.since(out.since) * 1_000);
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
        durations.grew(place, 8);
        durations.grew(place, 0);
        assert_eq!(durations.mean(place).children_milli, Some(7_000));
        let late = durations.place("late", "clean", Kind::Root);
        durations.record(late, 5);
        assert_eq!(durations.mean_us(late), None);
    }
}
