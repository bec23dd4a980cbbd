//! Numbers for tests that can be made again elsewhere: the constants of scikit-learn in tests were computed
//! on these with scikit-learn 1.9.1 and numpy 2.4.6.
//!
//! In Python the numbers are
//!
//! ```text
//! def mix(z):
//!     z = (z + 0x9E3779B97F4A7C15) % 2**64
//!     z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
//!     z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
//!     return z ^ z >> 31
//! def unit(seed, n):      # n-th number of the stream
//!     return (mix((seed + n * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53
//! def matrix(seed, rows, columns):
//!     return np.float32([[unit(seed, r * columns + c) * 2 - 1 for c in range(columns)] for r in range(rows)])
//! ```

use crate::matrix::{Layout, Matrix};
use crate::splitmix::SplitMix;

/// A matrix of numbers from -1 to 1.
pub(crate) fn matrix(seed: u64, rows: usize, columns: usize, layout: Layout) -> Matrix<f32> {
    let mut chance = SplitMix::new(seed);
    let mut matrix = Matrix::zeros(rows, columns, layout);
    for row in 0..rows {
        for column in 0..columns {
            matrix.set(row, column, (chance.unit() * 2.0 - 1.0) as f32);
        }
    }
    matrix
}

/// For each row what `label` makes of its values and a number from 0 to under 1 (of the stream of seed 99).
pub(crate) fn labels(matrix: &Matrix<f32>, label: impl Fn(&[f64], f64) -> f64) -> Vec<f64> {
    let mut chance = SplitMix::new(99);
    let values = |row| (0..matrix.columns()).map(|column| f64::from(matrix.get(row, column))).collect::<Vec<_>>();
    (0..matrix.rows()).map(|row| label(&values(row), chance.unit())).collect()
}

/// Class 1 where `x0 + x1 x2 + 0.6 (noise - 0.5) > 0`.
pub(crate) fn two_classes(matrix: &Matrix<f32>) -> Vec<f64> {
    labels(matrix, |x, noise| f64::from(u8::from(x[0] + x[1] * x[2] + 0.6 * (noise - 0.5) > 0.0)))
}

/// The same numbers with more digits.
pub(crate) fn wide(matrix: &Matrix<f32>) -> Matrix<f64> {
    let mut wide = Matrix::zeros(matrix.rows(), matrix.columns(), matrix.layout());
    for row in 0..matrix.rows() {
        (0..matrix.columns()).for_each(|column| wide.set(row, column, f64::from(matrix.get(row, column))));
    }
    wide
}

/// Six blobs of 500 rows: `0.3 X` with `3 (row % 3)` added to the first column and `2 (row % 2)` to the
/// second, rounded to `f32`; `X = matrix(1, 500, 4)`.
pub(crate) fn blobs() -> Matrix<f64> {
    let mut blobs = wide(&matrix(1, 500, 4, Layout::Rows));
    for row in 0..500 {
        for column in 0..4 {
            let moved = [3 * (row % 3), 2 * (row % 2), 0, 0][column] as f64;
            blobs.set(row, column, f64::from((blobs.get(row, column) * 0.3 + moved) as f32));
        }
    }
    blobs
}
