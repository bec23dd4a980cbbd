//! Reads NDJSON (one JSON object a line) into batches.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cells::Rows;
use super::input::{Input, Line, Lines, RECORD_BYTES_MAX};
use super::part::{FilePart, Stretch};
use super::quarantine::Quarantine;
use super::{IngestError, SourceFile, Take};
use crate::table::TableSchema;

pub fn open(file: &SourceFile) -> Result<Lines, IngestError> {
    let input = Input::open(file.to_open()).map_err(|source| IngestError::Read { path: file.path.clone(), source })?;
    Ok(Lines::new(input))
}

/// Reads a part of a file of this schema.
pub fn read(
    part: &FilePart,
    schema: &TableSchema,
    quarantine: &mut Quarantine,
    take: &mut Take,
) -> Result<Stretch, IngestError> {
    let file = &part.file;
    let opened = |source| IngestError::Read { path: file.path.clone(), source };
    let mut lines = Lines::new(part.open_at_first_line().map_err(opened)?);
    let start = lines.position();
    let columns: HashMap<&str, usize> = schema.names().enumerate().map(|(index, name)| (name, index)).collect();
    let mut rows = Rows::new(schema);
    let assembled = |source| IngestError::Schema { path: file.path.clone(), source };
    while !part.stops_at(lines.position()) {
        let number = lines.number() + 1;
        let Some(line) = lines.next() else { break };
        match line {
            Line::Text(text) if text.trim_ascii().is_empty() => {}
            Line::Text(text) => match each_value(text, |key, value| match columns.get(key) {
                Some(column) => push(&mut rows, *column, key, value),
                None => Ok(()),
            }) {
                Ok(()) => rows.end_row(),
                Err(reason) => {
                    rows.drop_row();
                    quarantine.add(&file.path, number, reason, text);
                }
            },
            Line::TooLong(raw) => {
                quarantine.add(&file.path, number, format!("longer than {} KiB", RECORD_BYTES_MAX / 1024), raw);
            }
            Line::Broken(raw, reason) => {
                quarantine.cut_short(&file.path, number, reason);
                quarantine.add(&file.path, number, format!("the file breaks off here ({reason})"), raw);
            }
        }
        if rows.is_full()
            && let Some(batch) = rows.take().map_err(assembled)?
        {
            take(batch)?;
        }
    }
    if let Some(batch) = rows.take().map_err(assembled)? {
        take(batch)?;
    }
    Ok(Stretch { start, end: lines.position(), lines: lines.number() })
}

fn push(rows: &mut Rows, column: usize, key: &str, value: Value) -> Result<(), String> {
    if rows.has(column) {
        return Err(format!("`{key}` comes twice"));
    }
    match value {
        Value::Null => {
            rows.push_null(column);
            Ok(())
        }
        Value::Boolean(value) => rows.push_boolean(column, value),
        Value::Integer(value) => rows.push_integer(column, value),
        Value::Float(value) => rows.push_float(column, value),
        Value::Text(text) => rows.push_text(column, text.as_bytes()),
        Value::Nested => Err(format!("`{key}` holds a list or an object")),
    }
}

/// A JSON value, as far as tables know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Also whole numbers over 64 bits.
    Float(f64),
    Text(&'a str),
    Nested,
}

/// Calls `each` with the keys and values of the object on a line; why it can't be read otherwise.
pub fn each_value(line: &[u8], each: impl FnMut(&str, Value) -> Result<(), String>) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_slice(line);
    let visitor = ObjectVisitor { each };
    let result = reader.deserialize_any(visitor).and_then(|()| reader.end());
    // Positions count from the line's own start, and its number is given elsewhere.
    result.map_err(|error| {
        let text = error.to_string();
        match text.rsplit_once(" at line ") {
            Some((reason, _)) if error.column() > 0 && !error.is_data() => {
                format!("not JSON: {reason} (column {})", error.column())
            }
            Some((reason, _)) => reason.to_owned(),
            None => text,
        }
    })
}

struct ObjectVisitor<F> {
    each: F,
}

impl<'de, F: FnMut(&str, Value) -> Result<(), String>> Visitor<'de> for ObjectVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(KeySeed)? {
            map.next_value_seed(ValueSeed { key: &key, each: &mut self.each })?;
        }
        Ok(())
    }
}

/// A key: borrowed from the line unless it has escapes.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = std::borrow::Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(key.into())
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(key.to_owned().into())
    }
}

struct ValueSeed<'k, 'f, F> {
    key: &'k str,
    each: &'f mut F,
}

impl<F: FnMut(&str, Value) -> Result<(), String>> ValueSeed<'_, '_, F> {
    fn give<E: serde::de::Error>(self, value: Value) -> Result<(), E> {
        (self.each)(self.key, value).map_err(E::custom)
    }
}

impl<'de, F: FnMut(&str, Value) -> Result<(), String>> DeserializeSeed<'de> for ValueSeed<'_, '_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str, Value) -> Result<(), String>> Visitor<'de> for ValueSeed<'_, '_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.give(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.give(Value::Boolean(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.give(Value::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.give(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.give(Value::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.give(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        (self.each)(self.key, Value::Nested).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        (self.each)(self.key, Value::Nested).map_err(A::Error::custom)
    }
}
