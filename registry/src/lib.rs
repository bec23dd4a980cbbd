//! Model versions and aliases: rules over an append-only log of facts, one log a model.
//!
//! # What is kept
//!
//! A version is immutable and numbered without gaps; an alias moves, and its whole history is kept. The log is the
//! audit: who did what, when, why, on behalf of which run, with what before and after. What the log names (the
//! model's bytes, its evidence) lives in the artifact store, and is read and checked before a version exists.
//!
//! A log is a chain: each record holds the SHA-256 of the one before, so no fact can be changed, dropped or put in
//! between unseen ([`fact`] has the facts, `chain.rs` the links). One record is one step, however many changes it
//! makes: a version and the alias that moves to it come together or not at all.
//!
//! # Where it is kept
//!
//! The state's log decides the order: writers race by position, and whoever loses reads what the winner wrote and
//! decides anew. Before anybody is told that a fact is there, it is an artifact, found again by a mark
//! (`log.rs`). So the registry outlives the state: [`Registry::rebuild`] makes an empty state whole from the
//! artifacts, and a state that has gone back by some seconds gets back what it lost before the next change.
//! [`Registry::verify`] looks at every chain, copy, artifact and signature.
//!
//! # How it is used
//!
//! [`Registry`] reads. What changes something is done in somebody's name: [`Registry::on_behalf`] of an [`Act`], which
//! may carry a key under which saying it again is saying it once. A promotion goes by the gates' evidence; a rollback
//! first proves that its target loads. Versions can be signed ([`signature`]), and a registry that
//! [trusts](Registry::trusting) some keys alone gives out nothing else. Models are data: nothing here or in what
//! loads them executes any of their bytes.
//!
//! # What is left out
//!
//! Who may do what is the caller's to decide. Text in a fact stays for ever, names of people in `by` included: an
//! erasure removes artifacts, never facts, so let `by` be a role or a pseudonym where that matters.

mod acting;
mod chain;
mod error;
mod evidence;
pub mod fact;
mod lineage;
mod log;
mod model_log;
mod names;
mod rebuild;
mod registry;
mod removal;
pub mod signature;
mod verify;

pub use acting::{Acting, Promotion, Prove, Registration};
pub use error::RegistryError;
pub use fact::{AliasMove, Change, External, Lineage, LogEntry, NewVersion, Record, Stage, VersionRef};
pub use lineage::{Origin, Page, Prediction};
pub use model_log::{AliasPoint, Deletion, ModelView, VersionView};
pub use rebuild::Rebuilt;
pub use registry::{Act, Registered, Registry};
pub use removal::Erasure;
pub use signature::{KeyError, PublicKey, Signature, Signer, TrustError, TrustPolicy};
pub use verify::{Closely, Damage, Verification};
