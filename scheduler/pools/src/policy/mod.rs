//! How many workers a pool needs now.
//!
//! Up: as many as work off what is ready and out within the time that the pool's owner gives it, and never more than
//! there are tasks for. Down: those that work stay while there is a task for each and enough work that they aren't done
//! at once; one that wasn't needed for a while is let go. When
//! that while is what starting another costs, idling costs at most twice what who knows the future would pay (the
//! ski-rental bound: Karlin et al., "Competitive Snoopy Caching", 1988); the usual while is shorter, which is cheaper in most
//! loads and has a worse worst case.

mod share;
#[cfg(test)]
mod tests;

pub use self::share::share;

use std::collections::VecDeque;
use std::fmt;

use gristmill_protocol::Timestamp;

/// What a task of unknown length is taken for: so that some of them wake more than one worker, and a hundred thousand
/// that turn out to take a millisecond don't wake a thousand.
const UNKNOWN_MS: u64 = 1_000;
/// Those that work stay until what is left takes less than this part of the time to drain; then they go one after the
/// other rather than all at the end. In the simulated loads (`gristmill-scaling`) a third pays least: half lets work pile up
/// and workers start again, and with a sixth they idle.
const STAY: u64 = 3;
/// Workers that a pool may be allowed: more than anybody has on one queue, and sums stay far from overflowing.
const WORKERS_MAX: u32 = 1_000_000;

/// What the owner of a pool asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Workers there always are.
    pub min: u32,
    /// Workers there are at the most.
    pub max: u32,
    /// Tasks that each worker runs at a time.
    pub slots: u32,
    /// Milliseconds in which what waits should be worked off.
    pub drain_ms: u64,
    /// Milliseconds that a worker takes to start.
    pub start_up_ms: u64,
    /// Milliseconds that a worker is kept though it isn't needed; see [`Rules::idle_ms_for`].
    pub idle_ms: u64,
}

/// Rules that nobody can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error("`min` is {min} and `max` is {max}: the least can't be more than the most")]
    Bounds { min: u32, max: u32 },
    #[error("`max` is {0}; at least 1 and at most {WORKERS_MAX} workers are wanted")]
    Max(u32),
    #[error("`slots` is 0; a worker runs at least one task at a time")]
    Slots,
    #[error("`drain_time` is 0; give the backlog a moment")]
    DrainTime,
}

impl Rules {
    /// How long to keep a worker that isn't needed where nobody says: a part of what starting one takes. As long as that
    /// would be safest; in the simulated loads (`gristmill-scaling`) a quarter is cheaper by far, since those that are let
    /// go too early are few.
    pub fn idle_ms_for(start_up_ms: u64) -> u64 {
        start_up_ms / 4
    }

    /// Checks that they can be followed.
    pub fn check(&self) -> Result<(), RulesError> {
        match *self {
            Rules { max, .. } if max == 0 || max > WORKERS_MAX => Err(RulesError::Max(max)),
            Rules { min, max, .. } if min > max => Err(RulesError::Bounds { min, max }),
            Rules { slots: 0, .. } => Err(RulesError::Slots),
            Rules { drain_ms: 0, .. } => Err(RulesError::DrainTime),
            _ => Ok(()),
        }
    }
}

/// A pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    pub now: Timestamp,
    /// Tasks that could begin if a slot were free.
    pub ready: u64,
    /// Tasks that are out with workers that stay: those that drain finish what they have.
    pub out: u64,
    /// Milliseconds of a slot that both are expected to take, as far as that is known.
    pub work_ms: u64,
    /// How many of both take nobody knows how long.
    pub unknown: u64,
    /// Workers that take work, that are on their way, and that finish what they have and go.
    pub live: u32,
    pub starting: u32,
    pub draining: u32,
}

/// What is remembered from one decision to the next.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Numbers of workers that were needed, each smaller than the one before, with the time at which fewer were seen to do
    /// first; for the last one that of the last look.
    needed: VecDeque<(Timestamp, u32)>,
}

/// How many workers there should be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub wanted: u32,
    pub why: Why,
}

