//! One measured value.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What a value beyond the range of numbers is kept as, as MLflow does.
const LARGEST: f64 = 1.797_693_134_862_315_7e308;

/// A value at a step and a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metric {
    pub key: String,
    pub value: f64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    pub step: i64,
    /// The logged model that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The dataset that it was measured on: name and digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<(String, String)>,
    /// The run that measured it, where it stands with a logged model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl Metric {
    /// A value as it is kept.
    pub fn kept(value: f64) -> f64 {
        if value.is_nan() { value } else { value.clamp(-LARGEST, LARGEST) }
    }

    /// Whether it is newer than another one of its name: by step, then time, then value.
    pub fn is_newer_than(&self, other: &Metric) -> bool {
        let order = (self.step, self.timestamp).cmp(&(other.step, other.timestamp));
        order.then(self.rank().total_cmp(&other.rank())) == Ordering::Greater
    }

    /// What isn't a number counts as 0, as in MLflow's tables.
    fn rank(&self) -> f64 {
        if self.value.is_nan() { 0.0 } else { self.value }
    }

    /// Its place in a history.
    pub fn place(&self) -> (i64, i64, u64, bool) {
        // The bits of a number, so that they sort as numbers do.
        let bits = self.rank().to_bits();
        let bits = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        (self.timestamp, self.step, bits, self.value.is_nan())
    }

    /// As MLflow's clients read it.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("key".to_owned(), json!(self.key));
        object.insert("value".to_owned(), number(self.value));
        object.insert("timestamp".to_owned(), json!(self.timestamp));
        object.insert("step".to_owned(), json!(self.step));
        if let Some((name, digest)) = &self.dataset {
            object.insert("dataset_name".to_owned(), json!(name));
            object.insert("dataset_digest".to_owned(), json!(digest));
        }
        for (name, id) in [("model_id", &self.model), ("run_id", &self.run)] {
            if let Some(id) = id {
                object.insert(name.to_owned(), json!(id));
            }
        }
        Value::Object(object)
    }
}

/// A number in JSON, which has no word for what isn't one.
pub(crate) fn number(value: f64) -> Value {
    if value.is_nan() { json!("NaN") } else { json!(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(value: f64, timestamp: i64, step: i64) -> Metric {
        Metric { key: "m".to_owned(), value, timestamp, step, model: None, dataset: None, run: None }
    }

    #[test]
    fn newer_is_by_step_then_time_then_value() {
        assert!(metric(0.0, 0, 2).is_newer_than(&metric(9.0, 9, 1)));
        assert!(metric(0.0, 2, 1).is_newer_than(&metric(9.0, 1, 1)));
        assert!(metric(2.0, 1, 1).is_newer_than(&metric(1.0, 1, 1)));
        assert!(!metric(1.0, 1, 1).is_newer_than(&metric(1.0, 1, 1)));
        assert!(metric(f64::NAN, 1, 1).is_newer_than(&metric(-1.0, 1, 1)));
    }

    #[test]
    fn places_sort_as_values_do() {
        let values = [-2.0, -1.0, 0.0, 0.5, 3.0];
        let places: Vec<_> = values.iter().map(|value| metric(*value, 1, 1).place()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn values_beyond_numbers() {
        assert_eq!(Metric::kept(f64::INFINITY), LARGEST);
        assert_eq!(number(Metric::kept(f64::NAN)), json!("NaN"));
    }
}
