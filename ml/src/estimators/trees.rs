//! Growing trees with smartcore's regressors.

use gristmill_protocol::pipeline::steps::{DecisionTree, RandomForest};
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::numbers::basenum::Number;
use smartcore::tree::decision_tree_regressor::{DecisionTreeRegressor, DecisionTreeRegressorParameters};

use super::training_set::{Labels, TrainingSet};
use super::{TREES_PER_UNIT, TrainError, Unit, mirror};

/// Grows the trees of one unit of a forest.
pub(super) fn fit_forest_unit(
    set: &TrainingSet,
    settings: &RandomForest,
    seed: u64,
    unit: u32,
) -> Result<Unit, TrainError> {
    let (x, labels) = set.columns_and_labels();
    let columns = set.columns();
    let units_a_class = settings.trees.div_ceil(TREES_PER_UNIT);
    let (class, group) = (unit / units_a_class, unit % units_a_class);
    let regression = matches!(labels, Labels::Values(_));
    // The customary defaults of the field: a third of the columns for numbers, their root for classes.
    let tried = match settings.max_features {
        Some(tried) => tried as usize,
        None if regression => columns / 3,
        None => columns.isqrt(),
    };
    let parameters = RandomForestRegressorParameters {
        max_depth: Some(settings.max_depth),
        min_samples_leaf: settings.min_samples_leaf as usize,
        min_samples_split: settings.min_samples_split as usize,
        n_trees: TREES_PER_UNIT.min(settings.trees - group * TREES_PER_UNIT) as usize,
        m: Some(tried.clamp(1, columns)),
        keep_samples: false,
        seed: unit_seed(seed, unit),
    };
    match labels {
        Labels::Values(y) => forest(x, y, parameters, columns),
        Labels::Classes(classes) => forest(x, &one_against_rest(classes, set.outputs(), class), parameters, columns),
    }
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

fn forest<Y: Number + serde::Serialize>(
    x: &DenseMatrix<f32>,
    y: &Vec<Y>,
    parameters: RandomForestRegressorParameters,
    columns: usize,
) -> Result<Unit, TrainError> {
    let fail = |message| TrainError::Fit { algorithm: "random_forest", message };
    let model = RandomForestRegressor::fit(x, y, parameters).map_err(|error| fail(error.to_string()))?;
    let (forest, importances) = mirror::compile_forest(&model, columns).map_err(fail)?;
    Ok(Unit::Trees { forest, importances })
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

/// The seed of a unit: both numbers mixed by SplitMix64 (Steele, Lea and Flood 2014), so that units of one
/// model are as far apart as those of different models. smartcore counts on from it, tree by tree.
fn unit_seed(seed: u64, unit: u32) -> u64 {
    mix(mix(seed).wrapping_add(u64::from(unit)))
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
