//! Which ready task goes out next: windows, priorities, shares, limits and bundles.

use std::cmp::Reverse;

use gristmill_protocol::fact::AssignedRange;
use gristmill_protocol::limits::{
    BUNDLE_ATTEMPTS_MAX, BUNDLE_BYTES_MAX, BUNDLE_TASK_MS_MAX, BUNDLE_TIMEOUT_MS_MIN, BUNDLE_WORK_MS,
    BUNDLE_WORK_MS_MIN,
};
use gristmill_protocol::message::{Assignment, Input, InputValue, Items, Part};
use gristmill_protocol::{RunId, Timestamp};

use crate::group::{Group, Kind};
use crate::pool::{LaneKey, level};
use crate::run::{Out, Run, Shared};
use crate::scheduler::Scheduler;
use crate::step::{Effect, Step, extend_ranges};

/// An assignment that may take more parts.
struct Bundle {
    assignment: Assignment,
    expected_us: u64,
    attempts: usize,
    bytes: usize,
    /// How many attempts it may carry; 1 when nothing may join it.
    most: usize,
}

/// What goes out next of a lane.
struct Pick {
    tasks: Vec<u32>,
    solo: bool,
    estimate_us: Option<u64>,
    /// How many of its kind may go in one bundle.
    most: usize,
}

impl Scheduler {
    /// Fills the windows of all pools.
    pub(crate) fn dispatch(&mut self, now: Timestamp, step: &mut Step) {
        self.place_lanes(now);
        for pool in 0..self.shared.pools.len() {
            self.age_lanes(pool, now);
            let mut bundle: Option<Bundle> = None;
            while let Some(&key) = self.shared.pools[pool].1.order.first() {
                if !self.serve(pool, key, now, &mut bundle, step) {
                    break;
                }
                self.place_lanes(now);
            }
            flush(bundle, step);
        }
    }

    /// Serves the first lane of a pool; false when nothing more goes out in the pool.
    fn serve(
        &mut self,
        pool: usize,
        (_, _, id, lane_at): LaneKey,
        now: Timestamp,
        bundle: &mut Option<Bundle>,
        step: &mut Step,
    ) -> bool {
        let Some(run) = self.runs.get_mut(&id) else {
            unreachable!("a lane leaves its pool's order when its run is forgotten")
        };
        let lane = &run.lanes[usize::from(lane_at)];
        let room = match self.shared.limits.room(&lane.limits) {
            Ok(room) => room,
            Err(name) => {
                let name = name.to_owned();
                self.shared.limits.wait(&name, id, lane_at);
                remove_from_order(run, lane_at, &mut self.shared);
                return true;
            }
        };
        let Some(&group) = lane.groups.first() else { unreachable!("a lane in the order has something ready") };
        let estimate_us = run.timing(group).estimate_us();
        let pool_state = &self.shared.pools[pool].1;
        let free = pool_state.room(estimate_us);
        if free == 0 {
            return false;
        }
        let pick = pick(run, group, free.min(room), pool_state.ready, pool_state.seen.slots);
        let attempts: Vec<u16> = pick.tasks.iter().map(|&task| run.attempt(task) + 1).collect();
        let part = part(run, group, &pick.tasks, &attempts);
        let mut ranges: Vec<AssignedRange> = Vec::new();
        for (&first, &attempt) in pick.tasks.iter().zip(&attempts) {
            extend_ranges(&mut ranges, AssignedRange { first, count: 1, attempt });
        }
        step.push_assigned(id, now, pick.solo, &ranges);
        let estimate = u32::try_from(pick.estimate_us.unwrap_or(0)).unwrap_or(u32::MAX);
        for range in ranges {
            let out = Out { attempt: range.attempt, estimate_us: estimate, solo: pick.solo, since: now };
            run.apply_assigned(range.first, range.count, out, &mut self.shared);
        }
        let priority = run.lanes[usize::from(lane_at)].priority;
        add_part(bundle, &self.shared.pools[pool].0, priority, part, &pick, step);
        true
    }

    /// Puts lanes that have changed where they belong in their pools' orders.
    fn place_lanes(&mut self, now: Timestamp) {
        while let Some((id, lane_at)) = self.shared.dirty_lanes.pop() {
            if let Some(run) = self.runs.get_mut(&id) {
                place_lane(run, lane_at, now, &mut self.shared);
            }
        }
    }

