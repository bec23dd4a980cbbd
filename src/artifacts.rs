//! `artifacts`: what is in the store, what one artifact holds, and a copy of it as a file.
//!
//! An artifact says of itself what it is: JSON (manifests, evidence, reports), Parquet (partitions, failing
//! rows, unreadable lines) or a model. Anything else is told by its size alone.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_ml::estimators::algorithm_name;
use gristmill_ml::model::Model;
use gristmill_ml::target::learning_name;
use gristmill_protocol::Digest;
use gristmill_protocol::limits::MODEL_BYTES_MAX;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::text::{self, Table};

/// Rows of a Parquet artifact that are shown.
const ROWS_SHOWN: usize = 10;
/// Characters of a cell that are shown.
const CELL_CHARS: usize = 32;
/// Bytes copied at a time.
const COPY_BYTES: u64 = 4 * 1024 * 1024;
/// Digits of a digest that name an artifact at the least: fewer are too easily another's.
const PREFIX_DIGITS_MIN: usize = 4;

/// Why an artifact can't be found, shown or saved.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    #[error(
        "`{text}` is no digest: give `sha256:` and 64 hexadecimal digits, or the first {PREFIX_DIGITS_MIN} or more"
    )]
    NotADigest { text: String },
    #[error("no artifact's digest begins with `{text}`")]
    NoSuch { text: String },
    #[error("`{text}` is the beginning of several digests, {first} and {second} among them")]
    Ambiguous { text: String, first: Digest, second: Digest },
    #[error("failed to read the artifact store")]
    Store(#[from] ArtifactError),
    #[error("failed to read `{digest}` as JSON")]
    Json {
        digest: Digest,
        #[source]
        source: serde_json::Error,
    },
    #[error("failed to read `{digest}` as Parquet")]
    Parquet {
        digest: Digest,
        #[source]
        source: ParquetError,
    },
    #[error("failed to show the rows of `{digest}`")]
    Rows {
        digest: Digest,
        #[source]
        source: ArrowError,
    },
    #[error("`{path}` exists")]
    Exists { path: PathBuf },
    #[error("failed to write `{path}`")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl ShowError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            ShowError::NoSuch { .. } | ShowError::NotADigest { .. } => {
                Some("`gristmill artifacts` lists what there is".to_owned())
            }
            ShowError::Ambiguous { .. } => Some("give more digits".to_owned()),
            ShowError::Exists { .. } => Some("give another name, or remove it first".to_owned()),
            _ => None,
        }
    }
}

/// What kind of bytes an artifact has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json,
    Parquet,
    /// A model, or bytes that only programs read.
    Binary,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Json => "json",
            Kind::Parquet => "parquet",
            Kind::Binary => "binary",
        }
    }

    fn of(head: &[u8]) -> Kind {
        match head {
            [b'P', b'A', b'R', b'1', ..] => Kind::Parquet,
            [b'{' | b'[', ..] => Kind::Json,
            _ => Kind::Binary,
        }
    }
}

/// One artifact of a list.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    pub digest: Digest,
    pub bytes: u64,
    pub kind: Kind,
}

/// Artifacts in the order of their digests, at most `limit`; and whether there are more.
pub async fn list(artifacts: &dyn Artifacts, limit: usize) -> Result<(Vec<Listed>, bool), ShowError> {
    let mut found = artifacts.list(None, limit.saturating_add(1)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let mut listed = Vec::new();
    for (digest, bytes) in found {
        let head = artifacts.range(digest, 0, bytes.min(4)).await?;
        listed.push(Listed { digest, bytes, kind: Kind::of(&head) });
    }
    Ok((listed, more))
}

/// Artifacts as a table.
pub fn list_text(listed: &[Listed], more: bool) -> String {
    if listed.is_empty() {
        return "no artifacts yet\nhint: a run makes them: `gristmill run PIPELINE`\n".to_owned();
    }
    let mut table = Table::new(&["artifact", "kind", ">size"]);
    for artifact in listed {
        table.row([artifact.digest.to_string(), artifact.kind.as_str().to_owned(), text::bytes(artifact.bytes)]);
    }
    let total = text::bytes(listed.iter().map(|artifact| artifact.bytes).sum());
    let count = text::counted(listed.len() as u64, "artifact");
    let more = if more { "hint: there are more; `-n` says how many to list\n" } else { "" };
    format!("{table}\n{count}, {total}\n{more}")
}

/// Artifacts as JSON.
pub fn list_json(listed: &[Listed]) -> Value {
    let one = |artifact: &Listed| json!({ "digest": artifact.digest.to_string(), "kind": artifact.kind.as_str(), "bytes": artifact.bytes });
    Value::Array(listed.iter().map(one).collect())
}

/// The artifact that a text names: a digest, with or without `sha256:`, or the beginning of one.
pub async fn find(artifacts: &dyn Artifacts, text: &str) -> Result<Digest, ShowError> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !hexadecimal || !(PREFIX_DIGITS_MIN..=64).contains(&digits.len()) {
        return Err(ShowError::NotADigest { text: text.to_owned() });
    }
    let lowest: Digest =
        format!("sha256:{digits:0<64}").parse().map_err(|_| ShowError::NotADigest { text: text.to_owned() })?;
    let mut found: Vec<Digest> = Vec::new();
    if artifacts.size(lowest).await?.is_some() {
        found.push(lowest);
    }
    found.extend(artifacts.list(Some(lowest), 2).await?.into_iter().map(|(digest, _)| digest));
    found.retain(|digest| digest.hex().starts_with(digits));
    match found.as_slice() {
        [] => Err(ShowError::NoSuch { text: text.to_owned() }),
        [only] => Ok(*only),
        [first, second, ..] => Err(ShowError::Ambiguous { text: text.to_owned(), first: *first, second: *second }),
    }
}

