//! The registry as what models come from. A version's signatures and its bytes' digest are checked before it loads; its
//! bytes are data, and nothing in them is executed.

use std::sync::Arc;

use gristmill_ml::model::Model;
use gristmill_online::{Known, Loaded, Source, SourceError};
use gristmill_registry::{ModelView, Registry};
use tokio::runtime::Handle;

use super::Served;

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

    /// What is known of one model.
    pub async fn look(&self, name: &str) -> Result<Known, SourceError> {
        self.registry.model(name).await.map(|view| known(&view)).map_err(refused)
    }
}

fn known(view: &ModelView) -> Known {
    let aliases = view.aliases.iter().map(|(alias, version)| (alias.clone(), *version)).collect();
    let versions = view.versions.iter().map(|version| version.version).collect();
    Known { name: view.name.clone(), versions, aliases }
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
            let mut all = Vec::new();
            for name in self.registry.names().await.map_err(refused)? {
                all.push(self.look(&name).await?);
            }
            Ok(all)
        })
    }

    fn load(&self, name: &str, version: u64) -> Result<Loaded, SourceError> {
        let reference = format!("{name}@{version}");
        let (of, found, bytes) = self.handle.block_on(self.registry.load(&reference)).map_err(refused)?;
        let model = Model::from_bytes(&bytes).map_err(refused)?;
        let mut tags = self.handle.block_on(self.registry.model(&of.name)).map_err(refused)?.tags;
        tags.extend(found.tags);
        let served = Served::tagged(model, &tags).map_err(refused)?;
        Ok(Loaded { predictor: Arc::new(served), bytes: bytes.len() * MEMORY_BYTES })
    }
}
