//! What a model asks of the rows it is given, and how rows are brought to it.
//!
//! | trained on | takes | refuses |
//! |---|---|---|
//! | boolean | whole numbers 0 and 1 | other numbers, text |
//! | integer | booleans; floats without a fraction | floats with one, text |
//! | float | booleans, integers | text, days |
//! | string | | everything else |
//! | date | | points in time, text |
//! | timestamp | days (their midnight, UTC) | text |
//!
//! Columns taken as numbers also take any number where another kind of number was (2.5 for a whole number).
//! Text that reads as a number is refused: who sends it has lost the types on the way, and what else was lost there
//! can't be seen. In JSON, which has no days, days and points in time are texts (`2013-01-31`, `2013-01-31T10:00:00Z`).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use gristmill_protocol::pipeline::ColumnType;
use serde_json::{Map, Value, json};

use super::{Feature, FeatureError, FittedFeatures, Input};
use crate::columns::{self, kind_name, kind_of};
use crate::dates::{parse_date, parse_timestamp};
use crate::table::arrow_type;

/// Whole numbers up to here are exact as floats: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The refusal of a column of another type.
pub(super) fn changed(input: &Input, found: &DataType) -> FeatureError {
    let name = &input.name;
    let trained = kind_name(input.kind);
    let hint = match (input.kind, kind_of(found)) {
        (ColumnType::Boolean | ColumnType::Integer | ColumnType::Float, Some(ColumnType::String)) => Some(format!(
            "text isn't read as a number: say `types: {{ {name}: {trained} }}` where it is ingested, or `cast` it in a transform"
        )),
        (ColumnType::Date, Some(ColumnType::Timestamp)) => {
            Some(format!("say which day is meant: `cast({name} as date)` in a transform"))
        }
        _ => None,
    };
    let found = kind_of(found).map_or_else(|| found.to_string(), |kind| kind_name(kind).to_owned());
    FeatureError::Changed { column: name.clone(), trained, found, hint }
}

/// A column in the type that training had it in; see the table above.
pub(super) fn coerce(input: &Input, column: &ArrayRef) -> Result<ArrayRef, FeatureError> {
    use ColumnType::{Boolean, Date, Float, Integer, Timestamp};
    let wanted = arrow_type(input.kind);
    if *column.data_type() == wanted {
        return Ok(column.clone());
    }
    if *column.data_type() == DataType::Null {
        return Ok(new_null_array(&wanted, column.len()));
    }
    let read = |source| FeatureError::Read { column: input.name.clone(), source };
    match (input.kind, kind_of(column.data_type())) {
        (trained, Some(found)) if trained == found => {}
        (Float, Some(Integer | Boolean)) | (Integer, Some(Boolean)) | (Timestamp, Some(Date)) => {}
        (Integer, Some(Float)) => {
            let numbers = cast(column, &DataType::Float64).map_err(read)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            let fraction = numbers.iter().enumerate().find_map(|(row, value)| {
                value
                    .filter(|value| value.is_finite() && (value.fract() != 0.0 || value.abs() > WHOLE_MAX))
                    .map(|value| (row, value))
            });
            if let Some((row, value)) = fraction {
                return Err(FeatureError::NotWhole { column: input.name.clone(), value, row });
            }
        }
        (Boolean, Some(Integer)) => {
            let numbers = cast(column, &DataType::Int64).map_err(read)?;
            if numbers.as_primitive::<Int64Type>().iter().flatten().any(|value| value != 0 && value != 1) {
                return Err(changed(input, column.data_type()));
            }
        }
        _ => return Err(changed(input, column.data_type())),
    }
    cast(column, &wanted).map_err(read)
}

/// The types that a column of this kind takes beside its own.
fn also_takes(kind: ColumnType) -> &'static [ColumnType] {
    match kind {
        ColumnType::Boolean => &[ColumnType::Integer],
        ColumnType::Integer => &[ColumnType::Boolean, ColumnType::Float],
        ColumnType::Float => &[ColumnType::Boolean, ColumnType::Integer],
        ColumnType::Timestamp => &[ColumnType::Date],
        ColumnType::String | ColumnType::Date => &[],
    }
}

