//! Amounts of money.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

/// Billionths in a unit of the currency.
const NANOS: f64 = 1e9;

/// An amount in whole billionths of the currency.
///
/// Sums of integers are the same in whatever order they are made, so that a day's sum is the sum of its runs. A
/// microsecond of a slot at 0.03 an hour is 0.008 billionths: use is summed up before it is priced, and rounded once.
/// The largest is 18 thousand million; sums stay there rather than start anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(pub u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// An amount in units of the currency; nothing for what is negative or no number.
    pub fn from_units(units: f64) -> Option<Amount> {
        (units.is_finite() && units >= 0.0).then(|| Amount((units * NANOS).round() as u64))
    }

    /// In units of the currency, for people and for programs that don't add up.
    pub fn units(self) -> f64 {
        self.0 as f64 / NANOS
    }

    /// What share of `whole` it is; of nothing, anything is infinitely much.
    pub fn share_of(self, whole: Amount) -> f64 {
        match (self.0, whole.0) {
            (0, 0) => 0.0,
            (_, 0) => f64::INFINITY,
            (part, whole) => part as f64 / whole as f64,
        }
    }
}

impl Add for Amount {
    type Output = Amount;

    fn add(self, other: Amount) -> Amount {
        Amount(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Add::add)
    }
}
