//! What the checker writes down beside the store, verb by verb, and what it finds wrong at once.
//!
//! [`Books`] belong to a state of the store and go back with it; [`Ledger`] knows all that ever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use gristmill_backends::state::memory::MemoryStore;
use gristmill_backends::state::{AppendEntry, Claim, ClaimAnswer, Finish, LeaseView, Renewal, Renewed};
use gristmill_protocol::fact::{Cause, Fact, JournalBody};
use gristmill_protocol::message::{ExpiryCause, InboxEntry, InboxEvent, Outcome, ReturnCause};
use gristmill_protocol::{AttemptRef, RunId, Shard, TaskKey, Timestamp, WorkerId, wire};

use tokio::time::Instant;

use crate::shadow::{Shadow, State};

/// Time within which an owner that isn't in trouble notices that the store went back.
const NOTICED_WITHIN: Duration = Duration::from_secs(8);

/// What follows from the verbs that the store remembers.
#[derive(Clone, Debug, Default)]
pub struct Books {
    pub runs: BTreeMap<RunId, Shadow>,
    /// Claims that were granted of tasks that name a limit, and may still be live.
    limited: BTreeMap<AttemptRef, WorkerId>,
    /// Attempts taken back from a worker that hasn't said that it stopped, and until when they count.
    stopping: BTreeMap<AttemptRef, (WorkerId, Timestamp)>,
    /// Reports that ended an attempt which was out.
    taken: BTreeSet<AttemptRef>,
    /// Attempts that were ended by a report, by expiry or by being taken back.
    closed: BTreeSet<AttemptRef>,
    /// Reports that went into the inbox.
    accepted: BTreeSet<(WorkerId, AttemptRef)>,
    /// Who granted leases belong to.
    holders: BTreeMap<AttemptRef, WorkerId>,
}

/// What happened in all lives of the store.
#[derive(Debug, Default)]
pub struct Ledger {
    pub violations: Vec<String>,
    /// Attempts whose assignment was ever written, and whether as solo each time.
    pub(crate) assigned: BTreeMap<AttemptRef, bool>,
    /// When reports last reached the store.
    pub(crate) reported: BTreeMap<(WorkerId, AttemptRef), Instant>,
    /// The tags under which attempts are known: more than one when the store went back and the attempt is of other
    /// items than before. Which one is recorded the books don't know, and the others are rightly ignored.
    pub(crate) tags: BTreeMap<AttemptRef, BTreeSet<u32>>,
    pub rollbacks: u32,
    /// When the store last went back.
    pub rolled_back: Option<Instant>,
    pub works_begun: u64,
    /// The most tasks that name the limit may be at work.
    pub limit: usize,
}

impl Ledger {
    /// Something is wrong.
    pub fn violation(&mut self, what: String) {
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    /// Whether every owner has noticed the last rollback.
    fn is_noticed(&self) -> bool {
        self.rolled_back.is_none_or(|at| at.elapsed() > NOTICED_WITHIN)
    }

    fn saw(&mut self, attempt: AttemptRef) {
        self.tags.entry(without_tag(attempt)).or_default().insert(attempt.task.tag);
    }

    fn is_ambiguous(&self, attempt: AttemptRef) -> bool {
        self.tags.get(&without_tag(attempt)).is_some_and(|tags| tags.len() > 1)
    }

    /// Work begins; returns whether it must be alone.
    pub fn work_begins(&mut self, attempt: AttemptRef) -> bool {
        self.works_begun += 1;
        match self.assigned.get(&without_tag(attempt)) {
            Some(solo) => *solo,
            None => {
                self.violation(format!("{attempt} is worked on though its assignment was never written"));
                false
            }
        }
    }
}

/// The event of an inbox entry, looked up before it goes.
pub fn entry_of(store: &MemoryStore, shard: Shard, id: gristmill_protocol::message::InboxId) -> Option<InboxEntry> {
    let mut before = id;
    match before.seq.checked_sub(1) {
        Some(seq) => before.seq = seq,
        None => {
            before.ms = before.ms.checked_sub(1)?;
            before.seq = u64::MAX;
        }
    }
    store.inbox(&[(shard, before)], 1).pop().map(|(_, entry)| entry).filter(|entry| entry.id == id)
}

impl Books {
    /// A run was made.
    pub fn created(&mut self, run: RunId, entry: &[u8], ledger: &mut Ledger) {
        let mut shadow = Shadow::default();
        if let Ok(body) = wire::decode::<JournalBody>("an entry", entry) {
            apply_all(run, &mut shadow, &body, ledger);
        }
        self.runs.insert(run, shadow);
    }

