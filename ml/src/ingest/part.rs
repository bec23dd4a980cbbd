//! Parts of a file: large files are read by several units at once, each from one byte to another.
//!
//! A part begins at the first line that begins at or after its first byte, and ends before the first record that begins
//! at or after the next part's. In CSV a line may begin inside a quoted field, and only who reads from the start knows
//! that. So parts are read as if none did, and [`Chain`] compares: where a part ended, the next must have begun. One
//! that didn't is read again from where it should have begun, until both agree. What comes of it is what reading the
//! file from its start to its end gives.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use super::SourceFile;
use super::input::Input;
use crate::blob::{BlobRead, SharedBlob};
use gristmill_protocol::pipeline::steps::Format;

/// Bytes of a part. A part takes a quarter of a second or so, and its share of a partition is still large enough to be
/// read well.
const PART_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes fetched at a time from a file that isn't on this disk.
const FETCH_BYTES: usize = 8 * 1024 * 1024;

/// A stretch of a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FilePart {
    pub file: SourceFile,
    /// The byte from which on the first line begins.
    start: u64,
    until: Until,
    /// Where the file's bytes are read from when they aren't on this disk.
    #[serde(skip)]
    pub bytes: Option<SharedBlob>,
}

/// The record that is no longer read: the first that begins …
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Until {
    /// Nowhere.
    End,
    /// … at this byte or after it.
    Byte(u64),
    /// … at exactly one of these bytes.
    OneOf(Vec<u64>),
}

/// What was read of a file: from where its first record begins to where the next would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    pub start: u64,
    pub end: u64,
    /// Lines in between.
    pub lines: u64,
}

impl FilePart {
    /// The whole file.
    pub fn whole(file: SourceFile) -> FilePart {
        FilePart { file, start: 0, until: Until::End, bytes: None }
    }

    /// The parts of a file that can be read on their own; one when it is small or must be read from its start.
    pub fn split(file: &SourceFile) -> io::Result<Vec<FilePart>> {
        FilePart::split_by(file, PART_BYTES)
    }

    /// The same with parts of another size.
    pub(super) fn split_by(file: &SourceFile, part_bytes: u64) -> io::Result<Vec<FilePart>> {
        let count = file.size / part_bytes;
        if count < 2 || file.format == Format::Parquet || is_gzip(file)? {
            return Ok(vec![FilePart::whole(file.clone())]);
        }
        let edge = |at: u64| at * file.size / count;
        let part = |at: u64| FilePart {
            file: file.clone(),
            start: edge(at),
            until: if at + 1 == count { Until::End } else { Until::Byte(edge(at + 1)) },
            bytes: None,
        };
        Ok((0..count).map(part).collect())
    }

    /// Whether all of the file is meant.
    pub fn is_whole(&self) -> bool {
        self.start == 0 && matches!(self.until, Until::End)
    }

    /// Whether it begins after the start of the file.
    pub(super) fn begins_inside(&self) -> bool {
        self.start > 0
    }

    /// Whether reading stops before the record that begins at this byte.
    pub(super) fn stops_at(&self, at: u64) -> bool {
        match &self.until {
            Until::End => false,
            Until::Byte(byte) => at >= *byte,
            Until::OneOf(bytes) => bytes.contains(&at),
        }
    }

    /// The file's bytes from its start.
    pub(super) fn open_at_start(&self) -> io::Result<Input> {
        match &self.bytes {
            None => Input::open(self.file.to_open()),
            Some(blob) => Ok(Input::new(Box::new(BlobRead::new(blob.clone(), 0)))),
        }
    }

    /// The bytes from the part's first line on.
    pub(super) fn open_at_first_line(&self) -> io::Result<Input> {
        if self.start == 0 {
            return self.open_at_start();
        }
        // One byte earlier, so that the line is found that begins at the first byte.
        let offset = self.start - 1;
        let source: Box<dyn Read + Send> = match &self.bytes {
            None => {
                let mut file = File::open(self.file.to_open())?;
                file.seek(SeekFrom::Start(offset))?;
                Box::new(file)
            }
            Some(blob) => Box::new(BufReader::with_capacity(FETCH_BYTES, BlobRead::new(blob.clone(), offset))),
        };
        let mut input = Input::inside(source, offset);
        input.skip_line();
        Ok(input)
    }
}

