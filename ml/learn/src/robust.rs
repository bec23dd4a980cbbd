//! Robustness: how many decisions change when the inputs are a little wrong.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::matrix::{Element, Matrix};

/// How inputs are made wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Perturbation {
    /// Normal noise on every value, of this share of its column's standard deviation.
    Noise { share: f64 },
    /// Each value is missing with this chance.
    Missing { chance: f64 },
    /// With this chance a value lies outside its column's range, above or below by so many times the range.
    OutOfRange { chance: f64, times: f64 },
}

/// A column that may be made wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    pub column: usize,
    /// What the model sees in place of a missing value: what imputation fills in, or not a number where the
    /// model takes that.
    pub missing: f64,
}

/// What a perturbation did to decisions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flips {
    pub rows: u64,
    /// Rows for which another class is decided.
    pub flipped: u64,
    pub share: f64,
}

/// What a perturbation did to predicted numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    pub rows: u64,
    /// Mean of the absolute change.
    pub mean: f64,
    /// The same in standard deviations of the unperturbed predictions; none when those are all equal.
    pub deviations: Option<f64>,
}

/// Why robustness can't be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RobustError {
    #[error("`{setting}` of a perturbation is {value}; it is {range}")]
    Setting { setting: &'static str, value: f64, range: &'static str },
    #[error("column {column} is to be perturbed, and there are {columns}")]
    Column { column: usize, columns: usize },
    #[error("there are no rows to perturb")]
    NoRows,
    #[error("the model gave {found} predictions for {rows} rows")]
    Predictions { rows: usize, found: usize },
}

impl Perturbation {
    fn check(self) -> Result<(), RobustError> {
        let at_least_zero = |setting, value: f64| {
            let fits = value >= 0.0 && value.is_finite();
            if fits { Ok(()) } else { Err(RobustError::Setting { setting, value, range: "a number of at least 0" }) }
        };
        let chance = |value: f64| {
            let fits = (0.0..=1.0).contains(&value);
            if fits { Ok(()) } else { Err(RobustError::Setting { setting: "chance", value, range: "from 0 to 1" }) }
        };
        match self {
            Perturbation::Noise { share } => at_least_zero("share", share),
            Perturbation::Missing { chance: value } => chance(value),
            Perturbation::OutOfRange { chance: value, times } => chance(value).and(at_least_zero("times", times)),
        }
    }
}

/// A copy of the rows with some columns made wrong. What happens to a column follows from the seed, the column and
/// its values alone. Columns of one encoded category are best left out: no input is half of a level.
pub fn perturb<T: Element + Into<f64>>(
    matrix: &Matrix<T>,
    inputs: &[Input],
    perturbation: Perturbation,
    seed: u64,
) -> Result<Matrix<T>, RobustError> {
    perturbation.check()?;
    if matrix.rows() == 0 {
        return Err(RobustError::NoRows);
    }
    let mut perturbed = matrix.clone();
    for input in inputs {
        let column = input.column;
        if column >= matrix.columns() {
            return Err(RobustError::Column { column, columns: matrix.columns() });
        }
        let values: Vec<f64> = (0..matrix.rows()).map(|row| matrix.get(row, column).into()).collect();
        let known = || values.iter().copied().filter(|value| value.is_finite());
        let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
        // A column that never varies is moved by one.
        let range = if high > low { high - low } else { 1.0 };
        let deviation = deviation(known());
        let mut chance = Chance::stream(seed, &[column as u64]);
        for (row, &value) in values.iter().enumerate() {
            let wrong = match perturbation {
                Perturbation::Noise { share } => value + share * deviation * chance.normal(),
                Perturbation::Missing { chance: of } if chance.unit() < of => input.missing,
                Perturbation::OutOfRange { chance: of, times } if chance.unit() < of && low <= high => {
                    if chance.below(2) == 0 { low - times * range } else { high + times * range }
                }
                Perturbation::Missing { .. } | Perturbation::OutOfRange { .. } => continue,
            };
            perturbed.set(row, column, T::nearest(wrong));
        }
    }
    Ok(perturbed)
}

/// How many rows are decided otherwise when their inputs are made wrong. `decide` gives a class for each row.
pub fn flips<T: Element + Into<f64>>(
    matrix: &Matrix<T>,
    inputs: &[Input],
    perturbation: Perturbation,
    seed: u64,
    decide: impl Fn(&Matrix<T>) -> Vec<u32>,
) -> Result<Flips, RobustError> {
    let perturbed = perturb(matrix, inputs, perturbation, seed)?;
    let rows = matrix.rows();
    let (before, after) = (of_all(rows, decide(matrix))?, of_all(rows, decide(&perturbed))?);
    let flipped = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    Ok(Flips { rows: rows as u64, flipped: flipped as u64, share: flipped as f64 / rows as f64 })
}

/// How far predicted numbers move when inputs are made wrong. `predict` gives a number for each row.
pub fn shift<T: Element + Into<f64>>(
    matrix: &Matrix<T>,
    inputs: &[Input],
    perturbation: Perturbation,
    seed: u64,
    predict: impl Fn(&Matrix<T>) -> Vec<f64>,
) -> Result<Shift, RobustError> {
    let perturbed = perturb(matrix, inputs, perturbation, seed)?;
    let rows = matrix.rows();
    let (before, after) = (of_all(rows, predict(matrix))?, of_all(rows, predict(&perturbed))?);
    let mean = before.iter().zip(&after).map(|(before, after)| (before - after).abs()).sum::<f64>() / rows as f64;
    let deviation = deviation(before.iter().copied());
    Ok(Shift { rows: rows as u64, mean, deviations: (deviation > 0.0).then(|| mean / deviation) })
}

