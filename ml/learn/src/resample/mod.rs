//! How sure a number is: folds to measure a model on rows that it hasn't seen, draws to see how a metric
//! scatters, and tests of two models on the same rows.
//!
//! Rows are numbered and nothing else is known of them; which values a row has, the caller's closures know.

mod bootstrap;
mod folds;
mod paired;
mod ranked;

#[cfg(test)]
mod tests;

pub use bootstrap::{
    Bootstrap, BootstrapError, Draw, Interval, Method, bca, bootstrap, bootstrap_all, percentile, poisson_count,
};
pub use folds::{FoldError, Folds, Role, TimeSeries, grouped, kfold, repeated, stratified, time_series};
pub use paired::{DeLong, Difference, delong, difference, mcnemar};
pub use ranked::Ranked;
