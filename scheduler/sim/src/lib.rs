//! Simulated executions.

pub mod artifacts;
pub mod books;
pub mod broker;
pub mod checker;
pub mod dice;
pub mod faults;
pub mod plan;
pub mod process;
pub mod shadow;
pub mod state;
pub mod store;
pub mod trace;
pub mod work;
pub mod world;
