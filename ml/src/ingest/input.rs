//! The bytes of a text file, plain or gzip, in a window that grows with the longest record and no further.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// Bytes of one record at the most. Long texts fit; what is longer is a file that isn't what it seems, or
/// a quote that is never closed.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// Bytes read at a time.
const WINDOW_BYTES: usize = 256 * 1024;

/// A window on the bytes of a file.
///
/// Bytes before `start` are done with. When the input breaks (a damaged gzip stream), what came before is kept,
/// `broken` says why, and the input counts as at its end.
pub struct Input {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the source before `start`.
    passed: u64,
    at_end: bool,
    broken: Option<String>,
}

impl Input {
    /// Opens a file; gzip shows in its first two bytes. A byte order mark is passed over.
    pub fn open(path: &Path) -> io::Result<Input> {
        let mut file = File::open(path)?;
        let mut magic = [0; 2];
        let mut length = 0;
        while length < 2 {
            match file.read(&mut magic[length..])? {
                0 => break,
                read => length += read,
            }
        }
        let head = io::Cursor::new(magic[..length].to_vec());
        let whole = io::BufReader::with_capacity(64 * 1024, head.chain(file));
        if magic == [0x1f, 0x8b] {
            Ok(Input::new(Box::new(MultiGzDecoder::new(whole))))
        } else {
            Ok(Input::new(Box::new(whole)))
        }
    }

    pub fn new(source: Box<dyn Read + Send>) -> Input {
        let mut input = Input::inside(source, 0);
        if input.window().starts_with(b"\xEF\xBB\xBF") {
            input.consume(3);
        }
        input
    }

    /// The same for what comes after the first `passed` bytes.
    pub fn inside(source: Box<dyn Read + Send>, passed: u64) -> Input {
        let buffer = vec![0; WINDOW_BYTES];
        let mut input = Input { source, buffer, start: 0, end: 0, passed, at_end: false, broken: None };
        input.fill();
        input
    }

    /// Where what is in view begins, in bytes from the start (of what was unpacked, when it is compressed).
    #[inline]
    pub fn position(&self) -> u64 {
        self.passed
    }

    /// What is in view.
    #[inline]
    pub fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing follows what is in view.
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// Why the input ended early.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Passes over `length` bytes.
    #[inline]
    pub fn consume(&mut self, length: usize) {
        self.start += length;
        self.passed += length as u64;
        debug_assert!(self.start <= self.end);
    }

    /// Brings more into view; false when a record of the largest size is in view already.
    pub fn more(&mut self) -> bool {
        if self.end - self.start >= RECORD_BYTES_MAX {
            return false;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end * 2 > self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        self.fill();
        true
    }

    /// Passes over the line, however long, and returns its beginning.
    pub fn skip_line(&mut self) -> Vec<u8> {
        let line = self.window().iter().position(|byte| *byte == b'\n').unwrap_or(self.window().len());
        let beginning = trim_return(&self.window()[..line.min(1024)]).to_vec();
        loop {
            if let Some(at) = self.window().iter().position(|byte| *byte == b'\n') {
                self.consume(at + 1);
                return beginning;
            }
            self.consume(self.end - self.start);
            if self.at_end {
                return beginning;
            }
            self.more();
        }
    }

    /// Reads until the buffer is full, so that a record is looked at from its start only a few times.
    fn fill(&mut self) {
        while !self.at_end && self.end < self.buffer.len() {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_end = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.at_end = true;
                    self.broken = Some(error.to_string());
                }
            }
        }
    }
}

/// The lines of a text file, without their ends.
pub struct Lines {
    input: Input,
    /// Bytes of the line given last, with its end.
    given: usize,
    number: u64,
    ended: bool,
    beginning: Vec<u8>,
}

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Text(&'a [u8]),
    /// It is longer than [`RECORD_BYTES_MAX`]; this is its beginning.
    TooLong(&'a [u8]),
    /// The file breaks off inside this line.
    Broken(&'a [u8], &'a str),
}

impl Lines {
    pub fn new(input: Input) -> Lines {
        Lines { input, given: 0, number: 0, ended: false, beginning: Vec::new() }
    }

    /// Where the next line begins, in bytes from the start of the file.
    pub fn position(&self) -> u64 {
        self.input.position() + self.given as u64
    }

    /// The number of the line given last, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line.
    pub fn next(&mut self) -> Option<Line<'_>> {
        self.input.consume(self.given);
        self.given = 0;
        if self.ended {
            return None;
        }
        self.number += 1;
        let mut looked = 0;
        loop {
            let window = self.input.window();
            if let Some(at) = window[looked..].iter().position(|byte| *byte == b'\n') {
                self.given = looked + at + 1;
                return Some(Line::Text(trim_return(&self.input.window()[..looked + at])));
            }
            looked = window.len();
            if self.input.at_end() {
                self.ended = true;
                self.given = looked;
                return match self.input.broken() {
                    Some(reason) => Some(Line::Broken(self.input.window(), reason)),
                    None if looked == 0 => None,
                    None => Some(Line::Text(trim_return(self.input.window()))),
                };
            }
            if !self.input.more() {
                self.beginning = self.input.skip_line();
                return Some(Line::TooLong(&self.beginning));
            }
        }
    }
}

#[inline]
fn trim_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(Input::new(Box::new(io::Cursor::new(bytes.to_vec()))));
        let mut found = Vec::new();
        while let Some(line) = lines.next() {
            let text = match line {
                Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Line::TooLong(text) => format!("{} bytes of a long line", text.len()),
                Line::Broken(..) => "broken".to_owned(),
            };
            found.push(format!("{} {text}", lines.number()));
        }
        found
    }

    #[test]
    fn lines_have_their_numbers_and_lose_their_ends() {
        assert_eq!(lines(b"\xEF\xBB\xBFa\r\n\nb"), ["1 a", "2 ", "3 b"]);
        assert_eq!(lines(b""), Vec::<String>::new());
    }

    #[test]
    fn a_line_without_an_end_is_passed_over_in_bounded_memory() {
        let mut bytes = b"a\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 5 * RECORD_BYTES_MAX));
        bytes.extend_from_slice(b"\nb\n");
        assert_eq!(lines(&bytes), ["1 a", "2 1024 bytes of a long line", "3 b"]);
    }
}
