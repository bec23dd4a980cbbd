//! Reads CSV into batches.
//!
//! The records are split here rather than by the `csv` crate (which the tests compare with) for what a table
//! with a few bad lines needs: the raw line as it stands in the file, its number, and a way on after a quote
//! that is never closed, which would else swallow the rest of the file. The rules are those of RFC 4180, read
//! generously: a quote inside an unquoted field is a character, and text after a closing quote belongs to the
//! field, unless that field spans lines: then the quote is taken for one that was never closed.

use std::collections::HashMap;
use std::path::Path;

use super::cells::{Nulls, Rows};
use super::input::{Input, RECORD_BYTES_MAX};
use super::part::{FilePart, Stretch};
use super::quarantine::Quarantine;
use super::{IngestError, ReadOptions, SourceFile, Take};
use crate::table::TableSchema;

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record; [`Records::field`] has its fields.
    Record,
    /// What can't be a record; reading goes on with the line after its first.
    Bad(Flaw),
    End,
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// A quote was opened and not closed.
    OpenQuote,
    TooLong,
    /// The file breaks off.
    Broken,
}

/// The records of a CSV file.
pub struct Records {
    input: Input,
    delimiter: u8,
    marks: Marks,
    /// Where the fields of the record stand: in the input's window, or in `unescaped` when a field is quoted.
    fields: Vec<(usize, usize)>,
    unescaped: Vec<u8>,
    has_quotes: bool,
    /// Whether text follows a closing quote: over several lines a sign that an earlier one was left open.
    stray_quote: bool,
    /// Bytes of the record given last, with its line end.
    given: usize,
    /// The line on which that record begins, from 1, and how many line ends it has.
    line: u64,
    lines: u64,
    beginning: Vec<u8>,
    ended: bool,
}

/// The bytes that end fields and records, or open a quoted field.
#[derive(Clone, Copy)]
struct Marks {
    delimiter: u64,
}

impl Marks {
    const ONES: u64 = 0x0101_0101_0101_0101;

    fn new(delimiter: u8) -> Marks {
        Marks { delimiter: u64::from(delimiter) * Marks::ONES }
    }

    /// The high bit of each byte that is one of them, in a word of up to eight bytes.
    #[inline]
    fn in_word(self, bytes: &[u8]) -> u64 {
        let (word, there) = match bytes.try_into() {
            Ok(bytes) => (u64::from_le_bytes(bytes), u64::MAX),
            Err(_) => {
                let mut padded = [0; 8];
                padded[..bytes.len()].copy_from_slice(bytes);
                (u64::from_le_bytes(padded), (1 << (8 * bytes.len())) - 1)
            }
        };
        let newline = u64::from(b'\n') * Marks::ONES;
        let quote = u64::from(b'"') * Marks::ONES;
        (equal(word, self.delimiter) | equal(word, newline) | equal(word, quote)) & there
    }
}

/// The high bit of each byte that two words have in common: exact, unlike the shorter test for a zero byte (Warren,
/// "Hacker's Delight", section 6-1).
#[inline]
fn equal(one: u64, other: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let different = one ^ other;
    !(((different & LOW) + LOW) | different | LOW)
}

enum Scan {
    /// A record of so many bytes, line end included.
    Record(usize),
    Partial {
        in_quotes: bool,
    },
}

impl Records {
    pub fn new(input: Input, delimiter: u8) -> Records {
        Records {
            input,
            delimiter,
            marks: Marks::new(delimiter),
            fields: Vec::new(),
            unescaped: Vec::new(),
            has_quotes: false,
            stray_quote: false,
            given: 0,
            line: 1,
            lines: 0,
            beginning: Vec::new(),
            ended: false,
        }
    }

    /// The fields of the record.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    #[inline]
    pub fn field(&self, index: usize) -> &[u8] {
        let (start, end) = self.fields[index];
        if self.has_quotes { &self.unescaped[start..end] } else { &self.input.window()[start..end] }
    }

    /// The line on which the record, or what can't be one, begins.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The bytes as they stand in the file, without the line end; of what can't be a record the beginning.
    pub fn raw(&self) -> &[u8] {
        let raw = if self.given > 0 { &self.input.window()[..self.given] } else { &self.beginning[..] };
        raw.trim_ascii_end()
    }

    /// Why the file breaks off.
    pub fn broken(&self) -> &str {
        self.input.broken().unwrap_or_default()
    }

    /// Passes over the record given last.
    #[inline]
    fn pass(&mut self) {
        self.input.consume(self.given);
        self.given = 0;
        self.line += self.lines;
        self.lines = 0;
    }

    /// Makes the line that comes next the first.
    fn count_lines_from_here(&mut self) {
        self.line = 1;
    }

    /// Where the next record begins, in bytes from the start of the file. The record given last is gone.
    #[inline]
    pub fn at_next(&mut self) -> u64 {
        self.pass();
        self.skip_blank_lines();
        self.input.position()
    }

