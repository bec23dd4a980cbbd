//! Trees as flat arrays, for scoring.
//!
//! smartcore walks pointers row by row; here a tree is an array of 16-byte nodes, which is what is stored,
//! and before the first rows are scored it is laid out for speed (`compiled/walk.rs`). The result is bit-equal to
//! smartcore's (tested on random data): the same comparisons, and leaves added up in the order of the trees.
//!
//! A missing value (NaN) goes left, unless the node says otherwise. A forest read from bytes is checked before use:
//! each child lies behind its parent, so a walk ends, and inside its tree. A damaged file is an error and never a
//! panic or an endless loop.

mod walk;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::matrix::Matrix;
use walk::Walker;

/// In place of a feature's index: the node is a leaf.
const LEAF: u32 = u32::MAX;
/// With a feature's index: missing values go right.
const MISSING_RIGHT: u32 = 1 << 31;
/// Bytes of a node in memory and on disk.
const NODE_BYTES: usize = 16;

/// A node: a leaf with its value, or a split whose children lie side by side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The threshold of a split (left when `x <= value`), or the value of a leaf.
    value: f64,
    /// The column that is compared, with [`MISSING_RIGHT`] or without, or [`LEAF`].
    feature: u32,
    /// Where in the tree the left child is; the right one is behind it.
    left: u32,
}

impl Node {
    pub fn leaf(value: f64) -> Node {
        Node { value, feature: LEAF, left: 0 }
    }

    pub fn split(feature: u32, threshold: f64, left: u32) -> Node {
        Node { value: threshold, feature, left }
    }

    /// The same split with missing values on the right.
    #[must_use]
    pub fn missing_right(self) -> Node {
        Node { feature: self.feature | MISSING_RIGHT, ..self }
    }

    /// Column, threshold, left child, and whether missing values go right; none of a leaf.
    pub(crate) fn as_split(&self) -> Option<(usize, f64, usize, bool)> {
        let split = (self.column() as usize, self.value, self.left as usize, self.has_missing_right());
        (!self.is_leaf()).then_some(split)
    }

    /// What a leaf predicts.
    pub(crate) fn leaf_value(&self) -> f64 {
        self.value
    }

    /// The child that a row goes to; none from a leaf.
    pub(crate) fn next(&self, row: &[f32]) -> Option<usize> {
        let right = || usize::from(self.goes_right(row[self.column() as usize]));
        (!self.is_leaf()).then(|| self.left as usize + right())
    }

    fn is_leaf(&self) -> bool {
        self.feature == LEAF
    }

    fn column(&self) -> u32 {
        self.feature & !MISSING_RIGHT
    }

    fn has_missing_right(&self) -> bool {
        self.feature & MISSING_RIGHT != 0
    }

    #[inline]
    fn goes_right(&self, value: f32) -> bool {
        f64::from(value) > self.value || (value.is_nan() && self.has_missing_right())
    }
}

/// Trees whose mean, or sum, is the prediction.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "ForestData", into = "ForestData")]
pub struct Forest {
    columns: u32,
    /// The nodes of all trees, one tree after the other; children are counted from their tree's start.
    nodes: Vec<Node>,
    /// How many nodes each tree has.
    sizes: Vec<u32>,
    /// The trees laid out for scoring, from the first time on; none if they are too large for that.
    walker: OnceLock<Option<Walker>>,
}

/// How the trees are laid out doesn't matter.
impl PartialEq for Forest {
    fn eq(&self, other: &Forest) -> bool {
        self.columns == other.columns && self.nodes == other.nodes && self.sizes == other.sizes
    }
}

/// A forest as it is stored: nodes as little-endian bytes.
#[derive(Serialize, Deserialize)]
struct ForestData {
    columns: u32,
    sizes: Vec<u32>,
    nodes: serde_bytes::ByteBuf,
}

impl From<Forest> for ForestData {
    fn from(forest: Forest) -> ForestData {
        let mut nodes = Vec::with_capacity(forest.nodes.len() * NODE_BYTES);
        for node in &forest.nodes {
            nodes.extend_from_slice(&node.value.to_le_bytes());
            nodes.extend_from_slice(&node.feature.to_le_bytes());
            nodes.extend_from_slice(&node.left.to_le_bytes());
        }
        ForestData { columns: forest.columns, sizes: forest.sizes, nodes: nodes.into() }
    }
}

