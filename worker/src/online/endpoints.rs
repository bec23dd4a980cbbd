//! Endpoints as all servers share them: documents of the state that say what is wanted, and beside them what each
//! server has seen.
//!
//! Whoever sets an endpoint says all that it is to be; of two who do so at the same time one is told to look again. Servers follow the documents; a server that takes a canary back says so in the document, and the
//! others follow that.

use std::sync::Arc;
use std::time::Duration;

use gristmill_backends::state::{State, StateError};
use gristmill_online::Which;
use gristmill_online::endpoint::canary::CanaryLimits;
use gristmill_online::endpoint::comparison::Comparison;
use gristmill_online::endpoint::{CanarySettings, Endpoint, EndpointSettings, ModelRef};
use gristmill_protocol::Timestamp;
use serde::{Deserialize, Serialize};

const ENDPOINTS: &str = "endpoint/";
const SEEN: &str = "endpoint-seen/";
/// Endpoints that a server serves at the most: each shadow of one is a thread.
pub const ENDPOINTS_MAX: usize = 256;
/// Shadows of one endpoint.
pub const SHADOWS_MAX: usize = 8;
/// Changes that a document remembers.
const CHANGES_MAX: usize = 100;
/// Servers whose observations are read.
const SERVERS_MAX: usize = 1_000;
/// The part of a core that a shadow uses unless told otherwise.
const SHADOW_CORE_SHARE: f64 = 0.25;

/// What an endpoint is wanted to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// The name that clients ask for. A model of the same name is hidden behind it.
    pub name: String,
    /// `name`, `name@alias` or `name@3`.
    pub champion: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanarySpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<String>,
    /// The part of a core that each shadow may use, above 0 and up to 1.
    pub shadow_core_share: f64,
}

/// A canary that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CanarySpec {
    pub model: String,
    /// The part of keys that it answers, from 0 to 1.
    pub share: f64,
    /// The part of rows on which it may say something else than the champion.
    pub disagreement_max: f64,
    /// How many times the champion's p99 its own may be.
    pub latency_times: f64,
    /// How much more often than the champion it may fail, as a part of requests.
    pub failures_over: f64,
    /// Set when a server took it back: the champion answers all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<TakenBack>,
}

/// The end of a canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    pub at: Timestamp,
    pub reason: String,
}

/// An endpoint's document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointDocument {
    pub spec: EndpointSpec,
    /// The last hundred changes, oldest first.
    pub changes: Vec<EndpointChange>,
}

/// Who changed an endpoint, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointChange {
    pub at: Timestamp,
    pub by: String,
    pub why: String,
}

/// What one server has seen of an endpoint since its document is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSeen {
    /// Who saw it: a number that each server makes up.
    pub server: String,
    pub at: Timestamp,
    /// The canary and the champion, over the last thousand or two requests of the canary.
    pub canary: Option<[SideSeen; 2]>,
    /// Each shadow.
    pub shadows: Vec<(String, Comparison)>,
}

/// What was seen of one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SideSeen {
    pub requests: u64,
    pub failed: u64,
    /// Microseconds, rounded up to a power of two.
    pub p99_us: u64,
    /// Rows that both sides scored, and those on which they differ.
    pub compared: u64,
    pub disagreed: u64,
}

/// Why an endpoint can't be changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("{0}")]
    Bad(String),
    #[error("there is no endpoint `{0}`")]
    None(String),
    #[error("the document of endpoint `{name}` can't be read")]
    Damaged { name: String, source: serde_json::Error },
    #[error(transparent)]
    State(#[from] StateError),
}

impl EndpointSpec {
    /// An endpoint that serves its champion alone.
    pub fn new(name: &str, champion: &str) -> EndpointSpec {
        EndpointSpec {
            name: name.to_owned(),
            champion: champion.to_owned(),
            canary: None,
            shadows: Vec::new(),
            shadow_core_share: SHADOW_CORE_SHARE,
        }
    }

    /// What a server makes of it.
    pub fn settings(&self) -> EndpointSettings {
        let canary = self.canary.as_ref().filter(|canary| canary.taken_back.is_none());
        EndpointSettings {
            name: self.name.clone(),
            champion: model_ref(&self.champion),
            canary: canary.map(CanarySpec::settings),
            shadows: self.shadows.iter().map(|text| model_ref(text)).collect(),
            shadow_core_share: self.shadow_core_share,
        }
    }