    /// Moves up lanes that have waited another minute.
    fn age_lanes(&mut self, pool: usize, now: Timestamp) {
        while let Some(&(at, id, lane_at)) = self.shared.pools[pool].1.aging.first() {
            if at > now {
                break;
            }
            match self.runs.get_mut(&id) {
                Some(run) => place_lane(run, lane_at, now, &mut self.shared),
                None => unreachable!("a lane leaves its pool's order when its run is forgotten"),
            }
        }
    }
}

fn remove_from_order(run: &mut Run, lane_at: u16, shared: &mut Shared) {
    let lane = &mut run.lanes[usize::from(lane_at)];
    if let Some((key, aging)) = lane.key.take() {
        let pool = &mut shared.pools[lane.pool].1;
        pool.order.remove(&key);
        pool.aging.remove(&(aging, run.id, lane_at));
    }
}

fn place_lane(run: &mut Run, lane_at: u16, now: Timestamp, shared: &mut Shared) {
    let was_in = run.lanes[usize::from(lane_at)].key.is_some();
    remove_from_order(run, lane_at, shared);
    let lane = &mut run.lanes[usize::from(lane_at)];
    if lane.ready == 0 || run.cancelling {
        return;
    }
    if !was_in {
        lane.since = now.max(lane.since);
    }
    let (level, aging) = level(lane.priority, lane.since, now);
    let work_us = run.out_work_us.get(&lane.pool).copied().unwrap_or(0);
    let key: LaneKey = (Reverse(level), work_us / u64::from(run.plan.weight), run.id, lane_at);
    lane.key = Some((key, aging));
    let pool = &mut shared.pools[lane.pool].1;
    pool.order.insert(key);
    pool.aging.insert((aging, run.id, lane_at));
}

/// Chooses tasks of a group: those to be tried again first, then the ones that were never out.
fn pick(run: &mut Run, group: usize, most: u32, pool_ready: u64, slots: u32) -> Pick {
    let estimate_us = run.timing(group).estimate_us();
    let max_us = run.timing(group).max_us();
    let solo = |task: u32| run.budgets.get(&task).is_some_and(|budget| budget.solo);
    let this = &run.groups[group];
    if let Some(&task) = this.again.first()
        && solo(task)
    {
        return Pick { tasks: vec![task], solo: true, estimate_us, most: 1 };
    }
    let step = &run.plan.steps[usize::from(this.step)];
    let bundles = estimate_us.is_some()
        && step.limits.is_empty()
        && step.timeout_ms.is_none_or(|timeout_ms| timeout_ms >= BUNDLE_TIMEOUT_MS_MIN)
        && max_us <= BUNDLE_TASK_MS_MAX * 1_000;
    let most_in_bundle = match estimate_us {
        Some(estimate_us) if bundles => {
            let work = BUNDLE_WORK_MS * 1_000 / estimate_us;
            let share = pool_ready.div_ceil(2 * u64::from(slots.max(1)));
            let least = BUNDLE_WORK_MS_MIN * 1_000 / estimate_us;
            work.min(share.max(least)).clamp(1, BUNDLE_ATTEMPTS_MAX as u64) as usize
        }
        _ => 1,
    };
    let size = most_in_bundle.min(most as usize);
    let mut bytes = 0;
    let fits = |task: &u32| {
        bytes += item_bytes(this, *task);
        bytes <= BUNDLE_BYTES_MAX || bytes == item_bytes(this, *task)
    };
    let again = this.again.iter().copied().take_while(|&task| !solo(task));
    let fresh = this.first + this.cursor..this.first + this.count;
    let tasks: Vec<u32> = again.chain(fresh).take(size).take_while(fits).collect();
    Pick { tasks, solo: false, estimate_us, most: most_in_bundle }
}

fn item_bytes(group: &Group, task: u32) -> usize {
    match &group.items {
        Items::Inline(items) => items[(task - group.first) as usize].len() + 2,
        Items::None | Items::Artifact { .. } => 8,
    }
}

