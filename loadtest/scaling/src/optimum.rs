//! About the least that who knows the future would pay for the same waits.
//!
//! The work of all tasks has to be paid, and so has the start of every worker. Where each piece of work has a time
//! before which it isn't there and one by which it must be done, the tightest string between the two curves of
//! work gone by is the plan whose speed goes up and down least of all plans there are (Davies and Kovac, "Local extremes,
//! runs, strings and multiresolution", 2001); each unit by which it goes up is a worker that starts, or that idled since
//! it was last needed, whichever is cheaper. Workers are taken as divisible and tasks as liquid, which no real plan can have;
//! and one task in twenty is free to wait for ever, taken from the highest arrivals, since equal waits at the 95th percentile
//! ask nothing of it.
//!
//! It is an estimate and no proven bound: tasks are due by their mean length, and a plan that gives up other tasks, or that
//! leaves the string where keeping idle workers is cheaper, may pay less.

use crate::loads::Arrival;

/// The step of time in which it is worked out.
const STEP_MS: u64 = 250;
/// The share of tasks that must have begun in time.
const SHARE: f64 = 0.95;

/// About the least worker-seconds for a load whose tasks took `work_s` together and began within `wait_s` at the 95th
/// percentile, where a worker takes `start_up_ms` to start and runs `slots` tasks at a time.
pub fn worker_seconds(arrivals: &[Arrival], work_s: f64, wait_s: f64, start_up_ms: u64, slots: u32) -> f64 {
    let planned: f64 = arrivals.iter().map(|arrival| f64::from(arrival.tasks) * f64::from(arrival.task_ms)).sum();
    if planned <= 0.0 {
        return 0.0;
    }
    // Tasks took what dice said; the curves are of what was expected, brought to the same sum.
    let scale = work_s * 1_000.0 / planned;
    let (there, due) = curves(arrivals, scale, level(arrivals), wait_s);
    let slots = f64::from(slots.max(1));
    let speeds: Vec<f64> = tight_string(&there, &due).into_iter().map(|speed| speed / slots).collect();
    work_s / slots + starts(&speeds, start_up_ms) * start_up_ms as f64 / 1_000.0
}

/// The number of tasks at which arrivals are cut off so that [`SHARE`] of all tasks is left.
fn level(arrivals: &[Arrival]) -> f64 {
    let all: f64 = arrivals.iter().map(|arrival| f64::from(arrival.tasks)).sum();
    let (mut low, mut high) = (0.0, f64::from(arrivals.iter().map(|arrival| arrival.tasks).max().unwrap_or(0)));
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        let left: f64 = arrivals.iter().map(|arrival| f64::from(arrival.tasks).min(middle)).sum();
        if left < all * SHARE { low = middle } else { high = middle }
    }
    high
}

/// Work in worker-milliseconds that is there, and that is due, by the end of each step.
fn curves(arrivals: &[Arrival], scale: f64, level: f64, wait_s: f64) -> (Vec<f64>, Vec<f64>) {
    let wait_ms = (wait_s * 1_000.0) as u64;
    let end = |arrival: &Arrival| arrival.at_ms + wait_ms + u64::from(arrival.task_ms);
    let last = arrivals.iter().map(end).max().unwrap_or(0);
    let steps = (last / STEP_MS + 2) as usize;
    let (mut there, mut due) = (vec![0.0; steps], vec![0.0; steps]);
    for arrival in arrivals {
        let work = f64::from(arrival.tasks).min(level) * f64::from(arrival.task_ms) * scale;
        there[(arrival.at_ms / STEP_MS) as usize] += work;
        due[(end(arrival) / STEP_MS + 1) as usize] += work;
    }
    for curve in [&mut there, &mut due] {
        let mut sum = 0.0;
        for at in curve.iter_mut() {
            sum += *at;
            *at = sum;
        }
    }
    (there, due)
}

