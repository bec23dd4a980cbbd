//! What is counted and measured, by names that Prometheus and OpenTelemetry both take.
//!
//! A family has a name, a sentence and labels; [`Family::with`] gives the series of some label values. Look a
//! series up once and keep it: recording is then an atomic addition. The text for Prometheus is made
//! from the same numbers when somebody asks; a collector gets them through the SDK's instruments.

mod names;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram as OtlpHistogram, Meter};

pub use self::names::Metrics;

/// Series of one family. Labels are outcomes, verbs and pools; more than this is an id that became a label, and
/// costs whoever stores it dearly. What comes later is counted under `other`.
const SERIES_MAX: usize = 256;
/// The value of all labels of the series that takes what is too much.
const OTHER: &str = "other";

/// Upper bounds of buckets for short calls, in seconds: from a lookup in memory to a call that ran out of time.
pub const CALL_SECONDS: &[f64] =
    &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Upper bounds for tasks, in seconds: from a bundle's small ones to a night of training.
pub const TASK_SECONDS: &[f64] =
    &[0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0];
/// Upper bounds for how many things were taken at a time.
pub const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 4_096.0];

/// A number that can be a series.
pub trait Series: Send + Sync + 'static {
    /// The type's name in Prometheus' text.
    const TYPE: &'static str;
    /// What all series of a family share.
    type Shape: Send + Sync;

    fn new(shape: &Self::Shape, labels: &[KeyValue]) -> Self;
    /// Adds the series' lines; `labels` is `a="b",c="d"`, or nothing.
    fn write(&self, out: &mut String, name: &str, labels: &str);
}

/// Only grows.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Series for Counter {
    const TYPE: &'static str = "counter";
    type Shape = ();

    fn new((): &(), _labels: &[KeyValue]) -> Counter {
        Counter(AtomicU64::new(0))
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        text::sample(out, name, labels, self.value());
    }
}

/// Goes up and down.
#[derive(Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    pub fn add(&self, change: f64) {
        add_f64(&self.0, change);
    }

    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

impl Series for Gauge {
    const TYPE: &'static str = "gauge";
    type Shape = ();

    fn new((): &(), _labels: &[KeyValue]) -> Gauge {
        Gauge(AtomicU64::new(0f64.to_bits()))
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        text::sample(out, name, labels, self.value());
    }
}

/// How many values fell under each bound.
pub struct Histogram {
    bounds: &'static [f64],
    /// One a bound, and one for what is above them all.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
    otlp: Option<(OtlpHistogram<f64>, Vec<KeyValue>)>,
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({:?})", self.counts)
    }
}

impl Histogram {
    pub fn record(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        add_f64(&self.sum, value);
        if let Some((histogram, labels)) = &self.otlp {
            histogram.record(value, labels);
        }
    }

    /// Records a time in seconds.
    pub fn record_time(&self, time: Duration) {
        self.record(time.as_secs_f64());
    }
}

/// What the histograms of a family share.
pub struct HistogramShape {
    bounds: &'static [f64],
    otlp: Option<OtlpHistogram<f64>>,
}

impl Series for Histogram {
    const TYPE: &'static str = "histogram";
    type Shape = HistogramShape;

    fn new(shape: &HistogramShape, labels: &[KeyValue]) -> Histogram {
        Histogram {
            bounds: shape.bounds,
            counts: (0..=shape.bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0f64.to_bits()),
            otlp: shape.otlp.clone().map(|otlp| (otlp, labels.to_vec())),
        }
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        // The total is the sum of what was read here, so that it never contradicts the buckets.
        let mut total = 0;
        let bounds = self.bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (count, bound) in self.counts.iter().zip(bounds) {
            total += count.load(Ordering::Relaxed);
            let comma = if labels.is_empty() { "" } else { "," };
            text::sample(out, &format!("{name}_bucket"), &format!("{labels}{comma}le=\"{bound}\""), total);
        }
        text::sample(out, &format!("{name}_sum"), labels, f64::from_bits(self.sum.load(Ordering::Relaxed)));
        text::sample(out, &format!("{name}_count"), labels, total);
    }
}

fn add_f64(number: &AtomicU64, change: f64) {
    let add = |bits| Some((f64::from_bits(bits) + change).to_bits());
    // It always has an answer, so it always ends well.
    let _ = number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

/// All series of one name.
pub struct Family<S: Series> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    shape: S::Shape,
    series: Mutex<BTreeMap<Vec<String>, Entry<S>>>,
}

struct Entry<S> {
    series: Arc<S>,
    labels: Vec<KeyValue>,
}

impl<S: Series> fmt::Debug for Family<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Family({})", self.name)
    }
}