/// What a worker needs to know about some tasks of one group.
fn part(run: &Run, group: usize, tasks: &[u32], attempts: &[u16]) -> Part {
    let this = &run.groups[group];
    let step = &run.plan.steps[usize::from(this.step)];
    let inputs = match this.kind {
        Kind::Root => {
            let passed = step.needs.iter().filter(|need| need.output);
            let input = |need: &gristmill_protocol::plan::PlanNeed| Input {
                step: run.plan.steps[usize::from(need.step)].name.clone(),
                value: InputValue::Output(run.output(u32::from(need.step)).to_vec().into()),
            };
            passed.map(input).collect()
        }
        Kind::Children => Vec::new(),
        Kind::Join => vec![Input { step: String::new(), value: run.children_outputs(this.sibling) }],
    };
    let items = match &this.items {
        Items::Inline(all) => {
            Items::Inline(tasks.iter().map(|&task| all[(task - this.first) as usize].clone()).collect())
        }
        other => other.clone(),
    };
    Part {
        run: run.id,
        step: step.name.clone(),
        path: this.path(),
        payload: this.payload.clone(),
        inputs,
        timeout_ms: step.timeout_ms,
        tag: this.tag,
        first: this.first,
        tasks: tasks.to_vec(),
        attempts: attempts.to_vec(),
        items,
    }
}

/// The message that assigns one attempt which is out already.
pub(crate) fn assignment(run: &Run, shared: &Shared, task: u32, out: &Out) -> Assignment {
    let group = run.group_of(task);
    let lane = &run.lanes[usize::from(run.groups[group].lane)];
    Assignment {
        shard: run.id.shard(),
        pool: shared.pools[lane.pool].0.clone(),
        priority: lane.priority,
        solo: out.solo,
        parts: vec![part(run, group, &[task], &[out.attempt])],
    }
}

/// Adds a part to the bundle at hand where it fits, or begins the next one.
fn add_part(bundle: &mut Option<Bundle>, pool: &str, priority: i8, part: Part, pick: &Pick, step: &mut Step) {
    let attempts = part.tasks.len();
    let expected_us = pick.estimate_us.unwrap_or(u64::MAX / 2).saturating_mul(attempts as u64);
    let bytes = part_bytes(&part);
    let shard = part.run.shard();
    if let Some(bundle) = bundle.as_mut()
        && bundle.assignment.shard == shard
        && bundle.assignment.priority == priority
        && bundle.expected_us.saturating_add(expected_us) <= BUNDLE_WORK_MS * 1_000
        && bundle.attempts + attempts <= bundle.most.min(pick.most)
        && bundle.bytes + bytes <= BUNDLE_BYTES_MAX
    {
        bundle.expected_us += expected_us;
        bundle.attempts += attempts;
        bundle.bytes += bytes;
        bundle.assignment.parts.push(part);
        return;
    }
    flush(bundle.take(), step);
    let assignment = Assignment { shard, pool: pool.to_owned(), priority, solo: pick.solo, parts: vec![part] };
    *bundle = Some(Bundle { assignment, expected_us, attempts, bytes, most: pick.most });
}

fn flush(bundle: Option<Bundle>, step: &mut Step) {
    step.effects.extend(bundle.map(|bundle| Effect::Publish(bundle.assignment)));
}

fn part_bytes(part: &Part) -> usize {
    let inputs: usize = part
        .inputs
        .iter()
        .map(|input| match &input.value {
            InputValue::Output(output) => output.len(),
            InputValue::Children(outputs) => outputs.iter().flatten().map(|output| output.len() + 4).sum(),
            InputValue::ChildrenArtifact(_) => 80,
        })
        .sum();
    let items: usize = match &part.items {
        Items::Inline(items) => items.iter().map(|item| item.len() + 2).sum(),
        Items::None | Items::Artifact { .. } => 80,
    };
    inputs + items + part.payload.len() + 8 * part.tasks.len() + 128
}

/// The lanes of a run that are in their pools' orders; for the invariants.
pub(crate) fn placed_lanes(run: &Run) -> impl Iterator<Item = (RunId, u16, LaneKey)> + '_ {
    run.lanes.iter().enumerate().filter_map(|(at, lane)| lane.key.map(|(key, _)| (run.id, at as u16, key)))
}
