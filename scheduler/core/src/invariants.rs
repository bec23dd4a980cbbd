//! What always holds, as code. Tests and the simulator call it after every event.

use std::collections::BTreeMap;

use crate::dispatch::placed_lanes;
use crate::group::Kind;
use crate::pool::Pool;
use crate::run::{Run, TaskState};
use crate::scheduler::Scheduler;

impl Scheduler {
    /// Walks the whole state and panics with what is wrong, if anything is.
    pub fn check_invariants(&self) {
        let mut pools: BTreeMap<usize, (Pool, u64)> = BTreeMap::new();
        let mut limits: BTreeMap<&str, u32> = BTreeMap::new();
        for run in self.runs.values() {
            check_run(run);
            for lane in &run.lanes {
                pools.entry(lane.pool).or_default().1 += lane.ready;
            }
            for (task, out) in &run.out {
                let lane = &run.lanes[usize::from(run.groups[run.group_of(*task)].lane)];
                pools.entry(lane.pool).or_default().0.take(out.estimate(), 1);
                for limit in &lane.limits {
                    *limits.entry(limit).or_default() += 1;
                }
            }
            for (task, _) in run.lingering.keys() {
                let lane = &run.lanes[usize::from(run.groups[run.group_of(*task)].lane)];
                for limit in &lane.limits {
                    *limits.entry(limit).or_default() += 1;
                }
            }
        }
        for (at, (name, pool)) in self.shared.pools.iter().enumerate() {
            let (out, ready) = pools.remove(&at).unwrap_or_default();
            assert_eq!(pool.out, out.out, "what is out in pool `{name}`");
            assert_eq!(pool.out_share, out.out_share, "the room taken in pool `{name}`");
            assert_eq!(pool.ready, ready, "what is ready in pool `{name}`");
            assert_eq!(pool.order.len(), pool.aging.len(), "lanes in order and lanes aging in pool `{name}`");
            for key in &pool.order {
                let run = &self.runs[&key.2];
                let lane = &run.lanes[usize::from(key.3)];
                assert_eq!(lane.pool, at, "a lane stands in its own pool's order");
                assert!(lane.ready > 0, "a lane in the order has something ready");
                assert!(placed_lanes(run).any(|(_, _, placed)| placed == *key), "a lane knows its place");
            }
        }
        for (name, limit) in self.shared.limits.iter() {
            assert_eq!(limit.in_use, limits.get(name).copied().unwrap_or(0), "what counts against limit `{name}`");
        }
        for (at, id, task) in &self.shared.timers {
            assert_eq!(self.runs[id].backoffs.get(task), Some(at), "a timer is a task's backoff");
        }
    }
}

fn check_run(run: &Run) {
    let id = run.id;
    let mut ready_by_lane = vec![0u64; run.lanes.len()];
    let mut tasks = 0;
    for (at, group) in run.groups.iter().enumerate() {
        assert_eq!(group.first, tasks, "{id}: groups follow each other");
        tasks += group.count;
        assert!(group.cursor <= group.count, "{id}: a cursor stays in its group");
        ready_by_lane[usize::from(group.lane)] += u64::from(group.ready());
        let lane = &run.lanes[usize::from(group.lane)];
        assert_eq!(lane.groups.contains(&at), group.ready() > 0, "{id}: group {at} is listed when ready");
        let open = (group.first..group.first + group.count)
            .filter(|task| !run.state(*task).is_some_and(TaskState::has_ended))
            .count();
        if group.kind == Kind::Children {
            assert_eq!(group.open as usize, open, "{id}: open tasks of group {at}");
        }
        for task in &group.again {
            assert_eq!(run.state(*task), Some(TaskState::Ready), "{id}: task {task} is listed to go out again");
        }
        if !group.halted {
            for task in group.first + group.cursor..group.first + group.count {
                assert_eq!(run.state(task), Some(TaskState::Ready), "{id}: task {task} was never out");
            }
        }
        check_join(run, at);
    }
    assert_eq!(tasks, run.task_count(), "{id}: every task is in a group");
    for (lane, ready) in run.lanes.iter().zip(ready_by_lane) {
        assert_eq!(lane.ready, ready, "{id}: what is ready of a lane");
    }
    let in_state = |state| (0..tasks).filter(|task| run.state(*task) == Some(state)).count();
    assert_eq!(in_state(TaskState::Out), run.out.len(), "{id}: what is out");
    assert_eq!(in_state(TaskState::Backoff), run.backoffs.len(), "{id}: what is in backoff");
    check_order(run);
    if run.ended.is_some() {
        assert!(run.out.is_empty() && run.backoffs.is_empty(), "{id}: nothing is out of an ended run");
    }
}

/// A join doesn't start before its children have ended.
fn check_join(run: &Run, at: usize) {
    let group = &run.groups[at];
    if group.kind != Kind::Join {
        return;
    }
    let started =
        !matches!(run.state(group.first), Some(TaskState::Waiting | TaskState::Skipped | TaskState::Dropped) | None);
    assert!(!started || run.groups[group.sibling].open == 0, "{}: a join waits for its children", run.id);
}

/// Nothing starts before what it needs has ended as it should.
fn check_order(run: &Run) {
    use gristmill_protocol::pipeline::steps::When;
    for (at, step) in run.plan.steps.iter().enumerate() {
        let state = run.state(at as u32).expect("a step has a task");
        if matches!(state, TaskState::Waiting | TaskState::Skipped | TaskState::Dropped) {
            continue;
        }
        for need in &step.needs {
            let need_state = run.state(u32::from(need.step)).expect("a need is a step");
            match step.when {
                When::Success => assert_eq!(need_state, TaskState::Succeeded, "{}: `{}` is ready", run.id, step.name),
                // A resume keeps what such a step has done, and runs again what it needed.
                When::Failure | When::Always if state.has_ended() || state == TaskState::Expanded => {}
                When::Failure | When::Always => {
                    assert!(need_state.has_ended(), "{}: `{}` is ready", run.id, step.name);
                }
            }
        }
    }
}
