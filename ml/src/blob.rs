//! Random access to immutable bytes, wherever they are kept.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

/// Immutable bytes that can be read from anywhere in them: a file here, an object elsewhere.
pub trait Blob: Debug + Send + Sync {
    /// How many bytes there are.
    fn size(&self) -> u64;
    /// The `len` bytes from `offset`; an error when they aren't all there.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
}

/// A blob that several readers share.
pub type SharedBlob = Arc<dyn Blob>;

/// Reads a blob from an offset on.
pub struct BlobRead {
    blob: SharedBlob,
    offset: u64,
}

impl BlobRead {
    /// Reads from byte `offset` to the end.
    pub fn new(blob: SharedBlob, offset: u64) -> BlobRead {
        BlobRead { blob, offset }
    }
}

impl Read for BlobRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size().saturating_sub(self.offset);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        buffer[..length].copy_from_slice(&self.blob.read_at(self.offset, length)?);
        self.offset += length as u64;
        Ok(length)
    }
}

/// A file on this machine.
#[derive(Debug)]
pub struct FileBlob {
    file: File,
    size: u64,
}

impl FileBlob {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> io::Result<FileBlob> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(FileBlob { file, size })
    }
}

impl Blob for FileBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// Bytes in memory.
#[derive(Debug)]
pub struct MemoryBlob(pub Bytes);

impl Blob for MemoryBlob {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        match start.checked_add(len) {
            Some(end) if end <= self.0.len() => Ok(self.0.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