    /// Whether a server that serves `self` has nothing to change for `other` but to take the canary back.
    pub fn is_same_but_taken_back(&self, other: &EndpointSpec) -> bool {
        let without = |spec: &EndpointSpec| {
            let canary = spec.canary.clone().map(|canary| CanarySpec { taken_back: None, ..canary });
            EndpointSpec { canary, ..spec.clone() }
        };
        without(self) == without(other) && self.canary.as_ref().is_some_and(|canary| canary.taken_back.is_none())
    }

    /// Refuses what couldn't be served, with the reason.
    fn check(&self) -> Result<(), EndpointError> {
        let bad = |text: String| Err(EndpointError::Bad(text));
        let named = |text: &str| !text.split('@').next().unwrap_or("").is_empty();
        if self.name.is_empty() || self.name.contains(['/', '@', ':']) || self.name.len() > 250 {
            return bad(format!(
                "`{}` can't be an endpoint's name: up to 250 bytes without `/`, `@` and `:`",
                self.name
            ));
        }
        let canary = self.canary.iter().map(|canary| &canary.model);
        for text in [&self.champion].into_iter().chain(&self.shadows).chain(canary) {
            if !named(text) {
                return bad(format!("`{text}` names no model; write `name`, `name@alias` or `name@3`"));
            }
        }
        if self.shadows.len() > SHADOWS_MAX {
            return bad(format!("{} shadows are too many; up to {SHADOWS_MAX} are run", self.shadows.len()));
        }
        let part = |what: &str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(EndpointError::Bad(format!("{what} is {value}, and is a part from 0 to 1"))),
        };
        part("the shadows' part of a core", self.shadow_core_share)?;
        if self.shadow_core_share <= 0.0 {
            return bad("the shadows' part of a core is 0: they would never run".to_owned());
        }
        if let Some(canary) = &self.canary {
            part("the canary's share", canary.share)?;
            part("the canary's limit of disagreement", canary.disagreement_max)?;
            part("the canary's limit of failures", canary.failures_over)?;
            if canary.latency_times.is_nan() || canary.latency_times < 1.0 {
                return bad(format!("the canary's limit of latency is {}, and is 1 or more", canary.latency_times));
            }
        }
        Ok(())
    }
}

impl CanarySpec {
    /// A canary with the usual limits.
    pub fn new(model: &str, share: f64) -> CanarySpec {
        let CanaryLimits { failures_over, latency_times, disagreement_max, .. } = CanaryLimits::default();
        let model = model.to_owned();
        CanarySpec { model, share, disagreement_max, latency_times, failures_over, taken_back: None }
    }

    fn settings(&self) -> CanarySettings {
        let limits = CanaryLimits {
            failures_over: self.failures_over,
            latency_times: self.latency_times,
            disagreement_max: self.disagreement_max,
            ..CanaryLimits::default()
        };
        CanarySettings { model: model_ref(&self.model), share: self.share, limits }
    }
}

fn model_ref(text: &str) -> ModelRef {
    match text.split_once('@') {
        Some((name, which)) => ModelRef { name: name.to_owned(), which: Which::named(which) },
        None => ModelRef { name: text.to_owned(), which: Which::Served },
    }
}

/// What a server says of an endpoint that it serves.
pub fn seen_by(server: &str, at: Timestamp, endpoint: &Endpoint) -> EndpointSeen {
    let report = endpoint.report();
    let side = |seen: gristmill_online::endpoint::canary::Observed| SideSeen {
        requests: seen.requests,
        failed: seen.failed,
        p99_us: u64::try_from(seen.p99().as_micros()).unwrap_or(u64::MAX),
        compared: seen.compared,
        disagreed: seen.disagreed,
    };
    EndpointSeen {
        server: server.to_owned(),
        at,
        canary: report.canary.map(|sides| sides.map(side)),
        shadows: report.shadows.into_iter().map(|(model, seen)| (model.to_string(), seen)).collect(),
    }
}

/// The endpoints in the state.
#[derive(Clone)]
pub struct Endpoints {
    state: Arc<dyn State>,
}

impl Endpoints {
    pub fn new(state: Arc<dyn State>) -> Endpoints {
        Endpoints { state }
    }

