//! Circles of steps that wait for each other, and the order in which steps can run.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};

use super::complaint::Complaint;
use super::references::StepInfo;
use super::source::Source;

/// Complains about every step that waits for itself through others; each circle once.
pub(super) fn circles(source: &Source<'_>, steps: &[StepInfo<'_>], complaints: &mut Vec<Complaint>) {
    let mut known = BTreeSet::new();
    for start in 0..steps.len() {
        if known.contains(&start) {
            continue;
        }
        let Some(circle) = shortest_circle(steps, start) else { continue };
        known.extend(circle.iter().copied());
        // From the first in the file, along what each waits for.
        let names: Vec<&str> = circle.iter().chain(circle.first()).map(|step| steps[*step].name).collect();
        let next = circle.get(1).copied().unwrap_or(start);
        let span = steps[start]
            .references
            .iter()
            .find(|reference| reference.target == next)
            .map_or(steps[start].name_span, |reference| reference.span);
        let message = format!("these steps wait for each other: {}", names.join(" -> "));
        complaints.push(source.complain(span, message).hint("each step can only take from what can run before it"));
    }
}

/// The steps from `start` along references back to it, without repeating it at the end.
fn shortest_circle(steps: &[StepInfo<'_>], start: usize) -> Option<Vec<usize>> {
    let mut came_from = vec![None; steps.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(step) = queue.pop_front() {
        for reference in &steps[step].references {
            if reference.target == start {
                let mut circle = vec![step];
                let mut at = step;
                while let Some(previous) = came_from[at] {
                    circle.push(previous);
                    at = previous;
                }
                circle.reverse();
                return Some(circle);
            }
            if came_from[reference.target].is_none() {
                came_from[reference.target] = Some(step);
                queue.push_back(reference.target);
            }
        }
    }
    None
}

/// The steps in an order in which each comes after what it needs; of those that are ready the first of the
/// file. Steps on a circle are left out.
pub(super) fn order(steps: &[StepInfo<'_>]) -> Vec<usize> {
    let mut waits_for: Vec<HashSet<usize>> =
        steps.iter().map(|step| step.references.iter().map(|reference| reference.target).collect()).collect();
    let dependents = dependents(steps);
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..steps.len()).filter(|step| waits_for[*step].is_empty()).map(Reverse).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(Reverse(step)) = ready.pop() {
        order.push(step);
        for waiter in &dependents[step] {
            // A step that mentions another twice is ready once.
            if waits_for[*waiter].remove(&step) && waits_for[*waiter].is_empty() {
                ready.push(Reverse(*waiter));
            }
        }
    }
    order
}

/// For every step those that mention it.
pub(super) fn dependents(steps: &[StepInfo<'_>]) -> Vec<Vec<usize>> {
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for (step, info) in steps.iter().enumerate() {
        for reference in &info.references {
            dependents[reference.target].push(step);
        }
    }
    dependents
}

/// The steps that run only after `target`, directly or through others.
pub(super) fn waiters(dependents: &[Vec<usize>], target: usize) -> HashSet<usize> {
    let mut seen = HashSet::new();
    let mut stack = vec![target];
    while let Some(at) = stack.pop() {
        for step in &dependents[at] {
            if seen.insert(*step) {
                stack.push(*step);
            }
        }
    }
    seen
}
