//! `api`: what other programs ask over HTTP. MLflow's REST API is answered here: its clients register, find, alias and
//! download models, log runs of their own, and see those of pipelines.

mod pipeline_runs;

use std::sync::Arc;

use anyhow::Context;
use gristmill_mlflow::{Mlflow, router};
use tokio::net::TcpListener;

use self::pipeline_runs::JournalRuns;
use crate::cli::ApiArgs;
use crate::home::Home;
use crate::problem::Exit;
use crate::services::Ends;
use crate::settings::Settings;

/// `gristmill api`.
pub async fn api(settings: &Settings, args: ApiArgs) -> anyhow::Result<Exit> {
    let mut ends = Ends::new()?;
    let home = Home::open(settings).await?;
    let runs = Arc::new(JournalRuns::new(home.state.clone()));
    let mlflow = Mlflow::new(home.registry, home.state, home.artifacts, Some(runs));
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("failed to listen at `{}`", args.listen))?;
    let address = listener.local_addr()?;
    eprintln!("the API is at http://{address}; for MLflow: export MLFLOW_TRACKING_URI=http://{address}");
    let served = axum::serve(listener, router(Arc::new(mlflow)));
    served.with_graceful_shutdown(async move { ends.next().await }).await.context("failed to serve")?;
    Ok(Exit::Success)
}
