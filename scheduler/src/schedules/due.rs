//! Decides which ticks of a schedule are fired now. Nothing here reads a clock or does anything.
//!
//! All ticks up to `handled` are dealt with, whatever the clock says: when it is set back, nothing fires until it has
//! caught up, as those ticks have had their runs. When it is set forward, the ticks in between have passed while
//! nobody could see them, as they do while no scheduler runs.

use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::{CATCH_UP_MAX, TICK_LATE_MS};
use gristmill_protocol::schedule::CatchUp;

use super::ticks::Ticks;

/// What is to be done about a schedule's ticks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Ticks that passed and aren't fired.
    pub missed: Option<Missed>,
    /// Ticks to fire, oldest first; all later than what was missed.
    pub fire: Vec<Timestamp>,
    /// The next one; nothing when there is none any more.
    pub next: Option<Timestamp>,
}

/// Ticks that passed and aren't fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    pub first: Timestamp,
    pub last: Timestamp,
    pub reason: String,
}

/// What is due at `now` of a schedule whose ticks up to `handled` are dealt with.
pub fn due(ticks: &Ticks, catch_up: CatchUp, handled: Timestamp, now: Timestamp) -> Decision {
    let mut decision = Decision { next: ticks.after(now.max(handled)), ..Decision::default() };
    let mut passed = passed(ticks, handled, now);
    let Some(&newest) = passed.last() else { return decision };
    let is_fired = |tick: Timestamp| {
        let is_in_time = now.since(tick) <= TICK_LATE_MS;
        match catch_up {
            CatchUp::None => is_in_time,
            CatchUp::Last => is_in_time || tick == newest,
            CatchUp::All => true,
        }
    };
    let kept = passed.iter().rposition(|tick| !is_fired(*tick)).map_or(0, |last| last + 1);
    let kept = kept.max(passed.len().saturating_sub(CATCH_UP_MAX));
    decision.fire = passed.split_off(kept);
    // What is counted ends at the limit; the first is found from the other side.
    if let (Some(&last), Some(first)) = (passed.last(), ticks.after(handled)) {
        let reason = match catch_up {
            CatchUp::All => format!("only the last {CATCH_UP_MAX} are made up for"),
            CatchUp::Last => "only the last one is made up for".to_owned(),
            CatchUp::None => "none is made up for".to_owned(),
        };
        let reason = format!("no scheduler looked at it within {} s of the tick, and {reason}", TICK_LATE_MS / 1_000);
        decision.missed = Some(Missed { first, last, reason });
    }
    decision
}

/// The ticks after `handled` up to `now`, oldest first; of more than can be made up for only one more.
fn passed(ticks: &Ticks, handled: Timestamp, now: Timestamp) -> Vec<Timestamp> {
    let mut passed = Vec::new();
    let mut until = now;
    while passed.len() <= CATCH_UP_MAX
        && let Some(tick) = ticks.until(until).filter(|tick| *tick > handled)
    {
        passed.push(tick);
        until = Timestamp(tick.0.saturating_sub(1));
    }
    passed.reverse();
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const MINUTE: u64 = 60_000;

    fn hourly() -> Ticks {
        Ticks::new("@hourly", "UTC").expect("it is right")
    }

    /// What is fired and missed, in hours.
    fn hours(catch_up: CatchUp, handled: u64, now: u64) -> (Vec<u64>, Option<(u64, u64)>) {
        let decision = due(&hourly(), catch_up, Timestamp(handled), Timestamp(now));
        let fire = decision.fire.iter().map(|tick| tick.0 / HOUR).collect();
        (fire, decision.missed.map(|missed| (missed.first.0 / HOUR, missed.last.0 / HOUR)))
    }

    #[test]
    fn a_tick_is_fired_once_its_time_has_come() {
        for catch_up in [CatchUp::None, CatchUp::Last, CatchUp::All] {
            assert_eq!(hours(catch_up, 10 * HOUR, 11 * HOUR - 1), (vec![], None));
            assert_eq!(hours(catch_up, 10 * HOUR, 11 * HOUR), (vec![11], None));
            assert_eq!(hours(catch_up, 10 * HOUR, 11 * HOUR + MINUTE), (vec![11], None));
            assert_eq!(hours(catch_up, 11 * HOUR, 11 * HOUR + MINUTE), (vec![], None));
        }
        let decision = due(&hourly(), CatchUp::All, Timestamp(10 * HOUR), Timestamp(11 * HOUR));
        assert_eq!(decision.next, Some(Timestamp(12 * HOUR)));
    }

    #[test]
    fn ticks_that_passed_unseen_are_made_up_for_as_asked() {
        let now = 14 * HOUR + 10 * MINUTE;
        assert_eq!(hours(CatchUp::None, 10 * HOUR, now), (vec![], Some((11, 14))));
        assert_eq!(hours(CatchUp::Last, 10 * HOUR, now), (vec![14], Some((11, 13))));
        assert_eq!(hours(CatchUp::All, 10 * HOUR, now), (vec![11, 12, 13, 14], None));
        // The last one isn't late.
        let now = 14 * HOUR + 10;
        assert_eq!(hours(CatchUp::None, 10 * HOUR, now), (vec![14], Some((11, 13))));
    }

    #[test]
    fn of_very_many_only_the_last_are_made_up_for() {
        let (fire, missed) = hours(CatchUp::All, 0, 1_000_000 * HOUR + 10 * MINUTE);
        assert_eq!((fire.len(), fire[0], fire[99]), (100, 999_901, 1_000_000));
        assert_eq!(missed, Some((1, 999_900)));
    }

    #[test]
    fn nothing_fires_twice_when_the_clock_goes_back() {
        for catch_up in [CatchUp::None, CatchUp::Last, CatchUp::All] {
            let (mut handled, mut fired) = (10 * HOUR, Vec::new());
            for now in [11, 12, 9, 10, 11, 12, 13, 5, 13, 14] {
                let decision = due(&hourly(), catch_up, Timestamp(handled), Timestamp(now * HOUR));
                fired.extend(decision.fire.iter().map(|tick| tick.0 / HOUR));
                handled = handled.max(decision.fire.iter().map(|tick| tick.0).max().unwrap_or(0));
                assert!(decision.next.expect("it goes on").0 > handled);
            }
            assert_eq!(fired, [11, 12, 13, 14]);
        }
    }
}
