//! The artifact seam: immutable bytes named by their digest.
//!
//! Putting the same bytes twice is putting them once, so repeated and late work can't damage anything. A
//! put has ended when the bytes would survive a power cut; only then may a fact name them.
//!
//! Beside the bytes there are **marks**: names without bytes, found again by how they begin. What has to be found
//! when the state is gone (which fact of which model is the newest) can't hang on a digest that nobody knows. A
//! mark holds no bytes, so two writers of the same mark can't disagree, and no service has to promise a
//! conditional write.

pub mod directory;
#[cfg(feature = "s3")]
pub mod s3;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_protocol::Digest;

/// Bytes of a mark's name: with a bucket's prefix it stays under the 1,024 bytes of an S3 key.
pub const MARK_BYTES_MAX: usize = 700;

/// Why the artifact store couldn't do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("there is no artifact `{digest}`")]
    Missing { digest: Digest },
    #[error("artifact `{digest}` is damaged: its bytes have the digest `{found}`")]
    Corrupt { digest: Digest, found: Digest },
    #[error("artifact `{digest}` has {size} bytes; bytes {offset} to {end} were asked for")]
    OutOfRange { digest: Digest, size: u64, offset: u64, end: u64 },
    #[error("failed to {verb} artifact at `{path}`")]
    Io { verb: &'static str, path: PathBuf, source: std::io::Error },
    #[error("failed to {verb} an artifact: the store can't be reached")]
    Unavailable { verb: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Immutable bytes by digest.
#[async_trait]
pub trait Artifacts: Send + Sync {
    /// Keeps some bytes.
    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError>;
    /// Keeps the bytes of a file, moving it into the store where that is possible. Returns digest and size.
    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError>;
    /// All bytes of an artifact, checked against its digest.
    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError>;
    /// Some bytes of an artifact; too few to check the digest.
    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError>;
    /// How many bytes it has; nothing when it isn't there.
    async fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError>;
    /// A file on this machine with the artifact's bytes, where the store has one: readers map it.
    fn local_path(&self, digest: Digest) -> Option<PathBuf>;
    /// Digests after `after`, in order, with their sizes.
    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError>;
    /// Removes an artifact; fine when it isn't there.
    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError>;
    /// Sets a mark; it would survive a power cut then. Setting it again is setting it once. Its name is one or more
    /// parts of up to 255 of the characters `a-z0-9_~.-`, none of which begins with a dot, joined by `/`. No mark begins with another and a `/`.
    async fn mark(&self, name: &str) -> Result<(), ArtifactError>;
    /// Marks that begin with `prefix`, in the order of their bytes, after `after`, at most `limit`.
    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError>;
    /// A folder for files that are about to be put, on the same disk where there is one.
    fn scratch(&self) -> PathBuf;
}

/// Refuses what can't be a mark in every store.
pub fn check_mark(name: &str) -> Result<(), ArtifactError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_~.-".contains(c);
    let is_part =
        |part: &str| !part.is_empty() && part.len() <= 255 && !part.starts_with('.') && part.chars().all(fits);
    if name.len() <= MARK_BYTES_MAX && name.split('/').all(is_part) {
        return Ok(());
    }
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "it can't be the name of a mark");
    Err(ArtifactError::Io { verb: "mark the", path: name.into(), source })
}
