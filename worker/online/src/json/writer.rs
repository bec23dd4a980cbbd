//! Appends JSON to bytes. Numbers that JSON doesn't know become null.

use std::io::Write;

use crate::rows::Cell;

pub fn write_cell(out: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Number(value) => write_number(out, *value),
        // Writing to a vector does not fail.
        Cell::Integer(value) => drop(write!(out, "{value}")),
        Cell::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Cell::Text(value) => write_text(out, value),
    }
}

/// A number with the fewest digits that read back as the same; NaN and infinities as null.
pub fn write_number(out: &mut Vec<u8>, value: f64) {
    if serde_json::to_writer(&mut *out, &value).is_err() {
        out.extend_from_slice(b"null");
    }
}

pub fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        }
        out.extend_from_slice(escape);
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back_as_they_were() {
        let text = "a\"b\\c\n\u{1}é\u{7f}😀";
        let mut out = Vec::new();
        write_text(&mut out, text);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn nan_and_infinities_are_null() {
        let mut out = Vec::new();
        for value in [f64::NAN, f64::INFINITY, 0.1, 1.0] {
            write_number(&mut out, value);
            out.push(b' ');
        }
        assert_eq!(String::from_utf8(out).unwrap(), "null null 0.1 1.0 ");
    }
}
