//! Walking many rows through trees, fast.
//!
//! A walk waits for memory at each node, so eight rows go through a tree side by side (or one row through
//! eight trees), and no step has a branch: a leaf is a node that every row stays at. Three changes of form
//! make a step eight instructions on 8 bytes a node, and none of them changes a comparison:
//!
//! * Inputs are `f32`, so a threshold is the largest `f32` that isn't over it.
//! * Numbers become whole numbers in the same order, and a missing value the smallest of them, which goes
//!   left. A column that some node sends right when missing is there twice, the second time with missing
//!   values as the largest.
//! * Nodes lie in the order of their levels, and a child is found by its distance.
//!
//! Rows lie in tiles of eight: the values of a column of eight rows side by side. Where the processor can and there are
//! rows enough, the upper levels are walked by 64 rows at a time (`walk/upper.rs`).

mod upper;

use std::collections::BTreeMap;

use super::Node;
use crate::matrix::Matrix;
use upper::{GROUP, Line, Uppers};

/// Rows, or trees, that are walked side by side: as many as a processor has registers for.
const LANES: usize = 8;
/// Bytes of tiles that go through one tree before the next: with a tree they fit an L2 cache.
const BLOCK_BYTES: usize = 128 * 1_024;
/// Steps between two looks at whether all rows have arrived.
const STEPS: usize = 4;
/// Distinct columns (with copies) at the most: 11 bits of a link.
const SLOTS_MAX: usize = 1 << 11;
/// Distance to a child at the most: 19 bits of a link.
const DISTANCE_MAX: usize = (1 << 19) - 1;
/// Where a slot stands in a link: above two zero bits, so that it is an offset in bytes of 4-byte values.
const SLOT_MASK: u32 = ((SLOTS_MAX as u32) - 1) << 2;
/// Where a distance stands in a link.
const DISTANCE_SHIFT: u32 = 13;
/// The threshold of a leaf, which nothing is over.
const NEVER: u32 = u32::MAX;

/// Missing values: under a leaf's threshold and over all others, or under all.
const MISSING_LARGE: u32 = NEVER - 1;
const MISSING_SMALL: u32 = 0;

/// A column as nodes compare it: its index, and whether missing values are its largest.
type Slot = (u32, bool);

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct FastNode {
    /// Right if the value is over it.
    threshold: u32,
    /// Distance to the left child (0 at a leaf), slot, and two zero bits.
    link: u32,
}

impl FastNode {
    fn slot(&self) -> usize {
        ((self.link & SLOT_MASK) >> 2) as usize
    }

