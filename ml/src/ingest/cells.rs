//! Cells of text: what kind of value one is, and columns that grow by one at a time.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::SchemaRef;
use gristmill_protocol::pipeline::steps::ColumnType;

use crate::dates;
use crate::partition::BATCH_ROWS;
use crate::table::{TableError, TableSchema, kind_name};

/// Bytes of text at which a batch ends before it has all its rows, so that long texts don't take all the memory.
const BATCH_TEXT_BYTES: usize = 16 * 1024 * 1024;

/// The texts that mean "no value".
pub struct Nulls {
    texts: Vec<Vec<u8>>,
    empty: bool,
    /// Which bytes such a text begins with: nearly all cells are told apart by their first byte.
    first: [bool; 256],
}

impl Nulls {
    pub fn new(texts: &[String]) -> Nulls {
        let mut first = [false; 256];
        texts.iter().filter_map(|text| text.as_bytes().first()).for_each(|byte| first[usize::from(*byte)] = true);
        let empty = texts.iter().any(String::is_empty);
        Nulls { texts: texts.iter().map(|text| text.clone().into_bytes()).collect(), empty, first }
    }

    #[inline]
    pub fn contains(&self, cell: &[u8]) -> bool {
        match cell.first() {
            None => self.empty,
            Some(byte) => self.first[usize::from(*byte)] && self.texts.iter().any(|text| text == cell),
        }
    }
}

/// A whole number of 64 bits, with or without a sign.
#[inline]
pub fn parse_integer(cell: &[u8]) -> Option<i64> {
    let (negative, digits) = match cell {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_i64;
    if digits.len() <= 18 {
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number * 10 + i64::from(digit);
        }
        return Some(if negative { -number } else { number });
    }
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Counting down reaches the smallest number, which has no positive twin.
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// A floating-point number, in decimal or scientific notation, or `inf`.
#[inline]
pub fn parse_float(cell: &[u8]) -> Option<f64> {
    // Up to fifteen digits are exact as a whole number, and much faster read.
    if cell.len() <= 15
        && let Some(number) = parse_integer(cell)
    {
        // Only a float knows a negative zero.
        return Some(if number == 0 && cell[0] == b'-' { -0.0 } else { number as f64 });
    }
    std::str::from_utf8(cell).ok()?.parse().ok()
}

/// A truth value as people write it.
#[inline]
pub fn parse_boolean(cell: &[u8]) -> Option<bool> {
    const TRUE: [&[u8]; 5] = [b"true", b"1", b"t", b"yes", b"y"];
    const FALSE: [&[u8]; 5] = [b"false", b"0", b"f", b"no", b"n"];
    if TRUE.iter().any(|text| cell.eq_ignore_ascii_case(text)) {
        return Some(true);
    }
    FALSE.iter().any(|text| cell.eq_ignore_ascii_case(text)).then_some(false)
}

/// Whether it is a number written with zeros in front: a code, such as a postal one.
fn has_leading_zero(cell: &[u8]) -> bool {
    let digits = cell.strip_prefix(b"-").unwrap_or(cell);
    matches!(digits, [b'0', next, ..] if next.is_ascii_digit())
}

/// The narrowest kind that a text can be read as.
#[inline]
pub fn classify(cell: &[u8]) -> ColumnType {
    let cell = cell.trim_ascii();
    let Some(first) = cell.first() else { return ColumnType::String };
    if first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.') {
        if has_leading_zero(cell) {
            return ColumnType::String;
        }
        if parse_integer(cell).is_some() {
            return ColumnType::Integer;
        }
        if dates::parse_date(cell).is_some() {
            return ColumnType::Date;
        }
        if dates::parse_timestamp(cell).is_some() {
            return ColumnType::Timestamp;
        }
        // What only a float could hold as a whole number is an identifier that would lose digits.
        let whole = cell.strip_prefix(b"-").unwrap_or(cell).iter().all(u8::is_ascii_digit);
        if !whole && parse_float(cell).is_some() {
            return ColumnType::Float;
        }
        return ColumnType::String;
    }
    if cell.eq_ignore_ascii_case(b"true") || cell.eq_ignore_ascii_case(b"false") {
        return ColumnType::Boolean;
    }
    if [&b"inf"[..], b"infinity"].iter().any(|text| cell.eq_ignore_ascii_case(text)) {
        return ColumnType::Float;
    }
    ColumnType::String
}

/// The narrowest kind that holds what both hold.
pub fn widen(one: ColumnType, other: ColumnType) -> ColumnType {
    use ColumnType::*;
    match (one, other) {
        (one, other) if one == other => one,
        (Integer, Float) | (Float, Integer) => Float,
        (Date, Timestamp) | (Timestamp, Date) => Timestamp,
        _ => String,
    }
}