impl TryFrom<ForestData> for Forest {
    type Error = String;

    fn try_from(data: ForestData) -> Result<Forest, String> {
        let (chunks, rest) = data.nodes.as_chunks::<NODE_BYTES>();
        if !rest.is_empty() {
            return Err("the nodes of a forest end in the middle of one".to_owned());
        }
        let node = |bytes: &[u8; NODE_BYTES]| {
            let [v0, v1, v2, v3, v4, v5, v6, v7, f0, f1, f2, f3, l0, l1, l2, l3] = *bytes;
            Node {
                value: f64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]),
                feature: u32::from_le_bytes([f0, f1, f2, f3]),
                left: u32::from_le_bytes([l0, l1, l2, l3]),
            }
        };
        let forest = Forest {
            columns: data.columns,
            nodes: chunks.iter().map(node).collect(),
            sizes: data.sizes,
            walker: OnceLock::new(),
        };
        forest.check()?;
        Ok(forest)
    }
}

impl Forest {
    /// A forest without trees, over this many columns.
    pub fn new(columns: usize) -> Forest {
        let columns = u32::try_from(columns).expect("a matrix has fewer than 2^32 columns");
        Forest { columns, nodes: Vec::new(), sizes: Vec::new(), walker: OnceLock::new() }
    }

    /// Adds a tree. The error says what is wrong with it.
    pub fn add_tree(&mut self, nodes: &[Node]) -> Result<(), String> {
        check_tree(nodes, self.columns)?;
        self.walker = OnceLock::new();
        self.nodes.extend_from_slice(nodes);
        self.sizes.push(u32::try_from(nodes.len()).expect("checked with the tree"));
        Ok(())
    }

    /// Adds the trees of another forest over the same columns, behind its own.
    pub fn append(&mut self, other: Forest) {
        assert_eq!(self.columns, other.columns, "forests that are joined were trained on the same columns");
        self.walker = OnceLock::new();
        self.nodes.extend_from_slice(&other.nodes);
        self.sizes.extend_from_slice(&other.sizes);
    }

    /// Number of trees.
    pub fn trees(&self) -> usize {
        self.sizes.len()
    }

    /// Number of nodes in all trees.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Number of columns that it reads.
    pub fn columns(&self) -> usize {
        self.columns as usize
    }

    fn check(&self) -> Result<(), String> {
        if self.sizes.is_empty() {
            return Err("a forest has no trees".to_owned());
        }
        let mut rest = self.nodes.as_slice();
        for &size in &self.sizes {
            let (tree, others) =
                rest.split_at_checked(size as usize).ok_or("a forest has fewer nodes than its trees")?;
            check_tree(tree, self.columns)?;
            rest = others;
        }
        if rest.is_empty() { Ok(()) } else { Err("a forest has more nodes than its trees".to_owned()) }
    }

    /// The trees' mean for each row of a matrix laid out in rows.
    pub fn predict(&self, rows: &Matrix<f32>) -> Vec<f64> {
        let mut sums = self.sums(rows);
        let trees = self.sizes.len() as f64;
        sums.iter_mut().for_each(|sum| *sum /= trees);
        sums
    }

    /// The trees' sum for each row of a matrix laid out in rows, added up in the order of the trees.
    pub fn sums(&self, rows: &Matrix<f32>) -> Vec<f64> {
        assert_eq!(rows.columns(), self.columns(), "rows have the columns of training");
        let mut sums = vec![0.0; rows.rows()];
        match self.walker() {
            Some(walker) => walker.add_sums(rows, &mut sums),
            None => sums.iter_mut().enumerate().for_each(|(row, sum)| *sum = self.walk(rows.row(row))),
        }
        sums
    }

    /// Lays the trees out for scoring, if that isn't done yet: some milliseconds that the first prediction
    /// would take longer.
    pub fn prepare(&self) {
        self.walker();
    }

