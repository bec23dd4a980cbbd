//! Settles the one schema of a source from a sample of each of its files.

use std::collections::{BTreeMap, HashMap};

use gristmill_protocol::pipeline::steps::{ColumnType, Format, Ingest};
use rayon::prelude::*;

use super::cells::{Nulls, classify, widen};
use super::csv::{self, Next};
use super::input::Line;
use super::ndjson::{self, Value};
use super::{IngestError, ReadOptions, SourceFile};
use crate::names;
use crate::table::{Column, TableSchema};

/// Rows sampled over all files: enough to meet the rare kinds of value, and a twentieth of a second's work.
const SAMPLE_ROWS: usize = 100_000;

/// Rows sampled of one file, at the most and at the least.
const FILE_ROWS: (usize, usize) = (500, 20_000);

/// Bytes sampled of one file, for files of long rows.
const FILE_BYTES: usize = 16 * 1024 * 1024;

/// The columns of one file, in its order. No kind: no value was seen.
struct Sample {
    columns: Vec<(String, Option<ColumnType>)>,
    /// Whether the file names all its columns whether or not they have values.
    complete: bool,
    /// Columns that no table can hold, and what they hold; an error unless they are left out.
    unfit: BTreeMap<String, String>,
}

/// The schema of the files: columns in the order of the first file, each of the narrowest kind that holds what the
/// samples showed, and text where they showed nothing. `types` and `columns` of the step have the last word.
pub fn infer(files: &[SourceFile], step: &Ingest) -> Result<TableSchema, IngestError> {
    let options = ReadOptions::of(step)?;
    let rows = (SAMPLE_ROWS / files.len().max(1)).clamp(FILE_ROWS.0, FILE_ROWS.1);
    let samples: Vec<Sample> =
        files.par_iter().map(|file| sample(file, &options, rows)).collect::<Result<_, IngestError>>()?;
    if let Some(keep) = &step.columns {
        known(keep.iter(), "columns", &samples, step)?;
    }
    known(step.types.keys(), "types", &samples, step)?;
    let kept = |name: &str| step.columns.as_ref().is_none_or(|keep| keep.iter().any(|column| column == name));
    let mut columns: Vec<(String, Option<ColumnType>)> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for (file, sample) in files.iter().zip(&samples) {
        if let Some((column, found)) = sample.unfit.iter().find(|(column, _)| kept(column)) {
            let (path, column, found) = (file.path.clone(), column.clone(), found.clone());
            return Err(IngestError::Unfit { path, column, found });
        }
        for (name, kind) in sample.columns.iter().filter(|(name, _)| kept(name)) {
            match at.get(name) {
                Some(index) => {
                    let known = &mut columns[*index].1;
                    *known = match (*known, *kind) {
                        (Some(one), Some(other)) => Some(widen(one, other)),
                        (one, other) => one.or(other),
                    };
                }
                None => {
                    at.insert(name.clone(), columns.len());
                    columns.push((name.clone(), *kind));
                }
            }
        }
    }
    same_columns(files, &samples, &columns)?;
    for name in step.types.keys().filter(|name| kept(name) && !at.contains_key(*name)) {
        columns.push((name.clone(), None));
    }
    if let Some(keep) = &step.columns {
        columns.sort_by_key(|(name, _)| keep.iter().position(|column| column == name));
    }
    let columns = columns.into_iter().map(|(name, kind)| {
        let kind = step.types.get(&name).copied().or(kind).unwrap_or(ColumnType::String);
        // A sample can't promise that no row lacks a value.
        Column { name, kind, nullable: true }
    });
    Ok(TableSchema { columns: columns.collect() })
}

/// Checks that what a setting names is there. NDJSON may have keys that no sampled line had.
fn known<'a>(
    names: impl Iterator<Item = &'a String>,
    setting: &'static str,
    samples: &[Sample],
    step: &Ingest,
) -> Result<(), IngestError> {
    let open_ended = samples.iter().any(|sample| !sample.complete);
    for name in names {
        let there = samples
            .iter()
            .any(|sample| sample.columns.iter().any(|(column, _)| column == name) || sample.unfit.contains_key(name));
        let promised = open_ended && step.types.contains_key(name);
        if !there && !promised {
            let columns = samples.first().into_iter().flat_map(|sample| &sample.columns);
            let hint = names::hint(name, columns.map(|(column, _)| column.as_str()));
            return Err(IngestError::UnknownColumn { setting, column: name.clone(), hint });
        }
    }
    Ok(())
}

