//! What a model goes by: how much it loses without a feature, how much each feature moved one prediction,
//! and which feature alone knows suspiciously much.

mod forest;
mod leakage;
mod linear;
mod permutation;
mod tree;

pub use forest::ForestAttribution;
pub use leakage::{LEAK_AUC, LEAK_SHARE, correlation_ratio, mutual_information, quantile_bins, single_auc};
pub use linear::LinearAttribution;
pub use permutation::{Importance, PermutationError, Permutations, permutation_importance};
pub use tree::{Split, TreeView, attribute, expectation};