/// What an artifact holds.
#[derive(Debug)]
pub enum Content {
    Json(Value),
    Table {
        schema: std::sync::Arc<Schema>,
        rows: u64,
        /// The first rows, where there are any.
        head: Option<RecordBatch>,
    },
    Model(Box<Model>),
    Other,
}

/// An artifact that was looked into.
#[derive(Debug)]
pub struct Shown {
    pub digest: Digest,
    pub bytes: u64,
    pub content: Content,
}

/// Looks into an artifact.
pub async fn show(artifacts: &dyn Artifacts, digest: Digest) -> Result<Shown, ShowError> {
    let size = artifacts.size(digest).await?.ok_or(ArtifactError::Missing { digest })?;
    let head = artifacts.range(digest, 0, size.min(4)).await?;
    let kind = Kind::of(&head);
    if kind == Kind::Binary && size > MODEL_BYTES_MAX as u64 {
        return Ok(Shown { digest, bytes: size, content: Content::Other });
    }
    let bytes = artifacts.get(digest).await?;
    let content = match kind {
        Kind::Json => {
            Content::Json(serde_json::from_slice(&bytes).map_err(|source| ShowError::Json { digest, source })?)
        }
        Kind::Parquet => table(digest, bytes)?,
        Kind::Binary => match Model::from_bytes(&bytes) {
            Ok(model) => Content::Model(Box::new(model)),
            Err(_) => Content::Other,
        },
    };
    Ok(Shown { digest, bytes: size, content })
}

