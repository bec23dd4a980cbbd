//! The profile of a column of numbers, booleans, days or instants.

use arrow::array::{Array, ArrowPrimitiveType, BooleanArray, Float64Array, PrimitiveArray};
use gristmill_protocol::pipeline::steps::ColumnType;
use serde::{Deserialize, Serialize};

use super::counts::{EXACT_MAX, WordCounts};
use super::report::{self, ColumnProfile, QUANTILES, Quantile, Scalar};
use super::sketch::{Distinct, Ranks};
use crate::{dates, hash};

/// What is remembered of a column's numbers.
///
/// A number is kept as a word whose order as an unsigned integer is the number's own order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbers {
    form: Form,
    count: u64,
    not_finite: u64,
    min: u64,
    max: u64,
    moments: Moments,
    counts: WordCounts,
    /// There once the different values are too many to count.
    sketches: Option<Box<Sketches>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    Integer,
    Float,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sketches {
    distinct: Distinct,
    ranks: Ranks,
}

/// Mean and sum of squared deviations. Merged by the formula of Chan, Golub and LeVeque ("Updating formulae and a
/// pairwise algorithm for computing sample variances", 1979).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(values: impl Iterator<Item = f64> + Clone, count: usize) -> Moments {
        if count == 0 {
            return Moments::default();
        }
        let mean = values.clone().sum::<f64>() / count as f64;
        let squares = values.map(|value| (value - mean) * (value - mean)).sum();
        Moments { count: count as f64, mean, squares }
    }

    fn merge(&mut self, other: Moments) {
        if other.count == 0.0 {
            return;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        self.mean += delta * other.count / count;
        self.squares += other.squares + delta * delta * self.count * other.count / count;
        self.count = count;
    }
}

const SIGN: u64 = 1 << 63;

/// Numbers of a batch that are counted in an array when they lie this near to each other.
const NARROW: usize = 4_096;
/// Values from which on looking through that array doesn't show.
const NARROW_WORDS: usize = 4_096;

#[inline]
fn integer_word(value: i64) -> u64 {
    value as u64 ^ SIGN
}

