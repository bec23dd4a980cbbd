//! Turning rows into numbers with fitted features.

use arrow::array::{Array, ArrayRef, RecordBatch};

use super::levels::{FoldCodes, bucket_of_integer, bucket_of_text};
use super::signature::{changed, coerce, is_alike};
use super::words::WordCounter;
use super::{Coding, Feature, FeatureError, FittedFeatures, Input, Levels, Lookup};
use crate::columns::{self, Keys};
use crate::matrix::{Element, Layout, Matrix};

/// Where the columns of one feature go in a matrix.
struct Cells<'a, T> {
    matrix: &'a mut Matrix<T>,
    first_row: usize,
    at: usize,
}

impl<T: Element> Cells<'_, T> {
    fn set(&mut self, row: usize, column: usize, value: f64) {
        self.matrix.set(self.first_row + row, self.at + column, T::nearest(value));
    }
}

impl FittedFeatures {
    /// Writes the rows of a batch into the matrix, from `first_row` on. The matrix has the columns of
    /// [`FittedFeatures::names`] and is zero there; columns of the batch that the model doesn't read are ignored.
    /// NaN stands for numbers that are missing and stay so.
    pub fn transform<T: Element>(
        &self,
        batch: &RecordBatch,
        matrix: &mut Matrix<T>,
        first_row: usize,
    ) -> Result<(), FeatureError> {
        self.fill(batch, matrix, first_row, None)
    }

    /// The same for training rows, of which the first of the batch is number `number`, counted as the fitter met
    /// them. Columns with `encoding: target` get what the other parts of the rows say.
    pub fn transform_training<T: Element>(
        &self,
        batch: &RecordBatch,
        matrix: &mut Matrix<T>,
        first_row: usize,
        number: u64,
    ) -> Result<(), FeatureError> {
        self.fill(batch, matrix, first_row, Some(number))
    }

    fn fill<T: Element>(
        &self,
        batch: &RecordBatch,
        matrix: &mut Matrix<T>,
        first_row: usize,
        training: Option<u64>,
    ) -> Result<(), FeatureError> {
        assert_eq!(matrix.columns(), self.outputs().len(), "the matrix has a column for each output");
        match &self.data.components {
            None => self.make(batch, matrix, first_row, training),
            Some(components) => {
                components.write(&self.made(batch, training)?, matrix, first_row);
                Ok(())
            }
        }
    }

    /// The columns of the features themselves, of which components may be made.
    pub(super) fn made(&self, batch: &RecordBatch, training: Option<u64>) -> Result<Matrix<f64>, FeatureError> {
        let mut made = Matrix::zeros(batch.num_rows(), self.data.outputs.len(), Layout::Rows);
        self.make(batch, &mut made, 0, training)?;
        Ok(made)
    }

    fn make<T: Element>(
        &self,
        batch: &RecordBatch,
        matrix: &mut Matrix<T>,
        first_row: usize,
        training: Option<u64>,
    ) -> Result<(), FeatureError> {
        let computed = self.expressions.evaluate(self.expressions.columns(batch)?)?;
        let mut at = 0;
        for (index, (input, feature)) in self.data.inputs.iter().zip(&self.data.features).enumerate() {
            let column = match self.made_by[index] {
                Some(made_by) => &computed[made_by],
                None => columns::column(batch, &input.name)
                    .map_err(|nearest| FeatureError::Missing { column: input.name.clone(), nearest })?,
            };
            let codes = training.zip(self.fold_codes[index].as_ref());
            let cells = Cells { matrix, first_row, at };
            fill_feature(input, feature, &self.lookups[index], codes, column, cells)?;
            at += feature.width();
        }
        Ok(())
    }
}