    /// An append took effect: `written` are its entries that are new, `events` what it consumed.
    pub fn appended(
        &mut self,
        store: &MemoryStore,
        written: &[&AppendEntry],
        events: &[InboxEntry],
        ledger: &mut Ledger,
    ) {
        // Until the owner has noticed a rollback its memory is ahead of its journals.
        let reported = if ledger.is_noticed() { self.wanted_successes(events, ledger) } else { Vec::new() };
        for entry in written {
            let body: JournalBody = match wire::decode("an entry", &entry.body) {
                Ok(body) => body,
                Err(error) => {
                    return ledger.violation(format!("{} has an entry that can't be read: {error}", entry.run));
                }
            };
            for fact in &body.facts {
                self.note(entry.run, fact, ledger);
            }
            let shadow = self.runs.entry(entry.run).or_default();
            apply_all(entry.run, shadow, &body, ledger);
            if body.facts.iter().any(|fact| matches!(fact, Fact::Resumed { .. })) {
                self.check_settled(entry.run, store, ledger);
            }
        }
        for (run, task, attempt) in reported {
            let Some(shadow) = self.runs.get(&run) else { continue };
            if !shadow.ended && matches!(shadow.state(task), Some(State::Out | State::Idle)) {
                ledger.violation(format!("{run}:{task}#{attempt} succeeded first and isn't recorded"));
            }
        }
    }

    /// The store knows again what is settled of a run that goes on.
    fn check_settled(&self, run: RunId, store: &MemoryStore, ledger: &mut Ledger) {
        let Some(shadow) = self.runs.get(&run) else { return };
        for index in &shadow.settled {
            // Nothing is known of an attempt as high as this one but what is known of the task.
            let highest = AttemptRef { run, task: TaskKey { index: *index, tag: u32::MAX }, attempt: u16::MAX };
            if store.leases(run.shard(), &[highest]) == [LeaseView::Unclaimed] {
                ledger.violation(format!("{run}:{index} has succeeded, which the store doesn't know after the resume"));
            }
        }
    }

    /// Successes among events whose tasks are out.
    fn wanted_successes(&self, events: &[InboxEntry], ledger: &Ledger) -> Vec<(RunId, u32, u16)> {
        let mut wanted = Vec::new();
        for entry in events {
            let InboxEvent::Finished { reports, .. } = &entry.event else { continue };
            for report in reports {
                let AttemptRef { run, task: TaskKey { index, .. }, attempt } = report.attempt;
                let Some(shadow) = self.runs.get(&run) else { continue };
                let success = matches!(report.outcome, Outcome::Succeeded { .. });
                // An attempt whose own assignment is in the journal has the right tag.
                let own = self.taken.contains(&report.attempt);
                // So has an older one, unless what is put into the task may have become another in between.
                let older = ledger.rollbacks == 0 && !shadow.was_resumed();
                let known =
                    shadow.last_attempt(index) >= attempt && (own || older) && !ledger.is_ambiguous(report.attempt);
                if success && known && shadow.state(index) == Some(State::Out) {
                    wanted.push((run, index, attempt));
                }
            }
        }
        wanted
    }

