//! Artifacts in a folder: `sha256/ab/cdef…` under a root, written aside and renamed into place.
//!
//! A put is four steps: write to a file of our own, sync it, rename it, sync the folder. A crash between
//! them leaves a file in `tmp/` and nothing half-written under a digest. Each process writes under a folder of
//! its own in `tmp/` and holds a lock for it; whoever opens the root next removes the folders whose locks are
//! free, so leftovers go at once and nobody guesses by their age.
//!
//! Marks are empty files under `marks/`.
//!
//! Puts run on threads for blocking work, because they wait for the disk. Small reads run where they are
//! asked for: a read of 64 KiB out of the page cache takes less time than the way to another thread.

mod marks;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use gristmill_protocol::Digest;
use sha2::{Digest as _, Sha256};

use super::{ArtifactError, Artifacts, check_mark};

/// Bytes up to which a read isn't worth a thread.
const SMALL_BYTES: u64 = 64 * 1024;
/// Bytes read at a time from a file that is hashed or copied.
const CHUNK_BYTES: usize = 256 * 1024;

/// Artifacts in a folder. Clones share it.
#[derive(Clone, Debug)]
pub struct DirectoryArtifacts {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: PathBuf,
    marks: PathBuf,
    /// This process's folder for files that aren't artifacts yet.
    scratch: PathBuf,
    lock_path: PathBuf,
    /// Holds the lock that says that `scratch` is in use.
    _lock: File,
    next: AtomicU64,
}

impl DirectoryArtifacts {
    /// Opens the artifacts under `root`, makes it if need be, and removes what dead processes left unfinished.
    pub fn open(root: &Path) -> Result<DirectoryArtifacts, ArtifactError> {
        // Paths are handed out; they must mean the same after somebody changes the working folder.
        let root = &std::path::absolute(root).map_err(failed("find the folder of an", root))?;
        let objects = root.join("sha256");
        let marks = root.join("marks");
        let tmp = root.join("tmp");
        make_folders(&objects)?;
        make_folders(&marks)?;
        make_folders(&tmp)?;
        // Openers take turns: between making a lock file and locking it, another would take it for a leftover.
        let turn_path = tmp.join("lock");
        let turn = open_lock(&turn_path)?;
        turn.lock().map_err(failed("lock the folder of an", &turn_path))?;
        remove_leftovers(&tmp)?;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let lock_path = tmp.join(format!("{name}.lock"));
        let lock = open_lock(&lock_path)?;
        lock.lock().map_err(failed("lock the folder of an", &lock_path))?;
        let scratch = tmp.join(name);
        fs::create_dir(&scratch).map_err(failed("make the folder of an", &scratch))?;
        make_fan_out(&objects)?;
        sync_folder(root)?;
        let inner = Inner { objects, marks, scratch, lock_path, _lock: lock, next: AtomicU64::new(0) };
        Ok(DirectoryArtifacts { inner: Arc::new(inner) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        verb: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, ArtifactError> + Send + 'static,
    ) -> Result<T, ArtifactError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|source| ArtifactError::Unavailable { verb, source: Box::new(source) })?
    }

    /// Reads here what is small, elsewhere what isn't.
    async fn read<T: Send + 'static>(
        &self,
        bytes: u64,
        read: impl FnOnce(&Inner) -> Result<T, ArtifactError> + Send + 'static,
    ) -> Result<T, ArtifactError> {
        if bytes <= SMALL_BYTES { read(&self.inner) } else { self.blocking("read", read).await }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What can't be removed now is removed by whoever opens the root next.
        let _ = fs::remove_dir_all(&self.scratch);
        let _ = fs::remove_file(&self.lock_path);
    }
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { verb, path: path.clone(), source }
}

fn make_folders(path: &Path) -> Result<(), ArtifactError> {
    fs::create_dir_all(path).map_err(failed("make the folder of an", path))
}

/// Makes all 256 folders of artifacts at once: made one by one, each would cost a put another wait for the disk.
fn make_fan_out(objects: &Path) -> Result<(), ArtifactError> {
    let last = objects.join("ff");
    if last.is_dir() {
        return Ok(());
    }
    for first in 0..=u8::MAX {
        make_folders(&objects.join(format!("{first:02x}")))?;
    }
    sync_folder(objects)
}

fn open_lock(path: &Path) -> Result<File, ArtifactError> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed("open the lock of an", path))
}

