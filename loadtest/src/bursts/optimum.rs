//! The least that anybody could pay for a load, and what KEDA's rule pays for it.
//!
//! Both speak of the same arrivals of tasks of one length. They are for a load of minutes on one machine; the crate
//! `gristmill-scaling` has the same questions answered at the size of a thousand workers.

use std::collections::VecDeque;

use super::arrivals::Arrival;

/// Tasks and the workers they run on.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub arrivals: &'a [Arrival],
    /// Seconds that a task takes.
    pub task: f64,
    pub slots: u32,
    pub max: u32,
    /// Seconds from a worker's start until it works. They are paid.
    pub start_up: f64,
}

/// Fewer worker-seconds than anybody can pay whose waits' 95th percentile is at most `wait`: a proven lower bound, which
/// no scheduler need reach.
///
/// Each paid second of a worker does at most `slots` seconds of work, so all work costs work / slots. Beside that each
/// worker pays its start. How many there are at the least: of the tasks that come within [a, b] all but one in twenty of
/// the load have begun by b + wait, so they are done by b + wait + task, which takes tasks × task / slots worker-seconds
/// within b - a + wait + task seconds.
pub fn least_paid(load: &Load<'_>, wait: f64) -> f64 {
    let all: f64 = load.arrivals.iter().map(|one| f64::from(one.tasks)).sum();
    let (slots, late) = (f64::from(load.slots), all * 0.05);
    let mut workers = if all > 0.0 { 1.0f64 } else { 0.0 };
    // A few hundred starting points are as good as all: a bound from fewer intervals is still a bound.
    let every = load.arrivals.len().div_ceil(400).max(1);
    for first in (0..load.arrivals.len()).step_by(every) {
        let mut tasks = 0.0;
        for one in &load.arrivals[first..] {
            tasks += f64::from(one.tasks);
            let within = one.at - load.arrivals[first].at + wait + load.task;
            workers = workers.max(((tasks - late) * load.task / (slots * within)).ceil());
        }
    }
    all * load.task / slots + workers * load.start_up
}

/// How KEDA and the horizontal pod autoscaler are set.
#[derive(Clone, Copy, Debug)]
pub struct Keda {
    /// Seconds between two looks at the queue.
    pub polling: f64,
    /// Waiting tasks for each worker (`targetValue`).
    pub target: f64,
    /// Seconds over whose largest wish it scales down (`stabilizationWindowSeconds`).
    pub stabilisation: f64,
    /// Seconds without work after which the last worker goes (`cooldownPeriod`).
    pub cooldown: f64,
}

impl Keda {
    /// As KEDA 2 and Kubernetes come: `pollingInterval` 30, `cooldownPeriod` 300, and a downscale stabilisation of 300 s.
    pub fn default_for(target: f64) -> Keda {
        Keda { polling: 30.0, target, stabilisation: 300.0, cooldown: 300.0 }
    }
}

/// What was paid and waited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Paid {
    pub worker_seconds: f64,
    pub wait_p95: f64,
}

/// The rule over the same arrivals, in steps of a tenth of a second: desired = ⌈queue / target⌉, up at once, down by the
/// largest wish of the stabilisation window. It is given what it hasn't in a cluster: workers that are let go drain, and
/// neither images nor nodes have to be fetched.
pub fn keda(load: &Load<'_>, rule: &Keda) -> Paid {
    const STEP: f64 = 0.1;
    let mut arrivals = load.arrivals.iter().peekable();
    let mut queue: VecDeque<f64> = VecDeque::new();
    // When each running task ends; when each worker will be ready.
    let (mut running, mut ready_at): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut wishes: VecDeque<(f64, u32)> = VecDeque::new();
    let (mut waits, mut paid, mut next_look, mut busy_at, mut now) = (Vec::new(), 0.0, 0.0, 0.0, 0.0);
    while arrivals.peek().is_some() || !queue.is_empty() || !running.is_empty() || !ready_at.is_empty() {
        while let Some(one) = arrivals.next_if(|one| one.at <= now) {
            queue.extend(std::iter::repeat_n(one.at, one.tasks as usize));
        }
        running.retain(|end| *end > now);
        if now >= next_look {
            next_look += rule.polling;
            if !queue.is_empty() || !running.is_empty() {
                busy_at = now;
            }
            // The scaler sees messages that wait and those that are out.
            let seen = (queue.len() + running.len()) as f64;
            let wish = ((seen / rule.target).ceil() as u32).min(load.max);
            wishes.push_back((now, wish));
            wishes.retain(|(at, _)| *at >= now - rule.stabilisation);
            let largest = wishes.iter().map(|(_, wish)| *wish).max().unwrap_or(0);
            let has_work = seen > 0.0 || now - busy_at < rule.cooldown;
            let wanted = if has_work && !ready_at.is_empty() { largest.max(1) } else { largest } as usize;
            while ready_at.len() < wanted {
                ready_at.push(now + load.start_up);
            }
            // Who goes finishes what it has: no more go than are free of work.
            let needed = running.len().div_ceil(load.slots as usize);
            ready_at.truncate(wanted.max(needed));
        }
        let slots = ready_at.iter().filter(|at| **at <= now).count() * load.slots as usize;
        while running.len() < slots
            && let Some(since) = queue.pop_front()
        {
            waits.push((now - since).max(0.0));
            running.push(now + load.task);
        }
        paid += ready_at.len() as f64 * STEP;
        now += STEP;
    }
    waits.sort_by(f64::total_cmp);
    let wait_p95 = waits.get((waits.len() as f64 * 0.95) as usize).or(waits.last()).copied().unwrap_or(0.0);
    Paid { worker_seconds: paid, wait_p95 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [Arrival; 1] = [Arrival { at: 0.0, tasks: 100 }];

    fn load(arrivals: &[Arrival]) -> Load<'_> {
        Load { arrivals, task: 1.0, slots: 2, max: 50, start_up: 2.0 }
    }

    #[test]
    fn the_bound_is_work_and_starts() {
        // 50 worker-seconds of work; 95 tasks within 11 s need 5 workers, which pay 2 s each.
        assert_eq!(least_paid(&load(&ONE), 10.0), 60.0);
        // In no hurry one worker does it all.
        assert_eq!(least_paid(&load(&ONE), 1_000.0), 52.0);
        assert_eq!(least_paid(&load(&[]), 1.0), 0.0);
    }

    #[test]
    fn the_rule_pays_for_its_stabilisation() {
        let tuned = Keda { polling: 1.0, target: 4.0, stabilisation: 5.0, cooldown: 5.0 };
        let (tuned, default) = (keda(&load(&ONE), &tuned), keda(&load(&ONE), &Keda::default_for(4.0)));
        assert!(tuned.wait_p95 < 6.0 && tuned.worker_seconds < default.worker_seconds / 5.0, "{tuned:?} {default:?}");
        for paid in [tuned, default] {
            assert!(paid.worker_seconds >= least_paid(&load(&ONE), paid.wait_p95), "{paid:?}");
        }
    }
}
