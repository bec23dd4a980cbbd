//! Why rows or settings can't be learned from, for the estimators that take them as they are.

use crate::matrix::{Layout, Matrix};

/// What was wrong with the input, and what would be right.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("`{name}` is {value}, and must be {wanted}")]
    Setting { name: &'static str, value: f64, wanted: &'static str },
    #[error("there are {rows} rows, and {method} takes {least} to {most}")]
    Rows { method: &'static str, rows: usize, least: usize, most: usize },
    #[error("there are {found} {what} where {expected} belong")]
    Shape { what: &'static str, expected: usize, found: usize },
    #[error("the {what} of row {row} is {value}, and must be {wanted}")]
    Value { what: &'static str, row: usize, value: f64, wanted: &'static str },
    #[error("the matrix is laid out in columns, and {method} reads rows")]
    Layout { method: &'static str },
    #[error("{method} found no solution in {steps} steps: scale the columns, or lower `c`")]
    NoSolution { method: &'static str, steps: usize },
}

/// Rows of finite numbers, between these many.
pub(crate) fn check_rows(method: &'static str, matrix: &Matrix<f64>, least: usize, most: usize) -> Result<(), Refusal> {
    if matrix.layout() != Layout::Rows {
        return Err(Refusal::Layout { method });
    }
    if !(least..=most).contains(&matrix.rows()) {
        return Err(Refusal::Rows { method, rows: matrix.rows(), least, most });
    }
    if matrix.columns() == 0 {
        return Err(Refusal::Shape { what: "columns", expected: 1, found: 0 });
    }
    for row in 0..matrix.rows() {
        // Squares of sums over rows and columns are numbers still.
        if let Some(&value) = matrix.row(row).iter().find(|value| value.abs() > 1e100 || value.is_nan()) {
            return Err(Refusal::Value { what: "value in a column", row, value, wanted: "a number within ±1e100" });
        }
    }
    Ok(())
}

/// One label a row, each under the number of classes.
pub(crate) fn check_classes(rows: usize, labels: &[u32], classes: u32) -> Result<(), Refusal> {
    check_length("labels", rows, labels.len())?;
    match labels.iter().enumerate().find(|(_, label)| **label >= classes) {
        Some((row, &label)) => {
            Err(Refusal::Value { what: "label", row, value: f64::from(label), wanted: "under the number of classes" })
        }
        None => Ok(()),
    }
}

/// One weight a row, 0 or more, if there are any.
pub(crate) fn check_weights(rows: usize, weights: Option<&[f64]>) -> Result<(), Refusal> {
    let Some(weights) = weights else { return Ok(()) };
    check_length("weights", rows, weights.len())?;
    match weights.iter().enumerate().find(|(_, weight)| !(0.0..=1e100).contains(*weight)) {
        Some((row, &value)) => Err(Refusal::Value { what: "weight", row, value, wanted: "0 or more" }),
        None => Ok(()),
    }
}

/// As many as rows.
pub(crate) fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), Refusal> {
    if found == expected { Ok(()) } else { Err(Refusal::Shape { what, expected, found }) }
}