fn of_all<P>(rows: usize, predictions: Vec<P>) -> Result<Vec<P>, RobustError> {
    match predictions.len() {
        found if found == rows => Ok(predictions),
        found => Err(RobustError::Predictions { rows, found }),
    }
}

/// The standard deviation around the mean; 0 without values.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;

    const ROWS: usize = 10_000;

    /// Normal numbers of deviation 2 in column 0, zeros in column 1.
    fn matrix() -> Matrix<f32> {
        let mut chance = Chance::stream(1, &[]);
        let mut matrix = Matrix::zeros(ROWS, 2, Layout::Rows);
        (0..ROWS).for_each(|row| matrix.set(row, 0, 2.0 * chance.normal() as f32));
        matrix
    }

    fn first(matrix: &Matrix<f32>) -> Vec<f64> {
        (0..matrix.rows()).map(|row| matrix.get(row, 0).into()).collect()
    }

    fn above_zero(matrix: &Matrix<f32>) -> Vec<u32> {
        first(matrix).into_iter().map(|value| u32::from(value > 0.0)).collect()
    }

    const FIRST: [Input; 1] = [Input { column: 0, missing: -1.0 }];

    #[test]
    fn noise_flips_the_rows_near_the_border() {
        let share = |share: f64| {
            let found = flips(&matrix(), &FIRST, Perturbation::Noise { share }, 1, above_zero).unwrap();
            assert_eq!(found.rows, ROWS as u64);
            found.share
        };
        assert_eq!(share(0.0), 0.0);
        // The sign of a normal number differs from that of the number with noise with a chance of atan(share)/π;
        // five standard deviations are under 0.015.
        for noise in [0.1_f64, 0.5] {
            let expected = noise.atan() / std::f64::consts::PI;
            assert!((share(noise) - expected).abs() < 0.015, "{} {expected}", share(noise));
        }
        let shift = shift(&matrix(), &FIRST, Perturbation::Noise { share: 0.5 }, 1, first).unwrap();
        // The mean of an absolute normal number is √(2/π).
        assert!((shift.deviations.unwrap() - 0.5 * 0.7979).abs() < 0.02, "{shift:?}");
        assert!((shift.mean - 2.0 * shift.deviations.unwrap()).abs() < 0.05);
    }

    #[test]
    fn missing_values_are_what_the_model_sees_of_them() {
        let found = flips(&matrix(), &FIRST, Perturbation::Missing { chance: 0.2 }, 1, above_zero).unwrap();
        // Half of the missing ones were positive.
        assert!((found.share - 0.1).abs() < 0.015, "{found:?}");
        let perturbed =
            perturb(&matrix(), &[Input { column: 1, missing: f64::NAN }], Perturbation::Missing { chance: 1.0 }, 1);
        let perturbed = perturbed.unwrap();
        assert!((0..ROWS).all(|row| perturbed.get(row, 1).is_nan()));
        assert_eq!(first(&perturbed), first(&matrix()));
    }

    #[test]
    fn values_out_of_range_lie_beyond_both_ends() {
        let values = first(&matrix());
        let (low, high) = (values.iter().copied().fold(0.0, f64::min), values.iter().copied().fold(0.0, f64::max));
        let perturbation = Perturbation::OutOfRange { chance: 1.0, times: 0.5 };
        let found = first(&perturb(&matrix(), &FIRST, perturbation, 1).unwrap());
        let range = high - low;
        let below = found.iter().filter(|value| (**value - (low - 0.5 * range)).abs() < 1e-4).count();
        let above = found.iter().filter(|value| (**value - (high + 0.5 * range)).abs() < 1e-4).count();
        assert_eq!(below + above, ROWS);
        assert!(below.abs_diff(above) < 500, "{below} {above}");
    }

    #[test]
    fn a_column_is_perturbed_the_same_beside_others() {
        let noise = Perturbation::Noise { share: 1.0 };
        let both = [Input { column: 1, missing: 0.0 }, FIRST[0]];
        assert_eq!(
            first(&perturb(&matrix(), &FIRST, noise, 3).unwrap()),
            first(&perturb(&matrix(), &both, noise, 3).unwrap())
        );
        assert_ne!(
            first(&perturb(&matrix(), &FIRST, noise, 3).unwrap()),
            first(&perturb(&matrix(), &FIRST, noise, 4).unwrap())
        );
    }

    #[test]
    fn what_cannot_be_perturbed_says_why() {
        let fails = |column: usize, perturbation: Perturbation| {
            perturb(&matrix(), &[Input { column, missing: 0.0 }], perturbation, 1).unwrap_err().to_string()
        };
        assert_eq!(fails(9, Perturbation::Noise { share: 1.0 }), "column 9 is to be perturbed, and there are 2");
        assert_eq!(
            fails(0, Perturbation::Noise { share: -1.0 }),
            "`share` of a perturbation is -1; it is a number of at least 0"
        );
        assert_eq!(
            fails(0, Perturbation::Missing { chance: 2.0 }),
            "`chance` of a perturbation is 2; it is from 0 to 1"
        );
        let error = flips(&matrix(), &FIRST, Perturbation::Noise { share: 0.1 }, 1, |_| vec![1]).unwrap_err();
        assert_eq!(error, RobustError::Predictions { rows: ROWS, found: 1 });
    }
}
