//! Learning over matrices of numbers. No tables, no files, no clock: what it gives follows from its
//! arguments and a seed alone, whatever the number of threads.

pub mod bayes;
pub mod binning;
pub mod boost;
pub mod calibrate;
pub mod chance;
pub mod cluster;
pub mod compiled;
pub mod decompose;
pub mod explain;
mod exponential;
pub mod fair;
pub mod forest;
mod histogram;
pub mod matrix;
mod near;
pub mod neighbors;
pub mod normal;
pub mod refusal;
pub mod resample;
pub mod robust;
#[cfg(test)]
mod samples;
pub mod search;
mod splitmix;
pub mod svm;
