//! `api`: what other programs ask over HTTP. MLflow's REST API is answered here: its clients register, find, alias and
//! download models, log runs of their own, and see those of pipelines.

mod pipeline_runs;

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Extension;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use gristmill_mlflow::{Mlflow, router};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::pipeline_runs::JournalRuns;
use crate::cli::ApiArgs;
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::services::Ends;
use crate::settings::Settings;

/// How long requests at hand may take when the server ends.
const DRAIN_MAX: Duration = Duration::from_secs(25);

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
    if !address.ip().is_loopback() {
        eprintln!("warning: whoever reaches {address} can change registered models: there are no tokens yet");
    }
    let router = router(Arc::new(mlflow)).layer(from_fn(from_here));
    let router = if address.ip().is_loopback() { router.layer(Extension(Local)) } else { router };
    let (told, hear) = oneshot::channel();
    let served = axum::serve(listener, router).with_graceful_shutdown(async move {
        ends.next().await;
        told.send(()).ok();
        // A second signal ends it at once.
        tokio::spawn(async move {
            ends.next().await;
            std::process::exit(Exit::Failed as i32);
        });
    });
    tokio::select! {
        served = served.into_future() => served.context("failed to serve")?,
        () = async {
            hear.await.ok();
            tokio::time::sleep(DRAIN_MAX).await;
        } => return Err(Problem::failed("requests were cut: they took too long to end").into()),
    }
    Ok(Exit::Success)
}

/// Refuses what a page of another site makes a browser ask: there are no tokens that such a page wouldn't have.
async fn from_here(request: Request, next: Next) -> Response {
    if is_elsewheres(&request) {
        let body = r#"{"error_code":"PERMISSION_DENIED","message":"requests of pages of other sites are refused"}"#;
        return (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    next.run(request).await
}

fn is_elsewheres(request: &Request) -> bool {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (host, origin) = (text(header::HOST), text(header::ORIGIN));
    let is_of_another_site = origin.is_some_and(|origin| origin.split_once("://").map(|(_, place)| place) != host);
    // A name that somebody else made point here, as a page does that rebinds its own.
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    let is_renamed = request.extensions().get::<Local>().is_some()
        && name.is_some_and(|name| !matches!(name, "localhost" | "127.0.0.1" | "[::1]"));
    is_of_another_site || is_renamed
}

/// Marks requests of a server that listens for this machine alone.
#[derive(Clone, Copy)]
struct Local;
