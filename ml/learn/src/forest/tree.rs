//! Growing one tree of a forest, node by node.

use std::ops::Range;

use super::{Coded, Learned, Settings};
use crate::compiled::Node;
use crate::histogram::{Scale, Sums};
use crate::splitmix::SplitMix;

/// Codes of a column.
const CODES: usize = 256;
/// Rows of a node under which only the bins that have rows are looked at: with more most of them have.
const SPARSE_ROWS: usize = 256;
/// Rise of the score, as a share of it, that is more than rounding.
const RISE_MIN: f64 = 1e-12;

/// Grows trees; keeps the memory from tree to tree.
pub(super) struct Grower<'a> {
    coded: &'a Coded,
    learned: &'a Learned<'a>,
    settings: &'a Settings,
    /// How often each row was drawn.
    drawn: Vec<u32>,
    /// The drawn rows, node by node, and their sums.
    rows: Vec<u32>,
    sums: Vec<Sums>,
    rows_right: Vec<u32>,
    sums_right: Vec<Sums>,
    columns: Vec<u32>,
    /// All zero between two columns.
    histogram: Box<[Sums; CODES]>,
}

struct Open {
    node: usize,
    depth: u32,
    rows: Range<usize>,
    total: Sums,
}

#[derive(Clone, Copy)]
struct Split {
    score: f64,
    column: usize,
    /// Codes up to this one go left.
    bin: u8,
}

