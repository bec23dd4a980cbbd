//! The upper levels of trees, up to twelve, for 64 rows at a time.
//!
//! Forests that were grown on bins compare each column with at most 255 different numbers, so a value is known by how many
//! of them it is over: one byte. Where a row stands in a level is its turns so far. Sixty-four rows go down a level side
//! by side: permutations of bytes (AVX-512 VBMI) look up each row's threshold and column in tables of the level, of 128
//! nodes at a time by the last seven turns; the turns before these choose among the tables.
//!
//! It changes no comparison: `value > threshold` holds when the value's byte is over the threshold's. What is below the
//! levels walked here is walked as in [`super`].

use super::{FastNode, NEVER, Tree};

/// Rows of a group: bytes of a register.
pub(super) const GROUP: usize = 64;
/// Levels at the most: the tables of one more are twice as large, and no longer looked up faster than nodes.
const LEVELS_MAX: usize = 12;
/// Nodes of the tables at the most, for each node that is there.
const FILL_MIN: usize = 4;
/// Columns at the most: each costs two instructions a level.
const SLOTS_MAX: usize = 64;
/// Thresholds of a column at the most.
const CUTS_MAX: usize = 255;
/// Threshold of a node that isn't there: nothing is over it.
const NEVER_CODE: u8 = 255;

/// Bytes of a register.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u8; GROUP]);

/// Where the rows of a group have got to: their turns, the first the most significant bit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// The last eight turns.
    low: Line,
    /// Those before.
    high: Line,
}

/// The upper part of a tree.
#[derive(Clone, Debug)]
struct Upper {
    levels: usize,
    /// Bytes by node. The first line has the nodes of six levels by their number in the order of levels; level `n` from
    /// 6 on stands from line `2^(n - 6)` on.
    thresholds: Vec<Line>,
    slots: Vec<Line>,
    below: Below,
}

/// What is at each place below the upper part.
#[derive(Clone, Debug)]
enum Below {
    /// Leaves alone: their values.
    Leaves(Vec<f64>),
    /// Nodes of the tree.
    Nodes(Vec<u32>),
}

/// The upper parts of all trees.
#[derive(Clone, Debug)]
pub(super) struct Uppers {
    trees: Vec<Upper>,
    /// For each slot its thresholds as keys, rising, filled up with the largest key.
    cuts: Vec<[u32; CUTS_MAX]>,
}

impl Uppers {
    /// The upper parts of these trees; none where the processor can't walk them, or where they compare too many columns
    /// or numbers.
    pub fn new(slots: usize, trees: &[Tree], nodes: &[FastNode], values: &[f64]) -> Option<Uppers> {
        if !is_supported() || slots == 0 || slots > SLOTS_MAX || u32::try_from(nodes.len()).is_err() {
            return None;
        }
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); slots];
        for node in nodes.iter().filter(|node| node.threshold != NEVER) {
            found[node.slot()].push(node.threshold);
        }
        let mut cuts = Vec::with_capacity(slots);
        for found in &mut found {
            found.sort_unstable();
            found.dedup();
            if found.len() > CUTS_MAX {
                return None;
            }
            let mut padded = [u32::MAX; CUTS_MAX];
            padded[..found.len()].copy_from_slice(found);
            cuts.push(padded);
        }
        let ends = trees.iter().skip(1).map(|tree| tree.start).chain([nodes.len()]);
        let upper = |(tree, end): (&Tree, usize)| upper(tree, end - tree.start, nodes, values, &found);
        let trees = trees.iter().zip(ends).map(upper).collect();
        Some(Uppers { trees, cuts })
    }

    /// The code of a value's key in a slot: how many thresholds it is over.
    #[inline]
    pub fn code(&self, slot: usize, key: u32) -> u8 {
        let cuts = &self.cuts[slot];
        let mut under = 0;
        // Always eight steps, so that none has to be guessed.
        for step in [128, 64, 32, 16, 8, 4, 2, 1] {
            under += if cuts[under + step - 1] < key { step } else { 0 };
        }
        under as u8
    }

    /// Levels of a tree that are walked here.
    pub fn levels(&self, tree: usize) -> usize {
        self.trees[tree].levels
    }

    /// Takes the rows of a group down a tree. Where that leads to leaves, their values are added to the sums; else the
    /// nodes that are left to be walked from are the result.
    #[inline]
    pub fn walk(&self, tree: usize, codes: &[Line], sums: &mut [f64]) -> Option<[u32; GROUP]> {
        assert_eq!(codes.len(), self.cuts.len());
        let upper = &self.trees[tree];
        // SAFETY: these are made only where the processor has what they need.
        let places = unsafe { descend(upper, codes) };
        match &upper.below {
            Below::Leaves(values) => {
                let places = places.low.0.iter().zip(&places.high.0);
                for (sum, (low, high)) in sums.iter_mut().zip(places) {
                    *sum += values[usize::from(*high) << 8 | usize::from(*low)];
                }
                None
            }
            Below::Nodes(nodes) => {
                let place = |row: usize| usize::from(places.high.0[row]) << 8 | usize::from(places.low.0[row]);
                Some(std::array::from_fn(|row| nodes[place(row)]))
            }
        }
    }
}

