//! The profile of a column of texts.

use arrow::array::StringArray;
use gristmill_protocol::pipeline::steps::ColumnType;
use serde::{Deserialize, Serialize};

use super::counts::{EXACT_MAX, TextCounts, WordCounts};
use super::report::{self, ColumnProfile, Scalar};
use super::sketch::Distinct;
use crate::hash;

/// Bytes of a text that a profile keeps: a table of counts then stays under 3 MiB a column.
const TEXT_BYTES: usize = 256;

/// Bytes of a text that fit into a word beside their number.
const PACKED_BYTES: usize = 7;

/// A short text as a word: its bytes, and at the end how many there are.
#[inline]
fn packed(text: &[u8]) -> Option<u64> {
    if text.len() > PACKED_BYTES {
        return None;
    }
    let mut bytes = [0; 8];
    bytes[..text.len()].copy_from_slice(text);
    bytes[PACKED_BYTES] = text.len() as u8;
    Some(u64::from_le_bytes(bytes))
}

/// What is remembered of a column's texts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Texts {
    count: u64,
    min: Option<String>,
    max: Option<String>,
    counts: TextCounts,
    /// There once the different texts are too many to count.
    distinct: Option<Distinct>,
}

impl Texts {
    pub fn update(&mut self, array: &StringArray) {
        // Codes and names are short: those of a batch are counted as words, and each becomes a text once.
        let mut short = WordCounts::default();
        for text in array.iter().flatten() {
            match packed(text.as_bytes()) {
                Some(word) => short.add(word, 1),
                None => self.take(text, 1),
            }
        }
        short.drain(|word, count| {
            let bytes = word.to_le_bytes();
            let text = std::str::from_utf8(&bytes[..usize::from(bytes[PACKED_BYTES])]);
            self.take(text.expect("it was a text"), count);
        });
    }

    /// Adds a text that comes so many times.
    fn take(&mut self, text: &str, count: u64) {
        self.count += count;
        if text.len() > TEXT_BYTES {
            // Long texts are told apart by their hash.
            let key = format!("{}…{:016x}", cut(text), hash::bytes(text.as_bytes(), 0));
            self.add(&key, count);
        } else {
            self.add(text, count);
        }
        let kept = cut(text);
        if self.min.as_deref().is_none_or(|min| kept < min) {
            self.min = Some(kept.to_owned());
        }
        if self.max.as_deref().is_none_or(|max| kept > max) {
            self.max = Some(kept.to_owned());
        }
    }

    fn add(&mut self, key: &str, count: u64) {
        self.counts.add(key, count);
        if let Some(distinct) = &mut self.distinct {
            distinct.add(hash::bytes(key.as_bytes(), 0));
        }
        if self.counts.len() > EXACT_MAX {
            self.sketch();
            self.counts.thin_out();
        }
    }

    fn sketch(&mut self) -> &mut Distinct {
        let counts = &self.counts;
        self.distinct.get_or_insert_with(|| {
            let mut distinct = Distinct::default();
            counts.sorted().iter().for_each(|(text, _)| distinct.add(hash::bytes(text.as_bytes(), 0)));
            distinct
        })
    }

    pub fn merge(&mut self, other: &Texts) {
        self.count += other.count;
        if let Some(theirs) = &other.distinct {
            self.sketch().merge(theirs);
        }
        for (text, count) in other.counts.sorted() {
            self.add(&text, count);
        }
        self.min = [self.min.take(), other.min.clone()].into_iter().flatten().min();
        self.max = self.max.take().max(other.max.clone());
    }

    pub fn profile(&self) -> ColumnProfile {
        let mut profile = ColumnProfile::empty(ColumnType::String);
        let entries = self.counts.sorted();
        profile.approximate = self.distinct.is_some();
        profile.distinct = match &self.distinct {
            Some(distinct) => distinct.estimate().min(self.count),
            None => entries.len() as u64,
        };
        profile.min = self.min.clone().map(Scalar::Text);
        profile.max = self.max.clone().map(Scalar::Text);
        profile.top = report::top(&entries, |text| Scalar::Text(text.clone()));
        profile
    }
}

/// The first [`TEXT_BYTES`] bytes of a text, or fewer when that would cut a character.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES)]
}
