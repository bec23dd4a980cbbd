//! Attributions of a linear model: exact, since each feature's share doesn't depend on the others.

/// A linear model and where the rows that it is explained against have their mean.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearAttribution {
    coefficients: Vec<f64>,
    means: Vec<f64>,
    /// The mean row's prediction.
    base: f64,
}

impl LinearAttribution {
    /// Panics when coefficients and means differ in number.
    pub fn new(coefficients: Vec<f64>, intercept: f64, means: Vec<f64>) -> LinearAttribution {
        assert_eq!(coefficients.len(), means.len(), "each coefficient has its column's mean");
        let base = intercept + coefficients.iter().zip(&means).map(|(by, mean)| by * mean).sum::<f64>();
        LinearAttribution { coefficients, means, base }
    }

    /// The mean row's prediction, in the units of the linear part: log-odds for a logistic regression.
    pub fn base(&self) -> f64 {
        self.base
    }

    /// How far each feature moves the prediction of a row from the base: coefficient × (value - mean), the Shapley
    /// value when features are replaced independently (Štrumbelj and Kononenko 2014). They add up to the
    /// prediction less the base. Panics when the row has another number of columns.
    pub fn attribute(&self, row: &[f64]) -> Vec<f64> {
        assert_eq!(row.len(), self.means.len(), "a row has the columns of training");
        let columns = self.coefficients.iter().zip(&self.means).zip(row);
        columns.map(|((by, mean), value)| by * (value - mean)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_prediction_less_the_base() {
        let model = LinearAttribution::new(vec![2.0, -1.0, 0.0], 0.5, vec![1.0, 3.0, 9.0]);
        assert_eq!(model.base(), -0.5);
        assert_eq!(model.attribute(&[2.0, 1.0, 100.0]), [2.0, 2.0, 0.0]);
        assert_eq!(model.base() + 4.0, 0.5 + 2.0 * 2.0 - 1.0);
    }
}
