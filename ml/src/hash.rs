//! Hashes that stay the same over versions, machines and runs.
//!
//! Profiles and partial results are kept and merged later, perhaps by another build; the hashers of the
//! standard library and of crates promise nothing across versions. Not meant against people who look for
//! collisions.

use std::hash::{BuildHasher, Hasher};

const A: u64 = 0x9E37_79B9_7F4A_7C15;
const B: u64 = 0xD6E8_FEB8_6659_FD93;

/// Mixes 64 bits into 64 others; one to one. The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The two halves of the 128-bit product, folded into one word.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// A 64-bit hash of bytes under a seed.
#[inline]
pub fn bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut state = seed ^ A ^ (bytes.len() as u64).wrapping_mul(B);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("a chunk has eight bytes"));
        state = fold(state ^ word, A ^ seed.rotate_left(32)).wrapping_add(word.rotate_left(23));
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        state = fold(state ^ u64::from_le_bytes(word), B);
    }
    mix(state)
}

/// 128 bits that stand for a text: texts of up to 15 bytes have their own, longer ones share theirs with a
/// chance of some 2^-127 a pair.
#[inline]
pub fn wide(text: &[u8]) -> u128 {
    if text.len() < 16 {
        let mut packed = [0; 16];
        packed[..text.len()].copy_from_slice(text);
        packed[15] = text.len() as u8;
        u128::from_le_bytes(packed)
    } else {
        let (high, low) = (bytes(text, 1), bytes(text, 2));
        ((u128::from(high) << 64) | u128::from(low)) | (1 << 127)
    }
}

/// Builds [`StableHasher`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct StableState;

impl BuildHasher for StableState {
    type Hasher = StableHasher;

    fn build_hasher(&self) -> StableHasher {
        StableHasher(0)
    }
}

/// A fast hasher without a random key.
#[derive(Debug)]
pub struct StableHasher(u64);

impl Hasher for StableHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, data: &[u8]) {
        self.0 = bytes(data, self.0);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.0 ^= u64::from(value);
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value);
    }

    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.0 = mix(self.0 ^ (value as u64) ^ mix((value >> 64) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn texts_that_differ_in_one_byte_length_or_order_have_their_own_hash() {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        for length in 0..40 {
            texts.push(vec![0; length]);
            for at in 0..length {
                let mut text = vec![b'a'; length];
                text[at] = b'b';
                texts.push(text);
            }
        }
        let narrow: HashSet<u64> = texts.iter().map(|text| bytes(text, 0)).collect();
        let wide: HashSet<u128> = texts.iter().map(|text| wide(text)).collect();
        assert_eq!((narrow.len(), wide.len()), (texts.len(), texts.len()));
    }

    #[test]
    fn hashes_are_the_same_in_every_build() {
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
        assert_eq!(bytes(b"gristmill", 0), bytes(b"gristmill", 0));
        assert_ne!(bytes(b"gristmill", 0), bytes(b"gristmill", 1));
    }
}