/// Writes the columns of one feature. `codes` are those of training rows, and the number of the first.
fn fill_feature<T: Element>(
    input: &Input,
    feature: &Feature,
    lookup: &Lookup,
    codes: Option<(u64, &FoldCodes)>,
    column: &ArrayRef,
    mut cells: Cells<'_, T>,
) -> Result<(), FeatureError> {
    let read = |source| FeatureError::Read { column: input.name.clone(), source };
    let numbers = || match is_alike(input.kind, column.data_type()) {
        true => columns::numbers(column).map_err(read),
        false => Err(changed(input, column.data_type())),
    };
    let keys = || match columns::keys(&coerce(input, column)?).map_err(read)? {
        Some(keys) => Ok(keys),
        None => Err(changed(input, column.data_type())),
    };
    match feature {
        Feature::Numeric { impute, center, scale, indicator } => {
            let numbers = numbers()?;
            let missing = numbers.nulls();
            for (row, &number) in numbers.values().iter().enumerate() {
                let is_missing = missing.is_some_and(|nulls| nulls.is_null(row));
                let number = if is_missing { *impute } else { number };
                cells.set(row, 0, (number - center) / scale);
                if *indicator && is_missing {
                    cells.set(row, 1, 1.0);
                }
            }
        }
        Feature::Number(number) => {
            for (row, value) in numbers()?.iter().enumerate() {
                cells.set(row, 0, number.apply(value));
                if number.indicator && value.is_none() {
                    cells.set(row, 1, 1.0);
                }
            }
        }
        Feature::Binned(binned) => {
            for (row, value) in numbers()?.iter().enumerate() {
                match binned.bin(value) {
                    Some(bin) if binned.one_hot => cells.set(row, bin, 1.0),
                    Some(bin) => cells.set(row, 0, bin as f64),
                    None => cells.set(row, 0, f64::NAN),
                }
                if binned.indicator && value.is_none() {
                    cells.set(row, binned.width(), 1.0);
                }
            }
        }
        Feature::Dates { columns: outputs, indicator } => {
            let column = coerce(input, column)?;
            for (row, value) in columns::numbers(&column).map_err(read)?.iter().enumerate() {
                for (at, output) in outputs.iter().enumerate() {
                    cells.set(row, at, output.apply(value, input.kind));
                }
                if *indicator && value.is_none() {
                    cells.set(row, outputs.len(), 1.0);
                }
            }
        }
        Feature::Categorical { levels, coding } => {
            let mut set = |row: usize, level| set_level(&mut cells, row, level, levels, coding, codes);
            match (keys()?, lookup) {
                (Keys::Integer(keys), Lookup::Integer(lookup)) => {
                    for (row, key) in keys.iter().enumerate() {
                        set(row, key.and_then(|key| lookup.get(&key).copied()));
                    }
                }
                (Keys::Text(keys), Lookup::Text(lookup)) => {
                    for (row, key) in keys.iter().enumerate() {
                        set(row, key.and_then(|key| lookup.get(key).copied()));
                    }
                }
                (_, _) => return Err(changed(input, column.data_type())),
            }
        }
        Feature::Hashed { buckets } => match keys()? {
            Keys::Integer(keys) => {
                for (row, key) in keys.iter().enumerate() {
                    if let Some(key) = key {
                        cells.set(row, bucket_of_integer(key, *buckets), 1.0);
                    }
                }
            }
            Keys::Text(keys) => {
                for (row, key) in keys.iter().enumerate() {
                    if let Some(key) = key {
                        cells.set(row, bucket_of_text(key, *buckets), 1.0);
                    }
                }
            }
        },
        Feature::Words { buckets, binary, .. } => {
            let Keys::Text(texts) = keys()? else { return Err(changed(input, column.data_type())) };
            let mut counter = WordCounter::new(*buckets, *binary);
            for (row, text) in texts.iter().enumerate() {
                if let Some(text) = text {
                    counter.count(text).for_each(|(bucket, count)| cells.set(row, bucket, f64::from(count)));
                }
            }
        }
    }
    Ok(())
}

fn set_level<T: Element>(
    cells: &mut Cells<'_, T>,
    row: usize,
    level: Option<u32>,
    levels: &Levels,
    coding: &Coding,
    codes: Option<(u64, &FoldCodes)>,
) {
    match (coding, level) {
        (Coding::OneHot { .. }, Some(level)) => cells.set(row, level as usize, 1.0),
        (Coding::OneHot { unknown: true }, None) => cells.set(row, levels.count(), 1.0),
        (Coding::OneHot { unknown: false }, None) => {}
        (Coding::Ordered { codes: all, unknown }, level) => {
            let code = match codes {
                Some((number, codes)) => codes.code(number + row as u64, level),
                None => level.map_or(*unknown, |level| all[level as usize]),
            };
            cells.set(row, 0, code);
        }
    }
}
