//! Triggers: what is submitted when something happens.
//!
//! ```text
//! triggers.rs  setting, reading, removing and firing them
//! fill.rs      places in parameters
//! arrivals.rs  decides which files have arrived
//! folder.rs    looks which files there are
//! files.rs     fires for a file, once
//! ended.rs     fires for runs that ended, once each
//! keeper.rs    the loop, in every scheduler process
//! ```
//!
//! A trigger is a document of the state, `trigger/{namespace}/{name}`. What makes a firing happen once is its key: for a
//! run, the run and when it ended; for a file, its path, size and time of change; for a webhook, what the caller says.
//!
//! **Circles end.** A pipeline whose end starts another, whose end starts the first, would go on for ever. Each run knows
//! how many triggers on ends of runs lie before it ([`Origin::depth`]); past [`TRIGGER_DEPTH_MAX`] a firing is refused,
//! with the reason among the trigger's records. That counts what really happens, so no two changes made at the same
//! time can get around it, and a chain that ends by itself isn't refused.
//!
//! Objects in a bucket fire nothing: the artifacts' seam doesn't list what others put there. A bucket's notifications can
//! call a webhook.

mod arrivals;
mod ended;
mod files;
mod fill;
mod folder;
mod keeper;
#[cfg(test)]
mod tests;

use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{State, StateError};
use gristmill_protocol::Timestamp;
use gristmill_protocol::error::ErrorCode;
use gristmill_protocol::fact::Origin;
use gristmill_protocol::limits::{TRIGGER_DEPTH_MAX, TRIGGERS_MAX};
use gristmill_protocol::pipeline::names::is_name;
use gristmill_protocol::trigger::{FiringOutcome, FiringRecord, On, Trigger, TriggerDocument};
use serde_json::{Value, json};

pub use self::fill::FillError;
pub use self::folder::GlobError;
pub use self::keeper::TriggersKeeper;
use crate::changes;
use crate::message::{Key, MessageError, check_message, submit_from};
use crate::schedules::told;
use crate::submit::Submitted;

/// What documents of triggers are called before namespace and name.
const TRIGGERS: &str = "trigger/";
/// The document that says which of them were changed.
const CHANGES: &str = "changes/triggers";
/// How often a writer that lost a race to another tries again; each race has a winner.
const RACES_MAX: usize = 100;
/// What a webhook's records name as their cause.
const WEBHOOK: &str = "webhook";