fn is_gzip(file: &SourceFile) -> io::Result<bool> {
    let mut magic = [0; 2];
    match File::open(file.to_open())?.read_exact(&mut magic) {
        Ok(()) => Ok(magic == [0x1f, 0x8b]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Puts the parts of a file together in their order.
#[derive(Debug, Default)]
pub struct Chain {
    /// Where the next record begins.
    reached: u64,
    lines: u64,
    next: usize,
}

/// What comes next.
#[derive(Clone, Debug)]
pub enum Link {
    /// This part; lines before it, which its own line numbers don't count.
    Take {
        part: usize,
        lines_before: u64,
    },
    /// No part was read from here; read this, and tell [`Chain::was_read`].
    Read(Box<FilePart>, u64),
    End,
}

impl Chain {
    /// What comes next, of parts that were read of this file.
    pub fn next(&mut self, file: &SourceFile, parts: &[Stretch]) -> Link {
        if self.next == 0 && !parts.is_empty() {
            // Nothing comes before the first.
            self.reached = parts[0].start;
        }
        while let Some(stretch) = parts.get(self.next) {
            if stretch.start == self.reached {
                let link = Link::Take { part: self.next, lines_before: self.lines };
                self.next += 1;
                self.was_read(*stretch);
                return link;
            }
            if stretch.start > self.reached {
                break;
            }
            self.next += 1;
        }
        if self.reached >= file.size {
            return Link::End;
        }
        let later = parts[self.next.min(parts.len())..].iter().map(|part| part.start).collect();
        let part = FilePart { file: file.clone(), start: self.reached, until: Until::OneOf(later), bytes: None };
        Link::Read(Box::new(part), self.lines)
    }

    /// Goes on after a stretch.
    pub fn was_read(&mut self, stretch: Stretch) {
        self.reached = stretch.end;
        self.lines += stretch.lines;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileReport, Quarantine, ReadOptions, read_part};
    use super::*;
    use crate::blob::FileBlob;
    use crate::partition::{FinishedPartition, PartitionReader};
    use crate::table::{Column, TableSchema};
    use arrow::array::{Array, AsArray};
    use gristmill_protocol::pipeline::ColumnType;
    use proptest::prelude::*;
    use std::path::Path;
    use std::sync::Arc;

    fn read(part: &FilePart, folder: &Path, cells: &mut Vec<Option<String>>) -> FileReport {
        let column = |name: &str| Column { name: name.to_owned(), kind: ColumnType::String, nullable: true };
        let schema = TableSchema { columns: vec![column("a"), column("b")] };
        let options = ReadOptions { delimiter: None, nulls: vec![String::new()] };
        let mut finished: Vec<FinishedPartition> = Vec::new();
        let mut sink = |partition| {
            finished.push(partition);
            Ok(())
        };
        let report = read_part(part, &schema, &options, folder, &mut sink).unwrap();
        for partition in finished {
            let blob = Arc::new(FileBlob::open(&partition.path).unwrap());
            for batch in PartitionReader::open_all(blob).unwrap() {
                let batch = batch.unwrap();
                for column in batch.columns() {
                    cells.extend(column.as_string::<i32>().iter().map(|cell| cell.map(str::to_owned)));
                }
                assert!(batch.columns().iter().all(|column| column.len() == batch.num_rows()));
            }
        }
        report
    }

    /// Reads one row at a time of what was found, so that the order of columns in a batch doesn't matter.
    fn rows(cells: &[Option<String>]) -> Vec<Vec<Option<String>>> {
        let rows = cells.len() / 2;
        (0..rows).map(|row| vec![cells[row].clone(), cells[rows + row].clone()]).collect()
    }

    fn in_parts(
        file: &SourceFile,
        part_bytes: u64,
        folder: &Path,
        remote: bool,
    ) -> (Vec<Vec<Option<String>>>, Quarantine) {
        let fetch = |mut part: FilePart| {
            if remote {
                part.bytes = Some(Arc::new(FileBlob::open(&file.path).unwrap()));
            }
            part
        };
        let mut found = (Vec::new(), Quarantine::default());
        let mut take = |cells: &[Option<String>], mut quarantine: Quarantine, lines_before| {
            found.0.extend(rows(cells));
            quarantine.shift(lines_before);
            found.1.merge(quarantine);
        };
        let parts: Vec<(Vec<Option<String>>, FileReport)> = FilePart::split_by(file, part_bytes)
            .unwrap()
            .into_iter()
            .map(|part| {
                let mut cells = Vec::new();
                let report = read(&fetch(part), folder, &mut cells);
                (cells, report)
            })
            .collect();
        let stretches: Vec<Stretch> = parts.iter().map(|(_, report)| report.stretch).collect();
        let mut chain = Chain::default();
        loop {
            match chain.next(file, &stretches) {
                Link::Take { part, lines_before } => {
                    let (cells, report) = &parts[part];
                    take(cells, report.quarantine.clone(), lines_before);
                }
                Link::Read(part, lines_before) => {
                    let mut cells = Vec::new();
                    let report = read(&fetch(*part), folder, &mut cells);
                    chain.was_read(report.stretch);
                    take(&cells, report.quarantine, lines_before);
                }
                Link::End => return found,
            }
        }
    }

    proptest! {
        #[test]
        fn a_file_read_in_parts_is_the_file_read_from_its_start(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "1", ",", ",", "\n", "\n", "\r\n", "\"", "\"\"", "1,2\n", "3,4\n", "\"x\ny\",5\n", "6,\"z\"\n", "é", "\n\n",
                ]),
                0..60,
            ),
            part_bytes in 1_u64..20,
            remote: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("t.csv");
            std::fs::write(&path, format!("a,b\n{}", pieces.concat())).unwrap();
            let size = std::fs::metadata(&path).unwrap().len();
            let file = SourceFile { path, size, format: Format::Csv, tabs: false, artifact: None, local: None };
            let mut cells = Vec::new();
            let whole = read(&FilePart::whole(file.clone()), folder.path(), &mut cells);
            let (found, quarantine) = in_parts(&file, part_bytes, folder.path(), remote);
            prop_assert_eq!(found, rows(&cells));
            prop_assert_eq!(quarantine, whole.quarantine);
        }
    }

    #[test]
    fn lines_of_json_are_read_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.ndjson");
        let text: String = (0..1000).map(|row| format!("{{\"a\": \"{row}\", \"b\": \"x\"}}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        let file = SourceFile {
            path,
            size: text.len() as u64,
            format: Format::Ndjson,
            tabs: false,
            artifact: None,
            local: None,
        };
        let (found, quarantine) = in_parts(&file, 777, folder.path(), false);
        let expected: Vec<_> = (0..1000).map(|row| vec![Some(row.to_string()), Some("x".to_owned())]).collect();
        assert!(found == expected && quarantine == Quarantine::default());
    }
}