    fn note(&mut self, run: RunId, fact: &Fact, ledger: &mut Ledger) {
        match fact {
            Fact::Ended { task, attempt, cause: Cause::Returned(ReturnCause::RecordClosed), worker: None, .. } => {
                let eaten = self
                    .taken
                    .iter()
                    .find(|taken| taken.run == run && taken.task.index == *task && taken.attempt == *attempt);
                if let Some(eaten) = eaten.filter(|eaten| !ledger.is_ambiguous(**eaten)) {
                    ledger.violation(format!("{eaten} was reported, and is taken for closed without a word"));
                }
            }
            Fact::Assigned { solo, ranges, .. } => {
                // The tag isn't in the fact; it is found when the attempt is claimed.
                for range in ranges {
                    for index in range.first..range.first + range.count {
                        let low = AttemptRef { run, task: TaskKey { index, tag: 0 }, attempt: range.attempt };
                        let known = ledger.assigned.entry(low).or_insert(*solo);
                        *known &= *solo;
                    }
                }
            }
            _ => {}
        }
    }

    /// Claims were answered.
    pub fn claimed(&mut self, claim: &Claim, answers: &[ClaimAnswer], ledger: &mut Ledger) {
        for (item, answer) in claim.attempts.iter().zip(answers) {
            let attempt = item.attempt;
            ledger.saw(attempt);
            let other = self.holders.get(&attempt).filter(|other| **other != claim.worker);
            if *answer == ClaimAnswer::Taken && other.is_none() {
                ledger.violation(format!("{attempt} isn't granted to {}, as if another had it", claim.worker));
            }
            if *answer != ClaimAnswer::Granted {
                continue;
            }
            let Some(shadow) = self.runs.get(&attempt.run) else {
                ledger.violation(format!("{attempt} is granted of a run that isn't there"));
                continue;
            };
            if shadow.ended || shadow.cancelling {
                ledger.violation(format!("{attempt} is granted of a run that isn't open"));
            }
            if shadow.settled.contains(&attempt.task.index) {
                ledger.violation(format!("{attempt} is granted though its task's success is recorded"));
            }
            if let Some(other) = other {
                ledger.violation(format!("{attempt} is granted to {} and to {other}", claim.worker));
            }
            self.begun(attempt, claim.worker);
        }
    }

    fn begun(&mut self, attempt: AttemptRef, worker: WorkerId) {
        self.holders.insert(attempt, worker);
        if self.runs.get(&attempt.run).is_some_and(|shadow| shadow.is_limited(attempt.task.index)) {
            self.limited.insert(attempt, worker);
        }
    }

    /// A heartbeat was answered.
    pub fn renewed(&mut self, renewal: &Renewal, renewed: &Renewed, ledger: &mut Ledger) {
        for held in &renewal.held {
            let attempt = held.attempt;
            if !renewed.stop.contains(&attempt) {
                self.begun(attempt, renewal.worker);
                continue;
            }
            let Some(shadow) = self.runs.get(&attempt.run) else { continue };
            let over = shadow.ended
                || shadow.settled.contains(&attempt.task.index)
                || self.closed.contains(&attempt)
                || self.knows_higher(attempt)
                || !shadow.is_out(attempt)
                || self.holders.get(&attempt).is_some_and(|holder| *holder != renewal.worker);
            if !over {
                ledger.violation(format!("{} is told to stop {attempt}, which is its own", renewal.worker));
            }
        }
    }

    /// Whether the store knows of a higher attempt of the task, which has displaced this one: after a rollback what
    /// was done of it may be said again before the journal has it.
    fn knows_higher(&self, attempt: AttemptRef) -> bool {
        let higher = (Bound::Excluded(attempt), Bound::Included(AttemptRef { attempt: u16::MAX, ..attempt }));
        self.holders.range(higher).next().is_some() || self.closed.range(higher).next().is_some()
    }

