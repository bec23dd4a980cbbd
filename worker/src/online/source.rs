//! The registry as what models come from. A version's signatures and its bytes' digest are checked before it loads; its
//! bytes are data, and nothing in them is executed.

use std::collections::BTreeMap;
use std::sync::Arc;

use gristmill_ml::model::Model;
use gristmill_online::{Known, Loaded, Predictor as _, Source, SourceError};
use gristmill_protocol::{Digest, wire};
use gristmill_registry::{ModelView, Registry, RegistryError, VersionView};
use tokio::runtime::Handle;
use tracing::warn;

use super::{COLUMNS, Served};

/// Bytes of memory for each byte of a model at the most, or about: it is kept as read, laid out once more for scoring,
/// and its upper levels again as tables.
const MEMORY_BYTES: usize = 5;

/// The registered models.
pub struct RegistrySource {
    registry: Registry,
    handle: Handle,
}

impl RegistrySource {
    /// The models of a registry. Its calls block threads of their own and wait for `handle`'s runtime.
    pub fn new(registry: Registry, handle: Handle) -> RegistrySource {
        RegistrySource { registry, handle }
    }

    /// What is known of one model; nothing when it is gone.
    pub async fn look(&self, name: &str) -> Result<Option<Known>, SourceError> {
        match self.registry.model(name).await {
            Ok(view) => Ok(Some(known(&view))),
            Err(RegistryError::NoModel { .. }) => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }
}

fn known(view: &ModelView) -> Known {
    let aliases = view.aliases.iter().map(|(alias, version)| (alias.clone(), *version)).collect();
    let versions = view.versions.iter().map(|version| version.version).collect();
    let stamps = view.versions.iter().map(|version| (version.version, stamp(view, version))).collect();
    Known { name: view.name.clone(), versions, aliases, stamps }
}

/// Changes with the model's bytes and with the tags of its columns.
fn stamp(model: &ModelView, version: &VersionView) -> u64 {
    let tags: Vec<(String, String)> = column_tags(model, version).into_iter().collect();
    let digest = Digest::of(&wire::encode(&(version.new.model, tags)));
    digest.as_bytes().iter().take(8).fold(0, |stamp, byte| stamp << 8 | u64::from(*byte))
}

/// What the model's tags and the version's say of columns, together.
fn column_tags(model: &ModelView, version: &VersionView) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (tag, columns) in model.tags.iter().chain(&version.tags).filter(|(tag, _)| tag.starts_with(COLUMNS)) {
        let known = all.entry(tag.clone()).or_default();
        if !known.is_empty() {
            known.push(',');
        }
        known.push_str(columns);
    }
    all
}

/// An error with what it came of.
fn refused(error: impl std::error::Error) -> SourceError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    SourceError(text)
}

impl Source for RegistrySource {
    fn known(&self) -> Result<Vec<Known>, SourceError> {
        self.handle.block_on(async {
            // A model whose log is damaged isn't among them: the others are served, and whoever asks for it is told.
            Ok(self.registry.models().await.map_err(refused)?.iter().map(|view| known(view)).collect())
        })
    }

    fn load(&self, name: &str, version: u64) -> Result<Loaded, SourceError> {
        let reference = format!("{name}@{version}");
        let (of, found, bytes) = self.handle.block_on(self.registry.load(&reference)).map_err(refused)?;
        // What a report tells of the training rows is of no use to requests.
        let model = Model::from_bytes(&bytes).map_err(refused)?.without_reference();
        let view = self.handle.block_on(self.registry.model(&of.name)).map_err(refused)?;
        let tags = column_tags(&view, &found);
        let served = Served::tagged(model, &tags).map_err(refused)?;
        for (tag, columns) in &tags {
            for column in columns.split(',').map(str::trim).filter(|column| !served.signature().takes(column)) {
                warn!(
                    model = of.name,
                    version = of.version,
                    tag,
                    column,
                    "a tag names a column that the model doesn't take"
                );
            }
        }
        Ok(Loaded { predictor: Arc::new(served), bytes: bytes.len() * MEMORY_BYTES })
    }
}