/// The reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is nothing to do.
    Nothing,
    /// So much work is to be done in that time.
    Work {
        work_ms: u64,
        unknown: u64,
        slots: u32,
        drain_ms: u64,
    },
    /// There are no more tasks than these.
    Tasks {
        tasks: u64,
        slots: u32,
    },
    /// These work still.
    Busy {
        tasks: u64,
    },
    /// They were needed a moment ago.
    Held {
        hold_ms: u64,
    },
    /// The owner's bounds.
    Min,
    Max {
        would: u32,
    },
}

/// Decides. Time must not go back from one call to the next; where it does, what was remembered is forgotten.
pub fn decide(rules: &Rules, memory: &mut Memory, sight: &Sight) -> Decision {
    let (needed, why) = needed(rules, sight);
    let held = memory.highest(sight.now, needed, rules.idle_ms);
    let (wanted, why) = if held > needed { (held, Why::Held { hold_ms: rules.idle_ms }) } else { (needed, why) };
    match wanted {
        wanted if wanted > rules.max => Decision { wanted: rules.max, why: Why::Max { would: wanted } },
        wanted if wanted < rules.min => Decision { wanted: rules.min, why: Why::Min },
        wanted => Decision { wanted, why },
    }
}

/// The workers that what is seen needs, whatever was before.
fn needed(rules: &Rules, sight: &Sight) -> (u32, Why) {
    let slots = u64::from(rules.slots.max(1));
    let tasks = sight.ready + sight.out;
    if tasks == 0 {
        return (0, Why::Nothing);
    }
    let count = |workers: u64| u32::try_from(workers).unwrap_or(u32::MAX);
    let work_ms = sight.work_ms.saturating_add(sight.unknown.saturating_mul(UNKNOWN_MS));
    let by_work = count(work_ms.div_ceil(slots.saturating_mul(rules.drain_ms.max(1)))).max(1);
    let by_tasks = count(tasks.div_ceil(slots));
    // Work that is under way isn't done sooner by fewer: who has a task stays, though what is left would need fewer. Of
    // tasks of unknown length each may be long.
    let worth = sight.work_ms.div_ceil(slots.saturating_mul((rules.drain_ms / STAY).max(1)));
    let worth = count(worth.saturating_add(sight.unknown.div_ceil(slots))).max(1);
    let busy = by_tasks.min(worth).min(sight.live.saturating_add(sight.starting));
    if by_work > by_tasks {
        (by_tasks, Why::Tasks { tasks, slots: rules.slots })
    } else if by_work >= busy {
        (
            by_work,
            Why::Work { work_ms: sight.work_ms, unknown: sight.unknown, slots: rules.slots, drain_ms: rules.drain_ms },
        )
    } else {
        (busy, Why::Busy { tasks })
    }
}

impl Memory {
    /// The most workers that were needed until less than `hold_ms` ago. What was needed at one look counts as needed until
    /// the next one, however much later that is.
    fn highest(&mut self, now: Timestamp, needed: u32, hold_ms: u64) -> u32 {
        if self.needed.back().is_some_and(|(at, _)| *at > now) {
            self.needed.clear();
        }
        match self.needed.back_mut() {
            Some((until, before)) if *before > needed => *until = now,
            _ => while self.needed.pop_back_if(|(_, before)| *before <= needed).is_some() {},
        }
        // Of what is needed now nobody knows until when it is.
        self.needed.push_back((now, needed));
        while self.needed.len() > 1 && self.needed.front().is_some_and(|(until, _)| now.since(*until) >= hold_ms) {
            self.needed.pop_front();
        }
        self.needed.front().map_or(needed, |(_, highest)| *highest)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        match self {
            Why::Nothing => write!(f, "nothing is ready or out"),
            Why::Work { work_ms, unknown, slots, drain_ms } => {
                write!(f, "{} s of work", seconds(*work_ms))?;
                if *unknown > 0 {
                    write!(f, " and {unknown} tasks of unknown length")?;
                }
                write!(f, ", to be done in {} s with {slots} slots each", seconds(*drain_ms))
            }
            Why::Tasks { tasks, slots } => write!(f, "{tasks} tasks for {slots} slots each: more would idle"),
            Why::Busy { tasks } => write!(f, "{tasks} tasks are left for those that work"),
            Why::Held { hold_ms } => write!(f, "they were needed within the last {} s", seconds(*hold_ms)),
            Why::Min => write!(f, "the least there may be"),
            Why::Max { would } => write!(f, "the most there may be; {would} would do"),
        }
    }
}
