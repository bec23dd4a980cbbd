//! Named limits: how many tasks that name one are at work, counted from what is out, so they can't leak.

use std::collections::{BTreeMap, BTreeSet};

use gristmill_protocol::RunId;

/// All named limits of the runs that are held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    by_name: BTreeMap<String, Limit>,
}

/// One named limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limit {
    /// What each run that names it declares; the smallest holds.
    declared: BTreeMap<RunId, u32>,
    /// Attempts at work, or taken back and perhaps still at work.
    pub(crate) in_use: u32,
    /// Lanes that had something ready when no room was left.
    pub(crate) waiting: BTreeSet<(RunId, u16)>,
}

impl Limit {
    /// How many tasks that name it may run at a time.
    pub(crate) fn max(&self) -> u32 {
        self.declared.values().copied().min().unwrap_or(u32::MAX)
    }

    fn room(&self) -> u32 {
        self.max().saturating_sub(self.in_use)
    }
}

impl Limits {
    /// Takes note of what a run declares.
    pub(crate) fn declare(&mut self, run: RunId, name: &str, max: u32) {
        self.by_name.entry(name.to_owned()).or_default().declared.insert(run, max);
    }

    /// Forgets what a run declared; the lanes that waited may have room with the others' declarations.
    pub(crate) fn withdraw(&mut self, run: RunId, name: &str) -> Vec<(RunId, u16)> {
        let Some(limit) = self.by_name.get_mut(name) else { return Vec::new() };
        limit.declared.remove(&run);
        limit.waiting.retain(|(waiting, _)| *waiting != run);
        let woken = std::mem::take(&mut limit.waiting).into_iter().collect();
        if limit.declared.is_empty() && limit.in_use == 0 {
            self.by_name.remove(name);
        }
        woken
    }

    /// The limit with this name, if any run declares it.
    pub(crate) fn get(&self, name: &str) -> Option<&Limit> {
        self.by_name.get(name)
    }

    /// All limits by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Limit)> {
        self.by_name.iter().map(|(name, limit)| (name.as_str(), limit))
    }

    /// How many more tasks may start that name all of `names`; and the limit that has no room.
    pub(crate) fn room<'a>(&self, names: &'a [String]) -> Result<u32, &'a str> {
        let mut room = u32::MAX;
        for name in names {
            match self.by_name.get(name).map_or(u32::MAX, Limit::room) {
                0 => return Err(name),
                left => room = room.min(left),
            }
        }
        Ok(room)
    }

    /// Counts tasks that start.
    pub(crate) fn take(&mut self, names: &[String], count: u32) {
        for name in names {
            self.by_name.entry(name.clone()).or_default().in_use += count;
        }
    }

    /// Counts a task that has ended; returns the lanes that waited for it.
    pub(crate) fn give_back(&mut self, names: &[String]) -> Vec<(RunId, u16)> {
        let mut woken = Vec::new();
        for name in names {
            if let Some(limit) = self.by_name.get_mut(name) {
                limit.in_use = limit.in_use.checked_sub(1).expect("a limit is given back as often as taken");
                woken.extend(std::mem::take(&mut limit.waiting));
            }
        }
        woken
    }

    /// Lets a lane wait for room.
    pub(crate) fn wait(&mut self, name: &str, run: RunId, lane: u16) {
        self.by_name.entry(name.to_owned()).or_default().waiting.insert((run, lane));
    }
}
