//! How values were spread.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets between a power of two and the next: a bucket is at most an eighth of its values wide.
const PER_DOUBLING: u32 = 8;

/// Counts of values by size, in buckets that grow with what they hold.
///
/// Two of them are added bucket by bucket, so that what many workers saw is what one had seen. A quantile is off by an
/// eighth at the most, and never too small. All values that there can be fill under 500 buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sketch {
    /// Values by bucket, those without any left out.
    buckets: BTreeMap<u16, u64>,
}

impl Sketch {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        *self.buckets.entry(bucket(value)).or_default() += 1;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Sketch) {
        for (bucket, count) in &other.buckets {
            let ours = self.buckets.entry(*bucket).or_default();
            *ours = ours.saturating_add(*count);
        }
    }

    /// Forgets every other value.
    pub fn halve(&mut self) {
        self.buckets.retain(|_, count| {
            *count /= 2;
            *count > 0
        });
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.buckets.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// A value that at most a share `1 - q` of the others exceeds; nothing when there are none.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank).then(|| largest(*bucket))
        })
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> u16 {
    if value < u64::from(PER_DOUBLING) {
        return value as u16;
    }
    let log = value.ilog2();
    // The three bits below the highest one.
    let within = (value >> (log - 3)) & 7;
    ((log - 2) * PER_DOUBLING) as u16 + within as u16
}

/// The largest value of a bucket.
fn largest(bucket: u16) -> u64 {
    let bucket = u32::from(bucket);
    if bucket < PER_DOUBLING {
        return u64::from(bucket);
    }
    let (log, within) = (bucket / PER_DOUBLING + 2, u64::from(bucket % PER_DOUBLING));
    let width = 1u64 << (log.min(63) - 3);
    ((8 + within) * width).saturating_add(width - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_values_and_is_never_wider_than_an_eighth() {
        let mut before = 0;
        for value in (0..2_000u64).chain((11..64).flat_map(|log| [(1 << log) - 1, 1 << log, (1 << log) + 1])) {
            let (at, top) = (bucket(value), largest(bucket(value)));
            assert!(at >= before || value < 2_049, "{value}");
            before = before.max(at);
            assert!(top >= value && top - value <= value / 8, "{value} is told as {top}");
        }
        assert_eq!(largest(bucket(u64::MAX)), u64::MAX);
        assert!(bucket(u64::MAX) < 500);
    }

    #[test]
    fn quantiles_of_parts_together_are_those_of_the_whole() {
        let (mut odd, mut even, mut all) = (Sketch::default(), Sketch::default(), Sketch::default());
        for value in 1..=1_000u64 {
            if value % 2 == 0 {
                even.add(value)
            } else {
                odd.add(value)
            }
            all.add(value);
        }
        odd.merge(&even);
        assert_eq!(odd, all);
        for (q, exact) in [(0.0, 1), (0.5, 500), (0.95, 950), (0.99, 990), (1.0, 1_000)] {
            let told = all.quantile(q).expect("there are values");
            assert!(told >= exact && told <= exact + exact / 8, "{q}: {told} for {exact}");
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
        let text = serde_json::to_string(&all).expect("plain data");
        assert_eq!(serde_json::from_str::<Sketch>(&text).expect("it comes back"), all);
    }
}
