//! The rules of attempts: how a lease begins, holds and ends.
//!
//! A task has one record: its highest known attempt, and whether somebody works on it. A lease ends exactly
//! once, and the call that ends it puts the event into the inbox in the same step. A success is taken from
//! any attempt, because the same work gives the same result and the first success wins; other endings count
//! only when they are the record's own.

use std::collections::BTreeSet;

use gristmill_protocol::limits::{INBOX_MAX, LEASE_MS};
use gristmill_protocol::message::{Expired, ExpiryCause, Holder, InboxEvent, Outcome, Report, Revoked};
use gristmill_protocol::twins::{Twin, left_out};
use gristmill_protocol::{AttemptRef, OwnerToken, Shard, Timestamp, WorkerId};

use super::{Ageing, RunModel, RunState, ShardModel, StoreModel};
use crate::state::{
    Claim, ClaimAnswer, ClaimItem, Claimed, Finish, FinishAnswer, HeldLease, LeaseView, Renewal, StateError, WorkerView,
};

/// What is known of a task's highest attempt.
#[derive(Clone, Debug)]
pub(super) struct LeaseRecord {
    attempt: u16,
    state: LeaseState,
    /// Endings that a repeated call must not bring into the inbox a second time, and workers that were told
    /// to stop and haven't said yet that they have. Empty but for late and displaced attempts.
    past: Vec<Past>,
}

#[derive(Clone, Copy, Debug)]
enum LeaseState {
    Open(OpenLease),
    Closed { worker: Option<WorkerId>, since: Timestamp, how: Closing },
}

