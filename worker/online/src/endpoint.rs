//! An endpoint: the name that clients ask, and the models behind it. The champion answers, a canary answers a sticky
//! share, and shadows score along without being heard.
//!
//! ```text
//! request ──key──> champion ─┬─> answer
//!         └─share─> canary ──┘      └─copy, dropped when full─> shadows: comparison.rs
//!                     └─ observed.rs ─judge─> taken back
//! ```

pub mod canary;
pub mod comparison;
pub mod shadow;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gristmill_telemetry::metrics::{Counter, Metrics};

use self::canary::{CanaryLimits, Observed, Reason, judge};
use self::comparison::Comparison;
use self::shadow::{Answered, Shadow};
use crate::capture::Captures;
use crate::models::{Models, Which};

/// Requests of the canary in one window; a verdict looks at the last one or two, so that a canary which turns bad late is
/// noticed as soon as one that was bad from the start.
const WINDOW_REQUESTS: u64 = 1_000;

/// A version of a model, by number or alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    pub name: String,
    pub which: Which,
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Served => f.write_str(&self.name),
            Which::Version(version) => write!(f, "{}@{version}", self.name),
            Which::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

/// What an endpoint serves.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    pub name: String,
    pub champion: ModelRef,
    pub canary: Option<CanarySettings>,
    pub shadows: Vec<ModelRef>,
    /// The part of a core that each shadow may use.
    pub shadow_core_share: f64,
}

/// A canary and when to take it back.
#[derive(Clone, Debug)]
pub struct CanarySettings {
    pub model: ModelRef,
    /// The part of keys that it answers, from 0 to 1.
    pub share: f64,
    pub limits: CanaryLimits,
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Champion,
    Canary,
}

/// An endpoint at work.
pub struct Endpoint {
    settings: EndpointSettings,
    shadows: Vec<Shadow>,
    trial: Option<Trial>,
}

/// A canary on trial.
struct Trial {
    watch: Arc<Watch>,
    /// The champion, on what the canary answers: where disagreement is seen.
    mirror: Shadow,
}

/// What was seen of both sides.
struct Watch {
    limits: CanaryLimits,
    over: AtomicBool,
    seen: Mutex<Seen>,
    rollbacks: Arc<Counter>,
}

#[derive(Default)]
struct Seen {
    /// The canary and the champion, in this window and the one before.
    now: [Observed; 2],
    before: [Observed; 2],
    taken_back: Option<Reason>,
}

/// What an endpoint has to say of itself.
#[derive(Clone, Debug)]
pub struct EndpointReport {
    /// Each shadow with what was seen of it.
    pub shadows: Vec<(ModelRef, Comparison)>,
    /// The canary and the champion, over the last windows.
    pub canary: Option<[Observed; 2]>,
    /// Why the canary was taken back.
    pub taken_back: Option<Reason>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.settings.name)
    }
}

impl Endpoint {
    /// Starts its shadows, inside a runtime. The error is the system's when it has no thread left.
    pub fn start(
        settings: EndpointSettings,
        models: &Arc<Models>,
        metrics: &Metrics,
        captures: Option<&Arc<Captures>>,
    ) -> std::io::Result<Endpoint> {
        let share = settings.shadow_core_share;
        let shadow = |model: &ModelRef| {
            Shadow::start(Arc::clone(models), model.clone(), share, captures.cloned(), Box::new(|_, _| {}))
        };
        let shadows = settings.shadows.iter().map(shadow).collect::<Result<_, _>>()?;
        let start = |canary: &CanarySettings| {
            let (over, seen) = Default::default();
            let rollbacks = metrics.canary_rollbacks.with(&[&settings.name]);
            let watch = Arc::new(Watch { limits: canary.limits, over, seen, rollbacks });
            let told = Arc::clone(&watch);
            let told = Box::new(move |rows, disagreed| told.see(|seen| seen.now[0].compare(rows, disagreed)));
            let mirror = Shadow::start(Arc::clone(models), settings.champion.clone(), share, None, told)?;
            Ok::<_, std::io::Error>(Trial { watch, mirror })
        };
        let trial = settings.canary.as_ref().map(start).transpose()?;
        Ok(Endpoint { settings, shadows, trial })
    }

