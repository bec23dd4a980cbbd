//! Sums of gradients by bin, in whole numbers.
//!
//! Gradients become fixed-point numbers of 64 bits, so sums are exact: in any order, on any number of
//! threads and by subtraction (sibling = parent - child) they have the same bits. The curvatures (second
//! derivatives) share 64 bits with the number of rows, so that a bin is two words and one vector addition.

use rayon::prelude::*;

use crate::binning::{Codes, GROUP};

/// Codes of a column.
const CODES: usize = 256;
/// Rows of a task at the least: its histogram of 16 kB is cleared and added in a fraction of the time.
const TASK_ROWS: usize = 16_384;
/// Values of a leaf under which threads cost more than they bring.
const PARALLEL_VALUES: usize = 60_000;
/// Rows at the most: number of rows and curvature share 64 bits, and 2^24 rows leave 14 bits to the
/// curvature of each row (rounded at random, so that sums don't lean).
pub(crate) const ROWS_MAX: usize = 1 << 24;

/// What is added up: of a row, a bin or a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub(crate) struct Sums {
    gradient: i64,
    /// The number of rows over the curvature.
    rest: u64,
}

impl Sums {
    #[inline]
    pub(crate) fn plus(self, other: Sums) -> Sums {
        Sums { gradient: self.gradient.wrapping_add(other.gradient), rest: self.rest.wrapping_add(other.rest) }
    }

    #[inline]
    pub(crate) fn minus(self, other: Sums) -> Sums {
        Sums { gradient: self.gradient.wrapping_sub(other.gradient), rest: self.rest.wrapping_sub(other.rest) }
    }

    /// So many of the same.
    #[inline]
    pub(crate) fn times(self, times: u32) -> Sums {
        Sums { gradient: self.gradient * i64::from(times), rest: self.rest * u64::from(times) }
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.rest == 0
    }
}

/// How numbers became whole ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    gradient: f64,
    curvature: f64,
    gradient_back: f64,
    curvature_back: f64,
    /// Where the number of rows starts.
    shift: u32,
}

impl Scale {
    /// For so many rows with gradients up to ± and curvatures up to these.
    pub(crate) fn new(rows: usize, gradient_max: f64, curvature_max: f64) -> Scale {
        let bits = usize::BITS - rows.leading_zeros();
        let shift = 64 - bits;
        // The largest power of two that keeps `rows` times the largest number under 2^`limit`.
        let power = |largest: f64, limit: u32| {
            let exponent = if largest > 0.0 { largest.log2().floor() as i32 + 1 } else { 0 };
            2f64.powi((limit - bits) as i32 - exponent)
        };
        let (gradient, curvature) = (power(gradient_max, 62), power(curvature_max, shift) * 0.5);
        Scale { gradient, curvature, gradient_back: 1.0 / gradient, curvature_back: 1.0 / curvature, shift }
    }

    /// One row as a whole number. The curvature is rounded up or down by a fixed even sequence of the row's
    /// number (multiples of the golden ratio), so that the rounding of many small ones cancels out.
    #[inline]
    pub(crate) fn row(&self, row: u64, gradient: f64, curvature: f64) -> Sums {
        let dither = (row.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        Sums {
            gradient: (gradient * self.gradient) as i64,
            rest: (1 << self.shift) | (curvature * self.curvature + dither) as i64 as u64,
        }
    }

    #[inline]
    pub(crate) fn gradient(&self, sums: Sums) -> f64 {
        sums.gradient as f64 * self.gradient_back
    }

    #[inline]
    pub(crate) fn curvature(&self, sums: Sums) -> f64 {
        (sums.rest & ((1 << self.shift) - 1)) as i64 as f64 * self.curvature_back
    }

    #[inline]
    pub(crate) fn count(&self, sums: Sums) -> u64 {
        sums.rest >> self.shift
    }
}

/// The sums of four columns by code.
pub(crate) type GroupHistogram = [[Sums; CODES]; GROUP];

/// The sums of all columns by code.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    groups: Vec<GroupHistogram>,
}

impl Histogram {
    pub(crate) fn new(codes: &Codes) -> Histogram {
        Histogram { groups: vec![[[Sums::default(); CODES]; GROUP]; codes.groups().len()] }
    }

    /// The sums of a column by code.
    #[inline]
    pub(crate) fn column(&self, column: usize) -> &[Sums; CODES] {
        &self.groups[column / GROUP][column % GROUP]
    }

