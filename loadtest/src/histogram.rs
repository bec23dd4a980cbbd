//! How values spread, in a few kilobytes however many there are: buckets that are narrow where values are small.
//!
//! Values are exact below [`EXACT`]; above, each doubling has [`EXACT`] / 2 buckets, so that a value is told to a part
//! in a thousand. The same layout as Tene's HDR histogram, without its file format.

/// Values below this have a bucket each.
const EXACT: u64 = 2_048;
/// Buckets of each doubling above.
const HALF: usize = EXACT as usize / 2;

/// Counts of values, mostly microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max: u64,
    min: Option<u64>,
}

impl Histogram {
    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        let bucket = bucket_of(value);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(value);
        self.min = Some(self.min.map_or(value, |min| min.min(value)));
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
        self.min = self.min.into_iter().chain(other.min).min();
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that so many of a hundred values don't exceed, up to a part in a thousand; zero for none.
    pub fn percentile(&self, percentile: f64) -> u64 {
        if percentile <= 0.0 {
            return self.min.unwrap_or(0);
        }
        // A little less, so that 99 of 100 values aren't taken for 99.00000000000001.
        let wanted = ((percentile / 100.0 * self.count as f64 - 1e-6).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return last_of(bucket).min(self.max);
            }
        }
        self.max
    }

    /// A percentile of microseconds in milliseconds; not a number for none.
    pub fn ms(&self, percentile: f64) -> f64 {
        if self.count == 0 { f64::NAN } else { self.percentile(percentile) as f64 / 1e3 }
    }
}

impl FromIterator<u64> for Histogram {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }
}

fn bucket_of(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    // How often it must be halved until it fits; the upper half of the exact range is used again for each.
    let halvings = (u64::BITS - value.leading_zeros() - EXACT.ilog2()) as usize;
    EXACT as usize + (halvings - 1) * HALF + ((value >> halvings) as usize - HALF)
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(EXACT as usize) else { return bucket as u64 };
    let (halvings, place) = (above / HALF + 1, (above % HALF + HALF) as u64);
    (place << halvings).saturating_add((1 << halvings) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket_and_is_told_to_a_part_in_a_thousand() {
        for value in (0..63).flat_map(|shift| [1u64 << shift, (1 << shift) + 1, (1u64 << shift) * 3 / 2]) {
            let last = last_of(bucket_of(value));
            assert!(last >= value && (last - value) as f64 <= value as f64 / 1_000.0, "{value}: {last}");
            assert_eq!(bucket_of(last), bucket_of(value), "{value}");
            assert_eq!(bucket_of(last + 1), bucket_of(value) + 1, "{value}");
        }
        assert_eq!(last_of(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let histogram: Histogram = (1..=10_000).collect();
        for (percentile, value) in [(0.0, 1.0), (50.0, 5_000.0), (99.0, 9_900.0), (99.9, 9_990.0), (100.0, 10_000.0)] {
            let found = histogram.percentile(percentile) as f64;
            assert!((found - value).abs() <= value / 1_000.0, "{percentile}: {found}");
        }
        assert_eq!((histogram.count(), histogram.percentile(100.0)), (10_000, 10_000));
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let mut sum: Histogram = (0..500).map(|value| value * 977).collect();
        sum.add(&(500..1_000).map(|value| value * 977).collect());
        assert_eq!(sum, (0..1_000).map(|value| value * 977).collect());
    }

    #[test]
    fn nothing_has_no_percentiles() {
        let nothing = Histogram::default();
        assert_eq!((nothing.percentile(99.0), nothing.ms(50.0).is_nan()), (0, true));
    }
}
