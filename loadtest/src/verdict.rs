//! The checker's verdict over all runs of a test.

use std::collections::BTreeMap;

use gristmill_backends::state::State;
use gristmill_protocol::RunId;

use crate::check::{self, Verdict, most_at_once};
use crate::load::facts;
use crate::outcome::Found;

/// Examples of what is wrong that are told.
const EXAMPLES: usize = 10;

/// What all journals say together.
#[derive(Debug, Default)]
pub struct Judged {
    pub runs: u64,
    pub by_status: BTreeMap<&'static str, u64>,
    pub tasks: u64,
    pub attempts: u64,
    /// Attempts that ended because nothing was heard of their workers.
    pub lost_workers: u64,
    /// Attempts that a worker gave back: it went, or had too many.
    pub returned: u64,
    /// Runs that aren't there, and tasks without an end in runs that have one.
    pub lost: u64,
    pub recorded_twice: u64,
    pub started_before_ready: u64,
    /// The most tasks at a time under any named limit.
    pub most_under_limit: usize,
    pub examples: Vec<String>,
}

/// Reads the journals of runs and adds up what they say.
pub async fn judge(state: &dyn State, runs: impl IntoIterator<Item = RunId>) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let mut under_limit: Vec<(u64, u64)> = Vec::new();
    for run in runs {
        judged.runs += 1;
        let facts = facts(state, run).await?;
        if facts.is_empty() {
            judged.lost += 1;
            judged.examples.push(format!("{run} isn't there"));
            continue;
        }
        match check::check(run, &facts) {
            Ok(mut verdict) => {
                under_limit.extend(std::mem::take(&mut verdict.under_limit).into_values().flatten());
                judged.add(verdict);
            }
            Err(error) => {
                judged.lost += 1;
                judged.examples.push(error);
            }
        }
    }
    judged.most_under_limit = most_at_once(&under_limit);
    judged.examples.truncate(EXAMPLES);
    Ok(judged)
}

impl Judged {
    fn add(&mut self, verdict: Verdict) {
        self.tasks += verdict.tasks;
        self.attempts += verdict.attempts;
        self.lost_workers += verdict.lost_workers;
        self.returned += verdict.returned;
        self.recorded_twice += verdict.recorded_twice.len() as u64;
        self.started_before_ready += verdict.before_ready.len() as u64;
        self.lost += verdict.without_end.len() as u64;
        *self.by_status.entry(verdict.status.map_or("open", |status| status.as_str())).or_default() += 1;
        let examples = verdict.recorded_twice.into_iter().chain(verdict.before_ready).chain(verdict.without_end);
        self.examples.extend(examples.take(EXAMPLES));
    }

    /// Whether nothing was lost, recorded twice or begun too early, and every run has ended.
    pub fn is_right(&self) -> bool {
        self.lost == 0 && self.recorded_twice == 0 && self.started_before_ready == 0 && self.open() == 0
    }

    /// Runs that haven't ended.
    pub fn open(&self) -> u64 {
        self.by_status.get("open").copied().unwrap_or(0)
    }

    /// The figures and sentences of it.
    pub fn tell(&self, found: &mut Found) {
        found.lower("lost", self.lost as f64, "");
        found.lower("recorded_twice", self.recorded_twice as f64, "");
        found.lower("started_before_ready", self.started_before_ready as f64, "");
        found.count("runs", self.runs, "");
        found.count("tasks", self.tasks, "");
        found.count("attempts", self.attempts, "");
        found.count("attempts_lost_with_their_workers", self.lost_workers, "");
        found.count("attempts_given_back", self.returned, "");
        found.note(format!("runs: {:?}", self.by_status));
        self.examples.iter().for_each(|example| found.note(format!("wrong: {example}")));
    }
}