impl<'a> Grower<'a> {
    pub fn new(coded: &'a Coded, learned: &'a Learned<'a>, settings: &'a Settings) -> Grower<'a> {
        let rows = coded.rows;
        Grower {
            coded,
            learned,
            settings,
            drawn: vec![0; rows],
            rows: Vec::with_capacity(rows),
            sums: Vec::with_capacity(rows),
            rows_right: vec![0; rows],
            sums_right: vec![Sums::default(); rows],
            columns: Vec::new(),
            histogram: Box::new([Sums::default(); CODES]),
        }
    }

    /// A tree, and for each column what its splits made the variance fall.
    pub fn grow(&mut self, mut chance: SplitMix) -> (Vec<Node>, Vec<f64>) {
        self.draw_rows(&mut chance);
        self.columns = (0..self.coded.columns.len() as u32).collect();
        let scale = &self.learned.scale;
        let mut falls = vec![0.0; self.coded.columns.len()];
        let total = self.sums.iter().fold(Sums::default(), |total, &sums| total.plus(sums));
        let mut nodes = vec![self.leaf(total)];
        let mut open = vec![Open { node: 0, depth: 0, rows: 0..self.rows.len(), total }];
        while let Some(Open { node, depth, rows, total }) = open.pop() {
            let count = scale.count(total);
            if depth == self.settings.depth_max
                || count < u64::from(self.settings.min_samples_split)
                || count < 2 * u64::from(self.settings.min_samples_leaf)
                || self.is_pure(&rows)
            {
                continue;
            }
            let before = score(scale, total);
            let Some(split) = self.split(rows.clone(), total, before, &mut chance) else { continue };
            falls[split.column] += split.score - before;
            let (middle, left_total) = self.partition(rows.clone(), split);
            let left = nodes.len();
            nodes[node] = self.compile(split, left as u32);
            let right_total = total.minus(left_total);
            nodes.extend([self.leaf(left_total), self.leaf(right_total)]);
            open.push(Open { node: left + 1, depth: depth + 1, rows: middle..rows.end, total: right_total });
            open.push(Open { node: left, depth: depth + 1, rows: rows.start..middle, total: left_total });
        }
        (nodes, falls)
    }

    fn draw_rows(&mut self, chance: &mut SplitMix) {
        let all = self.coded.rows;
        if self.settings.bootstrap {
            self.drawn.fill(0);
            (0..all).for_each(|_| self.drawn[chance.below(all)] += 1);
        } else {
            self.drawn.fill(1);
        }
        self.rows.clear();
        self.sums.clear();
        for (row, (&times, &sums)) in self.drawn.iter().zip(&self.learned.sums).enumerate() {
            if times > 0 {
                self.rows.push(row as u32);
                self.sums.push(sums.times(times));
            }
        }
    }

    fn leaf(&self, total: Sums) -> Node {
        let weight = self.learned.scale.curvature(total);
        // A tree may draw nothing but rows of weight 0.
        let mean = if weight > 0.0 { self.learned.scale.gradient(total) / weight } else { 0.0 };
        Node::leaf(self.learned.centre + mean)
    }

    fn compile(&self, split: Split, left: u32) -> Node {
        let bin = usize::from(split.bin);
        // Behind the last bin are missing values only.
        let last = bin + 1 >= self.coded.bins.bins(split.column);
        let threshold = if last { f32::MAX } else { self.coded.bins.upper(split.column, bin) };
        let node = Node::split(split.column as u32, f64::from(threshold), left);
        if self.coded.misses[split.column] { node.missing_right() } else { node }
    }

    fn is_pure(&self, rows: &Range<usize>) -> bool {
        let rows = &self.rows[rows.clone()];
        let labels = self.learned.labels;
        rows.iter().all(|&row| labels[row as usize] == labels[rows[0] as usize])
    }

    /// The best split among columns drawn at random.
    fn split(&mut self, rows: Range<usize>, total: Sums, before: f64, chance: &mut SplitMix) -> Option<Split> {
        let wanted = self.settings.columns_tried.map_or(usize::MAX, |tried| tried as usize);
        let mut best = Split { score: before + before.abs() * RISE_MIN, column: usize::MAX, bin: 0 };
        let mut tried = 0;
        for at in 0..self.columns.len() {
            let other = at + chance.below(self.columns.len() - at);
            self.columns.swap(at, other);
            let column = self.columns[at] as usize;
            let varies = if self.settings.random_cuts {
                self.random_cut(column, rows.clone(), total, &mut best, chance)
            } else if rows.len() < SPARSE_ROWS {
                self.best_cut_of_few(column, rows.clone(), total, &mut best)
            } else {
                self.best_cut(column, rows.clone(), total, &mut best)
            };
            tried += usize::from(varies);
            // As in scikit-learn, columns are drawn on until one has a split.
            if tried >= wanted && best.column != usize::MAX {
                break;
            }
        }
        (best.column != usize::MAX).then_some(best)
    }

    /// Compares the best cut of a column with the best so far. Returns whether its values differ.
    fn best_cut(&mut self, column: usize, rows: Range<usize>, total: Sums, best: &mut Split) -> bool {
        let codes = &self.coded.columns[column];
        for (&row, &sums) in self.rows[rows.clone()].iter().zip(&self.sums[rows]) {
            let bin = &mut self.histogram[usize::from(codes[row as usize])];
            *bin = bin.plus(sums);
        }
        let mut scan = Scan::new(&self.learned.scale, self.settings, column, total);
        for (code, sums) in self.histogram[..=self.coded.bins.bins(column)].iter_mut().enumerate() {
            if !sums.is_empty() {
                scan.next(code as u8, std::mem::take(sums), best);
            }
        }
        scan.varies()
    }

    /// The same, by the bins that have rows.
    fn best_cut_of_few(&mut self, column: usize, rows: Range<usize>, total: Sums, best: &mut Split) -> bool {
        let codes = &self.coded.columns[column];
        let mut present = [0u64; CODES / 64];
        for (&row, &sums) in self.rows[rows.clone()].iter().zip(&self.sums[rows]) {
            let code = usize::from(codes[row as usize]);
            present[code / 64] |= 1 << (code % 64);
            self.histogram[code] = self.histogram[code].plus(sums);
        }
        let mut scan = Scan::new(&self.learned.scale, self.settings, column, total);
        for (word, &bits) in present.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let code = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                scan.next(code as u8, std::mem::take(&mut self.histogram[code]), best);
            }
        }
        scan.varies()
    }

    /// The same for one cut at random: evenly between the smallest and the largest value, as far as bins
    /// tell; where values are missing, every other time between them and the others.
    fn random_cut(
        &mut self,
        column: usize,
        rows: Range<usize>,
        total: Sums,
        best: &mut Split,
        chance: &mut SplitMix,
    ) -> bool {
        let codes = &self.coded.columns[column];
        let bins = &self.coded.bins;
        let missing = bins.bins(column) as u8;
        let (mut low, mut high, mut misses) = (u8::MAX, 0, false);
        for &row in &self.rows[rows.clone()] {
            let code = codes[row as usize];
            misses |= code == missing;
            if code != missing {
                low = low.min(code);
                high = high.max(code);
            }
        }
        // A column of missing values only has `low` over `high`.
        let bin = match (low < high, misses && low <= high) {
            (false, false) => return false,
            (false, true) => high,
            (true, true) if chance.below(2) == 0 => high,
            (true, _) => {
                let (first, last) = (bins.upper(column, usize::from(low)), bins.upper(column, usize::from(high) - 1));
                let cut = f64::from(first) + (f64::from(last) - f64::from(first)) * chance.unit();
                bins.code_of_cut(column, cut).clamp(low, high - 1)
            }
        };
        let left = self.rows[rows.clone()]
            .iter()
            .zip(&self.sums[rows])
            .filter(|(row, _)| codes[**row as usize] <= bin)
            .fold(Sums::default(), |left, (_, &sums)| left.plus(sums));
        Scan::new(&self.learned.scale, self.settings, column, total).consider(bin, left, best);
        true
    }

    /// Moves the rows that go left to the front. Returns where the right side starts, and the left's sums.
    fn partition(&mut self, range: Range<usize>, split: Split) -> (usize, Sums) {
        let codes = &self.coded.columns[split.column];
        let (rows, sums) = (&mut self.rows[range.clone()], &mut self.sums[range.clone()]);
        let (mut left, mut right) = (0, 0);
        for at in 0..rows.len() {
            let (row, row_sums) = (rows[at], sums[at]);
            let goes_right = usize::from(codes[row as usize] > split.bin);
            // Both writes, so that there is no branch to guess; the wrong one is written over.
            rows[left] = row;
            sums[left] = row_sums;
            self.rows_right[right] = row;
            self.sums_right[right] = row_sums;
            right += goes_right;
            left += 1 - goes_right;
        }
        rows[left..].copy_from_slice(&self.rows_right[..right]);
        sums[left..].copy_from_slice(&self.sums_right[..right]);
        (range.start + left, sums[..left].iter().fold(Sums::default(), |total, &sums| total.plus(sums)))
    }
}

