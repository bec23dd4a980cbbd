//! Growing one tree, best leaf first: the leaf whose split gains most is split, until there are enough
//! leaves or nothing is gained (Shi 2007, "Best-first decision tree learning"; Ke et al. 2017, "LightGBM").
//!
//! Only the smaller child's histogram is added up; the other's is the parent's less that one.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;

use crate::binning::{Bins, Codes, GROUP};
use crate::compiled::Node;
use crate::histogram::{Histogram, Scale, Sums};

/// Curvature of a child at the least: under it a leaf's value is a division by next to nothing (the
/// customary 1e-3 of LightGBM and scikit-learn).
const CURVATURE_MIN: f64 = 1e-3;
/// Columns from which looking for a split is shared by threads: each takes some microseconds.
const PARALLEL_COLUMNS: usize = 16;

/// When a leaf is split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub leaves_max: usize,
    pub depth_max: usize,
    pub min_samples_leaf: u64,
    pub l2: f64,
    pub min_gain: f64,
}

/// A grown tree over codes. Children lie side by side, behind their parent.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub nodes: Vec<GrownNode>,
    /// The leaves, and which of the grower's rows they hold.
    pub leaves: Vec<(usize, Range<usize>)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum GrownNode {
    Leaf {
        value: f64,
    },
    /// Codes up to `bin` go left; `missing` is the code of missing values.
    Split {
        column: usize,
        bin: u8,
        missing: u8,
        missing_right: bool,
        left: usize,
        gain: f64,
    },
}

impl Tree {
    /// The value of a row.
    pub fn value(&self, codes: &Codes, row: usize) -> f64 {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                GrownNode::Leaf { value } => return value,
                GrownNode::Split { column, bin, missing, missing_right, left, .. } => {
                    let code = codes.code(row, column);
                    let right = if code == missing { missing_right } else { code > bin };
                    at = left + usize::from(right);
                }
            }
        }
    }

    /// The nodes for scoring, with thresholds in place of codes.
    pub fn compile(&self, bins: &Bins) -> Vec<Node> {
        let node = |node: &GrownNode| match *node {
            GrownNode::Leaf { value } => Node::leaf(value),
            GrownNode::Split { column, bin, missing_right, left, .. } => {
                // Behind the last bin only missing values are on the right.
                let last = usize::from(bin) + 1 == bins.bins(column);
                let threshold = if last { f32::MAX } else { bins.upper(column, usize::from(bin)) };
                let split = Node::split(column as u32, f64::from(threshold), left as u32);
                if missing_right { split.missing_right() } else { split }
            }
        };
        self.nodes.iter().map(node).collect()
    }
}

/// Grows trees over the same codes; keeps the memory from tree to tree.
pub(super) struct Grower<'a> {
    codes: &'a Codes,
    bins: &'a Bins,
    /// The rows of the current tree, leaf by leaf and ascending in each.
    pub rows: Vec<u32>,
    scratch: Vec<u32>,
    sums: Vec<Sums>,
    spare: Vec<Histogram>,
}

/// A leaf that may be split.
struct Open {
    node: usize,
    depth: usize,
    rows: Range<usize>,
    total: Sums,
    histogram: Histogram,
    split: Split,
}

#[derive(Clone, Copy, Debug)]
struct Split {
    gain: f64,
    column: usize,
    bin: u8,
    missing_right: bool,
    left: Sums,
}