    fn walker(&self) -> Option<&Walker> {
        self.walker.get_or_init(|| Walker::new(self.each_tree())).as_ref()
    }

    pub(crate) fn each_tree(&self) -> impl Iterator<Item = &[Node]> {
        let mut rest = self.nodes.as_slice();
        self.sizes.iter().map(move |&size| {
            let (tree, others) = rest.split_at(size as usize);
            rest = others;
            tree
        })
    }

    /// The trees' sum for one row, node by node.
    fn walk(&self, row: &[f32]) -> f64 {
        let leaf = |tree: &[Node]| {
            let mut node = &tree[0];
            while !node.is_leaf() {
                let right = node.goes_right(row[node.column() as usize]);
                node = &tree[node.left as usize + usize::from(right)];
            }
            node.value
        };
        self.each_tree().map(leaf).fold(0.0, |sum, leaf| sum + leaf)
    }
}

fn check_tree(nodes: &[Node], columns: u32) -> Result<(), String> {
    if nodes.is_empty() || u32::try_from(nodes.len()).is_err() {
        return Err(format!("a tree has {} nodes", nodes.len()));
    }
    for (at, node) in nodes.iter().enumerate() {
        if !node.value.is_finite() {
            return Err(format!("node {at} of a tree has the value {}", node.value));
        }
        if node.is_leaf() {
            continue;
        }
        if node.column() >= columns {
            return Err(format!("node {at} of a tree compares column {} of {columns}", node.column()));
        }
        let left = node.left as usize;
        if left <= at || left + 1 >= nodes.len() {
            return Err(format!("node {at} of a tree of {} nodes points to node {left}", nodes.len()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Layout;

    fn stump() -> Forest {
        let mut forest = Forest::new(2);
        forest.add_tree(&[Node::split(1, 0.5, 1), Node::leaf(10.0), Node::leaf(20.0)]).unwrap();
        forest.add_tree(&[Node::leaf(1.0)]).unwrap();
        forest
    }

    #[test]
    fn a_row_takes_the_mean_of_its_leaves() {
        let mut rows = Matrix::zeros(2, 2, Layout::Rows);
        rows.set(0, 1, 0.5);
        rows.set(1, 1, 0.6);
        assert_eq!(stump().predict(&rows), [5.5, 10.5]);
    }

    #[test]
    fn missing_values_go_where_the_node_says() {
        let split = Node::split(1, 0.5, 1);
        let mut rows = Matrix::zeros(1, 2, Layout::Rows);
        rows.set(0, 1, f32::NAN);
        for (split, expected) in [(split, 10.0), (split.missing_right(), 20.0)] {
            let mut forest = Forest::new(2);
            forest.add_tree(&[split, Node::leaf(10.0), Node::leaf(20.0)]).unwrap();
            assert_eq!((forest.predict(&rows)[0], forest.walk(rows.row(0))), (expected, expected));
            assert_eq!(rmp_serde::from_slice::<Forest>(&rmp_serde::to_vec(&forest).unwrap()).unwrap(), forest);
        }
    }

    #[test]
    fn what_was_stored_is_read_back() {
        let bytes = rmp_serde::to_vec_named(&stump()).unwrap();
        assert_eq!(rmp_serde::from_slice::<Forest>(&bytes).unwrap(), stump());
    }

    #[test]
    fn damaged_trees_are_refused() {
        let refused = |nodes: &[Node]| Forest::new(2).add_tree(nodes).unwrap_err();
        let leaf = Node::leaf(0.0);
        assert_eq!(refused(&[]), "a tree has 0 nodes");
        assert_eq!(refused(&[Node::split(0, 0.0, 0), leaf]), "node 0 of a tree of 2 nodes points to node 0");
        assert_eq!(refused(&[Node::split(0, 0.0, 1), leaf]), "node 0 of a tree of 2 nodes points to node 1");
        assert_eq!(refused(&[Node::split(7, 0.0, 1), leaf, leaf]), "node 0 of a tree compares column 7 of 2");
        assert_eq!(refused(&[Node::leaf(f64::NAN)]), "node 0 of a tree has the value NaN");
    }
}