/// Speeds, in workers at each step, of the shortest path from nothing to all that keeps below `there` and above `due`.
fn tight_string(there: &[f64], due: &[f64]) -> Vec<f64> {
    let steps = there.len();
    // Before the first step nothing is there; at the last one all must be done.
    let below = |at: usize| if at == 0 { 0.0 } else { there[at - 1] };
    let above = |at: usize| {
        if at == 0 {
            0.0
        } else if at == steps {
            due[steps - 1]
        } else {
            due[at - 1]
        }
    };
    let mut speeds = vec![0.0; steps];
    let (mut from, mut height) = (0, 0.0);
    while from < steps {
        // The steepest and the flattest straight line that still pass all gates so far, and the gates that hold them.
        let (mut most, mut least) = ((f64::INFINITY, from + 1), (f64::NEG_INFINITY, from + 1));
        let mut bend = None;
        for at in from + 1..=steps {
            let run = (at - from) as f64;
            let upper = if at == steps { above(at) } else { below(at).max(above(at)) };
            let (up, down) = ((upper - height) / run, (above(at) - height) / run);
            if down > most.0 {
                bend = Some((most.1, most.0));
                break;
            }
            if up < least.0 {
                bend = Some((least.1, least.0));
                break;
            }
            if up <= most.0 {
                most = (up, at);
            }
            if down >= least.0 {
                least = (down, at);
            }
        }
        let (to, slope) = bend.unwrap_or((steps, (above(steps) - height) / (steps - from) as f64));
        speeds[from..to].fill((slope / STEP_MS as f64).max(0.0));
        height += slope * (to - from) as f64;
        from = to;
    }
    speeds
}

/// How many starts' worth it takes to follow the speeds, where a worker that isn't needed for less than its start is
/// kept instead.
fn starts(speeds: &[f64], start_up_ms: u64) -> f64 {
    if start_up_ms == 0 {
        return 0.0;
    }
    let most = speeds.iter().copied().fold(0.0, f64::max);
    // Layers as thick as a worker; the last one is as thick as what is left.
    let mut sum = 0.0;
    let mut layer = 0.0;
    while layer < most {
        let thick = (most - layer).min(1.0);
        let middle = layer + thick / 2.0;
        let mut idle_since: Option<usize> = None;
        let mut has_run = false;
        let mut cost = 0.0;
        for (at, &speed) in speeds.iter().enumerate() {
            match (speed > middle, idle_since) {
                (true, Some(since)) => {
                    let gap_ms = (at - since) as u64 * STEP_MS;
                    cost += (gap_ms as f64 / start_up_ms as f64).min(1.0);
                    idle_since = None;
                }
                (true, None) if !has_run => {
                    cost += 1.0;
                    has_run = true;
                }
                (false, None) if has_run => idle_since = Some(at),
                _ => {}
            }
        }
        sum += cost * thick;
        layer += 1.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_burst_takes_its_work_and_the_workers_that_do_it_in_time() {
        // 100 tasks of 1 s that must all have begun within 9 s: 9.5 of work a second for 10 s, and as many starts.
        let arrivals = [Arrival { at_ms: 0, tasks: 100, task_ms: 1_000 }];
        let paid = worker_seconds(&arrivals, 100.0, 9.0, 2_000, 1);
        assert!((117.0..=120.0).contains(&paid), "{paid}");
    }

    #[test]
    fn workers_are_kept_over_short_gaps_and_not_over_long_ones() {
        let burst = |at_ms| Arrival { at_ms, tasks: 10, task_ms: 1_000 };
        let near = worker_seconds(&[burst(0), burst(1_500)], 20.0, 0.0, 10_000, 1);
        let far = worker_seconds(&[burst(0), burst(600_000)], 20.0, 0.0, 10_000, 1);
        assert!(near < 20.0 + 8.0 * 10.0 && far > 20.0 + 12.0 * 10.0, "{near} {far}");
    }

    #[test]
    fn a_string_without_room_follows_the_curve() {
        let there = [10.0, 20.0, 20.0, 50.0];
        let speeds = tight_string(&there, &there);
        assert_eq!(speeds.iter().map(|speed| speed * STEP_MS as f64).collect::<Vec<_>>(), [10.0, 10.0, 0.0, 30.0]);
    }
}
