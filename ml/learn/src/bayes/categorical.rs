//! Columns of levels, each with its share within a class. Columns of two levels are Bernoulli's.

use serde::{Deserialize, Serialize};

use super::{CLASSES_MAX, normalise};
use crate::matrix::Matrix;
use crate::refusal::{Refusal, check_classes, check_rows, check_weights};

/// Levels of all columns and classes at the most: 80 MB of sums.
const SUMS_MAX: usize = 10_000_000;

/// The weight of each level of each column, by class.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoricalSums {
    levels: Vec<u32>,
    classes: Vec<f64>,
    /// For each class the levels of the first column, then of the next.
    sums: Vec<Vec<f64>>,
}

impl CategoricalSums {
    /// Nothing yet, for columns of so many levels each, and so many classes.
    pub fn new(levels: &[u32], classes: u32) -> Result<CategoricalSums, Refusal> {
        if !(1..=CLASSES_MAX).contains(&classes) {
            return Err(Refusal::Setting { name: "classes", value: f64::from(classes), wanted: "1 to 10000" });
        }
        let all: usize = levels.iter().map(|&levels| levels as usize).sum();
        if levels.contains(&0) || all.saturating_mul(classes as usize) > SUMS_MAX {
            let wanted = "1 or more a column, and 10 million for all classes";
            return Err(Refusal::Setting { name: "levels", value: all as f64, wanted });
        }
        let classes = classes as usize;
        Ok(CategoricalSums {
            levels: levels.to_vec(),
            classes: vec![0.0; classes],
            sums: vec![vec![0.0; all]; classes],
        })
    }

    /// Adds rows (laid out in rows) whose values are the numbers of levels, their classes and weights.
    pub fn add(&mut self, rows: &Matrix<f64>, labels: &[u32], weights: Option<&[f64]>) -> Result<(), Refusal> {
        check_rows("naive Bayes", rows, 0, usize::MAX)?;
        check_classes(rows.rows(), labels, self.classes.len() as u32)?;
        check_weights(rows.rows(), weights)?;
        if rows.columns() != self.levels.len() {
            return Err(Refusal::Shape { what: "columns", expected: self.levels.len(), found: rows.columns() });
        }
        for row in 0..rows.rows() {
            let outside =
                rows.row(row).iter().zip(&self.levels).find(|(value, levels)| level(**value, **levels).is_none());
            if let Some((&value, _)) = outside {
                return Err(Refusal::Value { what: "level in a column", row, value, wanted: "a number of its levels" });
            }
        }
        for (row, &label) in labels.iter().enumerate() {
            let weight = weights.map_or(1.0, |weights| weights[row]);
            self.classes[label as usize] += weight;
            let mut start = 0;
            for (&value, &levels) in rows.row(row).iter().zip(&self.levels) {
                self.sums[label as usize][start + value as usize] += weight;
                start += levels as usize;
            }
        }
        Ok(())
    }

    /// Adds the sums of other rows. Panics if they are of other columns or classes.
    pub fn merge(&mut self, other: &CategoricalSums) {
        assert_eq!((&self.levels, self.classes.len()), (&other.levels, other.classes.len()), "sums of one model");
        self.classes.iter_mut().zip(&other.classes).for_each(|(sum, other)| *sum += other);
        let sums = self.sums.iter_mut().flatten();
        sums.zip(other.sums.iter().flatten()).for_each(|(sum, other)| *sum += other);
    }

    /// The model; `alpha` (over 0, customarily 1) is added to each sum, so that a level that a class never
    /// had isn't impossible.
    pub fn finish(&self, alpha: f64) -> Result<Categorical, Refusal> {
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Err(Refusal::Setting { name: "alpha", value: alpha, wanted: "over 0" });
        }
        let total: f64 = self.classes.iter().sum();
        if total == 0.0 {
            return Err(Refusal::Rows { method: "naive Bayes", rows: 0, least: 1, most: usize::MAX });
        }
        let mut shares = Vec::new();
        for (class, sums) in self.classes.iter().zip(&self.sums) {
            let mut start = 0;
            for &levels in &self.levels {
                let all = (class + alpha * f64::from(levels)).ln();
                let column = &sums[start..start + levels as usize];
                shares.extend(column.iter().map(|sum| (sum + alpha).ln() - all));
                start += levels as usize;
            }
        }
        // A class without rows is unlikely beyond any number.
        let prior = |sum: &f64| if *sum > 0.0 { (sum / total).ln() } else { f64::MIN };
        Ok(Categorical { levels: self.levels.clone(), priors: self.classes.iter().map(prior).collect(), shares })
    }
}

/// The number of a level, if the value is one.
fn level(value: f64, levels: u32) -> Option<usize> {
    (value >= 0.0 && value < f64::from(levels) && value.fract() == 0.0).then_some(value as usize)
}

