//! Predicting from the nearest rows: the model is the rows themselves, found through a tree.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::matrix::{Layout, Matrix};
use crate::near::{Near, Neighbor};
use crate::refusal::Refusal;

/// Rows at the most: they are the model, and are counted in 32 bits.
pub const ROWS_MAX: usize = 10_000_000;

/// What is predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// The number of each row: the mean of the neighbours'.
    Numbers(Vec<f64>),
    /// The class of each row, under `classes`: the shares of the neighbours' classes.
    Classes { classes: u32, labels: Vec<u32> },
}

/// How to predict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Neighbours that are asked.
    pub neighbors: u32,
    /// Whether a neighbour counts by one over its distance (one at the very place counts alone).
    pub by_distance: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { neighbors: 5, by_distance: false }
    }
}

/// Rows and what they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "NeighborsData", into = "NeighborsData")]
pub struct Neighbors {
    settings: Settings,
    targets: Targets,
    matrix: Matrix<f32>,
    near: Near,
}

impl PartialEq for Neighbors {
    fn eq(&self, other: &Neighbors) -> bool {
        // How near rows are found follows from them.
        (self.settings, &self.targets, &self.matrix) == (other.settings, &other.targets, &other.matrix)
    }
}

#[derive(Serialize, Deserialize)]
struct NeighborsData {
    settings: Settings,
    targets: Targets,
    columns: u32,
    /// Row by row, little-endian.
    values: serde_bytes::ByteBuf,
}

impl From<Neighbors> for NeighborsData {
    fn from(model: Neighbors) -> NeighborsData {
        let rows = (0..model.matrix.rows()).flat_map(|row| model.matrix.row(row));
        let values: Vec<u8> = rows.flat_map(|value| value.to_le_bytes()).collect();
        let columns = model.matrix.columns() as u32;
        NeighborsData { settings: model.settings, targets: model.targets, columns, values: values.into() }
    }
}

impl TryFrom<NeighborsData> for Neighbors {
    type Error = String;

    fn try_from(data: NeighborsData) -> Result<Neighbors, String> {
        let (values, rest) = data.values.as_chunks::<4>();
        let columns = data.columns as usize;
        if !rest.is_empty() || columns == 0 || !values.len().is_multiple_of(columns) {
            return Err(format!("{} bytes don't make rows of {columns} columns", data.values.len()));
        }
        let mut matrix = Matrix::zeros(values.len() / columns, columns, Layout::Rows);
        for (at, value) in values.iter().enumerate() {
            matrix.set(at / columns, at % columns, f32::from_le_bytes(*value));
        }
        Neighbors::fit(data.settings, matrix, data.targets).map_err(|refusal| refusal.to_string())
    }
}

impl Neighbors {
    /// Keeps the rows (laid out in rows) and puts them into a tree.
    pub fn fit(settings: Settings, matrix: Matrix<f32>, targets: Targets) -> Result<Neighbors, Refusal> {
        let rows = matrix.rows();
        if matrix.layout() != Layout::Rows {
            return Err(Refusal::Layout { method: "nearest neighbours" });
        }
        if matrix.columns() == 0 {
            return Err(Refusal::Shape { what: "columns", expected: 1, found: 0 });
        }
        if settings.neighbors == 0 {
            return Err(Refusal::Setting { name: "neighbors", value: 0.0, wanted: "1 or more" });
        }
        let least = settings.neighbors as usize;
        if !(least..=ROWS_MAX).contains(&rows) {
            return Err(Refusal::Rows { method: "nearest neighbours", rows, least, most: ROWS_MAX });
        }
        for row in 0..rows {
            if let Some(&value) = matrix.row(row).iter().find(|value| !value.is_finite()) {
                let value = f64::from(value);
                return Err(Refusal::Value { what: "value in a column", row, value, wanted: "a finite number" });
            }
        }
        match &targets {
            Targets::Numbers(numbers) => {
                crate::refusal::check_length("labels", rows, numbers.len())?;
                if let Some((row, &value)) = numbers.iter().enumerate().find(|(_, number)| !number.is_finite()) {
                    return Err(Refusal::Value { what: "label", row, value, wanted: "a finite number" });
                }
            }
            Targets::Classes { classes, labels } => crate::refusal::check_classes(rows, labels, *classes)?,
        }
        let near = Near::new(&matrix);
        Ok(Neighbors { settings, targets, matrix, near })
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.matrix.columns()
    }

    /// How many predictions it gives a row.
    pub fn outputs(&self) -> usize {
        match &self.targets {
            Targets::Numbers(_) => 1,
            Targets::Classes { classes, .. } => *classes as usize,
        }
    }

