//! The artifact seam: immutable bytes named by their digest.
//!
//! Putting the same bytes twice is putting them once, so repeated and late work can't damage anything. A
//! put has ended when the bytes would survive a power cut; only then may a fact name them.

pub mod directory;
#[cfg(feature = "s3")]
pub mod s3;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_protocol::Digest;

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
    /// A folder for files that are about to be put, on the same disk where there is one.
    fn scratch(&self) -> PathBuf;
}
