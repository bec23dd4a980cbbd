//! Learning over matrices of numbers. No tables, no files, no clock: what it gives follows from its
//! arguments and a seed alone, whatever the number of threads.

pub mod compiled;
pub mod matrix;
