//! The loop that keeps schedules. It runs in every scheduler process, and any number of them agree.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use gristmill_backends::artifacts::Artifacts;
use gristmill_backends::state::{State, StateError, StoreClock};
use gristmill_protocol::Timestamp;
use gristmill_protocol::limits::{CLOCK_STEP_MS, LEASE_MS};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use super::agenda::Agenda;
use super::fire::{Attendant, Attended};
use super::{CHANGES, KEYS_AT_A_TIME, SCHEDULES, ScheduleError};
use crate::calls::in_time;
use crate::changes::{Follower, News};

/// Between two looks: ticks are whole minutes, so nobody notices a second.
const LOOK: Duration = Duration::from_secs(1);
/// Schedules that are seen to at a time. Each waits for the store most of the time, which isn't to be flooded.
const AT_ONCE: usize = 32;
/// How long one schedule may take. Making up for a hundred ticks takes some seconds.
const ATTEND: Duration = Duration::from_secs(60);
/// Milliseconds before a schedule that failed is looked at again.
const AGAIN_MS: u64 = 5_000;

/// Keeps the schedules of a cluster: fires what is due.
pub struct SchedulesKeeper {
    state: Arc<dyn State>,
    artifacts: Arc<dyn Artifacts>,
    /// Which keeper this is.
    keeper: u64,
    follower: Follower,
    agenda: Agenda,
    /// By name, the version of a document in which another keeper is at a tick.
    waits: BTreeMap<String, u64>,
    steps: Steps,
}

impl SchedulesKeeper {
    /// A keeper that hasn't looked yet.
    pub fn new(state: Arc<dyn State>, artifacts: Arc<dyn Artifacts>) -> SchedulesKeeper {
        SchedulesKeeper {
            state,
            artifacts,
            keeper: RandomState::new().build_hasher().finish(),
            follower: Follower::new(CHANGES),
            agenda: Agenda::default(),
            waits: BTreeMap::new(),
            steps: Steps::default(),
        }
    }

    /// Keeps the schedules until it is dropped, which it may be at any time.
    pub async fn run(mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            looks.tick().await;
            match self.look().await {
                Ok(()) if std::mem::take(&mut is_away) => info!("schedules are kept again"),
                Ok(()) => {}
                Err(error) if !std::mem::replace(&mut is_away, true) => {
                    warn!(error = &error as &dyn std::error::Error, "schedules can't be looked at");
                }
                Err(_) => {}
            }
        }
    }

    /// Looks once, and does what is due.
    pub(super) async fn look(&mut self) -> Result<(), StateError> {
        let clock = in_time("read the clock", self.state.clock()).await?;
        let is_trusted = self.steps.look(clock, Instant::now());
        let news = in_time("follow the schedules", self.follower.news(&*self.state, clock.store)).await?;
        if let Err(error) = self.put_on_agenda(news).await {
            self.follower.forget();
            return Err(error);
        }
        if is_trusted {
            self.attend(clock.now).await;
        }
        Ok(())
    }

    /// Schedules that were changed are due at once: to be looked at shows when they tick.
    async fn put_on_agenda(&mut self, news: News) -> Result<(), StateError> {
        const AT_THE_START: Option<Timestamp> = Some(Timestamp(0));
        match news {
            News::Named(names) => names.iter().for_each(|name| self.agenda.set(name, AT_THE_START)),
            News::All => {
                let mut names = Vec::new();
                let mut after = String::new();
                loop {
                    let keys = self.state.keys(SCHEDULES, &after, KEYS_AT_A_TIME);
                    let mut keys = in_time("list the schedules", keys).await?;
                    names.extend(keys.iter().filter_map(|key| key.strip_prefix(SCHEDULES).map(str::to_owned)));
                    match keys.pop() {
                        Some(last) => after = last,
                        None => break,
                    }
                }
                self.agenda.clear();
                self.waits.retain(|name, _| names.binary_search(name).is_ok());
                names.iter().for_each(|name| self.agenda.set(name, AT_THE_START));
            }
        }
        Ok(())
    }

    /// Sees to all schedules whose time has come.
    async fn attend(&mut self, now: Timestamp) {
        let mut due = self.agenda.due(now);
        if due.is_empty() {
            return;
        }
        // Each keeper begins elsewhere, so that they share what is due at the same minute.
        let first = usize::try_from(self.keeper).unwrap_or(usize::MAX) % due.len();
        due.rotate_left(first);
        let attendant = Attendant { state: &*self.state, artifacts: &*self.artifacts, keeper: self.keeper, now };
        let waits = &self.waits;
        let attending = due.into_iter().map(|name| async move {
            let attended = attend_in_time(attendant, &name, waits.get(&name).copied()).await;
            (name, attended)
        });
        let attended: Vec<_> = stream::iter(attending).buffer_unordered(AT_ONCE).collect().await;
        for (name, attended) in attended {
            let Attended { next, waits } = attended.unwrap_or_else(|error| {
                let is_lasting = matches!(error, ScheduleError::Damaged { .. } | ScheduleError::Ticks(_));
                warn!(schedule = name, error = &error as &dyn std::error::Error, "a schedule can't be kept");
                // One that can't be read is looked at again with all the others, or when it was set anew.
                Attended { next: (!is_lasting).then(|| now.plus_ms(AGAIN_MS)), waits: None }
            });
            self.agenda.set(&name, next);
            match waits {
                Some(version) => self.waits.insert(name, version),
                None => self.waits.remove(&name),
            };
        }
    }
}

async fn attend_in_time(attendant: Attendant<'_>, name: &str, waited: Option<u64>) -> Result<Attended, ScheduleError> {
    let Some((namespace, schedule)) = name.split_once('/') else { return Ok(Attended { next: None, waits: None }) };
    match tokio::time::timeout(ATTEND, attendant.attend(namespace, schedule, waited)).await {
        Ok(attended) => attended,
        Err(elapsed) => {
            let verb = "keep a schedule";
            Err(ScheduleError::State(StateError::Unavailable { verb, source: Box::new(elapsed) }))
        }
    }
}

/// Whether the store's clock goes as ours does.
///
/// A clock that is set forward by mistake and back again within seconds would use up the ticks in between. So nothing
/// fires for the length of a lease after a step, as nothing expires then.
#[derive(Debug, Default)]
struct Steps {
    seen: Option<(Timestamp, Instant)>,
    doubt_until: Option<Instant>,
}

impl Steps {
    /// Takes a look at the store's clock into account; says whether ticks may be fired by it.
    fn look(&mut self, clock: StoreClock, at: Instant) -> bool {
        if let Some((before, then)) = self.seen.replace((clock.now, at)) {
            let expected = before + at.saturating_duration_since(then);
            if expected.0.abs_diff(clock.now.0) > CLOCK_STEP_MS {
                info!(
                    expected = expected.0,
                    found = clock.now.0,
                    "the store's clock was set; schedules wait for a moment"
                );
                self.doubt_until = Some(at + Duration::from_millis(LEASE_MS));
            }
        }
        self.doubt_until.is_none_or(|until| at >= until)
    }
}
