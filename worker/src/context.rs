//! What a task may use: artifacts, registry, scratch space, the way to be stopped.
//!
//! Tasks are plain blocking code on threads of their own; the stores are asynchronous. A context lets the
//! one call the other.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use gristmill_backends::artifacts::{ArtifactError, Artifacts};
use gristmill_backends::state::State;
use gristmill_ml::blob::{Blob, FileBlob, SharedBlob};
use gristmill_protocol::output::Output;
use gristmill_protocol::payload::StepPayload;
use gristmill_protocol::pipeline::Need;
use gristmill_protocol::{Digest, ErrorCode, Failure, wire};
use gristmill_registry::{Registry, Signer};
use gristmill_worker_runtime::TaskControl;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use crate::failure::IntoFailure;
use crate::spans;
use crate::trials::TrialTable;

/// What all tasks of a worker share.
#[derive(Clone)]
pub struct Resources {
    pub state: Arc<dyn State>,
    pub artifacts: Arc<dyn Artifacts>,
    pub registry: Registry,
    /// Signs the versions that steps register, where there is a key.
    pub signer: Option<Arc<Signer>>,
    /// Threads that one task may use.
    pub threads: usize,
    /// Bytes of memory that one task may plan with.
    pub memory_bytes: u64,
    /// The table of the search under way, which all its trials on this worker share.
    pub trials: Arc<TrialTable>,
}

/// What one task may use.
pub(crate) struct TaskContext<'a> {
    pub(crate) resources: &'a Resources,
    pub(crate) handle: Handle,
    pub(crate) control: &'a TaskControl,
    /// The run and step, by which outside effects are keyed.
    pub(crate) run: gristmill_protocol::RunId,
    pub(crate) step: &'a str,
    /// What the steps before have made.
    pub(crate) inputs: Vec<(String, Output)>,
}

impl TaskContext<'_> {
    /// Waits for an asynchronous call.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.handle.block_on(future)
    }

    /// Who does it, for whoever reads the registry's log.
    pub(crate) fn author(&self) -> String {
        format!("step {} of {}", self.step, self.run)
    }

    pub(crate) fn stop_flag(&self) -> &AtomicBool {
        self.control.flag()
    }

    /// What the step named by a reference (`parts.train`, `model`) has made, with the part named.
    pub(crate) fn input(&self, reference: &str) -> Result<(&Output, Option<String>), Failure> {
        let (step, part) = match reference.split_once('.') {
            Some((step, part)) => (step, Some(part.to_owned())),
            None => (reference, None),
        };
        let made = self.inputs.iter().find(|(name, _)| name == step).map(|(_, output)| output);
        let output = made.ok_or_else(|| {
            Failure::new(ErrorCode::Internal, format!("the output of step `{step}` didn't come with the task"))
        })?;
        Ok((output, part))
    }

    pub(crate) fn dataset(&self, reference: &str) -> Result<gristmill_protocol::output::DatasetRef, Failure> {
        let (output, part) = self.input(reference)?;
        output
            .dataset(part.as_deref())
            .cloned()
            .ok_or_else(|| Failure::new(ErrorCode::BadPipeline, format!("`{reference}` isn't a dataset")))
    }

    pub(crate) fn put(&self, bytes: Vec<u8>) -> Result<Digest, Failure> {
        let writing = spans::write_artifact().entered();
        writing.record(spans::BYTES, bytes.len() as i64);
        self.wait(self.resources.artifacts.put(Bytes::from(bytes))).map_err(IntoFailure::into_failure)
    }

    pub(crate) fn put_file(&self, path: &Path) -> Result<(Digest, u64), Failure> {
        let writing = spans::write_artifact().entered();
        let put = self.wait(self.resources.artifacts.put_file(path)).map_err(IntoFailure::into_failure)?;
        writing.record(spans::BYTES, put.1 as i64);
        Ok(put)
    }

    pub(crate) fn get(&self, digest: Digest) -> Result<Bytes, Failure> {
        let _reading = spans::read_artifact(digest).entered();
        self.wait(self.resources.artifacts.get(digest)).map_err(IntoFailure::into_failure)
    }

    /// Keeps a JSON document.
    pub(crate) fn put_json<T: Serialize>(&self, document: &T) -> Result<Digest, Failure> {
        let bytes = serde_json::to_vec(document)
            .map_err(|error| Failure::new(ErrorCode::Internal, format!("a document can't be written: {error}")))?;
        self.put(bytes)
    }

    /// Reads a JSON document.
    pub(crate) fn get_json<T: DeserializeOwned>(&self, digest: Digest, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.get(digest)?).map_err(|error| {
            Failure::new(ErrorCode::ArtifactCorrupt, format!("{what} `{digest}` can't be read: {error}"))
        })
    }

    /// A result that is a task's output when it is small, and named by it when it isn't.
    pub(crate) fn put_result<T: Serialize>(&self, result: &T) -> Result<Vec<u8>, Failure> {
        const INLINE_BYTES_MAX: usize = 512;
        let bytes = wire::encode(result);
        if bytes.len() <= INLINE_BYTES_MAX {
            return Ok(wire::encode(&Stored::Inline(bytes.into())));
        }
        Ok(wire::encode(&Stored::Artifact(self.put(bytes)?)))
    }

    /// Reads what [`TaskContext::put_result`] has kept.
    pub(crate) fn get_result<T: DeserializeOwned>(&self, output: &[u8]) -> Result<T, Failure> {
        let bytes = match wire::decode("a task's result", output).map_err(IntoFailure::into_failure)? {
            Stored::Inline(bytes) => bytes.into_vec(),
            Stored::Artifact(digest) => self.get(digest)?.to_vec(),
        };
        wire::decode("a task's result", &bytes).map_err(IntoFailure::into_failure)
    }

    /// The bytes of an artifact, to be read from anywhere in them.
    pub(crate) fn blob(&self, digest: Digest) -> Result<SharedBlob, Failure> {
        if let Some(path) = self.resources.artifacts.local_path(digest) {
            return match FileBlob::open(&path) {
                Ok(blob) => Ok(Arc::new(blob)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Err(IntoFailure::into_failure(ArtifactError::Missing { digest }))
                }
                Err(source) => Err(IntoFailure::into_failure(ArtifactError::Io { verb: "open", path, source })),
            };
        }
        let size = self.wait(self.resources.artifacts.size(digest)).map_err(IntoFailure::into_failure)?;
        let size = size.ok_or_else(|| IntoFailure::into_failure(ArtifactError::Missing { digest }))?;
        let (artifacts, handle) = (self.resources.artifacts.clone(), self.handle.clone());
        Ok(Arc::new(RemoteBlob { artifacts, handle, digest, size }))
    }

    /// Writes an artifact into a new file, piece by piece, and checks it against its digest.
    pub(crate) fn save(&self, digest: Digest, path: &Path) -> Result<(), Failure> {
        const PIECE_BYTES: u64 = 8 << 20;
        let failed =
            |error: std::io::Error| crate::failure::io(&error, format!("failed to write `{}`", path.display()));
        let size = self.wait(self.resources.artifacts.size(digest)).map_err(IntoFailure::into_failure)?;
        let size = size.ok_or_else(|| IntoFailure::into_failure(ArtifactError::Missing { digest }))?;
        let mut file = File::create_new(path).map_err(failed)?;
        let (mut offset, mut sha) = (0, Sha256::new());
        while offset < size {
            let piece = self.resources.artifacts.range(digest, offset, PIECE_BYTES.min(size - offset));
            let piece = self.wait(piece).map_err(IntoFailure::into_failure)?;
            sha.update(&piece);
            file.write_all(&piece).map_err(failed)?;
            offset += piece.len() as u64;
        }
        let found = Digest::from_bytes(sha.finalize().into());
        if found == digest { Ok(()) } else { Err(IntoFailure::into_failure(ArtifactError::Corrupt { digest, found })) }
    }

    /// A folder that is removed with all in it when it is dropped.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir, Failure> {
        let root = self.resources.artifacts.scratch();
        tempfile::Builder::new()
            .prefix("task-")
            .tempdir_in(&root)
            .map_err(|error| crate::failure::io(&error, format!("failed to make a folder in `{}`", root.display())))
    }
}

