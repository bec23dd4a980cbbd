//! How messages and facts become bytes: MessagePack with named fields behind one version byte.
//!
//! Named fields let a reader skip what it doesn't know, so a field can be added without a new version.
//! The version changes when the meaning of what is there changes; a reader refuses a higher one.

use serde::{Serialize, de::DeserializeOwned};

/// The highest version this program reads, and the one it writes.
pub const VERSION: u8 = 1;

/// Bytes that can't be read as what they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has version {found}; this program reads versions up to {VERSION}")]
    Version { what: &'static str, found: u8 },
    #[error("{what} can't be read")]
    Decode { what: &'static str, source: Box<rmp_serde::decode::Error> },
}

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    rmp_serde::encode::write_named(&mut bytes, value).expect("writing our own types into memory can't fail");
    bytes
}

/// The value of some bytes; `what` names it in the error.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    match bytes {
        [] => Err(WireError::Empty { what }),
        [version, ..] if *version == 0 || *version > VERSION => Err(WireError::Version { what, found: *version }),
        [_, body @ ..] => {
            rmp_serde::from_slice(body).map_err(|source| WireError::Decode { what, source: Box::new(source) })
        }
    }
}
