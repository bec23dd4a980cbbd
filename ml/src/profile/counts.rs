//! How often each value comes: exactly while they are few, then the frequent ones only.
//!
//! The approximate phase is a Misra-Gries summary in the mergeable form of Agarwal and others ("Mergeable
//! summaries", 2012): when the table is full, the count of the (k+1)-th most frequent value is subtracted
//! from all and what falls to zero is dropped. Which values stay doesn't depend on the order of the table,
//! so the result is the same on every machine.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::hash::{self, StableState};

/// Different values that are counted exactly. The codes, names and hours of a usual table stay under it;
/// a table of this size fits the processor's second cache.
pub const EXACT_MAX: usize = 8_192;

/// Values kept when a full table is thinned out: counts are then short by a 1024th of the rows at most,
/// far below what the twenty most frequent values differ by.
const KEPT: usize = 1_024;

/// What a full table drops, and the smallest count left standing: the (k+1)-th largest.
fn threshold(counts: impl Iterator<Item = u64>) -> u64 {
    let mut counts: Vec<u64> = counts.collect();
    if counts.len() <= KEPT {
        return 0;
    }
    *counts.select_nth_unstable_by(KEPT, |a, b| b.cmp(a)).1
}

/// Counts of words (numbers in an order-preserving form), in an open-addressing table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "WordEntries", into = "WordEntries")]
pub struct WordCounts {
    keys: Vec<u64>,
    /// Zero marks a free place.
    counts: Vec<u64>,
    len: usize,
    last: usize,
}

/// A table of words as it is kept: ordered by word.
#[derive(Serialize, Deserialize)]
struct WordEntries {
    keys: Vec<u64>,
    counts: Vec<u64>,
}

impl From<WordEntries> for WordCounts {
    fn from(entries: WordEntries) -> WordCounts {
        let mut table = WordCounts::default();
        for (key, count) in entries.keys.into_iter().zip(entries.counts) {
            table.add(key, count);
        }
        table
    }
}

impl From<WordCounts> for WordEntries {
    fn from(table: WordCounts) -> WordEntries {
        let (keys, counts) = table.sorted().into_iter().unzip();
        WordEntries { keys, counts }
    }
}

impl Default for WordCounts {
    fn default() -> Self {
        WordCounts { keys: vec![0; 64], counts: vec![0; 64], len: 0, last: 0 }
    }
}

impl WordCounts {
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn add(&mut self, key: u64, count: u64) {
        if count == 0 {
            return;
        }
        // Sorted columns repeat their values.
        if self.keys[self.last] == key && self.counts[self.last] > 0 {
            self.counts[self.last] += count;
            return;
        }
        let mask = self.keys.len() - 1;
        let mut at = hash::mix(key) as usize & mask;
        while self.counts[at] > 0 && self.keys[at] != key {
            at = (at + 1) & mask;
        }
        self.last = at;
        if self.counts[at] == 0 {
            self.keys[at] = key;
            self.len += 1;
            self.counts[at] = count;
            if self.len * 2 > self.keys.len() {
                self.grow();
            }
        } else {
            self.counts[at] += count;
        }
    }

    /// Hands out all words and their counts, and forgets them.
    pub fn drain(&mut self, mut take: impl FnMut(u64, u64)) {
        for (key, count) in self.keys.iter().zip(&mut self.counts) {
            if *count > 0 {
                take(*key, std::mem::take(count));
            }
        }
        self.len = 0;
    }

    /// Words and counts, ordered by word.
    pub fn sorted(&self) -> Vec<(u64, u64)> {
        let mut entries: Vec<(u64, u64)> = self.entries().collect();
        entries.sort_unstable();
        entries
    }

    /// Thins the table out to the frequent words.
    pub fn thin_out(&mut self) {
        let threshold = threshold(self.entries().map(|(_, count)| count));
        let entries = self.sorted();
        *self = WordCounts::default();
        for (key, count) in entries {
            self.add(key, count.saturating_sub(threshold));
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        self.keys.iter().copied().zip(self.counts.iter().copied()).filter(|(_, count)| *count > 0)
    }

    #[cold]
    fn grow(&mut self) {
        let entries: Vec<(u64, u64)> = self.entries().collect();
        let places = self.keys.len() * 2;
        *self = WordCounts { keys: vec![0; places], counts: vec![0; places], len: 0, last: 0 };
        for (key, count) in entries {
            self.add(key, count);
        }
    }
}

/// Counts of texts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(String, u64)>", into = "Vec<(String, u64)>")]
pub struct TextCounts {
    counts: HashMap<String, u64, StableState>,
}

impl From<Vec<(String, u64)>> for TextCounts {
    fn from(entries: Vec<(String, u64)>) -> TextCounts {
        TextCounts { counts: entries.into_iter().collect() }
    }
}

impl From<TextCounts> for Vec<(String, u64)> {
    fn from(table: TextCounts) -> Vec<(String, u64)> {
        table.sorted()
    }
}

impl TextCounts {
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    #[inline]
    pub fn add(&mut self, text: &str, count: u64) {
        if let Some(known) = self.counts.get_mut(text) {
            *known += count;
        } else if count > 0 {
            self.counts.insert(text.to_owned(), count);
        }
    }

    /// Texts and counts, ordered by text.
    pub fn sorted(&self) -> Vec<(String, u64)> {
        let mut entries: Vec<(String, u64)> = self.counts.iter().map(|(text, count)| (text.clone(), *count)).collect();
        entries.sort_unstable();
        entries
    }

    /// Thins the table out to the frequent texts.
    pub fn thin_out(&mut self) {
        let threshold = threshold(self.counts.values().copied());
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(threshold);
            *count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequent_words_survive_a_flood_of_rare_ones() {
        let mut table = WordCounts::default();
        for row in 0..1_000_000_u64 {
            table.add(if row % 10 == 0 { row / 10 % 5 } else { 1_000 + row }, 1);
            if table.len() > EXACT_MAX {
                table.thin_out();
            }
        }
        let entries = table.sorted();
        for word in 0..5 {
            let (key, count) = entries[word as usize];
            assert_eq!(key, word);
            assert!((19_000..=20_000).contains(&count), "{count}");
        }
    }

    #[test]
    fn a_table_kept_and_read_again_is_the_same() {
        let mut table = WordCounts::default();
        (0..5_000_u64).for_each(|row| table.add(row * row % 777, 1));
        let again: WordCounts = rmp_serde::from_slice(&rmp_serde::to_vec(&table).unwrap()).unwrap();
        assert_eq!(again.sorted(), table.sorted());
    }
}
