//! The protocol's datatypes, and which of our kinds each is.

use std::fmt;

use crate::rows::Kind;

/// A tensor's datatype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
    Bytes,
}

const NAMES: [(Datatype, &str); 14] = [
    (Datatype::Bool, "BOOL"),
    (Datatype::U8, "UINT8"),
    (Datatype::U16, "UINT16"),
    (Datatype::U32, "UINT32"),
    (Datatype::U64, "UINT64"),
    (Datatype::I8, "INT8"),
    (Datatype::I16, "INT16"),
    (Datatype::I32, "INT32"),
    (Datatype::I64, "INT64"),
    (Datatype::F16, "FP16"),
    (Datatype::Bf16, "BF16"),
    (Datatype::F32, "FP32"),
    (Datatype::F64, "FP64"),
    (Datatype::Bytes, "BYTES"),
];

impl Datatype {
    pub fn named(name: &str) -> Option<Datatype> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(datatype, _)| *datatype)
    }

    /// Bytes of one element; none for `BYTES`, whose elements differ.
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::U8 | Datatype::I8 => Some(1),
            Datatype::U16 | Datatype::I16 | Datatype::F16 | Datatype::Bf16 => Some(2),
            Datatype::U32 | Datatype::I32 | Datatype::F32 => Some(4),
            Datatype::U64 | Datatype::I64 | Datatype::F64 => Some(8),
            Datatype::Bytes => None,
        }
    }

    /// The smallest and largest integer of it, if it has integers.
    pub fn integers(self) -> Option<(i128, i128)> {
        Some(match self {
            Datatype::U8 => (0, u8::MAX.into()),
            Datatype::U16 => (0, u16::MAX.into()),
            Datatype::U32 => (0, u32::MAX.into()),
            Datatype::U64 => (0, u64::MAX.into()),
            Datatype::I8 => (i8::MIN.into(), i8::MAX.into()),
            Datatype::I16 => (i16::MIN.into(), i16::MAX.into()),
            Datatype::I32 => (i32::MIN.into(), i32::MAX.into()),
            Datatype::I64 => (i64::MIN.into(), i64::MAX.into()),
            _ => return None,
        })
    }
}

impl From<Kind> for Datatype {
    fn from(kind: Kind) -> Datatype {
        match kind {
            Kind::Number => Datatype::F64,
            Kind::Integer => Datatype::I64,
            Kind::Bool => Datatype::Bool,
            Kind::Text => Datatype::Bytes,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(datatype, _)| datatype == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}
