//! Texts as bags of words: how often words come, spread over columns by a hash.
//!
//! A word is a run of letters and digits (as Unicode has them), without regard to case. Two words that share a
//! column are counted together; with 256 columns and short texts that is rare enough for a model to live with
//! (Weinberger et al. 2009, "Feature hashing for large scale multitask learning").

use super::Output;
use super::levels::bucket_of_text;

/// Counts the words of texts, one text at a time.
pub(super) struct WordCounter {
    counts: Vec<u32>,
    touched: Vec<usize>,
    word: String,
    binary: bool,
}

impl WordCounter {
    pub fn new(buckets: u32, binary: bool) -> WordCounter {
        WordCounter { counts: vec![0; buckets as usize], touched: Vec::new(), word: String::new(), binary }
    }

    /// The columns that the words of a text fall into, by rising column, and how often.
    pub fn count(&mut self, text: &str) -> impl Iterator<Item = (usize, u32)> {
        self.touched.drain(..).for_each(|bucket| self.counts[bucket] = 0);
        // A last separator ends the last word.
        for letter in text.chars().chain(std::iter::once(' ')) {
            if letter.is_alphanumeric() {
                self.word.extend(letter.to_lowercase());
            } else if !self.word.is_empty() {
                let bucket = bucket_of_text(&self.word, self.counts.len() as u32);
                if self.counts[bucket] == 0 {
                    self.touched.push(bucket);
                }
                self.counts[bucket] = if self.binary { 1 } else { self.counts[bucket].saturating_add(1) };
                self.word.clear();
            }
        }
        self.touched.sort_unstable();
        self.touched.iter().map(|&bucket| (bucket, self.counts[bucket]))
    }
}

/// What was seen of a column of text.
#[derive(Clone, Debug)]
pub(super) struct WordSums {
    pub binary: bool,
    /// For each column its sum and its sum of squares; whole numbers, so that no order matters.
    sums: Vec<(u64, u64)>,
    pub rows: u64,
    pub missing: u64,
    /// Columns that the words of one text fall into at the most.
    pub filled: u32,
}

impl WordSums {
    pub fn new(buckets: u32, binary: bool) -> WordSums {
        WordSums { binary, sums: vec![(0, 0); buckets as usize], rows: 0, missing: 0, filled: 0 }
    }

    pub fn buckets(&self) -> u32 {
        self.sums.len() as u32
    }

    pub fn push<'a>(&mut self, texts: impl Iterator<Item = Option<&'a str>>) {
        let mut counter = WordCounter::new(self.buckets(), self.binary);
        for text in texts {
            self.rows += 1;
            let Some(text) = text else {
                self.missing += 1;
                continue;
            };
            let mut filled = 0;
            for (bucket, count) in counter.count(text) {
                filled += 1;
                let (sum, squares) = &mut self.sums[bucket];
                *sum += u64::from(count);
                *squares = squares.saturating_add(u64::from(count) * u64::from(count));
            }
            self.filled = self.filled.max(filled);
        }
    }

    pub fn merge(&mut self, later: &WordSums) {
        for ((sum, squares), (more, more_squares)) in self.sums.iter_mut().zip(&later.sums) {
            *sum += more;
            *squares = squares.saturating_add(*more_squares);
        }
        self.rows += later.rows;
        self.missing += later.missing;
        self.filled = self.filled.max(later.filled);
    }

    /// A column for each bucket: `note#0`, `note#1`, …
    pub fn outputs(&self, name: &str, outputs: &mut Vec<Output>) {
        let rows = self.rows.max(1) as f64;
        for (bucket, &(sum, squares)) in self.sums.iter().enumerate() {
            let mean = sum as f64 / rows;
            let variance = (squares as f64 / rows - mean * mean).max(0.0);
            let std = variance.sqrt();
            outputs.push(Output { name: format!("{name}#{bucket}"), mean, std, flag: self.binary });
        }
    }
}
