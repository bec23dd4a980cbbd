//! Inputs made wrong: how many decisions change?
//!
//! Columns are made wrong before features are computed, so imputation and unknown levels take part as they would in
//! use. Noise and values out of range come to inputs taken as numbers alone: no level is half of another.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch};
use arrow::compute::nullif;
use arrow::datatypes::{Field, Schema};
use gristmill_learn::chance::Chance;
use gristmill_learn::matrix::{Layout, Matrix};
use gristmill_learn::robust::{Input, Perturbation, perturb};
use gristmill_protocol::pipeline::ColumnType;
use gristmill_protocol::pipeline::steps::{RobustnessCheck, Wrong};

use super::{AssessError, Perturbed};
use crate::columns;
use crate::model::{Model, Predictions};

/// How far out of range, in ranges: a slip of a unit or a digit is at least as far.
const RANGES: f64 = 1.0;

/// What each way of being wrong does to the predictions for these rows.
pub fn measure(model: &Model, rows: &RecordBatch, settings: &RobustnessCheck) -> Result<Vec<Perturbed>, AssessError> {
    let before = model.predict(rows)?;
    let ways = [
        (Wrong::Noise, settings.noise),
        (Wrong::Missing, settings.missing),
        (Wrong::OutOfRange, settings.out_of_range),
    ];
    ways.into_iter()
        .map(|(wrong, amount)| {
            let after = model.predict(&make_wrong(model, rows, wrong, amount, settings.seed)?)?;
            let (flips, shift) = changed(&before, &after);
            Ok(Perturbed { wrong, amount, rows: rows.num_rows() as u64, flips, shift })
        })
        .collect()
}

/// The share of other decisions for classes; how far numbers moved on average, in their standard deviations.
fn changed(before: &Predictions, after: &Predictions) -> (Option<f64>, Option<f64>) {
    match (before, after) {
        (Predictions::Values(before), Predictions::Values(after)) => {
            let rows = before.len() as f64;
            let mean = before.iter().sum::<f64>() / rows;
            let deviation = (before.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / rows).sqrt();
            let moved = before.iter().zip(after).map(|(before, after)| (before - after).abs()).sum::<f64>() / rows;
            (None, (deviation > 0.0).then(|| moved / deviation))
        }
        _ => {
            let (before, after) = (before.class_indexes(), after.class_indexes());
            let flipped = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            (Some(flipped as f64 / before.len() as f64), None)
        }
    }
}

/// A copy of the rows with the model's inputs made wrong.
fn make_wrong(
    model: &Model,
    rows: &RecordBatch,
    wrong: Wrong,
    amount: f64,
    seed: u64,
) -> Result<RecordBatch, AssessError> {
    let mut arrays: Vec<ArrayRef> = rows.columns().to_vec();
    let inputs = model.signature().iter().zip(model.features().takes_numbers()).enumerate();
    for (number, (input, is_number)) in inputs {
        let place = rows.schema().index_of(&input.name)?;
        let quantity = is_number && matches!(input.kind, ColumnType::Integer | ColumnType::Float);
        let perturbation = match wrong {
            Wrong::Missing => {
                let mut chance = Chance::stream(seed, &[number as u64]);
                let mask: BooleanArray = (0..rows.num_rows()).map(|_| Some(chance.unit() < amount)).collect();
                arrays[place] = nullif(&arrays[place], &mask)?;
                continue;
            }
            Wrong::Noise => Perturbation::Noise { share: amount },
            Wrong::OutOfRange => Perturbation::OutOfRange { chance: amount, times: RANGES },
        };
        if !quantity {
            continue;
        }
        let numbers = columns::numbers(&arrays[place])?;
        let mut matrix: Matrix<f64> = Matrix::zeros(rows.num_rows(), 1, Layout::Columns);
        for (row, value) in numbers.iter().enumerate() {
            // A missing value stays missing.
            matrix.set(row, 0, value.unwrap_or(f64::NAN));
        }
        let own = [Input { column: 0, missing: f64::NAN }];
        let seed = Chance::stream(seed, &[number as u64]).bits();
        let Ok(made) = perturb(&matrix, &own, perturbation, seed) else { continue };
        let value = |row: usize| Some(made.get(row, 0)).filter(|value| value.is_finite());
        arrays[place] = Arc::new((0..rows.num_rows()).map(value).collect::<Float64Array>());
    }
    let before = rows.schema();
    let fields = before.fields().iter().zip(&arrays);
    let fields = fields.map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    Ok(RecordBatch::try_new(schema, arrays)?)
}