/// Makes the names in a folder survive a power cut.
fn sync_folder(path: &Path) -> Result<(), ArtifactError> {
    // Only Unix lets a folder be opened and synced; elsewhere the file system orders this by itself.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of an", path))?;
    }
    Ok(())
}

/// Removes the folders in `tmp` whose processes have ended. The caller has its turn.
fn remove_leftovers(tmp: &Path) -> Result<(), ArtifactError> {
    for entry in fs::read_dir(tmp).map_err(failed("list the folder of an", tmp))? {
        let path = entry.map_err(failed("list the folder of an", tmp))?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let lock = match File::options().write(true).open(&path) {
            Ok(lock) => lock,
            // Its process ended in order just now, or it belongs to another user.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => continue,
            Err(error) => return Err(failed("open the lock of an", &path)(error)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(failed("lock the folder of an", &path)(error)),
        }
        let folder = path.with_extension("");
        ignore_missing(fs::remove_dir_all(&folder)).map_err(failed("remove the leftover of an", &folder))?;
        ignore_missing(fs::remove_file(&path)).map_err(failed("remove the leftover of an", &path))?;
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

impl Inner {
    fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.objects.join(&hex[..2]).join(&hex[2..])
    }

    fn new_file(&self) -> PathBuf {
        self.scratch.join(format!("put-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look up the", &path)(error)),
        }
    }

    /// Whether the artifact is there whole, for good. Another process may have renamed it into place and not
    /// have synced the folder yet, so that is done here too.
    fn is_kept(&self, digest: Digest, size: u64) -> Result<bool, ArtifactError> {
        let kept = self.size(digest)? == Some(size);
        if kept {
            self.sync_parents(&self.path(digest))?;
        }
        Ok(kept)
    }

    fn sync_parents(&self, path: &Path) -> Result<(), ArtifactError> {
        path.parent().map_or(Ok(()), sync_folder)
    }

    fn put(&self, bytes: &[u8]) -> Result<Digest, ArtifactError> {
        let digest = Digest::of(bytes);
        if self.is_kept(digest, bytes.len() as u64)? {
            return Ok(digest);
        }
        let aside = Aside(self.new_file());
        let mut file = File::create_new(&aside.0).map_err(failed("write the", &aside.0))?;
        file.write_all(bytes).map_err(failed("write the", &aside.0))?;
        self.keep(aside, &file, digest)?;
        Ok(digest)
    }

    fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        let mut file = File::open(path).map_err(failed("read the file of an", path))?;
        if path.starts_with(&self.scratch) {
            let (digest, size) = hash(&mut file, path, None)?;
            let aside = Aside(path.to_owned());
            if !self.is_kept(digest, size)? {
                self.keep(aside, &file, digest)?;
            }
            return Ok((digest, size));
        }
        let aside = Aside(self.new_file());
        let mut copy = File::create_new(&aside.0).map_err(failed("write the", &aside.0))?;
        let (digest, size) = hash(&mut file, path, Some((&mut copy, &aside.0)))?;
        if !self.is_kept(digest, size)? {
            self.keep(aside, &copy, digest)?;
        }
        Ok((digest, size))
    }

    /// Moves a written file into place. All it takes to survive a power cut has happened when this returns.
    fn keep(&self, aside: Aside, file: &File, digest: Digest) -> Result<(), ArtifactError> {
        let failed_aside = |verb| failed(verb, &aside.0);
        // Readers map artifacts into memory: nobody is to write to one by mistake.
        let mut permissions = file.metadata().map_err(failed_aside("write the"))?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions).map_err(failed_aside("write the"))?;
        file.sync_all().map_err(failed_aside("sync the"))?;
        let path = self.path(digest);
        fs::rename(&aside.0, &path).map_err(failed("move into place the", &path))?;
        self.sync_parents(&path)
    }

    fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        let path = self.path(digest);
        let bytes = fs::read(&path).map_err(|error| self.reading_failed(digest, &path, error))?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(ArtifactError::Corrupt { digest, found });
        }
        Ok(Bytes::from(bytes))
    }

    fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        let path = self.path(digest);
        let reading_failed = |error| self.reading_failed(digest, &path, error);
        let mut file = File::open(&path).map_err(reading_failed)?;
        let size = file.metadata().map_err(reading_failed)?.len();
        let end = offset.saturating_add(len);
        if end > size {
            return Err(ArtifactError::OutOfRange { digest, size, offset, end });
        }
        file.seek(SeekFrom::Start(offset)).map_err(reading_failed)?;
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        file.take(len).read_to_end(&mut bytes).map_err(reading_failed)?;
        Ok(Bytes::from(bytes))
    }

    fn reading_failed(&self, digest: Digest, path: &Path, error: io::Error) -> ArtifactError {
        match error.kind() {
            io::ErrorKind::NotFound => ArtifactError::Missing { digest },
            _ => failed("read the", path)(error),
        }
    }

    fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        let mut found = Vec::new();
        for first in 0..=u8::MAX {
            if after.is_some_and(|after| first < after.as_bytes()[0]) {
                continue;
            }
            if found.len() >= limit {
                break;
            }
            let folder = self.objects.join(format!("{first:02x}"));
            let mut inside = list_folder(&folder, first)?;
            inside.retain(|(digest, _)| after.is_none_or(|after| digest.as_bytes() > after.as_bytes()));
            found.append(&mut inside);
        }
        found.truncate(limit);
        Ok(found)
    }

    fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        let path = self.path(digest);
        ignore_missing(fs::remove_file(&path)).map_err(failed("remove the", &path))
    }
}

