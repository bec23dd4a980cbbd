//! `e^x` with the same bits on every machine: mathematical libraries differ in the last digit, and models
//! have to be byte-identical wherever they are trained. Without branches, so that the compiler computes
//! several at a time.

use std::f64::consts::LOG2_E;

/// The logarithm of 2 in two parts, the first with 32 trailing zero bits so that its products with
/// exponents are exact (Cody and Waite 1980, "Software Manual for the Elementary Functions").
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Adding and taking away 1.5 · 2^52 rounds to a whole number.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// The first 13 coefficients of the series: beyond them nothing changes for |x| <= ln(2)/2.
const SERIES: [f64; 14] = [
    1.0,
    1.0,
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];

/// `e^x` to within two units in the last place; arguments beyond ±700 count as ±700.
#[inline]
pub(crate) fn exp(x: f64) -> f64 {
    let x = x.clamp(-700.0, 700.0);
    let shifted = x * LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = (x - power * LN2_HIGH) - power * LN2_LOW;
    let mut sum = SERIES[13];
    for at in (0..13).rev() {
        sum = sum * rest + SERIES[at];
    }
    // The low bits of the shifted number are the exponent in two's complement.
    let exponent = shifted.to_bits().wrapping_add(1_023) << 52;
    sum * f64::from_bits(exponent)
}

/// `1 / (1 + e^-x)`.
#[inline]
pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_standard_library() {
        for step in -70_000..=70_000 {
            let x = f64::from(step) * 0.01 + 0.003;
            let x = x.clamp(-700.0, 700.0);
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= theirs * 4.5e-16, "e^{x} is {theirs}, not {ours}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e9), exp(-700.0));
    }
}
