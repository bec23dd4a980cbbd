//! What came of a search's trials, as a log in the state that all its workers append to. Its first entry says what
//! is searched, so that whoever reads the log knows the search.

use std::time::Duration;

use gristmill_backends::state::{State, StateError};
use gristmill_learn::search::{Better, Outcome, Study};
use gristmill_protocol::pipeline::steps::Tune;
use gristmill_protocol::wire::WireError;
use gristmill_protocol::{Digest, RunId, wire};
use serde::{Deserialize, Serialize};

/// Entries read at a time.
const READ_MAX: usize = 1_024;
/// The pauses between two looks at the log: short at first, so that little time is lost between trials.
const LOOK_FIRST: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(200);

/// Why the log of a search can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StudyLogError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("failed to read the log of the search")]
    Damaged(#[from] WireError),
    #[error("the log of the search is of another search: {reason}")]
    Other { reason: String },
}

/// What is searched: the step, with what was found out about its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    pub tune: Tune,
    /// The metric that decides, and which values of it are better.
    pub metric: String,
    pub better: Better,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Began(Box<Search>),
    Job(JobRecord),
}

/// What came of one job of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    pub job: u32,
    pub outcome: Outcome,
    /// How long it took. Of interest to people; nothing is decided by it.
    pub seconds: f64,
}

/// Begins the log of a search; again is fine.
pub async fn begin(state: &dyn State, name: &str, search: Search) -> Result<(), StudyLogError> {
    let body = wire::encode(&Entry::Began(Box::new(search)));
    match state.log_append(name, 1, token(&body), body).await {
        Ok(()) | Err(StateError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the log of this name is about; nothing when it hasn't begun.
pub async fn search_of(state: &dyn State, name: &str) -> Result<Option<Search>, StudyLogError> {
    let entries = state.log_read(name, 0, 1).await?;
    let Some(first) = entries.first() else { return Ok(None) };
    match wire::decode("an entry of a search", &first.body)? {
        Entry::Began(search) => Ok(Some(*search)),
        Entry::Job(_) => Err(StudyLogError::Other { reason: "it doesn't say what is searched".to_owned() }),
    }
}

/// A number that tells what is appended from all else: the same again is the same append.
fn token(body: &[u8]) -> u64 {
    u64::from_be_bytes(Digest::of(body).as_bytes()[..8].try_into().expect("a SHA-256 has 32 bytes"))
}

/// The log's name.
pub fn log_name(run: RunId, step: &str) -> String {
    format!("study/{run}/{step}")
}

/// A search as far as its log was read.
pub struct StudyLog<'a> {
    state: &'a dyn State,
    name: String,
    study: Study,
    records: Vec<JobRecord>,
    position: u64,
}

impl<'a> StudyLog<'a> {
    /// A search of which nothing is read yet.
    pub fn new(state: &'a dyn State, name: String, study: Study) -> StudyLog<'a> {
        StudyLog { state, name, study, records: Vec::new(), position: 0 }
    }

    /// Reads what is new; says whether there was anything.
    pub async fn read(&mut self) -> Result<bool, StudyLogError> {
        let before = self.position;
        loop {
            let entries = self.state.log_read(&self.name, self.position, READ_MAX).await?;
            for entry in &entries {
                if let Entry::Job(record) = wire::decode("an entry of a search", &entry.body)? {
                    let told = self.study.tell(record.job, record.outcome.clone());
                    told.map_err(|error| StudyLogError::Other { reason: error.to_string() })?;
                    self.records.push(record);
                }
                self.position = entry.position;
            }
            if entries.len() < READ_MAX {
                return Ok(self.position > before);
            }
        }
    }

    /// Waits until the log has grown, for `patience` at most; says whether it has.
    pub async fn wait(&mut self, patience: Duration, is_stopped: impl Fn() -> bool) -> Result<bool, StudyLogError> {
        let (mut pause, mut waited) = (LOOK_FIRST, Duration::ZERO);
        while !self.read().await? {
            if waited >= patience || is_stopped() {
                return Ok(false);
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(LOOK_MAX);
        }
        Ok(true)
    }

    /// Adds what came of a job, unless somebody has.
    pub async fn add(&mut self, record: &JobRecord) -> Result<(), StudyLogError> {
        let body = wire::encode(&Entry::Job(record.clone()));
        let token = token(&body);
        loop {
            if self.study.outcome(record.job).is_some() {
                return Ok(());
            }
            match self.state.log_append(&self.name, self.position + 1, token, body.clone()).await {
                Ok(()) | Err(StateError::Conflict { .. }) => drop(self.read().await?),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The search as it stands.
    pub fn study(&self) -> &Study {
        &self.study
    }

    /// What came of jobs, in the order in which it came.
    pub fn records(&self) -> &[JobRecord] {
        &self.records
    }
}
