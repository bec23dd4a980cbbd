//! Naive Bayes: classes from columns that are taken as independent within a class.
//!
//! Rows are only summed up, so a fit is one pass, and sums of parts of the rows can be made anywhere and
//! merged.

mod categorical;
mod gaussian;

pub use categorical::{Categorical, CategoricalSums};
pub use gaussian::{Gaussian, GaussianSums};

/// Classes at the most: scores of a row lie side by side for all of them.
pub const CLASSES_MAX: u32 = 10_000;

/// Logarithms of likelihoods as probabilities.
fn normalise(logarithms: &mut [f64]) {
    let largest = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    logarithms.iter_mut().for_each(|logarithm| *logarithm = (*logarithm - largest).exp());
    let sum: f64 = logarithms.iter().sum();
    logarithms.iter_mut().for_each(|probability| *probability /= sum);
}