impl<S: Series> Family<S> {
    fn new(name: &'static str, help: &'static str, labels: &'static [&'static str], shape: S::Shape) -> Arc<Family<S>> {
        let family = Arc::new(Family { name, help, labels, shape, series: Mutex::default() });
        if labels.is_empty() {
            // Said from the start: a counter that appears with its first event hides that event from rates.
            family.with(&[]);
        }
        family
    }

    /// The series with these label values, in the order of the family's labels; keep it where it is used often.
    pub fn with(&self, values: &[&str]) -> Arc<S> {
        debug_assert_eq!(values.len(), self.labels.len(), "the labels of `{}`", self.name);
        let value = |at: usize| values.get(at).map_or(String::new(), |value| (*value).to_owned());
        let mut key: Vec<String> = (0..self.labels.len()).map(value).collect();
        let mut series = self.lock();
        if series.len() >= SERIES_MAX && !series.contains_key(&key) {
            key.fill(OTHER.to_owned());
        }
        let entry = series.entry(key).or_insert_with_key(|key| {
            let labels = self.labels.iter().zip(key).map(|(name, value)| KeyValue::new(*name, value.clone()));
            let labels: Vec<KeyValue> = labels.collect();
            Entry { series: Arc::new(S::new(&self.shape, &labels)), labels }
        });
        Arc::clone(&entry.series)
    }

    fn write(&self, out: &mut String) {
        text::head(out, self.name, self.help, S::TYPE);
        for (values, entry) in &*self.lock() {
            let pairs = self.labels.iter().zip(values);
            let labels: Vec<String> =
                pairs.map(|(name, value)| format!("{name}=\"{}\"", text::escape(value))).collect();
            entry.series.write(out, self.name, &labels.join(","));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, Entry<S>>> {
        // Nothing is left half-done under the lock, so a panic elsewhere in it spoils nothing.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes families, known to the collector when there is one.
struct Maker {
    meter: Option<Meter>,
}

impl Maker {
    fn counter(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Arc<Family<Counter>> {
        let family = Family::<Counter>::new(name, help, labels, ());
        if let Some(meter) = &self.meter {
            let read = Arc::clone(&family);
            // What turns OTLP into Prometheus' names adds `_total` again.
            let builder = meter.u64_observable_counter(name.trim_end_matches("_total")).with_description(help);
            let _ = builder
                .with_callback(move |to| {
                    read.lock().values().for_each(|entry| to.observe(entry.series.value(), &entry.labels));
                })
                .build();
        }
        family
    }

    fn gauge(&self, name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Arc<Family<Gauge>> {
        let family = Family::<Gauge>::new(name, help, labels, ());
        if let Some(meter) = &self.meter {
            let read = Arc::clone(&family);
            let builder = meter.f64_observable_gauge(name).with_description(help);
            let _ = builder
                .with_callback(move |to| {
                    read.lock().values().for_each(|entry| to.observe(entry.series.value(), &entry.labels));
                })
                .build();
        }
        family
    }

    fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Arc<Family<Histogram>> {
        let otlp = self.meter.as_ref().map(|meter| {
            let builder = meter.f64_histogram(name).with_description(help).with_boundaries(bounds.to_vec());
            if name.ends_with("_seconds") { builder.with_unit("s").build() } else { builder.build() }
        });
        Family::new(name, help, labels, HistogramShape { bounds, otlp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_under_the_first_bound_that_is_not_below_them() {
        let maker = Maker { meter: None };
        let family = maker.histogram("x_seconds", "Times.", &["verb"], &[0.1, 1.0]);
        let histogram = family.with(&["get"]);
        [0.05, 0.1, 0.5, 7.0].into_iter().for_each(|value| histogram.record(value));
        let mut out = String::new();
        family.write(&mut out);
        let expected = "# HELP x_seconds Times.\n# TYPE x_seconds histogram\n\
                        x_seconds_bucket{verb=\"get\",le=\"0.1\"} 2\n\
                        x_seconds_bucket{verb=\"get\",le=\"1\"} 3\n\
                        x_seconds_bucket{verb=\"get\",le=\"+Inf\"} 4\n\
                        x_seconds_sum{verb=\"get\"} 7.65\n\
                        x_seconds_count{verb=\"get\"} 4\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn labels_that_grow_without_end_are_counted_together() {
        let family = Maker { meter: None }.counter("x_total", "Things.", &["id"]);
        for id in 0..1_000 {
            family.with(&[&id.to_string()]).add(1);
        }
        assert_eq!(family.lock().len(), SERIES_MAX + 1);
        assert_eq!(family.with(&[OTHER]).value(), 1_000 - SERIES_MAX as u64);
        assert_eq!(family.with(&["5"]).value(), 1);
    }
}
