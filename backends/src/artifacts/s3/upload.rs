//! Uploads: one request for what is small, parts for what isn't, never a whole large file in memory.
//!
//! Parts are read one after the other, hashed on the way and sent a few at a time. The hash is compared
//! before the upload is completed: a file that changed after it was named never becomes an artifact.

use std::io;
use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::stream::{TryStreamExt as _, try_unfold};
use gristmill_protocol::Digest;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::Inner;
use super::failure::{Reason, Verb};
use crate::artifacts::ArtifactError;

/// Bytes up to which one request carries an object. Below it, three requests instead of one cost more than
/// repeating a failed one.
const SINGLE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a part: what a failed request has to repeat. S3 takes no less than 5 MiB.
const PART_BYTES: u64 = 8 * 1024 * 1024;
/// Parts of an upload; S3 takes no more, so the parts of very large objects grow.
const PARTS_MAX: u64 = 10_000;
/// Parts on their way at a time. Four fill a link of 1 Gbit/s over 200 ms and hold 32 MiB in memory.
const PARTS_AT_A_TIME: usize = 4;
/// Bytes read at a time from a file that is hashed.
const CHUNK_BYTES: usize = 256 * 1024;

/// Where an object's bytes come from, read from the start.
pub(super) enum Source {
    Bytes(Bytes),
    File { path: PathBuf, file: File },
}

impl Source {
    pub(super) async fn open(path: &Path) -> Result<Source, ArtifactError> {
        let file = File::open(path).await.map_err(|source| reading_failed(path, source))?;
        Ok(Source::File { path: path.to_owned(), file })
    }

    /// The next `len` bytes; fewer where they end.
    async fn next(&mut self, len: u64) -> Result<Bytes, ArtifactError> {
        match self {
            Source::Bytes(bytes) => {
                Ok(bytes.split_to(usize::try_from(len).map_or(bytes.len(), |len| len.min(bytes.len()))))
            }
            Source::File { path, file } => {
                let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
                let read = file.take(len).read_to_end(&mut bytes).await;
                read.map_err(|source| reading_failed(path, source))?;
                Ok(Bytes::from(bytes))
            }
        }
    }

    /// The file changed since its digest was taken.
    fn changed(&self) -> ArtifactError {
        let path = match self {
            Source::File { path, .. } => path.clone(),
            Source::Bytes(_) => PathBuf::new(),
        };
        reading_failed(&path, io::Error::other("it changed while it was read; put it again"))
    }
}

fn reading_failed(path: &Path, source: io::Error) -> ArtifactError {
    ArtifactError::Io { verb: "read the file of an", path: path.to_owned(), source }
}

/// The digest and the size of a file.
pub(super) async fn hash_file(path: &Path) -> Result<(Digest, u64), ArtifactError> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(&path).map_err(|source| reading_failed(&path, source))?;
        let (mut sha, mut chunk, mut size) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
        loop {
            match io::Read::read(&mut file, &mut chunk) {
                Ok(0) => return Ok((Digest::from_bytes(sha.finalize().into()), size)),
                Ok(read) => {
                    sha.update(&chunk[..read]);
                    size += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading_failed(&path, error)),
            }
        }
    });
    hashed.await.map_err(|source| ArtifactError::Unavailable { verb: "hash", source: Box::new(source) })?
}

impl Inner {
    /// Uploads `size` bytes that shall have the digest.
    pub(super) async fn upload(&self, digest: Digest, size: u64, mut source: Source) -> Result<(), ArtifactError> {
        if size > SINGLE_BYTES_MAX {
            return self.upload_parts(digest, size, source).await;
        }
        // One byte more, to see that there is none.
        let bytes = source.next(size + 1).await?;
        if let Source::File { .. } = source
            && Digest::of(&bytes) != digest
        {
            return Err(source.changed());
        }
        let key = self.key(digest);
        let put = self.client.put_object().bucket(&self.bucket).key(&key).body(ByteStream::from(bytes)).send().await;
        put.map_err(|error| self.failed(Verb::Put, &key, Reason::of(&error), error))?;
        Ok(())
    }

