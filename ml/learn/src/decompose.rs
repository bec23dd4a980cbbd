//! Principal components: the directions in which rows vary most.
//!
//! Through the covariance matrix and its eigenvectors, found by Jacobi's rotations (Golub and Van Loan 2013,
//! "Matrix computations", section 8.5): simple, accurate to the last digits, and the same everywhere. Signs
//! are those of scikit-learn: the largest coefficient of a component is positive.

use serde::{Deserialize, Serialize};

use crate::matrix::{Layout, Matrix};
use crate::refusal::{Refusal, check_rows};

/// Columns at the most: a sweep takes some 6 · columns³ steps, and there are about ten: a minute.
pub const COLUMNS_MAX: usize = 1_000;
/// Sweeps at the most. Convergence is quadratic; ten are usual.
const SWEEPS_MAX: usize = 60;

/// Fitted components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "PcaData", into = "PcaData")]
pub struct Pca {
    means: Vec<f64>,
    /// Unit vectors, from the one with the largest variance on.
    components: Vec<Vec<f64>>,
    variances: Vec<f64>,
    total_variance: f64,
}

#[derive(Serialize, Deserialize)]
struct PcaData {
    means: Vec<f64>,
    components: Vec<Vec<f64>>,
    variances: Vec<f64>,
    total_variance: f64,
}

impl From<Pca> for PcaData {
    fn from(pca: Pca) -> PcaData {
        let Pca { means, components, variances, total_variance } = pca;
        PcaData { means, components, variances, total_variance }
    }
}

impl TryFrom<PcaData> for Pca {
    type Error = String;

    fn try_from(data: PcaData) -> Result<Pca, String> {
        let PcaData { means, components, variances, total_variance } = data;
        if components.is_empty()
            || components.len() != variances.len()
            || components.iter().any(|component| component.len() != means.len())
        {
            return Err(format!("{} components don't fit {} columns", components.len(), means.len()));
        }
        let mut numbers = means.iter().chain(&variances).chain(components.iter().flatten());
        if !numbers.all(|number| number.is_finite()) || !(0.0..=f64::MAX).contains(&total_variance) {
            return Err("a component has a coefficient that is not a number".to_owned());
        }
        Ok(Pca { means, components, variances, total_variance })
    }
}

/// What components are found from: sums of products of the columns, less their means, which are known beforehand.
#[derive(Clone, Debug)]
pub struct PcaSums {
    means: Vec<f64>,
    rows: usize,
    products: Vec<Vec<f64>>,
}

impl PcaSums {
    /// For columns of these means.
    pub fn new(means: Vec<f64>) -> PcaSums {
        let products = vec![vec![0.0; means.len()]; means.len()];
        PcaSums { means, rows: 0, products }
    }

    /// Adds rows (laid out in rows). Panics when they have other columns.
    pub fn add(&mut self, rows: &Matrix<f64>) {
        assert_eq!(rows.columns(), self.means.len(), "rows have the columns of the means");
        self.rows += rows.rows();
        let mut centred = vec![0.0; self.means.len()];
        for row in 0..rows.rows() {
            let values = rows.row(row).iter().zip(&self.means);
            centred.iter_mut().zip(values).for_each(|(to, (value, mean))| *to = value - mean);
            for (at, line) in self.products.iter_mut().enumerate() {
                let own = centred[at];
                line[at..].iter_mut().zip(&centred[at..]).for_each(|(sum, other)| *sum += own * other);
            }
        }
    }

    /// Finds so many components of at least two rows.
    pub fn finish(self, components: usize) -> Result<Pca, Refusal> {
        let PcaSums { means, rows, products } = self;
        let columns = means.len();
        if columns > COLUMNS_MAX {
            return Err(Refusal::Setting { name: "columns", value: columns as f64, wanted: "1000 at the most" });
        }
        if !(1..=columns).contains(&components) {
            let wanted = "1 up to the number of columns";
            return Err(Refusal::Setting { name: "components", value: components as f64, wanted });
        }
        if rows < 2 {
            return Err(Refusal::Setting { name: "rows", value: rows as f64, wanted: "2 or more" });
        }
        let mut covariance = products;
        covariance.iter_mut().flatten().for_each(|sum| *sum /= (rows - 1) as f64);
        for at in 1..columns {
            let (above, below) = covariance.split_at_mut(at);
            below[0].iter_mut().zip(above).for_each(|(value, row)| *value = row[at]);
        }
        let total_variance = (0..columns).map(|at| covariance[at][at]).sum();
        let vectors = diagonalise(&mut covariance);
        let mut order: Vec<usize> = (0..columns).collect();
        order.sort_by(|&a, &b| covariance[b][b].total_cmp(&covariance[a][a]));
        order.truncate(components);
        // Rounding may leave a direction without variance slightly under zero.
        let variances = order.iter().map(|&at| covariance[at][at].max(0.0)).collect();
        let components = order
            .iter()
            .map(|&at| {
                let component: Vec<f64> = vectors.iter().map(|row| row[at]).collect();
                let largest = component.iter().fold(0.0, |most: f64, &c| if c.abs() > most.abs() { c } else { most });
                component.iter().map(|coefficient| coefficient * largest.signum()).collect()
            })
            .collect();
        Ok(Pca { means, components, variances, total_variance })
    }
}

