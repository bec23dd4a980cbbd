//! `api`, and the part of `up` that answers over HTTP: the API, the dashboard and MLflow's REST API on one address, let in
//! by the same tokens.

mod pipeline_runs;
mod serving;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use gristmill_api::{Api, ApiSettings, MlflowCaller, Scaled, ServerSettings, Stores, router, serve, tls};
use gristmill_backends::broker::dead_letters::{DeadLetters, NoDeadLetters};
use gristmill_backends::broker::rabbitmq::{RabbitDeadLetters, RabbitOptions};
use gristmill_mlflow::{Caller, Mlflow};
use gristmill_worker::online::endpoints::Endpoints;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::pipeline_runs::JournalRuns;
use self::serving::RegistryServing;
pub use self::serving::prove;
use crate::cli::{ApiArgs, ApiOptions};
use crate::cluster::queue_type;
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::services::Ends;
use crate::settings::Settings;

/// Where the API is when nobody says.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

/// `gristmill api`.
pub async fn api(settings: &Settings, args: ApiArgs) -> anyhow::Result<Exit> {
    let mut ends = Ends::new()?;
    let home = Home::open(settings).await?;
    let listener = listen(args.listen.unwrap_or(ADDRESS)).await?;
    let part = ApiPart::start(settings, &home, listener, &args.options).await?;
    ends.next().await;
    // A second signal ends it at once.
    tokio::spawn(async move {
        ends.next().await;
        std::process::exit(Exit::Failed as i32);
    });
    match part.stop().await {
        0 => Ok(Exit::Success),
        cut => Err(Problem::failed(format!("{cut} connections were cut: their requests took too long to end")).into()),
    }
}

/// Binds the address that was asked for, or the usual one: that it's taken is no reason not to start the rest.
pub async fn bind(asked: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match asked {
        Some(address) => listen(address).await.map(Some),
        None => match TcpListener::bind(ADDRESS).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                eprintln!("warning: the API isn't served: {ADDRESS} is taken; name another with `--api`");
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("failed to listen at `{ADDRESS}`")),
        },
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("failed to listen at `{address}`"))
}

/// The API in this process.
pub struct ApiPart {
    api: Arc<Api>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<usize>,
}

impl ApiPart {
    /// Starts to answer.
    pub async fn start(
        settings: &Settings,
        home: &Home,
        listener: TcpListener,
        options: &ApiOptions,
    ) -> anyhow::Result<ApiPart> {
        let dead_letters = dead_letters(settings)?;
        let address = listener.local_addr()?;
        let encryption = match (&options.tls_certificate, &options.tls_key) {
            (Some(certificate), Some(key)) => Some(tls(certificate, key).context("connections can't be encrypted")?),
            _ => None,
        };
        let rules = settings.pools.iter().map(|(name, pool)| Ok((name.clone(), pool.rules(name)?)));
        let scaled = Scaled::new(rules.collect::<anyhow::Result<_>>()?);
        let settings = ApiSettings {
            is_local: address.ip().is_loopback(),
            local_name: crate::who(),
            is_encrypted: encryption.is_some(),
            trace_url: options.trace_url.clone(),
        };
        let serving =
            RegistryServing::new(home.registry.clone(), Endpoints::new(home.state.clone()), home.state.clone());
        let stores = Stores {
            state: home.state.clone(),
            artifacts: home.artifacts.clone(),
            registry: home.registry.clone(),
            dead_letters,
            serving: Some(Arc::new(serving)),
            scaled,
        };
        let api = Arc::new(Api::new(stores, settings));
        let runs = Arc::new(JournalRuns::new(home.state.clone()));
        let mlflow = Mlflow::new(home.registry.clone(), home.state.clone(), home.artifacts.clone(), Some(runs));
        let mlflow = gristmill_mlflow::router(Arc::new(mlflow)).layer(from_fn(named));
        let scheme = if encryption.is_some() { "https" } else { "http" };
        eprintln!("the API is at {scheme}://{address}; for MLflow: export MLFLOW_TRACKING_URI={scheme}://{address}");
        warn(home, address, encryption.is_some()).await?;
        let router = router(&api, Some(mlflow));
        let server = ServerSettings { tls: encryption, ..ServerSettings::default() };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, router, server, async {
            // A sender that is dropped has asked for the same.
            stopped.await.ok();
        }));
        Ok(ApiPart { api, stop, served })
    }

    /// Answers what is at hand and ends. Returns how many connections had to be cut.
    pub async fn stop(self) -> usize {
        self.api.end().await;
        self.stop.send(()).ok();
        self.served.await.unwrap_or_default()
    }
}

/// The queues of messages that were put aside, where there is a broker that others send to.
fn dead_letters(settings: &Settings) -> anyhow::Result<Arc<dyn DeadLetters>> {
    let Some(url) = &settings.broker else { return Ok(Arc::new(NoDeadLetters)) };
    let options = RabbitOptions { queue_type: queue_type(settings), ..RabbitOptions::default() };
    Ok(Arc::new(RabbitDeadLetters::new(url, &options, &[])?))
}

/// Says what whoever opens a server to others should know.
async fn warn(home: &Home, address: SocketAddr, is_encrypted: bool) -> anyhow::Result<()> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    if !is_encrypted {
        eprintln!("warning: whoever is between sees tokens and data; encrypt with `--tls-certificate` and `--tls-key`");
    }
    if home.state.keys("token/", "", 1).await?.is_empty() {
        eprintln!("hint: nobody is let in without a token; `gristmill token create NAME --role admin` makes one");
    }
    Ok(())
}

/// MLflow's API does things in the name of the token.
async fn named(mut request: Request, next: Next) -> Response {
    if let Some(MlflowCaller(name)) = request.extensions().get::<MlflowCaller>().cloned() {
        request.extensions_mut().insert(Caller(name));
    }
    next.run(request).await
}
