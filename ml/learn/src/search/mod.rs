//! Tuning: which parameters to try next, from what came of those tried before.
//!
//! A [`Space`] says what may be tried, a [`Study`] decides what is. No clock, no files, no threads: jobs come
//! out, outcomes go in, and the same seed and outcomes give the same decisions whatever the order of arrival.
//! How that is had, [`Study`] says.

mod assignment;
mod grid;
mod halving;
mod parzen;
mod space;
mod study;
mod tpe;

#[cfg(test)]
mod tests;

pub use assignment::{Assignment, Value};
pub use halving::Halving;
pub use space::{Complaint, Domain, Invalid, Parameter, Space};
pub use study::{Ask, Better, Job, Outcome, Sampler, Settings, Study, TellError, Told, Trial, TrialState};
pub use tpe::Tpe;
