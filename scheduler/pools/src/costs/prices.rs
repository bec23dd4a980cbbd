//! The book of prices.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, WrongSetting, amount};

/// Microseconds of an hour.
const HOUR_US: u128 = 3_600_000_000;
/// Letters and signs of a currency: `EUR`, `credits`.
const CURRENCY_CHARS_MAX: usize = 16;
/// Slots of a worker: more than any machine has cores.
const SLOTS_MAX: u32 = 4_096;

/// What slots of pools cost: the table `[prices]`.
///
/// Use of a pool that it doesn't name has no price: it is counted as time, and told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PricesFile", into = "PricesFile")]
pub struct Prices {
    /// How the currency is written. Empty when nothing has a price.
    pub currency: String,
    pub pools: BTreeMap<String, Price>,
}

/// What a slot of a pool costs: a worker's price shared by its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    pub worker_hour: Amount,
    /// At least 1.
    pub slots: u32,
}

impl Price {
    /// What so many microseconds of a slot cost, rounded to the nearest billionth.
    pub fn of(self, slot_us: u64) -> Amount {
        let whole = HOUR_US * u128::from(self.slots.max(1));
        let nanos = (u128::from(self.worker_hour.0) * u128::from(slot_us) + whole / 2) / whole;
        Amount(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Prices {
    /// What so many microseconds of a slot of a pool cost; nothing when the pool has no price.
    pub fn cost(&self, pool: &str, slot_us: u64) -> Option<Amount> {
        self.pools.get(pool).map(|price| price.of(slot_us))
    }
}

/// As it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PricesFile {
    currency: Option<String>,
    #[serde(default)]
    pools: BTreeMap<String, PriceFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_hour: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot_hour: Option<f64>,
}

impl TryFrom<PricesFile> for Prices {
    type Error = WrongSetting;

    fn try_from(file: PricesFile) -> Result<Prices, WrongSetting> {
        let currency = file.currency.unwrap_or_default();
        if currency.is_empty() && !file.pools.is_empty() {
            return Err(WrongSetting::new("prices.currency", "is missing; write `currency = \"EUR\"`"));
        }
        if currency.chars().count() > CURRENCY_CHARS_MAX || currency.chars().any(char::is_control) {
            let problem = format!("has at most {CURRENCY_CHARS_MAX} characters that can be seen");
            return Err(WrongSetting::new("prices.currency", problem));
        }
        let price =
            |(pool, price): (String, PriceFile)| Ok((pool.clone(), price.read(&format!("prices.pools.{pool}"))?));
        Ok(Prices { currency, pools: file.pools.into_iter().map(price).collect::<Result<_, _>>()? })
    }
}

impl PriceFile {
    fn read(self, key: &str) -> Result<Price, WrongSetting> {
        match (self.worker_hour, self.slots, self.slot_hour) {
            (Some(worker_hour), Some(slots), None) => {
                let worker_hour = amount(&format!("{key}.worker_hour"), worker_hour)?;
                match u32::try_from(slots) {
                    Ok(slots) if (1..=SLOTS_MAX).contains(&slots) => Ok(Price { worker_hour, slots }),
                    _ => {
                        let problem = format!("is {slots}; a worker has from 1 to {SLOTS_MAX}");
                        Err(WrongSetting::new(format!("{key}.slots"), problem))
                    }
                }
            }
            (None, None, Some(slot_hour)) => {
                Ok(Price { worker_hour: amount(&format!("{key}.slot_hour"), slot_hour)?, slots: 1 })
            }
            (Some(_), None, None) => {
                let problem = "is missing: the price of a worker is shared by its slots; or give `slot_hour` alone";
                Err(WrongSetting::new(format!("{key}.slots"), problem))
            }
            _ => Err(WrongSetting::new(key, "has either `worker_hour` and `slots`, or `slot_hour` alone")),
        }
    }
}

impl From<Prices> for PricesFile {
    fn from(prices: Prices) -> PricesFile {
        let price = |(pool, price): (String, Price)| {
            let file = PriceFile {
                worker_hour: Some(price.worker_hour.units()),
                slots: Some(i64::from(price.slots)),
                slot_hour: None,
            };
            (pool, file)
        };
        let currency = (!prices.currency.is_empty()).then_some(prices.currency);
        PricesFile { currency, pools: prices.pools.into_iter().map(price).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOK: &str = "currency = \"EUR\"\n\
        pools.default = { worker_hour = 0.34, slots = 4 }\npools.local = { slot_hour = 0.05 }\n";

    #[test]
    fn a_slot_costs_its_share_of_the_worker() {
        let prices: Prices = toml::from_str(BOOK).expect("it is right");
        // A slot-hour: a quarter of 0.34.
        assert_eq!(prices.cost("default", 3_600_000_000), Some(Amount(85_000_000)));
        assert_eq!(prices.cost("local", 3_600_000_000), Some(Amount(50_000_000)));
        // 94.4 billionths a slot-millisecond, rounded once.
        assert_eq!(prices.cost("local", 1_000), Some(Amount(14)));
        assert_eq!(prices.cost("default", 0), Some(Amount::ZERO));
        assert_eq!(prices.cost("spot", 1), None, "it has no price");
        assert_eq!(prices.cost("default", u64::MAX).map(|amount| amount.units() as u64), Some(435_548_123));
        let again = serde_json::to_vec(&prices).expect("plain data");
        assert_eq!(serde_json::from_slice::<Prices>(&again).expect("it comes back"), prices);
        assert_eq!(toml::from_str::<Prices>("").expect("nothing has a price"), Prices::default());
    }

    #[test]
    fn a_wrong_price_is_told_by_its_key() {
        for (text, expected) in [
            ("pools.a = { slot_hour = 1 }", "`prices.currency` is missing"),
            ("currency = \"E\"\npools.a = { slot_hour = -1 }", "`prices.pools.a.slot_hour` is -1"),
            ("currency = \"E\"\npools.a = { slot_hour = nan }", "`prices.pools.a.slot_hour` is NaN"),
            ("currency = \"E\"\npools.a = { worker_hour = 1 }", "`prices.pools.a.slots` is missing"),
            ("currency = \"E\"\npools.a = { worker_hour = 1, slots = 0 }", "`prices.pools.a.slots` is 0"),
            ("currency = \"E\"\npools.a = { worker_hour = 1, slots = -2 }", "`prices.pools.a.slots` is -2"),
            ("currency = \"E\"\npools.a = { slot_hour = 1, slots = 2 }", "`prices.pools.a` has either"),
            ("currency = \"E\"\npools.a = {}", "`prices.pools.a` has either"),
            ("currency = \"E\"\npools.a = { price = 1 }", "unknown field `price`"),
            ("currency = \"a currency with a long name\"", "`prices.currency` has at most 16"),
        ] {
            let error = toml::from_str::<Prices>(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