    /// Reports were sent; `event` is what went into the inbox.
    pub fn finished(&mut self, finish: &Finish, event: Option<&InboxEvent>, ledger: &mut Ledger) {
        let accepted = match event {
            Some(InboxEvent::Finished { reports, .. }) => &reports[..],
            _ => &[],
        };
        for report in &finish.reports {
            let attempt = report.attempt;
            ledger.saw(attempt);
            ledger.reported.insert((finish.worker, attempt), Instant::now());
            if self.stopping.get(&attempt).is_some_and(|(worker, _)| *worker == finish.worker) {
                self.stopping.remove(&attempt);
            }
            let out = self.runs.get(&attempt.run).is_some_and(|shadow| shadow.is_out(attempt));
            if accepted.contains(report) {
                self.closed.insert(attempt);
                self.accepted.insert((finish.worker, attempt));
            }
            // An owner that hasn't noticed a rollback yet takes a report for one that it has recorded.
            if accepted.contains(report) && out && ledger.is_noticed() && report.outcome != Outcome::Stopped {
                self.taken.insert(attempt);
            }
        }
    }

    /// The reports that were accepted since the state of the store that other books belong to.
    pub fn reported_since(&self, earlier: &Books) -> Vec<(WorkerId, AttemptRef)> {
        self.accepted.difference(&earlier.accepted).copied().collect()
    }

    /// Something was put into an inbox by the owner's verbs.
    pub fn happened(&mut self, event: &InboxEvent) {
        match event {
            InboxEvent::Expired { ended } => self.closed.extend(ended.iter().map(|ended| ended.attempt)),
            InboxEvent::Revoked { ended } => {
                for revoked in ended {
                    self.closed.insert(revoked.attempt);
                    if let Some(holder) = revoked.holder {
                        self.stopping.insert(revoked.attempt, (holder.worker, holder.until));
                    }
                }
            }
            _ => {}
        }
    }

    /// Leases of the limit that are live now are no more than may be.
    pub fn check_limit(&mut self, store: &MemoryStore, now: Timestamp, ledger: &mut Ledger) {
        self.stopping.retain(|_, (_, until)| *until > now);
        let mut live = Vec::new();
        let mut over = Vec::new();
        for (attempt, worker) in &self.limited {
            let held = match store.leases(attempt.run.shard(), &[*attempt])[..] {
                [LeaseView::Held(holder)] => Some(holder.until > now),
                _ => None,
            };
            if held == Some(true) || self.stopping.contains_key(attempt) {
                // After a rollback work may go on of which the journal knows nothing; it isn't counted by anyone.
                let known = self.runs.get(&attempt.run).is_some_and(|shadow| shadow.is_out(*attempt));
                // What its worker has reported is over in fact: an owner may know so before it notices that the
                // store has forgotten it.
                let is_over = ledger.reported.contains_key(&(*worker, *attempt));
                if (known && !is_over) || ledger.rollbacks == 0 {
                    live.push(*attempt);
                }
            } else if held.is_none() {
                over.push(*attempt);
            }
        }
        for attempt in over {
            self.limited.remove(&attempt);
        }
        if live.len() > ledger.limit {
            let live: Vec<String> = live.iter().map(ToString::to_string).collect();
            ledger.violation(format!(
                "{} leases of a limit of {} are live: {}",
                live.len(),
                ledger.limit,
                live.join(", ")
            ));
        }
    }
}

/// Attempts that an event says were lost.
pub fn lost(event: &InboxEvent) -> impl Iterator<Item = (AttemptRef, WorkerId)> + '_ {
    let ended = match event {
        InboxEvent::Expired { ended } => &ended[..],
        _ => &[],
    };
    ended.iter().filter(|ended| ended.cause == ExpiryCause::Lost).map(|ended| (ended.attempt, ended.worker))
}

/// The name under which an attempt's assignment is written down.
pub fn without_tag(attempt: AttemptRef) -> AttemptRef {
    AttemptRef { task: TaskKey { tag: 0, ..attempt.task }, ..attempt }
}

fn apply_all(run: RunId, shadow: &mut Shadow, body: &JournalBody, ledger: &mut Ledger) {
    for fact in &body.facts {
        if let Err(what) = shadow.apply(fact) {
            ledger.violation(format!("{run}: {what}"));
        }
    }
}
