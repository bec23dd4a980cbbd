//! The audit: who changed or was denied what, and when. A log of the state, in the order in which it happened.
//!
//! An entry is written before the request is answered. Denials that repeat are counted, and written when their minute
//! is over: whoever hammers on a door fills no store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gristmill_backends::state::{State, StateError};
use gristmill_protocol::api::AuditItem;
use gristmill_protocol::wire;

const LOG: &str = "audit";
/// How often a writer that lost a race tries anew; each race has a winner.
const RACES_MAX: usize = 1_000;
/// Denials that are alike are counted together for this long.
const COUNTED: Duration = Duration::from_secs(60);
/// Kinds of denials that are counted at a time; with more, all are written out and counting begins anew.
const KINDS_MAX: usize = 1_000;

/// Who was denied what: name, method and route, status.
type Kind = (String, String, u16);

/// Writes and reads the audit.
pub(crate) struct Audit {
    state: Arc<dyn State>,
    /// Where the next entry is expected to go.
    next: Mutex<u64>,
    /// Writers of one process take turns, so that they don't race each other for a place.
    turn: tokio::sync::Mutex<()>,
    /// Denials of this minute that aren't written, by kind: since when, and how many.
    denials: Mutex<HashMap<Kind, (Instant, u64)>>,
}

impl Audit {
    pub(crate) fn new(state: Arc<dyn State>) -> Audit {
        Audit { state, next: Mutex::new(1), turn: tokio::sync::Mutex::default(), denials: Mutex::default() }
    }

    /// Writes down what was done.
    pub(crate) async fn done(&self, by: &str, what: &str, status: u16) -> Result<(), StateError> {
        self.write(by, what, status, 1).await
    }

    /// Writes down what was denied, or counts it where its like was written in this minute.
    pub(crate) async fn denied(&self, by: &str, what: &str, status: u16) -> Result<(), StateError> {
        let is_new = {
            let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
            match denials.get_mut(&(by.to_owned(), what.to_owned(), status)) {
                Some((_, count)) => {
                    *count += 1;
                    false
                }
                None => {
                    denials.insert((by.to_owned(), what.to_owned(), status), (Instant::now(), 0));
                    true
                }
            }
        };
        if is_new {
            self.write(by, what, status, 1).await?;
        }
        self.write_counted(false).await
    }

    /// Writes down what was counted, where its minute is over; all of it when the server ends.
    pub(crate) async fn write_counted(&self, all: bool) -> Result<(), StateError> {
        let over: Vec<(Kind, u64)> = {
            let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
            let all = all || denials.len() > KINDS_MAX;
            let over = denials.extract_if(|_, (since, _)| all || since.elapsed() >= COUNTED);
            over.map(|(kind, (_, count))| (kind, count)).filter(|(_, count)| *count > 0).collect()
        };
        for ((by, what, status), count) in over {
            self.write(&by, &what, status, count).await?;
        }
        Ok(())
    }

    async fn write(&self, by: &str, what: &str, status: u16, count: u64) -> Result<(), StateError> {
        let at_ms = self.state.clock().await?.now.0;
        let item = AuditItem { at_ms, by: by.to_owned(), what: what.to_owned(), status, count };
        let body = wire::encode(&item);
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).expect("the system's source of randomness answers");
        let token = u64::from_le_bytes(bits);
        let _turn = self.turn.lock().await;
        let mut position = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..RACES_MAX {
            match self.state.log_append(LOG, position, token, body.clone()).await {
                Ok(()) => {
                    let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                    *next = (*next).max(position + 1);
                    return Ok(());
                }
                Err(StateError::Conflict { found, .. }) => position = found + 1,
                Err(error) => return Err(error),
            }
        }
        Err(StateError::TooMany { what: "too many write to the audit at once".to_owned(), limit: RACES_MAX })
    }

    /// Entries before a place, the latest first, and the place to go on from.
    pub(crate) async fn read(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditItem>, Option<u64>), StateError> {
        self.write_counted(false).await?;
        let before = match before {
            Some(before) => before,
            None => self.last().await? + 1,
        };
        let after = before.saturating_sub(1 + limit as u64);
        let count = usize::try_from(before.saturating_sub(1) - after).unwrap_or(limit);
        if count == 0 {
            return Ok((Vec::new(), None));
        }
        let entries = self.state.log_read(LOG, after, count).await?;
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries.iter().rev() {
            let damaged =
                |error: wire::WireError| StateError::Damaged { verb: "read the audit", detail: error.to_string() };
            items.push(wire::decode("an entry of the audit", &entry.body).map_err(damaged)?);
        }
        Ok((items, (after > 0).then_some(after + 1)))
    }

    /// The place of the last entry: it is looked for by doubling, then by halving.
    async fn last(&self) -> Result<u64, StateError> {
        let is_there =
            async |position: u64| Ok::<_, StateError>(!self.state.log_read(LOG, position - 1, 1).await?.is_empty());
        let mut low = self.next.lock().unwrap_or_else(PoisonError::into_inner).saturating_sub(1);
        let mut high = low + 1;
        while is_there(high).await? {
            low = high;
            high *= 2;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match is_there(middle).await? {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }
}