/// Going through the bins of a column from left to right.
struct Scan<'a> {
    scale: &'a Scale,
    min_samples_leaf: u64,
    column: usize,
    total: Sums,
    left: Sums,
    /// The last bin with rows.
    last: Option<u8>,
    differs: bool,
}

impl<'a> Scan<'a> {
    fn new(scale: &'a Scale, settings: &Settings, column: usize, total: Sums) -> Scan<'a> {
        let min_samples_leaf = u64::from(settings.min_samples_leaf);
        Scan { scale, min_samples_leaf, column, total, left: Sums::default(), last: None, differs: false }
    }

    /// The next bin with rows.
    #[inline]
    fn next(&mut self, code: u8, sums: Sums, best: &mut Split) {
        if let Some(last) = self.last {
            self.differs = true;
            // In the middle between the two bins.
            self.consider(last + (code - last - 1) / 2, self.left, best);
        }
        self.last = Some(code);
        self.left = self.left.plus(sums);
    }

    /// A cut with these sums on its left.
    #[inline]
    fn consider(&self, bin: u8, left: Sums, best: &mut Split) {
        let right = self.total.minus(left);
        if self.scale.count(left) < self.min_samples_leaf || self.scale.count(right) < self.min_samples_leaf {
            return;
        }
        let score = score(self.scale, left) + score(self.scale, right);
        if score > best.score {
            *best = Split { score, column: self.column, bin };
        }
    }

    fn varies(&self) -> bool {
        self.differs
    }
}

/// The square of the sum by the weight: the larger it is over both sides, the smaller their variance.
#[inline]
fn score(scale: &Scale, sums: Sums) -> f64 {
    let (sum, weight) = (scale.gradient(sums), scale.curvature(sums));
    if weight > 0.0 { sum * sum / weight } else { 0.0 }
}
