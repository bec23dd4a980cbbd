//! When a scheduler says before its time what work it has.
//!
//! It says so with its lease, once a second. Whoever scales a pool shouldn't wait for that when work comes to a pool that
//! had none, when the last has ended, or when there is twice or half as much: then it is said at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// It is said at most five times a second: that is less than the quickest worker takes to start, and a store has more to
/// do.
const PAUSE: Duration = Duration::from_millis(200);

/// What was said last, by pool, in tasks.
#[derive(Debug)]
pub(crate) struct Telling {
    told: BTreeMap<String, u64>,
    looked: Instant,
    /// Whether anything has happened since the last look.
    is_stirred: bool,
}

impl Telling {
    pub(crate) fn new() -> Telling {
        Telling { told: BTreeMap::new(), looked: Instant::now(), is_stirred: false }
    }

    /// Something has happened.
    pub(crate) fn stir(&mut self) {
        self.is_stirred = true;
    }

    /// When to look next, if there is a reason to.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.is_stirred.then(|| self.looked + PAUSE)
    }

    /// Whether it is time to say what there is now.
    pub(crate) fn is_due(&mut self, demand: impl FnOnce() -> BTreeMap<String, u64>) -> bool {
        if !self.is_stirred || self.looked.elapsed() < PAUSE {
            return false;
        }
        self.looked = Instant::now();
        self.is_stirred = false;
        differs(&self.told, &demand())
    }

    /// This is being said.
    pub(crate) fn tell(&mut self, demand: BTreeMap<String, u64>) {
        self.told = demand;
    }
}

/// Whether a pool has its first task or its last one has gone, or it has twice or half as many.
fn differs(told: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> bool {
    let tasks = |of: &BTreeMap<String, u64>, pool: &String| of.get(pool).copied().unwrap_or(0);
    told.keys().chain(now.keys()).any(|pool| {
        let (before, after) = (tasks(told, pool), tasks(now, pool));
        before.min(after) * 2 <= before.max(after) && before != after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(tasks: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("default".to_owned(), tasks)]).into_iter().filter(|(_, tasks)| *tasks > 0).collect()
    }

    #[test]
    fn what_comes_ends_doubles_or_halves_is_worth_saying() {
        for (before, after, worth) in [
            (0, 0, false),
            (0, 1, true),
            (1, 0, true),
            (1, 1, false),
            (10, 19, false),
            (10, 20, true),
            (10, 5, true),
            (10, 6, false),
        ] {
            assert_eq!(differs(&demand(before), &demand(after)), worth, "{before} {after}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_said_after_a_pause_and_once() {
        let mut telling = Telling::new();
        assert_eq!(telling.next_look(), None);
        telling.stir();
        assert!(!telling.is_due(|| demand(3)), "too early");
        tokio::time::advance(PAUSE).await;
        assert!(telling.next_look().is_some_and(|at| at <= Instant::now()));
        assert!(telling.is_due(|| demand(3)));
        telling.tell(demand(3));
        tokio::time::advance(PAUSE).await;
        assert!(!telling.is_due(|| demand(9)), "nothing has happened");
        telling.stir();
        assert!(!telling.is_due(|| demand(4)), "that is about the same");
    }
}
