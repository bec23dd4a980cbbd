//! Numbers as small codes: every column is cut into at most 255 bins at its quantiles, and a value becomes
//! the number of its bin. Trees that are grown over codes read a byte a value and add up 256 sums, instead
//! of sorting.
//!
//! A missing value (NaN) has the code behind the last bin of its column. Infinities count as the largest
//! numbers.

use rayon::prelude::*;

use crate::matrix::Matrix;
use crate::splitmix::SplitMix;

/// Bins of a column at the most, so that a code, and the one for missing values, fit a byte.
pub const BINS_MAX: usize = 255;
/// Rows that the quantiles are taken from, at the most. The error of a quantile of 100,000 rows is under
/// half the width of a bin of 255.
const SAMPLE_ROWS: usize = 100_000;
/// Columns whose codes lie side by side: one read gives the codes of four columns, and their histograms
/// (16 kB) fit a first-level cache.
pub(crate) const GROUP: usize = 4;

/// Where the columns are cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    /// For each column ascending cuts: bin `b` holds the values over cut `b - 1` up to and with cut `b`.
    cuts: Vec<Vec<f32>>,
}

impl Bins {
    /// Cuts each column of a matrix laid out in columns into at most `bins_max` (2 to [`BINS_MAX`]) bins of
    /// about as many rows; with few different values each has a bin. The cuts lie in the middle between
    /// neighbouring values.
    pub fn fit(matrix: &Matrix<f32>, bins_max: usize, seed: u64) -> Bins {
        let bins_max = bins_max.clamp(2, BINS_MAX);
        let sample = sample_rows(matrix.rows(), seed);
        let cuts = (0..matrix.columns())
            .into_par_iter()
            .map(|column| cut(matrix.column(column), sample.as_deref(), bins_max))
            .collect();
        Bins { cuts }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.cuts.len()
    }

    /// Number of bins of a column, without the one of missing values. It is also the code of these.
    pub fn bins(&self, column: usize) -> usize {
        self.cuts[column].len() + 1
    }

    /// The largest value of a bin, which is not the last of its column.
    pub fn upper(&self, column: usize, bin: usize) -> f32 {
        self.cuts[column][bin]
    }

    /// The bin of a column that a number falls into.
    pub(crate) fn code_of_cut(&self, column: usize, cut: f64) -> u8 {
        self.cuts[column].partition_point(|&other| f64::from(other) < cut) as u8
    }

    /// The codes of a matrix with the same columns, laid out in columns.
    pub fn encode(&self, matrix: &Matrix<f32>) -> Codes {
        assert_eq!(matrix.columns(), self.columns(), "rows have the columns that the bins were cut for");
        let groups = (0..self.columns().div_ceil(GROUP))
            .into_par_iter()
            .map(|group| {
                // Places without a column get codes that change from row to row: their sums are never read,
                // and adding to the same place again and again would wait for itself.
                let mut codes: Vec<[u8; GROUP]> = (0..matrix.rows()).map(|row| [row as u8; GROUP]).collect();
                for within in 0..GROUP.min(self.columns() - group * GROUP) {
                    let column = group * GROUP + within;
                    let ladder = Ladder::new(&self.cuts[column]);
                    for (codes, &value) in codes.iter_mut().zip(matrix.column(column)) {
                        codes[within] = ladder.code(value);
                    }
                }
                codes
            })
            .collect();
        Codes { rows: matrix.rows(), columns: self.columns(), groups }
    }
}

/// The codes of a matrix: for each group of columns the codes of a row side by side.
#[derive(Clone, Debug)]
pub struct Codes {
    rows: usize,
    columns: usize,
    groups: Vec<Vec<[u8; GROUP]>>,
}

impl Codes {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The code of one value.
    #[inline]
    pub fn code(&self, row: usize, column: usize) -> u8 {
        self.groups[column / GROUP][row][column % GROUP]
    }

    pub(crate) fn groups(&self) -> &[Vec<[u8; GROUP]>] {
        &self.groups
    }
}

/// One column's cuts, padded to 255 so that the search always takes eight steps and never branches.
struct Ladder {
    cuts: [f32; 255],
    missing: u8,
}

impl Ladder {
    fn new(cuts: &[f32]) -> Ladder {
        let mut padded = [f32::INFINITY; 255];
        padded[..cuts.len()].copy_from_slice(cuts);
        Ladder { cuts: padded, missing: cuts.len() as u8 + 1 }
    }

    /// How many cuts are under the value.
    #[inline]
    fn code(&self, value: f32) -> u8 {
        let mut at = 0usize;
        for step in [128, 64, 32, 16, 8, 4, 2, 1] {
            at += if self.cuts[at + step - 1] < value { step } else { 0 };
        }
        if value.is_nan() { self.missing } else { at as u8 }
    }
}

