//! `serve`: the registered models over HTTP, until the process is told to end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{Models, Scoring, ServerSettings, SourceError};
use gristmill_telemetry::Telemetry;
use gristmill_worker::online::RegistrySource;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::cli::ServeArgs;
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::services::Ends;
use crate::settings::Settings;

/// How often models in memory are looked up again: a moved alias is served within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often all models are looked for, those that nobody asked for yet among them.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// `gristmill serve`.
pub async fn serve(settings: &Settings, args: ServeArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let mut ends = Ends::new()?;
    let home = Home::read(settings).await?;
    let source = Arc::new(RegistrySource::new(home.registry.clone(), home.artifacts.clone(), Handle::current()));
    let models = Models::new(source.clone(), usize::try_from(args.memory << 20).unwrap_or(usize::MAX));
    models.refresh().await.context("failed to list the registered models")?;
    let known = models.known();
    if let Some(model) = &args.model
        && !known.iter().any(|known| known.name == *model)
    {
        let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
        let problem = Problem::usage(format!("there is no registered model `{model}`"));
        let hint = if names.is_empty() {
            "register one with a `register` step".to_owned()
        } else {
            format!("registered are: {}", names.join(", "))
        };
        return Err(problem.hint(hint).into());
    }
    let mut engine = EngineSettings::default();
    if let Some(threads) = args.threads {
        engine.threads = threads;
    }
    let engine = Engine::start(engine).context("failed to start threads")?;
    let scoring = Arc::new(Scoring::new(models.clone(), engine, telemetry.metrics(), None));
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("failed to listen at `{}`", args.listen))?;
    eprintln!("serving at http://{}; {}", listener.local_addr()?, told(known.len()));
    let server = ServerSettings {
        default_model: args.model,
        predict_path: path_of("AIP_PREDICT_ROUTE"),
        health_path: path_of("AIP_HEALTH_ROUTE"),
        timeout: Duration::from_millis(args.timeout_ms),
        hide_schema: args.hide_schema,
        ..ServerSettings::default()
    };
    let looking = tokio::spawn(look(models, source));
    let cut = gristmill_online::serve(listener, scoring, server, ends.next()).await;
    looking.abort();
    match cut {
        0 => Ok(Exit::Success),
        cut => Err(Problem::failed(format!("{cut} connections were cut: their requests took too long to end")).into()),
    }
}

fn told(models: usize) -> String {
    match models {
        0 => "no model is registered yet".to_owned(),
        count => crate::text::counted(count as u64, "model"),
    }
}

/// A path that the surroundings ask for, such as Vertex AI's.
fn path_of(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|path| path.starts_with('/'))
}

/// Follows the registry. While it can't be reached, what is known is served on.
async fn look(models: Arc<Models>, source: Arc<RegistrySource>) {
    let mut listed = Instant::now();
    let mut is_reached = true;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = if listed.elapsed() >= LIST_EVERY {
            listed = Instant::now();
            models.refresh().await
        } else {
            look_at_loaded(&models, &source).await
        };
        match &looked {
            Ok(()) if !is_reached => info!("the registry is reached again"),
            Err(error) if is_reached => warn!(%error, "the registry can't be reached; what is known is served on"),
            Ok(()) | Err(_) => {}
        }
        is_reached = looked.is_ok();
    }
}

/// Looks up again the models that are in memory.
async fn look_at_loaded(models: &Arc<Models>, source: &RegistrySource) -> Result<(), SourceError> {
    let names: BTreeSet<String> = models.lanes().iter().map(|lane| lane.name().to_string()).collect();
    for name in names {
        models.serve(source.look(&name).await?).await;
    }
    Ok(())
}