/// Why a trigger can't be set, read or fired.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    #[error("`{0}` can't be a name: use up to 63 lower-case letters, digits, `-` and `_`, a letter first")]
    Name(String),
    #[error(transparent)]
    Glob(#[from] GlobError),
    #[error("`{0}` can't be the name of a pipeline: use lower-case letters, digits, `-` and `_`, a letter first")]
    Pipeline(String),
    #[error("the trigger names no `status`; leave it out for `succeeded`, or name some")]
    Statuses,
    #[error("a trigger's submission has no `key`: each firing has its own; leave it out")]
    Key,
    #[error("the submission names namespace `{submission}`, the trigger is in `{trigger}`; leave it out")]
    Namespace { submission: String, trigger: String },
    #[error(transparent)]
    Fill(#[from] FillError),
    #[error("what the trigger submits is refused: {0}")]
    Submission(#[source] MessageError),
    #[error("there is no trigger `{name}` in namespace `{namespace}`")]
    None { namespace: String, name: String },
    #[error("trigger `{0}` isn't fired by a call, but by what its `on` names")]
    NoWebhook(String),
    #[error("trigger `{0}` is paused; let it go on first")]
    Paused(String),
    #[error("what a webhook is called with is a JSON object")]
    Body,
    #[error(
        "it would be run {depth} in a row that triggers on ends of runs have started, and {TRIGGER_DEPTH_MAX} may follow \
         each other: do triggers fire each other in a circle?"
    )]
    Circle { depth: u32 },
    #[error("there are {TRIGGERS_MAX} triggers already; delete those that nobody needs")]
    TooMany,
    #[error("others change trigger `{name}` all the time")]
    Contended { name: String },
    #[error("the document of trigger `{name}` can't be read")]
    Damaged { name: String, source: serde_json::Error },
    #[error("failed to reach the triggers")]
    State(#[from] StateError),
}

impl TriggerError {
    /// Its code in the table of errors.
    pub fn code(&self) -> ErrorCode {
        match self {
            TriggerError::Name(_)
            | TriggerError::Glob(_)
            | TriggerError::Pipeline(_)
            | TriggerError::Statuses
            | TriggerError::Key
            | TriggerError::Namespace { .. }
            | TriggerError::Fill(_)
            | TriggerError::NoWebhook(_)
            | TriggerError::Body => ErrorCode::BadInput,
            TriggerError::Submission(error) => error.code(),
            TriggerError::None { .. } => ErrorCode::NotFound,
            TriggerError::Paused(_) | TriggerError::Circle { .. } => ErrorCode::Conflict,
            TriggerError::TooMany => ErrorCode::TooLarge,
            TriggerError::Damaged { .. } => ErrorCode::Internal,
            TriggerError::Contended { .. } | TriggerError::State(_) => ErrorCode::Unavailable,
        }
    }
}

/// Sets a trigger; says whether it is new. What became of its last firings is kept. Ends of runs count from the store's
/// time now when it is new, is fired by something else than before, or goes on after a pause.
pub async fn put(
    state: &dyn State,
    namespace: &str,
    name: &str,
    trigger: Trigger,
    by: &str,
) -> Result<(TriggerDocument, bool), TriggerError> {
    check(state, namespace, name, &trigger).await?;
    for _ in 0..RACES_MAX {
        let now = state.clock().await?.now;
        let found = match read(state, namespace, name).await? {
            Some(found) => Some(found),
            None if state.keys(TRIGGERS, "", TRIGGERS_MAX).await?.len() >= TRIGGERS_MAX => {
                return Err(TriggerError::TooMany);
            }
            None => None,
        };
        let is_new = found.is_none();
        let (version, document) = set(found, namespace, name, &trigger, by, now);
        if write(state, version, &document).await? {
            note(state, namespace, name).await?;
            return Ok((document, is_new));
        }
    }
    Err(TriggerError::Contended { name: name.to_owned() })
}

/// The document of a trigger that is set now.
fn set(
    found: Option<(u64, TriggerDocument)>,
    namespace: &str,
    name: &str,
    trigger: &Trigger,
    by: &str,
    now: Timestamp,
) -> (u64, TriggerDocument) {
    let (trigger, by, updated_ms) = (trigger.clone(), by.to_owned(), now);
    let Some((version, before)) = found else {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        return (0, TriggerDocument { namespace, name, trigger, by, updated_ms, since_ms: now, recent: Vec::new() });
    };
    let is_as_before = before.trigger.on == trigger.on && before.trigger.paused == trigger.paused;
    let since_ms = if is_as_before { before.since_ms.min(now) } else { now };
    (version, TriggerDocument { trigger, by, updated_ms, since_ms, ..before })
}

/// Pauses a trigger or lets it go on. Runs that ended meanwhile don't fire it; files that came do.
pub async fn set_paused(
    state: &dyn State,
    namespace: &str,
    name: &str,
    paused: bool,
    by: &str,
) -> Result<TriggerDocument, TriggerError> {
    for _ in 0..RACES_MAX {
        let now = state.clock().await?.now;
        let found = existing(state, namespace, name).await?;
        let trigger = Trigger { paused, ..found.1.trigger.clone() };
        let (version, document) = set(Some(found), namespace, name, &trigger, by, now);
        if write(state, version, &document).await? {
            note(state, namespace, name).await?;
            return Ok(document);
        }
    }
    Err(TriggerError::Contended { name: name.to_owned() })
}

/// A trigger.
pub async fn get(state: &dyn State, namespace: &str, name: &str) -> Result<TriggerDocument, TriggerError> {
    Ok(existing(state, namespace, name).await?.1)
}

/// Triggers by namespace and name, those of one namespace where one is named, after one of them: `namespace/name`.
/// Fewer than `limit` when there are no more.
pub async fn list(
    state: &dyn State,
    namespace: Option<&str>,
    after: &str,
    limit: usize,
) -> Result<Vec<TriggerDocument>, TriggerError> {
    let prefix = namespace.map_or(TRIGGERS.to_owned(), |namespace| format!("{TRIGGERS}{namespace}/"));
    let mut documents = Vec::new();
    let mut after = if after.is_empty() { String::new() } else { format!("{TRIGGERS}{after}") };
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

/// Removes a trigger. Its runs go on. One that is made under the same name is another: files fire it anew.
pub async fn delete(state: &dyn State, namespace: &str, name: &str) -> Result<(), TriggerError> {
    for _ in 0..RACES_MAX {
        let (version, _) = existing(state, namespace, name).await?;
        match state.delete(&key(namespace, name), version).await {
            Ok(()) => {
                note(state, namespace, name).await?;
                return Ok(files::forget(state, namespace, name).await?);
            }
            Err(StateError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(TriggerError::Contended { name: name.to_owned() })
}

/// Fires a trigger on a webhook. The same key within 7 days answers the same run; whoever has none makes one up.
pub async fn fire(
    state: &dyn State,
    artifacts: &dyn Artifacts,
    namespace: &str,
    name: &str,
    body: &Value,
    key: &str,
) -> Result<Submitted, TriggerError> {
    let (_, document) = existing(state, namespace, name).await?;
    if document.trigger.on != (On::Webhook {}) {
        return Err(TriggerError::NoWebhook(name.to_owned()));
    }
    if document.trigger.paused {
        return Err(TriggerError::Paused(name.to_owned()));
    }
    if !body.is_object() {
        return Err(TriggerError::Body);
    }
    let at = state.clock().await?.now;
    let key = Key::Remembered(format!("trigger/{namespace}/{name}/{key}"));
    let fired = submit(state, artifacts, &document, &json!({ "body": body }), key, at, 0).await;
    let outcome = match &fired {
        Ok(submitted) if !submitted.created => return fired,
        Ok(submitted) => FiringOutcome::Fired { run: submitted.run },
        Err(error) => FiringOutcome::Failed { reason: told(error) },
    };
    let record = FiringRecord { at_ms: at, cause: WEBHOOK.to_owned(), outcome };
    if let Err(error) = self::record(state, namespace, name, record).await {
        // The run is there, and that is what the caller asks for.
        tracing::warn!(trigger = name, error = &error as &dyn std::error::Error, "a firing isn't recorded");
    }
    fired
}

/// Makes the run of a firing, or finds it.
async fn submit(
    state: &dyn State,
    artifacts: &dyn Artifacts,
    document: &TriggerDocument,
    facts: &Value,
    key: Key,
    at: Timestamp,
    depth: u32,
) -> Result<Submitted, TriggerError> {
    if depth > TRIGGER_DEPTH_MAX {
        return Err(TriggerError::Circle { depth });
    }
    let mut message = document.trigger.submit.clone();
    message.namespace = Some(document.namespace.clone());
    message.params = fill::fill(&message.params, facts)?;
    let origin = Some(Origin { by: format!("trigger {}", document.name), depth });
    submit_from(state, artifacts, message, key, at, origin).await.map_err(TriggerError::Submission)
}

/// Remembers what became of a firing, unless that is remembered already.
async fn record(state: &dyn State, namespace: &str, name: &str, record: FiringRecord) -> Result<(), TriggerError> {
    for _ in 0..RACES_MAX {
        // One that was deleted meanwhile remembers nothing.
        let Some((version, mut document)) = read(state, namespace, name).await? else { return Ok(()) };
        if document.recent.contains(&record) {
            return Ok(());
        }
        document.record(record.clone());
        if write(state, version, &document).await? {
            return Ok(());
        }
    }
    Err(TriggerError::Contended { name: name.to_owned() })
}

/// Refuses a trigger that could never do anything.
async fn check(state: &dyn State, namespace: &str, name: &str, trigger: &Trigger) -> Result<(), TriggerError> {
    if let Some(wrong) = [namespace, name].into_iter().find(|name| !is_name(name)) {
        return Err(TriggerError::Name(wrong.chars().take(80).collect()));
    }
    let known: &[&str] = match &trigger.on {
        On::File { glob } => {
            folder::check(glob)?;
            &["path"]
        }
        On::Webhook {} => &["body"],
        On::RunEnded { pipeline, .. } if !is_name(pipeline) => {
            return Err(TriggerError::Pipeline(pipeline.chars().take(80).collect()));
        }
        On::RunEnded { status, .. } if status.is_empty() => return Err(TriggerError::Statuses),
        On::RunEnded { .. } => &["run", "pipeline", "status"],
    };
    if trigger.submit.key.is_some() {
        return Err(TriggerError::Key);
    }
    if let Some(other) = trigger.submit.namespace.as_ref().filter(|other| *other != namespace) {
        return Err(TriggerError::Namespace { submission: other.clone(), trigger: namespace.to_owned() });
    }
    let mut message = trigger.submit.clone();
    message.namespace = Some(namespace.to_owned());
    message.params = fill::without_places(&message.params, known)?;
    check_message(state, &message).await.map_err(TriggerError::Submission)?;
    Ok(())
}

fn key(namespace: &str, name: &str) -> String {
    format!("{TRIGGERS}{namespace}/{name}")
}

/// Namespace and name of a key.
fn names_of(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(TRIGGERS)?.split_once('/')
}

async fn existing(state: &dyn State, namespace: &str, name: &str) -> Result<(u64, TriggerDocument), TriggerError> {
    let none = || TriggerError::None { namespace: namespace.to_owned(), name: name.to_owned() };
    read(state, namespace, name).await?.ok_or_else(none)
}

async fn read(state: &dyn State, namespace: &str, name: &str) -> Result<Option<(u64, TriggerDocument)>, TriggerError> {
    let Some(found) = state.get(&key(namespace, name)).await? else { return Ok(None) };
    let damaged = |source| TriggerError::Damaged { name: name.to_owned(), source };
    Ok(Some((found.version, serde_json::from_slice(&found.body).map_err(damaged)?)))
}

/// Writes a document; says whether it was still as it was read.
async fn write(state: &dyn State, version: u64, document: &TriggerDocument) -> Result<bool, StateError> {
    let body = serde_json::to_vec(document).expect("plain data");
    match state.put(&key(&document.namespace, &document.name), version, body).await {
        Ok(_) => Ok(true),
        Err(StateError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells keepers that a trigger was set or removed.
async fn note(state: &dyn State, namespace: &str, name: &str) -> Result<(), StateError> {
    changes::note(state, CHANGES, &format!("{namespace}/{name}")).await
}
