//! Least squares without keeping rows.
//!
//! Ordinary, ridge, lasso and elastic-net regression see the data through sums of products alone: any rows
//! S with the same SᵀS (of features and target, both centred) have the same solution. So rows are added up
//! as they pass, and smartcore is given a square root S of the sums instead of the table: as many rows as
//! there are columns, whatever the number of rows. The root is a Cholesky factor with pivoting, which stops
//! where the columns left are combinations of those before (all levels of a one-hot column are).
//!
//! Logistic regression of two classes is a series of such problems with weighted rows (see [`super::linear`]).
//!
//! Each row of S is given twice, once negated, both divided by √2: the products stay the same and every
//! column has mean zero, as centred data does, so smartcore's own centring changes nothing.

use std::f64::consts::FRAC_1_SQRT_2;

use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::features::Output;
use crate::matrix::{Layout, Matrix};

/// Share of a column's variance below which it counts as a combination of the columns before: a thousand
/// times what summing millions of products in `f64` loses.
const DEPENDENT: f64 = 1e-10;

/// What is subtracted from columns before they are multiplied: their mean, but nothing from columns of zeros
/// and ones.
pub(super) fn shifts(outputs: &[Output]) -> Vec<f64> {
    outputs.iter().map(|output| if output.flag { 0.0 } else { output.mean }).collect()
}

/// Adds up products of centred columns.
pub(super) struct GramBuilder {
    /// Subtracted from each column before products are taken, so that little is lost to cancellation. Zero
    /// for columns of zeros and ones, which then can be skipped where they are zero.
    shifts: Vec<f64>,
    /// Rows, or their weights added up.
    weight: f64,
    sums: Vec<f64>,
    /// The upper triangle of the products, row by row of a square of `shifts.len()`.
    products: Vec<f64>,
}

/// A stand-in for the rows, with the same solution.
pub(super) struct Gram {
    /// Rows that were added up, or their weights.
    pub weight: f64,
    /// The mean of each feature.
    pub means: Vec<f64>,
    pub target_mean: f64,
    /// The length of each centred feature, by which the root's columns are divided; zero for constant ones.
    pub lengths: Vec<f64>,
    /// The rows of the root, each with the target at its end.
    root: Vec<Vec<f64>>,
    target: Vec<f64>,
}

impl GramBuilder {
    pub fn new(outputs: &[Output], target_mean: f64) -> GramBuilder {
        let mut shifts = shifts(outputs);
        shifts.push(target_mean);
        GramBuilder::with_shifts(shifts)
    }

    /// For rows that are near zero as they are.
    pub fn unshifted(columns: usize) -> GramBuilder {
        GramBuilder::with_shifts(vec![0.0; columns + 1])
    }

    fn with_shifts(shifts: Vec<f64>) -> GramBuilder {
        let width = shifts.len();
        GramBuilder { shifts, weight: 0.0, sums: vec![0.0; width], products: vec![0.0; width * width] }
    }

    /// Adds rows; without weights they count the same.
    pub fn push(&mut self, rows: &Matrix<f64>, target: &[f64], weights: Option<&[f64]>) {
        let mut set: Vec<(usize, f64)> = Vec::with_capacity(self.shifts.len());
        for (row, &target) in target.iter().enumerate() {
            set.clear();
            let values = rows.row(row).iter().chain(std::iter::once(&target)).zip(&self.shifts).enumerate();
            set.extend(values.map(|(at, (value, shift))| (at, value - shift)).filter(|(_, value)| *value != 0.0));
            self.add(&set, weights.map_or(1.0, |weights| weights[row]));
        }
    }

    /// Adds a row, by its values less the shifts: those that aren't zero, by rising column, the target last.
    pub fn add(&mut self, row: &[(usize, f64)], weight: f64) {
        let width = self.shifts.len();
        for (position, &(left, a)) in row.iter().enumerate() {
            let weighted = weight * a;
            self.sums[left] += weighted;
            let line = &mut self.products[left * width..(left + 1) * width];
            for &(right, b) in &row[position..] {
                line[right] += weighted * b;
            }
        }
        self.weight += weight;
    }