/// A column that grows.
struct Growing {
    kind: ColumnType,
    words: Words,
    valid: Vec<bool>,
}

enum Words {
    Boolean(Vec<bool>),
    Integer(Vec<i64>),
    Float(Vec<f64>),
    Date(Vec<i32>),
    Text { ends: Vec<i32>, bytes: Vec<u8> },
}

impl Growing {
    fn new(kind: ColumnType) -> Growing {
        let words = match kind {
            ColumnType::Boolean => Words::Boolean(Vec::new()),
            ColumnType::Integer | ColumnType::Timestamp => Words::Integer(Vec::new()),
            ColumnType::Float => Words::Float(Vec::new()),
            ColumnType::Date => Words::Date(Vec::new()),
            ColumnType::String => Words::Text { ends: vec![0], bytes: Vec::new() },
        };
        Growing { kind, words, valid: Vec::new() }
    }

    fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.words {
            Words::Boolean(values) => values.push(false),
            Words::Integer(values) => values.push(0),
            Words::Float(values) => values.push(0.0),
            Words::Date(values) => values.push(0),
            Words::Text { ends, bytes } => ends.push(bytes.len() as i32),
        }
    }

    /// Adds a cell; false when it isn't of the column's kind.
    #[inline]
    fn push_text(&mut self, cell: &[u8]) -> bool {
        let pushed = match &mut self.words {
            Words::Text { ends, bytes } => {
                bytes.extend_from_slice(cell);
                ends.push(bytes.len() as i32);
                true
            }
            Words::Integer(values) if self.kind == ColumnType::Timestamp => {
                push(values, dates::parse_timestamp(cell.trim_ascii()))
            }
            Words::Integer(values) => push(values, parse_integer(cell.trim_ascii())),
            Words::Float(values) => push(values, parse_float(cell.trim_ascii())),
            Words::Date(values) => push(values, dates::parse_date(cell.trim_ascii())),
            Words::Boolean(values) => push(values, parse_boolean(cell.trim_ascii())),
        };
        if pushed {
            self.valid.push(true);
        }
        pushed
    }

    fn truncate(&mut self, rows: usize) {
        self.valid.truncate(rows);
        match &mut self.words {
            Words::Boolean(values) => values.truncate(rows),
            Words::Integer(values) => values.truncate(rows),
            Words::Float(values) => values.truncate(rows),
            Words::Date(values) => values.truncate(rows),
            Words::Text { ends, bytes } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends[rows] as usize);
            }
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, arrow::error::ArrowError> {
        let done = std::mem::replace(self, Growing::new(self.kind));
        let nulls = done.valid.contains(&false).then(|| NullBuffer::from(done.valid));
        Ok(match done.words {
            Words::Boolean(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Words::Integer(values) if done.kind == ColumnType::Timestamp => {
                Arc::new(TimestampMicrosecondArray::new(ScalarBuffer::from(values), nulls).with_timezone("UTC"))
            }
            Words::Integer(values) => Arc::new(Int64Array::new(ScalarBuffer::from(values), nulls)),
            Words::Float(values) => Arc::new(Float64Array::new(ScalarBuffer::from(values), nulls)),
            Words::Date(values) => Arc::new(Date32Array::new(ScalarBuffer::from(values), nulls)),
            Words::Text { ends, bytes } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls)?)
            }
        })
    }
}

#[inline]
fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            values.push(value);
            true
        }
        None => false,
    }
}

/// Rows that grow cell by cell into batches. A row whose cells don't all fit is taken back.
pub struct Rows {
    schema: TableSchema,
    arrow_schema: SchemaRef,
    columns: Vec<Growing>,
    rows: usize,
}

impl Rows {
    pub fn new(schema: &TableSchema) -> Rows {
        let columns = schema.columns.iter().map(|column| Growing::new(column.kind)).collect();
        Rows { schema: schema.clone(), arrow_schema: schema.to_arrow(), columns, rows: 0 }
    }

    /// Adds a cell of the row to a column; why not, when the column can't hold it.
    ///
    /// The text must be UTF-8 where the column holds text.
    #[inline]
    pub fn push_text(&mut self, column: usize, cell: &[u8]) -> Result<(), String> {
        if self.columns[column].push_text(cell) { Ok(()) } else { Err(self.mismatch(column, cell)) }
    }

    pub fn push_null(&mut self, column: usize) {
        self.columns[column].push_null();
    }

    pub fn push_boolean(&mut self, column: usize, value: bool) -> Result<(), String> {
        match &mut self.columns[column].words {
            Words::Boolean(values) => values.push(value),
            _ => return self.push_text(column, if value { b"true" } else { b"false" }),
        }
        self.columns[column].valid.push(true);
        Ok(())
    }

