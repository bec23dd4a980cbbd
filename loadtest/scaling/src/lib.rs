//! Scaling, simulated: the real core and the real policy, with workers, network and broker that are imagined.
//!
//! ```text
//! dice.rs      numbers from a seed
//! loads.rs     what arrives when
//! fleet.rs     workers that start, work, drain and are lost
//! scaler.rs    who says how many there should be: the policy, KEDA's rule, a fixed number
//! world.rs     the events in their order: submissions, turns of the core, deliveries, ends
//! waits.rs     how long tasks waited
//! optimum.rs   what who knows the future would pay for the same waits
//! scenarios.rs what is asked of it
//! ```
//!
//! Time is imagined and goes from event to event, so that a day takes minutes; the same seed gives the same outcome,
//! but for the measured cost of the core itself.

mod dice;
mod fleet;
pub mod loads;
pub mod optimum;
mod scaler;
pub mod scenarios;
mod waits;
mod world;

pub use loads::Arrival;
pub use optimum::worker_seconds;
pub use scaler::{QueueRule, Scaler};
pub use waits::Waits;
pub use world::{Loss, Outcome, Setup, simulate};
