//! Broken twins: each rule of delivery can be left out on purpose, to see that the simulator notices.
//!
//! Without the `twins` feature [`left_out`] is constantly false, so a program that people run carries nothing
//! of this. With it, the rule left out is a thread's own choice, because each simulated execution has a thread.

/// A rule of delivery that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Twin {
    // The store.
    /// An append needs the shard's owner token.
    AppendChecksOwner,
    /// An append needs the exact position of the journal's head.
    AppendChecksHead,
    /// Inbox entries go away in the same step as the facts that came of them are written.
    ConsumeWithAppend,
    /// The call that ends a lease is the one that puts the event into the inbox.
    FinishPutsEvent,
    /// The call that puts a report into the inbox is the one that ends the lease.
    FinishEndsLease,
    /// A higher attempt displaces a lower one.
    ClaimDisplaces,
    /// A task whose success is recorded isn't granted again.
    ClaimChecksSettled,
    /// Nothing is granted of a run that isn't open.
    ClaimChecksRun,
    /// The same attempt is granted to one worker only.
    ClaimChecksHolder,
    /// A lease can't pass its hard deadline.
    RenewKeepsDeadline,
    /// A record that the store forgot is put in again by the worker that works on it.
    RenewReestablishes,
    /// A worker is told to stop what isn't its own any more.
    RenewStops,
    /// Ids of inbox entries go up, whatever the clock does.
    InboxIdsGoUp,
    /// Expiry is the right of the shard's owner alone.
    ExpireChecksOwner,
    /// Taking back is the right of the shard's owner alone.
    RevokeChecksOwner,
    // The scheduler.
    /// Durable before visible: nothing is published before its fact is safe.
    DurableBeforeVisible,
    /// An append of unknown outcome is made again as it is, at the same position.
    UnknownIsRepeated,
    /// Whoever was deposed forgets the shard and publishes nothing more.
    DeposedForgets,
    /// After a rollback the owner writes again what was lost.
    OwnerReasserts,
    /// After a rollback the owner reads the inboxes from their start.
    OwnerRereads,
    /// After a clock step or another life of the store nothing expires for a lease.
    Grace,
    /// What is out and unclaimed is published again when the broker's connection was made anew.
    RepublishAfterRestart,
    /// What is out and unclaimed for long is published again, under the same attempt.
    Sweep,
    /// A record closed with no inbox entry counts as handed back.
    SweepClosed,
    /// A take-over reads the inbox from its start.
    TakeOverReadsInbox,
    /// A take-over publishes again what is out and unclaimed.
    TakeOverRepublishes,
    /// A take-over repeats the taking back that a crash kept from happening.
    TakeOverRevokes,
    /// A resume tells the store again what is settled.
    ResumeSettles,
    // The core.
    /// A report for other items than the recorded ones is refused.
    TagCheck,
    /// The first success of any attempt is recorded.
    FirstSuccessWins,
    /// A named limit's slot is free when the work has stopped, not when it is taken back.
    LimitLingers,
    /// Losses in solo count, and the third parks the task.
    LossesCount,
    /// A cancelled run takes back what is out.
    CancelRevokes,
    // The worker.
    /// After a loss a task runs with no neighbour.
    Solo,
    /// Reports are kept for five seconds and sent again when the store went back.
    ReportsAreKept,
    /// A call of unknown outcome is made again.
    FinishIsRepeated,
    /// A worker renews its leases each second.
    Heartbeat,
    // Who submits.
    /// A submission is made again until its run has been safe for five seconds.
    SubmissionIsRepeated,
}

impl Twin {
    /// All of them, in order.
    pub const ALL: [Twin; 38] = [
        Twin::AppendChecksOwner,
        Twin::AppendChecksHead,
        Twin::ConsumeWithAppend,
        Twin::FinishPutsEvent,
        Twin::FinishEndsLease,
        Twin::ClaimDisplaces,
        Twin::ClaimChecksSettled,
        Twin::ClaimChecksRun,
        Twin::ClaimChecksHolder,
        Twin::RenewKeepsDeadline,
        Twin::RenewReestablishes,
        Twin::RenewStops,
        Twin::InboxIdsGoUp,
        Twin::ExpireChecksOwner,
        Twin::RevokeChecksOwner,
        Twin::DurableBeforeVisible,
        Twin::UnknownIsRepeated,
        Twin::DeposedForgets,
        Twin::OwnerReasserts,
        Twin::OwnerRereads,
        Twin::Grace,
        Twin::RepublishAfterRestart,
        Twin::Sweep,
        Twin::SweepClosed,
        Twin::TakeOverReadsInbox,
        Twin::TakeOverRepublishes,
        Twin::TakeOverRevokes,
        Twin::ResumeSettles,
        Twin::TagCheck,
        Twin::FirstSuccessWins,
        Twin::LimitLingers,
        Twin::LossesCount,
        Twin::CancelRevokes,
        Twin::Solo,
        Twin::ReportsAreKept,
        Twin::FinishIsRepeated,
        Twin::Heartbeat,
        Twin::SubmissionIsRepeated,
    ];

    /// The twin's place in a set of bits.
    #[cfg(feature = "twins")]
    fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// A new twin that isn't listed would never be tested.
const _: () = assert!(Twin::ALL.len() == Twin::SubmissionIsRepeated as usize + 1 && Twin::ALL.len() <= 64);

#[cfg(feature = "twins")]
mod chosen {
    use std::cell::Cell;

    use super::Twin;

    thread_local! {
        static LEFT_OUT: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether this thread leaves the rule out.
    pub fn left_out(twin: Twin) -> bool {
        LEFT_OUT.get() & twin.bit() != 0
    }

    /// Leaves these rules out in this thread from now on, and no others.
    pub fn leave_out(twins: &[Twin]) {
        LEFT_OUT.set(twins.iter().fold(0, |set, twin| set | twin.bit()));
    }
}

#[cfg(feature = "twins")]
pub use chosen::{leave_out, left_out};

/// Whether the rule is left out: never, in a program that people run.
#[cfg(not(feature = "twins"))]
pub const fn left_out(_: Twin) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_twin_is_listed_once() {
        assert!(Twin::ALL.iter().enumerate().all(|(at, twin)| *twin as usize == at));
    }
}