    pub fn push_integer(&mut self, column: usize, value: i64) -> Result<(), String> {
        let growing = &mut self.columns[column];
        match &mut growing.words {
            Words::Integer(values) if growing.kind == ColumnType::Integer => values.push(value),
            Words::Float(values) => values.push(value as f64),
            _ => return self.push_text(column, value.to_string().as_bytes()),
        }
        growing.valid.push(true);
        Ok(())
    }

    pub fn push_float(&mut self, column: usize, value: f64) -> Result<(), String> {
        match &mut self.columns[column].words {
            Words::Float(values) => values.push(value),
            _ => return self.push_text(column, value.to_string().as_bytes()),
        }
        self.columns[column].valid.push(true);
        Ok(())
    }

    /// Ends the row; columns without a cell are null.
    pub fn end_row(&mut self) {
        self.rows += 1;
        for column in &mut self.columns {
            if column.valid.len() < self.rows {
                column.push_null();
            }
        }
    }

    /// Whether the row in the making has a cell in this column already.
    pub fn has(&self, column: usize) -> bool {
        self.columns[column].valid.len() > self.rows
    }

    /// Takes back the row in the making.
    pub fn drop_row(&mut self) {
        self.columns.iter_mut().for_each(|column| column.truncate(self.rows));
    }

    /// Whether the batch should be taken out.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || (self.rows.is_multiple_of(64) && self.text_bytes() >= BATCH_TEXT_BYTES)
    }

    fn text_bytes(&self) -> usize {
        let bytes = |column: &Growing| if let Words::Text { bytes, .. } = &column.words { bytes.len() } else { 0 };
        self.columns.iter().map(bytes).sum()
    }

    /// Takes the rows out; `None` when there are none.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let rows = std::mem::take(&mut self.rows);
        if rows == 0 {
            return Ok(None);
        }
        let arrays = self.columns.iter_mut().map(Growing::finish).collect::<Result<Vec<_>, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(self.arrow_schema.clone(), arrays, &options))
            .map_err(TableError::Assemble)?;
        Ok(Some(batch))
    }

    #[cold]
    fn mismatch(&self, column: usize, cell: &[u8]) -> String {
        let column = &self.schema.columns[column];
        let text = String::from_utf8_lossy(cell);
        let shown = &text[..text.floor_char_boundary(60)];
        let more = if shown.len() < text.len() { "…" } else { "" };
        format!("`{}`: `{shown}{more}` is not of type {}", column.name, kind_name(column.kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_of_the_narrowest_kind() {
        use ColumnType::*;
        for (text, kind) in [
            ("1", Integer),
            ("-17", Integer),
            (" 5 ", Integer),
            ("9223372036854775807", Integer),
            ("9223372036854775808", String),
            ("00501", String),
            ("0", Integer),
            ("0.5", Float),
            ("-0.5e-3", Float),
            (".5", Float),
            ("1e5", Float),
            ("-inf", Float),
            ("TRUE", Boolean),
            ("yes", String),
            ("2013-01-01", Date),
            ("2013-02-30", String),
            ("2013-01-01 10:00", Timestamp),
            ("2013-01-01T10:00:00Z", Timestamp),
            ("N14228", String),
            ("1 000", String),
            ("-", String),
            ("+", String),
            (".", String),
        ] {
            assert_eq!(classify(text.as_bytes()), kind, "{text}");
        }
    }

    #[test]
    fn texts_that_mean_no_value_are_whole_cells() {
        let nulls = Nulls::new(&["".into(), "NA".into(), "N/A".into()]);
        for (text, null) in [("", true), ("NA", true), ("N/A", true), ("N", false), ("NAN", false), ("0", false)] {
            assert_eq!(nulls.contains(text.as_bytes()), null, "{text}");
        }
        assert!(!Nulls::new(&["-".into()]).contains(b""));
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_the_standard_library_reads_them(number in any::<i64>(), real in any::<f64>(), short in -999_999_i64..999_999) {
            prop_assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
            let text = real.to_string();
            prop_assert_eq!(parse_float(text.as_bytes()).unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits());
            prop_assert_eq!(parse_float(short.to_string().as_bytes()), Some(short as f64));
        }

        #[test]
        fn no_text_breaks_the_readers(text in "[-+0-9.eEinfnaT: ]{0,25}") {
            let cell = text.as_bytes();
            prop_assert_eq!(parse_integer(cell), text.parse::<i64>().ok());
            let expected = text.parse::<f64>().ok().map(f64::to_bits);
            prop_assert_eq!(parse_float(cell).map(f64::to_bits), expected);
            classify(cell);
        }
    }
}
