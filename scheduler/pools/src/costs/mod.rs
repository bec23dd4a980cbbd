//! What use costs, by a book of prices.
//!
//! ```text
//! money.rs    amounts: whole billionths of the currency, so that sums are exact in any order
//! prices.rs   the book of prices: what a slot of a pool costs for how long
//! budget.rs   what may be spent by whom in which time
//! ```

mod budget;
mod money;
mod prices;

pub use budget::{AtLimit, Budget, Budgets, Period, Scope, WARN_SHARE};
pub use money::Amount;
pub use prices::{Price, Prices};

/// Why a book of prices or a budget can't be used; it names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct WrongSetting {
    /// The key as it stands in `gristmill.toml`: `prices.pools.default.slots`.
    pub key: String,
    /// What is wrong with it, and what to write.
    pub problem: String,
}

impl WrongSetting {
    fn new(key: impl Into<String>, problem: impl Into<String>) -> WrongSetting {
        WrongSetting { key: key.into(), problem: problem.into() }
    }
}

/// The largest number in these settings: more is a slip, and sums of smaller ones fit.
const NUMBER_MAX: f64 = 1e9;

/// An amount that stands under a key.
fn amount(key: &str, number: f64) -> Result<Amount, WrongSetting> {
    match Amount::from_units(number) {
        Some(amount) if number <= NUMBER_MAX => Ok(amount),
        _ => Err(WrongSetting::new(key, format!("is {number}; it is from 0 to {NUMBER_MAX:.0}"))),
    }
}
