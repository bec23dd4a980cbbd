//! Least squares without keeping rows.
//!
//! Ordinary, ridge, lasso and elastic-net regression see the data through sums of products alone: any rows
//! S with the same SᵀS (of features and target, both centred) have the same solution. So rows are added up
//! as they pass, and smartcore is given a square root S of the sums instead of the table: as many rows as
//! there are columns, whatever the number of rows. The root is a Cholesky factor with pivoting, which stops
//! where the columns left are combinations of those before (all levels of a one-hot column are).
//!
//! Each row of S is given twice, once negated, both divided by √2: the products stay the same and every
//! column has mean zero, as centred data does, so smartcore's own centring changes nothing.

use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::features::Output;
use crate::matrix::{Layout, Matrix};

/// Share of a column's variance below which it counts as a combination of the columns before: a thousand
/// times what summing millions of products in `f64` loses.
const DEPENDENT: f64 = 1e-10;

/// Adds up products of centred columns.
pub(super) struct GramBuilder {
    /// Subtracted from each column before products are taken, so that little is lost to cancellation. Zero
    /// for columns of zeros and ones, which then can be skipped where they are zero.
    shifts: Vec<f64>,
    rows: u64,
    sums: Vec<f64>,
    /// The upper triangle of the products, row by row of a square of `shifts.len()`.
    products: Vec<f64>,
}

/// A stand-in for the rows, with the same solution.
pub(super) struct Gram {
    /// Rows that were added up.
    pub rows: u64,
    /// The mean of each feature.
    pub means: Vec<f64>,
    pub target_mean: f64,
    features: Vec<f64>,
    target: Vec<f64>,
}

impl GramBuilder {
    pub fn new(outputs: &[Output], target_mean: f64) -> GramBuilder {
        let mut shifts: Vec<f64> = outputs.iter().map(|output| if output.flag { 0.0 } else { output.mean }).collect();
        shifts.push(target_mean);
        let width = shifts.len();
        GramBuilder { shifts, rows: 0, sums: vec![0.0; width], products: vec![0.0; width * width] }
    }

    pub fn push(&mut self, rows: &Matrix<f64>, target: &[f64]) {
        let width = self.shifts.len();
        let mut set: Vec<(usize, f64)> = Vec::with_capacity(width);
        for (row, &target) in target.iter().enumerate() {
            set.clear();
            let values = rows.row(row).iter().chain(std::iter::once(&target)).zip(&self.shifts).enumerate();
            set.extend(values.map(|(at, (value, shift))| (at, value - shift)).filter(|(_, value)| *value != 0.0));
            for (position, &(left, a)) in set.iter().enumerate() {
                self.sums[left] += a;
                let line = &mut self.products[left * width..(left + 1) * width];
                for &(right, b) in &set[position..] {
                    line[right] += a * b;
                }
            }
        }
        self.rows += target.len() as u64;
    }

    pub fn finish(self) -> Gram {
        let width = self.shifts.len();
        let columns = width - 1;
        let n = self.rows as f64;
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
        let half = std::f64::consts::FRAC_1_SQRT_2;
        // At least as many rows as smartcore's solvers want; rows of zeros add nothing.
        let lines = (2 * root.len()).max(columns + 2);
        let (mut features, mut target) = (vec![0.0; lines * columns], vec![0.0; lines]);
        for (at, (line, sign)) in root.iter().flat_map(|line| [(line, half), (line, -half)]).enumerate() {
            for column in 0..columns {
                features[at * columns + column] = sign * line[column] * scales[column];
            }
            target[at] = sign * line[columns] * scales[columns];
        }
        let mean = |at: usize| self.shifts[at] + self.sums[at] / n;
        Gram { rows: self.rows, means: (0..columns).map(mean).collect(), target_mean: mean(columns), features, target }
    }
}

impl Gram {
    /// The features of the stand-in rows.
    pub fn features(&self) -> DenseMatrix<f64> {
        let (lines, columns) = (self.target.len(), self.means.len());
        let mut matrix = Matrix::zeros(lines, columns, Layout::Rows);
        for line in 0..lines {
            for column in 0..columns {
                matrix.set(line, column, self.features[line * columns + column]);
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
