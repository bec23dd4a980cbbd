//! What the bytes of a version from outside are: a list of its files with their digests.
//!
//! The manifest is what the registry keeps, signs and checks as the model's bytes; the files are the version's other
//! artifacts. A version that was registered from an address that isn't ours has a manifest without files.

use bytes::Bytes;
use gristmill_registry::VersionView;
use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Refusal};
use crate::tracking::{FileRef, Files};

/// What a version's algorithm is called when its bytes are a manifest.
pub const ALGORITHM: &str = "mlflow";
/// Says what the document is.
const FORMAT: &str = "gristmill-model-files/1";

/// Files of a model, and where they came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: String,
    pub source: String,
    /// In the order of their paths.
    pub files: Vec<ManifestFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    pub path: String,
    #[serde(flatten)]
    pub file: FileRef,
}

impl Manifest {
    pub fn new(source: &str, files: Vec<ManifestFile>) -> Manifest {
        Manifest { format: FORMAT.to_owned(), source: source.to_owned(), files }
    }

    pub fn bytes(&self) -> Bytes {
        let mut bytes = serde_json::to_vec_pretty(self).expect("writing our own types into memory can't fail");
        bytes.push(b'\n');
        bytes.into()
    }

    pub fn read(bytes: &[u8]) -> Result<Manifest, Refusal> {
        let manifest: Manifest = serde_json::from_slice(bytes)
            .map_err(|error| Refusal::new(Code::InternalError, format!("the list of files can't be read: {error}")))?;
        if manifest.format == FORMAT {
            Ok(manifest)
        } else {
            let text =
                format!("the list of files is in the format `{}`; this program reads `{FORMAT}`", manifest.format);
            Err(Refusal::new(Code::InternalError, text))
        }
    }

    /// Its files by path.
    pub fn tree(&self) -> Files {
        Files(self.files.iter().map(|one| (one.path.clone(), one.file)).collect())
    }
}

/// Whether a version's bytes are a manifest.
pub(crate) fn is_manifest(version: &VersionView) -> bool {
    version.external.is_some() && version.new.algorithm == ALGORITHM
}

#[cfg(test)]
mod tests {
    use gristmill_protocol::Digest;

    use super::*;

    #[test]
    fn it_reads_what_it_wrote() {
        let file = FileRef { digest: Digest::of(b"x"), size: 1 };
        let manifest = Manifest::new("s3://a", vec![ManifestFile { path: "MLmodel".to_owned(), file }]);
        assert_eq!(Manifest::read(&manifest.bytes()).expect("read"), manifest);
        let later = String::from_utf8_lossy(&manifest.bytes()).replace("files/1", "files/2");
        assert!(Manifest::read(later.as_bytes()).is_err());
        assert!(Manifest::read(b"{}").is_err());
    }
}
