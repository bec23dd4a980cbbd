//! Columns that are normally distributed within a class.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::{CLASSES_MAX, normalise};
use crate::matrix::Matrix;
use crate::refusal::{Refusal, check_classes, check_rows, check_weights};

/// The share of the largest variance that is added to all: a column that is constant in a class would
/// divide by zero (`var_smoothing` of scikit-learn).
pub const SMOOTHING: f64 = 1e-9;
/// The least that is added, for rows that are all the same.
const VARIANCE_MIN: f64 = 1e-300;

/// Weights, means and sums of squared distances to them, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct GaussianSums {
    columns: usize,
    classes: Vec<ClassSums>,
}

#[derive(Clone, Debug, PartialEq)]
struct ClassSums {
    weight: f64,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl GaussianSums {
    /// Nothing yet, for so many columns and classes.
    pub fn new(columns: usize, classes: u32) -> Result<GaussianSums, Refusal> {
        if !(1..=CLASSES_MAX).contains(&classes) {
            return Err(Refusal::Setting { name: "classes", value: f64::from(classes), wanted: "1 to 10000" });
        }
        let sums = ClassSums { weight: 0.0, means: vec![0.0; columns], squares: vec![0.0; columns] };
        Ok(GaussianSums { columns, classes: vec![sums; classes as usize] })
    }

    /// Adds rows (laid out in rows), their classes and weights.
    pub fn add(&mut self, rows: &Matrix<f64>, labels: &[u32], weights: Option<&[f64]>) -> Result<(), Refusal> {
        check_rows("naive Bayes", rows, 0, usize::MAX)?;
        check_classes(rows.rows(), labels, self.classes.len() as u32)?;
        check_weights(rows.rows(), weights)?;
        if rows.columns() != self.columns {
            return Err(Refusal::Shape { what: "columns", expected: self.columns, found: rows.columns() });
        }
        for (row, &label) in labels.iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[row]);
            if weight > 0.0 {
                self.classes[label as usize].add(rows.row(row), weight);
            }
        }
        Ok(())
    }

    /// Adds the sums of other rows. Panics if they are of other columns or classes.
    pub fn merge(&mut self, other: &GaussianSums) {
        assert_eq!((self.columns, self.classes.len()), (other.columns, other.classes.len()), "sums of one model");
        self.classes.iter_mut().zip(&other.classes).for_each(|(sums, other)| sums.merge(other));
    }

    /// The model. A class without rows gets the probability 0.
    pub fn finish(&self) -> Result<Gaussian, Refusal> {
        let mut all = ClassSums { weight: 0.0, means: vec![0.0; self.columns], squares: vec![0.0; self.columns] };
        self.classes.iter().for_each(|sums| all.merge(sums));
        if all.weight == 0.0 {
            return Err(Refusal::Rows { method: "naive Bayes", rows: 0, least: 1, most: usize::MAX });
        }
        let largest = all.squares.iter().fold(0.0, |largest: f64, square| largest.max(square / all.weight));
        let added = (SMOOTHING * largest).max(VARIANCE_MIN);
        let known: Vec<&ClassSums> = self.classes.iter().filter(|sums| sums.weight > 0.0).collect();
        let class = |sums: &&ClassSums| sums.squares.iter().map(|square| square / sums.weight + added).collect();
        Ok(Gaussian {
            classes: self.classes.len() as u32,
            known: (0..).zip(&self.classes).filter(|(_, sums)| sums.weight > 0.0).map(|(class, _)| class).collect(),
            shares: known.iter().map(|sums| sums.weight / all.weight).collect(),
            means: known.iter().map(|sums| sums.means.clone()).collect(),
            variances: known.iter().map(class).collect(),
        })
    }
}

impl ClassSums {
    /// Welford's update with weights (West 1979, "Updating mean and variance estimates").
    fn add(&mut self, row: &[f64], weight: f64) {
        self.weight += weight;
        for ((mean, square), &value) in self.means.iter_mut().zip(&mut self.squares).zip(row) {
            let distance = value - *mean;
            *mean += distance * weight / self.weight;
            *square += weight * distance * (value - *mean);
        }
    }

    /// Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    fn merge(&mut self, other: &ClassSums) {
        if other.weight == 0.0 {
            return;
        }
        let weight = self.weight + other.weight;
        for at in 0..self.means.len() {
            let distance = other.means[at] - self.means[at];
            self.means[at] += distance * other.weight / weight;
            self.squares[at] += other.squares[at] + distance * distance * self.weight * other.weight / weight;
        }
        self.weight = weight;
    }
}

/// A fitted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "GaussianData", into = "GaussianData")]
pub struct Gaussian {
    classes: u32,
    /// The classes that had rows, ascending, and for each its share, means and variances.
    known: Vec<u32>,
    shares: Vec<f64>,
    means: Vec<Vec<f64>>,
    variances: Vec<Vec<f64>>,
}

#[derive(Serialize, Deserialize)]
struct GaussianData {
    classes: u32,
    known: Vec<u32>,
    shares: Vec<f64>,
    means: Vec<Vec<f64>>,
    variances: Vec<Vec<f64>>,
}

impl From<Gaussian> for GaussianData {
    fn from(model: Gaussian) -> GaussianData {
        let Gaussian { classes, known, shares, means, variances } = model;
        GaussianData { classes, known, shares, means, variances }
    }
}

impl TryFrom<GaussianData> for Gaussian {
    type Error = String;

