//! Principal components in place of the numbers they are made of.
//!
//! They are fitted in a second reading of the rows, on what the first made of the numeric columns: filled in, scaled
//! and so on. The columns of all other features stay as they are, before them.

use arrow::array::RecordBatch;
use gristmill_learn::decompose::{Pca, PcaSums};
use serde::{Deserialize, Serialize};

use super::{Feature, FeatureError, FittedFeatures, Output};
use crate::matrix::{Element, Layout, Matrix};

/// What is stored of components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Components {
    /// The columns that they are made of, among those that the features make.
    pub columns: Vec<u32>,
    pub pca: Pca,
}

impl Components {
    /// Whether they fit features of so many columns.
    pub fn fits(&self, width: usize) -> bool {
        self.columns.len() == self.pca.columns()
            && self.columns.is_sorted_by(|a, b| a < b)
            && self.columns.last().is_some_and(|last| (*last as usize) < width)
    }

    /// The columns of the matrix: those that stay, then the components.
    pub fn outputs(&self, made: &[Output]) -> Vec<Output> {
        let mut outputs: Vec<Output> = self.staying(made.len()).map(|at| made[at].clone()).collect();
        outputs.extend(self.pca.variances().iter().enumerate().map(|(at, variance)| Output {
            name: format!("pca{}", at + 1),
            mean: 0.0,
            std: variance.sqrt(),
            flag: false,
        }));
        outputs
    }

    /// Of each column of the matrix, which of the features' columns it is made of, and by what shares.
    pub fn sources(&self, width: usize) -> Vec<Vec<(usize, f64)>> {
        let mut sources: Vec<Vec<(usize, f64)>> = self.staying(width).map(|at| vec![(at, 1.0)]).collect();
        for component in self.pca.components() {
            // A component has the length 1, so the squares of its coefficients add up to 1.
            let shares =
                self.columns.iter().zip(component).map(|(&at, coefficient)| (at as usize, coefficient.powi(2)));
            sources.push(shares.collect());
        }
        sources
    }

    fn staying(&self, width: usize) -> impl Iterator<Item = usize> + '_ {
        (0..width).filter(|at| self.columns.binary_search(&(*at as u32)).is_err())
    }

    /// Writes rows of the features' columns into a matrix of the columns that they become.
    pub fn write<T: Element>(&self, made: &Matrix<f64>, matrix: &mut Matrix<T>, first_row: usize) {
        let staying: Vec<usize> = self.staying(made.columns()).collect();
        let mut numbers = Matrix::zeros(made.rows(), self.columns.len(), Layout::Rows);
        for row in 0..made.rows() {
            for (to, &from) in staying.iter().enumerate() {
                matrix.set(first_row + row, to, T::nearest(made.get(row, from)));
            }
            for (to, &from) in self.columns.iter().enumerate() {
                numbers.set(row, to, made.get(row, from as usize));
            }
        }
        let coordinates = self.pca.transform(&numbers);
        for row in 0..made.rows() {
            for (at, &value) in coordinates.row(row).iter().enumerate() {
                matrix.set(first_row + row, staying.len() + at, T::nearest(value));
            }
        }
    }
}

/// Fits components in a second reading of the training rows.
#[derive(Debug)]
pub struct ComponentsFitter {
    features: FittedFeatures,
    wanted: usize,
    columns: Vec<u32>,
    sums: PcaSums,
    row: u64,
}

impl ComponentsFitter {
    /// For features of which the pipeline wants components; else the features as they are.
    pub fn begin(features: FittedFeatures) -> Result<Result<ComponentsFitter, FittedFeatures>, FeatureError> {
        let Some(wanted) = features.components_wanted else { return Ok(Err(features)) };
        let mut columns = Vec::new();
        let mut at = 0;
        for feature in &features.data.features {
            let width = feature.width() as u32;
            if matches!(feature, Feature::Numeric { .. } | Feature::Number(_)) {
                // What says that a value was missing is no number.
                columns.push(at);
            }
            at += width;
        }
        if columns.len() < wanted {
            return Err(FeatureError::Components { wanted, columns: columns.len() });
        }
        let means = columns.iter().map(|&at| features.data.outputs[at as usize].mean).collect();
        let sums = PcaSums::new(means);
        Ok(Ok(ComponentsFitter { features, wanted, columns, sums, row: 0 }))
    }

    /// Takes the next rows, the same as in the first reading.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), FeatureError> {
        let made = self.features.made(batch, Some(self.row))?;
        self.row += batch.num_rows() as u64;
        let mut numbers = Matrix::zeros(made.rows(), self.columns.len(), Layout::Rows);
        for row in 0..made.rows() {
            for (to, &from) in self.columns.iter().enumerate() {
                let value = made.get(row, from as usize);
                if value.is_nan() {
                    return Err(FeatureError::ComponentsOfMissing);
                }
                numbers.set(row, to, value);
            }
        }
        self.sums.add(&numbers);
        Ok(())
    }

    /// The features with components.
    pub fn finish(self) -> Result<FittedFeatures, FeatureError> {
        let pca =
            self.sums.finish(self.wanted).map_err(|error| FeatureError::Decompose { reason: error.to_string() })?;
        Ok(self.features.with_components(Components { columns: self.columns, pca }))
    }
}
