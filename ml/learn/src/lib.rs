//! Learning over matrices of numbers. No tables, no files, no clock: what it gives follows from its
//! arguments and a seed alone, whatever the number of threads.

pub mod binning;
pub mod boost;
pub mod compiled;
mod exponential;
pub mod forest;
mod histogram;
pub mod matrix;
#[cfg(test)]
mod samples;
mod splitmix;
