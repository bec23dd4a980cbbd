//! Learning over matrices of numbers. No tables, no files, no clock: what it gives follows from its
//! arguments and a seed alone, whatever the number of threads.

pub mod bayes;
pub mod binning;
pub mod boost;
pub mod cluster;
pub mod compiled;
pub mod decompose;
mod exponential;
pub mod forest;
mod histogram;
pub mod matrix;
mod near;
pub mod neighbors;
pub mod refusal;
#[cfg(test)]
mod samples;
mod splitmix;
pub mod svm;
