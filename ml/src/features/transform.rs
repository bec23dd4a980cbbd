//! Turning rows into numbers with fitted features.

use arrow::array::{Array, RecordBatch};

use super::{Coding, Feature, FeatureError, FittedFeatures, Lookup};
use crate::columns::{self, Keys};
use crate::matrix::{Element, Matrix};

impl FittedFeatures {
    /// Writes the rows of a batch into the matrix, from `first_row` on. The matrix has the columns of
    /// [`FittedFeatures::names`] and is zero there; columns of the batch that the model doesn't read are ignored.
    pub fn transform<T: Element>(
        &self,
        batch: &RecordBatch,
        matrix: &mut Matrix<T>,
        first_row: usize,
    ) -> Result<(), FeatureError> {
        assert_eq!(matrix.columns(), self.data.outputs.len(), "the matrix has a column for each output");
        let mut at = 0;
        for ((input, feature), lookup) in self.data.inputs.iter().zip(&self.data.features).zip(&self.lookups) {
            let column = columns::column(batch, &input.name)
                .map_err(|nearest| FeatureError::Missing { column: input.name.clone(), nearest })?;
            let read = |source| FeatureError::Read { column: input.name.clone(), source };
            match feature {
                Feature::Numeric { impute, center, scale, indicator } => {
                    if !numbers_alike(input.kind, column.data_type()) {
                        return Err(FittedFeatures::changed(input, column.data_type().to_string()));
                    }
                    let numbers = columns::numbers(column).map_err(read)?;
                    let missing = numbers.nulls();
                    for (row, &number) in numbers.values().iter().enumerate() {
                        let is_missing = missing.is_some_and(|nulls| nulls.is_null(row));
                        let number = if is_missing { *impute } else { number };
                        matrix.set(first_row + row, at, T::nearest((number - center) / scale));
                        if *indicator && is_missing {
                            matrix.set(first_row + row, at + 1, T::nearest(1.0));
                        }
                    }
                }
                Feature::Categorical { levels, coding } => {
                    let mut set = |row: usize, level: Option<u32>| match (coding, level) {
                        (Coding::OneHot { .. }, Some(level)) => {
                            matrix.set(first_row + row, at + level as usize, T::nearest(1.0));
                        }
                        (Coding::OneHot { unknown: true }, None) => {
                            matrix.set(first_row + row, at + levels.count(), T::nearest(1.0));
                        }
                        (Coding::OneHot { unknown: false }, None) => {}
                        (Coding::Ordered { codes, .. }, Some(level)) => {
                            matrix.set(first_row + row, at, T::nearest(codes[level as usize]));
                        }
                        (Coding::Ordered { unknown, .. }, None) => {
                            matrix.set(first_row + row, at, T::nearest(*unknown));
                        }
                    };
                    match (columns::keys(column).map_err(read)?, lookup) {
                        (Some(Keys::Integer(keys)), Lookup::Integer(lookup)) => {
                            for (row, key) in keys.iter().enumerate() {
                                set(row, key.and_then(|key| lookup.get(&key).copied()));
                            }
                        }
                        (Some(Keys::Text(keys)), Lookup::Text(lookup)) => {
                            for (row, key) in keys.iter().enumerate() {
                                set(row, key.and_then(|key| lookup.get(key).copied()));
                            }
                        }
                        (_, _) => return Err(FittedFeatures::changed(input, column.data_type().to_string())),
                    }
                }
            }
            at += feature.width();
        }
        Ok(())
    }
}

/// Whether numbers of this Arrow type mean what the trained kind meant: a day isn't a count.
fn numbers_alike(trained: gristmill_protocol::pipeline::ColumnType, found: &arrow::datatypes::DataType) -> bool {
    use gristmill_protocol::pipeline::ColumnType::{Boolean, Date, Float, Integer, Timestamp};
    match (trained, columns::kind_of(found)) {
        (Boolean | Integer | Float, Some(Boolean | Integer | Float)) => true,
        (Date, Some(Date)) | (Timestamp, Some(Timestamp)) => true,
        // A column that is null throughout has no type of its own.
        (_, None) => *found == arrow::datatypes::DataType::Null,
        _ => false,
    }
}
