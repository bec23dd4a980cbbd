//! The three seams to the outside and what stands behind them.
//!
//! | seam | verbs | embedded |
//! |---|---|---|
//! | [`state::State`] | journal, inbox, leases, documents | SQLite and memory |
//! | [`broker::Broker`] | publish, consume | in process |
//! | [`artifacts::Artifacts`] | put, get, range, list, delete | a directory |
//!
//! A seam is the few verbs its caller needs and says nothing of the library behind it. What it promises is
//! written as tests in [`conformance`], which every implementation passes.

pub mod artifacts;
pub mod broker;
pub mod conformance;
pub mod state;
