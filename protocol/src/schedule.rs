//! Schedules: what is submitted at which times, and what became of it.
//!
//! ```json
//! { "cron": "0 3 * * *", "timezone": "Europe/Berlin", "submit": { "name": "nightly" },
//!   "overlap": "skip", "catch_up": "last" }
//! ```
//!
//! A [`Schedule`] is what people write; a [`ScheduleDocument`] is what the state keeps of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::RunId;
use crate::limits::RECORDS_MAX;
use crate::submission::SubmissionMessage;
use crate::time::Timestamp;

/// What is submitted, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Minute, hour, day of month, month and day of week, as cron has them, or `@hourly`, `@daily`, `@weekly`,
    /// `@monthly`, `@yearly`. Where both days are given, one of them has to fit.
    pub cron: String,
    /// The name of a time zone, such as `Europe/Berlin`. Default: `UTC`.
    #[serde(default = "utc")]
    pub timezone: String,
    /// What is submitted, without a key: each tick has its own.
    #[serde(deserialize_with = "SubmissionMessage::strict")]
    pub submit: SubmissionMessage,
    /// What happens at a tick while the run of the one before is open.
    #[serde(default)]
    pub overlap: Overlap,
    /// What happens to ticks that passed while no scheduler was there to see them.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Whether ticks pass without effect. They aren't made up for later.
    #[serde(default)]
    pub paused: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// What happens at a tick while the schedule's last run is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Another run is made beside it.
    #[default]
    Allow,
    /// There is no run for this tick.
    Skip,
    /// The last run is cancelled, and another one made at once.
    Cancel,
}

/// What happens to ticks that are over a minute late, as no scheduler ran or the store couldn't be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out.
    None,
    /// The last of them is made up for.
    #[default]
    Last,
    /// All are made up for, the oldest first; of very many only the last hundred.
    All,
}

/// A schedule as the state keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDocument {
    pub namespace: String,
    pub name: String,
    pub schedule: Schedule,
    /// Who set it, and when.
    pub by: String,
    pub updated_ms: Timestamp,
    /// All ticks up to this time are dealt with.
    pub handled_ms: Timestamp,
    /// The tick that is being submitted. It is decided: whoever finds it here sees to it that it has its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<Firing>,
    /// The run of the last tick that had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunId>,
    /// What became of the last ticks, oldest first.
    pub recent: Vec<TickRecord>,
}

/// A tick that is being submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    pub tick_ms: Timestamp,
    /// Which keeper of schedules is at it.
    pub keeper: u64,
    /// The run that is cancelled for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<RunId>,
    /// Why it takes so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What became of a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TickRecord {
    /// The tick; of several that were missed, the last.
    #[schemars(with = "u64")]
    pub tick_ms: Timestamp,
    /// When it was dealt with.
    #[schemars(with = "u64")]
    pub at_ms: Timestamp,
    #[serde(flatten)]
    pub outcome: TickOutcome,
}

/// How a tick ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum TickOutcome {
    /// It has a run.
    Fired {
        run: RunId,
        /// The run that was cancelled for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancelled: Option<RunId>,
    },
    /// The run before was still open.
    Skipped { reason: String },
    /// It passed while no scheduler was there, and isn't made up for; with all from `since_ms`.
    Missed {
        #[schemars(with = "u64")]
        since_ms: Timestamp,
        reason: String,
    },
    /// What it submits was refused.
    Failed { reason: String },
}

impl ScheduleDocument {
    /// Remembers what became of a tick, which is dealt with now.
    pub fn record(&mut self, tick: Timestamp, at: Timestamp, outcome: TickOutcome) {
        self.handled_ms = self.handled_ms.max(tick);
        self.recent.push(TickRecord { tick_ms: tick, at_ms: at, outcome });
        let over = self.recent.len().saturating_sub(RECORDS_MAX);
        self.recent.drain(..over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_refused() {
        let read = |text: &str| serde_json::from_str::<Schedule>(text);
        let schedule = read(r#"{ "cron": "@daily", "submit": { "name": "x" } }"#).expect("enough");
        assert_eq!((schedule.timezone.as_str(), schedule.overlap), ("UTC", Overlap::Allow));
        assert_eq!((schedule.catch_up, schedule.paused), (CatchUp::Last, false));
        for unknown in [
            r#"{ "cron": "@daily", "submit": { "name": "x" }, "zone": "UTC" }"#,
            r#"{ "cron": "@daily", "submit": { "nmae": "x" } }"#,
        ] {
            let error = read(unknown).expect_err("unknown").to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_record_is_flat() {
        let outcome = TickOutcome::Skipped { reason: "busy".to_owned() };
        let record = TickRecord { tick_ms: Timestamp(1), at_ms: Timestamp(2), outcome };
        let json = serde_json::to_string(&record).expect("plain data");
        assert_eq!(json, r#"{"tick_ms":1,"at_ms":2,"outcome":"skipped","reason":"busy"}"#);
        assert_eq!(serde_json::from_str::<TickRecord>(&json).expect("it reads what it writes"), record);
    }
}