impl<'a> Grower<'a> {
    pub fn new(codes: &'a Codes, bins: &'a Bins) -> Grower<'a> {
        let rows = codes.rows();
        Grower {
            codes,
            bins,
            rows: Vec::with_capacity(rows),
            scratch: vec![0; rows],
            sums: Vec::with_capacity(rows),
            spare: Vec::new(),
        }
    }

    /// Grows a tree on `self.rows` (ascending, at least one) from the columns given (ascending). The sums
    /// are those of all rows.
    pub fn grow(&mut self, sums: &[Sums], scale: &Scale, columns: &[usize], limits: &Limits) -> Tree {
        let mut used = vec![false; self.codes.groups().len()];
        columns.iter().for_each(|column| used[column / GROUP] = true);
        let whole = 0..self.rows.len();
        let total = self.rows.iter().fold(Sums::default(), |total, &row| total.plus(sums[row as usize]));
        let mut tree = Tree { nodes: vec![leaf(total, scale, limits)], leaves: Vec::new() };
        let mut open: BinaryHeap<Open> = BinaryHeap::new();
        let mut closed: Vec<(usize, Range<usize>)> = Vec::new();
        let mut histogram = self.histogram();
        self.fill(&mut histogram, sums, whole.clone(), &used);
        match self.split(&histogram, total, scale, columns, limits) {
            Some(split) if limits.leaves_max > 1 => {
                open.push(Open { node: 0, depth: 0, rows: whole, total, histogram, split });
            }
            _ => {
                closed.push((0, whole));
                self.spare.push(histogram);
            }
        }
        let mut leaves = 1;
        while leaves < limits.leaves_max
            && let Some(mut parent) = open.pop()
        {
            leaves += 1;
            let Split { column, bin, missing_right, left: left_total, gain } = parent.split;
            let middle = self.partition(parent.rows.clone(), column, bin, missing_right);
            let left = tree.nodes.len();
            let missing = self.bins.bins(column) as u8;
            tree.nodes[parent.node] = GrownNode::Split { column, bin, missing, missing_right, left, gain };
            let right_total = parent.total.minus(left_total);
            tree.nodes.push(leaf(left_total, scale, limits));
            tree.nodes.push(leaf(right_total, scale, limits));
            let depth = parent.depth + 1;
            let (left_rows, right_rows) = (parent.rows.start..middle, middle..parent.rows.end);
            let splittable = |total: Sums| {
                leaves < limits.leaves_max
                    && depth < limits.depth_max
                    && scale.count(total) >= 2 * limits.min_samples_leaf
            };
            let mut children = [(left, left_rows, left_total), (left + 1, right_rows, right_total)];
            if children[0].1.len() > children[1].1.len() {
                children.swap(0, 1);
            }
            // The smaller one is first.
            let [small, large] = children;
            if !splittable(small.2) && !splittable(large.2) {
                closed.push((small.0, small.1));
                closed.push((large.0, large.1));
                self.spare.push(parent.histogram);
                continue;
            }
            let mut histogram = self.histogram();
            self.fill(&mut histogram, sums, small.1.clone(), &used);
            if splittable(large.2) {
                parent.histogram.subtract(&histogram, &used);
            }
            for ((node, rows, total), histogram) in [(small, histogram), (large, parent.histogram)] {
                let split =
                    if splittable(total) { self.split(&histogram, total, scale, columns, limits) } else { None };
                match split {
                    Some(split) => open.push(Open { node, depth, rows, total, histogram, split }),
                    None => {
                        closed.push((node, rows));
                        self.spare.push(histogram);
                    }
                }
            }
        }
        for rest in open {
            closed.push((rest.node, rest.rows));
            self.spare.push(rest.histogram);
        }
        closed.sort_unstable_by_key(|(node, _)| *node);
        tree.leaves = closed;
        tree
    }

    fn histogram(&mut self) -> Histogram {
        self.spare.pop().unwrap_or_else(|| Histogram::new(self.codes))
    }

    fn fill(&mut self, histogram: &mut Histogram, sums: &[Sums], rows: Range<usize>, used: &[bool]) {
        let rows = &self.rows[rows];
        if rows.len() == sums.len() {
            histogram.fill(self.codes, used, rows, sums);
        } else {
            self.sums.clear();
            self.sums.extend(rows.iter().map(|&row| sums[row as usize]));
            histogram.fill(self.codes, used, rows, &self.sums);
        }
    }

    /// The best split of a leaf; the first of equals.
    fn split(
        &self,
        histogram: &Histogram,
        total: Sums,
        scale: &Scale,
        columns: &[usize],
        limits: &Limits,
    ) -> Option<Split> {
        let of = |&column: &usize| {
            let bins = self.bins.bins(column);
            best_cut(&histogram.column(column)[..=bins], total, scale, limits).map(|split| Split { column, ..split })
        };
        let better = |best: Option<Split>, next: Option<Split>| match (best, next) {
            (Some(best), Some(next)) if next.gain > best.gain => Some(next),
            (best, next) => best.or(next),
        };
        if columns.len() < PARALLEL_COLUMNS || rayon::current_num_threads() == 1 {
            columns.iter().map(of).fold(None, better)
        } else {
            let halves: Vec<Option<Split>> = columns
                .par_chunks(columns.len().div_ceil(rayon::current_num_threads()).max(PARALLEL_COLUMNS / 2))
                .map(|columns| columns.iter().map(of).fold(None, better))
                .collect();
            halves.into_iter().fold(None, better)
        }
    }

    /// Moves the rows that go left to the front of their range; both sides stay ascending. Returns where
    /// the right side starts.
    fn partition(&mut self, range: Range<usize>, column: usize, bin: u8, missing_right: bool) -> usize {
        let codes = &self.codes.groups()[column / GROUP];
        let within = column % GROUP;
        let missing = self.bins.bins(column) as u8;
        let side: [u8; 256] = std::array::from_fn(|code| {
            u8::from(if code == usize::from(missing) { missing_right } else { code > usize::from(bin) })
        });
        let rows = &mut self.rows[range.clone()];
        let (mut left, mut right) = (0, 0);
        for at in 0..rows.len() {
            let row = rows[at];
            let goes_right = usize::from(side[usize::from(codes[row as usize][within])]);
            // Both writes, so that there is no branch to guess; the wrong one is written over.
            rows[left] = row;
            self.scratch[right] = row;
            right += goes_right;
            left += 1 - goes_right;
        }
        rows[left..].copy_from_slice(&self.scratch[..right]);
        range.start + left
    }
}

