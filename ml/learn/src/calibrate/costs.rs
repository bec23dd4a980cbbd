//! Decisions when some mistakes cost more than others.

use serde::{Deserialize, Serialize};

/// What it costs to take a row of one class (first index) for another (second index). Gains are negative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<f64>>", into = "Vec<Vec<f64>>")]
pub struct CostMatrix {
    costs: Vec<Vec<f64>>,
}

/// What is wrong with a cost matrix.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CostsError {
    #[error("a cost matrix has a row for each class and in it a cost for each class, from 2 classes on")]
    Shape,
    #[error("the cost of taking class {actual} for class {decided} is `{cost}`")]
    Cost { actual: usize, decided: usize, cost: f64 },
}

impl From<CostMatrix> for Vec<Vec<f64>> {
    fn from(matrix: CostMatrix) -> Vec<Vec<f64>> {
        matrix.costs
    }
}

impl TryFrom<Vec<Vec<f64>>> for CostMatrix {
    type Error = CostsError;

    fn try_from(costs: Vec<Vec<f64>>) -> Result<CostMatrix, CostsError> {
        if costs.len() < 2 || costs.iter().any(|row| row.len() != costs.len()) {
            return Err(CostsError::Shape);
        }
        for (actual, row) in costs.iter().enumerate() {
            if let Some(decided) = row.iter().position(|cost| !cost.is_finite()) {
                return Err(CostsError::Cost { actual, decided, cost: row[decided] });
            }
        }
        Ok(CostMatrix { costs })
    }
}

impl CostMatrix {
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.costs.len()
    }

    /// What it costs to take a row of class `actual` for one of class `decided`.
    pub fn cost(&self, actual: usize, decided: usize) -> f64 {
        self.costs[actual][decided]
    }

    /// The class that costs the least on average, given the probability of each class; of equal ones the first.
    /// Panics when there isn't one probability a class.
    pub fn decide(&self, probabilities: &[f64]) -> usize {
        assert_eq!(probabilities.len(), self.classes(), "each class has its probability");
        let expected = |class: usize| probabilities.iter().zip(&self.costs).map(|(p, row)| p * row[class]).sum::<f64>();
        (1..self.classes()).fold(0, |best, class| if expected(class) < expected(best) { class } else { best })
    }

    /// For two classes the probability of class 1 from which on class 1 is the cheaper decision (Elkan 2001,
    /// "The Foundations of Cost-Sensitive Learning"). None for more classes, and where a mistake isn't dearer
    /// than being right.
    pub fn threshold(&self) -> Option<f64> {
        if self.classes() != 2 {
            return None;
        }
        let false_positive = self.cost(0, 1) - self.cost(0, 0);
        let false_negative = self.cost(1, 0) - self.cost(1, 1);
        let both = false_positive > 0.0 && false_negative > 0.0;
        both.then(|| false_positive / (false_positive + false_negative))
    }
}