/// Checks that every file that names its columns has them all.
fn same_columns(
    files: &[SourceFile],
    samples: &[Sample],
    columns: &[(String, Option<ColumnType>)],
) -> Result<(), IngestError> {
    let Some(first) = samples.iter().position(|sample| sample.complete) else { return Ok(()) };
    let has = |sample: &Sample, name: &str| sample.columns.iter().any(|(column, _)| column == name);
    for (file, sample) in files.iter().zip(samples).filter(|(_, sample)| sample.complete) {
        if let Some((column, _)) = columns.iter().find(|(column, _)| !has(sample, column)) {
            let (path, first_path, column) = (file.path.clone(), files[first].path.clone(), column.clone());
            return Err(if has(&samples[first], &column) {
                IngestError::MissingColumn { path, first: first_path, column }
            } else {
                let with = samples.iter().position(|sample| has(sample, &column)).unwrap_or(first);
                IngestError::ExtraColumn { path: files[with].path.clone(), first: first_path, column }
            });
        }
    }
    Ok(())
}

fn sample(file: &SourceFile, options: &ReadOptions, rows: usize) -> Result<Sample, IngestError> {
    match file.format {
        Format::Csv => sample_csv(file, options, rows),
        Format::Ndjson => sample_ndjson(file, rows),
        Format::Parquet => sample_parquet(file),
    }
}

fn sample_csv(file: &SourceFile, options: &ReadOptions, rows: usize) -> Result<Sample, IngestError> {
    let (mut records, names) = csv::open(file, options.delimiter_of(file))?;
    if let ([header], None) = (&names[..], options.delimiter)
        && let Some(delimiter) = [';', '\t', '|'].into_iter().find(|delimiter| header.contains(*delimiter))
    {
        let header = header.clone();
        return Err(IngestError::OtherDelimiter { path: file.path.clone(), header, delimiter });
    }
    let nulls = Nulls::new(&options.nulls);
    let mut kinds: Vec<Option<ColumnType>> = vec![None; names.len()];
    let (mut seen, mut bytes) = (0, 0);
    while seen < rows && bytes < FILE_BYTES {
        match records.next() {
            Next::Record if records.len() == names.len() => {
                seen += 1;
                bytes += records.raw().len();
                for (index, kind) in kinds.iter_mut().enumerate() {
                    let cell = records.field(index);
                    if *kind != Some(ColumnType::String) && !nulls.contains(cell) {
                        let found = classify(cell);
                        *kind = Some(kind.map_or(found, |kind| widen(kind, found)));
                    }
                }
            }
            // What can't be read is met again, and counted, when the whole file is read.
            Next::Record if records.spans_lines() => bytes += records.retry_after_first_line().len(),
            Next::Record | Next::Bad(_) => bytes += records.raw().len(),
            Next::End => break,
        }
    }
    Ok(Sample { columns: names.into_iter().zip(kinds).collect(), complete: true, unfit: BTreeMap::new() })
}

fn sample_ndjson(file: &SourceFile, rows: usize) -> Result<Sample, IngestError> {
    let mut lines = ndjson::open(file)?;
    let mut sample = Sample { columns: Vec::new(), complete: false, unfit: BTreeMap::new() };
    let mut at: HashMap<String, usize> = HashMap::new();
    let (mut seen, mut bad, mut bytes) = (0, 0, 0);
    while seen < rows && bytes < FILE_BYTES {
        let Some(line) = lines.next() else { break };
        let Line::Text(text) = line else {
            bad += 1;
            continue;
        };
        bytes += text.len();
        if text.trim_ascii().is_empty() {
            continue;
        }
        let read = ndjson::each_value(text, |key, value| {
            let index = *at.entry(key.to_owned()).or_insert_with(|| {
                sample.columns.push((key.to_owned(), None));
                sample.columns.len() - 1
            });
            let found = match value {
                Value::Null => return Ok(()),
                Value::Nested => {
                    sample.unfit.insert(key.to_owned(), "lists or objects".to_owned());
                    return Ok(());
                }
                Value::Boolean(_) => ColumnType::Boolean,
                Value::Integer(_) => ColumnType::Integer,
                Value::Float(_) => ColumnType::Float,
                // Quotes around a number say that it is a code.
                Value::Text(text) => match classify(text.as_bytes()) {
                    kind @ (ColumnType::Date | ColumnType::Timestamp) => kind,
                    _ => ColumnType::String,
                },
            };
            let kind = &mut sample.columns[index].1;
            *kind = Some(kind.map_or(found, |kind| widen(kind, found)));
            Ok(())
        });
        match read {
            Ok(()) => seen += 1,
            Err(_) => bad += 1,
        }
    }
    if seen == 0 && bad > 0 {
        return Err(IngestError::NoObjects { path: file.path.clone() });
    }
    Ok(sample)
}

fn sample_parquet(file: &SourceFile) -> Result<Sample, IngestError> {
    let schema = super::parquet_schema(file)?;
    let mut sample = Sample { columns: Vec::new(), complete: true, unfit: BTreeMap::new() };
    for field in schema.fields() {
        let kind = crate::table::kind_of(field.data_type());
        if kind.is_none() {
            sample.unfit.insert(field.name().clone(), format!("values of type {}", field.data_type()));
        }
        sample.columns.push((field.name().clone(), kind));
    }
    Ok(sample)
}
