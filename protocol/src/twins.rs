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

#[cfg(feature = "twins")]
mod chosen {
    use std::cell::Cell;

    use super::Twin;

    thread_local! {
        static LEFT_OUT: Cell<Option<Twin>> = const { Cell::new(None) };
    }

    /// Whether this thread leaves the rule out.
    pub fn left_out(twin: Twin) -> bool {
        LEFT_OUT.get() == Some(twin)
    }

    /// Leaves a rule out in this thread from now on, or none.
    pub fn leave_out(twin: Option<Twin>) {
        LEFT_OUT.set(twin);
    }
}

#[cfg(feature = "twins")]
pub use chosen::{leave_out, left_out};

/// Whether the rule is left out: never, in a program that people run.
#[cfg(not(feature = "twins"))]
pub const fn left_out(_: Twin) -> bool {
    false
}