    /// Goes on to the next record.
    #[inline]
    pub fn next(&mut self) -> Next {
        self.pass();
        if self.ended {
            return Next::End;
        }
        loop {
            self.skip_blank_lines();
            match self.scan() {
                // A record without its line end may be the beginning of one, when the file breaks off.
                Scan::Record(length)
                    if self.input.broken().is_none() || self.input.window()[..length].ends_with(b"\n") =>
                {
                    if self.stray_quote && self.lines > 1 {
                        self.beginning = self.retry_after_first_line();
                        return Next::Bad(Flaw::OpenQuote);
                    }
                    self.given = length;
                    return if length == 0 { Next::End } else { Next::Record };
                }
                Scan::Partial { .. } if !self.input.at_end() && self.input.more() => {}
                Scan::Partial { in_quotes } if !(self.input.at_end() && self.input.broken().is_some()) => {
                    self.lines = 1;
                    self.beginning = self.input.skip_line();
                    return Next::Bad(if in_quotes { Flaw::OpenQuote } else { Flaw::TooLong });
                }
                Scan::Record(_) | Scan::Partial { .. } => {
                    self.ended = true;
                    self.beginning = self.input.window()[..self.input.window().len().min(1024)].to_vec();
                    return Next::Bad(Flaw::Broken);
                }
            }
        }
    }

    /// Whether the record given last spans lines.
    pub fn spans_lines(&self) -> bool {
        self.lines > 1
    }

    /// Takes back all but the first line of the record given last, and returns that line.
    ///
    /// A record with a wrong number of fields that spans lines is most likely a stray quote: the lines
    /// after it are then records of their own.
    pub fn retry_after_first_line(&mut self) -> Vec<u8> {
        self.given = 0;
        self.lines = 1;
        self.input.skip_line()
    }

    fn skip_blank_lines(&mut self) {
        loop {
            let length = match self.input.window() {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [b'\r'] if self.input.at_end() => 1,
                [] | [b'\r'] if !self.input.at_end() => {
                    self.input.more();
                    continue;
                }
                _ => return,
            };
            self.input.consume(length);
            self.line += 1;
        }
    }

    /// Finds the fields of the record at the start of the window.
    #[inline]
    fn scan(&mut self) -> Scan {
        self.fields.clear();
        self.has_quotes = false;
        self.stray_quote = false;
        let window = self.input.window();
        let mut start = 0;
        // Eight bytes at a time: most bytes are none of the three that matter.
        for (base, word) in (0..).step_by(8).zip(window.chunks(8)) {
            let mut marks = self.marks.in_word(word);
            while marks != 0 {
                let at = base + marks.trailing_zeros() as usize / 8;
                marks &= marks - 1;
                let byte = window[at];
                if byte == self.delimiter {
                    self.fields.push((start, at));
                    start = at + 1;
                } else if byte == b'\n' {
                    let end = if at > start && window[at - 1] == b'\r' { at - 1 } else { at };
                    self.fields.push((start, end));
                    self.lines = 1;
                    return Scan::Record(at + 1);
                } else if at == start {
                    return self.scan_quoted();
                }
            }
        }
        if !self.input.at_end() {
            return Scan::Partial { in_quotes: false };
        }
        if !window.is_empty() {
            let end = if window.len() > start && window.ends_with(b"\r") { window.len() - 1 } else { window.len() };
            self.fields.push((start, end));
        }
        Scan::Record(window.len())
    }

    /// The same for a record with quoted fields: their content is copied without the quotes.
    fn scan_quoted(&mut self) -> Scan {
        self.fields.clear();
        self.unescaped.clear();
        self.has_quotes = true;
        self.lines = 0;
        let window = self.input.window();
        let mut at = 0;
        loop {
            let start = self.unescaped.len();
            let quoted = window.get(at) == Some(&b'"');
            if quoted {
                at += 1;
                loop {
                    let Some(quote) = window[at..].iter().position(|byte| *byte == b'"') else {
                        return Scan::Partial { in_quotes: true };
                    };
                    let content = &window[at..at + quote];
                    self.lines += content.iter().filter(|byte| **byte == b'\n').count() as u64;
                    self.unescaped.extend_from_slice(content);
                    at += quote + 1;
                    match window.get(at) {
                        Some(b'"') => {
                            self.unescaped.push(b'"');
                            at += 1;
                        }
                        None if !self.input.at_end() => return Scan::Partial { in_quotes: false },
                        _ => break,
                    }
                }
            }
            let plain = window[at..].iter().position(|byte| *byte == self.delimiter || *byte == b'\n');
            let end = match plain {
                Some(length) => at + length,
                None if !self.input.at_end() => return Scan::Partial { in_quotes: false },
                None => window.len(),
            };
            let mut content = &window[at..end];
            if window.get(end) != Some(&self.delimiter) {
                content = content.strip_suffix(b"\r").unwrap_or(content);
            }
            self.stray_quote |= quoted && !content.is_empty();
            self.unescaped.extend_from_slice(content);
            self.fields.push((start, self.unescaped.len()));
            at = end + 1;
            match window.get(end) {
                Some(byte) if *byte == self.delimiter => {}
                Some(_) => {
                    self.lines += 1;
                    return Scan::Record(at);
                }
                None => return Scan::Record(end),
            }
        }
    }
}

