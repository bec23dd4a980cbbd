//! Model versions and aliases: rules over an append-only log of facts, one log a model.
//!
//! A version is immutable and numbered without gaps; an alias moves, and its whole history is kept. The log
//! is the audit: who did what, when and why. What the log names lives in the artifact store.
//!
//! Writers race by position: whoever loses reads what the winner wrote and decides anew.

pub mod fact;
mod model_log;
mod registry;

pub use fact::{AliasMove, ModelFact, NewVersion};
pub use model_log::{ModelView, VersionView};
pub use registry::{Registered, Registry, RegistryError};
