//! A margin bent by the Gaussian kernel `exp(-gamma |a - b|²)`, by sequential minimal optimisation with the
//! working sets of LIBSVM (Fan, Chen and Lin 2005, "Working set selection using second order information").

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{check_positive, signs};
use crate::exponential::exp;
use crate::matrix::{Layout, Matrix};
use crate::refusal::{Refusal, check_length, check_rows};

/// Rows at the most: the time grows with their square or faster, and 20,000 take minutes.
pub const ROWS_MAX: usize = 20_000;
/// Bytes of kernel values that are kept at the most.
const CACHE_BYTES: usize = 256_000_000;
/// Curvature of a step at the least, for rows that are the same (LIBSVM's TAU).
const CURVATURE_MIN: f64 = 1e-12;
/// Steps a row at the most.
const STEPS_A_ROW: usize = 10_000;
/// Rows of one task of a kernel row.
const CHUNK_ROWS: usize = 2_048;

/// How to fit. The defaults are those of scikit-learn's `SVC`, but for `gamma`, which it takes from the data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KernelSettings {
    /// What errors cost.
    pub c: f64,
    /// One over twice the square of the kernel's width. Customary: 1 / (columns · variance).
    pub gamma: f64,
    /// It has arrived when the margin's conditions hold to within this.
    pub tolerance: f64,
}

impl Default for KernelSettings {
    fn default() -> KernelSettings {
        KernelSettings { c: 1.0, gamma: 1.0, tolerance: 1e-3 }
    }
}

/// A fitted machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "KernelSvmData", into = "KernelSvmData")]
pub struct KernelSvm {
    gamma: f64,
    intercept: f64,
    columns: usize,
    /// The support vectors row by row, and the share of each with its sign.
    vectors: Vec<f64>,
    shares: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct KernelSvmData {
    gamma: f64,
    intercept: f64,
    columns: u32,
    vectors: Vec<f64>,
    shares: Vec<f64>,
}

impl From<KernelSvm> for KernelSvmData {
    fn from(model: KernelSvm) -> KernelSvmData {
        let KernelSvm { gamma, intercept, columns, vectors, shares } = model;
        KernelSvmData { gamma, intercept, columns: columns as u32, vectors, shares }
    }
}

impl TryFrom<KernelSvmData> for KernelSvm {
    type Error = String;

    fn try_from(data: KernelSvmData) -> Result<KernelSvm, String> {
        let KernelSvmData { gamma, intercept, columns, vectors, shares } = data;
        let columns = columns as usize;
        if columns == 0 || shares.is_empty() || columns.checked_mul(shares.len()) != Some(vectors.len()) {
            return Err(format!("{} values don't make {} vectors of {columns} columns", vectors.len(), shares.len()));
        }
        let finite = vectors.iter().chain(&shares).chain([&intercept]).all(|number| number.is_finite());
        if !finite || !(f64::MIN_POSITIVE..=f64::MAX).contains(&gamma) {
            return Err("a support vector machine has a value that is not a number".to_owned());
        }
        Ok(KernelSvm { gamma, intercept, columns, vectors, shares })
    }
}

impl KernelSvm {
    /// Fits up to [`ROWS_MAX`] rows (laid out in rows) of the classes 0 and 1.
    pub fn fit(settings: &KernelSettings, rows: &Matrix<f64>, labels: &[u32]) -> Result<KernelSvm, Refusal> {
        check_positive("c", settings.c)?;
        check_positive("gamma", settings.gamma)?;
        check_positive("tolerance", settings.tolerance)?;
        check_rows("a support vector machine", rows, 2, ROWS_MAX)?;
        check_length("labels", rows.rows(), labels.len())?;
        let signs = signs(rows.rows(), labels)?;
        let (shares, intercept) = optimise(settings, rows, &signs)?;
        let kept: Vec<usize> = (0..rows.rows()).filter(|&row| shares[row] > 0.0).collect();
        Ok(KernelSvm {
            gamma: settings.gamma,
            intercept,
            columns: rows.columns(),
            vectors: kept.iter().flat_map(|&row| rows.row(row)).copied().collect(),
            shares: kept.iter().map(|&row| shares[row] * signs[row]).collect(),
        })
    }

