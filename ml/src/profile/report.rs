//! What a finished profile says.

use gristmill_protocol::pipeline::steps::ColumnType;
use serde::{Deserialize, Serialize};

/// The shares at which quantiles are given.
pub const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];

/// Most frequent values that are listed.
pub const TOP_VALUES: usize = 20;

/// Bins of a histogram, without the two outer ones.
const BINS: usize = 20;

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableProfile {
    pub rows: u64,
    pub columns: Vec<ColumnProfile>,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    pub name: String,
    pub kind: ColumnType,
    /// Rows without a value.
    pub nulls: u64,
    /// Rows whose number is infinite or not a number. No other field counts them in.
    pub not_finite: u64,
    /// Different values.
    pub distinct: u64,
    /// Whether `distinct`, `quantiles`, `top` and `histogram` are estimates: there were too many different values
    /// to count them all. `distinct` is then within some 2 %, ranks within some 0.2 %, and a count of `top` is
    /// short by a thousandth of the rows at most. Everything else is always exact.
    pub approximate: bool,
    /// Smallest value; of a text its first 256 bytes.
    pub min: Option<Scalar>,
    /// Largest value; of a text its first 256 bytes.
    pub max: Option<Scalar>,
    /// Mean of numbers; share of `true` of booleans.
    pub mean: Option<f64>,
    /// Sample standard deviation of numbers (divided by n - 1).
    pub std: Option<f64>,
    /// Quantiles of numbers, of days (since 1970) and of instants (microseconds since 1970); linear between
    /// neighbouring ranks.
    pub quantiles: Vec<Quantile>,
    /// The most frequent values, most frequent first. Empty when every value of many comes once.
    pub top: Vec<TopValue>,
    /// How numbers, days and instants are distributed.
    pub histogram: Option<Histogram>,
}

/// A single value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    /// Text, or a day or an instant in ISO 8601.
    Text(String),
}

/// A value below which a share of the rows lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    pub share: f64,
    pub value: f64,
}

/// A frequent value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopValue {
    pub value: Scalar,
    pub count: u64,
}

/// How values are distributed: `counts[i]` of them lie from `edges[i]` to below `edges[i + 1]`, in the last bin up
/// to and with its end. When a few values lie far out, the first and the last bin are wide and hold them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    pub edges: Vec<f64>,
    pub counts: Vec<u64>,
}

impl ColumnProfile {
    /// The profile of a column without values.
    pub(super) fn empty(kind: ColumnType) -> ColumnProfile {
        ColumnProfile {
            name: String::new(),
            kind,
            nulls: 0,
            not_finite: 0,
            distinct: 0,
            approximate: false,
            min: None,
            max: None,
            mean: None,
            std: None,
            quantiles: Vec::new(),
            top: Vec::new(),
            histogram: None,
        }
    }
}

/// The most frequent of the entries, most frequent first, equal ones in the order given.
pub(super) fn top<K: Clone>(entries: &[(K, u64)], scalar: impl Fn(&K) -> Scalar) -> Vec<TopValue> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(entries[*index].1));
    if order.len() > TOP_VALUES && entries[order[0]].1 == 1 {
        return Vec::new();
    }
    order.truncate(TOP_VALUES);
    order.iter().map(|index| TopValue { value: scalar(&entries[*index].0), count: entries[*index].1 }).collect()
}

/// The value at `share` of weighted values ordered by value: linear between ranks, as numpy does by default.
pub(super) fn quantile(sorted: &[(f64, u64)], total: u64, share: f64) -> f64 {
    let position = share * (total - 1) as f64;
    let rank = position.floor() as u64;
    let mut below = 0;
    for (index, (value, count)) in sorted.iter().enumerate() {
        below += count;
        if rank < below {
            let next = if rank + 1 < below { *value } else { sorted.get(index + 1).map_or(*value, |next| next.0) };
            return value + (next - value) * (position - rank as f64);
        }
    }
    sorted.last().map_or(f64::NAN, |last| last.0)
}

/// The histogram of weighted values ordered by value.
pub(super) fn histogram(sorted: &[(f64, u64)], total: u64, whole: bool) -> Option<Histogram> {
    let (min, max) = (sorted.first()?.0, sorted.last()?.0);
    let (low, high) = (quantile(sorted, total, 0.01), quantile(sorted, total, 0.99));
    // A few values far out would press all others into one bin.
    let far_out = high > low && max - min > 4.0 * (high - low);
    let (from, to) = if far_out { (low.floor_if(whole), high.ceil_if(whole)) } else { (min, max) };
    let mut edges: Vec<f64> = if whole {
        let width = ((to - from + 1.0) / BINS as f64).ceil().max(1.0);
        let bins = ((to - from + 1.0) / width).ceil() as usize;
        (0..=bins).map(|bin| from + width * bin as f64).collect()
    } else if to > from {
        (0..=BINS).map(|bin| if bin == BINS { to } else { from + (to - from) * bin as f64 / BINS as f64 }).collect()
    } else {
        vec![from, from]
    };
    if min < edges[0] {
        edges.insert(0, min);
    }
    if max > *edges.last().expect("there are edges") {
        edges.push(max);
    }
    let mut counts = vec![0; edges.len() - 1];
    for (value, count) in sorted {
        let bin = edges.partition_point(|edge| edge <= value).saturating_sub(1);
        counts[bin.min(edges.len() - 2)] += count;
    }
    Some(Histogram { edges, counts })
}

trait RoundIf {
    fn floor_if(self, whole: bool) -> Self;
    fn ceil_if(self, whole: bool) -> Self;
}

impl RoundIf for f64 {
    fn floor_if(self, whole: bool) -> f64 {
        if whole { self.floor() } else { self }
    }

    fn ceil_if(self, whole: bool) -> f64 {
        if whole { self.ceil() } else { self }
    }
}
