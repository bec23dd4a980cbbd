//! Runs that were looked at lately, folded as far as their journals went then: the next look folds only what is new.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_backends::state::State;
use gristmill_protocol::fact::JournalBody;
use gristmill_protocol::{RunId, wire};
use gristmill_scheduler::history::{Folding, History, HistoryError};
use tokio::sync::Mutex as Turn;

/// Tasks of all runs that are kept folded: at some 100 bytes each, 200 MB. The runs looked at least lately go first.
const TASKS_MAX: u64 = 2_000_000;
/// Runs that are kept folded, for what each takes besides its tasks.
const RUNS_MAX: usize = 1_000;
/// Entries of a journal that are read at a time; each has at most 256 KiB.
const READ_MAX: usize = 64;

/// A run as far as its journal was read.
pub(crate) struct Viewed {
    folding: Folding,
    /// Position of the last entry, and the number of the append that wrote it: after the store went back, another one
    /// may stand there.
    position: u64,
    append: u64,
    /// What the entries so far come to, made when it is first asked for.
    history: Option<Arc<History>>,
}

impl Viewed {
    fn new(run: RunId) -> Viewed {
        Viewed { folding: Folding::new(run), position: 0, append: 0, history: None }
    }

    /// The run's journal up to here.
    pub(crate) fn folding(&self) -> &Folding {
        &self.folding
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// What the journal up to here says.
    pub(crate) fn history(&mut self) -> Result<Arc<History>, HistoryError> {
        if let Some(history) = &self.history {
            return Ok(history.clone());
        }
        let history = Arc::new(self.folding.finish()?);
        self.history = Some(history.clone());
        Ok(history)
    }

    /// Reads what is new; false when what was read before isn't the journal's any more.
    async fn catch_up(&mut self, state: &dyn State, run: RunId) -> Result<bool, HistoryError> {
        let failed = |source| HistoryError::State { run, source };
        // The last entry again, to see that it is still the same.
        let mut after = self.position.saturating_sub(1);
        let mut is_first = self.position > 0;
        loop {
            let entries = state.journal(run, after, READ_MAX).await.map_err(failed)?;
            let mut fresh = entries.as_slice();
            if is_first {
                match fresh.split_first() {
                    Some((last, rest)) if last.append == self.append => fresh = rest,
                    _ => return Ok(false),
                }
                is_first = false;
            }
            for entry in fresh {
                let body: JournalBody = wire::decode("a journal entry", &entry.body)
                    .map_err(|source| HistoryError::Damaged { run, position: entry.position, source })?;
                for fact in &body.facts {
                    self.folding.push(fact)?;
                }
                (self.position, self.append, self.history) = (entry.position, entry.append, None);
            }
            after = self.position;
            if entries.len() < READ_MAX {
                return Ok(true);
            }
        }
    }
}

/// A run's turn to be read: one reader folds, the others find it folded.
type Slot = Arc<Turn<Viewed>>;

/// The runs that are kept folded.
#[derive(Default)]
pub(crate) struct Views {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    runs: HashMap<RunId, KeptRun>,
    /// Counts looks, for which was the latest.
    looks: u64,
}

struct KeptRun {
    slot: Slot,
    looked: u64,
    tasks: u64,
}

impl Views {
    /// Reads a run as it stands, and asks something of it.
    pub(crate) async fn look<T>(
        &self,
        state: &dyn State,
        run: RunId,
        ask: impl FnOnce(&mut Viewed) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        let slot = self.slot(run);
        let mut viewed = slot.lock().await;
        match viewed.catch_up(state, run).await {
            Ok(true) => {}
            // What was read so far holds; the next look goes on from there.
            Err(error @ HistoryError::State { .. }) => return Err(error),
            Ok(false) | Err(_) => {
                *viewed = Viewed::new(run);
                viewed.catch_up(state, run).await?;
            }
        }
        let tasks = viewed.history()?.tasks();
        self.weigh(run, tasks);
        ask(&mut viewed)
    }

    fn slot(&self, run: RunId) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.looks += 1;
        let looked = kept.looks;
        let new = || KeptRun { slot: Arc::new(Turn::new(Viewed::new(run))), looked, tasks: 0 };
        let found = kept.runs.entry(run).or_insert_with(new);
        found.looked = looked;
        found.slot.clone()
    }

    /// Notes how large a run is, and lets go of others where all are too large together.
    fn weigh(&self, run: RunId, tasks: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.runs.get_mut(&run) {
            found.tasks = tasks;
        }
        while kept.runs.len() > RUNS_MAX
            || (kept.runs.len() > 1 && kept.runs.values().map(|kept| kept.tasks).sum::<u64>() > TASKS_MAX)
        {
            let Some(oldest) = kept.runs.iter().min_by_key(|(_, kept)| kept.looked).map(|(run, _)| *run) else {
                return;
            };
            kept.runs.remove(&oldest);
        }
    }
}