    /// How many columns it reads.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How many of the rows carry the margin.
    pub fn vectors(&self) -> usize {
        self.shares.len()
    }

    /// The score of each row of a matrix laid out in rows: class 1 over 0.
    pub fn scores(&self, rows: &Matrix<f64>) -> Vec<f64> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        assert_eq!(rows.layout(), Layout::Rows, "scores are made row by row");
        let score = |row: usize| {
            let vectors = self.vectors.chunks_exact(self.columns).zip(&self.shares);
            vectors.map(|(vector, share)| share * kernel(self.gamma, rows.row(row), vector)).sum::<f64>()
                + self.intercept
        };
        (0..rows.rows()).into_par_iter().map(score).collect()
    }
}

fn kernel(gamma: f64, a: &[f64], b: &[f64]) -> f64 {
    exp(-gamma * a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>())
}

/// Rows of the kernel's matrix, the last used of them kept.
struct Cache<'a> {
    gamma: f64,
    rows: &'a Matrix<f64>,
    kept: BTreeMap<usize, (u64, Vec<f32>)>,
    rows_max: usize,
    clock: u64,
}

impl Cache<'_> {
    /// The kernel of one row with all.
    fn row(&mut self, row: usize) -> &[f32] {
        self.clock += 1;
        if !self.kept.contains_key(&row) {
            if self.kept.len() >= self.rows_max {
                let oldest = self.kept.iter().min_by_key(|(_, (used, _))| *used).map(|(&oldest, _)| oldest);
                oldest.and_then(|oldest| self.kept.remove(&oldest));
            }
            let (gamma, rows) = (self.gamma, self.rows);
            let values = (0..rows.rows())
                .into_par_iter()
                .with_min_len(CHUNK_ROWS)
                .map(|other| kernel(gamma, rows.row(row), rows.row(other)) as f32)
                .collect();
            self.kept.insert(row, (self.clock, values));
        }
        let (used, values) = self.kept.get_mut(&row).expect("put there above if it was missing");
        *used = self.clock;
        values
    }
}

/// The share of each row, and the intercept.
fn optimise(settings: &KernelSettings, rows: &Matrix<f64>, signs: &[f64]) -> Result<(Vec<f64>, f64), Refusal> {
    let count = rows.rows();
    let rows_max = (CACHE_BYTES / (4 * count)).max(2);
    let mut cache = Cache { gamma: settings.gamma, rows, kept: BTreeMap::new(), rows_max, clock: 0 };
    let mut shares = vec![0.0f64; count];
    // The slope of the objective by each share.
    let mut slopes = vec![-1.0f64; count];
    let c = settings.c;
    let can_rise = |row: usize, shares: &[f64]| if signs[row] > 0.0 { shares[row] < c } else { shares[row] > 0.0 };
    let can_fall = |row: usize, shares: &[f64]| if signs[row] > 0.0 { shares[row] > 0.0 } else { shares[row] < c };
    for _ in 0..STEPS_A_ROW * count {
        let (mut highest, mut first) = (f64::NEG_INFINITY, None);
        for row in 0..count {
            let pull = -signs[row] * slopes[row];
            if can_rise(row, &shares) && pull > highest {
                (highest, first) = (pull, Some(row));
            }
        }
        let Some(first) = first else { break };
        let kernel_first = cache.row(first).to_vec();
        let (mut lowest, mut best, mut second) = (f64::INFINITY, 0.0, None);
        for row in 0..count {
            let pull = -signs[row] * slopes[row];
            if can_fall(row, &shares) {
                lowest = pull.min(lowest);
                let rise = highest - pull;
                if rise > 0.0 {
                    let curvature = (2.0 - 2.0 * f64::from(kernel_first[row])).max(CURVATURE_MIN);
                    let gain = rise * rise / curvature;
                    if gain > best {
                        (best, second) = (gain, Some((row, rise / curvature)));
                    }
                }
            }
        }
        let Some((second, step)) = second.filter(|_| highest - lowest >= settings.tolerance) else {
            return Ok((shares.clone(), intercept(signs, &slopes, &shares, c, highest, lowest)));
        };
        // The first share rises (with its sign) as far as the second falls, and both stay within bounds.
        let room_first = if signs[first] > 0.0 { c - shares[first] } else { shares[first] };
        let room_second = if signs[second] > 0.0 { shares[second] } else { c - shares[second] };
        let step = step.min(room_first).min(room_second);
        let moved = |share: f64, change: f64, stopped: bool, up: bool| match (stopped, up) {
            (false, _) => share + change,
            (true, true) => c,
            (true, false) => 0.0,
        };
        shares[first] = moved(shares[first], step * signs[first], step == room_first, signs[first] > 0.0);
        shares[second] = moved(shares[second], -step * signs[second], step == room_second, signs[second] < 0.0);
        let kernel_second = cache.row(second);
        for (row, slope) in slopes.iter_mut().enumerate() {
            *slope += signs[row] * step * (f64::from(kernel_first[row]) - f64::from(kernel_second[row]));
        }
    }
    Err(Refusal::NoSolution { method: "a support vector machine", steps: STEPS_A_ROW * count })
}

