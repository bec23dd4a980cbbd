//! What must be true at the end of an execution, read from the journals as they are then.

use std::collections::BTreeSet;

use gristmill_protocol::fact::JournalBody;
use gristmill_protocol::{RunId, wire};
use gristmill_scheduler_core::Scheduler;

use crate::plan;
use crate::shadow::Shadow;
use crate::store::SimStore;

/// What hasn't ended: runs, and events that nobody has taken.
pub fn unfinished(store: &SimStore) -> Vec<String> {
    let inner = store.lock();
    let open = plan::shards().into_iter().flat_map(|shard| inner.store.open_runs(shard));
    let mut unfinished: Vec<String> =
        open.map(|run| format!("{} is stuck: it hasn't ended though all has been quiet", run.run)).collect();
    for shard in plan::shards() {
        let waiting = inner.store.model().inbox_len(shard);
        if waiting > 0 {
            unfinished.push(format!("{waiting} events of shard {shard} are stuck in its inbox"));
        }
    }
    unfinished
}

/// Everything that is wrong with an execution that has ended.
pub fn check(store: &SimStore, acknowledged: &[RunId]) -> Vec<String> {
    let inner = store.lock();
    let mut wrong = inner.ledger.violations.clone();
    let runs: BTreeSet<RunId> = inner.store.runs(None, usize::MAX).iter().map(|record| record.run).collect();
    for run in acknowledged.iter().filter(|run| !runs.contains(run)) {
        wrong.push(format!("{run} is lost: its submission was acknowledged"));
    }
    for run in runs {
        if let Err(what) = check_journal(&inner.store, run) {
            wrong.push(format!("{run}: {what}"));
        }
    }
    wrong
}

/// A journal has no gaps, tells a story that can be true, and replays.
fn check_journal(store: &gristmill_backends::state::memory::MemoryStore, run: RunId) -> Result<(), String> {
    let (mut core, mut shadow) = (Scheduler::new(), Shadow::default());
    let entries = store.journal(run, 0, usize::MAX);
    for (at, entry) in entries.iter().enumerate() {
        if entry.position != at as u64 + 1 {
            return Err(format!("entry {} stands at place {}", entry.position, at + 1));
        }
        let body: JournalBody = wire::decode("an entry", &entry.body).map_err(|error| error.to_string())?;
        for fact in &body.facts {
            shadow.apply(fact)?;
            core.replay(run, fact).map_err(|error| error.to_string())?;
        }
    }
    let record = store.run(run).ok_or("it has no record")?;
    if record.head != entries.len() as u64 {
        return Err(format!("its record says that entry {} is the last, and it is {}", record.head, entries.len()));
    }
    if core.status(run) != record.status {
        return Err(format!("its journal says {:?}, and its record {:?}", core.status(run), record.status));
    }
    core.check_invariants();
    Ok(())
}
