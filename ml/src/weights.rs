//! How much each training row counts: by a column, by its class, or by both.

use arrow::array::{Array, RecordBatch};
use arrow::error::ArrowError;
use gristmill_protocol::pipeline::steps::{Balance, ClassWeight};

use crate::columns;
use crate::names;
use crate::target::{Goal, Target};

/// Weights above this are no weights: their sums would lose the digits of small ones.
const WEIGHT_MAX: f64 = 1e9;

/// Why rows can't be weighted.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error("`class_weight` is for classes, and `{target}` is a number")]
    NoClasses { target: String },
    #[error("`class_weight` names `{class}`, and the target has no such class")]
    Class { class: String, hint: Option<String> },
    #[error("the weight of class `{class}` is {weight}, and must be between 0 and {WEIGHT_MAX:e}")]
    ClassWeight { class: String, weight: f64 },
    #[error("there is no column `{column}` to weight rows by")]
    Missing { column: String, nearest: Option<String> },
    #[error(
        "the weight in column `{column}` of training row {row} is {found}, and must be between 0 and {WEIGHT_MAX:e}"
    )]
    Weight { column: String, row: u64, found: String },
    #[error("all training rows have the weight 0")]
    Nothing,
    #[error("failed to read the weights in column `{column}`")]
    Read {
        column: String,
        #[source]
        source: ArrowError,
    },
}

impl WeightError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            WeightError::NoClasses { .. } => Some("weight rows of numbers by a column: `weight: column`".to_owned()),
            WeightError::Class { hint, .. } => hint.clone(),
            WeightError::Missing { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            WeightError::Weight { .. } => Some("`coalesce` it in a transform, or leave such rows out".to_owned()),
            _ => None,
        }
    }
}

/// The weights of training rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    column: Option<String>,
    /// By class.
    classes: Option<Vec<f64>>,
}

impl Weights {
    /// Reads the settings for a target. Balanced weights are `rows / (classes · rows of the class)`, as in scikit-learn.
    pub fn new(
        column: Option<&String>,
        class_weight: Option<&ClassWeight>,
        target: &Target,
    ) -> Result<Weights, WeightError> {
        let classes = match (class_weight, &target.goal) {
            (None, _) => None,
            (Some(_), Goal::Value { .. } | Goal::Groups) => {
                return Err(WeightError::NoClasses { target: target.column.clone() });
            }
            (Some(ClassWeight::Balance(Balance::Balanced)), Goal::Classes { counts, .. }) => {
                let rows: u64 = counts.iter().sum();
                let weight = |&count: &u64| rows as f64 / (counts.len() as f64 * count.max(1) as f64);
                Some(counts.iter().map(weight).collect())
            }
            (Some(ClassWeight::ByClass(weights)), Goal::Classes { classes, .. }) => {
                let known = classes.names();
                let mut all = vec![1.0; known.len()];
                for (class, &weight) in weights {
                    let at = known.iter().position(|name| name == class).ok_or_else(|| WeightError::Class {
                        class: class.clone(),
                        hint: names::hint(class, known.iter().map(String::as_str)),
                    })?;
                    if !(0.0..=WEIGHT_MAX).contains(&weight) {
                        return Err(WeightError::ClassWeight { class: class.clone(), weight });
                    }
                    all[at] = weight;
                }
                Some(all)
            }
        };
        Ok(Weights { column: column.cloned(), classes })
    }

    /// Whether all rows count the same.
    pub fn is_even(&self) -> bool {
        self.column.is_none() && self.classes.is_none()
    }

    /// Adds the weights of a batch whose target has these values; its first row is number `first_row` of the training
    /// rows.
    pub fn push(
        &self,
        batch: &RecordBatch,
        target: &[f64],
        first_row: u64,
        weights: &mut Vec<f64>,
    ) -> Result<(), WeightError> {
        let by_class = |value: f64| self.classes.as_ref().map_or(1.0, |classes| classes[value as usize]);
        let Some(column) = &self.column else {
            weights.extend(target.iter().map(|&value| by_class(value)));
            return Ok(());
        };
        let array = columns::column(batch, column)
            .map_err(|nearest| WeightError::Missing { column: column.clone(), nearest })?;
        let numbers = columns::numbers(array).map_err(|source| WeightError::Read { column: column.clone(), source })?;
        for (row, &value) in target.iter().enumerate() {
            let weight = if numbers.is_null(row) { None } else { Some(numbers.value(row)) };
            match weight {
                Some(weight) if (0.0..=WEIGHT_MAX).contains(&weight) => weights.push(weight * by_class(value)),
                found => {
                    let found = found.map_or("missing".to_owned(), |weight| weight.to_string());
                    let row = first_row + row as u64 + 1;
                    return Err(WeightError::Weight { column: column.clone(), row, found });
                }
            }
        }
        Ok(())
    }
}
