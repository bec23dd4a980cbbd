//! Random numbers that follow from a seed alone, the same on every machine and in every version.
//!
//! Each use has its own stream, named by numbers such as a trial's and a parameter's, so that what one part
//! draws never moves what another draws. SplitMix64 (Steele, Lea and Flood 2014); not for secrets.

/// The golden ratio's bits: what SplitMix64 adds at each step.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
    /// The polar method makes two normal numbers at a time.
    spare: Option<f64>,
}

impl Chance {
    /// The stream of this seed that the numbers of `path` name.
    pub fn stream(seed: u64, path: &[u64]) -> Chance {
        let state = path.iter().fold(mix(seed ^ STEP), |state, part| mix(state.wrapping_add(STEP) ^ mix(*part)));
        Chance { state, spare: None }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mix(self.state)
    }

    /// A number from 0 up to but without 1, of 53 random bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number from 0 up to but without `limit`, each equally likely (Lemire 2019). Panics when `limit` is 0.
    #[inline]
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "there is no number below zero");
        let mut product = u128::from(self.bits()) * u128::from(limit);
        if (product as u64) < limit {
            let unfair = limit.wrapping_neg() % limit;
            while (product as u64) < unfair {
                product = u128::from(self.bits()) * u128::from(limit);
            }
        }
        (product >> 64) as u64
    }

    /// A number of the normal distribution with mean 0 and variance 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Puts the values into a random order, each order equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for at in (1..values.len()).rev() {
            values.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// Mixes 64 bits into 64 others, one to one: the finalizer of SplitMix64.
#[inline]
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A number that stands for a name in a stream's path (FNV-1a, mixed).
pub fn named(name: &str) -> u64 {
    mix(name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_is_the_published_one() {
        // The first numbers of SplitMix64 from state 1234567, as listed by Rosetta Code.
        let mut chance = Chance { state: 1_234_567, spare: None };
        let found: Vec<u64> = (0..3).map(|_| chance.bits()).collect();
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn streams_of_different_paths_differ() {
        let first = |path: &[u64]| Chance::stream(7, path).bits();
        let all = [first(&[]), first(&[0]), first(&[1]), first(&[0, 1]), first(&[1, 0]), first(&[0, 0])];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one), "path {at} has another's stream");
        }
        assert_ne!(named("depth"), named("rate"));
    }

    #[test]
    fn numbers_below_a_limit_are_equally_likely() {
        let mut chance = Chance::stream(1, &[]);
        let mut counts = [0; 6];
        (0..60_000).for_each(|_| counts[chance.below(6) as usize] += 1);
        // Five standard deviations of a binomial of 60,000 with 1/6 are 456.
        assert!(counts.iter().all(|&count| (9_544..10_456).contains(&count)), "{counts:?}");
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut chance = Chance::stream(2, &[]);
        let values: Vec<f64> = (0..100_000).map(|_| chance.normal()).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.016 && (variance - 1.0).abs() < 0.023, "{mean} {variance}");
    }

    #[test]
    fn shuffling_keeps_the_values() {
        let mut values: Vec<u32> = (0..100).collect();
        Chance::stream(3, &[]).shuffle(&mut values);
        assert_ne!(values, (0..100).collect::<Vec<u32>>());
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<u32>>());
    }
}
