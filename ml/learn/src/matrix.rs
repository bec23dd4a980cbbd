//! Dense matrices for training and scoring: the memory is asked for once, then rows are filled in.
//!
//! Trees read columns and compare values, so they take `f32` columns: half the memory, and an order that
//! rounding keeps. Linear models add values up, so they take `f64` rows.

use smartcore::linalg::basic::arrays::Array2;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::numbers::basenum::Number;

/// Why a matrix or a training set doesn't fit into memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{rows} rows of {columns} feature columns need about {} MB to train on, and the memory limit is {} MB",
    needed_bytes / 1_000_000,
    limit_bytes / 1_000_000
)]
pub struct TooLarge {
    pub rows: usize,
    pub columns: usize,
    /// An estimate, from sizes alone.
    pub needed_bytes: u64,
    pub limit_bytes: u64,
}

impl TooLarge {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "train on a sample of the rows, leave out categorical columns with many levels, set `encoding: ordered`, \
         or give the worker more memory"
    }
}

/// A number that matrices hold.
pub trait Element: Number + Default + Send + Sync + 'static {
    /// The nearest value of this type; what is beyond its range becomes its largest value.
    fn nearest(value: f64) -> Self;
}

impl Element for f32 {
    fn nearest(value: f64) -> f32 {
        value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
    }
}

impl Element for f64 {
    fn nearest(value: f64) -> f64 {
        value.clamp(f64::MIN, f64::MAX)
    }
}

/// What lies side by side in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The values of a column.
    Columns,
    /// The values of a row.
    Rows,
}

/// A dense matrix, zero where nothing was set.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<T> {
    rows: usize,
    columns: usize,
    layout: Layout,
    values: Vec<T>,
}

impl<T: Element> Matrix<T> {
    /// A matrix of zeros.
    pub fn zeros(rows: usize, columns: usize, layout: Layout) -> Matrix<T> {
        Matrix { rows, columns, layout, values: vec![T::default(); rows * columns] }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Sets one value. Panics outside the matrix.
    #[inline]
    pub fn set(&mut self, row: usize, column: usize, value: T) {
        let at = self.index(row, column);
        self.values[at] = value;
    }

    /// One value. Panics outside the matrix.
    #[inline]
    pub fn get(&self, row: usize, column: usize) -> T {
        self.values[self.index(row, column)]
    }

    /// The values of one row of a matrix laid out in rows.
    pub fn row(&self, row: usize) -> &[T] {
        assert_eq!(self.layout, Layout::Rows, "only a matrix laid out in rows has its rows side by side");
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// The values of one column of a matrix laid out in columns.
    pub fn column(&self, column: usize) -> &[T] {
        assert_eq!(self.layout, Layout::Columns, "only a matrix laid out in columns has its columns side by side");
        &self.values[column * self.rows..(column + 1) * self.rows]
    }

    /// What lies side by side in memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Sets all values to zero again.
    pub fn clear(&mut self) {
        self.values.fill(T::default());
    }

    #[inline]
    fn index(&self, row: usize, column: usize) -> usize {
        match self.layout {
            Layout::Columns => column * self.rows + row,
            Layout::Rows => row * self.columns + column,
        }
    }

    /// The matrix as smartcore takes it, without copying.
    pub fn into_dense(self) -> DenseMatrix<T>
    where
        DenseMatrix<T>: Array2<T>,
    {
        DenseMatrix::new(self.rows, self.columns, self.values, self.layout == Layout::Columns)
            .expect("the values were made by the shape")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_hold_the_same_values() {
        for layout in [Layout::Columns, Layout::Rows] {
            let mut matrix = Matrix::<f32>::zeros(3, 2, layout);
            matrix.set(2, 1, 5.0);
            matrix.set(0, 1, -1.0);
            assert_eq!(matrix.get(2, 1), 5.0);
            assert_eq!(matrix.get(0, 1), -1.0);
            assert_eq!(matrix.get(2, 0), 0.0);
        }
    }

    #[test]
    fn values_beyond_f32_become_its_largest() {
        assert_eq!(f32::nearest(1e300), f32::MAX);
        assert_eq!(f32::nearest(-1e300), f32::MIN);
    }

    #[test]
    fn too_large_says_sizes() {
        let error = TooLarge { rows: 10, columns: 3, needed_bytes: 5_000_000, limit_bytes: 1_000_000 };
        assert_eq!(
            error.to_string(),
            "10 rows of 3 feature columns need about 5 MB to train on, and the memory limit is 1 MB"
        );
    }
}
