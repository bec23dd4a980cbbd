//! The normal distribution: its density, its distribution function and the inverse of that.

use std::f64::consts::{PI, SQRT_2};

/// Density at `z` standard deviations.
pub fn density(z: f64) -> f64 {
    (-0.5 * z * z).exp() / (2.0 * PI).sqrt()
}

/// Chance of a value of at most `z` standard deviations; exact to some 15 digits.
pub fn cumulative(z: f64) -> f64 {
    0.5 * complement(-z / SQRT_2)
}

/// The error function's complement, `erfc`. Below 2.5 by the series of `erf` whose terms are all positive
/// (Abramowitz and Stegun 7.1.6), above by the continued fraction (7.1.14) read from its end.
pub fn complement(x: f64) -> f64 {
    /// From here the fraction with [`FRACTION_TERMS`] terms is exact in all 53 bits.
    const SERIES_MAX: f64 = 2.5;
    const FRACTION_TERMS: u32 = 60;
    if x.is_nan() {
        return x;
    }
    if x < 0.0 {
        return 2.0 - complement(-x);
    }
    if x < SERIES_MAX {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > sum * 1e-17 {
            odd += 2.0;
            term *= 2.0 * x * x / odd;
            sum += term;
        }
        return 1.0 - 2.0 / PI.sqrt() * (-x * x).exp() * sum;
    }
    let fraction = (1..=FRACTION_TERMS).rev().fold(x, |below, term| x + f64::from(term) / 2.0 / below);
    (-x * x).exp() / PI.sqrt() / fraction
}

/// How many standard deviations a value is from the mean that is exceeded with a chance of `1 - share`.
/// Infinite for 0 and 1, not a number outside.
///
/// Bisection and then Newton's steps on the smaller tail: slower than a rational approximation and exact to
/// some 14 digits; it runs a few times an interval.
pub fn quantile(share: f64) -> f64 {
    if !(0.0..=1.0).contains(&share) {
        return f64::NAN;
    }
    if share == 0.0 || share == 1.0 {
        return if share == 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if share > 0.5 {
        return -quantile(1.0 - share);
    }
    let (mut low, mut high) = (-40.0, 0.0);
    for _ in 0..40 {
        let middle = (low + high) / 2.0;
        if cumulative(middle) < share { low = middle } else { high = middle }
    }
    let mut z: f64 = (low + high) / 2.0;
    for _ in 0..2 {
        let slope = density(z);
        if slope > 0.0 {
            z -= (cumulative(z) - share) / slope;
        }
    }
    z
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.norm.cdf` of scipy 1.17.
    #[test]
    fn the_distribution_function_is_scipys() {
        for (z, expected) in [
            (-8.0, 6.22096057427174e-16),
            (-4.0, 3.167124183311986e-05),
            (-1.0, 0.15865525393145707),
            (0.0, 0.5),
            (0.3, 0.6179114221889526),
            (2.5, 0.9937903346742238),
            (3.6, 0.9998408914098424),
        ] {
            let found = cumulative(z);
            assert!((found / expected - 1.0).abs() < 1e-13, "{z}: {found} instead of {expected}");
        }
    }

    #[test]
    fn the_quantile_undoes_the_distribution_function() {
        for share in [1e-12, 0.001, 0.025, 0.3, 0.5, 0.8, 0.975, 0.9999] {
            let back = cumulative(quantile(share));
            assert!((back / share - 1.0).abs() < 1e-12, "{share}: {back}");
        }
        // `scipy.stats.norm.ppf(0.975)`.
        assert!((quantile(0.975) - 1.959963984540054).abs() < 1e-13);
        assert!(quantile(1.5).is_nan());
        assert_eq!(quantile(0.0), f64::NEG_INFINITY);
    }
}
