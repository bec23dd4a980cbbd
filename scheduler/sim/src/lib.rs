//! Simulated executions of the real core, driver and worker over a simulated store and broker, from a seed.
//!
//! Time is virtual and all chance comes from one number, so the same seed gives the same execution. A process
//! is killed by dropping its futures and stopped by not polling them. The store delays, fails, forgets up to two
//! seconds and changes its clock; the broker delays, reorders, repeats and loses. What each call did is written
//! into books beside the store, and the checker compares the journals with them: nothing lost, nothing recorded
//! twice, nothing started before it was ready, no limit exceeded, every run ended.
//!
//! Not simulated: the learning itself, real disks and sockets, and threads (each execution has one).

mod after;
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
