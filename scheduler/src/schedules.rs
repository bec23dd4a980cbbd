//! Schedules: what is submitted at which times.
//!
//! ```text
//! schedules.rs  setting, reading and removing them
//! ticks.rs      when a schedule ticks: cron, time zones, changes of clocks
//! due.rs        decides which ticks are fired now
//! agenda.rs     when each schedule is to be looked at
//! fire.rs       sees one schedule's ticks through: decided, recorded, submitted, recorded
//! keeper.rs     the loop, in every scheduler process
//! ```
//!
//! A schedule is a document of the state, `schedule/{namespace}/{name}`, which only compare-and-set changes. **A tick is
//! decided by writing it there before it is submitted**, so of two keepers one decides; its run follows from key and time
//! ([`Key::Timed`]), so whoever sees a decided tick through, again after a crash, makes the same run.
//!
//! A keeper's look costs two reads a second, however many schedules there are: the store's clock and the list of
//! changes (`changes.rs`). Schedules are read when they were changed, when they tick, and all of them once a minute; of
//! each only its next tick is kept in memory.
//!
//! [`Key::Timed`]: crate::message::Key::Timed

mod agenda;
pub mod due;
mod fire;
mod keeper;
#[cfg(test)]
mod tests;
pub mod ticks;

use gristmill_backends::state::{State, StateError};
use gristmill_protocol::Timestamp;
use gristmill_protocol::error::ErrorCode;
use gristmill_protocol::limits::{SCHEDULES_MAX, TICK_LATE_MS};
use gristmill_protocol::pipeline::names::is_name;
use gristmill_protocol::schedule::{Schedule, ScheduleDocument};

pub(crate) use self::fire::told;
pub use self::keeper::SchedulesKeeper;
use self::ticks::{Ticks, TicksError};
use crate::changes;
use crate::message::{MessageError, check_message};

/// What documents of schedules are called before namespace and name.
const SCHEDULES: &str = "schedule/";
/// The document that says which of them were changed.
const CHANGES: &str = "changes/schedules";
/// How often a writer that lost a race to another tries again; each race has a winner.
const RACES_MAX: usize = 100;
/// Keys read at a time.
const KEYS_AT_A_TIME: usize = 1_000;

