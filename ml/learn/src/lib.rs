//! Learning over matrices of numbers. No tables, no files, no clock: what it gives follows from its
//! arguments and a seed alone, whatever the number of threads.

pub mod calibrate;
pub mod chance;
pub mod compiled;
pub mod explain;
pub mod fair;
pub mod matrix;
pub mod normal;
pub mod resample;
pub mod robust;
pub mod search;
