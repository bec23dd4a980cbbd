//! Tensors as little-endian bytes.

use super::datatype::Datatype;
use crate::rows::{Column, Texts, Values};

/// The elements of a tensor; the error is a sentence about what is wrong with the bytes.
pub fn read(datatype: Datatype, bytes: &[u8]) -> Result<Column, String> {
    let Some(size) = datatype.size() else { return read_texts(bytes) };
    if !bytes.len().is_multiple_of(size) {
        return Err(format!("has {} bytes, which is no whole number of {datatype}", bytes.len()));
    }
    Ok(match datatype {
        Datatype::Bool => bytes.iter().map(|byte| *byte != 0).collect::<Vec<bool>>().into(),
        Datatype::U8 => bytes.iter().map(|byte| i64::from(*byte)).collect::<Vec<_>>().into(),
        Datatype::I8 => bytes.iter().map(|byte| i64::from(byte.cast_signed())).collect::<Vec<_>>().into(),
        Datatype::U16 => integers(bytes, |bytes| u16::from_le_bytes(bytes).into()),
        Datatype::I16 => integers(bytes, |bytes| i16::from_le_bytes(bytes).into()),
        Datatype::U32 => integers(bytes, |bytes| u32::from_le_bytes(bytes).into()),
        Datatype::I32 => integers(bytes, |bytes| i32::from_le_bytes(bytes).into()),
        Datatype::I64 => integers(bytes, i64::from_le_bytes),
        Datatype::U64 => unsigned(bytes),
        Datatype::F16 => numbers(bytes, |bytes| half(u16::from_le_bytes(bytes))),
        Datatype::Bf16 => numbers(bytes, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16).into()),
        Datatype::F32 => numbers(bytes, |bytes| f32::from_le_bytes(bytes).into()),
        Datatype::F64 => numbers(bytes, f64::from_le_bytes),
        Datatype::Bytes => return read_texts(bytes),
    })
}

/// Appends a column as the datatype of its kind. A null is what the column has in its place.
pub fn write(out: &mut Vec<u8>, column: &Column) {
    match column.values() {
        Values::Number(values) => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Values::Integer(values) => values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes())),
        Values::Bool(values) => values.iter().for_each(|value| out.push(u8::from(*value))),
        Values::Text(values) => {
            for text in values.iter() {
                // A text is part of an answer, whose size is bounded far below 4 GiB.
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn integers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> i64) -> Column {
    elements(bytes).map(read).collect::<Vec<i64>>().into()
}

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Column {
    elements(bytes).map(read).collect::<Vec<f64>>().into()
}

/// Integers where all fit, and numbers where one doesn't.
fn unsigned(bytes: &[u8]) -> Column {
    let all = || elements(bytes).map(u64::from_le_bytes);
    match all().map(i64::try_from).collect::<Result<Vec<i64>, _>>() {
        Ok(values) => values.into(),
        Err(_) => all().map(|value| value as f64).collect::<Vec<f64>>().into(),
    }
}

fn read_texts(bytes: &[u8]) -> Result<Column, String> {
    let mut texts = Texts::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or("ends within the length of an element")?;
        let len = u32::from_le_bytes(*head) as usize;
        let element = tail.get(..len).ok_or("ends within an element")?;
        texts.push(std::str::from_utf8(element).map_err(|_| format!("element {} is not UTF-8", texts.len()))?);
        rest = &tail[len..];
    }
    Ok(texts.into())
}

/// A number of 16 bits: 1 of sign, 5 of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1F);
    let fraction = f64::from(bits & 0x3FF) / 1024.0;
    match exponent {
        0 => sign * fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_what_the_standard_says() {
        let cases = [(0x3C00, 1.0), (0xC000, -2.0), (0x0001, 5.960_464_477_539_063e-8), (0x7BFF, 65504.0), (0, 0.0)];
        for (bits, expected) in cases {
            assert_eq!(half(bits), expected);
        }
        assert!(half(0x7E00).is_nan());
    }

    #[test]
    fn texts_have_their_length_before_them() {
        let bytes = [2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0];
        let column = read(Datatype::Bytes, &bytes).unwrap();
        let mut out = Vec::new();
        write(&mut out, &column);
        assert_eq!(out, bytes);
        assert_eq!(read(Datatype::Bytes, &bytes[..5]).unwrap_err(), "ends within an element");
        assert_eq!(read(Datatype::Bytes, &bytes[..8]).unwrap_err(), "ends within the length of an element");
    }

    #[test]
    fn unsigned_that_do_not_fit_are_numbers() {
        assert_eq!(read(Datatype::U64, &7u64.to_le_bytes()), Ok(Column::from(vec![7])));
        assert_eq!(read(Datatype::U64, &u64::MAX.to_le_bytes()), Ok(Column::from(vec![u64::MAX as f64])));
        assert_eq!(read(Datatype::I16, &[1]).unwrap_err(), "has 1 bytes, which is no whole number of INT16");
    }
}
