//! The training rows in the shape that the algorithm reads: columns for trees, sparse rows for logistic
//! regression (dense ones for more than two classes), and sums of products for least squares, which need no
//! row a second time.
//!
//! How much memory training takes is estimated from sizes before the first row is read, so a table that is
//! too large is an error with numbers in it, not a killed process.

use std::sync::OnceLock;

use arrow::array::RecordBatch;
use gristmill_learn::forest::{Coded, ForestError};
use gristmill_protocol::pipeline::{Algorithm, Learning};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::gram::{self, Gram, GramBuilder};
use super::{TrainError, algorithm_name, check};
use crate::features::FittedFeatures;
use crate::matrix::{Layout, Matrix, TooLarge};
use crate::target::{Goal, Target};
use crate::weights::{WeightError, Weights};

/// The target values of the rows.
pub(super) enum Labels {
    /// Indexes of classes.
    Classes(Vec<u8>),
    Values(Vec<f64>),
}

/// Rows by their values other than zero, after each column's shift was subtracted.
pub(super) struct SparseRows {
    /// See [`super::gram::shifts`].
    pub shifts: Vec<f64>,
    /// 0 or 1 for each row.
    pub classes: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl SparseRows {
    pub fn count(&self) -> usize {
        self.classes.len()
    }

    /// The columns and values of a row, by rising column.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = if row == 0 { 0 } else { self.ends[row - 1] }..self.ends[row];
        self.columns[range.clone()].iter().map(|&column| column as usize).zip(self.values[range].iter().copied())
    }

    fn push(&mut self, rows: &Matrix<f64>, classes: impl Iterator<Item = u8>) {
        for (row, class) in classes.enumerate() {
            for ((value, shift), column) in rows.row(row).iter().zip(&self.shifts).zip(0..) {
                if value - shift != 0.0 {
                    self.columns.push(column);
                    self.values.push(value - shift);
                }
            }
            self.ends.push(self.columns.len());
            self.classes.push(class);
        }
    }
}

enum Design {
    /// For forests: the columns, and their codes once a tree is grown.
    Forest(Matrix<f32>, Labels, OnceLock<Result<Coded, ForestError>>),
    Columns(DenseMatrix<f32>, Labels),
    /// For boosting, neighbours and naive Bayes: the labels are numbers, or numbers of classes.
    Matrix(Matrix<f32>, Vec<f64>, Learning),
    Rows(DenseMatrix<f64>, Vec<u8>),
    /// For margins and groups: the labels are numbers of classes, or zeros.
    Numbers(Matrix<f64>, Vec<f64>),
    Sparse(SparseRows),
    Products(Gram),
}

/// The training rows, ready to be learned from.
pub struct TrainingSet {
    design: Design,
    /// Of the rows, unless they count the same.
    weights: Option<Vec<f64>>,
    rows: usize,
    columns: usize,
    outputs: usize,
}

impl TrainingSet {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The weights of the rows, unless they count the same.
    pub(super) fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn columns_and_labels(&self) -> (&DenseMatrix<f32>, &Labels) {
        match &self.design {
            Design::Columns(x, labels) => (x, labels),
            _ => {
                unreachable!("trees are trained on the set built for them")
            }
        }
    }

    /// The labels of a forest's set.
    pub(super) fn labels_of_trees(&self) -> &Labels {
        match &self.design {
            Design::Forest(_, labels, _) => labels,
            _ => unreachable!("a forest is grown on the set built for it"),
        }
    }

    /// The columns of a forest's set as codes, made when they are first asked for.
    pub(super) fn coded(&self, algorithm: &'static str) -> Result<&Coded, TrainError> {
        let Design::Forest(matrix, _, coded) = &self.design else {
            unreachable!("a forest is grown on the set built for it")
        };
        // Always the same seed: what is drawn for the cuts has nothing to do with what the trees draw.
        let coded = coded.get_or_init(|| Coded::new(matrix, 0));
        let fail = |error: &ForestError| TrainError::Fit { algorithm, message: error.to_string() };
        coded.as_ref().map_err(fail)
    }

