//! Arrow columns as the learning side reads them: numbers, or the keys of levels.
//!
//! A float that is not a number or infinite counts as missing everywhere, so that no estimator meets one.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::error::ArrowError;
use gristmill_protocol::pipeline::ColumnType;

pub(crate) use crate::table::kind_name;

/// The kind of values in a column of this Arrow type; none when pipelines don't know such columns.
pub(crate) fn kind_of(data_type: &DataType) -> Option<ColumnType> {
    match data_type {
        DataType::Boolean => Some(ColumnType::Boolean),
        data_type if data_type.is_integer() => Some(ColumnType::Integer),
        data_type if data_type.is_floating() => Some(ColumnType::Float),
        DataType::Decimal128(..) | DataType::Decimal256(..) => Some(ColumnType::Float),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(ColumnType::String),
        DataType::Dictionary(_, values) => kind_of(values),
        DataType::Date32 | DataType::Date64 => Some(ColumnType::Date),
        DataType::Timestamp(..) => Some(ColumnType::Timestamp),
        _ => None,
    }
}

/// The column's values as numbers: booleans are 0 and 1, dates days and timestamps seconds since 1970.
/// Missing values, NaN and infinities are null.
pub(crate) fn numbers(column: &ArrayRef) -> Result<Float64Array, ArrowError> {
    let numbers: Float64Array = match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().unary(f64::from),
        DataType::Date64 => {
            let days = cast(column, &DataType::Date32)?;
            days.as_primitive::<Date32Type>().unary(f64::from)
        }
        DataType::Timestamp(..) => {
            let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            micros.as_primitive::<TimestampMicrosecondType>().unary(|micros| micros as f64 / 1e6)
        }
        _ => cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone(),
    };
    if numbers.values().iter().all(|value| value.is_finite()) {
        return Ok(numbers);
    }
    Ok(numbers.iter().map(|value| value.filter(|value| value.is_finite())).collect())
}

/// The keys of a column's levels.
pub(crate) enum Keys {
    /// Of booleans (0 and 1), whole numbers and dates (days since 1970).
    Integer(Int64Array),
    Text(StringArray),
}

/// The column's values as keys of levels; none when columns of this type have no levels.
pub(crate) fn keys(column: &ArrayRef) -> Result<Option<Keys>, ArrowError> {
    let Some(kind) = kind_of(column.data_type()) else { return Ok(None) };
    Ok(match kind {
        ColumnType::String => Some(Keys::Text(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())),
        ColumnType::Boolean | ColumnType::Integer => {
            Some(Keys::Integer(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone()))
        }
        ColumnType::Date => {
            let days = cast(column, &DataType::Date32)?;
            Some(Keys::Integer(days.as_primitive::<Date32Type>().unary(i64::from)))
        }
        ColumnType::Float | ColumnType::Timestamp => None,
    })
}

/// The name among `names` that is most like `name`, when one is like it at all.
pub(crate) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= name.chars().count().max(candidate.chars().count()) / 3)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// The column of this name, or the name most like it.
pub(crate) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Option<String>> {
    batch
        .column_by_name(name)
        .ok_or_else(|| nearest(name, batch.schema_ref().fields().iter().map(|field| field.name().as_str())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Date32Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn every_kind_of_number_is_read() {
        let read = |column: ArrayRef| numbers(&column).unwrap().iter().collect::<Vec<_>>();
        assert_eq!(read(Arc::new(BooleanArray::from(vec![Some(true), None]))), [Some(1.0), None]);
        assert_eq!(read(Arc::new(Int64Array::from(vec![7, -2]))), [Some(7.0), Some(-2.0)]);
        assert_eq!(read(Arc::new(Date32Array::from(vec![10]))), [Some(10.0)]);
        assert_eq!(read(Arc::new(TimestampMicrosecondArray::from(vec![1_500_000]))), [Some(1.5)]);
    }

    #[test]
    fn what_is_not_finite_is_missing() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(f64::NAN), Some(f64::INFINITY), None]));
        assert_eq!(numbers(&column).unwrap().iter().collect::<Vec<_>>(), [Some(1.0), None, None, None]);
    }

    #[test]
    fn the_nearest_name_is_found_and_a_strange_one_is_not() {
        let names = ["dep_delay", "carrier", "origin"];
        assert_eq!(nearest("dep_dely", names), Some("dep_delay".to_owned()));
        assert_eq!(nearest("Carrier", names), Some("carrier".to_owned()));
        assert_eq!(nearest("temperature", names), None);
    }
}