    pub fn finish(self) -> Gram {
        let width = self.shifts.len();
        let columns = width - 1;
        let n = self.weight;
        let centred = |i: usize, j: usize| {
            let (i, j) = (i.min(j), i.max(j));
            self.products[i * width + j] - self.sums[i] * self.sums[j] / n
        };
        let scales: Vec<f64> = (0..width).map(|i| centred(i, i).max(0.0).sqrt()).collect();
        let correlation = |i: usize, j: usize| centred(i, j) / (scales[i] * scales[j]);
        // What the columns chosen so far leave of each column's variance; constant columns have none.
        let mut left: Vec<f64> = scales.iter().map(|&scale| if scale > 0.0 { 1.0 } else { 0.0 }).collect();
        let mut root: Vec<Vec<f64>> = Vec::new();
        loop {
            let best = (0..columns)
                .filter(|&i| left[i] > DEPENDENT)
                .max_by(|&a, &b| left[a].total_cmp(&left[b]).then(b.cmp(&a)));
            // The target comes last: what features leave of it can't be explained, but belongs to its length.
            let pivot = match best {
                Some(pivot) => pivot,
                None if left[columns] > DEPENDENT => columns,
                None => break,
            };
            let length = left[pivot].sqrt();
            let mut line = vec![0.0; width];
            for (at, value) in line.iter_mut().enumerate() {
                if scales[at] > 0.0 && (left[at] > 0.0 || at == pivot) {
                    let known: f64 = root.iter().map(|earlier| earlier[pivot] * earlier[at]).sum();
                    *value = if at == pivot { length } else { (correlation(pivot, at) - known) / length };
                }
            }
            for (left, value) in left.iter_mut().zip(&line) {
                *left = (*left - value * value).max(0.0);
            }
            left[pivot] = 0.0;
            root.push(line);
            if pivot == columns {
                break;
            }
        }
        // At least as many rows as smartcore's solvers want; rows of zeros add nothing.
        let lines = (2 * root.len()).max(columns + 2);
        let mut target = vec![0.0; lines];
        for (target, value) in target.iter_mut().zip(root.iter().flat_map(|line| [line[columns], -line[columns]])) {
            *target = value * scales[columns] * FRAC_1_SQRT_2;
        }
        let mean = |at: usize| self.shifts[at] + self.sums[at] / n;
        let means = (0..columns).map(mean).collect();
        let target_mean = mean(columns);
        let mut lengths = scales;
        lengths.truncate(columns);
        Gram { weight: self.weight, means, target_mean, lengths, root, target }
    }
}

impl Gram {
    /// The features of the stand-in rows.
    pub fn features(&self) -> DenseMatrix<f64> {
        self.scaled(|column| self.lengths[column])
    }

    /// The features of the stand-in rows, each divided by its length.
    pub fn unit_features(&self) -> DenseMatrix<f64> {
        self.scaled(|_| 1.0)
    }

    fn scaled(&self, length: impl Fn(usize) -> f64) -> DenseMatrix<f64> {
        let mut matrix = Matrix::zeros(self.lines(), self.means.len(), Layout::Rows);
        for (at, line) in self.root.iter().enumerate() {
            for (column, share) in line.iter().enumerate().take(self.means.len()) {
                let value = share * length(column) * FRAC_1_SQRT_2;
                matrix.set(2 * at, column, value);
                matrix.set(2 * at + 1, column, -value);
            }
        }
        matrix.into_dense()
    }

    /// The target of the stand-in rows.
    pub fn target(&self) -> &Vec<f64> {
        &self.target
    }

    /// Number of stand-in rows.
    pub fn lines(&self) -> usize {
        self.target.len()
    }
}