    fn distance(&self) -> usize {
        (self.link >> DISTANCE_SHIFT) as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct Tree {
    start: usize,
    depth: usize,
}

/// The trees of a forest.
///
/// **Invariant:** in each tree, a node at `i` with a distance `d` over 0 has nodes at `i + d` and
/// `i + d + 1`; a node with the distance 0 has the threshold [`NEVER`]; every slot of a link is one of `slots`.
#[derive(Clone, Debug)]
pub(super) struct Walker {
    slots: Vec<Slot>,
    trees: Vec<Tree>,
    nodes: Vec<FastNode>,
    /// For each node the value of its leaf.
    values: Vec<f64>,
    /// The upper levels, where they can be walked by themselves.
    uppers: Option<Uppers>,
}

impl Walker {
    /// Lays out checked trees; none if one is too large for its links.
    pub fn new<'a>(trees: impl Iterator<Item = &'a [Node]>) -> Option<Walker> {
        let mut walker =
            Walker { slots: Vec::new(), trees: Vec::new(), nodes: Vec::new(), values: Vec::new(), uppers: None };
        let mut known: BTreeMap<Slot, u32> = BTreeMap::new();
        for tree in trees {
            walker.add(tree, &mut known)?;
        }
        walker.uppers = Uppers::new(walker.slots.len(), &walker.trees, &walker.nodes, &walker.values);
        Some(walker)
    }

    fn add(&mut self, tree: &[Node], known: &mut BTreeMap<Slot, u32>) -> Option<()> {
        let start = self.nodes.len();
        let mut level: Vec<u32> = vec![0];
        let mut depth = 0;
        // A child behind its parent can still have two parents, in a file that nobody wrote; laid out by
        // levels such a tree could be endless.
        let mut visited = 0;
        loop {
            let mut next = Vec::new();
            for (at, &node) in level.iter().enumerate() {
                visited += 1;
                if visited > tree.len() {
                    return None;
                }
                let node = &tree[node as usize];
                if node.is_leaf() {
                    self.nodes.push(FastNode { threshold: NEVER, link: 0 });
                    self.values.push(node.value);
                    continue;
                }
                let slot: Slot = (node.column(), node.has_missing_right());
                let slot = *known.entry(slot).or_insert_with(|| {
                    self.slots.push(slot);
                    self.slots.len() as u32 - 1
                });
                let distance = level.len() - at + next.len();
                if slot as usize >= SLOTS_MAX || distance > DISTANCE_MAX {
                    return None;
                }
                let link = (distance as u32) << DISTANCE_SHIFT | slot << 2;
                self.nodes.push(FastNode { threshold: key(floor(node.value), MISSING_SMALL), link });
                self.values.push(0.0);
                next.extend([node.left, node.left + 1]);
            }
            if next.is_empty() {
                break;
            }
            depth += 1;
            level = next;
        }
        self.trees.push(Tree { start, depth });
        Some(())
    }

    /// Adds the trees' leaves to the sum of each row, tree by tree.
    pub fn add_sums(&self, rows: &Matrix<f32>, sums: &mut [f64]) {
        if self.slots.is_empty() {
            // Only trees of one leaf.
            for tree in &self.trees {
                sums.iter_mut().for_each(|sum| *sum += self.values[tree.start]);
            }
            return;
        }
        // With fewer rows than this, one row through eight trees is the shorter way.
        if sums.len() < LANES / 2 {
            let mut keys = vec![0; self.slots.len()];
            for (row, sum) in sums.iter_mut().enumerate() {
                let values = rows.row(row);
                keys.iter_mut().zip(&self.slots).for_each(|(key, slot)| *key = slot_key(*slot, values));
                self.add_row(&keys, sum);
            }
            return;
        }
        match &self.uppers {
            Some(uppers) if sums.len() >= GROUP / 2 => self.add_groups(uppers, rows, sums),
            _ => self.add_tiles(rows, sums),
        }
    }

    /// The same by tiles alone.
    fn add_tiles(&self, rows: &Matrix<f32>, sums: &mut [f64]) {
        let tiles = (BLOCK_BYTES / (self.slots.len() * LANES * 4)).max(1);
        let mut block = vec![[0u32; LANES]; self.slots.len() * tiles.min(sums.len().div_ceil(LANES))];
        for (at, sums) in sums.chunks_mut(tiles * LANES).enumerate() {
            for (offset, tile) in block.chunks_exact_mut(self.slots.len()).take(sums.len().div_ceil(LANES)).enumerate()
            {
                let first = (at * tiles + offset) * LANES;
                // The last tile is filled up with the last row.
                let values: [&[f32]; LANES] = std::array::from_fn(|lane| rows.row((first + lane).min(rows.rows() - 1)));
                for (keys, slot) in tile.iter_mut().zip(&self.slots) {
                    *keys = values.map(|values| slot_key(*slot, values));
                }
            }
            for tree in &self.trees {
                for (tile, sums) in block.chunks_exact(self.slots.len()).zip(sums.chunks_mut(LANES)) {
                    let leaves = self.walk_tile(tree, tile, [tree.start; LANES], 0);
                    sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += self.values[leaf]);
                }
            }
        }
    }