    fn try_from(data: GaussianData) -> Result<Gaussian, String> {
        let GaussianData { classes, known, shares, means, variances } = data;
        let columns = means.first().map_or(0, Vec::len);
        let lengths = [shares.len(), means.len(), variances.len()];
        if known.is_empty()
            || lengths.iter().any(|&length| length != known.len())
            || means.iter().chain(&variances).any(|numbers| numbers.len() != columns)
        {
            return Err("the parts of a naive Bayes model have different lengths".to_owned());
        }
        if classes > CLASSES_MAX || known.iter().any(|&class| class >= classes) || !known.is_sorted_by(|a, b| a < b) {
            return Err(format!("the classes of a naive Bayes model are not among {classes}"));
        }
        let positive = |number: &f64| *number > 0.0 && number.is_finite();
        if !shares.iter().chain(variances.iter().flatten()).all(positive)
            || !means.iter().flatten().all(|mean| mean.is_finite())
        {
            return Err("a share, mean or variance of a naive Bayes model is not a sound number".to_owned());
        }
        Ok(Gaussian { classes, known, shares, means, variances })
    }
}

impl Gaussian {
    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.means[0].len()
    }

    /// How many probabilities it gives a row.
    pub fn classes(&self) -> usize {
        self.classes as usize
    }

    /// The probabilities of all classes, row by row, of a matrix laid out in rows.
    pub fn predict(&self, rows: &Matrix<f64>) -> Vec<f64> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let constant = |at: usize| {
            self.shares[at].ln()
                - 0.5 * self.variances[at].iter().map(|variance| (2.0 * PI * variance).ln()).sum::<f64>()
        };
        let constants: Vec<f64> = (0..self.known.len()).map(constant).collect();
        let mut probabilities = vec![0.0; rows.rows() * self.classes()];
        let mut logarithms = vec![0.0; self.known.len()];
        for (row, probabilities) in probabilities.chunks_exact_mut(self.classes()).enumerate() {
            let values = rows.row(row);
            for (at, logarithm) in logarithms.iter_mut().enumerate() {
                let distances = values.iter().zip(&self.means[at]).zip(&self.variances[at]);
                *logarithm = constants[at] - 0.5 * distances.map(|((x, m), v)| (x - m) * (x - m) / v).sum::<f64>();
            }
            normalise(&mut logarithms);
            self.known.iter().zip(&logarithms).for_each(|(&class, &p)| probabilities[class as usize] = p);
        }
        probabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;
    use crate::samples;

    fn fit(weights: Option<&[f64]>) -> Gaussian {
        let (rows, labels) = train();
        let mut sums = GaussianSums::new(4, 2).unwrap();
        sums.add(&rows, &labels, weights).unwrap();
        sums.finish().unwrap()
    }

    fn train() -> (Matrix<f64>, Vec<u32>) {
        let rows = samples::matrix(1, 500, 4, Layout::Rows);
        (samples::wide(&rows), samples::two_classes(&rows).iter().map(|&label| label as u32).collect())
    }

    /// `GaussianNB().fit(X, y).predict_proba(X2)[:3, 1]`, and with the weights 1, 2, 3, 4 in turn.
    #[test]
    fn probabilities_are_those_of_scikit_learn() {
        let test = samples::wide(&samples::matrix(2, 500, 4, Layout::Rows));
        let close = |model: Gaussian, expected: [f64; 3]| {
            let ours = model.predict(&test);
            (0..3).for_each(|row| assert!((ours[2 * row + 1] - expected[row]).abs() < 1e-9, "{}", ours[2 * row + 1]));
        };
        close(fit(None), [0.8139204852, 0.1181429779, 0.0598967828]);
        let weights: Vec<f64> = (0..500).map(|row| f64::from(row % 4 + 1)).collect();
        close(fit(Some(&weights)), [0.7912411827, 0.0993276469, 0.0452670107]);
    }

    #[test]
    fn sums_of_parts_merge() {
        let (rows, labels) = train();
        let mut sums = GaussianSums::new(4, 2).unwrap();
        for range in [0..100, 100..101, 101..500] {
            let mut part = Matrix::zeros(range.len(), 4, Layout::Rows);
            for (at, row) in range.clone().enumerate() {
                (0..4).for_each(|column| part.set(at, column, rows.get(row, column)));
            }
            let mut piece = GaussianSums::new(4, 2).unwrap();
            piece.add(&part, &labels[range], None).unwrap();
            sums.merge(&piece);
        }
        let (merged, whole) = (sums.finish().unwrap().predict(&rows), fit(None).predict(&rows));
        assert!(merged.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn what_is_stored_is_read_back_and_damage_is_refused() {
        let model = fit(None);
        let stored = serde_json::to_value(&model).unwrap();
        let read: Gaussian = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(read.columns(), 4);
        for (key, value) in [("shares", "[0.5]"), ("variances", "[[1,1,1,1],[1,1,1,0]]"), ("known", "[0,2]")] {
            let mut damaged = stored.clone();
            damaged[key] = serde_json::from_str(value).unwrap();
            assert!(serde_json::from_value::<Gaussian>(damaged).is_err(), "{key}");
        }
    }

    #[test]
    fn a_class_without_rows_is_never_likely() {
        let (rows, labels) = train();
        let mut sums = GaussianSums::new(4, 3).unwrap();
        sums.add(&rows, &labels, None).unwrap();
        assert_eq!(sums.finish().unwrap().predict(&rows)[2], 0.0);
        assert!(GaussianSums::new(4, 2).unwrap().finish().is_err());
    }
}