    /// The predictions of each row of a matrix laid out in rows, side by side: a number, or the probability
    /// of each class. Missing values can't be compared: fill them first.
    pub fn predict(&self, rows: &Matrix<f32>) -> Result<Vec<f64>, Refusal> {
        if rows.columns() != self.columns() {
            return Err(Refusal::Shape { what: "columns", expected: self.columns(), found: rows.columns() });
        }
        let missing = (0..rows.rows()).find(|&row| rows.row(row).iter().any(|value| !value.is_finite()));
        if let Some(row) = missing {
            let value = f64::NAN;
            return Err(Refusal::Value { what: "value in a column", row, value, wanted: "a finite number" });
        }
        let mut predictions = vec![0.0; rows.rows() * self.outputs()];
        predictions.par_chunks_mut(self.outputs()).enumerate().for_each(|(row, predictions)| {
            self.ask(&self.near.nearest(rows.row(row), self.settings.neighbors as usize), predictions);
        });
        Ok(predictions)
    }

    fn ask(&self, neighbors: &[Neighbor], predictions: &mut [f64]) {
        let at_place = neighbors.first().is_some_and(|nearest| nearest.square == 0.0);
        let weight = |neighbor: &Neighbor| match self.settings.by_distance {
            false => 1.0,
            true if at_place => f64::from(u8::from(neighbor.square == 0.0)),
            true => 1.0 / neighbor.square.sqrt(),
        };
        let total: f64 = neighbors.iter().map(weight).sum();
        for neighbor in neighbors {
            let share = weight(neighbor) / total;
            match &self.targets {
                Targets::Numbers(numbers) => predictions[0] += numbers[neighbor.row as usize] * share,
                Targets::Classes { labels, .. } => predictions[labels[neighbor.row as usize] as usize] += share,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn classes() -> Targets {
        let labels = samples::two_classes(&samples::matrix(1, 500, 4, Layout::Rows));
        Targets::Classes { classes: 2, labels: labels.iter().map(|&label| label as u32).collect() }
    }

    fn fit(neighbors: u32, by_distance: bool, targets: Targets) -> Neighbors {
        let settings = Settings { neighbors, by_distance };
        Neighbors::fit(settings, samples::matrix(1, 500, 4, Layout::Rows), targets).unwrap()
    }

    fn test() -> Matrix<f32> {
        samples::matrix(2, 500, 4, Layout::Rows)
    }

    /// The sums of `KNeighborsClassifier(7).fit(X, y).predict_proba(X2)[:, 1]` (the second with
    /// `weights="distance"`) and of `KNeighborsRegressor(5)` for `3 x0 + sin(4 x1)`.
    #[test]
    fn predictions_are_those_of_scikit_learn() {
        let sum = |predictions: Vec<f64>, step: usize| predictions.iter().skip(step - 1).step_by(step).sum::<f64>();
        for (by_distance, expected) in [(false, 255.5714285714286), (true, 255.60524257520092)] {
            let ours = sum(fit(7, by_distance, classes()).predict(&test()).unwrap(), 2);
            assert!((ours - expected).abs() < 1e-8, "{ours}");
        }
        let curve = |matrix: &Matrix<f32>| samples::labels(matrix, |x, _| 3.0 * x[0] + (4.0 * x[1]).sin());
        let numbers = Targets::Numbers(curve(&samples::matrix(1, 500, 4, Layout::Rows)));
        let ours = sum(fit(5, false, numbers).predict(&test()).unwrap(), 1);
        assert!((ours - 9.4454040671364).abs() < 1e-8, "{ours}");
    }

    #[test]
    fn a_row_at_the_very_place_counts_alone() {
        let model = fit(7, true, classes());
        let Targets::Classes { labels, .. } = classes() else { unreachable!() };
        let predicted = model.predict(&samples::matrix(1, 500, 4, Layout::Rows)).unwrap();
        assert!((0..500).all(|row| predicted[2 * row + labels[row] as usize] == 1.0));
    }

    #[test]
    fn what_is_stored_is_read_back_and_damage_is_refused() {
        let model = fit(7, false, classes());
        let bytes = rmp_serde::to_vec_named(&model).unwrap();
        let read: Neighbors = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read.predict(&test()).unwrap(), model.predict(&test()).unwrap());
        let damage = |change: fn(&mut NeighborsData)| {
            let mut data = NeighborsData::from(model.clone());
            change(&mut data);
            Neighbors::try_from(data).unwrap_err()
        };
        assert_eq!(damage(|data| data.columns = 0), "8000 bytes don't make rows of 0 columns");
        assert_eq!(damage(|data| data.columns = 5), "there are 500 labels where 400 belong");
        assert!(damage(|data| data.values[2..4].copy_from_slice(&[0x80, 0x7f])).contains("must be a finite number"));
        assert!(damage(|data| data.settings.neighbors = 501).contains("takes 501"));
    }

    #[test]
    fn missing_values_are_refused() {
        let mut rows = test();
        rows.set(3, 1, f32::NAN);
        let refused = fit(7, false, classes()).predict(&rows).unwrap_err().to_string();
        assert_eq!(refused, "the value in a column of row 3 is NaN, and must be a finite number");
    }
}
