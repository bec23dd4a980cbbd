//! Numbers along an axis.

/// A pixel as it stands in an attribute: to a tenth, so that equal charts are equal bytes; never NaN.
pub fn px(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Values between two, both included, that are 1, 2 or 5 times a power of ten apart: some `about` of them, and never more
/// than 50. None where `to` isn't above `from`.
pub fn round_values(from: f64, to: f64, about: usize) -> Vec<f64> {
    let rough = (to - from) / about.max(1) as f64;
    if !rough.is_finite() || rough <= 0.0 {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = match rough / power {
        r if r < 1.5 => power,
        r if r < 3.5 => 2.0 * power,
        r if r < 7.5 => 5.0 * power,
        _ => 10.0 * power,
    };
    let (first, last) = ((from / step - 1e-9).ceil() as i64, (to / step + 1e-9).floor() as i64);
    (first..=last).take(50).map(|at| at as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_round_and_within() {
        assert_eq!(round_values(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(round_values(-37.0, 1_290.0, 5), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0, 1_200.0]);
        assert_eq!(round_values(3.0, 3.0, 5), [0.0; 0]);
        assert_eq!(round_values(f64::NAN, 3.0, 5), [0.0; 0]);
    }

    #[test]
    fn pixels_are_short_and_never_nan() {
        assert_eq!([f64::NAN, -0.01, 1.25, 3.0].map(px), ["0", "0", "1.2", "3"]);
    }
}
