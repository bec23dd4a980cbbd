//! Support vector machines of two classes: a wide margin between them, flat or bent by a kernel. For more
//! classes fit one machine for each against the rest and take the largest score.
//!
//! Deliberately absent: regression, other kernels than the Gaussian one, and probabilities (calibrate the
//! scores).

mod kernel;
mod linear;

pub use kernel::{KernelSettings, KernelSvm, ROWS_MAX};
pub use linear::{Hinge, LinearSettings, LinearSvm};

use crate::refusal::{Refusal, check_classes};

/// The classes 0 and 1 as -1 and 1; both have to be there.
fn signs(rows: usize, labels: &[u32]) -> Result<Vec<f64>, Refusal> {
    check_classes(rows, labels, 2)?;
    let positive = labels.iter().filter(|&&label| label == 1).count();
    if positive == 0 || positive == rows {
        let wanted = "0 in some rows and 1 in others";
        return Err(Refusal::Value { what: "label", row: 0, value: f64::from(labels[0]), wanted });
    }
    Ok(labels.iter().map(|&label| f64::from(label) * 2.0 - 1.0).collect())
}

/// Refuses a setting that isn't over zero.
fn check_positive(name: &'static str, value: f64) -> Result<(), Refusal> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(Refusal::Setting { name, value, wanted: "over 0" }) }
}
