//! `serve`: the registered models over HTTP and gRPC, by queue and of streams, until the process is told to end.

mod follow;
mod mirror;
mod streams;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gristmill_online::capture::{CaptureSettings, Captures};
use gristmill_online::engine::{Engine, EngineSettings};
use gristmill_online::stream::{StreamSettings, run_stream};
use gristmill_online::{Models, QueueSettings, Scoring, ServerSettings};
use gristmill_telemetry::Telemetry;
use gristmill_worker::online::captured::ParquetCapture;
use gristmill_worker::online::source::RegistrySource;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::follow::{EndpointFollower, follow};
use self::mirror::mirror;
use crate::cli::{CaptureArgs, ServeArgs};
use crate::cluster::queue_type;
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::services::Ends;
use crate::settings::Settings;

/// How often it is looked at whether a way has broken.
const LOOK: Duration = Duration::from_millis(100);

/// `gristmill serve`.
pub async fn serve(settings: &Settings, args: ServeArgs, telemetry: &Telemetry) -> anyhow::Result<Exit> {
    if args.queue.is_some() {
        broker_of(settings, "--queue")?;
    }
    if !args.streams.is_empty() {
        broker_of(settings, "--stream")?;
    }
    let mut ends = Ends::new()?;
    let mirrored = if settings.is_distributed() { None } else { mirror(&settings.home)? };
    let moved = mirrored.as_ref().map(|folder| Settings { home: folder.path().to_owned(), ..settings.clone() });
    if moved.is_some() {
        eprintln!(
            "the home `{}` can't be written in: its state is copied aside for this process",
            settings.home.display()
        );
    }
    let settings = moved.as_ref().unwrap_or(settings);
    let home = Home::read(settings).await?;
    let mut online = OnlinePart::start(settings, home, args, telemetry).await?;
    tokio::select! {
        () = ends.next() => {}
        () = online.ended() => {}
    }
    online.stop().await
}

/// Online scoring in this process.
pub struct OnlinePart {
    stop: watch::Sender<bool>,
    serving: JoinHandle<anyhow::Result<usize>>,
}

impl OnlinePart {
    /// Starts to answer.
    pub async fn start(
        settings: &Settings,
        home: Home,
        args: ServeArgs,
        telemetry: &Telemetry,
    ) -> anyhow::Result<OnlinePart> {
        let (stop, ended) = watch::channel(false);
        let ready = prepare(settings, home, args, telemetry, ended).await?;
        let settings = settings.clone();
        Ok(OnlinePart { stop, serving: tokio::spawn(async move { ready.run(&settings).await }) })
    }

    /// Whether it has ended, which it doesn't by itself.
    pub fn is_broken(&self) -> bool {
        self.serving.is_finished()
    }

    /// Waits until it has ended by itself: a way in which requests come is broken.
    async fn ended(&mut self) {
        let mut look = tokio::time::interval(LOOK);
        while !self.serving.is_finished() {
            look.tick().await;
        }
    }

    /// Answers what is at hand and ends.
    pub async fn stop(self) -> anyhow::Result<Exit> {
        self.stop.send_replace(true);
        match self.serving.await.context("online scoring ended badly")?? {
            0 => Ok(Exit::Success),
            cut => {
                let text = format!("{cut} requests or connections were cut: they took too long to end");
                Err(Problem::failed(text).into())
            }
        }
    }
}

/// Loads what is to be served and binds the address.
async fn prepare(
    settings: &Settings,
    home: Home,
    args: ServeArgs,
    telemetry: &Telemetry,
    ended: watch::Receiver<bool>,
) -> anyhow::Result<Ready> {
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
    let read = |path: &PathBuf| streams::read(path, settings, &home.state);
    let streams = args.streams.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let mut names = BTreeSet::new();
    if let Some(twice) = streams.iter().find(|stream| !names.insert(&stream.name)) {
        let text = format!("two streams are called `{}`", twice.name);
        return Err(Problem::usage(text).hint("ids of predictions begin with it: give each a name of its own").into());
    }
    let listener = listen(args.listen).await?;
    eprintln!("serving at http://{}; {}", listener.local_addr()?, told(known.len()));
    let server = ServerSettings {
        default_model: args.model,
        predict_path: path_of("AIP_PREDICT_ROUTE"),
        health_path: path_of("AIP_HEALTH_ROUTE"),
        timeout: Duration::from_millis(args.timeout_ms),
        hide_schema: args.hide_schema,
        ..ServerSettings::default()
    };
    let ways = Ways { scoring, server, ended };
    Ok(Ready { ways, listener, grpc: args.grpc, queue: args.queue, streams, source, endpoints })
}