impl FittedFeatures {
    /// The signature as JSON: `inputs`, each with `name`, `type`, `accepts` (types) and `nulls` (whether training
    /// met missing values), and `expressions`, each with `name`, `sql` and `type`.
    pub fn signature_json(&self) -> Value {
        let input = |input: &Input| {
            let accepts = std::iter::once(&input.kind).chain(also_takes(input.kind));
            json!({
                "name": input.name,
                "type": kind_name(input.kind),
                "accepts": accepts.map(|kind| kind_name(*kind)).collect::<Vec<_>>(),
                "nulls": input.nullable,
            })
        };
        let expressions = self.expressions();
        json!({
            "inputs": self.signature().iter().map(input).collect::<Vec<_>>(),
            "expressions": expressions
                .iter()
                .map(|stored| json!({ "name": stored.name, "sql": stored.sql, "type": kind_name(stored.kind) }))
                .collect::<Vec<_>>(),
        })
    }

    /// Whether a batch has all that the model reads, in types that it takes, without missing values in columns where
    /// training met none. Scoring itself takes missing values anywhere: as what training would have filled in.
    pub fn check(&self, batch: &RecordBatch) -> Result<(), FeatureError> {
        for input in self.signature() {
            let column = columns::column(batch, &input.name)
                .map_err(|nearest| FeatureError::Missing { column: input.name.clone(), nearest })?;
            let column = if self.is_only_a_number(&input.name) && is_alike(input.kind, column.data_type()) {
                let read = |source| FeatureError::Read { column: input.name.clone(), source };
                Arc::new(columns::numbers(column).map_err(read)?)
            } else {
                coerce(input, column)?
            };
            if let Some(row) = (0..column.len()).find(|&row| !input.nullable && column.is_null(row)) {
                return Err(FeatureError::Null { column: input.name.clone(), row });
            }
        }
        Ok(())
    }

    /// Whether this column is taken as a number and looked at by no expression.
    fn is_only_a_number(&self, name: &str) -> bool {
        let mut features = self.data.inputs.iter().zip(&self.data.features);
        features.any(|(input, feature)| {
            input.name == name && matches!(feature, Feature::Numeric { .. } | Feature::Number(_) | Feature::Binned(_))
        }) && self.data.expressions.inputs.iter().all(|input| input.name != name)
    }