fn table(digest: Digest, bytes: Bytes) -> Result<Content, ShowError> {
    let parquet = |source| ShowError::Parquet { digest, source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(parquet)?;
    let schema = builder.schema().clone();
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let mut reader = builder.with_batch_size(ROWS_SHOWN).with_limit(ROWS_SHOWN).build().map_err(parquet)?;
    let head = reader.next().transpose().map_err(|source| ShowError::Rows { digest, source })?;
    Ok(Content::Table { schema, rows, head })
}

impl Shown {
    /// The artifact as people read it.
    pub fn to_text(&self) -> Result<String, ShowError> {
        let mut out = format!("{}, {}\n\n", self.digest, text::bytes(self.bytes));
        match &self.content {
            Content::Json(value) => writeln!(out, "{value:#}").expect("writing to memory"),
            Content::Table { schema, rows, head } => {
                let (rows, columns) = (text::counted(*rows, "row"), schema.fields().len() as u64);
                writeln!(out, "{rows}, {}\n", text::counted(columns, "column")).expect("writing to memory");
                let mut columns = Table::new(&["column", "type", "nulls"]).indented("  ");
                for field in schema.fields() {
                    let nulls = if field.is_nullable() { "may be null" } else { "" };
                    columns.row([field.name().clone(), field.data_type().to_string(), nulls.to_owned()]);
                }
                out += &columns.to_string();
                if let Some(batch) = head {
                    let rows = batch_table(batch).map_err(|source| ShowError::Rows { digest: self.digest, source })?;
                    write!(out, "\nfirst rows\n{rows}").expect("writing to memory");
                }
            }
            Content::Model(model) => out += &model_text(model),
            Content::Other => out += "it holds neither JSON nor Parquet nor a model\n",
        }
        Ok(out)
    }

    /// The artifact for programs: JSON as it is, a summary of anything else.
    pub fn to_json(&self) -> Result<Value, ShowError> {
        let digest = self.digest;
        let kind = match &self.content {
            Content::Json(_) => "json",
            Content::Table { .. } => "parquet",
            Content::Model(_) => "model",
            Content::Other => "binary",
        };
        let content = match &self.content {
            Content::Json(value) => value.clone(),
            Content::Table { schema, rows, head } => {
                let column = |field: &std::sync::Arc<arrow::datatypes::Field>| json!({ "name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable() });
                let head = head.as_ref().map(batch_json).transpose();
                let head = head.map_err(|source| ShowError::Rows { digest, source })?.unwrap_or_default();
                json!({ "rows": rows, "columns": schema.fields().iter().map(column).collect::<Vec<_>>(), "head": head })
            }
            Content::Model(model) => model_json(model),
            Content::Other => Value::Null,
        };
        Ok(json!({ "digest": digest.to_string(), "bytes": self.bytes, "kind": kind, "content": content }))
    }
}

/// A batch as a table of text.
fn batch_table(batch: &RecordBatch) -> Result<Table, ArrowError> {
    let schema = batch.schema();
    let numeric = |field: &arrow::datatypes::Field| field.data_type().is_numeric();
    let titles: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{}{}", if numeric(field) { ">" } else { "" }, field.name()))
        .collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    let mut table = Table::new(&titles).indented("  ");
    let options = FormatOptions::default().with_null("null");
    let columns: Vec<ArrayFormatter<'_>> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        table.row(columns.iter().map(|column| text::cut(&column.value(row).to_string(), CELL_CHARS)));
    }
    Ok(table)
}

fn batch_json(batch: &RecordBatch) -> Result<Vec<Value>, ArrowError> {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    serde_json::from_slice(&writer.into_inner()).map_err(|source| ArrowError::JsonError(source.to_string()))
}

fn model_text(model: &Model) -> String {
    let training = model.training();
    let mut out = String::new();
    let mut facts = Table::new(&["", ""]).indented("  ");
    facts.row(["predicts".to_owned(), model.target().text()]);
    if let Some(classes) = model.target().classes() {
        facts.row(["classes".to_owned(), text::cut(&classes.names().join(", "), 80)]);
    }
    facts.row(["algorithm".to_owned(), algorithm_name(&training.algorithm).to_owned()]);
    facts.row(["learned from".to_owned(), text::counted(training.rows, "row")]);
    facts.row(["seed".to_owned(), training.seed.to_string()]);
    write!(out, "a model\n\n{facts}\ninputs, those that matter most first\n").expect("writing to memory");
    let mut inputs = Table::new(&["column", ">share"]).indented("  ");
    for importance in model.importances() {
        inputs.row([importance.name, text::percent(importance.share)]);
    }
    out + &inputs.to_string()
}

fn model_json(model: &Model) -> Value {
    let training = model.training();
    let importances: Vec<Value> = model
        .importances()
        .into_iter()
        .map(|importance| json!({ "name": importance.name, "share": importance.share }))
        .collect();
    json!({
        "learning": learning_name(model.learning()),
        "target": model.target().column,
        "classes": model.target().classes().map(gristmill_ml::target::Classes::names),
        "algorithm": algorithm_name(&training.algorithm),
        "settings": training.algorithm,
        "seed": training.seed,
        "rows": training.rows,
        "inputs": model.signature().iter().map(|input| &input.name).collect::<Vec<_>>(),
        "signature": model.signature_json(),
        "importances": importances,
    })
}

/// Writes an artifact to a file that doesn't exist yet. What is written is checked against the digest; a
/// file of that name appears whole or not at all. Returns how many bytes it has.
pub async fn save(artifacts: &dyn Artifacts, digest: Digest, path: &Path) -> Result<u64, ShowError> {
    if path.exists() {
        return Err(ShowError::Exists { path: path.to_owned() });
    }
    let (file, size) = fetch(artifacts, digest, path).await?;
    file.persist_noclobber(path).map_err(|error| ShowError::Write { path: path.to_owned(), source: error.error })?;
    Ok(size)
}

/// The same, in place of whatever is there.
pub async fn save_over(artifacts: &dyn Artifacts, digest: Digest, path: &Path) -> Result<u64, ShowError> {
    let (file, size) = fetch(artifacts, digest, path).await?;
    file.persist(path).map_err(|error| ShowError::Write { path: path.to_owned(), source: error.error })?;
    Ok(size)
}

/// Writes an artifact beside `path`, whole and synced.
async fn fetch(
    artifacts: &dyn Artifacts,
    digest: Digest,
    path: &Path,
) -> Result<(tempfile::NamedTempFile, u64), ShowError> {
    let size = artifacts.size(digest).await?.ok_or(ArtifactError::Missing { digest })?;
    let write = |source| ShowError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(write)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(write)?;
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < size {
        let bytes = artifacts.range(digest, offset, COPY_BYTES.min(size - offset)).await?;
        hash.update(&bytes);
        file.write_all(&bytes).map_err(write)?;
        offset += bytes.len() as u64;
    }
    let found = Digest::from_bytes(hash.finalize().into());
    if found != digest {
        return Err(ArtifactError::Corrupt { digest, found }.into());
    }
    // Temporary files are private; the result is as any file that the user makes.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).map_err(write)?;
    file.as_file().sync_all().map_err(write)?;
    Ok((file, size))
}