/// A fitted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "CategoricalData", into = "CategoricalData")]
pub struct Categorical {
    levels: Vec<u32>,
    /// For each class the logarithm of its share.
    priors: Vec<f64>,
    /// The logarithm of each level's share: class by class, column by column.
    shares: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct CategoricalData {
    levels: Vec<u32>,
    priors: Vec<f64>,
    shares: Vec<f64>,
}

impl From<Categorical> for CategoricalData {
    fn from(model: Categorical) -> CategoricalData {
        CategoricalData { levels: model.levels, priors: model.priors, shares: model.shares }
    }
}

impl TryFrom<CategoricalData> for Categorical {
    type Error = String;

    fn try_from(data: CategoricalData) -> Result<Categorical, String> {
        let CategoricalData { levels, priors, shares } = data;
        let all: usize = levels.iter().map(|&levels| levels as usize).sum();
        if priors.is_empty() || levels.contains(&0) || all.checked_mul(priors.len()) != Some(shares.len()) {
            return Err(format!("{} shares don't make {} classes of {all} levels", shares.len(), priors.len()));
        }
        if !priors.iter().chain(&shares).all(|logarithm| logarithm.is_finite() && *logarithm <= 0.0) {
            return Err("a share of a naive Bayes model is not between 0 and 1".to_owned());
        }
        Ok(Categorical { levels, priors, shares })
    }
}

impl Categorical {
    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.levels.len()
    }

    /// How many probabilities it gives a row.
    pub fn classes(&self) -> usize {
        self.priors.len()
    }

    /// The probabilities of all classes, row by row, of a matrix laid out in rows. A value that is not a
    /// level says nothing.
    pub fn predict(&self, rows: &Matrix<f64>) -> Vec<f64> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let all = self.shares.len() / self.classes();
        let mut probabilities = Vec::with_capacity(rows.rows() * self.classes());
        for row in 0..rows.rows() {
            let first = probabilities.len();
            probabilities.extend_from_slice(&self.priors);
            let mut start = 0;
            for (&value, &levels) in rows.row(row).iter().zip(&self.levels) {
                if let Some(level) = level(value, levels) {
                    let classes = probabilities[first..].iter_mut().enumerate();
                    classes.for_each(|(class, sum)| *sum += self.shares[class * all + start + level]);
                }
                start += levels as usize;
            }
            normalise(&mut probabilities[first..]);
        }
        probabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;
    use crate::samples;

    fn levels(seed: u64, levels: u32) -> Matrix<f64> {
        let rows = samples::wide(&samples::matrix(seed, 500, 4, Layout::Rows));
        let mut coded = Matrix::zeros(500, 4, Layout::Rows);
        let level = |value: f64| ((value + 1.0) / 2.0 * f64::from(levels)).floor().clamp(0.0, f64::from(levels - 1));
        (0..500).for_each(|row| (0..4).for_each(|column| coded.set(row, column, level(rows.get(row, column)))));
        coded
    }

    fn fit(count: u32) -> Categorical {
        let labels = samples::two_classes(&samples::matrix(1, 500, 4, Layout::Rows));
        let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let mut sums = CategoricalSums::new(&[count; 4], 2).unwrap();
        sums.add(&levels(1, count), &labels, None).unwrap();
        sums.finish(1.0).unwrap()
    }

    /// `CategoricalNB(min_categories=4)` for `floor((X + 1) * 2)` and `BernoulliNB()` for `X > 0`:
    /// `predict_proba(X2)[:3, 1]`.
    #[test]
    fn probabilities_are_those_of_scikit_learn() {
        for (count, expected) in
            [(4, [0.8766457577, 0.2213071502, 0.2809146564]), (2, [0.9066182622, 0.1415403706, 0.1675650363])]
        {
            let ours = fit(count).predict(&levels(2, count));
            (0..3).for_each(|row| assert!((ours[2 * row + 1] - expected[row]).abs() < 1e-9, "{}", ours[2 * row + 1]));
        }
    }

    #[test]
    fn unknown_levels_say_nothing_at_scoring_and_are_refused_in_training() {
        let mut rows = Matrix::zeros(1, 4, Layout::Rows);
        (0..4).for_each(|column| rows.set(0, column, 7.0));
        let model = fit(4);
        let probabilities = model.predict(&rows);
        assert!((probabilities[0].ln() - model.priors[0]).abs() < 1e-12);
        let refused = CategoricalSums::new(&[4; 4], 2).unwrap().add(&rows, &[0], None).unwrap_err().to_string();
        assert_eq!(refused, "the level in a column of row 0 is 7, and must be a number of its levels");
    }

    #[test]
    fn damage_is_refused() {
        let stored = serde_json::to_value(fit(4)).unwrap();
        assert_eq!(serde_json::from_value::<Categorical>(stored.clone()).unwrap().classes(), 2);
        for (key, value) in [("levels", "[4,4,4]"), ("priors", "[]"), ("priors", "[0.5, -1]")] {
            let mut damaged = stored.clone();
            damaged[key] = serde_json::from_str(value).unwrap();
            assert!(serde_json::from_value::<Categorical>(damaged).is_err(), "{key}");
        }
    }
}