    /// A batch of rows that came as JSON objects. Names that the model doesn't read are ignored; a name that is left
    /// out is a missing value where training met some, else an error.
    pub fn read_rows(&self, rows: &[Value]) -> Result<RecordBatch, FeatureError> {
        let objects: Vec<&Map<String, Value>> = rows
            .iter()
            .enumerate()
            .map(|(row, value)| value.as_object().ok_or(FeatureError::NotARow { row }))
            .collect::<Result<_, _>>()?;
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        for input in self.signature() {
            for object in &objects {
                if !object.contains_key(&input.name) && !input.nullable {
                    let nearest = columns::nearest(&input.name, object.keys().map(String::as_str));
                    return Err(FeatureError::Missing { column: input.name.clone(), nearest });
                }
            }
            let fractions = self.is_only_a_number(&input.name);
            let values = objects.iter().map(|object| object.get(&input.name).filter(|value| !value.is_null()));
            let array = json_column(input, values, fractions)?;
            fields.push(Field::new(&input.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        Ok(batch.expect("columns of as many values as there are rows"))
    }
}

/// A column of JSON values, in the type that training had it in; with `fractions`, whole numbers may be floats.
fn json_column<'a>(
    input: &Input,
    values: impl Iterator<Item = Option<&'a Value>>,
    fractions: bool,
) -> Result<ArrayRef, FeatureError> {
    fn collect<'a, T>(
        input: &Input,
        values: impl Iterator<Item = Option<&'a Value>>,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Vec<Option<T>>, FeatureError> {
        let refuse = |row: usize, value: &Value| match (input.kind, value) {
            (ColumnType::Date | ColumnType::Timestamp, Value::String(text)) => {
                let (column, text, wanted) = (input.name.clone(), text.clone(), kind_name(input.kind));
                FeatureError::Unread { column, text, row, wanted }
            }
            (ColumnType::Integer, Value::Number(number)) => {
                let value = number.as_f64().unwrap_or(f64::NAN);
                FeatureError::NotWhole { column: input.name.clone(), value, row }
            }
            _ => json_changed(input, value),
        };
        values
            .enumerate()
            .map(|(row, value)| match value {
                Some(value) => read(value).map(Some).ok_or_else(|| refuse(row, value)),
                None => Ok(None),
            })
            .collect()
    }
    let flag = |value: &Value| value.as_bool().map(|flag| f64::from(u8::from(flag)));
    let number = |value: &Value| value.as_f64().or_else(|| flag(value));
    let whole = |value: &Value| {
        let float = || number(value).filter(|value| value.fract() == 0.0 && value.abs() <= WHOLE_MAX);
        value.as_i64().or_else(|| float().map(|value| value as i64))
    };
    Ok(match input.kind {
        ColumnType::Boolean => {
            let read = |value: &Value| {
                value.as_bool().or_else(|| {
                    whole(value).and_then(|value| match value {
                        0 => Some(false),
                        1 => Some(true),
                        _ => None,
                    })
                })
            };
            Arc::new(BooleanArray::from(collect(input, values, read)?))
        }
        ColumnType::Integer if fractions => Arc::new(Float64Array::from(collect(input, values, number)?)),
        ColumnType::Integer => Arc::new(Int64Array::from(collect(input, values, whole)?)),
        ColumnType::Float => Arc::new(Float64Array::from(collect(input, values, number)?)),
        ColumnType::String => Arc::new(StringArray::from(collect(input, values, Value::as_str)?)),
        ColumnType::Date => {
            let read = |value: &Value| parse_date(value.as_str()?.as_bytes());
            Arc::new(Date32Array::from(collect(input, values, read)?))
        }
        ColumnType::Timestamp => {
            let read = |value: &Value| parse_timestamp(value.as_str()?.as_bytes());
            Arc::new(TimestampMicrosecondArray::from(collect(input, values, read)?).with_timezone("UTC"))
        }
    })
}

fn json_changed(input: &Input, value: &Value) -> FeatureError {
    let (found, hint) = match (value, input.kind) {
        (Value::String(text), _) => ("text", Some(format!("write it without quotes: `{text}`"))),
        (Value::Bool(_), _) => ("boolean", None),
        (Value::Number(number), ColumnType::String) => ("number", Some(format!("put it in quotes: `\"{number}\"`"))),
        (Value::Number(_), ColumnType::Date) => ("number", Some("write it as `\"2013-01-31\"`".to_owned())),
        (Value::Number(_), ColumnType::Timestamp) => {
            ("number", Some("write it as `\"2013-01-31T10:00:00Z\"`".to_owned()))
        }
        (Value::Number(_), _) => ("number", None),
        (Value::Array(_), _) => ("list", None),
        (Value::Object(_), _) => ("object", None),
        (Value::Null, _) => ("null", None),
    };
    let hint = hint.or_else(|| Some(format!("send a value of type {}", kind_name(input.kind))));
    FeatureError::Changed { column: input.name.clone(), trained: kind_name(input.kind), found: found.to_owned(), hint }
}

/// Whether numbers of this Arrow type mean what the trained kind meant: a day isn't a count.
pub(super) fn is_alike(trained: ColumnType, found: &DataType) -> bool {
    use ColumnType::{Boolean, Date, Float, Integer, Timestamp};
    match (trained, kind_of(found)) {
        (Boolean | Integer | Float, Some(Boolean | Integer | Float)) => true,
        (Date, Some(Date)) | (Timestamp, Some(Timestamp)) => true,
        // A column that is null throughout has no type of its own.
        (_, None) => *found == DataType::Null,
        _ => false,
    }
}