    /// The names of all endpoints, in order.
    pub async fn names(&self) -> Result<Vec<String>, EndpointError> {
        let keys = self.state.keys(ENDPOINTS, "", ENDPOINTS_MAX).await?;
        Ok(keys.iter().filter_map(|key| key.strip_prefix(ENDPOINTS).map(str::to_owned)).collect())
    }

    /// An endpoint's document and its version; nothing when there is none.
    pub async fn get(&self, name: &str) -> Result<Option<(u64, EndpointDocument)>, EndpointError> {
        let Some(found) = self.state.get(&format!("{ENDPOINTS}{name}")).await? else { return Ok(None) };
        let read = serde_json::from_slice(&found.body);
        let damaged = |source| EndpointError::Damaged { name: name.to_owned(), source };
        Ok(Some((found.version, read.map_err(damaged)?)))
    }

    /// Makes an endpoint what is wanted. What servers saw of it before says nothing of what it is now, and goes.
    pub async fn set(&self, spec: EndpointSpec, change: EndpointChange) -> Result<(), EndpointError> {
        spec.check()?;
        let found = self.get(&spec.name).await?;
        if found.is_none() && self.names().await?.len() >= ENDPOINTS_MAX {
            return Err(EndpointError::Bad(format!("there are {ENDPOINTS_MAX} endpoints already, which is the limit")));
        }
        let (version, mut changes) = found.map(|(version, known)| (version, known.changes)).unwrap_or_default();
        changes.push(change);
        changes.drain(..changes.len().saturating_sub(CHANGES_MAX));
        let key = format!("{ENDPOINTS}{}", spec.name);
        let name = spec.name.clone();
        self.state.put(&key, version, json(&EndpointDocument { spec, changes })).await?;
        self.forget_seen(&name).await
    }

    /// Removes an endpoint; a model of its name answers again.
    pub async fn remove(&self, name: &str) -> Result<(), EndpointError> {
        let (version, _) = self.get(name).await?.ok_or_else(|| EndpointError::None(name.to_owned()))?;
        self.state.delete(&format!("{ENDPOINTS}{name}"), version).await?;
        self.forget_seen(name).await
    }

    /// Takes the canary of a document back, unless the document has changed since `version`.
    pub async fn take_back(
        &self,
        (version, mut document): (u64, EndpointDocument),
        taken_back: TakenBack,
        by: &str,
    ) -> Result<(), EndpointError> {
        let Some(canary) = &mut document.spec.canary else { return Ok(()) };
        let change =
            EndpointChange { at: taken_back.at, by: by.to_owned(), why: format!("canary: {}", taken_back.reason) };
        canary.taken_back = Some(taken_back);
        document.changes.push(change);
        document.changes.drain(..document.changes.len().saturating_sub(CHANGES_MAX));
        self.state.put(&format!("{ENDPOINTS}{}", document.spec.name), version, json(&document)).await?;
        Ok(())
    }

    /// Notes what a server has seen. The last word of a server counts.
    pub async fn tell(&self, name: &str, seen: &EndpointSeen) -> Result<(), EndpointError> {
        let key = format!("{SEEN}{name}/{}", seen.server);
        let version = self.state.get(&key).await?.map_or(0, |found| found.version);
        self.state.put(&key, version, json(seen)).await?;
        Ok(())
    }

    /// What all servers have seen of an endpoint since it is what it is.
    pub async fn seen(&self, name: &str) -> Result<Vec<EndpointSeen>, EndpointError> {
        let mut all = Vec::new();
        for key in self.state.keys(&format!("{SEEN}{name}/"), "", SERVERS_MAX).await? {
            if let Some(found) = self.state.get(&key).await? {
                let damaged = |source| EndpointError::Damaged { name: name.to_owned(), source };
                all.push(serde_json::from_slice(&found.body).map_err(damaged)?);
            }
        }
        Ok(all)
    }

    async fn forget_seen(&self, name: &str) -> Result<(), EndpointError> {
        for key in self.state.keys(&format!("{SEEN}{name}/"), "", SERVERS_MAX).await? {
            if let Some(found) = self.state.get(&key).await? {
                match self.state.delete(&key, found.version).await {
                    // A server has said more in between; it is told of the change and begins anew.
                    Ok(()) | Err(StateError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers can be written")
}

/// How often a server says what it has seen.
pub const TELL_EVERY: Duration = Duration::from_secs(2);
