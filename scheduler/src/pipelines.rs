//! Pipelines that are kept by name and version, so that a client, a schedule or a trigger names one instead of sending it.
//!
//! A pipeline is a log of the state whose entries are its versions: the place of an entry is its number, so numbers have
//! no gaps and a version never changes. The newest text again makes no new version.

use gristmill_backends::state::{State, StateError};
use gristmill_protocol::limits::PIPELINE_BYTES_MAX;
use gristmill_protocol::pipeline::{self, Complaints};
use gristmill_protocol::wire::{self, WireError};
use gristmill_protocol::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// What logs of pipelines are called before namespace and name.
const LOGS: &str = "pipeline/";
/// Entries read at a time: at 256 KiB each at the most, 4 MiB.
const READ_MAX: usize = 16;
/// How often a writer that lost a race to another one tries anew; each race has a winner.
const RACES_MAX: usize = 100;

/// A version of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPipeline {
    pub namespace: String,
    pub name: String,
    pub version: u64,
    pub text: String,
    pub by: String,
    pub at: Timestamp,
}

impl KeptPipeline {
    /// The digest of its text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
}

/// An entry of a pipeline's log.
#[derive(Serialize, Deserialize)]
struct Entry {
    text: String,
    by: String,
}

/// Why a pipeline can't be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error("the pipeline has {bytes} bytes; at most {PIPELINE_BYTES_MAX} are kept")]
    TooLarge { bytes: usize },
    #[error("the pipeline has mistakes")]
    Wrong(#[source] Complaints),
    #[error("others keep versions of pipeline `{name}` all the time")]
    Contended { name: String },
    #[error("version {version} of pipeline `{name}` can't be read")]
    Damaged {
        name: String,
        version: u64,
        #[source]
        source: WireError,
    },
    #[error("failed to reach the kept pipelines")]
    State(#[from] StateError),
}

/// Keeps a pipeline as the next version of its name; says whether it is a new one. Parameters without a default may be
/// set at each submission, so only mistakes that no parameter mends are refused.
pub async fn keep(
    state: &dyn State,
    namespace: &str,
    text: &str,
    by: &str,
) -> Result<(KeptPipeline, bool), PipelineError> {
    if text.len() > PIPELINE_BYTES_MAX {
        return Err(PipelineError::TooLarge { bytes: text.len() });
    }
    let checked = pipeline::check("pipeline", text, &[]).map_err(PipelineError::Wrong)?;
    let name = checked.name;
    let mut newest = newest(state, namespace, &name).await?;
    for race in 0..RACES_MAX as u64 {
        if let Some(newest) = newest.take_if(|newest| newest.text == text) {
            return Ok((newest, false));
        }
        let version = newest.as_ref().map_or(0, |newest| newest.version) + 1;
        let body = wire::encode(&Entry { text: text.to_owned(), by: by.to_owned() });
        // The same text by the same person is the same entry, however often it is said.
        let token = u64::from_be_bytes(Digest::of(&body).as_bytes()[..8].try_into().expect("eight bytes")) ^ race;
        match state.log_append(&log_name(namespace, &name), version, token, body).await {
            Ok(()) => {
                let at = state.clock().await?.now;
                let (namespace, by) = (namespace.to_owned(), by.to_owned());
                return Ok((KeptPipeline { namespace, name, version, text: text.to_owned(), by, at }, true));
            }
            Err(StateError::Conflict { .. }) => newest = self::newest(state, namespace, &name).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(PipelineError::Contended { name })
}

/// A version of a pipeline; the newest where none is named.
pub async fn find(
    state: &dyn State,
    namespace: &str,
    name: &str,
    version: Option<u64>,
) -> Result<Option<KeptPipeline>, PipelineError> {
    match version {
        Some(0) => Ok(None),
        Some(version) => {
            let found = read(state, namespace, name, version - 1, 1).await?;
            Ok(found.into_iter().find(|found| found.version == version))
        }
        None => newest(state, namespace, name).await,
    }
}

/// All versions of a pipeline, oldest first; none if there is no such pipeline.
pub async fn versions(state: &dyn State, namespace: &str, name: &str) -> Result<Vec<KeptPipeline>, PipelineError> {
    let mut versions: Vec<KeptPipeline> = Vec::new();
    loop {
        let after = versions.last().map_or(0, |version| version.version);
        let found = read(state, namespace, name, after, READ_MAX).await?;
        let is_last = found.len() < READ_MAX;
        versions.extend(found);
        if is_last {
            return Ok(versions);
        }
    }
}

/// Namespace and name of each kept pipeline, in order.
pub async fn names(state: &dyn State) -> Result<Vec<(String, String)>, PipelineError> {
    let logs = state.logs(LOGS).await?;
    let parts = |log: &String| {
        let (namespace, name) = log.strip_prefix(LOGS)?.split_once('/')?;
        Some((namespace.to_owned(), name.to_owned()))
    };
    Ok(logs.iter().filter_map(parts).collect())
}

async fn newest(state: &dyn State, namespace: &str, name: &str) -> Result<Option<KeptPipeline>, PipelineError> {
    let mut first = read(state, namespace, name, 0, READ_MAX).await?;
    if first.len() < READ_MAX {
        return Ok(first.pop());
    }
    // A log says nothing of its length, and may be long: its end is looked for by doubling, then by halving.
    let is_there =
        async |version: u64| Ok::<_, PipelineError>(!read(state, namespace, name, version - 1, 1).await?.is_empty());
    let (mut low, mut high) = (READ_MAX as u64, 2 * READ_MAX as u64);
    while is_there(high).await? {
        (low, high) = (high, 2 * high);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match is_there(middle).await? {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(read(state, namespace, name, low - 1, 1).await?.pop())
}

async fn read(
    state: &dyn State,
    namespace: &str,
    name: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<KeptPipeline>, PipelineError> {
    let entries = state.log_read(&log_name(namespace, name), after, limit).await?;
    let version = |entry: gristmill_backends::state::JournalEntry| {
        let version = entry.position;
        let Entry { text, by } = wire::decode("a kept pipeline", &entry.body)
            .map_err(|source| PipelineError::Damaged { name: name.to_owned(), version, source })?;
        Ok(KeptPipeline { namespace: namespace.to_owned(), name: name.to_owned(), version, text, by, at: entry.at })
    };
    entries.into_iter().map(version).collect()
}

fn log_name(namespace: &str, name: &str) -> String {
    format!("{LOGS}{namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};

    use super::*;

    const FIRST: &str = "name: nightly\nsteps:\n  a: { noop: {} }\n";
    const SECOND: &str = "name: nightly\nsteps:\n  b: { noop: {} }\n";

    #[tokio::test]
    async fn versions_count_up_and_never_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = EmbeddedState::open(folder.path(), Synchronous::Normal).expect("a home");
        let (first, is_new) = keep(&state, "default", FIRST, "ann").await.expect("kept");
        assert_eq!((first.version, is_new), (1, true));
        let (again, is_new) = keep(&state, "default", FIRST, "bob").await.expect("kept");
        assert_eq!((again.version, again.by.as_str(), is_new), (1, "ann", false));
        assert_eq!(keep(&state, "default", SECOND, "bob").await.expect("kept").0.version, 2);
        // An earlier text is a version of its own, since it is what is wanted next.
        assert_eq!(keep(&state, "default", FIRST, "ann").await.expect("kept").0.version, 3);
        assert_eq!(keep(&state, "other", FIRST, "ann").await.expect("kept").0.version, 1);
        let find = async |version| find(&state, "default", "nightly", version).await.expect("read");
        assert_eq!(find(Some(2)).await.expect("there").text, SECOND);
        assert_eq!(find(None).await.expect("there").version, 3);
        assert_eq!((find(Some(0)).await, find(Some(4)).await), (None, None));
        let all = names(&state).await.expect("listed");
        assert_eq!(all, [("default", "nightly"), ("other", "nightly")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    #[tokio::test]
    async fn writers_that_race_get_a_version_each() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = Arc::new(EmbeddedState::open(folder.path(), Synchronous::Normal).expect("a home"));
        let keeping = (0..20).map(|number| {
            let state = state.clone();
            tokio::spawn(async move {
                let text = format!("name: nightly\nsteps:\n  a: {{ noop: {{ tasks: {} }} }}\n", number + 1);
                keep(&*state, "default", &text, "ann").await.expect("kept").0.version
            })
        });
        let mut versions = Vec::new();
        for kept in keeping.collect::<Vec<_>>() {
            versions.push(kept.await.expect("it doesn't panic"));
        }
        versions.sort_unstable();
        assert_eq!(versions, (1..=20).collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn the_newest_of_many_versions_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = EmbeddedState::open(folder.path(), Synchronous::Normal).expect("a home");
        for number in 1..=70 {
            let text = format!("name: nightly\nsteps:\n  a: {{ noop: {{ tasks: {number} }} }}\n");
            assert_eq!(keep(&state, "default", &text, "ann").await.expect("kept").0.version, number);
        }
    }

    #[tokio::test]
    async fn a_wrong_pipeline_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = EmbeddedState::open(folder.path(), Synchronous::Normal).expect("a home");
        let error = keep(&state, "default", "name: x\nsteps: {}\n", "ann").await.expect_err("it has no steps");
        assert!(matches!(error, PipelineError::Wrong(_)), "{error}");
        assert_eq!(names(&state).await.expect("listed"), []);
    }
}