    /// The same by groups of 64 rows, which are eight tiles.
    fn add_groups(&self, uppers: &Uppers, rows: &Matrix<f32>, sums: &mut [f64]) {
        let slots = self.slots.len();
        let groups = (BLOCK_BYTES / (slots * GROUP * 5)).clamp(1, sums.len().div_ceil(GROUP));
        let mut block = vec![[0_u32; LANES]; slots * groups * (GROUP / LANES)];
        let mut codes = vec![Line([0; GROUP]); slots * groups];
        for (at, sums) in sums.chunks_mut(groups * GROUP).enumerate() {
            let first = at * groups * GROUP;
            for (offset, tile) in block.chunks_exact_mut(slots).take(sums.len().div_ceil(GROUP) * 8).enumerate() {
                // The last group is filled up with the last row.
                let place = |lane: usize| (first + offset * LANES + lane).min(rows.rows() - 1);
                let values: [&[f32]; LANES] = std::array::from_fn(|lane| rows.row(place(lane)));
                let group = &mut codes[offset / 8 * slots..][..slots];
                for (at, (keys, slot)) in tile.iter_mut().zip(&self.slots).enumerate() {
                    *keys = values.map(|values| slot_key(*slot, values));
                    let bytes = &mut group[at].0[offset % 8 * LANES..][..LANES];
                    bytes.iter_mut().zip(keys).for_each(|(code, key)| *code = uppers.code(at, *key));
                }
            }
            for (number, tree) in self.trees.iter().enumerate() {
                let groups = block.chunks_exact(slots * 8).zip(codes.chunks_exact(slots)).zip(sums.chunks_mut(GROUP));
                for ((tiles, codes), sums) in groups {
                    let Some(ends) = uppers.walk(number, codes, sums) else { continue };
                    let tiles = tiles.chunks_exact(slots).zip(sums.chunks_mut(LANES)).zip(ends.chunks_exact(LANES));
                    for ((tile, sums), ends) in tiles {
                        let from: [usize; LANES] = std::array::from_fn(|lane| ends[lane] as usize);
                        let leaves = self.walk_tile(tree, tile, from, uppers.levels(number));
                        sums.iter_mut().zip(leaves).for_each(|(sum, leaf)| *sum += self.values[leaf]);
                    }
                }
            }
        }
    }

    /// Which nodes eight rows arrive at in a tree that are at these nodes of some level of it.
    #[inline]
    fn walk_tile(&self, tree: &Tree, tile: &[[u32; LANES]], from: [usize; LANES], level: usize) -> [usize; LANES] {
        assert_eq!(tile.len(), self.slots.len());
        let (mut at, mut level) = (from, level);
        while level < tree.depth {
            for _ in 0..STEPS {
                for (lane, at) in at.iter_mut().enumerate() {
                    // SAFETY: `at` starts at a node of the tree and moves by `step`, which by the invariant of
                    // the type ends at a node of the same tree; and the tile has all slots of links.
                    unsafe {
                        let node = self.nodes.get_unchecked(*at);
                        let offset = (node.link & SLOT_MASK) as usize * LANES + lane * 4;
                        let value = tile.as_ptr().byte_add(offset).cast::<u32>().read();
                        *at = step(*at, node, value);
                    }
                }
            }
            level += STEPS;
            // SAFETY: as above.
            if level < tree.depth && at.iter().all(|&at| unsafe { self.nodes.get_unchecked(at) }.link == 0) {
                break;
            }
        }
        at
    }

    /// Adds the leaves of one row.
    fn add_row(&self, keys: &[u32], sum: &mut f64) {
        assert_eq!(keys.len(), self.slots.len());
        for trees in self.trees.chunks(LANES) {
            let mut at = [trees[0].start; LANES];
            at.iter_mut().zip(trees).for_each(|(at, tree)| *at = tree.start);
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            let mut level = 0;
            while level < depth {
                for _ in 0..STEPS {
                    for at in &mut at {
                        // SAFETY: as in `walk_tile`; `keys` has one value for each slot.
                        unsafe {
                            let node = self.nodes.get_unchecked(*at);
                            let offset = (node.link & SLOT_MASK) as usize;
                            *at = step(*at, node, keys.as_ptr().byte_add(offset).read());
                        }
                    }
                }
                level += STEPS;
                // SAFETY: as above.
                if level < depth && at.iter().all(|&at| unsafe { self.nodes.get_unchecked(at) }.link == 0) {
                    break;
                }
            }
            at.iter().zip(trees).for_each(|(&leaf, _)| *sum += self.values[leaf]);
        }
    }
}

/// From a node to its child, or from a leaf to itself.
#[inline(always)]
fn step(at: usize, node: &FastNode, value: u32) -> usize {
    at + (node.link >> DISTANCE_SHIFT) as usize + usize::from(node.threshold < value)
}