#[derive(Serialize, serde::Deserialize)]
enum Stored {
    Inline(serde_bytes::ByteBuf),
    Artifact(Digest),
}

/// An artifact elsewhere, read in ranges.
struct RemoteBlob {
    artifacts: Arc<dyn Artifacts>,
    handle: Handle,
    digest: Digest,
    size: u64,
}

impl std::fmt::Debug for RemoteBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteBlob({})", self.digest)
    }
}

impl Blob for RemoteBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, len: usize) -> std::io::Result<Bytes> {
        // A query reads on threads that drive a runtime of its own, where this one can't be entered: the call runs
        // over there, and this thread waits for its answer.
        let (sender, answer) = std::sync::mpsc::sync_channel(1);
        let (artifacts, digest) = (self.artifacts.clone(), self.digest);
        self.handle.spawn(async move {
            // Whoever asked may have gone.
            sender.send(artifacts.range(digest, offset, len as u64).await).ok();
        });
        match answer.recv() {
            Ok(bytes) => bytes.map_err(std::io::Error::other),
            Err(_) => Err(std::io::Error::other("the process is ending")),
        }
    }
}

/// The path that a step names, from the folder it is relative to.
pub(crate) fn resolve(folder: &str, path: &str) -> PathBuf {
    Path::new(folder).join(path)
}

/// What a step's needs resolve to: the digests that its result depends on.
pub(crate) fn input_digests(payload: &StepPayload, inputs: &[(String, Output)]) -> Vec<Digest> {
    let digest = |need: &Need| {
        let (_, output) = inputs.iter().find(|(name, _)| *name == need.step)?;
        match output.dataset(need.output.as_deref()) {
            Some(dataset) => Some(vec![dataset.manifest]),
            None => Some(output.artifacts()),
        }
    };
    payload.needs.iter().filter_map(digest).flatten().collect()
}
