//! Workers that start, work, drain and are lost. Each has one slot, as containers of a scaled pool mostly have.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::AttemptRef;

/// A worker's number.
pub(crate) type Number = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Live,
    Draining,
}

#[derive(Clone, Debug)]
struct Member {
    stage: Stage,
    since_ms: u64,
    /// The deliveries that it works on, one a slot.
    holds: Vec<Vec<AttemptRef>>,
}

/// All workers.
#[derive(Debug)]
pub(crate) struct Fleet {
    slots: usize,
    members: BTreeMap<Number, Member>,
    /// Those that take work and have a slot free, and those of them that work on nothing.
    free: BTreeSet<Number>,
    idle: BTreeSet<Number>,
    next: Number,
    paid_ms: u64,
    pub(crate) starts: u64,
    pub(crate) most: u32,
    live: u32,
    starting: u32,
    draining: u32,
}

impl Fleet {
    /// Nobody yet; each worker will run so many deliveries at a time.
    pub(crate) fn new(slots: u32) -> Fleet {
        Fleet {
            slots: slots.max(1) as usize,
            members: BTreeMap::new(),
            free: BTreeSet::new(),
            idle: BTreeSet::new(),
            next: 0,
            paid_ms: 0,
            starts: 0,
            most: 0,
            live: 0,
            starting: 0,
            draining: 0,
        }
    }

    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    pub(crate) fn starting(&self) -> u32 {
        self.starting
    }

    pub(crate) fn draining(&self) -> u32 {
        self.draining
    }

    /// Attempts that are with workers that finish what they have and go.
    pub(crate) fn leaving(&self) -> u64 {
        let leaving = self.members.values().filter(|member| member.stage == Stage::Draining);
        leaving.flat_map(|member| &member.holds).map(|delivery| delivery.len() as u64).sum()
    }

    /// Worker-milliseconds, from the start of each process to its end or to now.
    pub(crate) fn paid_ms(&self, now: u64) -> u64 {
        self.paid_ms + self.members.values().map(|member| now - member.since_ms).sum::<u64>()
    }

    /// A process is started.
    pub(crate) fn start(&mut self, now: u64) -> Number {
        let number = self.next;
        self.next += 1;
        self.starts += 1;
        self.starting += 1;
        self.members.insert(number, Member { stage: Stage::Starting, since_ms: now, holds: Vec::new() });
        self.most = self.most.max(self.members.len() as u32);
        number
    }

    /// A process has come up, unless it was told to go meanwhile.
    pub(crate) fn ready(&mut self, number: Number) {
        if let Some(member) = self.members.get_mut(&number)
            && member.stage == Stage::Starting
        {
            member.stage = Stage::Live;
            self.starting -= 1;
            self.live += 1;
            self.idle.insert(number);
            self.free.insert(number);
        }
    }

    /// A worker with a free slot takes a delivery.
    pub(crate) fn take(&mut self, attempts: &[AttemptRef]) -> Option<Number> {
        let number = self.free.first().copied()?;
        let member = self.members.get_mut(&number)?;
        member.holds.push(attempts.to_vec());
        self.idle.remove(&number);
        if member.holds.len() >= self.slots {
            self.free.remove(&number);
        }
        Some(number)
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Whether the worker holds this still: one that was lost does not.
    pub(crate) fn holds(&self, number: Number, attempt: AttemptRef) -> bool {
        self.members.get(&number).is_some_and(|member| member.holds.iter().flatten().any(|held| *held == attempt))
    }

    /// The worker is done with the delivery that has this attempt.
    pub(crate) fn done(&mut self, number: Number, attempt: AttemptRef, now: u64) {
        let Some(member) = self.members.get_mut(&number) else { return };
        member.holds.retain(|delivery| !delivery.contains(&attempt));
        let is_idle = member.holds.is_empty();
        match member.stage {
            Stage::Live => {
                self.free.insert(number);
                if is_idle {
                    self.idle.insert(number);
                }
            }
            Stage::Draining if is_idle => self.end(number, now),
            Stage::Draining | Stage::Starting => {}
        }
    }

    /// Lets one worker go: an idle one, else one that finishes what it has first. Those that start come up before.
    pub(crate) fn drain_one(&mut self, now: u64) -> bool {
        if let Some(number) = self.idle.last().copied() {
            self.end(number, now);
            return true;
        }
        let busy = self.members.iter().rev().find(|(_, member)| member.stage == Stage::Live).map(|(&number, _)| number);
        let Some(number) = busy else { return false };
        if let Some(member) = self.members.get_mut(&number) {
            member.stage = Stage::Draining;
        }
        self.free.remove(&number);
        self.live -= 1;
        self.draining += 1;
        true
    }

    /// Loses every `nth` live worker at once; what they held.
    pub(crate) fn lose_every(&mut self, nth: usize, now: u64) -> Vec<(Number, Vec<AttemptRef>)> {
        let live = self.members.iter().filter(|(_, member)| member.stage == Stage::Live);
        let numbers: Vec<Number> = live.map(|(&number, _)| number).step_by(nth.max(1)).collect();
        let lose = |number| {
            let held = self.members.get(&number).map(|member| member.holds.concat()).unwrap_or_default();
            self.end(number, now);
            (number, held)
        };
        numbers.into_iter().map(lose).collect()
    }

    fn end(&mut self, number: Number, now: u64) {
        self.idle.remove(&number);
        self.free.remove(&number);
        if let Some(member) = self.members.remove(&number) {
            self.paid_ms += now - member.since_ms;
            match member.stage {
                Stage::Starting => self.starting -= 1,
                Stage::Live => self.live -= 1,
                Stage::Draining => self.draining -= 1,
            }
        }
    }
}
