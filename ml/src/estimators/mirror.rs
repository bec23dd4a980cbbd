//! Reading the trees out of smartcore's models.
//!
//! Their fields are private, but models can be written with serde; these types mirror how smartcore 0.7.0
//! lays them out, field by field. The version is pinned in the workspace manifest, and a test compares
//! predictions, so a change there can't pass unseen.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::compiled::{Forest, Node};

/// A struct of one field is written as a list of one, which a tuple struct of one wouldn't read.
#[cfg(test)]
#[derive(Deserialize)]
struct ForestRegressor {
    forest: Option<BaseForest>,
}

#[cfg(test)]
#[derive(Deserialize)]
struct BaseForest(Option<Vec<BaseTree>>, IgnoredAny, IgnoredAny);

#[derive(Deserialize)]
struct TreeRegressor(Option<BaseTree>, IgnoredAny);

/// Nodes; parameters, depth, mass and four phantoms.
#[derive(Deserialize)]
struct BaseTree(Vec<BaseNode>, IgnoredAny, IgnoredAny, IgnoredAny, IgnoredAny, IgnoredAny, IgnoredAny, IgnoredAny);

#[derive(Deserialize)]
struct BaseNode {
    output: f64,
    split_feature: usize,
    split_value: Option<f64>,
    split_score: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

/// The trees of a fitted `RandomForestRegressor`, and for each column the sum of its shares in the fall of
/// impurity, tree by tree. Forests are grown on histograms; the walk is compared with this one's.
#[cfg(test)]
pub(super) fn compile_forest(model: &impl Serialize, columns: usize) -> Result<(Forest, Vec<f64>), String> {
    let ForestRegressor { forest: Some(BaseForest(Some(trees), _, _)) } = mirror(model)? else {
        return Err("the forest has no trees".to_owned());
    };
    compile(trees, columns)
}

/// The tree of a fitted `DecisionTreeRegressor`, likewise.
pub(super) fn compile_tree(model: &impl Serialize, columns: usize) -> Result<(Forest, Vec<f64>), String> {
    let TreeRegressor(Some(tree), _) = mirror(model)? else {
        return Err("there is no tree".to_owned());
    };
    compile(vec![tree], columns)
}

fn mirror<T: for<'de> Deserialize<'de>>(model: &impl Serialize) -> Result<T, String> {
    let bytes = rmp_serde::to_vec(model).map_err(|error| error.to_string())?;
    rmp_serde::from_slice(&bytes).map_err(|error| error.to_string())
}

fn compile(trees: Vec<BaseTree>, columns: usize) -> Result<(Forest, Vec<f64>), String> {
    let mut forest = Forest::new(columns);
    let mut importances = vec![0.0; columns];
    for tree in trees {
        let mut falls = vec![0.0; columns];
        let mut nodes = Vec::with_capacity(tree.0.len());
        for node in &tree.0 {
            nodes.push(match (node.true_child, node.false_child, node.split_value) {
                (None, None, _) => Node::leaf(node.output),
                (Some(left), Some(right), Some(threshold)) if right == left + 1 => {
                    let feature = u32::try_from(node.split_feature).map_err(|error| error.to_string())?;
                    let left = u32::try_from(left).map_err(|error| error.to_string())?;
                    if let (Some(fall), Some(score)) = (falls.get_mut(node.split_feature), node.split_score) {
                        *fall += score;
                    }
                    Node::split(feature, threshold, left)
                }
                _ => return Err("a node has one child, or children apart".to_owned()),
            });
        }
        forest.add_tree(&nodes)?;
        let sum: f64 = falls.iter().sum();
        if sum > 0.0 {
            importances.iter_mut().zip(&falls).for_each(|(total, fall)| *total += fall / sum);
        }
    }
    Ok((forest, importances))
}
