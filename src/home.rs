//! Where state and artifacts live: a folder, opened to own it or to read beside whoever owns it, or servers.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::artifacts::s3::{S3Artifacts, S3Options};
use gristmill_backends::state::State;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_backends::state::redis::{RedisOptions, RedisState};
use gristmill_protocol::RunId;
use gristmill_registry::{PublicKey, Registry, Signer, TrustPolicy};

use crate::measure;
use crate::problem::Problem;
use crate::settings::{ArtifactStore, Settings};

/// Open stores.
#[derive(Clone)]
pub struct Home {
    pub state: Arc<dyn State>,
    /// The same state over connections of its own, which large answers can't hold up. It belongs to the runtime
    /// that uses it first.
    pub heartbeat_state: Arc<dyn State>,
    pub artifacts: Arc<dyn Artifacts>,
    pub registry: Registry,
    /// Signs what is registered here, where there is a key.
    pub signer: Option<Arc<Signer>>,
}

/// The state twice: see [`Home::heartbeat_state`].
type States = (Arc<dyn State>, Arc<dyn State>);

impl Home {
    /// Opens the stores to work on them: owns the folder, making it if there is none, or connects.
    pub async fn own(settings: &Settings, synchronous: Synchronous) -> anyhow::Result<Home> {
        let states = match &settings.state {
            Some(_) => connect(settings).await?,
            None => embedded(EmbeddedState::open(&settings.home, synchronous)?),
        };
        Home::with(states, settings).await
    }

    /// Owns a folder, whatever the settings say.
    pub fn own_folder(folder: &Path, synchronous: Synchronous) -> anyhow::Result<Home> {
        let states = embedded(EmbeddedState::open(folder, synchronous)?);
        Ok(Home::of(states, open_folder(&folder.join("artifacts"))?, &[], None))
    }

    /// Opens the stores to read, beside whoever works on them.
    pub async fn read(settings: &Settings) -> anyhow::Result<Home> {
        let states = match &settings.state {
            Some(_) => connect(settings).await?,
            None => embedded(EmbeddedState::open_reader(&settings.home)?),
        };
        Home::with(states, settings).await
    }

    /// Opens the stores as [`Home::read`] does, and makes the folder first where there is none.
    pub async fn open(settings: &Settings) -> anyhow::Result<Home> {
        if !settings.is_distributed() && !settings.home.exists() {
            drop(Home::own(settings, Synchronous::Normal).await?);
        }
        Home::read(settings).await
    }

    async fn with(states: States, settings: &Settings) -> anyhow::Result<Home> {
        Ok(Home::of(states, open_artifacts(settings).await?, &settings.trusted_keys, settings.signer()?))
    }

    fn of(
        (state, heartbeat_state): States,
        artifacts: Arc<dyn Artifacts>,
        trusted: &[PublicKey],
        signer: Option<Arc<Signer>>,
    ) -> Home {
        let policy = TrustPolicy { require_signatures: !trusted.is_empty(), keys: trusted.to_vec() };
        let registry = Registry::new(state.clone(), artifacts.clone()).trusting(policy);
        Home { state, heartbeat_state, artifacts, registry, signer }
    }

    /// The run that a text means: a whole id, or the last digits of one; the newest run for nothing.
    pub async fn find_run(&self, text: Option<&str>) -> anyhow::Result<RunId> {
        const SEARCHED: usize = 1_000;
        if let Some(run) = text.and_then(|text| text.parse::<RunId>().ok()) {
            return match self.state.run(run).await? {
                Some(_) => Ok(run),
                None => {
                    Err(Problem::usage(format!("there is no run `{run}`")).hint("`gristmill runs` lists them").into())
                }
            };
        }
        let records = self.state.runs(None, SEARCHED).await?;
        let wanted = text.unwrap_or_default().trim_start_matches("run-");
        let mut found = records.iter().map(|record| record.run).filter(|run| run.to_string().ends_with(wanted));
        match (text, found.next(), found.next()) {
            (None, Some(run), _) | (Some(_), Some(run), None) => Ok(run),
            (None, None, _) => {
                Err(Problem::usage("there are no runs here").hint("`gristmill run pipeline.yaml` makes one").into())
            }
            (Some(text), None, _) => {
                Err(Problem::usage(format!("there is no run `{text}`")).hint("`gristmill runs` lists them").into())
            }
            (Some(text), Some(_), Some(_)) => {
                Err(Problem::usage(format!("more than one run ends in `{text}`")).hint("give more digits").into())
            }
        }
    }
}

fn embedded(state: EmbeddedState) -> States {
    let state: Arc<dyn State> = Arc::new(state);
    (state.clone(), state)
}

/// Connects to the state that the settings name.
pub async fn connect_state(settings: &Settings) -> anyhow::Result<Arc<dyn State>> {
    connect(settings).await.map(|(state, _)| state)
}

async fn connect(settings: &Settings) -> anyhow::Result<States> {
    let url = settings.state.as_deref().context("no state is set")?;
    let options = RedisOptions {
        allow_unsafe: settings.allow_unsafe_state,
        observer: measure::state_calls(),
        ..RedisOptions::default()
    };
    let state = RedisState::connect(url, options).await.context("failed to connect to the state")?;
    let heartbeat = state.another();
    Ok((Arc::new(state), Arc::new(heartbeat)))
}

/// Opens the artifact store that the settings name.
pub async fn open_artifacts(settings: &Settings) -> anyhow::Result<Arc<dyn Artifacts>> {
    let store = match &settings.artifacts {
        None => open_folder(&settings.home.join("artifacts"))?,
        Some(ArtifactStore::Folder(folder)) => open_folder(folder)?,
        Some(ArtifactStore::S3(url)) => {
            let store = S3Artifacts::connect(url, S3Options::default()).await;
            Arc::new(store.context("failed to open the artifact store")?)
        }
    };
    Ok(measure::artifacts(store))
}

fn open_folder(folder: &Path) -> anyhow::Result<Arc<dyn Artifacts>> {
    Ok(Arc::new(DirectoryArtifacts::open(folder).context("failed to open the artifact store")?))
}
