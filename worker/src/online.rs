//! Models of the registry, as online scoring knows them.
//!
//! ```text
//! online.rs      a model that answers requests
//! source.rs      the registry as what models come from
//! endpoints.rs   endpoints as all servers share them: what is wanted, and what each has seen
//! captured.rs    captured requests as Parquet files
//! ```
//!
//! Numbers are taken as numbers whatever whole or not they were in training, as in a batch; days and points in time are
//! texts (`2013-01-31`, `2013-01-31T10:00:00Z`), as JSON has no others.

pub mod captured;
pub mod endpoints;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field as ArrowField, Float64Type, Int64Type, Schema, SchemaRef};
use gristmill_ml::dates::{parse_date, parse_timestamp};
use gristmill_ml::model::Model;
use gristmill_ml::table::{arrow_type, kind_name};
use gristmill_online::{Column, Field, Kind, PredictError, Predictions, Predictor, Rows, Signature, Texts, Values};
use gristmill_protocol::pipeline::ColumnType;

/// What stands before the name of a column's tag among the registry's tags: `columns.pii` is `name,email`.
const COLUMNS: &str = "columns.";

/// A model that answers requests.
pub struct Served {
    model: Model,
    signature: Signature,
    schema: SchemaRef,
    kinds: Vec<ColumnType>,
    outputs: Vec<Arc<str>>,
}

impl Served {
    /// Makes a model ready; the first request doesn't wait for that.
    pub fn new(model: Model) -> Result<Served, PredictError> {
        Served::tagged(model, &BTreeMap::new())
    }

    /// The same with what the registry's tags say of columns: `columns.pii: name,email` gives both the tag `pii`.
    pub fn tagged(model: Model, tags: &BTreeMap<String, String>) -> Result<Served, PredictError> {
        let numbers = model.features().takes_numbers();
        let mut inputs = Vec::new();
        let mut fields = Vec::new();
        for (input, takes_number) in model.signature().iter().zip(numbers) {
            let kind = match input.kind {
                ColumnType::Integer if takes_number => Kind::Number,
                ColumnType::Integer => Kind::Integer,
                ColumnType::Float => Kind::Number,
                ColumnType::Boolean => Kind::Bool,
                ColumnType::String | ColumnType::Date | ColumnType::Timestamp => Kind::Text,
            };
            let of_it = |columns: &str| columns.split(',').any(|column| column.trim() == input.name);
            let named = tags.iter().filter_map(|(tag, columns)| Some((tag.strip_prefix(COLUMNS)?, columns)));
            let of_it = named.filter(|(_, columns)| of_it(columns)).map(|(tag, _)| tag);
            let field = of_it.fold(Field::new(&input.name, kind), Field::tagged);
            inputs.push(if input.nullable { field.nullable() } else { field });
            let arrow = match (input.kind, kind) {
                (ColumnType::Integer, Kind::Number) => DataType::Float64,
                (kind, _) => arrow_type(kind),
            };
            fields.push(ArrowField::new(&input.name, arrow, true));
        }
        let schema = Arc::new(Schema::new(fields));
        let kinds = model.signature().iter().map(|input| input.kind).collect();
        let nothing = RecordBatch::new_empty(Arc::clone(&schema));
        let said = model.predict(&nothing).map_err(|error| PredictError::Failed(error.to_string()))?.columns();
        let output = |(name, array): &(String, ArrayRef)| Field::new(name, kind_of(array.data_type()));
        let signature = Signature::new(inputs, said.iter().map(output).collect());
        let outputs = said.iter().map(|(name, _)| name.as_str().into()).collect();
        Ok(Served { model, signature, schema, kinds, outputs })
    }

    fn batch(&self, rows: &Rows) -> Result<RecordBatch, PredictError> {
        let columns = rows.columns().iter().zip(&self.kinds).zip(rows.names());
        let arrays = columns.map(|((column, kind), name)| array(column, *kind, name)).collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(|error| PredictError::Failed(error.to_string()))
    }
}

impl Predictor for Served {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Predictions, PredictError> {
        let batch = self.batch(rows)?;
        let said = self.model.predict(&batch).map_err(|error| match error.hint() {
            Some(hint) => PredictError::BadRows(format!("{error}; {hint}")),
            None => PredictError::BadRows(error.to_string()),
        })?;
        let columns = said.columns().into_iter().zip(&self.outputs);
        let columns = columns.map(|((_, array), name)| Ok((Arc::clone(name), column(&array)?)));
        Ok(Predictions::new(columns.collect::<Result<_, PredictError>>()?, rows.len()))
    }
}

/// What a column of predictions holds, for clients.
fn kind_of(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Boolean => Kind::Bool,
        DataType::Int64 => Kind::Integer,
        DataType::Float64 => Kind::Number,
        _ => Kind::Text,
    }
}

/// A column of a request in the type that training had it in.
fn array(column: &Column, kind: ColumnType, name: &str) -> Result<ArrayRef, PredictError> {
    let null = |at: usize| column.is_null(at);
    Ok(match column.values() {
        Values::Number(values) => {
            Arc::new(Float64Array::from_iter(values.iter().enumerate().map(|(at, v)| (!null(at)).then_some(*v))))
        }
        Values::Integer(values) => {
            Arc::new(Int64Array::from_iter(values.iter().enumerate().map(|(at, v)| (!null(at)).then_some(*v))))
        }
        Values::Bool(values) => {
            Arc::new(BooleanArray::from_iter(values.iter().enumerate().map(|(at, v)| (!null(at)).then_some(*v))))
        }
        Values::Text(texts) => match kind {
            ColumnType::Date => {
                let days = times(texts, null, |text| parse_date(text.as_bytes()), name, kind)?;
                Arc::new(Date32Array::from(days))
            }
            ColumnType::Timestamp => {
                let instants = times(texts, null, |text| parse_timestamp(text.as_bytes()), name, kind)?;
                Arc::new(TimestampMicrosecondArray::from(instants).with_timezone("UTC"))
            }
            _ => Arc::new(StringArray::from_iter((0..texts.len()).map(|at| (!null(at)).then(|| texts.get(at))))),
        },
    })
}

/// Texts as days or points in time.
fn times<T>(
    texts: &Texts,
    null: impl Fn(usize) -> bool,
    parse: impl Fn(&str) -> Option<T>,
    name: &str,
    kind: ColumnType,
) -> Result<Vec<Option<T>>, PredictError> {
    let read = |at: usize| {
        if null(at) {
            return Ok(None);
        }
        let text = texts.get(at);
        let read = parse(text).map(Some);
        read.ok_or_else(|| {
            PredictError::BadRows(format!("`{text}` in row {at} of column `{name}` is no {}", kind_name(kind)))
        })
    };
    (0..texts.len()).map(read).collect()
}

/// A column of predictions for clients.
fn column(array: &ArrayRef) -> Result<Column, PredictError> {
    Ok(match array.data_type() {
        DataType::Boolean => {
            Column::from(array.as_boolean().iter().map(|value| value.unwrap_or_default()).collect::<Vec<_>>())
        }
        DataType::Int64 => Column::from(array.as_primitive::<Int64Type>().values().to_vec()),
        DataType::Float64 => Column::from(array.as_primitive::<Float64Type>().values().to_vec()),
        _ => {
            let texts = cast(array, &DataType::Utf8).map_err(|error| PredictError::Failed(error.to_string()))?;
            let texts = texts.as_string::<i32>();
            Column::from((0..texts.len()).map(|at| texts.value(at)).collect::<Texts>())
        }
    })
}
