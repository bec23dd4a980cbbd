//! Attributions of compiled forests.
//!
//! A compiled tree doesn't keep how many training rows came through a node, so they are counted anew on the rows that a
//! prediction is explained against: the shares are exact for these.

use rayon::prelude::*;

use super::tree::{Split, TreeView, attribute, expectation};
use crate::compiled::{Forest, Node};
use crate::matrix::Matrix;

/// A forest, and how many rows came through each of its nodes.
#[derive(Debug)]
pub struct ForestAttribution<'a> {
    trees: Vec<Covered<'a>>,
    columns: usize,
    base: f64,
}

#[derive(Debug)]
struct Covered<'a> {
    nodes: &'a [Node],
    covers: Vec<f64>,
}

impl<'a> ForestAttribution<'a> {
    /// Counts rows laid out in rows. Panics when they have other columns than those of training.
    pub fn new(forest: &'a Forest, rows: &Matrix<f32>) -> ForestAttribution<'a> {
        assert_eq!(rows.columns(), forest.columns(), "rows have the columns of training");
        let trees: Vec<&[Node]> = forest.each_tree().collect();
        let trees: Vec<Covered> = trees
            .into_par_iter()
            .map(|nodes| {
                let mut covers = vec![0.0; nodes.len()];
                for row in 0..rows.rows() {
                    let mut at = 0;
                    covers[at] += 1.0;
                    while let Some(next) = nodes[at].next(rows.row(row)) {
                        at = next;
                        covers[at] += 1.0;
                    }
                }
                Covered { nodes, covers }
            })
            .collect();
        let base = trees.iter().map(expectation).sum();
        ForestAttribution { trees, columns: forest.columns(), base }
    }

    /// The sum of the trees, knowing nothing of a row.
    pub fn base(&self) -> f64 {
        self.base
    }

    /// How far each column moves the sum of the trees from the base: Shapley values, which add up to the row's sum less
    /// the base.
    pub fn attribute(&self, row: &[f32]) -> Vec<f64> {
        let mut shares = vec![0.0; self.columns];
        self.trees.iter().for_each(|tree| attribute(tree, row, 1.0, &mut shares));
        shares
    }
}

impl TreeView for Covered<'_> {
    fn split(&self, node: usize) -> Option<Split> {
        let (feature, threshold, left, missing_right) = self.nodes[node].as_split()?;
        Some(Split { feature, threshold, left, right: left + 1, missing_right })
    }

    fn value(&self, leaf: usize) -> f64 {
        self.nodes[leaf].leaf_value()
    }

    fn cover(&self, node: usize) -> f64 {
        self.covers[node]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Chance;
    use crate::forest::{Coded, Settings, grow};
    use crate::matrix::Layout;

    #[test]
    fn shares_add_up_to_what_each_row_gets() {
        let mut chance = Chance::stream(5, &[]);
        let mut columns = Matrix::zeros(300, 4, Layout::Columns);
        let mut rows = Matrix::zeros(300, 4, Layout::Rows);
        let mut labels = Vec::new();
        for row in 0..300 {
            let values: Vec<f32> = (0..4).map(|_| chance.unit() as f32).collect();
            for (column, &value) in values.iter().enumerate() {
                let value = if column == 2 && row % 7 == 0 { f32::NAN } else { value };
                columns.set(row, column, value);
                rows.set(row, column, value);
            }
            labels.push(f64::from(values[0]) * 3.0 + if values[1] > 0.5 { f64::from(values[3]) } else { 0.0 });
        }
        let coded = Coded::new(&columns, 0).unwrap();
        let settings = Settings { depth_max: 6, ..Settings::default() };
        let forest = grow(&coded, &labels, None, &settings, 0..7, 1, || true).unwrap().forest;
        let explained = ForestAttribution::new(&forest, &rows);
        let sums = forest.sums(&rows);
        for (row, sum) in sums.iter().enumerate() {
            let shares = explained.attribute(rows.row(row));
            let found = explained.base() + shares.iter().sum::<f64>();
            assert!((found - sum).abs() < 1e-9, "row {row}: {found} and {sum}");
        }
        // Against the rows themselves the base is their mean.
        let mean = sums.iter().sum::<f64>() / sums.len() as f64;
        assert!((explained.base() - mean).abs() < 1e-9);
    }
}
