//! From a name and columns to predictions: who answers, what happens when that fails, and who gets a copy.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use gristmill_telemetry::metrics::{Counter, Histogram, Metrics};

use crate::capture::{Captures, Pending};
use crate::deadline::Deadline;
use crate::endpoint::shadow::Answered;
use crate::endpoint::{Endpoint, EndpointSettings, Side};
use crate::engine::{Engine, Lane, Scored};
use crate::models::{Models, ResolveError, Which};
use crate::refusal::Refusal;
use crate::rows::Predictions;
use crate::signature::{Input, Signature};

/// All that scoring needs, shared by the connections.
pub struct Scoring {
    models: Arc<Models>,
    engine: Engine,
    metrics: Arc<Metrics>,
    captures: Option<Arc<Captures>>,
    endpoints: RwLock<HashMap<String, Arc<Endpoint>>>,
    series: RwLock<HashMap<Arc<str>, Arc<ModelSeries>>>,
}

/// The series of one model, looked up once.
struct ModelSeries {
    succeeded: Arc<Histogram>,
    rows: Arc<Counter>,
}

/// Who will answer a request.
#[derive(Debug)]
pub struct Routed {
    lane: Arc<Lane>,
    endpoint: Option<(Arc<Endpoint>, Side)>,
}

impl Routed {
    pub fn signature(&self) -> &Signature {
        self.lane.predictor().signature()
    }

    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }
}

/// Predictions, and whose they are.
#[derive(Debug)]
pub struct Answer {
    pub predictions: Predictions,
    pub lane: Arc<Lane>,
}

impl std::fmt::Debug for Scoring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Scoring({:?}, {:?})", self.models, self.engine)
    }
}

impl Scoring {
    pub fn new(models: Arc<Models>, engine: Engine, metrics: Arc<Metrics>, captures: Option<Captures>) -> Scoring {
        let (endpoints, series) = Default::default();
        Scoring { models, engine, metrics, captures: captures.map(Arc::new), endpoints, series }
    }

    pub fn models(&self) -> &Arc<Models> {
        &self.models
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Serves an endpoint under its name, in the place of what had the name. Requests at hand end where they began.
    pub fn put_endpoint(&self, endpoint: Endpoint) {
        let name = endpoint.settings().name.clone();
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(endpoint));
    }

    /// Starts an endpoint over these models and serves it, inside a runtime. The error is the system's when it has no
    /// thread left.
    pub fn start_endpoint(&self, settings: EndpointSettings) -> std::io::Result<()> {
        self.put_endpoint(Endpoint::start(settings, &self.models, &self.metrics, self.captures.as_ref())?);
        Ok(())
    }

