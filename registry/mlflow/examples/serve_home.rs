//! Serves a home folder to MLflow's clients: `cargo run --example serve_home -- FOLDER 127.0.0.1:5000`, then
//! `MLFLOW_TRACKING_URI=http://127.0.0.1:5000`. With `--pipeline` behind it, two runs of a pipeline `churn` stand in for
//! those of a cluster, and the model `churn` that the first of them registered.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::artifacts::directory::DirectoryArtifacts;
use gristmill_backends::state::State;
use gristmill_backends::state::embedded::{EmbeddedState, Synchronous};
use gristmill_mlflow::{Mlflow, Pipeline, PipelineError, PipelineRun, PipelineRuns, RunStatus, router};
use gristmill_protocol::{RunId, Timestamp};
use gristmill_registry::{Act, NewVersion, Registration, Registry};
use tokio::net::TcpListener;

/// The bytes of the model that the pipeline registered.
const MODEL: &[u8] = b"a model in Gristmill's own format";

/// Two runs of one pipeline.
struct TwoRuns;

fn run(number: u64, status: RunStatus) -> PipelineRun {
    let started = Timestamp(1_700_000_000_000 + number);
    PipelineRun {
        run: RunId::derive(started, "default", &number.to_string(), None),
        pipeline: "churn".to_owned(),
        status,
        started,
        ended: (status != RunStatus::Running).then(|| started.plus_ms(2_000)),
        params: BTreeMap::from([("depth".to_owned(), number.to_string())]),
        tags: BTreeMap::from([("team".to_owned(), "growth".to_owned())]),
        metrics: BTreeMap::from([("rmse".to_owned(), 1.0 / number as f64)]),
    }
}

fn runs() -> Vec<PipelineRun> {
    vec![run(2, RunStatus::Running), run(1, RunStatus::Finished)]
}

#[async_trait]
impl PipelineRuns for TwoRuns {
    async fn pipelines(&self) -> Result<Vec<Pipeline>, PipelineError> {
        let all = runs();
        Ok(vec![Pipeline { name: "churn".to_owned(), first: all[1].started, last: all[0].started }])
    }

    async fn runs(
        &self,
        pipeline: &str,
        before: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<PipelineRun>, PipelineError> {
        let older = |run: &PipelineRun| run.pipeline == pipeline && before.is_none_or(|before| run.run < before);
        Ok(runs().into_iter().filter(older).take(limit).collect())
    }

    async fn run(&self, run: RunId) -> Result<Option<PipelineRun>, PipelineError> {
        Ok(runs().into_iter().find(|one| one.run == run))
    }
}

/// Serves a home until `ended`; `pipeline` says whether one has run in it.
pub async fn run_home(
    home: &Path,
    pipeline: bool,
    listener: TcpListener,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let state: Arc<dyn State> = Arc::new(EmbeddedState::open(home, Synchronous::Normal)?);
    let artifacts: Arc<dyn Artifacts> = Arc::new(DirectoryArtifacts::open(&home.join("artifacts"))?);
    let registry = Registry::new(Arc::clone(&state), Arc::clone(&artifacts));
    let mut known: Option<Arc<dyn PipelineRuns>> = None;
    if pipeline {
        let first = run(1, RunStatus::Finished);
        let new = NewVersion {
            model: artifacts.put(MODEL.into()).await?,
            run: first.run,
            step: "release".to_owned(),
            metrics: first.metrics,
            evidence: None,
            algorithm: "linear".to_owned(),
        };
        let at = state.clock().await?.now;
        let act = Act { by: "pipeline".to_owned(), trace: Some(new.run), at, ..Act::default() };
        let registration = Registration { alias: Some("champion".to_owned()), ..Registration::of(new) };
        registry.on_behalf(act).register("churn", registration).await?;
        known = Some(Arc::new(TwoRuns));
    }
    let mlflow = Arc::new(Mlflow::new(registry, state, artifacts, known));
    axum::serve(listener, router(mlflow)).with_graceful_shutdown(ended).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(home), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: serve_home FOLDER ADDRESS [--pipeline]".into());
    };
    let pipeline = arguments.next().is_some_and(|argument| argument == "--pipeline");
    let listener = TcpListener::bind(&address).await?;
    println!("MLFLOW_TRACKING_URI=http://{}", listener.local_addr()?);
    run_home(&PathBuf::from(home), pipeline, listener, std::future::pending()).await
}
