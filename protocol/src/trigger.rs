//! Triggers: what is submitted when something happens, and what became of it.
//!
//! ```json
//! { "on": { "file": { "glob": "/data/in/*.csv" } }, "submit": { "name": "load", "params": { "source": "{{path}}" } } }
//! ```
//!
//! Texts among the parameters may have places to fill: `{{path}}` for a file; `{{run}}`, `{{pipeline}}` and
//! `{{status}}` for the end of a run; `{{body}}`, `{{body.field}}` and `{{body.field.0}}` for a webhook.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fact::RunStatus;
use crate::id::RunId;
use crate::limits::RECORDS_MAX;
use crate::submission::SubmissionMessage;
use crate::time::Timestamp;

/// What is submitted, and on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    pub on: On,
    /// What is submitted, without a key: each firing has its own.
    #[serde(deserialize_with = "SubmissionMessage::strict")]
    pub submit: SubmissionMessage,
    /// Whether nothing fires it.
    #[serde(default)]
    pub paused: bool,
}

/// What fires a trigger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum On {
    /// A file has arrived where the schedulers run: its size and time of change were the same at two looks. Each file fires
    /// once, and again when it has changed. Those fire too that lie there when the trigger is made.
    File {
        /// An absolute path with `*`, `?` and `[a-z]`. Names that begin with a dot only fit where the dot is written.
        glob: String,
    },
    /// Somebody asks for it.
    Webhook {},
    /// A run of a pipeline in the same namespace has ended.
    RunEnded {
        /// The name that the pipeline gives itself.
        pipeline: String,
        /// How it ended. Default: `succeeded`.
        #[serde(default = "succeeded")]
        status: Vec<RunStatus>,
    },
}

fn succeeded() -> Vec<RunStatus> {
    vec![RunStatus::Succeeded]
}

/// A trigger as the state keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriggerDocument {
    pub namespace: String,
    pub name: String,
    pub trigger: Trigger,
    /// Who set it, and when.
    pub by: String,
    pub updated_ms: Timestamp,
    /// Runs that ended up to then don't fire it: when it was made or went on last. Files do that lie there.
    pub since_ms: Timestamp,
    /// What became of the last firings, oldest first.
    pub recent: Vec<FiringRecord>,
}

/// What became of a firing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FiringRecord {
    /// When it was fired; for a run, when that ended.
    #[schemars(with = "u64")]
    pub at_ms: Timestamp,
    /// What fired it: a path, a run, or `webhook`.
    pub cause: String,
    #[serde(flatten)]
    pub outcome: FiringOutcome,
}

/// How a firing ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum FiringOutcome {
    /// It has a run.
    Fired { run: RunId },
    /// A place couldn't be filled, what it submits was refused, or what it looks at can't be.
    Failed { reason: String },
}

impl TriggerDocument {
    /// Remembers what became of a firing.
    pub fn record(&mut self, record: FiringRecord) {
        self.recent.push(record);
        let over = self.recent.len().saturating_sub(RECORDS_MAX);
        self.recent.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_what_is_unknown_is_refused() {
        let on = |text: &str| serde_json::from_str::<On>(text);
        assert_eq!(on(r#"{ "webhook": {} }"#).expect("known"), On::Webhook {});
        let ended = on(r#"{ "run_ended": { "pipeline": "x" } }"#).expect("known");
        assert_eq!(ended, On::RunEnded { pipeline: "x".to_owned(), status: vec![RunStatus::Succeeded] });
        for unknown in
            [r#"{ "webhook": { "x": 1 } }"#, r#"{ "file": { "glob": "/a", "path": "/b" } }"#, r#"{ "mail": {} }"#]
        {
            on(unknown).expect_err(unknown);
        }
    }
}
