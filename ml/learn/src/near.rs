//! Finding the rows that are near a point, exactly: a k-d tree (Bentley 1975; Friedman, Bentley and Finkel
//! 1977). With many columns a search sees most rows, and costs little more than looking at all of them.
//!
//! Distances are Euclidean, of `f32` values, added up in `f64`. Of equally distant rows the earlier is nearer.

use std::collections::BinaryHeap;

use crate::matrix::{Layout, Matrix};

/// Rows of a leaf: they are compared in a run, which is faster than a smaller tree.
const LEAF_ROWS: usize = 16;

/// Rows in a tree.
#[derive(Clone, Debug)]
pub(crate) struct Near {
    columns: usize,
    /// The values of rows, in the order of the tree, and their numbers.
    values: Vec<f32>,
    rows: Vec<u32>,
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug)]
enum Node {
    Leaf {
        start: u32,
        end: u32,
    },
    /// Rows under the cut are in the node behind this one, and all over it in `right`.
    Split {
        column: u32,
        cut: f32,
        right: u32,
    },
}

/// A row and the square of its distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Neighbor {
    pub square: f64,
    pub row: u32,
}

impl Near {
    /// A tree of rows (laid out in rows, without NaN).
    pub fn new(matrix: &Matrix<f32>) -> Near {
        assert_eq!(matrix.layout(), Layout::Rows, "neighbours are searched row by row");
        let mut rows: Vec<u32> = (0..matrix.rows() as u32).collect();
        let mut nodes = Vec::new();
        build(matrix, &mut rows, 0, &mut nodes);
        let values = rows.iter().flat_map(|&row| matrix.row(row as usize)).copied().collect();
        Near { columns: matrix.columns(), values, rows, nodes }
    }

    /// The nearest rows to a point, nearest first.
    pub fn nearest(&self, point: &[f32], wanted: usize) -> Vec<Neighbor> {
        let mut kept = BinaryHeap::with_capacity(wanted + 1);
        let mut found = |neighbor: Neighbor| {
            kept.push(neighbor);
            if kept.len() > wanted {
                kept.pop();
            }
            if kept.len() < wanted { f64::INFINITY } else { kept.peek().map_or(f64::INFINITY, |worst| worst.square) }
        };
        let mut limit = f64::INFINITY;
        self.search(0, point, 0.0, &mut vec![0.0; self.columns], &mut found, &mut limit);
        kept.into_sorted_vec()
    }

    /// All rows within a distance (that itself included), ascending by number.
    pub fn within(&self, point: &[f32], radius: f64) -> Vec<u32> {
        let mut limit = radius * radius;
        let square = limit;
        let mut rows = Vec::new();
        let mut found = |neighbor: Neighbor| {
            rows.push(neighbor.row);
            square
        };
        self.search(0, point, 0.0, &mut vec![0.0; self.columns], &mut found, &mut limit);
        rows.sort_unstable();
        rows
    }

    /// Tells `found` of each row up to the square of a distance `limit`, which it may lower. `offsets` says
    /// how far the point is outside of the node in each column, `apart` is the sum of their squares.
    fn search(
        &self,
        node: usize,
        point: &[f32],
        apart: f64,
        offsets: &mut [f64],
        found: &mut impl FnMut(Neighbor) -> f64,
        limit: &mut f64,
    ) {
        match self.nodes[node] {
            Node::Leaf { start, end } => {
                for at in start as usize..end as usize {
                    let values = &self.values[at * self.columns..(at + 1) * self.columns];
                    let square = square_distance(values, point);
                    if square <= *limit {
                        *limit = found(Neighbor { square, row: self.rows[at] });
                    }
                }
            }
            Node::Split { column, cut, right } => {
                let column = column as usize;
                let offset = f64::from(point[column]) - f64::from(cut);
                let (near, far) = if offset <= 0.0 { (node + 1, right as usize) } else { (right as usize, node + 1) };
                self.search(near, point, apart, offsets, found, limit);
                let before = offsets[column];
                let apart = apart - before * before + offset * offset;
                // Sums of squares in another order may differ in the last digits.
                if apart * (1.0 - 1e-12) <= *limit {
                    offsets[column] = offset;
                    self.search(far, point, apart, offsets, found, limit);
                    offsets[column] = before;
                }
            }
        }
    }
}

fn build(matrix: &Matrix<f32>, rows: &mut [u32], start: usize, nodes: &mut Vec<Node>) {
    let leaf = Node::Leaf { start: start as u32, end: (start + rows.len()) as u32 };
    let node = nodes.len();
    nodes.push(leaf);
    if rows.len() <= LEAF_ROWS {
        return;
    }
    let mut bounds = vec![(f32::INFINITY, f32::NEG_INFINITY); matrix.columns()];
    for &row in rows.iter() {
        let values = matrix.row(row as usize);
        bounds.iter_mut().zip(values).for_each(|(b, &value)| *b = (b.0.min(value), b.1.max(value)));
    }
    let width = |bounds: &(f32, f32)| f64::from(bounds.1) - f64::from(bounds.0);
    let widest = (0..bounds.len()).max_by(|&a, &b| width(&bounds[a]).total_cmp(&width(&bounds[b])));
    let Some(column) = widest.filter(|&column| width(&bounds[column]) > 0.0) else { return };
    let value = |row: &u32| matrix.get(*row as usize, column);
    let middle = rows.len() / 2;
    rows.select_nth_unstable_by(middle, |a, b| value(a).total_cmp(&value(b)).then(a.cmp(b)));
    let cut = value(&rows[middle]);
    let (left, right) = rows.split_at_mut(middle);
    build(matrix, left, start, nodes);
    nodes[node] = Node::Split { column: column as u32, cut, right: nodes.len() as u32 };
    build(matrix, right, start + middle, nodes);
}

#[inline]
fn square_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

impl Eq for Neighbor {}

/// By distance, then by number.
impl Ord for Neighbor {
    fn cmp(&self, other: &Neighbor) -> std::cmp::Ordering {
        self.square.total_cmp(&other.square).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Neighbor) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::splitmix::SplitMix;

    proptest! {
        #[test]
        fn neighbours_are_those_of_looking_at_all_rows(seed: u64, rows in 1usize..200, columns in 1usize..6, wanted in 1usize..20) {
            let mut chance = SplitMix::new(seed);
            // A coarse grid, so that many distances are equal.
            let mut matrix = Matrix::zeros(rows, columns, Layout::Rows);
            for row in 0..rows {
                (0..columns).for_each(|column| matrix.set(row, column, chance.below(6) as f32 * 0.1));
            }
            let near = Near::new(&matrix);
            let point: Vec<f32> = (0..columns).map(|_| chance.unit() as f32).collect();
            for point in [point.as_slice(), matrix.row(rows / 2)] {
                let neighbor = |row: usize| Neighbor { square: square_distance(matrix.row(row), point), row: row as u32 };
                let mut all: Vec<Neighbor> = (0..rows).map(neighbor).collect();
                let within: Vec<u32> = all.iter().filter(|n| n.square <= 0.25 * 0.25).map(|n| n.row).collect();
                prop_assert_eq!(near.within(point, 0.25), within);
                all.sort();
                all.truncate(wanted);
                prop_assert_eq!(near.nearest(point, wanted), all);
            }
        }
    }
}
