//! The attempts of a run that tell most, in bounded memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::AttemptHistory;

/// How much an attempt tells: single tasks and what went wrong first, then the longest, then the earliest.
type Weight = (bool, u64, Reverse<u64>, Reverse<(u32, u16)>);

/// Keeps so many attempts.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    max: usize,
    attempts: BTreeMap<Weight, AttemptHistory>,
    left_out: u64,
}

impl Kept {
    pub(super) fn new(max: usize) -> Kept {
        Kept { max, attempts: BTreeMap::new(), left_out: 0 }
    }

    /// Keeps an attempt for as long as no more telling ones take its place; `plain` is a child that succeeded.
    pub(super) fn offer(&mut self, plain: bool, attempt: AttemptHistory) {
        let took_us = attempt.took_us.unwrap_or(u64::MAX);
        let weight = (!plain, took_us, Reverse(attempt.started_us), Reverse((attempt.task, attempt.number)));
        if self.attempts.len() >= self.max {
            self.left_out += 1;
            if self.attempts.first_key_value().is_none_or(|(lightest, _)| *lightest >= weight) {
                return;
            }
            self.attempts.pop_first();
        }
        self.attempts.insert(weight, attempt);
    }

    /// What was kept, by start; and how many weren't.
    pub(super) fn into_attempts(self) -> (Vec<AttemptHistory>, u64) {
        let mut attempts: Vec<AttemptHistory> = self.attempts.into_values().collect();
        attempts.sort_by_key(|attempt| (attempt.started_us, attempt.task, attempt.number));
        (attempts, self.left_out)
    }
}