/// Opens a file and reads its header: the records after it, and the names of the columns.
///
/// A column without a name is called by its place, `column_1` for the first.
pub fn open(file: &SourceFile, delimiter: u8) -> Result<(Records, Vec<String>), IngestError> {
    let path = &file.path;
    let input = Input::open(file.to_open()).map_err(|source| IngestError::Read { path: path.to_owned(), source })?;
    header(path, input, delimiter)
}

fn header(path: &Path, input: Input, delimiter: u8) -> Result<(Records, Vec<String>), IngestError> {
    let mut records = Records::new(input, delimiter);
    let unreadable = |reason: String| IngestError::Header { path: path.to_owned(), reason };
    match records.next() {
        Next::Record => {}
        Next::End => return Err(IngestError::Empty { path: path.to_owned() }),
        Next::Bad(flaw) => return Err(unreadable(reason(flaw, records.broken()))),
    }
    let mut names = Vec::with_capacity(records.len());
    for index in 0..records.len() {
        let name = std::str::from_utf8(records.field(index))
            .map_err(|_| unreadable(format!("the name of column {} is not UTF-8", index + 1)))?
            .trim();
        names.push(if name.is_empty() { format!("column_{}", index + 1) } else { name.to_owned() });
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(IngestError::DuplicateColumn { path: path.to_owned(), column: twice[0].clone() });
    }
    Ok((records, names))
}

/// Why bytes are no record, for people.
fn reason(flaw: Flaw, broken: &str) -> String {
    match flaw {
        Flaw::OpenQuote => "a quote is opened and not closed".to_owned(),
        Flaw::TooLong => format!("longer than {} KiB", RECORD_BYTES_MAX / 1024),
        Flaw::Broken => format!("the file breaks off here ({broken})"),
    }
}

/// Reads a part of a file of this schema.
pub fn read(
    part: &FilePart,
    schema: &TableSchema,
    options: &ReadOptions,
    quarantine: &mut Quarantine,
    take: &mut Take,
) -> Result<Stretch, IngestError> {
    let file = &part.file;
    let opened = |source| IngestError::Read { path: file.path.clone(), source };
    let delimiter = options.delimiter_of(file);
    let (mut records, names) = header(&file.path, part.open_at_start().map_err(opened)?, delimiter)?;
    if part.begins_inside() {
        records = Records::new(part.open_at_first_line().map_err(opened)?, delimiter);
    }
    let start = records.at_next();
    if part.begins_inside() {
        records.count_lines_from_here();
    }
    let at: HashMap<&str, usize> = names.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let mut sources = Vec::with_capacity(schema.columns.len());
    for column in schema.names() {
        sources.push(*at.get(column).ok_or_else(|| IngestError::UnknownColumn {
            setting: "schema",
            column: column.to_owned(),
            hint: Some(format!("`{}` has changed since its columns were looked at", file.path.display())),
        })?);
    }
    let nulls = Nulls::new(&options.nulls);
    let mut rows = Rows::new(schema);
    let assembled = |source| IngestError::Schema { path: file.path.clone(), source };
    while !part.stops_at(records.at_next()) {
        match records.next() {
            Next::Record => {
                if records.len() != names.len() {
                    let reason = format!("{} fields where the header has {}", records.len(), names.len());
                    let line = records.line();
                    if records.spans_lines() {
                        let raw = records.retry_after_first_line();
                        quarantine.add(&file.path, line, reason, &raw);
                    } else {
                        quarantine.add(&file.path, line, reason, records.raw());
                    }
                    continue;
                }
                match push_record(&mut rows, &records, &sources, &nulls) {
                    Ok(()) => rows.end_row(),
                    Err(reason) => {
                        rows.drop_row();
                        quarantine.add(&file.path, records.line(), reason, records.raw());
                    }
                }
                if rows.is_full()
                    && let Some(batch) = rows.take().map_err(assembled)?
                {
                    take(batch)?;
                }
            }
            Next::Bad(flaw) => {
                if flaw == Flaw::Broken {
                    quarantine.cut_short(&file.path, records.line(), records.broken());
                }
                quarantine.add(&file.path, records.line(), reason(flaw, records.broken()), records.raw());
            }
            Next::End => break,
        }
    }
    if let Some(batch) = rows.take().map_err(assembled)? {
        take(batch)?;
    }
    Ok(Stretch { start, end: records.at_next(), lines: records.line() - 1 })
}

#[inline]
fn push_record(rows: &mut Rows, records: &Records, sources: &[usize], nulls: &Nulls) -> Result<(), String> {
    // Nearly all records are ASCII, which is checked far faster than UTF-8.
    let ascii = records.raw().is_ascii();
    for (column, source) in sources.iter().enumerate() {
        let cell = records.field(*source);
        if nulls.contains(cell) {
            rows.push_null(column);
            continue;
        }
        if !ascii && std::str::from_utf8(cell).is_err() {
            return Err(format!("field {} is not UTF-8", source + 1));
        }
        rows.push_text(column, cell)?;
    }
    Ok(())
}