fn upper(tree: &Tree, size: usize, nodes: &[FastNode], values: &[f64], cuts: &[Vec<u32>]) -> Upper {
    let worthwhile = (size * FILL_MIN).ilog2() as usize;
    let levels = tree.depth.min(LEVELS_MAX).min(worthwhile);
    let lines = 1 << levels.saturating_sub(6);
    let mut upper = Upper {
        levels,
        thresholds: vec![Line([NEVER_CODE; GROUP]); lines],
        slots: vec![Line([0; GROUP]); lines],
        below: Below::Nodes(Vec::new()),
    };
    // The nodes of a level by their place; a leaf stays where it is, as its own child.
    let mut level: Vec<usize> = vec![tree.start];
    for depth in 0..levels {
        let mut next = Vec::with_capacity(level.len() * 2);
        for (place, &at) in level.iter().enumerate() {
            let node = &nodes[at];
            if node.threshold == NEVER {
                next.extend([at, at]);
                continue;
            }
            let (line, byte) = match depth {
                0..=5 => (0, (1 << depth) - 1 + place),
                _ => ((1 << (depth - 6)) + place / GROUP, place % GROUP),
            };
            let code = cuts[node.slot()].partition_point(|cut| *cut < node.threshold);
            upper.thresholds[line].0[byte] = code as u8;
            upper.slots[line].0[byte] = node.slot() as u8;
            let left = at + node.distance();
            next.extend([left, left + 1]);
        }
        level = next;
    }
    upper.below = match level.iter().all(|&at| nodes[at].threshold == NEVER) {
        true => Below::Leaves(level.iter().map(|&at| values[at]).collect()),
        false => Below::Nodes(level.into_iter().map(|at| at as u32).collect()),
    };
    upper
}

#[cfg(target_arch = "x86_64")]
fn is_supported() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_supported() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
use vector::descend;

#[cfg(not(target_arch = "x86_64"))]
unsafe fn descend(_: &Upper, _: &[Line]) -> Places {
    unreachable!("upper parts are made only where the processor can walk them")
}

#[cfg(target_arch = "x86_64")]
mod vector {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi8, _mm512_cmpeq_epi8_mask, _mm512_cmpgt_epu8_mask, _mm512_load_si512,
        _mm512_mask_add_epi8, _mm512_mask_blend_epi8, _mm512_mask_mov_epi8, _mm512_maskz_set1_epi8, _mm512_or_si512,
        _mm512_permutex2var_epi8, _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_store_si512,
    };

    use super::{GROUP, LEVELS_MAX, Line, Places, Upper};

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn load(line: &Line) -> __m512i {
        // SAFETY: a line is 64 bytes in 64 bytes' alignment.
        unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn store(bytes: __m512i) -> Line {
        let mut line = Line([0; GROUP]);
        // SAFETY: as for loading.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), bytes) };
        line
    }

    /// Looks up bytes in the tables of a level of `PAIRS` times 128 nodes: by the last seven turns in each pair of lines,
    /// and by the turns before these among the pairs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn look_up<const PAIRS: usize>(lines: &[Line], place: __m512i, turns: &[u64]) -> __m512i {
        let mut found = [_mm512_setzero_si512(); PAIRS];
        for (pair, found) in found.iter_mut().enumerate() {
            *found = _mm512_permutex2var_epi8(load(&lines[2 * pair]), place, load(&lines[2 * pair + 1]));
        }
        let mut left = PAIRS;
        let mut turn = PAIRS.trailing_zeros() as usize;
        while left > 1 {
            left /= 2;
            turn -= 1;
            for at in 0..left {
                found[at] = _mm512_mask_blend_epi8(turns[turn], found[2 * at], found[2 * at + 1]);
            }
        }
        found[0]
    }

    /// The bytes of a level at these places.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn of_level(lines: &[Line], level: usize, place: __m512i, turns: &[u64]) -> __m512i {
        match level {
            0..=5 => {
                let number = _mm512_add_epi8(place, _mm512_set1_epi8(((1 << level) - 1) as i8));
                _mm512_permutexvar_epi8(number, load(&lines[0]))
            }
            6 => _mm512_permutexvar_epi8(place, load(&lines[1])),
            7 => look_up::<1>(&lines[2..4], place, turns),
            8 => look_up::<2>(&lines[4..8], place, turns),
            9 => look_up::<4>(&lines[8..16], place, turns),
            10 => look_up::<8>(&lines[16..32], place, turns),
            _ => look_up::<16>(&lines[32..64], place, turns),
        }
    }

    /// The codes of the columns that rows are compared by.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    fn choose(codes: &[Line], slots: __m512i) -> __m512i {
        let mut chosen = _mm512_setzero_si512();
        for (slot, codes) in codes.iter().enumerate() {
            let of_slot = _mm512_cmpeq_epi8_mask(slots, _mm512_set1_epi8(slot as i8));
            chosen = _mm512_mask_mov_epi8(chosen, of_slot, load(codes));
        }
        chosen
    }

    /// Goes down all levels of the upper part.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub fn descend(upper: &Upper, codes: &[Line]) -> Places {
        let one = _mm512_set1_epi8(1);
        let mut turns = [0_u64; LEVELS_MAX];
        let mut place = _mm512_setzero_si512();
        for level in 0..upper.levels {
            let slot = of_level(&upper.slots, level, place, &turns);
            let threshold = of_level(&upper.thresholds, level, place, &turns);
            let right = _mm512_cmpgt_epu8_mask(choose(codes, slot), threshold);
            turns[level] = right;
            // Turns before the last eight fall out of the byte.
            let doubled = _mm512_add_epi8(place, place);
            place = _mm512_mask_add_epi8(doubled, right, doubled, one);
        }
        let mut high = _mm512_setzero_si512();
        let above = upper.levels.saturating_sub(8);
        for (turn, &right) in turns[..above].iter().enumerate() {
            high = _mm512_or_si512(high, _mm512_maskz_set1_epi8(right, 1 << (above - 1 - turn)));
        }
        Places { low: store(place), high: store(high) }
    }
}