#[inline]
fn float_word(value: f64) -> u64 {
    // Adding zero makes -0 and 0 one value.
    let bits = (value + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

impl Form {
    #[inline]
    fn number(self, word: u64) -> f64 {
        match self {
            Form::Integer => (word ^ SIGN) as i64 as f64,
            Form::Float => f64::from_bits(if word & SIGN == 0 { !word } else { word & !SIGN }),
        }
    }
}

impl Numbers {
    pub fn new(kind: ColumnType) -> Numbers {
        Numbers {
            form: if kind == ColumnType::Float { Form::Float } else { Form::Integer },
            count: 0,
            not_finite: 0,
            min: u64::MAX,
            max: 0,
            moments: Moments::default(),
            counts: WordCounts::default(),
            sketches: None,
        }
    }

    pub fn update_booleans(&mut self, array: &BooleanArray) {
        let (yes, no) = (array.true_count() as u64, array.false_count() as u64);
        for (value, count) in [(0, no), (1, yes)] {
            if count > 0 {
                let word = integer_word(value);
                self.counts.add(word, count);
                self.count += count;
                self.min = self.min.min(word);
                self.max = self.max.max(word);
                self.moments.merge(Moments { count: count as f64, mean: value as f64, squares: 0.0 });
            }
        }
    }

    pub fn update_integers<T: ArrowPrimitiveType>(&mut self, array: &PrimitiveArray<T>)
    where
        T::Native: Into<i64>,
    {
        let values: Vec<i64> = match array.null_count() {
            0 => array.values().iter().map(|value| (*value).into()).collect(),
            _ => array.iter().flatten().map(Into::into).collect(),
        };
        self.moments.merge(Moments::of(values.iter().map(|value| *value as f64), values.len()));
        let words: Vec<u64> = values.into_iter().map(integer_word).collect();
        self.add_words(&words);
    }

    pub fn update_floats(&mut self, array: &Float64Array) {
        let present = array.len() - array.null_count();
        let values: Vec<f64> = array.iter().flatten().filter(|value| value.is_finite()).collect();
        self.not_finite += (present - values.len()) as u64;
        self.moments.merge(Moments::of(values.iter().copied(), values.len()));
        let words: Vec<u64> = values.into_iter().map(float_word).collect();
        self.add_words(&words);
    }

    fn add_words(&mut self, words: &[u64]) {
        self.count += words.len() as u64;
        let (min, max) = words.iter().fold((u64::MAX, 0), |(min, max), &word| (min.min(word), max.max(word)));
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        if words.len() >= NARROW_WORDS && max - min < NARROW as u64 {
            // Hours, years and codes: a place for each is found without a hash.
            let mut counts = [0_u32; NARROW];
            words.iter().for_each(|word| counts[(word - min) as usize] += 1);
            for (word, count) in (min..).zip(counts).filter(|(_, count)| *count > 0) {
                self.add_word(word, u64::from(count));
            }
        } else {
            words.iter().for_each(|&word| self.add_word(word, 1));
        }
    }

    #[inline]
    fn add_word(&mut self, word: u64, count: u64) {
        self.counts.add(word, count);
        if let Some(sketches) = &mut self.sketches {
            sketches.distinct.add(hash::mix(word));
            sketches.ranks.add(self.form.number(word), count);
        }
        if self.counts.len() > EXACT_MAX {
            self.overflow();
        }
    }

    /// Makes room in the table of counts, after what it knows went into sketches.
    #[cold]
    fn overflow(&mut self) {
        self.sketch();
        self.counts.thin_out();
    }

    fn sketch(&mut self) -> &mut Sketches {
        let (counts, form) = (&self.counts, self.form);
        self.sketches.get_or_insert_with(|| {
            let mut sketches = Box::<Sketches>::default();
            for (word, count) in counts.sorted() {
                sketches.distinct.add(hash::mix(word));
                sketches.ranks.add(form.number(word), count);
            }
            sketches
        })
    }

    pub fn merge(&mut self, other: &Numbers) {
        self.count += other.count;
        self.not_finite += other.not_finite;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.moments.merge(other.moments);
        if let Some(theirs) = &other.sketches {
            let mine = self.sketch();
            mine.distinct.merge(&theirs.distinct);
            mine.ranks.merge(&theirs.ranks);
        }
        // What the other knows exactly must reach our sketches, if we have some.
        let known = other.sketches.is_some();
        for (word, count) in other.counts.sorted() {
            if let (Some(sketches), false) = (&mut self.sketches, known) {
                sketches.distinct.add(hash::mix(word));
                sketches.ranks.add(self.form.number(word), count);
            }
            self.counts.add(word, count);
        }
        if self.counts.len() > EXACT_MAX {
            self.overflow();
        }
    }

    pub fn profile(&self, kind: ColumnType) -> ColumnProfile {
        let mut profile = ColumnProfile { not_finite: self.not_finite, ..ColumnProfile::empty(kind) };
        if self.count == 0 {
            return profile;
        }
        let entries = self.counts.sorted();
        profile.approximate = self.sketches.is_some();
        profile.distinct = match &self.sketches {
            Some(sketches) => sketches.distinct.estimate().min(self.count),
            None => entries.len() as u64,
        };
        profile.min = Some(scalar(kind, self.min));
        profile.max = Some(scalar(kind, self.max));
        profile.top = report::top(&entries, |word| scalar(kind, *word));
        if matches!(kind, ColumnType::Boolean | ColumnType::Integer | ColumnType::Float) {
            profile.mean = Some(self.moments.mean);
        }
        if kind == ColumnType::Boolean {
            return profile;
        }
        if matches!(kind, ColumnType::Integer | ColumnType::Float) && self.moments.count > 1.0 {
            profile.std = Some((self.moments.squares / (self.moments.count - 1.0)).sqrt());
        }
        let mut sorted = match &self.sketches {
            Some(sketches) => sketches.ranks.sorted(),
            None => entries.iter().map(|(word, count)| (self.form.number(*word), *count)).collect(),
        };
        // The ends are known exactly; a sketch may have dropped them.
        if let [first, .., last] = sorted.as_mut_slice() {
            first.0 = self.form.number(self.min);
            last.0 = self.form.number(self.max);
        }
        let quantile = |share| Quantile { share, value: report::quantile(&sorted, self.count, share) };
        profile.quantiles = QUANTILES.map(quantile).to_vec();
        profile.histogram = report::histogram(&sorted, self.count, self.form == Form::Integer);
        profile
    }
}

fn scalar(kind: ColumnType, word: u64) -> Scalar {
    let integer = (word ^ SIGN) as i64;
    match kind {
        ColumnType::Boolean => Scalar::Boolean(integer == 1),
        ColumnType::Float => Scalar::Float(Form::Float.number(word)),
        ColumnType::Date => Scalar::Text(dates::format_date(integer as i32)),
        ColumnType::Timestamp => Scalar::Text(dates::format_timestamp(integer)),
        ColumnType::Integer | ColumnType::String => Scalar::Integer(integer),
    }
}