    async fn upload_parts(&self, digest: Digest, size: u64, source: Source) -> Result<(), ArtifactError> {
        let key = self.key(digest);
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(&key).send().await;
        let begun = begun.map_err(|error| self.failed(Verb::Put, &key, Reason::of(&error), error))?;
        let id = begun.upload_id().unwrap_or_default().to_owned();
        let unfinished = Unfinished { client: self.client.clone(), bucket: self.bucket.clone(), key, id, open: true };
        match self.send_parts(&unfinished, digest, size, source).await {
            Ok(()) => {
                unfinished.ended();
                Ok(())
            }
            Err(error) => {
                unfinished.abort().await;
                Err(error)
            }
        }
    }

    async fn send_parts(
        &self,
        upload: &Unfinished,
        digest: Digest,
        size: u64,
        source: Source,
    ) -> Result<(), ArtifactError> {
        let part_bytes = PART_BYTES.max(size.div_ceil(PARTS_MAX));
        let start = Reading { source, sha: Sha256::new(), left: size, number: 1 };
        let parts = try_unfold(start, |reading| reading.next_part(part_bytes, digest));
        let sent = parts.map_ok(|(number, bytes)| self.send_part(upload, number, bytes));
        let mut parts: Vec<CompletedPart> = sent.try_buffer_unordered(PARTS_AT_A_TIME).try_collect().await?;
        parts.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&upload.bucket).key(&upload.key);
        let completed = complete.upload_id(&upload.id).multipart_upload(parts).send().await;
        if let Err(error) = completed {
            // A completion whose answer was lost may have worked: repeated, it finds no such upload.
            if self.is_kept(digest, size).await.unwrap_or(false) {
                return Ok(());
            }
            return Err(self.failed(Verb::Put, &upload.key, Reason::of(&error), error));
        }
        Ok(())
    }

    async fn send_part(&self, upload: &Unfinished, number: i32, bytes: Bytes) -> Result<CompletedPart, ArtifactError> {
        let part = self.client.upload_part().bucket(&upload.bucket).key(&upload.key).upload_id(&upload.id);
        let sent = part.part_number(number).body(ByteStream::from(bytes)).send().await;
        let sent = sent.map_err(|error| self.failed(Verb::Put, &upload.key, Reason::of(&error), error))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned)).build())
    }
}

/// Cuts a source into parts.
struct Reading {
    source: Source,
    sha: Sha256,
    left: u64,
    number: i32,
}

impl Reading {
    /// The next part and its number. Says so instead of giving the last part when the bytes aren't those of the
    /// digest, so that the upload can't be completed.
    async fn next_part(
        mut self,
        part_bytes: u64,
        digest: Digest,
    ) -> Result<Option<((i32, Bytes), Reading)>, ArtifactError> {
        if self.left == 0 {
            return Ok(None);
        }
        let wanted = self.left.min(part_bytes);
        let bytes = self.source.next(wanted).await?;
        if bytes.len() as u64 != wanted {
            return Err(self.source.changed());
        }
        self.left -= wanted;
        // Bytes in memory can't change. Eight MiB take 5 to 30 ms to hash, too long for a thread of the runtime.
        if let Source::File { .. } = self.source {
            let (mut sha, hashed) = (self.sha, bytes.clone());
            let sha = tokio::task::spawn_blocking(move || {
                sha.update(&hashed);
                sha
            });
            self.sha =
                sha.await.map_err(|source| ArtifactError::Unavailable { verb: "hash", source: Box::new(source) })?;
            if self.left == 0 && self.sha.clone().finalize()[..] != digest.as_bytes()[..] {
                return Err(self.source.changed());
            }
        }
        let number = self.number;
        self.number += 1;
        Ok(Some(((number, bytes), self)))
    }
}

/// A multipart upload that isn't completed. Its parts cost storage until it is aborted, so it is aborted even
/// when whoever waits for the put goes away.
struct Unfinished {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    open: bool,
}

impl Unfinished {
    fn ended(mut self) {
        self.open = false;
    }

    async fn abort(mut self) {
        self.open = false;
        send_abort(self.client.clone(), self.bucket.clone(), self.key.clone(), self.id.clone()).await;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let abort = send_abort(self.client.clone(), self.bucket.clone(), self.key.clone(), self.id.clone());
            runtime.spawn(abort);
        }
    }
}

async fn send_abort(client: Client, bucket: String, key: String, id: String) {
    let aborted = client.abort_multipart_upload().bucket(&bucket).key(&key).upload_id(&id).send().await;
    if let Err(error) = aborted {
        let error = super::failure::chain(&error);
        // The put has failed for a reason of its own, which is what the caller hears of.
        tracing::warn!(bucket, key, error, "an upload that failed couldn't be aborted; its parts stay at the store");
    }
}