/// What is about to be served.
struct Ready {
    ways: Ways,
    listener: TcpListener,
    grpc: Option<SocketAddr>,
    queue: Option<String>,
    streams: Vec<StreamSettings>,
    source: Arc<RegistrySource>,
    endpoints: EndpointFollower,
}

impl Ready {
    /// Serves until the end; returns how many requests and connections were cut then.
    async fn run(self, settings: &Settings) -> anyhow::Result<usize> {
        let Ready { ways, listener, grpc, queue, streams, source, endpoints } = self;
        let following = tokio::spawn(follow(ways.scoring.clone(), source, endpoints));
        let served = tokio::try_join!(
            ways.http(listener),
            ways.grpc(grpc),
            ways.queue(settings, queue.as_deref()),
            ways.streams(settings, streams),
        );
        following.abort();
        let scoring = ways.scoring;
        tokio::task::spawn_blocking(move || scoring.finish()).await.context("captured requests may be lost")?;
        let (http, grpc, queue, ()) = served?;
        Ok(http + grpc + queue)
    }
}

/// The ways in which requests come. Each serves until the end, and returns how many it had to cut then; one that can't
/// serve ends all.
struct Ways {
    scoring: Arc<Scoring>,
    server: ServerSettings,
    ended: watch::Receiver<bool>,
}

impl Ways {
    /// Waits for the end.
    fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            // Its sender goes only with the process.
            ended.wait_for(|ended| *ended).await.ok();
        }
    }

    async fn http(&self, listener: TcpListener) -> anyhow::Result<usize> {
        Ok(gristmill_online::serve(listener, self.scoring.clone(), self.server.clone(), self.end()).await)
    }

    async fn grpc(&self, address: Option<SocketAddr>) -> anyhow::Result<usize> {
        let Some(address) = address else { return Ok(0) };
        let listener = listen(address).await?;
        eprintln!("serving gRPC at {}", listener.local_addr()?);
        Ok(gristmill_online::serve_grpc(listener, self.scoring.clone(), self.server.clone(), self.end()).await)
    }

    async fn queue(&self, settings: &Settings, queue: Option<&str>) -> anyhow::Result<usize> {
        let Some(queue) = queue else { return Ok(0) };
        let url = broker_of(settings, "--queue")?;
        let queue = QueueSettings {
            queue: queue.to_owned(),
            queue_type: queue_type(settings),
            default_model: self.server.default_model.clone(),
            hide_schema: self.server.hide_schema,
            ..QueueSettings::default()
        };
        eprintln!("serving requests of queue {}", queue.queue);
        let served = gristmill_online::serve_queue(url, self.scoring.clone(), queue, self.end()).await;
        served.context("failed to serve requests of a queue")
    }

    /// Scores streams, each until the end.
    async fn streams(&self, settings: &Settings, streams: Vec<StreamSettings>) -> anyhow::Result<()> {
        if streams.is_empty() {
            return Ok(());
        }
        let url = broker_of(settings, "--stream")?;
        let run = |stream: StreamSettings| {
            eprintln!("scoring {} from {}", stream.name, stream.source.queue());
            let name = stream.name.clone();
            let running = run_stream(url, self.scoring.clone(), stream, self.end());
            async move { running.await.with_context(|| format!("failed to score stream `{name}`")) }
        };
        futures_util::future::try_join_all(streams.into_iter().map(run)).await.map(drop)
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("failed to listen at `{address}`"))
}

/// The broker that an option needs.
fn broker_of<'a>(settings: &'a Settings, option: &str) -> anyhow::Result<&'a str> {
    settings.broker.as_deref().ok_or_else(|| {
        let problem = Problem::usage(format!("`{option}` needs a broker, and none is set"));
        problem.hint("set `GRISTMILL_BROKER=amqp://…`, and with it `GRISTMILL_STATE` and `GRISTMILL_ARTIFACTS`").into()
    })
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