    pub(super) fn matrix_and_labels(&self) -> (&Matrix<f32>, &[f64], Learning) {
        match &self.design {
            Design::Matrix(matrix, labels, learning) => (matrix, labels, *learning),
            _ => {
                unreachable!("they are trained on the set built for them")
            }
        }
    }

    /// The rows of margins and groups, laid out in rows.
    pub(super) fn numbers(&self) -> (&Matrix<f64>, &[f64]) {
        match &self.design {
            Design::Numbers(rows, labels) => (rows, labels),
            _ => unreachable!("margins and groups are fitted on the set built for them"),
        }
    }

    pub(super) fn rows_and_classes(&self) -> (&DenseMatrix<f64>, &Vec<u8>) {
        match &self.design {
            Design::Rows(x, classes) => (x, classes),
            _ => {
                unreachable!("multinomial regression is trained on the set built for it")
            }
        }
    }

    pub(super) fn sparse_rows(&self) -> &SparseRows {
        match &self.design {
            Design::Sparse(rows) => rows,
            _ => {
                unreachable!("logistic regression is trained on the set built for it")
            }
        }
    }

    pub(super) fn products(&self) -> &Gram {
        match &self.design {
            Design::Products(gram) => gram,
            _ => {
                unreachable!("least squares are trained on the set built for them")
            }
        }
    }
}

/// Bytes that training takes: of the set itself, and of each thread beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub set: u64,
    pub thread: u64,
}

impl Memory {
    /// An estimate from sizes: what smartcore 0.7.0 allocates for `rows` × `columns`, and our own matrix.
    /// `filled` is how many values of a row are other than zero at the most.
    pub fn estimate(algorithm: &Algorithm, rows: usize, columns: usize, filled: usize, outputs: usize) -> Memory {
        let (n, p, k) = (rows as u64, columns as u64, outputs as u64);
        match algorithm {
            // Four bytes a cell and two for its codes. A thread's: the rows of a tree with their sums, and histograms of
            // the nodes on the way down.
            Algorithm::RandomForest(_) | Algorithm::ExtraTrees(_) => {
                Memory { set: n * p * 6 + n * 8, thread: n * 64 + p * 4_096 * 16 }
            }
            // The rows twice (ours and the model's), or once more as numbers of eight bytes.
            Algorithm::KNearestNeighbors(_) => Memory { set: n * p * 8 + n * 24, thread: n * 8 },
            // The rows twice, for the parts that the curve is fitted on; what the kernel keeps of its values, or the
            // margin's shares.
            Algorithm::SupportVectorMachine(_) => Memory { set: n * p * 16 + n * 24, thread: 256 << 20 },
            Algorithm::KMeans(_) => Memory { set: n * p * 8 + n * 8, thread: p * 10_000 * 16 },
            // Once more as numbers of four bytes, and once as the cores.
            Algorithm::Dbscan(_) => Memory { set: n * p * 16 + n * 24, thread: n * 4 },
            Algorithm::NaiveBayes(_) => Memory { set: n * p * 4 + n * 8, thread: p * 65_536 * 8 },
            // The matrix, its bins, and for each row the scores, the derivatives and the row's number; once more the
            // matrix when rows are kept apart. The threads share it.
            Algorithm::GradientBoosting(settings) => {
                let copies = if settings.early_stopping.is_some() { 2 } else { 1 };
                Memory { set: n * p * (4 * copies + 1) + n * (8 + 40 * k), thread: p * 4_096 * 64 }
            }
            Algorithm::DecisionTree(_) => Memory { set: n * p * 4 + n * 8, thread: n * p * 8 + n * p * 4 + n * 50 },
            // Twelve bytes a value (and as much again while the lists grow), and the square problem.
            Algorithm::LogisticRegression(_) if outputs == 1 => {
                Memory { set: n * (filled as u64 * 24 + 9), thread: (p + 1) * (p + 1) * 8 * 12 }
            }
            // The matrix, an index a row, and the twenty vectors that L-BFGS remembers.
            Algorithm::LogisticRegression(_) => Memory { set: n * p * 8 + n, thread: n * 10 + p * k * 8 * 24 },
            // Sums of products, and smartcore's copies of the square problem.
            Algorithm::LinearRegression(_) | Algorithm::Ridge(_) | Algorithm::Lasso(_) | Algorithm::ElasticNet(_) => {
                Memory { set: (p + 1) * (p + 1) * 8, thread: (p + 1) * (p + 1) * 8 * 12 }
            }
        }
    }

