//! What a server follows while it serves: the registry's models, and the endpoints that are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gristmill_backends::state::State;
use gristmill_online::{Models, Scoring, SourceError};
use gristmill_worker::online::endpoints::{EndpointDocument, EndpointError, Endpoints, TELL_EVERY, TakenBack, seen_by};
use gristmill_worker::online::source::RegistrySource;
use tracing::{debug, info, warn};

/// How often models in memory and endpoints are looked up again: a moved alias is served within a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often all models are looked for, those that nobody asked for yet among them.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// Follows what is wanted. While the stores can't be reached, what is known is served on.
pub async fn follow(scoring: Arc<Scoring>, source: Arc<RegistrySource>, mut endpoints: EndpointFollower) {
    // Apart from each other: a large model on its way doesn't hold up a canary's end.
    let models = async {
        let (models, mut listed, mut reach) = (scoring.models(), Instant::now(), Reach::new("the registry"));
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let looked = if listed.elapsed() >= LIST_EVERY {
                listed = Instant::now();
                models.refresh().await
            } else {
                look_at_loaded(models, &source).await
            };
            reach.tell(looked.map_err(Into::into));
        }
    };
    let endpoints = async {
        let mut reach = Reach::new("the state with the endpoints");
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            reach.tell(endpoints.follow().await.map_err(Into::into));
        }
    };
    tokio::join!(models, endpoints);
}

/// Whether something could be reached lately; told when that changes.
struct Reach {
    what: &'static str,
    is_reached: bool,
}

impl Reach {
    fn new(what: &'static str) -> Reach {
        Reach { what, is_reached: true }
    }

    fn tell(&mut self, looked: anyhow::Result<()>) {
        match &looked {
            Ok(()) if !self.is_reached => info!("{} is reached again", self.what),
            Err(error) if self.is_reached => {
                warn!(error = format!("{error:#}"), "{} can't be read; what is known is served on", self.what);
            }
            Ok(()) | Err(_) => {}
        }
        self.is_reached = looked.is_ok();
    }
}

/// Looks up again the models that are in memory.
async fn look_at_loaded(models: &Arc<Models>, source: &RegistrySource) -> Result<(), SourceError> {
    let names: BTreeSet<String> = models.lanes().iter().map(|lane| lane.name().to_string()).collect();
    for name in names {
        match source.look(&name).await? {
            Some(known) => models.serve(known).await,
            None => models.forget(&name),
        }
    }
    Ok(())
}

/// Serves the endpoints that the state says are wanted, and tells there what was seen of them.
pub struct EndpointFollower {
    state: Arc<dyn State>,
    endpoints: Endpoints,
    scoring: Arc<Scoring>,
    /// A name of this process's own among the servers.
    server: String,
    served: BTreeMap<String, (u64, EndpointDocument)>,
    told: Instant,
}

impl EndpointFollower {
    /// Serves nothing before it follows.
    pub fn new(state: Arc<dyn State>, scoring: Arc<Scoring>) -> EndpointFollower {
        let server = format!("{:016x}", crate::cluster::random_bits() as u64);
        let (endpoints, served, told) = (Endpoints::new(state.clone()), BTreeMap::new(), Instant::now());
        EndpointFollower { state, endpoints, scoring, server, served, told }
    }

    /// Looks once.
    pub async fn follow(&mut self) -> Result<(), EndpointError> {
        self.report_taken_back().await?;
        let names = self.endpoints.names().await?;
        let wanted: BTreeSet<&String> = names.iter().collect();
        let gone: Vec<String> = self.served.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in gone {
            self.scoring.remove_endpoint(&name);
            self.served.remove(&name);
            info!(endpoint = name, "endpoint removed");
        }
        for name in names {
            let (version, document) = match self.endpoints.get(&name).await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                // The others are served; this one stays as it was.
                Err(EndpointError::Damaged { name, source }) => {
                    debug!(endpoint = name, %source, "the document of an endpoint can't be read");
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.served.get(&name) {
                Some((known, _)) if *known == version => continue,
                Some((_, known)) if known.spec.is_same_but_taken_back(&document.spec) => {
                    let taken_back = document.spec.canary.as_ref().and_then(|canary| canary.taken_back.as_ref());
                    if let (Some(endpoint), Some(taken_back)) = (self.scoring.endpoint(&name), taken_back) {
                        endpoint.take_back(&taken_back.reason);
                    }
                }
                // Also when it is what it was: whoever sets it again wants to see what comes from now on.
                _ => match self.scoring.start_endpoint(document.spec.settings()) {
                    Ok(()) => info!(endpoint = name, champion = document.spec.champion, "endpoint served"),
                    Err(error) => {
                        warn!(endpoint = name, %error, "an endpoint can't be served: there is no thread left");
                        continue;
                    }
                },
            }
            self.served.insert(name, (version, document));
        }
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            self.tell().await?;
        }
        Ok(())
    }

    /// Tells the others of canaries that were taken back here.
    async fn report_taken_back(&mut self) -> Result<(), EndpointError> {
        for (name, (version, document)) in &self.served {
            let stands = document.spec.canary.as_ref().is_some_and(|canary| canary.taken_back.is_none());
            let Some(endpoint) = self.scoring.endpoint(name).filter(|_| stands) else { continue };
            if let Some(reason) = endpoint.report().taken_back {
                let at = self.state.clock().await?.now;
                // What led to it goes first, so that whoever reads of the end finds the reason.
                self.endpoints.tell(name, &seen_by(&self.server, at, &endpoint)).await?;
                let taken_back = TakenBack { at, reason: reason.to_string() };
                let by = format!("server {}", self.server);
                match self.endpoints.take_back((*version, document.clone()), taken_back, &by).await {
                    // Changed in between: it is read anew, and what is wanted now counts.
                    Err(EndpointError::State(gristmill_backends::state::StateError::Conflict { .. })) => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }

    async fn tell(&self) -> Result<(), EndpointError> {
        for name in self.served.keys() {
            if let Some(endpoint) = self.scoring.endpoint(name) {
                let at = self.state.clock().await?.now;
                self.endpoints.tell(name, &seen_by(&self.server, at, &endpoint)).await?;
            }
        }
        Ok(())
    }
}
