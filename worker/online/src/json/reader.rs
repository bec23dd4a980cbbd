//! Walks a JSON text from start to end; the caller says what it expects next.
//!
//! Strict as RFC 8259, but for one thing: bare `NaN`, `Infinity` and `-Infinity` are numbers, since Python's `json`
//! writes them. Nothing recurses without a limit.

use std::borrow::Cow;

use crate::rows::Cell;

/// Nesting of values that nobody asked for. Real requests stay under ten.
const DEPTH_MAX: usize = 64;

/// What a text has instead of what it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at} of the JSON")]
pub struct JsonError {
    at: usize,
    expected: &'static str,
}

/// A number, as an integer where it is written as one and fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

/// Where the walk is.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    /// What is wrong here.
    pub fn error(&self, expected: &'static str) -> JsonError {
        JsonError { at: self.at, expected }
    }

    /// The first byte of the next value, or whatever stands there; 0 at the end.
    pub fn peek(&mut self) -> u8 {
        self.skip_space();
        self.byte()
    }

    /// Enters `{` or `[`. Returns whether there is anything in it.
    pub fn open(&mut self, bracket: u8) -> Result<bool, JsonError> {
        let (close, expected) = if bracket == b'{' { (b'}', "an object") } else { (b']', "an array") };
        self.expect(bracket, expected)?;
        let more = self.peek() != close;
        if !more {
            self.at += 1;
        }
        Ok(more)
    }

    /// Passes the comma, or the bracket that `bracket` opened. Returns whether another item follows.
    pub fn more(&mut self, bracket: u8) -> Result<bool, JsonError> {
        let (close, expected) = if bracket == b'{' { (b'}', "`,` or `}`") } else { (b']', "`,` or `]`") };
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            byte if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.error(expected)),
        }
    }

    /// A key and its colon.
    pub fn key(&mut self) -> Result<Cow<'a, str>, JsonError> {
        if self.peek() != b'"' {
            return Err(self.error("a key"));
        }
        let key = self.text()?;
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    /// A string.
    pub fn text(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        loop {
            match self.byte() {
                b'"' => {
                    let text = self.text.get(start..self.at).ok_or(self.error("text"))?;
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                b'\\' => return self.text_with_escapes(start).map(Cow::Owned),
                0..0x20 => return Err(self.error("the end of a string")),
                _ => self.at += 1,
            }
        }
    }

    /// A number.
    pub fn number(&mut self) -> Result<Number, JsonError> {
        self.skip_space();
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        for (word, value) in [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)] {
            if rest.starts_with(word.as_bytes()) {
                self.at += word.len();
                return Ok(Number::Float(value));
            }
        }
        if self.byte() == b'-' {
            self.at += 1;
        }
        let first = self.byte();
        let digits = self.digits();
        if digits == 0 || (first == b'0' && digits > 1) {
            return Err(JsonError { at: start, expected: "a number" });
        }
        let mut integer = true;
        if self.byte() == b'.' {
            self.at += 1;
            integer = false;
            if self.digits() == 0 {
                return Err(self.error("a digit"));
            }
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            integer = false;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("a digit"));
            }
        }
        let number = &self.text[start..self.at];
        if integer && let Ok(value) = number.parse() {
            return Ok(Number::Integer(value));
        }
        let value: f64 = number.parse().map_err(|_| JsonError { at: start, expected: "a number" })?;
        // A finite number that isn't one in 64 bits would be read as infinite.
        if value.is_finite() {
            Ok(Number::Float(value))
        } else {
            Err(JsonError { at: start, expected: "a smaller number" })
        }
    }

    /// `true` or `false`.
    pub fn bool(&mut self) -> Result<bool, JsonError> {
        match self.peek() {
            b't' => self.word("true").map(|()| true),
            b'f' => self.word("false").map(|()| false),
            _ => Err(self.error("`true` or `false`")),
        }
    }

    /// Passes `null`, if it stands here.
    pub fn null(&mut self) -> Result<bool, JsonError> {
        if self.peek() == b'n' { self.word("null").map(|()| true) } else { Ok(false) }
    }

    /// A value that is neither an object nor an array.
    pub fn cell(&mut self) -> Result<Cell<'a>, JsonError> {
        match self.peek() {
            b'"' => self.text().map(Cell::Text),
            b'n' => self.word("null").map(|()| Cell::Null),
            b't' | b'f' => self.bool().map(Cell::Bool),
            b'-' | b'0'..=b'9' | b'N' | b'I' => self.number().map(|number| match number {
                Number::Integer(value) => Cell::Integer(value),
                Number::Float(value) => Cell::Number(value),
            }),
            _ => Err(self.error("a number, a string, a bool or null")),
        }
    }

    /// Passes any value.
    pub fn skip(&mut self) -> Result<(), JsonError> {
        self.skip_below(DEPTH_MAX)
    }

    /// Nothing but space may follow.
    pub fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error("the end")) }
    }

    fn skip_below(&mut self, depth: usize) -> Result<(), JsonError> {
        let bracket = self.peek();
        if bracket != b'{' && bracket != b'[' {
            return self.cell().map(|_| ());
        }
        if depth == 0 {
            return Err(self.error("less nesting"));
        }
        let mut more = self.open(bracket)?;
        while more {
            if bracket == b'{' {
                self.key()?;
            }
            self.skip_below(depth - 1)?;
            more = self.more(bracket)?;
        }
        Ok(())
    }

    fn text_with_escapes(&mut self, start: usize) -> Result<String, JsonError> {
        let mut text = self.text.get(start..self.at).ok_or(self.error("text"))?.to_owned();
        loop {
            let plain = self.at;
            while !matches!(self.byte(), b'"' | b'\\' | 0..0x20) {
                self.at += 1;
            }
            text.push_str(self.text.get(plain..self.at).ok_or(self.error("text"))?);
            let byte = self.byte();
            if byte != b'"' && byte != b'\\' {
                return Err(self.error("the end of a string"));
            }
            self.at += 1;
            if byte == b'"' {
                return Ok(text);
            }
            text.push(self.escaped()?);
        }
    }

    fn escaped(&mut self) -> Result<char, JsonError> {
        let byte = self.byte();
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.escaped_unicode()?,
            _ => return Err(JsonError { at: self.at - 1, expected: "an escape" }),
        })
    }

    fn escaped_unicode(&mut self) -> Result<char, JsonError> {
        let lone = self.error("a Unicode character");
        let first = self.four_hex()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).ok_or(lone);
        }
        if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            return Err(lone);
        }
        self.at += 2;
        let second = self.four_hex()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(lone)
    }

    fn four_hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let value = value.ok_or(self.error("four hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.error("a value"))
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() != byte {
            return Err(self.error(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    /// The byte here; 0, which no JSON has outside of escapes, at the end.
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(text: &str) -> bool {
        let mut reader = Reader::new(text);
        reader.skip().and_then(|()| reader.end()).is_ok()
    }

    #[test]
    fn it_accepts_what_serde_json_accepts() {
        let seeds = [
            r#"{"a":[1,-0,2.5e-3,1E5,0.1],"b":{"c":null,"d":[true,false,[]]},"e":"x\n\u00e9\ud83d\ude00"}"#,
            r#"[ {} , "\"\\\/\b\f\r\t" , -12.25 , 123456789012345678901234567890 ]"#,
            "  null ",
        ];
        // Every text that is one byte away from these; what JSON says of NaN is the one difference.
        let bytes = b"{}[]:,\"\\ \n0123456789.eE+-utfnalrs\x01\x7f";
        for seed in seeds {
            for at in 0..seed.len() {
                for byte in bytes {
                    let mut changed = seed.as_bytes().to_vec();
                    changed[at] = *byte;
                    let mut shorter = changed.clone();
                    shorter.remove(at);
                    for text in [changed, shorter] {
                        let Ok(text) = String::from_utf8(text) else { continue };
                        let expected = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                        assert_eq!(accepts(&text), expected, "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn texts_and_numbers_are_those_that_serde_json_reads() {
        for text in [r#""a""#, r#""\u00e9 \ud83d\ude00\n""#, r#""é\\""#, "\"\"", r#""\u0000""#] {
            let expected: String = serde_json::from_str(text).unwrap();
            assert_eq!(Reader::new(text).text().unwrap(), expected);
        }
        for text in ["0.1", "1e300", "-2.5e-7", "123456789.123456789", "9223372036854775808", "4.9e-324"] {
            let expected: f64 = serde_json::from_str(text).unwrap();
            assert_eq!(Reader::new(text).number(), Ok(Number::Float(expected)));
        }
        assert_eq!(Reader::new("-9223372036854775808").number(), Ok(Number::Integer(i64::MIN)));
        assert_eq!(Reader::new("-Infinity").number(), Ok(Number::Float(f64::NEG_INFINITY)));
    }

    #[test]
    fn deep_nesting_ends_without_a_deep_stack() {
        assert!(!accepts(&"[".repeat(1_000_000)));
    }
}