    /// How many of `wanted` threads the limit allows; none when it doesn't allow one.
    pub fn threads_within(&self, limit_bytes: u64, wanted: usize) -> Option<usize> {
        let left = limit_bytes.checked_sub(self.set)?;
        let allowed = usize::try_from(left / self.thread.max(1)).unwrap_or(usize::MAX);
        (allowed > 0).then_some(allowed.min(wanted.max(1)))
    }
}

enum Building {
    Columns(Matrix<f32>, Labels),
    Matrix(Matrix<f32>, Vec<f64>),
    Forest(Matrix<f32>, Labels),
    Rows(Matrix<f64>, Vec<u8>),
    Numbers(Matrix<f64>, Vec<f64>),
    Sparse(SparseRows),
    Products(GramBuilder),
}

/// Fills a training set batch by batch.
pub struct TrainingSetBuilder<'a> {
    features: &'a FittedFeatures,
    target: &'a Target,
    building: Building,
    weighting: Weights,
    weights: Vec<f64>,
    filled: usize,
    expected: usize,
}

impl<'a> TrainingSetBuilder<'a> {
    /// Asks for the memory. `memory_limit` is in bytes and counts what training on one thread takes.
    pub fn new(
        features: &'a FittedFeatures,
        target: &'a Target,
        algorithm: &Algorithm,
        memory_limit: u64,
    ) -> Result<TrainingSetBuilder<'a>, TrainError> {
        check(algorithm, target)?;
        let (rows, columns) = (features.rows() as usize, features.outputs().len());
        let memory = Memory::estimate(algorithm, rows, columns, features.filled(), target.outputs());
        if memory.threads_within(memory_limit, 1).is_none() {
            let needed_bytes = memory.set + memory.thread;
            return Err(TooLarge { rows, columns, needed_bytes, limit_bytes: memory_limit }.into());
        }
        let building = match (algorithm, &target.goal) {
            (Algorithm::RandomForest(_) | Algorithm::ExtraTrees(_), goal) => Building::Forest(
                Matrix::zeros(rows, columns, Layout::Columns),
                match goal {
                    Goal::Classes { .. } => Labels::Classes(Vec::with_capacity(rows)),
                    Goal::Value { .. } | Goal::Groups => Labels::Values(Vec::with_capacity(rows)),
                },
            ),
            (Algorithm::DecisionTree(_), Goal::Classes { .. }) => Building::Columns(
                Matrix::zeros(rows, columns, Layout::Columns),
                Labels::Classes(Vec::with_capacity(rows)),
            ),
            (Algorithm::DecisionTree(_), Goal::Value { .. } | Goal::Groups) => Building::Columns(
                Matrix::zeros(rows, columns, Layout::Columns),
                Labels::Values(Vec::with_capacity(rows)),
            ),
            (Algorithm::GradientBoosting(_) | Algorithm::KNearestNeighbors(_) | Algorithm::NaiveBayes(_), _) => {
                Building::Matrix(Matrix::zeros(rows, columns, Layout::Columns), Vec::with_capacity(rows))
            }
            (Algorithm::SupportVectorMachine(_) | Algorithm::KMeans(_) | Algorithm::Dbscan(_), _) => {
                Building::Numbers(Matrix::zeros(rows, columns, Layout::Rows), Vec::with_capacity(rows))
            }
            (Algorithm::LogisticRegression(_), _) if target.outputs() == 1 => Building::Sparse(SparseRows {
                shifts: gram::shifts(features.outputs()),
                classes: Vec::with_capacity(rows),
                ends: Vec::with_capacity(rows),
                columns: Vec::new(),
                values: Vec::new(),
            }),
            (Algorithm::LogisticRegression(_), _) => {
                Building::Rows(Matrix::zeros(rows, columns, Layout::Rows), Vec::with_capacity(rows))
            }
            (_, Goal::Value { mean, .. }) => Building::Products(GramBuilder::new(features.outputs(), *mean)),
            (_, Goal::Classes { .. } | Goal::Groups) => unreachable!("the check refuses least squares for these"),
        };
        let (weighting, weights) = (Weights::default(), Vec::new());
        Ok(TrainingSetBuilder { features, target, building, weighting, weights, filled: 0, expected: rows })
    }

    /// Lets rows count differently; an error for algorithms that can't.
    pub fn with_weights(mut self, weights: Weights, algorithm: &Algorithm) -> Result<Self, TrainError> {
        let can = !matches!(self.building, Building::Columns(..) | Building::Rows(..))
            && !matches!(algorithm, Algorithm::KNearestNeighbors(_) | Algorithm::KMeans(_) | Algorithm::Dbscan(_));
        if !weights.is_even() && !can {
            return Err(TrainError::Unweighted { algorithm: algorithm_name(algorithm) });
        }
        self.weighting = weights;
        Ok(self)
    }

    /// Adds the rows of a batch.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), TrainError> {
        let after = self.filled + batch.num_rows();
        if after > self.expected {
            return Err(TrainError::RowsChanged { expected: self.expected, found: after });
        }
        let values = self.target.values(batch)?;
        let number = self.filled as u64;
        if !self.weighting.is_even() {
            self.weighting.push(batch, &values, number, &mut self.weights)?;
        }
        match &mut self.building {
            Building::Columns(matrix, labels) | Building::Forest(matrix, labels) => {
                self.features.transform_training(batch, matrix, self.filled, number)?;
                match labels {
                    Labels::Classes(classes) => classes.extend(values.iter().map(|&value| value as u8)),
                    Labels::Values(all) => all.extend(values),
                }
            }
            Building::Matrix(matrix, labels) => {
                self.features.transform_training(batch, matrix, self.filled, number)?;
                labels.extend(values);
            }
            Building::Numbers(matrix, labels) => {
                self.features.transform_training(batch, matrix, self.filled, number)?;
                labels.extend(values);
            }
            Building::Rows(matrix, classes) => {
                self.features.transform_training(batch, matrix, self.filled, number)?;
                classes.extend(values.iter().map(|&value| value as u8));
            }
            Building::Sparse(sparse) => {
                let mut rows = Matrix::zeros(batch.num_rows(), self.features.outputs().len(), Layout::Rows);
                self.features.transform_training(batch, &mut rows, 0, number)?;
                sparse.push(&rows, values.iter().map(|&value| value as u8));
            }
            Building::Products(gram) => {
                let mut rows = Matrix::zeros(batch.num_rows(), self.features.outputs().len(), Layout::Rows);
                self.features.transform_training(batch, &mut rows, 0, number)?;
                let weights = (!self.weighting.is_even()).then(|| &self.weights[self.filled..]);
                gram.push(&rows, &values, weights);
            }
        }
        self.filled = after;
        Ok(())
    }

    /// The filled set.
    pub fn finish(self) -> Result<TrainingSet, TrainError> {
        if self.filled != self.expected {
            return Err(TrainError::RowsChanged { expected: self.expected, found: self.filled });
        }
        let weights = (!self.weighting.is_even()).then_some(self.weights);
        if weights.as_ref().is_some_and(|weights| weights.iter().all(|weight| *weight == 0.0)) {
            return Err(WeightError::Nothing.into());
        }
        let design = match self.building {
            Building::Columns(matrix, labels) => Design::Columns(matrix.into_dense(), labels),
            Building::Forest(matrix, labels) => Design::Forest(matrix, labels, OnceLock::new()),
            Building::Matrix(matrix, labels) => Design::Matrix(matrix, labels, self.target.learning()),
            Building::Sparse(rows) => Design::Sparse(rows),
            Building::Numbers(matrix, labels) => Design::Numbers(matrix, labels),
            Building::Rows(matrix, classes) => Design::Rows(matrix.into_dense(), classes),
            Building::Products(gram) => Design::Products(gram.finish()),
        };
        Ok(TrainingSet {
            design,
            weights,
            rows: self.filled,
            columns: self.features.outputs().len(),
            outputs: self.target.outputs(),
        })
    }
}
