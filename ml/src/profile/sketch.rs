//! Sketches of fixed memory: how many different values there are, and where the quantiles lie.

use serde::{Deserialize, Serialize};

/// Registers of [`Distinct`], as a power of two: a standard error of 1.04 / sqrt(2^12), 1.6 %, in 4 KiB.
const REGISTER_BITS: u32 = 12;
const REGISTERS: usize = 1 << REGISTER_BITS;

/// An estimate of the number of different values: HyperLogLog (Flajolet and others, 2007) with the estimator of
/// O. Ertl ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, algorithm 6), which has no
/// bias in between small and large numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Distinct {
    registers: Vec<u8>,
}

impl Default for Distinct {
    fn default() -> Self {
        Distinct { registers: vec![0; REGISTERS] }
    }
}

impl Distinct {
    /// Adds a value by its hash.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        let register = (hash >> (64 - REGISTER_BITS)) as usize;
        let rank = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() as u8 + 1;
        let kept = &mut self.registers[register];
        *kept = (*kept).max(rank);
    }

    pub fn merge(&mut self, other: &Distinct) {
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*theirs);
        }
    }

    pub fn estimate(&self) -> u64 {
        const Q: usize = (64 - REGISTER_BITS) as usize;
        let mut multiplicity = [0_u32; Q + 2];
        for &rank in &self.registers {
            multiplicity[usize::from(rank).min(Q + 1)] += 1;
        }
        let registers = REGISTERS as f64;
        let mut z = registers * tau(1.0 - f64::from(multiplicity[Q + 1]) / registers);
        for count in multiplicity[1..=Q].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += registers * sigma(f64::from(multiplicity[0]) / registers);
        (registers * registers / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Values of one level of [`Ranks`] before it is halved. The rank error is then some 0.1 % of the rows in
/// practice (each halving of a level errs by one value at most, to alternating sides).
const LEVEL_VALUES: usize = 1_024;

/// Numbers with their approximate ranks: the compactors of Karnin, Lang and Liberty ("Optimal quantile
/// approximation in streams", 2016), of equal size and with alternating instead of random halves, so that the same
/// stream gives the same sketch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ranks {
    /// A value of level `n` stands for 2^n values.
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Level {
    values: Vec<f64>,
    keep_odd: bool,
}

impl Ranks {
    /// Adds a finite value that comes `count` times.
    #[inline]
    pub fn add(&mut self, value: f64, count: u64) {
        let mut left = count;
        while left > 0 {
            let level = left.trailing_zeros() as usize;
            self.push(value, level);
            left &= left - 1;
        }
    }

    pub fn merge(&mut self, other: &Ranks) {
        for (index, level) in other.levels.iter().enumerate() {
            for value in &level.values {
                self.push(*value, index);
            }
        }
    }

    /// Values with what each stands for, ordered by value.
    pub fn sorted(&self) -> Vec<(f64, u64)> {
        let weighted = |(index, level): (usize, &Level)| {
            level.values.iter().map(move |value| (*value, 1_u64 << index)).collect::<Vec<_>>()
        };
        let mut values: Vec<(f64, u64)> = self.levels.iter().enumerate().flat_map(weighted).collect();
        values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        values
    }

    #[inline]
    fn push(&mut self, value: f64, level: usize) {
        while self.levels.len() <= level {
            self.levels.push(Level::default());
        }
        self.levels[level].values.push(value);
        if self.levels[level].values.len() >= LEVEL_VALUES {
            self.halve(level);
        }
    }

    #[cold]
    fn halve(&mut self, level: usize) {
        let full = &mut self.levels[level];
        let mut values = std::mem::take(&mut full.values);
        values.sort_unstable_by(f64::total_cmp);
        let skip = usize::from(full.keep_odd);
        full.keep_odd = !full.keep_odd;
        for value in values.iter().skip(skip).step_by(2) {
            self.push(*value, level + 1);
        }
        // The memory serves the next round.
        values.clear();
        self.levels[level].values = values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    #[test]
    fn the_estimate_of_distinct_values_is_within_its_error() {
        for count in [1_u64, 100, 5_000, 12_000, 20_000, 1_000_000] {
            let mut sketch = Distinct::default();
            (0..count).for_each(|value| sketch.add(hash::mix(value)));
            let error = (sketch.estimate() as f64 - count as f64).abs() / count as f64;
            assert!(error < 0.05, "{count}: {}", sketch.estimate());
        }
    }

    #[test]
    fn ranks_err_by_a_few_thousandths_at_most() {
        let count = 1_000_000_u64;
        let mut sketch = Ranks::default();
        (0..count).for_each(|row| sketch.add((hash::mix(row) % count) as f64, 1));
        let sorted = sketch.sorted();
        assert_eq!(sorted.iter().map(|(_, weight)| weight).sum::<u64>(), count);
        assert!(sorted.len() < 15 * LEVEL_VALUES);
        let mut below = 0;
        for (value, weight) in sorted {
            let share = (below as f64 - value) / count as f64;
            assert!(share.abs() < 0.004, "{value}: {below}");
            below += weight;
        }
    }
}