/// A file that isn't an artifact; it is removed unless it was moved into place.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; what can't be removed goes with the scratch folder.
        let _ = fs::remove_file(&self.0);
    }
}

/// Hashes a file to its end, and copies it on the way. Returns digest and size.
fn hash(file: &mut File, path: &Path, mut copy: Option<(&mut File, &Path)>) -> Result<(Digest, u64), ArtifactError> {
    let mut sha = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let read = match file.read(&mut chunk) {
            Ok(0) => return Ok((Digest::from_bytes(sha.finalize().into()), size)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed("read the file of an", path)(error)),
        };
        sha.update(&chunk[..read]);
        size += read as u64;
        if let Some((copy, aside)) = &mut copy {
            copy.write_all(&chunk[..read]).map_err(failed("write the", aside))?;
        }
    }
}

/// The artifacts of one folder in order. Files that people put there are passed over.
fn list_folder(folder: &Path, first: u8) -> Result<Vec<(Digest, u64)>, ArtifactError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list the folder of an", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list the folder of an", folder))?;
        let name = entry.file_name();
        let text = format!("sha256:{first:02x}{}", name.to_string_lossy());
        let Ok(digest) = text.parse::<Digest>() else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => found.push((digest, metadata.len())),
            Ok(_) => {}
            // Removed since the folder was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("list the folder of an", &entry.path())(error)),
        }
    }
    found.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    Ok(found)
}

#[async_trait]
impl Artifacts for DirectoryArtifacts {
    async fn put(&self, bytes: Bytes) -> Result<Digest, ArtifactError> {
        self.blocking("put", move |inner| inner.put(&bytes)).await
    }

    async fn put_file(&self, path: &Path) -> Result<(Digest, u64), ArtifactError> {
        let path = path.to_owned();
        self.blocking("put", move |inner| inner.put_file(&path)).await
    }

    async fn get(&self, digest: Digest) -> Result<Bytes, ArtifactError> {
        let size = self.inner.size(digest)?.ok_or(ArtifactError::Missing { digest })?;
        self.read(size, move |inner| inner.get(digest)).await
    }

    async fn range(&self, digest: Digest, offset: u64, len: u64) -> Result<Bytes, ArtifactError> {
        self.read(len, move |inner| inner.range(digest, offset, len)).await
    }

    async fn size(&self, digest: Digest) -> Result<Option<u64>, ArtifactError> {
        self.inner.size(digest)
    }

    fn local_path(&self, digest: Digest) -> Option<PathBuf> {
        let path = self.inner.path(digest);
        path.is_file().then_some(path)
    }

    async fn list(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, ArtifactError> {
        self.blocking("list", move |inner| inner.list(after, limit)).await
    }

    async fn delete(&self, digest: Digest) -> Result<(), ArtifactError> {
        let inner = &self.inner;
        inner.delete(digest)
    }

    async fn mark(&self, name: &str) -> Result<(), ArtifactError> {
        check_mark(name)?;
        let name = name.to_owned();
        self.blocking("mark", move |inner| marks::set(&inner.marks, &name)).await
    }

    async fn marks(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<String>, ArtifactError> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.blocking("list", move |inner| marks::list(&inner.marks, &prefix, &after, limit)).await
    }

    fn scratch(&self) -> PathBuf {
        self.inner.scratch.clone()
    }
}