    /// Adds up rows. `sums` are those of `rows`, one for one; `used` says which groups matter.
    pub(crate) fn fill(&mut self, codes: &Codes, used: &[bool], rows: &[u32], sums: &[Sums]) {
        let values = rows.len() * codes.columns();
        if rayon::current_num_threads() == 1 || values < PARALLEL_VALUES {
            for (group, histogram) in self.groups.iter_mut().enumerate().filter(|(group, _)| used[*group]) {
                clear(histogram);
                add_up(&codes.groups()[group], rows, sums, histogram);
            }
            return;
        }
        if rows.len() < 2 * TASK_ROWS {
            self.groups.par_iter_mut().enumerate().filter(|(group, _)| used[*group]).for_each(|(group, histogram)| {
                clear(histogram);
                add_up(&codes.groups()[group], rows, sums, histogram);
            });
            return;
        }
        self.groups.par_iter_mut().enumerate().filter(|(group, _)| used[*group]).for_each(|(group, histogram)| {
            *histogram = rows
                .par_chunks(TASK_ROWS)
                .zip(sums.par_chunks(TASK_ROWS))
                .fold_with(Box::new([[Sums::default(); CODES]; GROUP]), |mut part, (rows, sums)| {
                    add_up(&codes.groups()[group], rows, sums, &mut part);
                    part
                })
                .reduce_with(|mut part, other| {
                    part.as_flattened_mut().iter_mut().zip(other.as_flattened()).for_each(|(a, b)| *a = a.plus(*b));
                    part
                })
                .map_or([[Sums::default(); CODES]; GROUP], |part| *part);
        });
    }

    /// Takes a part's sums away, so that the sums of the rest remain.
    pub(crate) fn subtract(&mut self, part: &Histogram, used: &[bool]) {
        for ((whole, part), _) in self.groups.iter_mut().zip(&part.groups).zip(used).filter(|(_, used)| **used) {
            whole.as_flattened_mut().iter_mut().zip(part.as_flattened()).for_each(|(a, b)| *a = a.minus(*b));
        }
    }
}

fn clear(histogram: &mut GroupHistogram) {
    histogram.as_flattened_mut().fill(Sums::default());
}

fn add_up(codes: &[[u8; GROUP]], rows: &[u32], sums: &[Sums], histogram: &mut GroupHistogram) {
    let [first, second, third, fourth] = histogram;
    let mut add = |codes: [u8; GROUP], sums: Sums| {
        let [a, b, c, d] = codes.map(usize::from);
        first[a] = first[a].plus(sums);
        second[b] = second[b].plus(sums);
        third[c] = third[c].plus(sums);
        fourth[d] = fourth[d].plus(sums);
    };
    if let (Some(&start), Some(&end)) = (rows.first(), rows.last())
        && (end - start) as usize + 1 == rows.len()
    {
        // Ascending rows without a gap are read in one go.
        codes[start as usize..=end as usize].iter().zip(sums).for_each(|(&codes, &sums)| add(codes, sums));
    } else {
        rows.iter().zip(sums).for_each(|(&row, &sums)| add(codes[row as usize], sums));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binning::Bins;
    use crate::matrix::{Layout, Matrix};
    use crate::splitmix::SplitMix;

    #[test]
    fn sums_come_back_as_numbers() {
        for rows in [1, 7, 4_095, 4_096, ROWS_MAX] {
            let scale = Scale::new(rows, 3.0, 0.25);
            let sums = (0..rows as u64).fold(Sums::default(), |sums, row| sums.plus(scale.row(row, -3.0, 0.2)));
            assert_eq!(scale.count(sums), rows as u64);
            assert!((scale.gradient(sums) + 3.0 * rows as f64).abs() < 1e-6 * rows as f64);
            assert!((scale.curvature(sums) / (0.2 * rows as f64) - 1.0).abs() < 1e-5, "{rows} rows");
        }
    }

    #[test]
    fn threads_and_subtraction_give_the_same_sums() {
        let mut chance = SplitMix::new(9);
        let rows = 50_000;
        let mut matrix = Matrix::zeros(rows, 6, Layout::Columns);
        (0..6).for_each(|column| (0..rows).for_each(|row| matrix.set(row, column, chance.unit() as f32)));
        let codes = Bins::fit(&matrix, 255, 1).encode(&matrix);
        let scale = Scale::new(rows, 1.0, 1.0);
        let sums: Vec<Sums> = (0..rows).map(|row| scale.row(row as u64, chance.unit() - 0.5, chance.unit())).collect();
        let all: Vec<u32> = (0..rows as u32).collect();
        let (odd, even): (Vec<u32>, Vec<u32>) = all.iter().partition(|&row| row % 2 == 1);
        let of = |threads: usize, rows: &[u32]| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let sums: Vec<Sums> = rows.iter().map(|&row| sums[row as usize]).collect();
            let mut histogram = Histogram::new(&codes);
            pool.install(|| histogram.fill(&codes, &[true, true], rows, &sums));
            histogram
        };
        let mut whole = of(3, &all);
        assert_eq!(whole.groups, of(1, &all).groups);
        whole.subtract(&of(1, &even), &[true, true]);
        assert_eq!(whole.groups, of(2, &odd).groups);
    }
}
