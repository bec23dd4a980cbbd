//! Pools of workers: how many are needed, how large they should be, and what they cost.
//!
//! ```text
//! policy/     how many workers a pool needs now
//! sizing/     how many slots and how much memory a worker should have
//! costs/      what use costs, by a book of prices
//! ```
//!
//! **Invariant:** no clock, no randomness, no IO. Who asks says what is seen and what time it is.

pub mod costs;
pub mod policy;
pub mod sizing;