impl Pca {
    /// Fits so many components to at least two rows, laid out in rows.
    pub fn fit(rows: &Matrix<f64>, components: usize) -> Result<Pca, Refusal> {
        check_rows("finding components", rows, 2, usize::MAX)?;
        let mut means = vec![0.0; rows.columns()];
        for row in 0..rows.rows() {
            means.iter_mut().zip(rows.row(row)).for_each(|(mean, value)| *mean += value);
        }
        means.iter_mut().for_each(|mean| *mean /= rows.rows() as f64);
        let mut sums = PcaSums::new(means);
        sums.add(rows);
        sums.finish(components)
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.means.len()
    }

    /// The components, unit vectors over the columns.
    pub fn components(&self) -> &[Vec<f64>] {
        &self.components
    }

    /// The variance along each component (with `rows - 1` in the denominator).
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// The share of each component in the whole variance; 0 if nothing varies.
    pub fn variance_shares(&self) -> Vec<f64> {
        let share = |variance: &f64| if self.total_variance > 0.0 { variance / self.total_variance } else { 0.0 };
        self.variances.iter().map(share).collect()
    }

    /// The coordinates of rows (laid out in rows) along the components.
    pub fn transform(&self, rows: &Matrix<f64>) -> Matrix<f64> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let mut coordinates = Matrix::zeros(rows.rows(), self.components.len(), Layout::Rows);
        for row in 0..rows.rows() {
            for (at, component) in self.components.iter().enumerate() {
                let values = rows.row(row).iter().zip(&self.means).zip(component);
                coordinates.set(row, at, values.map(|((value, mean), c)| (value - mean) * c).sum());
            }
        }
        coordinates
    }
}

/// Makes a symmetric matrix diagonal and returns its eigenvectors as columns.
fn diagonalise(matrix: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|at| (0..size).map(|b| f64::from(u8::from(at == b))).collect()).collect();
    let norm: f64 = matrix.iter().flatten().map(|value| value * value).sum();
    for _ in 0..SWEEPS_MAX {
        let off: f64 =
            (0..size).flat_map(|a| (a + 1..size).map(move |b| (a, b))).map(|(a, b)| matrix[a][b].powi(2)).sum();
        if off <= norm * 1e-32 {
            break;
        }
        for a in 0..size {
            for b in a + 1..size {
                if matrix[a][b] == 0.0 {
                    continue;
                }
                // The rotation that makes this entry zero, by the smaller of two angles.
                let theta = (matrix[b][b] - matrix[a][a]) / (2.0 * matrix[a][b]);
                let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                for row in matrix.iter_mut().chain(&mut vectors) {
                    let (x, y) = (row[a], row[b]);
                    row[a] = cosine * x - sine * y;
                    row[b] = sine * x + cosine * y;
                }
                let [first, second] = matrix.get_disjoint_mut([a, b]).expect("two rows");
                for (x, y) in first.iter_mut().zip(second) {
                    (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
                }
            }
        }
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// `PCA(3, svd_solver="full")` on the six blobs of `samples`.
    #[test]
    fn components_are_those_of_scikit_learn() {
        let rows = samples::blobs();
        let pca = Pca::fit(&rows, 3).unwrap();
        let close = |ours: &[f64], expected: &[f64]| {
            assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{ours:?} is not {expected:?}");
        };
        close(&pca.components()[0], &[0.99998790907, -2.4436886031e-03, 5.3517857401e-04, 4.2336361234e-03]);
        close(&pca.components()[1], &[2.4763567222e-03, 9.9993630562e-01, 6.8603498776e-03, -8.6132435912e-03]);
        close(&pca.components()[2], &[-3.8577066301e-03, 3.6363913074e-03, 5.3336459869e-01, 8.4586884304e-01]);
        close(pca.variances(), &[5.9803293225, 1.0512680687, 0.0305448589]);
        close(&pca.variance_shares(), &[0.8433253791, 0.1482461909, 0.0043073305]);
        close(pca.transform(&rows).row(1), &[-0.028618114, 1.1615751296, 0.1546563855]);
    }

    #[test]
    fn all_components_keep_all_distances() {
        let rows = samples::wide(&samples::matrix(7, 60, 25, Layout::Rows));
        let pca = Pca::fit(&rows, 25).unwrap();
        let turned = pca.transform(&rows);
        let distance = |rows: &Matrix<f64>, a: usize, b: usize| -> f64 {
            rows.row(a).iter().zip(rows.row(b)).map(|(x, y)| (x - y).powi(2)).sum()
        };
        (1..60).for_each(|row| assert!((distance(&rows, 0, row) - distance(&turned, 0, row)).abs() < 1e-11));
        assert!((pca.variance_shares().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn rows_that_are_all_the_same_have_no_variance() {
        let pca = Pca::fit(&Matrix::zeros(5, 3, Layout::Rows), 2).unwrap();
        assert_eq!(pca.variance_shares(), [0.0, 0.0]);
    }

    #[test]
    fn damage_and_bad_settings_are_refused() {
        let rows = samples::blobs();
        assert_eq!(
            Pca::fit(&rows, 5).unwrap_err().to_string(),
            "`components` is 5, and must be 1 up to the number of columns"
        );
        let stored = serde_json::to_value(Pca::fit(&rows, 2).unwrap()).unwrap();
        assert_eq!(serde_json::from_value::<Pca>(stored.clone()).unwrap().columns(), 4);
        for (key, value) in [("means", "[1]"), ("variances", "[]"), ("total_variance", "-1")] {
            let mut damaged = stored.clone();
            damaged[key] = serde_json::from_str(value).unwrap();
            assert!(serde_json::from_value::<Pca>(damaged).is_err(), "{key}");
        }
    }
}
