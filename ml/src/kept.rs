//! Training rows that are kept apart: what is fitted after the model ([`crate::model::decision`]) is fitted on them.
//!
//! Which rows these are follows from the seed and a row's place in the dataset alone, so each pass over the partitions
//! finds the same.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use crate::hash;

/// The share that is kept where the pipeline says none, as scikit-learn's `CalibratedClassifierCV` with five folds.
pub const SHARE: f64 = 0.2;

/// Which rows are kept apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kept {
    threshold: u64,
    seed: u64,
}

impl Kept {
    /// Keeps this share of the rows, from 0 to 1.
    pub fn new(share: f64, seed: u64) -> Kept {
        Kept { threshold: (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64, seed }
    }

    fn holds(&self, row: u64) -> bool {
        // A stream of its own: the same seed also parts folds and draws trees.
        self.threshold > 0 && hash::mix(hash::mix(self.seed ^ 0x6b65_7074).wrapping_add(row)) <= self.threshold
    }

    /// The rows to learn from. `first` is the place of the batch's first row in the dataset.
    pub fn learned(&self, batch: &RecordBatch, first: u64) -> Result<RecordBatch, ArrowError> {
        self.filter(batch, first, false)
    }

    /// The rows that are kept apart.
    pub fn kept(&self, batch: &RecordBatch, first: u64) -> Result<RecordBatch, ArrowError> {
        self.filter(batch, first, true)
    }

    fn filter(&self, batch: &RecordBatch, first: u64, kept: bool) -> Result<RecordBatch, ArrowError> {
        let rows = first..first + batch.num_rows() as u64;
        let mask: BooleanArray = rows.map(|row| Some(self.holds(row) == kept)).collect();
        filter_record_batch(batch, &mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::village;

    #[test]
    fn every_row_is_either_learned_or_kept_however_it_comes() {
        let village = village(5_000);
        let kept = Kept::new(0.2, 3);
        let whole = kept.kept(&village, 0).unwrap();
        assert!((900..1_100).contains(&whole.num_rows()), "{}", whole.num_rows());
        assert_eq!(kept.learned(&village, 0).unwrap().num_rows() + whole.num_rows(), 5_000);
        let parts: Vec<RecordBatch> = [(0, 700), (700, 4_300)]
            .map(|(from, rows)| kept.kept(&village.slice(from, rows), from as u64).unwrap())
            .into();
        assert_eq!(arrow::compute::concat_batches(&village.schema(), &parts).unwrap(), whole);
        assert_ne!(Kept::new(0.2, 4).kept(&village, 0).unwrap(), whole);
    }
}