    pub fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// Whether a canary answers anything at present.
    pub fn has_canary(&self) -> bool {
        self.trial.as_ref().is_some_and(|trial| !trial.watch.over.load(Ordering::Relaxed))
    }

    /// Who answers a request with this key: always the same one for a key, while the share only grows.
    pub fn side(&self, key: &[u8]) -> Side {
        match &self.settings.canary {
            Some(canary) if self.has_canary() && place(&self.settings.name, key) < canary.share => Side::Canary,
            _ => Side::Champion,
        }
    }

    pub fn model(&self, side: Side) -> &ModelRef {
        match (side, &self.settings.canary) {
            (Side::Canary, Some(canary)) => &canary.model,
            _ => &self.settings.champion,
        }
    }

    /// Whether anybody wants a copy of what a side answers: shadows are compared with the champion, the champion with
    /// its canary.
    pub fn has_listeners(&self, side: Side) -> bool {
        match side {
            Side::Champion => !self.shadows.is_empty(),
            Side::Canary => self.trial.is_some(),
        }
    }

    /// Copies an answered request to those who listen. Returns how many took it and how many had no time.
    pub fn copy(&self, side: Side, answered: impl Fn() -> Answered) -> (u64, u64) {
        let (taken, all) = match side {
            Side::Champion => {
                (self.shadows.iter().filter(|shadow| shadow.offer(answered())).count(), self.shadows.len())
            }
            Side::Canary => match &self.trial {
                Some(trial) => (usize::from(trial.mirror.offer(answered())), 1),
                None => (0, 0),
            },
        };
        (taken as u64, (all - taken) as u64)
    }

    /// Counts a request of a side, which may end the canary.
    pub fn observe(&self, side: Side, took: Duration, failed: bool) {
        if let Some(trial) = &self.trial {
            let at = usize::from(side == Side::Champion);
            trial.watch.see(|seen| seen.now[at].add(took, failed));
        }
    }

    /// Ends the canary because somebody else said so.
    pub fn take_back(&self, reason: &str) {
        if let Some(trial) = &self.trial {
            trial.watch.end(&mut trial.watch.lock(), Reason::Told(reason.to_owned()));
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> EndpointReport {
        let shadows = self.shadows.iter().map(|shadow| (shadow.model().clone(), shadow.seen())).collect();
        let seen = self.trial.as_ref().map(|trial| trial.watch.lock());
        let canary = seen.as_ref().map(|seen| [0, 1].map(|at| seen.now[at].with(&seen.before[at])));
        let taken_back = seen.as_ref().and_then(|seen| seen.taken_back.clone());
        EndpointReport { shadows, canary, taken_back }
    }
}

impl Watch {
    /// Notes something and judges.
    fn see(&self, note: impl FnOnce(&mut Seen)) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = self.lock();
        if seen.taken_back.is_some() {
            return;
        }
        note(&mut seen);
        let [canary, champion] = [0, 1].map(|at| seen.now[at].with(&seen.before[at]));
        if seen.now[0].requests >= WINDOW_REQUESTS {
            seen.before = std::mem::take(&mut seen.now);
        }
        if let Some(reason) = judge(&canary, &champion, &self.limits) {
            self.end(&mut seen, reason);
            self.rollbacks.add(1);
        }
    }

    fn end(&self, seen: &mut Seen, reason: Reason) {
        if seen.taken_back.is_none() {
            tracing::warn!(%reason, "canary taken back");
            seen.taken_back = Some(reason);
            self.over.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing is left half-done under the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a key stands between 0 and 1. Endpoints differ, so that not always the same clients meet the canaries.
fn place(endpoint: &str, key: &[u8]) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in endpoint.bytes().chain([0]).chain(key.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The hash alone leaves short keys that differ in their last byte close together.
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (hash ^ (hash >> 32)) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_keys_is_a_share_of_places_and_grows_without_moving_others() {
        let below = |share: f64| -> Vec<u32> {
            (0..10_000u32).filter(|key| place("e", key.to_string().as_bytes()) < share).collect()
        };
        let (few, many) = (below(0.05), below(0.2));
        assert!((400..600).contains(&few.len()), "{}", few.len());
        assert!((1_850..2_150).contains(&many.len()), "{}", many.len());
        assert!(few.iter().all(|key| many.contains(key)));
    }
}
