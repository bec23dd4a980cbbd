//! `serve`: the registered models over HTTP, until the process is told to end.

mod follow;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gristmill_online::capture::{CaptureSettings, Captures};
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::{Models, Scoring, ServerSettings};
use gristmill_telemetry::Telemetry;
use gristmill_worker::online::captured::ParquetCapture;
use gristmill_worker::online::source::RegistrySource;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use self::follow::{EndpointFollower, follow};
use crate::cli::{CaptureArgs, ServeArgs};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::services::Ends;
use crate::settings::Settings;

/// `gristmill serve`.
pub async fn serve(settings: &Settings, args: ServeArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    let mut ends = Ends::new()?;
    let home = Home::read(settings).await?;
    let source = Arc::new(RegistrySource::new(home.registry.clone(), Handle::current()));
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
    let captures = captures(&args.capture, telemetry)?;
    let scoring = Arc::new(Scoring::new(models, engine, telemetry.metrics(), captures));
    let mut endpoints = EndpointFollower::new(home.state.clone(), scoring.clone());
    endpoints.follow().await.context("failed to start the endpoints")?;
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
    let following = tokio::spawn(follow(scoring.clone(), source, endpoints));
    let cut = gristmill_online::serve(listener, scoring.clone(), server, ends.next()).await;
    following.abort();
    tokio::task::spawn_blocking(move || scoring.finish()).await.context("captured requests may be lost")?;
    match cut {
        0 => Ok(Exit::Success),
        cut => Err(Problem::failed(format!("{cut} connections were cut: their requests took too long to end")).into()),
    }
}

/// Where requests and answers are kept, if they are.
fn captures(args: &CaptureArgs, telemetry: &Telemetry) -> anyhow::Result<Option<Captures>> {
    let Some(folder) = &args.capture else { return Ok(None) };
    let hash_key = args.capture_hash_key.clone().unwrap_or_default();
    if hash_key.is_empty() && !args.capture_hash.is_empty() {
        let problem = Problem::usage("columns can't be hashed without a key: whoever guesses a value could check it");
        return Err(problem.hint("set `GRISTMILL_CAPTURE_HASH_KEY` to a secret").into());
    }
    let settings = CaptureSettings {
        share: args.capture_share,
        drop_tags: args.capture_drop.iter().cloned().collect(),
        hash_tags: args.capture_hash.iter().cloned().collect(),
        hash_key: hash_key.into_bytes(),
    };
    let sink = ParquetCapture::new(folder);
    let sink = sink.with_context(|| format!("failed to make the folder `{}`", folder.display()))?;
    Ok(Some(Captures::start(settings, telemetry.metrics(), sink).context("failed to start a thread")?))
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
