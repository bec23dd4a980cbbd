//! The folder where state lives, opened to own it or to read beside whoever owns it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::state::State;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_protocol::RunId;
use gristmill_registry::Registry;

use crate::problem::Problem;

/// An open home.
#[derive(Clone)]
pub struct Home {
    pub state: Arc<dyn State>,
    pub artifacts: Arc<dyn Artifacts>,
    pub registry: Registry,
}

impl Home {
    /// Owns the home, making it if there is none.
    pub fn own(folder: &Path, synchronous: Synchronous) -> anyhow::Result<Home> {
        let state = EmbeddedState::open(folder, synchronous)?;
        Home::with(Arc::new(state), folder)
    }

    /// Reads the home beside whoever owns it.
    pub fn read(folder: &Path) -> anyhow::Result<Home> {
        let state = EmbeddedState::open_reader(folder)?;
        Home::with(Arc::new(state), folder)
    }

    fn with(state: Arc<dyn State>, folder: &Path) -> anyhow::Result<Home> {
        let artifacts: Arc<dyn Artifacts> =
            Arc::new(DirectoryArtifacts::open(&folder.join("artifacts")).context("failed to open the artifact store")?);
        let registry = Registry::new(state.clone(), artifacts.clone());
        Ok(Home { state, artifacts, registry })
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
