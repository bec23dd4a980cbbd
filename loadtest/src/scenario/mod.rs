//! One file a scenario.

pub mod chain;
pub mod chaos;
pub mod fan_out;
pub mod mixed;
pub mod recovery;
pub mod scaling;
pub mod soak;
pub mod throughput;
pub mod upgrade;
