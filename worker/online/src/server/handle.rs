//! What is asked becomes an answer.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::body::{Held, read, working};
use super::reply::{self, Reply};
use super::route::{Route, route, voice};
use super::{Shared, openapi};
use crate::deadline::Deadline;
use crate::faces::{csv, tables, v2};
use crate::infer::{self, Inferred, text};
use crate::models::{Known, Which};
use crate::refusal::Refusal;
use crate::scoring::{Answer, Scoring};
use crate::signature::{Input, Signature};

/// How long the client waits, in milliseconds: our name for it, and the one that Envoy gives it.
const TIMEOUTS: [HeaderName; 2] =
    [HeaderName::from_static("gristmill-timeout-ms"), HeaderName::from_static("x-envoy-expected-rq-timeout-ms")];
/// What decides between champion and canary, as in a customer's number. Without it, the body does.
const KEY: HeaderName = HeaderName::from_static("gristmill-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who answered, for whoever looks.
const MODEL_VERSION: HeaderName = HeaderName::from_static("gristmill-model-version");

/// A request for predictions, apart from its body.
struct Asked<'a> {
    shared: &'a Shared,
    headers: &'a HeaderMap,
    start: Instant,
    deadline: Deadline,
    /// Known to the client, or made up because the request may be captured.
    id: Option<Cow<'a, str>>,
}

/// Answers a request, whatever it is. Its time runs from `came`, since when it waits for its turn.
pub async fn handle(shared: &Shared, request: Request<Incoming>, came: Instant) -> Reply {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let route = match own_path(shared, path) {
        Some(own) => Ok(own),
        None => route(&head.method, path),
    };
    let (name, predicts) = match &route {
        Ok(Route::Infer(name, _) | Route::Instances(Some(name))) => (Some(name.clone()), true),
        Ok(Route::Invocations | Route::Instances(None)) => (default_model(shared).map(Cow::Owned), true),
        _ => (None, false),
    };
    let result = match (route, predicts) {
        (Ok(route), true) => {
            let asked = Asked::new(shared, &head.headers, came);
            let result = match late(shared, came) {
                Some(refusal) => Err(refusal),
                None => asked.predict(&route, name.as_deref(), body).await,
            };
            let result = result.map_err(|refusal| refusal.without_schema(shared.settings.hide_schema));
            let counted = result.as_ref().map(|_| ());
            shared.scoring.count(name.as_deref().unwrap_or(""), came.elapsed(), counted);
            result
        }
        (Ok(route), false) => tell(shared, route, &head.headers, body, came).await,
        (Err(refusal), _) => Err(refusal),
    };
    result.unwrap_or_else(|refusal| reply::refused(&refusal, voice(path)))
}

/// Why a request is refused that has waited too long for its turn. It is told so before its body is looked at: where
/// the cores are that busy, the time is better spent on those that can be answered soon.
fn late(shared: &Shared, came: Instant) -> Option<Refusal> {
    let waited = came.elapsed();
    (waited > shared.scoring.engine().settings().wait_max).then_some(Refusal::Overloaded { retry_after: waited })
}

/// The paths that the settings add.
fn own_path(shared: &Shared, path: &str) -> Option<Route<'static>> {
    let is = |own: &Option<String>| own.as_deref() == Some(path);
    if is(&shared.settings.predict_path) {
        return Some(Route::Instances(None));
    }
    is(&shared.settings.health_path).then_some(Route::Ping)
}

/// Who answers when nobody is named.
pub(crate) fn default_model(shared: &Shared) -> Option<String> {
    named_or_only(&shared.scoring, shared.settings.default_model.as_ref())
}

/// A model that was named, or the only one there is.
pub(crate) fn named_or_only(scoring: &Scoring, name: Option<&String>) -> Option<String> {
    name.cloned().or_else(|| match scoring.models().known().as_slice() {
        [Known { name, .. }] => Some(name.clone()),
        _ => None,
    })
}

