//! Growing trees: forests on the histograms of the learning crate, single trees with smartcore's regressor.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use gristmill_learn::forest::{self, ForestError};
use gristmill_protocol::pipeline::steps::{DecisionTree, RandomForest};
use rayon::prelude::*;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::numbers::basenum::Number;
use smartcore::tree::decision_tree_regressor::{DecisionTreeRegressor, DecisionTreeRegressorParameters};

use super::training_set::{Labels, TrainingSet};
use super::{Control, TREES_PER_UNIT, TrainError, Unit, mirror};

/// Grows the trees of some units of a forest, shared by the threads.
pub(super) fn grow_units(
    set: &TrainingSet,
    settings: &RandomForest,
    random_cuts: bool,
    seed: u64,
    units: Range<u32>,
    control: &Control<'_>,
) -> Result<Vec<Unit>, TrainError> {
    let name = if random_cuts { "extra_trees" } else { "random_forest" };
    let fail = |message: String| TrainError::Fit { algorithm: name, message };
    let threads = rayon::ThreadPoolBuilder::new().num_threads(control.threads.max(1)).build();
    let threads = threads.map_err(|error| fail(error.to_string()))?;
    let columns = set.columns();
    // The customary defaults of the field: a third of the columns for numbers, their root for classes.
    let tried = match (settings.max_features, set.labels_of_trees()) {
        (Some(tried), _) => tried as usize,
        (None, Labels::Values(_)) => columns / 3,
        (None, Labels::Classes(_)) => columns.isqrt(),
    };
    let forest = forest::Settings {
        depth_max: settings.max_depth.into(),
        min_samples_leaf: settings.min_samples_leaf,
        min_samples_split: settings.min_samples_split,
        columns_tried: Some(tried.clamp(1, columns) as u32),
        // As everybody does it: a forest draws rows, extremely randomised trees take all.
        bootstrap: !random_cuts,
        random_cuts,
    };
    let units_a_class = settings.trees.div_ceil(TREES_PER_UNIT);
    let (done, total) = (AtomicU32::new(0), units.end - units.start);
    let go_on = || !control.stop.load(Ordering::Relaxed);
    let grow = |unit: u32| {
        let (class, group) = (unit / units_a_class, unit % units_a_class);
        let trees = group * TREES_PER_UNIT..((group + 1) * TREES_PER_UNIT).min(settings.trees);
        let labels = match set.labels_of_trees() {
            Labels::Values(values) => values.clone(),
            Labels::Classes(classes) => {
                one_against_rest(classes, set.outputs(), class).into_iter().map(f64::from).collect()
            }
        };
        let coded = set.coded(name)?;
        let grown = forest::grow(coded, &labels, set.weights(), &forest, trees, class_seed(seed, class), go_on);
        let grown = grown.map_err(|error| match error {
            ForestError::Stopped => TrainError::Stopped,
            other => fail(other.to_string()),
        })?;
        (control.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        Ok(Unit::Trees { forest: grown.forest, importances: grown.importances })
    };
    threads.install(|| units.into_par_iter().map(grow).collect())
}

/// Grows the one tree of a unit.
pub(super) fn fit_tree_unit(set: &TrainingSet, settings: &DecisionTree, unit: u32) -> Result<Unit, TrainError> {
    let (x, labels) = set.columns_and_labels();
    let parameters = DecisionTreeRegressorParameters {
        max_depth: Some(settings.max_depth),
        min_samples_leaf: settings.min_samples_leaf as usize,
        min_samples_split: settings.min_samples_split as usize,
        // All columns are tried at each node: the seed only orders equal splits.
        seed: Some(0),
    };
    match labels {
        Labels::Values(y) => tree(x, y, parameters, set.columns()),
        Labels::Classes(classes) => tree(x, &one_against_rest(classes, set.outputs(), unit), parameters, set.columns()),
    }
}

/// 1 for the rows of the class, 0 for all others. With one output the class is the positive one.
///
/// A byte a row: labels are read in the order of each column, and a byte a row stays in the cache.
fn one_against_rest(classes: &[u8], outputs: usize, class: u32) -> Vec<u8> {
    let class = if outputs == 1 { 1 } else { class };
    classes.iter().map(|&label| u8::from(u32::from(label) == class)).collect()
}

fn tree<Y: Number + serde::Serialize>(
    x: &DenseMatrix<f32>,
    y: &Vec<Y>,
    parameters: DecisionTreeRegressorParameters,
    columns: usize,
) -> Result<Unit, TrainError> {
    let fail = |message| TrainError::Fit { algorithm: "decision_tree", message };
    let model = DecisionTreeRegressor::fit(x, y, parameters).map_err(|error| fail(error.to_string()))?;
    let (forest, importances) = mirror::compile_tree(&model, columns).map_err(fail)?;
    Ok(Unit::Trees { forest, importances })
}

/// The seed of the trees of one class: both numbers mixed by SplitMix64 (Steele, Lea and Flood 2014).
fn class_seed(seed: u64, class: u32) -> u64 {
    mix(mix(seed).wrapping_add(u64::from(class)))
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
