//! What workers do: one file per task kind over the learning crate, the artifact store and the registry.

pub mod documents;