/// Rows for the quantiles, one from each of as many equal stretches; none if all rows are taken.
fn sample_rows(rows: usize, seed: u64) -> Option<Vec<u32>> {
    if rows <= SAMPLE_ROWS {
        return None;
    }
    let mut chance = SplitMix::at(seed, 0);
    let stretch = rows as f64 / SAMPLE_ROWS as f64;
    let row = |at: usize, chance: f64| (((at as f64 + chance) * stretch) as usize).min(rows - 1) as u32;
    Some((0..SAMPLE_ROWS).map(|at| row(at, chance.unit())).collect())
}

fn cut(column: &[f32], sample: Option<&[u32]>, bins_max: usize) -> Vec<f32> {
    let limit = |value: f32| value.clamp(f32::MIN, f32::MAX) + 0.0;
    let mut values: Vec<f32> = match sample {
        Some(sample) => sample.iter().map(|&row| column[row as usize]).filter(|v| !v.is_nan()).map(limit).collect(),
        None => column.iter().copied().filter(|value| !value.is_nan()).map(limit).collect(),
    };
    values.sort_unstable_by(f32::total_cmp);
    let changes = values.windows(2).filter(|pair| pair[0] < pair[1]).count();
    if changes < bins_max {
        return values.windows(2).filter(|pair| pair[0] < pair[1]).map(|pair| middle(pair[0], pair[1])).collect();
    }
    let mut cuts: Vec<f32> = Vec::with_capacity(bins_max - 1);
    for bin in 1..bins_max {
        // Between the last row of one bin and the first of the next; inside a run of equal values the cut
        // goes behind the run, and the next cuts inside it are left out.
        let value = values[bin * values.len() / bins_max - 1];
        let next = values.partition_point(|&other| other <= value);
        if let Some(&next) = values.get(next) {
            let cut = middle(value, next);
            if cuts.last().is_none_or(|&last| last < cut) {
                cuts.push(cut);
            }
        }
    }
    cuts
}

/// A number from `low` to under `high`, in the middle where there is one.
fn middle(low: f32, high: f32) -> f32 {
    let middle = low / 2.0 + high / 2.0;
    if low <= middle && middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;

    fn column(values: &[f32]) -> Matrix<f32> {
        let mut matrix = Matrix::zeros(values.len(), 1, Layout::Columns);
        values.iter().enumerate().for_each(|(row, &value)| matrix.set(row, 0, value));
        matrix
    }

    #[test]
    fn few_values_have_a_bin_each_and_missing_ones_theirs() {
        let matrix = column(&[3.0, 1.0, f32::NAN, 1.0, 2.0, f32::INFINITY]);
        let bins = Bins::fit(&matrix, 255, 1);
        assert_eq!(bins.bins(0), 4);
        assert_eq!((bins.upper(0, 0), bins.upper(0, 1)), (1.5, 2.5));
        let codes = bins.encode(&matrix);
        assert_eq!((0..6).map(|row| codes.code(row, 0)).collect::<Vec<_>>(), [2, 0, 4, 0, 1, 3]);
    }

    #[test]
    fn many_values_are_spread_evenly() {
        let values: Vec<f32> = (0..300_000).map(|at| ((at * 7_919) % 300_007) as f32).collect();
        let matrix = column(&values);
        let bins = Bins::fit(&matrix, 255, 5);
        assert_eq!(bins.bins(0), 255);
        let codes = bins.encode(&matrix);
        let mut counts = [0usize; 256];
        (0..values.len()).for_each(|row| counts[usize::from(codes.code(row, 0))] += 1);
        assert!(counts[..255].iter().all(|&count| (950..1_450).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_code_says_on_which_side_of_each_cut_a_value_lies() {
        let mut chance = SplitMix::new(4);
        let values: Vec<f32> = (0..2_000).map(|_| (chance.unit() * 40.0).floor() as f32 * 0.1 - 1.0).collect();
        let matrix = column(&values);
        for bins_max in [2, 3, 17, 255] {
            let bins = Bins::fit(&matrix, bins_max, 1);
            assert!(bins.bins(0) <= bins_max);
            let codes = bins.encode(&matrix);
            for (row, &value) in values.iter().enumerate() {
                for bin in 0..bins.bins(0) - 1 {
                    assert_eq!(value <= bins.upper(0, bin), usize::from(codes.code(row, 0)) <= bin);
                }
            }
        }
    }

    #[test]
    fn a_column_without_values_has_one_bin() {
        let matrix = column(&[f32::NAN, f32::NAN]);
        let bins = Bins::fit(&matrix, 255, 1);
        assert_eq!(bins.bins(0), 1);
        assert_eq!(bins.encode(&matrix).code(0, 0), 1);
    }
}