#[derive(Clone, Copy, Debug)]
struct OpenLease {
    worker: WorkerId,
    since: Timestamp,
    until: Timestamp,
    deadline: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum Closing {
    Reported {
        success: bool,
    },
    Expired,
    /// `stopped` once the worker has said that it stopped.
    Revoked {
        stopped: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Past {
    attempt: u16,
    worker: WorkerId,
    end: PastEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PastEnd {
    Reported,
    AwaitsStop,
}

impl LeaseRecord {
    fn open(attempt: u16, lease: OpenLease) -> LeaseRecord {
        LeaseRecord { attempt, state: LeaseState::Open(lease), past: Vec::new() }
    }

    fn closed(attempt: u16, worker: Option<WorkerId>, since: Timestamp, how: Closing) -> LeaseRecord {
        LeaseRecord { attempt, state: LeaseState::Closed { worker, since, how }, past: Vec::new() }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, LeaseState::Open(_))
    }

    fn close(&mut self, worker: Option<WorkerId>, since: Timestamp, how: Closing) {
        self.state = LeaseState::Closed { worker, since, how };
    }

    /// The run has ended, and the attempt with it.
    pub(super) fn close_with_run(&mut self, now: Timestamp) {
        if let LeaseState::Open(lease) = self.state {
            self.close(Some(lease.worker), now, Closing::Expired);
        }
    }

    /// Makes way for the record of a higher attempt, which keeps what may still be said of this one.
    fn displaced_by(&mut self, mut higher: LeaseRecord) {
        let end = match self.state {
            LeaseState::Closed { worker: Some(worker), how: Closing::Reported { success: true }, .. } => {
                Some((worker, PastEnd::Reported))
            }
            LeaseState::Closed { worker: Some(worker), how: Closing::Revoked { stopped: false }, .. } => {
                Some((worker, PastEnd::AwaitsStop))
            }
            _ => None,
        };
        higher.past = std::mem::take(&mut self.past);
        higher.past.extend(end.map(|(worker, end)| Past { attempt: self.attempt, worker, end }));
        *self = higher;
    }

    /// Takes a report that isn't the open lease's own: a success once, a stop that is waited for once.
    fn late(&mut self, worker: WorkerId, attempt: u16, outcome: &Outcome) -> Verdict {
        let known = self.past.iter_mut().find(|past| past.attempt == attempt && past.worker == worker);
        match (outcome, known.as_ref().map(|past| past.end)) {
            (Outcome::Succeeded { .. } | Outcome::Expanded(_) | Outcome::Stopped, Some(PastEnd::Reported)) => {
                Verdict::Known
            }
            (Outcome::Succeeded { .. } | Outcome::Expanded(_), None) => {
                self.past.push(Past { attempt, worker, end: PastEnd::Reported });
                Verdict::Take
            }
            (Outcome::Succeeded { .. } | Outcome::Expanded(_) | Outcome::Stopped, Some(PastEnd::AwaitsStop)) => {
                if let Some(past) = known {
                    past.end = PastEnd::Reported;
                }
                Verdict::Take
            }
            _ => Verdict::Refuse(FinishAnswer::Stale),
        }
    }
}

/// What becomes of one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes into the inbox.
    Take,
    /// It went into the inbox before.
    Known,
    Refuse(FinishAnswer),
}

impl Ageing {
    /// When a lease may end, as far as the store alone can say.
    fn due(self, lease: &OpenLease) -> Option<Timestamp> {
        match self {
            Ageing::ByTime => Some(lease.until),
            Ageing::ByDeadline => lease.deadline,
        }
    }
}

fn lease_end(now: Timestamp, deadline: Option<Timestamp>) -> Timestamp {
    let end = now.plus_ms(LEASE_MS);
    deadline.map_or(end, |deadline| end.min(deadline))
}

impl StoreModel {
    /// Begins leases. One answer an attempt, in order.
    pub fn claim(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        let ageing = self.ageing;
        let shard = self.shard_mut(claim.shard);
        if shard.inbox.len() >= INBOX_MAX {
            return Claimed::Busy;
        }
        Claimed::Answers(claim.attempts.iter().map(|item| shard.claim(claim.worker, item, ageing, now)).collect())
    }

    /// Says that a worker lives and what it holds. Returns the attempts that aren't its own any more.
    pub fn renew(&mut self, renewal: Renewal, now: Timestamp) -> Vec<AttemptRef> {
        let ageing = self.ageing;
        let mut stop = Vec::new();
        for held in &renewal.held {
            let shard = self.shard_mut(held.attempt.run.shard());
            if !shard.renew(renewal.worker, held, ageing, now) {
                stop.push(held.attempt);
            }
        }
        let held = renewal.held.into_iter().map(|held| (held.attempt, held.progress)).collect();
        let Renewal { worker, pools, slots, draining, about, .. } = renewal;
        self.workers.insert(worker, WorkerView { worker, pools, slots, draining, about, seen: now, held });
        self.forget_silent_workers(now);
        stop
    }

    /// Ends leases with reports. One answer a report, in order; what is accepted is one inbox entry.
    pub fn finish(&mut self, finish: Finish, now: Timestamp) -> Vec<FinishAnswer> {
        let ageing = self.ageing;
        let shard = self.shard_mut(finish.shard);
        let mut accepted = Vec::with_capacity(finish.reports.len());
        let mut answers = Vec::with_capacity(finish.reports.len());
        for report in finish.reports {
            let verdict = shard.finish(finish.worker, &report, ageing, now);
            answers.push(match verdict {
                Verdict::Take | Verdict::Known => FinishAnswer::Recorded,
                Verdict::Refuse(answer) => answer,
            });
            if verdict == Verdict::Take {
                accepted.push(report);
            }
        }
        if !accepted.is_empty() {
            shard.push(now, InboxEvent::Finished { worker: finish.worker, reports: accepted });
        }
        answers
    }

    /// Ends up to `limit` leases whose time has come. Returns how many.
    pub fn expire(
        &mut self,
        shard: Shard,
        token: OwnerToken,
        limit: usize,
        now: Timestamp,
    ) -> Result<usize, StateError> {
        self.check_owner(shard, token, now)?;
        let ended = self.shard_mut(shard).expire(limit, now);
        let count = ended.len();
        if count > 0 {
            self.shard_mut(shard).push(now, InboxEvent::Expired { ended });
        }
        Ok(count)
    }

    /// Ends the given attempts, claimed or not.
    pub fn revoke(
        &mut self,
        shard: Shard,
        token: OwnerToken,
        attempts: &[AttemptRef],
        now: Timestamp,
    ) -> Result<(), StateError> {
        self.check_owner(shard, token, now)?;
        let ageing = self.ageing;
        let model = self.shard_mut(shard);
        let ended: Vec<Revoked> =
            attempts.iter().map(|&attempt| Revoked { attempt, holder: model.revoke(attempt, ageing, now) }).collect();
        if !ended.is_empty() {
            model.push(now, InboxEvent::Revoked { ended });
        }
        Ok(())
    }

    /// What is known of the given attempts of one shard, in order.
    pub fn leases(&self, shard: Shard, attempts: &[AttemptRef]) -> Vec<LeaseView> {
        let runs = self.shard(shard).map(|shard| &shard.runs);
        attempts
            .iter()
            .map(|attempt| match runs.and_then(|runs| runs.get(&attempt.run)) {
                Some(run) => run.lease(*attempt),
                // Nothing of a run that isn't there can be held, now or later.
                None => LeaseView::Closed { since: Timestamp(0) },
            })
            .collect()
    }

    /// The workers that were heard of within the length of a lease.
    pub fn workers(&self, now: Timestamp) -> Vec<WorkerView> {
        self.workers.values().filter(|worker| now.since(worker.seen) <= LEASE_MS).cloned().collect()
    }

    /// Forgets a worker that has shut down in order.
    pub fn leave(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// Drops workers that aren't listed any more; once a lease, because it looks at all of them.
    fn forget_silent_workers(&mut self, now: Timestamp) {
        if now.since(self.pruned) > LEASE_MS {
            self.workers.retain(|_, worker| now.since(worker.seen) <= LEASE_MS);
            self.pruned = now;
        }
    }
}

impl ShardModel {
    fn claim(&mut self, worker: WorkerId, item: &ClaimItem, ageing: Ageing, now: Timestamp) -> ClaimAnswer {
        let attempt = item.attempt;
        let Some(run) = self.runs.get_mut(&attempt.run) else { return ClaimAnswer::Over };
        if run.settled.contains(attempt.task.index) {
            return ClaimAnswer::Settled;
        }
        if run.head.state != RunState::Open {
            return ClaimAnswer::Over;
        }
        if let Some(record) = run.leases.get(&attempt.task) {
            match record.state {
                _ if record.attempt > attempt.attempt => return ClaimAnswer::Stale,
                LeaseState::Closed { .. } if record.attempt == attempt.attempt => return ClaimAnswer::Stale,
                LeaseState::Open(lease) if record.attempt == attempt.attempt => {
                    return if lease.worker == worker { ClaimAnswer::Granted } else { ClaimAnswer::Taken };
                }
                LeaseState::Open(_) if left_out(Twin::ClaimDisplaces) => return ClaimAnswer::Taken,
                LeaseState::Open(_) | LeaseState::Closed { .. } => {}
            }
        }
        let deadline = item.timeout_ms.map(|ms| now.plus_ms(ms));
        self.begin(attempt, OpenLease { worker, since: now, until: lease_end(now, deadline), deadline }, ageing);
        ClaimAnswer::Granted
    }

    /// Writes an open record in place of what was known of lower attempts.
    fn begin(&mut self, attempt: AttemptRef, lease: OpenLease, ageing: Ageing) {
        self.due.extend(ageing.due(&lease).map(|due| (due, attempt)));
        self.replace(attempt, LeaseRecord::open(attempt.attempt, lease), ageing);
    }

    /// Puts a record in place of that of a lower attempt, if there is one.
    fn replace(&mut self, attempt: AttemptRef, record: LeaseRecord, ageing: Ageing) {
        let Some(run) = self.runs.get_mut(&attempt.run) else { return };
        match run.leases.get_mut(&attempt.task) {
            None => {
                run.leases.insert(attempt.task, record);
            }
            Some(lower) => {
                if let LeaseState::Open(lease) = lower.state {
                    let lower = AttemptRef { attempt: lower.attempt, ..attempt };
                    forget_due(&mut self.due, lower, &lease, ageing);
                }
                lower.displaced_by(record);
            }
        }
    }

    /// Makes a held lease last longer; `false` when the worker has to stop.
    fn renew(&mut self, worker: WorkerId, held: &HeldLease, ageing: Ageing, now: Timestamp) -> bool {
        let attempt = held.attempt;
        let Some(run) = self.runs.get_mut(&attempt.run) else { return false };
        if run.head.state.ended().is_some() || run.settled.contains(attempt.task.index) {
            return false;
        }
        match run.leases.get_mut(&attempt.task) {
            Some(record) if record.attempt > attempt.attempt => false,
            Some(record) if record.attempt == attempt.attempt => match &mut record.state {
                LeaseState::Open(lease) if lease.worker == worker => {
                    let deadline = lease.deadline.filter(|_| !left_out(Twin::RenewKeepsDeadline));
                    if deadline.is_none_or(|deadline| deadline > now) {
                        forget_due(&mut self.due, attempt, lease, ageing);
                        lease.until = lease_end(now, deadline);
                        self.due.extend(ageing.due(lease).map(|due| (due, attempt)));
                    }
                    true
                }
                LeaseState::Open(_) | LeaseState::Closed { .. } => false,
            },
            // The store went back to before the claim: running work is put in again.
            Some(_) | None => {
                let deadline = held.timeout_left_ms.map(|ms| now.plus_ms(ms));
                let lease = OpenLease { worker, since: now, until: lease_end(now, deadline), deadline };
                self.begin(attempt, lease, ageing);
                true
            }
        }
    }

    fn finish(&mut self, worker: WorkerId, report: &Report, ageing: Ageing, now: Timestamp) -> Verdict {
        let attempt = report.attempt;
        let success = matches!(report.outcome, Outcome::Succeeded { .. } | Outcome::Expanded(_));
        let reported = Closing::Reported { success };
        let Some(run) = self.runs.get_mut(&attempt.run).filter(|run| run.head.state.ended().is_none()) else {
            return Verdict::Refuse(FinishAnswer::Over);
        };
        if run.settled.contains(attempt.task.index) {
            if let Some(record) = run.leases.get(&attempt.task)
                && record.attempt == attempt.attempt
                && let LeaseState::Open(lease) = record.state
                && lease.worker == worker
            {
                forget_due(&mut self.due, attempt, &lease, ageing);
                run.leases.remove(&attempt.task);
            }
            return Verdict::Refuse(FinishAnswer::Settled);
        }
        match run.leases.get_mut(&attempt.task) {
            Some(record) if record.attempt > attempt.attempt => record.late(worker, attempt.attempt, &report.outcome),
            Some(record) if record.attempt == attempt.attempt => match &mut record.state {
                LeaseState::Open(lease) if lease.worker == worker => {
                    forget_due(&mut self.due, attempt, lease, ageing);
                    record.close(Some(worker), now, reported);
                    Verdict::Take
                }
                LeaseState::Closed { worker: Some(holder), how: Closing::Reported { .. }, .. } if *holder == worker => {
                    Verdict::Known
                }
                LeaseState::Closed { worker: holder, how: Closing::Revoked { stopped }, .. }
                    if report.outcome == Outcome::Stopped && holder.is_none_or(|holder| holder == worker) =>
                {
                    if std::mem::replace(stopped, true) {
                        Verdict::Known
                    } else {
                        Verdict::Take
                    }
                }
                LeaseState::Open(_) | LeaseState::Closed { .. } => {
                    record.late(worker, attempt.attempt, &report.outcome)
                }
            },
            // The store went back to before the claim: the work was done all the same.
            Some(_) | None => {
                let record = LeaseRecord::closed(attempt.attempt, Some(worker), now, reported);
                self.replace(attempt, record, ageing);
                Verdict::Take
            }
        }
    }

    fn expire(&mut self, limit: usize, now: Timestamp) -> Vec<Expired> {
        let mut ended = Vec::new();
        while ended.len() < limit
            && let Some(&(due, attempt)) = self.due.first()
            && due <= now
        {
            self.due.pop_first();
            let Some(run) = self.runs.get_mut(&attempt.run) else { continue };
            let Some(record) = run.leases.get_mut(&attempt.task).filter(|record| record.attempt == attempt.attempt)
            else {
                continue;
            };
            let LeaseState::Open(lease) = record.state else { continue };
            let timed_out = lease.deadline.is_some_and(|deadline| deadline <= now);
            let cause = if timed_out { ExpiryCause::TimedOut } else { ExpiryCause::Lost };
            record.close(Some(lease.worker), now, Closing::Expired);
            run.drop_settled(attempt);
            ended.push(Expired { attempt, worker: lease.worker, cause });
        }
        ended
    }

    /// Closes an attempt for good. Returns who had it, if somebody did until this call.
    fn revoke(&mut self, attempt: AttemptRef, ageing: Ageing, now: Timestamp) -> Option<Holder> {
        let run = self.runs.get_mut(&attempt.run).filter(|run| run.head.state.ended().is_none())?;
        let revoked = Closing::Revoked { stopped: false };
        let mut holder = None;
        if let Some(record) = run.leases.get_mut(&attempt.task)
            && record.attempt <= attempt.attempt
            && let LeaseState::Open(lease) = record.state
        {
            let open = AttemptRef { attempt: record.attempt, ..attempt };
            forget_due(&mut self.due, open, &lease, ageing);
            record.close(Some(lease.worker), now, revoked);
            holder = Some(Holder { worker: lease.worker, until: lease.until });
        }
        if run.leases.get(&attempt.task).is_none_or(|record| record.attempt < attempt.attempt) {
            self.replace(attempt, LeaseRecord::closed(attempt.attempt, None, now, revoked), ageing);
        }
        if let Some(run) = self.runs.get_mut(&attempt.run) {
            run.drop_settled(attempt);
        }
        holder
    }
}

impl RunModel {
    fn lease(&self, attempt: AttemptRef) -> LeaseView {
        if self.head.state.ended().is_some() {
            return LeaseView::Closed { since: Timestamp(0) };
        }
        match self.leases.get(&attempt.task) {
            Some(record) if record.attempt >= attempt.attempt => match record.state {
                LeaseState::Open(lease) if record.attempt == attempt.attempt => {
                    LeaseView::Held(Holder { worker: lease.worker, until: lease.until })
                }
                LeaseState::Open(OpenLease { since, .. }) | LeaseState::Closed { since, .. } => {
                    LeaseView::Closed { since }
                }
            },
            _ if self.settled.contains(attempt.task.index) => LeaseView::Closed { since: self.settled_at },
            _ => LeaseView::Unclaimed,
        }
    }

    /// Drops the closed record of a task that is settled: the settled bit says it all.
    fn drop_settled(&mut self, attempt: AttemptRef) {
        if self.settled.contains(attempt.task.index)
            && self.leases.get(&attempt.task).is_some_and(|record| !record.is_open())
        {
            self.leases.remove(&attempt.task);
        }
    }
}

fn forget_due(due: &mut BTreeSet<(Timestamp, AttemptRef)>, attempt: AttemptRef, lease: &OpenLease, ageing: Ageing) {
    if let Some(at) = ageing.due(lease) {
        due.remove(&(at, attempt));
    }
}
