//! What was written to journals or read from them lately, to be written again if the store goes back.
//!
//! Of each run the tail is one history without gaps. An entry at a place that is known already, or beyond the
//! next one, is of another history (the store had lost the run and it was made anew, say), and what was known of
//! the old one goes: pieces of two histories put together would say that things happened which never did.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use gristmill_backends::state::AppendEntry;
use gristmill_protocol::RunId;
use gristmill_protocol::limits::REASSERT_MS;
use tokio::time::Instant;

/// Entries kept, at the most: five seconds of the busiest shard, many times over.
const ENTRIES_MAX: usize = 65_536;

/// The last entries of one shard's journals.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    runs: BTreeMap<RunId, VecDeque<(Instant, AppendEntry)>>,
    entries: usize,
}

impl Tail {
    /// Keeps an entry that was written or read just now.
    pub(crate) fn push(&mut self, entry: AppendEntry) {
        if self.entries >= ENTRIES_MAX {
            self.drop_older_halves();
        }
        let known = self.runs.entry(entry.run).or_default();
        let before = known.len();
        while known.back().is_some_and(|(_, last)| last.position >= entry.position) {
            known.pop_back();
        }
        if known.back().is_some_and(|(_, last)| last.position + 1 != entry.position) {
            known.clear();
        }
        known.push_back((Instant::now(), entry));
        self.entries = self.entries + known.len() - before;
    }

    /// What was written more than five seconds before `at`, when the store lived, can't be lost.
    pub(crate) fn store_lived(&mut self, at: Instant) {
        let safe = Duration::from_millis(REASSERT_MS);
        self.retain(|written| at.saturating_duration_since(written) <= safe);
    }

    /// Makes room at once for many: what goes was written first, and of it the store is the least likely to lose any.
    fn drop_older_halves(&mut self) {
        for known in self.runs.values_mut() {
            known.drain(..known.len().div_ceil(2));
        }
        self.count();
    }

    fn retain(&mut self, keep: impl Fn(Instant) -> bool) {
        for known in self.runs.values_mut() {
            while known.front().is_some_and(|(written, _)| !keep(*written)) {
                known.pop_front();
            }
        }
        self.count();
    }

    fn count(&mut self) {
        self.runs.retain(|_, known| !known.is_empty());
        self.entries = self.runs.values().map(VecDeque::len).sum();
    }

    /// The positions that are known of a run: the first and the last.
    pub(crate) fn span(&self, run: RunId) -> Option<(u64, u64)> {
        let known = self.runs.get(&run)?;
        Some((known.front()?.1.position, known.back()?.1.position))
    }

    /// The entry of a run at a position.
    pub(crate) fn get(&self, run: RunId, position: u64) -> Option<&AppendEntry> {
        let known = self.runs.get(&run)?;
        let at = position.checked_sub(known.front()?.1.position)?;
        known.get(usize::try_from(at).ok()?).map(|(_, entry)| entry)
    }

    /// Forgets a run.
    pub(crate) fn forget(&mut self, run: RunId) {
        self.runs.remove(&run);
        self.count();
    }

    /// The runs of which something is known.
    pub(crate) fn runs(&self) -> BTreeSet<RunId> {
        self.runs.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use gristmill_backends::state::StatusChange;

    use super::*;

    fn entry(run: u128, position: u64, body: u8) -> AppendEntry {
        let run = RunId::from_u128(run);
        AppendEntry { run, position, body: vec![body], settled: Vec::new(), status: StatusChange::None }
    }

    #[test]
    fn two_histories_of_a_run_are_never_mixed() {
        let (mut tail, run) = (Tail::default(), RunId::from_u128(1));
        for position in 1..=4 {
            tail.push(entry(1, position, 1));
        }
        tail.push(entry(2, 9, 1));
        tail.push(entry(1, 2, 2));
        assert_eq!(tail.span(run), Some((1, 2)), "what followed in the other history is gone");
        assert_eq!(tail.get(run, 2).map(|entry| entry.body[0]), Some(2));
        tail.push(entry(1, 7, 2));
        assert_eq!(tail.span(run), Some((7, 7)), "a gap can't be bridged");
        assert!(tail.get(run, 2).is_none());
        assert_eq!(tail.entries, 2);
        tail.forget(run);
        assert_eq!((tail.entries, tail.runs()), (1, BTreeSet::from([RunId::from_u128(2)])));
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_kept_for_five_seconds_in_which_the_store_lives() {
        let (mut tail, run) = (Tail::default(), RunId::from_u128(1));
        let begin = Instant::now();
        tail.push(entry(1, 1, 1));
        tokio::time::advance(Duration::from_millis(REASSERT_MS)).await;
        tail.push(entry(1, 2, 1));
        tokio::time::advance(Duration::from_millis(REASSERT_MS)).await;
        // The store was last seen long ago.
        tail.store_lived(begin + Duration::from_millis(1));
        assert_eq!(tail.span(run), Some((1, 2)));
        tail.store_lived(Instant::now());
        assert_eq!(tail.span(run), Some((2, 2)));
    }
}
