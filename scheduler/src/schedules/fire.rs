//! Sees the ticks of one schedule through: decided, recorded, submitted, recorded.
//!
//! ```text
//! read ─► what is due? ─► the tick is written into the document ─► submitted ─► what became of it is written
//!   ▲                                  │ changed by another                          │
//!   └──────────────────────────────────┴─────────────────────────────────────────────┘
//! ```
//!
//! What is decided stays decided: whether a run before was open is asked once, by whoever writes the tick. Dropped
//! anywhere, the schedule is whole: the next keeper goes on from what is written.

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{State, StateError};
use gristmill_protocol::error::{ErrorCode, Failure};
use gristmill_protocol::fact::Origin;
use gristmill_protocol::limits::CATCH_UP_MAX;
use gristmill_protocol::message::InboxEvent;
use gristmill_protocol::schedule::{Firing, Overlap, ScheduleDocument, TickOutcome};
use gristmill_protocol::{RunId, Timestamp};

use super::due::{Decision, due};
use super::ticks::Ticks;
use super::{RACES_MAX, ScheduleError, key, read};
use crate::message::{Key, submit_from};

/// Milliseconds after which a tick that another keeper decided is seen through here: it is slow or gone. Both may do it,
/// so this only has to be longer than a submission usually takes.
const TAKE_OVER_MS: u64 = 5_000;
/// Milliseconds before what failed for now is tried again. Nothing else of the schedule happens meanwhile.
const AGAIN_MS: u64 = 5_000;
/// Steps of one look: each tick that is made up for takes two, and each can lose a race.
const STEPS_MAX: usize = 2 * CATCH_UP_MAX + RACES_MAX;

/// Who sees to the schedules, and when.
#[derive(Clone, Copy)]
pub(super) struct Attendant<'a> {
    pub state: &'a dyn State,
    pub artifacts: &'a dyn Artifacts,
    pub keeper: u64,
    pub now: Timestamp,
}

/// What is left to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attended {
    /// When to look again.
    pub next: Option<Timestamp>,
    /// The version of the document at which another keeper is at a tick.
    pub waits: Option<u64>,
}

/// What came of submitting.
enum Submission {
    Ended(TickOutcome),
    /// It may succeed later.
    Later(String),
}

impl Attendant<'_> {
    /// Does what is due of a schedule. What another keeper has decided is its own, unless it was waited for: the
    /// document still has the version `waited`.
    pub(super) async fn attend(
        &self,
        namespace: &str,
        name: &str,
        waited: Option<u64>,
    ) -> Result<Attended, ScheduleError> {
        for _ in 0..STEPS_MAX {
            let Some((version, mut document)) = read(self.state, namespace, name).await? else {
                return Ok(Attended { next: None, waits: None });
            };
            if let Some(firing) = document.firing.take() {
                if firing.keeper != self.keeper && waited != Some(version) {
                    return Ok(Attended { next: Some(self.now.plus_ms(TAKE_OVER_MS)), waits: Some(version) });
                }
                match self.submit(&document, &firing).await {
                    Submission::Ended(outcome) => {
                        if let TickOutcome::Fired { run, .. } = &outcome {
                            document.last_run = Some(*run);
                        }
                        document.record(firing.tick_ms, self.now, outcome);
                        self.write(version, &document).await?;
                    }
                    Submission::Later(problem) => {
                        if firing.problem.as_ref() != Some(&problem) {
                            let firing = Firing { keeper: self.keeper, problem: Some(problem), ..firing };
                            self.write(version, &ScheduleDocument { firing: Some(firing), ..document }).await?;
                        }
                        return Ok(Attended { next: Some(self.now.plus_ms(AGAIN_MS)), waits: None });
                    }
                }
                continue;
            }
            if document.schedule.paused {
                return Ok(Attended { next: None, waits: None });
            }
            let ticks = Ticks::new(&document.schedule.cron, &document.schedule.timezone)?;
            let decision = due(&ticks, document.schedule.catch_up, document.handled_ms, self.now);
            if decision.fire.is_empty() && decision.missed.is_none() {
                return Ok(Attended { next: decision.next, waits: None });
            }
            self.decide(&mut document, decision).await?;
            self.write(version, &document).await?;
        }
        // There is more to do than one look should take.
        Ok(Attended { next: Some(self.now), waits: None })
    }

    /// Writes into the document what is decided of its oldest tick that is due.
    async fn decide(&self, document: &mut ScheduleDocument, decision: Decision) -> Result<(), StateError> {
        if let Some(missed) = decision.missed {
            let outcome = TickOutcome::Missed { since_ms: missed.first, reason: missed.reason };
            document.record(missed.last, self.now, outcome);
        }
        let Some(&tick) = decision.fire.first() else { return Ok(()) };
        let open = match (document.schedule.overlap, document.last_run) {
            (Overlap::Allow, _) | (_, None) => None,
            (Overlap::Skip | Overlap::Cancel, Some(run)) => self.open(run).await?,
        };
        match (document.schedule.overlap, open) {
            (Overlap::Skip, Some(run)) => {
                let reason = format!("`{run}` of an earlier tick was still open");
                document.record(tick, self.now, TickOutcome::Skipped { reason });
            }
            (_, cancel) => {
                document.handled_ms = tick;
                document.firing = Some(Firing { tick_ms: tick, keeper: self.keeper, cancel, problem: None });
            }
        }
        Ok(())
    }

    /// The run, if it is open.
    async fn open(&self, run: RunId) -> Result<Option<RunId>, StateError> {
        let record = self.state.run(run).await?;
        Ok(record.filter(|record| record.status.is_none()).map(|record| record.run))
    }

    /// Makes the run of a tick, or finds it, and cancels the one before if that is decided. Saying it again is harmless.
    async fn submit(&self, document: &ScheduleDocument, firing: &Firing) -> Submission {
        let ScheduleDocument { namespace, name, .. } = document;
        let by = format!("schedule {name}");
        let mut message = document.schedule.submit.clone();
        message.namespace = Some(namespace.clone());
        let key = Key::Timed(format!("schedule/{namespace}/{name}/{}", firing.tick_ms.0));
        let origin = Some(Origin { by: by.clone(), depth: 0 });
        let submitted = submit_from(self.state, self.artifacts, message, key, firing.tick_ms, origin).await;
        let run = match submitted {
            Ok(submitted) => submitted.run,
            Err(error) if error.code().is_retryable() => return Submission::Later(told(&error)),
            // What runs goes on, as nothing comes in its place.
            Err(error) => return Submission::Ended(TickOutcome::Failed { reason: told(&error) }),
        };
        if let Some(before) = firing.cancel.filter(|before| *before != run) {
            let event = InboxEvent::Cancel { run: before, by };
            if let Err(error) = self.state.post(before.shard(), event).await {
                return Submission::Later(told(&error));
            }
        }
        Submission::Ended(TickOutcome::Fired { run, cancelled: firing.cancel })
    }

    /// Writes a document if it is still as it was read. If it isn't, the next step reads it again.
    async fn write(&self, version: u64, document: &ScheduleDocument) -> Result<(), StateError> {
        let body = serde_json::to_vec(document).expect("plain data");
        match self.state.put(&key(&document.namespace, &document.name), version, body).await {
            Ok(_) | Err(StateError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// An error with its causes, no longer than an error's text may be.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    Failure::new(ErrorCode::Internal, text).message
}