fn leaf(total: Sums, scale: &Scale, limits: &Limits) -> GrownNode {
    let value = -scale.gradient(total) / (scale.curvature(total) + limits.l2).max(f64::MIN_POSITIVE);
    GrownNode::Leaf { value: if value.is_finite() { value } else { 0.0 } }
}

/// The best cut of one column, whose last code is that of missing values.
fn best_cut(sums: &[Sums], total: Sums, scale: &Scale, limits: &Limits) -> Option<Split> {
    let (&missing, values) = sums.split_last()?;
    let (total_gradient, total_curvature) = (scale.gradient(total), scale.curvature(total));
    let total_count = scale.count(total);
    let before = total_gradient * total_gradient / (total_curvature + limits.l2).max(f64::MIN_POSITIVE);
    // Compared without the part that all cuts share.
    let mut best_score = before + limits.min_gain.max(0.0);
    let mut best: Option<Split> = None;
    let mut consider = |bin: usize, left: Sums, missing_right: Option<bool>| {
        let count = scale.count(left);
        if count < limits.min_samples_leaf || total_count - count < limits.min_samples_leaf {
            return;
        }
        let (gradient, curvature) = (scale.gradient(left), scale.curvature(left));
        let (other_gradient, other_curvature) = (total_gradient - gradient, total_curvature - curvature);
        if curvature < CURVATURE_MIN || other_curvature < CURVATURE_MIN {
            return;
        }
        let score = gradient * gradient / (curvature + limits.l2)
            + other_gradient * other_gradient / (other_curvature + limits.l2);
        if score > best_score {
            best_score = score;
            // Without a missing value to learn from, later ones go where most rows go.
            let missing_right = missing_right.unwrap_or(count < total_count - count);
            best = Some(Split { gain: score - before, column: 0, bin: bin as u8, missing_right, left });
        }
    };
    let mut left = Sums::default();
    let last = values.len() - 1;
    if missing.is_empty() {
        let mut rest = total_count;
        for (bin, &sums) in values[..last].iter().enumerate() {
            if !sums.is_empty() {
                left = left.plus(sums);
                rest -= scale.count(sums);
                if rest < limits.min_samples_leaf {
                    break;
                }
                consider(bin, left, None);
            }
        }
    } else {
        for (bin, &sums) in values.iter().enumerate() {
            if !sums.is_empty() {
                left = left.plus(sums);
                consider(bin, left, Some(true));
                if bin < last {
                    consider(bin, left.plus(missing), Some(false));
                }
            }
        }
    }
    best
}

/// By gain; of equals the earlier node is larger.
impl Ord for Open {
    fn cmp(&self, other: &Open) -> Ordering {
        self.split.gain.total_cmp(&other.split.gain).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Open) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Open) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Open {}
