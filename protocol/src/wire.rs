//! How messages and facts become bytes: MessagePack with named fields behind one version byte.
//!
//! Named fields let a reader skip what it doesn't know, so a field can be added without a new version.
//! The version changes when the meaning of what is there changes; a reader refuses a higher one.
//!
//! | version | what follows the byte | written |
//! |---|---|---|
//! | 1 | MessagePack | by everybody: facts, documents, presence, messages |
//! | 2 | MessagePack in a zlib stream (RFC 1950) | messages to workers, when all that live read it and it is shorter |

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Serialize, de::DeserializeOwned};

/// The highest version this program reads.
pub const VERSION: u8 = 2;
/// The version that everybody reads, and of all that is kept.
pub const BASE: u8 = 1;

/// Bytes under which compressing saves too little to be worth its time: a packet on most networks.
const COMPRESSED_FROM: usize = 1_400;
/// Bytes of a value that is read from a compressed message: many times the largest message there is, so that a small
/// one can't fill the memory.
const INFLATED_BYTES_MAX: u64 = 16 << 20;

/// Bytes that can't be read as what they should be.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} has version {found}; this program reads versions up to {highest}")]
    Version { what: &'static str, found: u8, highest: u8 },
    #[error("{what} can't be decompressed")]
    Inflate { what: &'static str, source: std::io::Error },
    #[error("{what} can't be read")]
    Decode { what: &'static str, source: Box<rmp_serde::decode::Error> },
}

/// The bytes of a value, in the version that everybody reads.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![BASE];
    rmp_serde::encode::write_named(&mut bytes, value).expect("writing our own types into memory can't fail");
    bytes
}

/// The bytes of a value in the shortest version up to `highest`, which all its readers read.
pub fn encode_up_to<T: Serialize>(highest: u8, value: &T) -> Vec<u8> {
    let plain = encode(value);
    if highest < 2 || plain.len() < COMPRESSED_FROM {
        return plain;
    }
    let mut encoder = ZlibEncoder::new(vec![2], Compression::fast());
    let written = encoder.write_all(&plain[1..]).and_then(|()| encoder.finish());
    let compressed = written.expect("writing into memory can't fail");
    if compressed.len() < plain.len() { compressed } else { plain }
}

/// The version of some bytes, whether or not they can be read.
pub fn version(bytes: &[u8]) -> Option<u8> {
    bytes.first().copied()
}

/// The value of some bytes; `what` names it in the error.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    decode_up_to(VERSION, what, bytes)
}

/// The value of some bytes whose version is `highest` at most.
pub fn decode_up_to<T: DeserializeOwned>(highest: u8, what: &'static str, bytes: &[u8]) -> Result<T, WireError> {
    let decode = |body: &[u8]| {
        rmp_serde::from_slice(body).map_err(|source| WireError::Decode { what, source: Box::new(source) })
    };
    match bytes {
        [] => Err(WireError::Empty { what }),
        [found, ..] if *found == 0 || *found > highest.min(VERSION) => {
            Err(WireError::Version { what, found: *found, highest: highest.min(VERSION) })
        }
        [BASE, body @ ..] => decode(body),
        [_, body @ ..] => decode(&inflate(body).map_err(|source| WireError::Inflate { what, source })?),
    }
}

fn inflate(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut inflated = Vec::new();
    ZlibDecoder::new(body).take(INFLATED_BYTES_MAX + 1).read_to_end(&mut inflated)?;
    if inflated.len() as u64 > INFLATED_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is over {INFLATED_BYTES_MAX} bytes when decompressed")));
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_read_is_compressed_when_that_makes_it_shorter() {
        let long = vec!["the same words".to_owned(); 1_000];
        for (highest, version) in [(1, 1), (2, 2)] {
            let bytes = encode_up_to(highest, &long);
            assert_eq!(super::version(&bytes), Some(version));
            assert_eq!(decode::<Vec<String>>("a list", &bytes).expect("readable"), long);
        }
        assert!(encode_up_to(2, &long).len() < encode(&long).len() / 20);
        assert_eq!(encode_up_to(2, &"short"), encode(&"short"));
    }

    #[test]
    fn an_older_reader_says_which_version_it_met() {
        let bytes = encode_up_to(2, &vec!["the same words".to_owned(); 1_000]);
        let error = decode_up_to::<Vec<String>>(1, "a list", &bytes).expect_err("too new");
        assert_eq!(error.to_string(), "a list has version 2; this program reads versions up to 1");
    }

    #[test]
    fn damaged_and_boundless_streams_are_refused() {
        let mut bytes = encode_up_to(2, &vec!["the same words".to_owned(); 1_000]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(matches!(decode::<Vec<String>>("a list", &bytes), Err(WireError::Inflate { .. })));
        let boundless = encode_up_to(2, &"x".repeat(INFLATED_BYTES_MAX as usize + 1));
        assert!(boundless.len() < 200_000);
        assert!(matches!(decode::<String>("a text", &boundless), Err(WireError::Inflate { .. })));
    }
}
