//! Pages: a token is where the next one begins, `{"offset": 100}` in base64, as MLflow writes it.

use serde_json::Value;

use crate::refusal::Refusal;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Which rows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub offset: usize,
    pub size: usize,
}

impl Page {
    /// A page of some size, from a token's place on.
    pub fn at(token: &str, size: usize) -> Result<Page, Refusal> {
        Ok(Page { offset: offset_of(token)?, size })
    }

    /// The rows of the page, and the token of the next one where there is one.
    pub fn of<T>(self, mut rows: Vec<T>) -> (Vec<T>, Option<String>) {
        let end = self.offset.saturating_add(self.size);
        let next = (rows.len() > end).then(|| token_of(end));
        rows.truncate(end);
        let rows = if self.offset < rows.len() { rows.split_off(self.offset) } else { Vec::new() };
        (rows, next)
    }
}

/// The token of a page that begins there.
pub(crate) fn token_of(offset: usize) -> String {
    encode(format!("{{\"offset\": {offset}}}").as_bytes())
}

fn offset_of(token: &str) -> Result<usize, Refusal> {
    if token.is_empty() {
        return Ok(0);
    }
    let bad = |what: &str| Refusal::invalid(format!("Invalid page token, {what}"));
    let bytes = decode(token).ok_or_else(|| bad("could not base64-decode"))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| bad("it isn't JSON"))?;
    let offset = value.get("offset").and_then(Value::as_u64).filter(|offset| *offset > 0);
    offset.and_then(|offset| usize::try_from(offset).ok()).ok_or_else(|| bad("it has no offset"))
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_are_mlflows() {
        assert_eq!(token_of(1), "eyJvZmZzZXQiOiAxfQ==");
        assert_eq!(offset_of("eyJvZmZzZXQiOiAxfQ=="), Ok(1));
        assert_eq!(offset_of(""), Ok(0));
        for bad in ["xx", "!!!", "e30=", "eyJvZmZzZXQiOiAwfQ==", "bnVsbA==", "===="] {
            assert!(offset_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_follow_each_other() {
        let rows: Vec<usize> = (0..5).collect();
        let (first, token) = Page::at("", 2).expect("a page").of(rows.clone());
        let (second, more) = Page::at(&token.expect("more"), 2).expect("a page").of(rows.clone());
        let (third, end) = Page::at(&more.expect("more"), 2).expect("a page").of(rows.clone());
        assert_eq!((first, second, third, end), (vec![0, 1], vec![2, 3], vec![4], None));
        assert_eq!(Page::at(&token_of(9), 2).expect("a page").of(rows), (vec![], None));
    }

    proptest! {
        #[test]
        fn base64_comes_back(bytes: Vec<u8>, text in "\\PC{0,20}") {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            let _ = decode(&text);
        }
    }
}
