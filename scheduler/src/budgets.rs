//! What runs cost, and what may be spent.
//!
//! ```text
//! cost.rs      what a run costs, from its journal and a book of prices
//! sums.rs      sums of costs, a document a day
//! counting.rs  adds runs to the sums as they end, each once
//! open.rs      what runs have cost that are still open
//! period.rs    when a budget's time begins and ends
//! standing.rs  how a budget stands, and what follows
//! told.rs      all of it in the shapes that the API answers and the command line prints
//! keeper.rs    the loop in the scheduler's process
//! ```
//!
//! Runs are counted on the day (UTC) on which they end, at the prices of that moment; what is asked of one run is told
//! at the prices of now. The sums are late by the second between two looks, and by as long as no scheduler ran:
//! [`Sums::counted_until`] says up to where they go. Where the store's clock is set back, runs that end until it has
//! caught up aren't counted.
//!
//! Of several keepers one works, which holds a lease; should two work at once, each step is a compare-and-set that one
//! of them loses.

mod cost;
mod counting;
mod keeper;
mod open;
mod period;
mod standing;
mod sums;
#[cfg(test)]
mod tests;
pub mod told;

use gristmill_backends::state::{State, StateError};
use gristmill_pools::costs::Prices;
use gristmill_protocol::limits::{BUDGETS_MAX, COST_DAYS_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use cost::{RunCost, StepCost};
pub use keeper::CostsKeeper;
pub use standing::BudgetDocument;
pub use sums::{Day, Row, Spent, Sums};

/// The prices that the keeper goes by.
const PRICES: &str = "costs/prices";
/// The sums of the day that isn't over, and up to where ends were counted.
const OPEN: &str = "costs/open";
/// Who keeps the sums.
const KEEPER: &str = "costs/keeper";
/// Sums of a day that is over; six digits count the days since 1970.
const DAYS: &str = "costs/day/";
/// How budgets stand.
const BUDGETS: &str = "budget/";
/// Milliseconds of a day.
pub const DAY_MS: u64 = 86_400_000;

/// The prices that schedulers go by; none when there are none.
pub async fn prices(state: &dyn State) -> Result<Prices, StateError> {
    Ok(read(state, PRICES).await?.map(|(_, prices)| prices).unwrap_or_default())
}

/// How budgets stand, by name.
pub async fn budgets(state: &dyn State) -> Result<Vec<BudgetDocument>, StateError> {
    let mut documents = Vec::new();
    // Those that the settings don't name any more are removed by the keeper, at its next look.
    for key in state.keys(BUDGETS, "", 2 * BUDGETS_MAX).await? {
        documents.extend(read(state, &key).await?.map(|(_, document)| document));
    }
    Ok(documents)
}

/// The sums of the days from one to another, both included and counted since 1970; at most [`COST_DAYS_MAX`], the last.
pub async fn sums(state: &dyn State, from: u64, to: u64) -> Result<Sums, StateError> {
    let from = from.max(to.saturating_sub(COST_DAYS_MAX));
    let mut days = Vec::new();
    // What is open is read first: a day that ends meanwhile stands in both, or it would stand in neither.
    let open = counting::open(state).await?.map(|(_, open)| open);
    let (first, last) = (format!("{DAYS}{from:06}"), format!("{DAYS}{to:06}"));
    // Older ones are removed as days end; a few that weren't do no harm.
    let keys = state.keys(DAYS, "", usize::try_from(2 * COST_DAYS_MAX).unwrap_or(usize::MAX)).await?;
    for key in keys.iter().filter(|key| (&first..=&last).contains(key)) {
        days.extend(read::<Day>(state, key).await?.map(|(_, day)| day));
    }
    let counted_until = open.as_ref().map(|open| open.place.0);
    if let Some(today) = open.map(|open| open.today).filter(|today| (from..=to).contains(&today.day)) {
        days.retain(|day| day.day != today.day);
        days.push(today);
    }
    Ok(Sums { days, counted_until })
}

/// A document and its version.
async fn read<T: DeserializeOwned>(state: &dyn State, key: &str) -> Result<Option<(u64, T)>, StateError> {
    let Some(found) = state.get(key).await? else { return Ok(None) };
    let damaged = |error: serde_json::Error| StateError::Damaged { verb: "read costs", detail: error.to_string() };
    Ok(Some((found.version, serde_json::from_slice(&found.body).map_err(damaged)?)))
}

/// Writes a document; says whether it was still as it was read.
async fn write<T: Serialize>(state: &dyn State, key: &str, version: u64, value: &T) -> Result<bool, StateError> {
    let body = serde_json::to_vec(value).expect("plain data");
    match state.put(key, version, body).await {
        Ok(_) => Ok(true),
        Err(StateError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