impl<'a> Asked<'a> {
    fn new(shared: &'a Shared, headers: &'a HeaderMap, start: Instant) -> Asked<'a> {
        let said = TIMEOUTS.iter().find_map(|name| headers.get(name)?.to_str().ok()?.trim().parse().ok());
        let limit = said.map_or(shared.settings.timeout, Duration::from_millis).min(shared.settings.timeout_max);
        let id = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).map(Cow::Borrowed);
        let made_up = || shared.scoring.captures().then(|| Cow::Owned(uuid::Uuid::now_v7().to_string()));
        Asked { shared, headers, start, deadline: Deadline::after(start, limit), id: id.or_else(made_up) }
    }

    async fn predict(&self, route: &Route<'_>, name: Option<&str>, body: Incoming) -> Result<Reply, Refusal> {
        let none = || Refusal::NotFound("no model is served here by default; name one in the path".to_owned());
        let name = name.ok_or_else(none)?;
        let body = self.deadline.bound(read(self.shared, self.headers, body)).await??;
        let served = Which::Served;
        let which = if let Route::Infer(_, which) = route { which } else { &served };
        let key = self.headers.get(KEY).map_or(&**body.bytes(), HeaderValue::as_bytes);
        let routed = self.shared.scoring.route(name, which, key, self.deadline).await?;
        let mut reply = match route {
            Route::Infer(..) => self.infer(name, routed, &body).await?,
            Route::Invocations => self.invocations(routed, &body).await?,
            _ => {
                let text = text(body.bytes())?;
                let input = working(text.len(), || tables::parse(text, routed.signature()))?;
                let answer = self.score(routed, input, None, self.deadline).await?;
                self.written(reply::JSON, tables::write(&answer.predictions), answer.lane.version())
            }
        };
        if let Some(id) = self.id.as_deref().and_then(|id| HeaderValue::from_str(id).ok()) {
            reply.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(reply)
    }

    /// Open Inference V2.
    async fn infer(&self, name: &str, routed: crate::scoring::Routed, body: &Held<'_>) -> Result<Reply, Refusal> {
        let asked = infer::Asked {
            name,
            id: self.id.as_deref(),
            json_bytes: json_bytes(self.headers)?,
            start: self.start,
            deadline: self.deadline,
        };
        let Inferred { written, version } = infer::infer(&self.shared.scoring, routed, asked, body.bytes()).await?;
        let content_type = if written.json_bytes.is_some() { reply::BINARY } else { reply::JSON };
        let mut reply = self.written(content_type, written.body, version);
        if let Some(json) = written.json_bytes {
            reply.headers_mut().insert(reply::INFERENCE_HEADER, HeaderValue::from(json));
        }
        Ok(reply)
    }

    /// MLflow and SageMaker.
    async fn invocations(&self, routed: crate::scoring::Routed, body: &Held<'_>) -> Result<Reply, Refusal> {
        let media = Media::of(self.headers)?;
        let text = text(body.bytes())?;
        let input = working(text.len(), || match media {
            Media::Json => tables::parse(text, routed.signature()),
            Media::Csv => csv::parse(text, routed.signature()),
        })?;
        let answer = self.score(routed, input, None, self.deadline).await?;
        let accepted = self.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        Ok(match accepted.split(';').next().unwrap_or("").trim() {
            "text/csv" => self.written(reply::CSV, csv::write(&answer.predictions), answer.lane.version()),
            _ => self.written(reply::JSON, tables::write(&answer.predictions), answer.lane.version()),
        })
    }

    async fn score(
        &self,
        routed: crate::scoring::Routed,
        input: Input<'_>,
        id: Option<&str>,
        deadline: Deadline,
    ) -> Result<Answer, Refusal> {
        let id = id.or(self.id.as_deref());
        self.shared.scoring.score(routed, input, id, deadline).await
    }

    fn written(&self, content_type: &'static str, body: Vec<u8>, version: u64) -> Reply {
        let (body, encoding) = reply::compressed(self.headers, body);
        let mut reply = reply::with(content_type, body);
        let headers = reply.headers_mut();
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        headers.insert(MODEL_VERSION, HeaderValue::from(version));
        reply
    }
}

/// What the body of `/invocations` is.
#[derive(Clone, Copy)]
enum Media {
    Json,
    Csv,
}

impl Media {
    fn of(headers: &HeaderMap) -> Result<Media, Refusal> {
        let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let mut parts = text.split(';').map(str::trim);
        let media = match parts.next() {
            Some("application/json") => Media::Json,
            Some("text/csv") => Media::Csv,
            _ => {
                let text = "This predictor only supports the following content types: `text/csv`, `application/json`.";
                return Err(Refusal::UnsupportedMedia(format!("{text} Got `{}`.", text_of(headers))));
            }
        };
        for parameter in parts.filter(|part| !part.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !name.eq_ignore_ascii_case("charset") {
                return Err(Refusal::UnsupportedMedia(format!(
                    "The content type parameter `{name}` is not supported."
                )));
            }
            if !value.trim_matches('"').eq_ignore_ascii_case("utf-8") {
                return Err(Refusal::UnsupportedMedia(format!("The charset `{value}` is not supported; use utf-8.")));
            }
        }
        Ok(media)
    }
}