#[inline]
fn slot_key(slot: Slot, row: &[f32]) -> u32 {
    let (column, missing_largest) = slot;
    key(row[column as usize], if missing_largest { MISSING_LARGE } else { MISSING_SMALL })
}

/// A number as a whole number with the same order, and the same for both zeros.
#[inline]
fn key(value: f32, missing: u32) -> u32 {
    let bits = (value + 0.0).to_bits();
    let turned = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    if value.is_nan() { missing } else { turned }
}

/// The largest `f32` that is not over a number.
fn floor(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Forest;
    use super::*;
    use crate::matrix::Layout;
    use crate::splitmix::SplitMix;

    /// Thresholds and values meet often, and at the edges.
    const NUMBERS: [f32; 12] = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        -1e-45,
        0.1,
    ];

    fn threshold(chance: &mut SplitMix) -> f64 {
        let number = f64::from(NUMBERS[chance.below(NUMBERS.len())]);
        let number = if number.is_finite() { number } else { 1e300_f64.copysign(number) };
        // Between two `f32` as well.
        match chance.below(3) {
            0 => number,
            1 => number.next_up(),
            _ => number.next_down(),
        }
    }

    fn tree(chance: &mut SplitMix, columns: usize, splits: usize) -> Vec<Node> {
        let mut nodes = vec![Node::leaf(chance.unit())];
        for _ in 0..splits {
            let at = chance.below(nodes.len());
            if nodes[at].is_leaf() {
                let split = Node::split(chance.below(columns) as u32, threshold(chance), nodes.len() as u32);
                nodes[at] = if chance.below(3) == 0 { split.missing_right() } else { split };
                nodes.extend([Node::leaf(chance.unit()), Node::leaf(-chance.unit())]);
            }
        }
        nodes
    }

    proptest! {
        #[test]
        fn sums_are_those_of_a_walk_node_by_node(seed: u64, trees in 1usize..20, rows in 1usize..200, columns in 1usize..5) {
            let mut chance = SplitMix::new(seed);
            let mut forest = Forest::new(columns);
            for _ in 0..trees {
                let splits = chance.below(600);
                forest.add_tree(&tree(&mut chance, columns, splits)).unwrap();
            }
            let mut matrix = Matrix::zeros(rows, columns, Layout::Rows);
            for row in 0..rows {
                for column in 0..columns {
                    matrix.set(row, column, NUMBERS[chance.below(NUMBERS.len())]);
                }
            }
            prop_assert!(forest.walker().is_some());
            let expected: Vec<f64> = (0..rows).map(|row| forest.walk(matrix.row(row))).collect();
            prop_assert_eq!(forest.sums(&matrix), expected);
        }
    }

    #[test]
    fn a_tree_whose_branches_meet_again_is_walked_node_by_node() {
        // Each level points to the same two nodes of the next: 2^30 paths.
        let mut nodes: Vec<Node> = vec![Node::split(0, 0.0, 1)];
        for level in 0..30 {
            nodes.extend([Node::split(0, 0.0, 3 + 2 * level), Node::split(0, 0.0, 3 + 2 * level)]);
        }
        nodes.extend([Node::leaf(1.0), Node::leaf(2.0)]);
        let mut forest = Forest::new(1);
        forest.add_tree(&nodes).unwrap();
        assert!(forest.walker().is_none());
        assert_eq!(forest.predict(&Matrix::zeros(20, 1, Layout::Rows)), [1.0; 20]);
    }

    #[test]
    fn more_columns_than_links_hold_are_walked_node_by_node() {
        let mut forest = Forest::new(3_000);
        for column in 0..3_000 {
            forest.add_tree(&[Node::split(column, 0.5, 1), Node::leaf(0.0), Node::leaf(1.0)]).unwrap();
        }
        assert!(forest.walker().is_none());
        let mut rows = Matrix::zeros(9, 3_000, Layout::Rows);
        rows.set(8, 2_999, 1.0);
        assert_eq!(forest.sums(&rows)[7..], [0.0, 1.0]);
    }
}