/// Why a schedule can't be set or read.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    #[error("`{0}` can't be a name: use up to 63 lower-case letters, digits, `-` and `_`, a letter first")]
    Name(String),
    #[error(transparent)]
    Ticks(#[from] TicksError),
    #[error("a schedule's submission has no `key`: each tick has its own; leave it out")]
    Key,
    #[error("the submission names namespace `{submission}`, the schedule is in `{schedule}`; leave it out")]
    Namespace { submission: String, schedule: String },
    #[error("what the schedule submits would be refused: {0}")]
    Submission(#[source] MessageError),
    #[error("there is no schedule `{name}` in namespace `{namespace}`")]
    None { namespace: String, name: String },
    #[error("there are {SCHEDULES_MAX} schedules already; delete those that nobody needs")]
    TooMany,
    #[error("others change schedule `{name}` all the time")]
    Contended { name: String },
    #[error("the document of schedule `{name}` can't be read")]
    Damaged { name: String, source: serde_json::Error },
    #[error("failed to reach the schedules")]
    State(#[from] StateError),
}

impl ScheduleError {
    /// Its code in the table of errors.
    pub fn code(&self) -> ErrorCode {
        match self {
            ScheduleError::Name(_) | ScheduleError::Ticks(_) | ScheduleError::Key | ScheduleError::Namespace { .. } => {
                ErrorCode::BadInput
            }
            ScheduleError::Submission(error) => error.code(),
            ScheduleError::None { .. } => ErrorCode::NotFound,
            ScheduleError::TooMany => ErrorCode::TooLarge,
            ScheduleError::Damaged { .. } => ErrorCode::Internal,
            ScheduleError::Contended { .. } | ScheduleError::State(_) => ErrorCode::Unavailable,
        }
    }
}

/// Sets a schedule; says whether it is new. What became of its last ticks is kept. Ticks count from the store's time
/// now when it is new, ticks at other times than before, or goes on after a pause.
pub async fn put(
    state: &dyn State,
    namespace: &str,
    name: &str,
    schedule: Schedule,
    by: &str,
) -> Result<(ScheduleDocument, bool), ScheduleError> {
    check(state, namespace, name, &schedule).await?;
    for _ in 0..RACES_MAX {
        let now = state.clock().await?.now;
        let found = match read(state, namespace, name).await? {
            Some(found) => Some(found),
            None if count(state).await? >= SCHEDULES_MAX => return Err(ScheduleError::TooMany),
            None => None,
        };
        let is_new = found.is_none();
        let (version, document) = set(found, namespace, name, &schedule, by, now);
        if write(state, version, &document).await? {
            return Ok((document, is_new));
        }
    }
    Err(ScheduleError::Contended { name: name.to_owned() })
}

/// The document of a schedule that is set now.
fn set(
    found: Option<(u64, ScheduleDocument)>,
    namespace: &str,
    name: &str,
    schedule: &Schedule,
    by: &str,
    now: Timestamp,
) -> (u64, ScheduleDocument) {
    let (schedule, by, updated_ms) = (schedule.clone(), by.to_owned(), now);
    let Some((version, before)) = found else {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let (firing, last_run, recent) = (None, None, Vec::new());
        let document =
            ScheduleDocument { namespace, name, schedule, by, updated_ms, handled_ms: now, firing, last_run, recent };
        return (0, document);
    };
    let ticks_as_before = before.schedule.cron == schedule.cron
        && before.schedule.timezone == schedule.timezone
        && before.schedule.paused == schedule.paused;
    let handled_ms = if ticks_as_before && !is_ahead(before.handled_ms, now) { before.handled_ms } else { now };
    (version, ScheduleDocument { schedule, by, updated_ms, handled_ms, ..before })
}

/// Whether a tick is one that only a wrong clock can have told. To set its schedule again is to begin anew.
fn is_ahead(handled: Timestamp, now: Timestamp) -> bool {
    handled.since(now) > TICK_LATE_MS
}

/// Pauses a schedule or lets it go on. Ticks of the time between aren't made up for.
pub async fn set_paused(
    state: &dyn State,
    namespace: &str,
    name: &str,
    paused: bool,
    by: &str,
) -> Result<ScheduleDocument, ScheduleError> {
    for _ in 0..RACES_MAX {
        let now = state.clock().await?.now;
        let (version, before) = existing(state, namespace, name).await?;
        let schedule = Schedule { paused, ..before.schedule.clone() };
        let (version, document) = set(Some((version, before)), namespace, name, &schedule, by, now);
        if write(state, version, &document).await? {
            return Ok(document);
        }
    }
    Err(ScheduleError::Contended { name: name.to_owned() })
}

/// A schedule.
pub async fn get(state: &dyn State, namespace: &str, name: &str) -> Result<ScheduleDocument, ScheduleError> {
    Ok(existing(state, namespace, name).await?.1)
}

/// Schedules by namespace and name, those of one namespace where one is named, after one of them: `namespace/name`.
/// Fewer than `limit` when there are no more.
pub async fn list(
    state: &dyn State,
    namespace: Option<&str>,
    after: &str,
    limit: usize,
) -> Result<Vec<ScheduleDocument>, ScheduleError> {
    let prefix = namespace.map_or(SCHEDULES.to_owned(), |namespace| format!("{SCHEDULES}{namespace}/"));
    let mut documents = Vec::new();
    let mut after = if after.is_empty() { String::new() } else { format!("{SCHEDULES}{after}") };
    while documents.len() < limit {
        let keys = state.keys(&prefix, &after, limit - documents.len()).await?;
        let Some(last) = keys.last() else { break };
        after.clone_from(last);
        for key in &keys {
            let Some((namespace, name)) = names_of(key) else { continue };
            // One that was deleted since.
            documents.extend(read(state, namespace, name).await?.map(|(_, document)| document));
        }
    }
    Ok(documents)
}

/// Removes a schedule. Its runs go on.
pub async fn delete(state: &dyn State, namespace: &str, name: &str) -> Result<(), ScheduleError> {
    for _ in 0..RACES_MAX {
        let (version, _) = existing(state, namespace, name).await?;
        match state.delete(&key(namespace, name), version).await {
            Ok(()) => return Ok(changes::note(state, CHANGES, &format!("{namespace}/{name}")).await?),
            Err(StateError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ScheduleError::Contended { name: name.to_owned() })
}

/// The next times at which a schedule ticks after `now`, whether or not it is paused; fewer than `count` when it ends.
pub fn next_ticks(schedule: &Schedule, now: Timestamp, count: usize) -> Result<Vec<Timestamp>, TicksError> {
    let ticks = Ticks::new(&schedule.cron, &schedule.timezone)?;
    Ok(std::iter::successors(ticks.after(now), |tick| ticks.after(*tick)).take(count).collect())
}

/// Why nothing is fired just now that one might expect; nothing when the schedule waits for its next tick.
pub fn why_waiting(document: &ScheduleDocument, now: Timestamp) -> Option<String> {
    if let Some(problem) = document.firing.as_ref().and_then(|firing| firing.problem.as_ref()) {
        return Some(format!("its last tick is tried again and again: {problem}"));
    }
    if document.schedule.paused {
        return Some("it is paused".to_owned());
    }
    is_ahead(document.handled_ms, now).then(|| {
        let hours = document.handled_ms.since(now) / 3_600_000;
        format!(
            "the store's clock was ahead and is set back: ticks of the next {hours} h are dealt with already; set the schedule \
             again to begin from now"
        )
    })
}

/// Refuses a schedule that could never do anything.
async fn check(state: &dyn State, namespace: &str, name: &str, schedule: &Schedule) -> Result<(), ScheduleError> {
    if let Some(wrong) = [namespace, name].into_iter().find(|name| !is_name(name)) {
        return Err(ScheduleError::Name(wrong.chars().take(80).collect()));
    }
    let ticks = Ticks::new(&schedule.cron, &schedule.timezone)?;
    let now = state.clock().await?.now;
    if ticks.after(now).is_none_or(|tick| tick.since(now) > TEN_YEARS_MS) {
        return Err(TicksError::Never { cron: schedule.cron.clone() }.into());
    }
    if schedule.submit.key.is_some() {
        return Err(ScheduleError::Key);
    }
    if let Some(other) = schedule.submit.namespace.as_ref().filter(|other| *other != namespace) {
        return Err(ScheduleError::Namespace { submission: other.clone(), schedule: namespace.to_owned() });
    }
    let mut message = schedule.submit.clone();
    message.namespace = Some(namespace.to_owned());
    check_message(state, &message).await.map_err(ScheduleError::Submission)?;
    Ok(())
}

/// A schedule that doesn't tick for so long is a mistake. Leap days come every four years, or eight.
const TEN_YEARS_MS: u64 = 10 * 366 * 86_400_000;

fn key(namespace: &str, name: &str) -> String {
    format!("{SCHEDULES}{namespace}/{name}")
}

/// Namespace and name of a key.
fn names_of(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(SCHEDULES)?.split_once('/')
}

async fn count(state: &dyn State) -> Result<usize, StateError> {
    let (mut count, mut after) = (0, String::new());
    loop {
        let mut keys = state.keys(SCHEDULES, &after, KEYS_AT_A_TIME).await?;
        count += keys.len();
        match keys.pop() {
            Some(last) if count < SCHEDULES_MAX => after = last,
            _ => return Ok(count),
        }
    }
}

async fn existing(state: &dyn State, namespace: &str, name: &str) -> Result<(u64, ScheduleDocument), ScheduleError> {
    let none = || ScheduleError::None { namespace: namespace.to_owned(), name: name.to_owned() };
    read(state, namespace, name).await?.ok_or_else(none)
}

async fn read(
    state: &dyn State,
    namespace: &str,
    name: &str,
) -> Result<Option<(u64, ScheduleDocument)>, ScheduleError> {
    let Some(found) = state.get(&key(namespace, name)).await? else { return Ok(None) };
    let damaged = |source| ScheduleError::Damaged { name: name.to_owned(), source };
    Ok(Some((found.version, serde_json::from_slice(&found.body).map_err(damaged)?)))
}

/// Writes a document that somebody set; says whether it was still as it was read.
async fn write(state: &dyn State, version: u64, document: &ScheduleDocument) -> Result<bool, StateError> {
    let (namespace, name) = (&document.namespace, &document.name);
    let body = serde_json::to_vec(document).expect("plain data");
    match state.put(&key(namespace, name), version, body).await {
        Ok(_) => {
            changes::note(state, CHANGES, &format!("{namespace}/{name}")).await?;
            Ok(true)
        }
        Err(StateError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