fn text_of(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Bytes of JSON before the binary tensors, if the header says so.
fn json_bytes(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(value) = headers.get(reply::INFERENCE_HEADER) else { return Ok(None) };
    let bytes = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    let wrong = || Refusal::BadRequest("`Inference-Header-Content-Length` must be a number".to_owned());
    bytes.map(Some).ok_or_else(wrong)
}

/// Everything but predictions.
async fn tell(
    shared: &Shared,
    route: Route<'_>,
    headers: &HeaderMap,
    body: Incoming,
    start: Instant,
) -> Result<Reply, Refusal> {
    let models = shared.scoring.models();
    let deadline = Deadline::after(start, shared.settings.timeout);
    let ready = !shared.draining.load(Ordering::Relaxed);
    // A body that is of no interest is read all the same, so that the connection can go on.
    let held = deadline.bound(read(shared, headers, body)).await??;
    let find = async |name: &str, which: &Which| {
        let routed = shared.scoring.route(name, which, b"", deadline).await?;
        Ok::<_, Refusal>(std::sync::Arc::clone(routed.lane()))
    };
    Ok(match route {
        Route::ServerMetadata => reply::json(&v2::metadata::server()),
        Route::ServerLive => reply::json(&json!({ "live": true })),
        Route::ServerReady => {
            let mut reply = reply::json(&json!({ "ready": ready, "live": true }));
            *reply.status_mut() = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            reply
        }
        Route::Ping => {
            if !ready {
                return Err(Refusal::NotReady("the server is shutting down".to_owned()));
            }
            let name = default_model(shared);
            if name.is_none() && !models.known().is_empty() {
                return Ok(reply::with(reply::TEXT, "\n"));
            }
            let none = || Refusal::NotFound("there is no model".to_owned());
            find(&name.ok_or_else(none)?, &Which::Served).await?;
            reply::with(reply::TEXT, "\n")
        }
        Route::Version => reply::with(reply::TEXT, env!("CARGO_PKG_VERSION")),
        Route::Models | Route::V1Models => {
            let names: Vec<String> = models.known().into_iter().map(|known| known.name).collect();
            reply::json(&json!({ "models": names }))
        }
        Route::ModelMetadata(name, which) => {
            let lane = find(&name, &which).await?;
            let versions = models.find(&name).map_or_else(|| vec![lane.version()], |known| known.versions);
            reply::json(&v2::metadata::model(&name, &versions, signature(&lane)))
        }
        Route::ModelReady(name, which) => {
            find(&name, &which).await?;
            if !ready {
                return Err(Refusal::NotReady("the server is shutting down".to_owned()));
            }
            reply::json(&json!({ "name": name, "ready": true }))
        }
        Route::V1Model(name) => {
            find(&name, &Which::Served).await?;
            reply::json(&json!({ "name": name, "ready": ready }))
        }
        Route::ModelConfig(name, which) => {
            let lane = find(&name, &which).await?;
            let rows = shared.scoring.engine().settings().batch_rows_max;
            reply::json(&v2::metadata::config(&name, lane.version(), signature(&lane), rows))
        }
        Route::ModelStats(of) => {
            let lanes = match of {
                Some((name, which)) => vec![find(&name, &which).await?],
                None => models.lanes(),
            };
            let counts: Vec<_> =
                lanes.iter().map(|lane| (lane.name().to_string(), lane.version(), lane.counts())).collect();
            reply::json(&v2::metadata::stats(&counts))
        }
        Route::RepositoryIndex => index(shared, held.bytes())?,
        Route::RepositoryLoad(name) => {
            find(&name, &Which::Served).await?;
            reply::empty()
        }
        Route::RepositoryUnload(name) => {
            if models.find(&name).is_none() {
                return Err(Refusal::NotFound(format!("there is no model `{name}`")));
            }
            models.unload(&name);
            reply::empty()
        }
        Route::OpenApi => reply::json(&openapi::document()),
        Route::Metrics => reply::with("text/plain; version=0.0.4; charset=utf-8", shared.scoring.metrics_text()),
        // Predictions have their own way.
        Route::Infer(..) | Route::Invocations | Route::Instances(_) => {
            return Err(Refusal::NotImplemented("this path is for predictions".to_owned()));
        }
    })
}

fn signature(lane: &crate::engine::Lane) -> &Signature {
    lane.predictor().signature()
}

/// All versions, or with `{"ready":true}` those in memory.
fn index(shared: &Shared, body: &Bytes) -> Result<Reply, Refusal> {
    let ready_only = if body.is_empty() { false } else { is_ready_asked(body)? };
    let models = shared.scoring.models();
    let mut all = Vec::new();
    for known in models.known() {
        let name: std::sync::Arc<str> = known.name.as_str().into();
        for version in &known.versions {
            let held = models.holds(&name, *version);
            if held || !ready_only {
                let (state, reason) =
                    if held { ("READY", "") } else { ("UNAVAILABLE", "loads with the first request") };
                all.push(json!({
                    "name": known.name, "version": version.to_string(), "state": state, "reason": reason,
                }));
            }
        }
    }
    Ok(reply::json(&json!(all)))
}

fn is_ready_asked(body: &[u8]) -> Result<bool, Refusal> {
    let asked: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::BadRequest(format!("failed to read the body: {error}")))?;
    match asked.as_object().map(|asked| asked.get("ready")) {
        Some(None) => Ok(false),
        Some(Some(Value::Bool(ready))) => Ok(*ready),
        _ => Err(Refusal::BadRequest("the body must be an object, and `ready` in it a boolean".to_owned())),
    }
}