/// From the rows on the margin; without any, the middle of what is allowed.
fn intercept(signs: &[f64], slopes: &[f64], shares: &[f64], c: f64, highest: f64, lowest: f64) -> f64 {
    let free: Vec<f64> = (0..signs.len())
        .filter(|&row| shares[row] > 0.0 && shares[row] < c)
        .map(|row| -signs[row] * slopes[row])
        .collect();
    if free.is_empty() { (highest + lowest) / 2.0 } else { free.iter().sum::<f64>() / free.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn fit() -> KernelSvm {
        let rows = samples::matrix(1, 500, 4, Layout::Rows);
        let labels: Vec<u32> = samples::two_classes(&rows).iter().map(|&label| label as u32).collect();
        let settings = KernelSettings { gamma: 0.5, tolerance: 1e-6, ..KernelSettings::default() };
        KernelSvm::fit(&settings, &samples::wide(&rows), &labels).unwrap()
    }

    /// `SVC(C=1.0, gamma=0.5, tol=1e-6)`: `n_support_`, `intercept_`, `decision_function(X2)[:4]`.
    #[test]
    fn the_margin_is_that_of_scikit_learn() {
        let model = fit();
        assert_eq!(model.vectors(), 73 + 73);
        assert!((model.intercept - 0.1047256756).abs() < 1e-4, "{}", model.intercept);
        let scores = model.scores(&samples::wide(&samples::matrix(2, 500, 4, Layout::Rows)));
        let expected = [1.1085963895, -1.9927365176, -2.4197321456, -0.0877138616];
        assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{:?}", &scores[..4]);
    }

    #[test]
    fn a_small_cache_changes_nothing() {
        let rows = samples::blobs();
        let mut cache = Cache { gamma: 1.0, rows: &rows, kept: BTreeMap::new(), rows_max: 2, clock: 0 };
        let first = cache.row(3).to_vec();
        for row in [4, 3, 5, 6] {
            cache.row(row);
            assert!(cache.kept.len() <= 2);
        }
        assert_eq!(cache.row(3), first);
    }

    #[test]
    fn what_is_stored_is_read_back_and_damage_is_refused() {
        let model = fit();
        let stored = serde_json::to_value(&model).unwrap();
        assert_eq!(serde_json::from_value::<KernelSvm>(stored.clone()).unwrap().vectors(), model.vectors());
        for (key, value) in [("columns", "3"), ("gamma", "0"), ("shares", "[]")] {
            let mut damaged = stored.clone();
            damaged[key] = serde_json::from_str(value).unwrap();
            assert!(serde_json::from_value::<KernelSvm>(damaged).is_err(), "{key}");
        }
        let refused = KernelSvm::fit(&KernelSettings::default(), &Matrix::zeros(20_001, 1, Layout::Rows), &[0; 20_001]);
        assert!(refused.unwrap_err().to_string().contains("takes 2 to 20000"));
    }
}