    /// The names of the endpoints.
    pub fn endpoints(&self) -> Vec<String> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Takes an endpoint away. Returns whether there was one.
    pub fn remove_endpoint(&self, name: &str) -> bool {
        self.endpoints.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    pub fn endpoint(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Who answers requests for a name: an endpoint, or a model. The key decides between champion and canary.
    pub async fn route(&self, name: &str, which: &Which, key: &[u8], deadline: Deadline) -> Result<Routed, Refusal> {
        let endpoint = if *which == Which::Served { self.endpoint(name) } else { None };
        let Some(endpoint) = endpoint else {
            let lane = self.resolve(name, which, deadline).await?;
            return Ok(Routed { lane, endpoint: None });
        };
        let mut side = endpoint.side(key);
        let start = Instant::now();
        let model = endpoint.model(side);
        let mut lane = match self.resolve(&model.name, &model.which, deadline).await {
            Err(_) if side == Side::Canary => {
                endpoint.observe(side, start.elapsed(), true);
                side = Side::Champion;
                let model = endpoint.model(side);
                self.resolve(&model.name, &model.which, deadline).await?
            }
            resolved => resolved?,
        };
        if side == Side::Canary {
            let model = endpoint.model(Side::Champion);
            let champion = self.resolve(&model.name, &model.which, deadline).await?;
            // Clients ask what the champion takes; a canary that takes something else would refuse it.
            if !lane.predictor().signature().takes_what_is_for(champion.predictor().signature()) {
                endpoint.take_back("it takes other columns than the champion");
                (side, lane) = (Side::Champion, champion);
            }
        }
        Ok(Routed { lane, endpoint: Some((endpoint, side)) })
    }

    /// The predictions for what a request has. A canary that fails costs its requests some time and nothing else: the
    /// champion answers them.
    pub async fn score(
        &self,
        routed: Routed,
        input: Input<'_>,
        request_id: Option<&str>,
        deadline: Deadline,
    ) -> Result<Answer, Refusal> {
        let Routed { lane, endpoint } = routed;
        let Some((endpoint, side)) = endpoint else {
            let scored = self.score_with(&lane, input, request_id, deadline).await?;
            return Ok(Answer { predictions: scored.predictions, lane });
        };
        let wanted = side == Side::Canary || endpoint.has_listeners(side);
        let copy = wanted.then(|| Arc::new(input.clone().into_owned()));
        let start = Instant::now();
        let result = self.score_with(&lane, input, request_id, deadline).await;
        let failed = matches!(result, Err(Refusal::Failed(_)));
        endpoint.observe(side, start.elapsed(), failed);
        let (lane, side, scored) = match (result, &copy) {
            (Err(Refusal::Failed(reason)), Some(copy)) if side == Side::Canary => {
                tracing::debug!(endpoint = endpoint.settings().name, reason, "canary failed, champion answers");
                let model = endpoint.model(Side::Champion);
                let champion = self.resolve(&model.name, &model.which, deadline).await?;
                let scored = self.score_with(&champion, (**copy).clone(), request_id, deadline).await?;
                (champion, Side::Champion, scored)
            }
            (result, _) => (lane, side, result?),
        };
        if let Some(input) = copy.filter(|_| endpoint.has_listeners(side)) {
            let answered = || Answered {
                input: Arc::clone(&input),
                request_id: request_id.map(str::to_owned),
                version: lane.version(),
                predictions: scored.predictions.clone(),
                predicted: scored.predicted,
            };
            self.copy(&endpoint, side, answered);
        }
        Ok(Answer { predictions: scored.predictions, lane })
    }

    /// Counts a request that ended, by the name that was asked for.
    pub fn count(&self, name: &str, took: Duration, result: Result<(), &Refusal>) {
        match result {
            Ok(()) => self.series(name).succeeded.record_time(took),
            // A name that isn't known could be anything, and each would be a series.
            Err(refusal) => {
                let is_known = self.models.knows(name) || self.endpoint(name).is_some();
                let name = if is_known { name } else { "" };
                self.metrics.inference_duration.with(&[name, refusal.outcome()]).record_time(took);
            }
        }
    }

    /// The metrics' text, with the gauges as they are now.
    pub fn metrics_text(&self) -> String {
        let (count, bytes, _) = self.models.usage();
        self.metrics.models_loaded.with(&[]).set(count as f64);
        self.metrics.models_bytes.with(&[]).set(bytes as f64);
        self.metrics.inference_expected_wait.with(&[]).set(self.engine.expected_wait().as_secs_f64());
        self.metrics.to_text()
    }

    async fn score_with(
        &self,
        lane: &Arc<Lane>,
        input: Input<'_>,
        request_id: Option<&str>,
        deadline: Deadline,
    ) -> Result<Scored, Refusal> {
        let rows = lane.predictor().signature().bind(input)?;
        let count = rows.len() as u64;
        let captures = self.captures.as_ref().zip(request_id).filter(|(captures, id)| captures.wants(id));
        let kept = captures.map(|(captures, id)| (captures, id, rows.clone()));
        let scored = self.engine.score(lane, rows, deadline).await?;
        self.series(lane.name()).rows.add(count);
        if let Some((captures, request_id, rows)) = kept {
            captures.offer(Pending {
                at: SystemTime::now(),
                request_id: request_id.to_owned(),
                lane: Arc::clone(lane),
                rows,
                predictions: scored.predictions.clone(),
            });
        }
        Ok(scored)
    }

    /// Keeps what was captured and waits; nothing is captured from here on. Blocks until it is kept.
    pub fn finish(&self) {
        if let Some(captures) = &self.captures {
            captures.finish();
        }
    }

    pub(crate) fn captures(&self) -> bool {
        self.captures.is_some()
    }

    async fn resolve(&self, name: &str, which: &Which, deadline: Deadline) -> Result<Arc<Lane>, Refusal> {
        let resolved = deadline.bound(self.models.resolve(name, which)).await?;
        resolved.map_err(|error| match &error {
            ResolveError::NoModel { .. } | ResolveError::NoVersion { .. } => Refusal::NotFound(error.to_string()),
            ResolveError::Load { source, .. } => {
                tracing::error!(error = %error, source = %source, "failed to load a model");
                Refusal::NotReady(error.to_string())
            }
        })
    }

    fn copy(&self, endpoint: &Endpoint, side: Side, answered: impl Fn() -> Answered) {
        let (taken, dropped) = endpoint.copy(side, answered);
        let name = &endpoint.settings().name;
        if taken > 0 {
            self.metrics.shadow_requests.with(&[name, "taken"]).add(taken);
        }
        if dropped > 0 {
            self.metrics.shadow_requests.with(&[name, "dropped"]).add(dropped);
        }
    }

    fn series(&self, name: &str) -> Arc<ModelSeries> {
        if let Some(series) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(series);
        }
        let succeeded = self.metrics.inference_duration.with(&[name, "succeeded"]);
        let series = Arc::new(ModelSeries { succeeded, rows: self.metrics.inference_rows.with(&[name]) });
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(name.into()).or_insert(series))
    }
}
