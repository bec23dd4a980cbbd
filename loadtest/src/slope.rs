//! Whether something grows: a straight line through samples, with how sure its slope is.

/// A straight line through samples, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Change of the value for each unit of x.
    pub per_x: f64,
    /// Half the width of the 95 % confidence interval of `per_x`.
    pub margin: f64,
    pub mean: f64,
    /// From the first x to the last.
    pub width: f64,
}

impl Slope {
    /// Fits the line; nothing for fewer than three samples, or samples of one x alone.
    ///
    /// Samples that follow closely resemble each other (what a process has it keeps), which makes the plain interval
    /// too narrow. It is widened by the autocorrelation of the residuals at distance one, r: n samples are worth
    /// n (1 - r) / (1 + r) (Santer et al. 2000, "Statistical significance of trends", section 4).
    pub fn fit(points: &[(f64, f64)]) -> Option<Slope> {
        let count = points.len() as f64;
        if points.len() < 3 {
            return None;
        }
        let (x_mean, y_mean) =
            (points.iter().map(|(x, _)| x).sum::<f64>() / count, points.iter().map(|(_, y)| y).sum::<f64>() / count);
        let x_square: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
        let product: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
        if x_square <= 0.0 || !product.is_finite() {
            return None;
        }
        let per_x = product / x_square;
        let residuals: Vec<f64> = points.iter().map(|(x, y)| y - y_mean - per_x * (x - x_mean)).collect();
        let square: f64 = residuals.iter().map(|residual| residual * residual).sum();
        let alike: f64 = residuals.windows(2).map(|pair| pair[0] * pair[1]).sum();
        let correlation = if square > 0.0 { (alike / square).clamp(0.0, 0.95) } else { 0.0 };
        let worth = (count * (1.0 - correlation) / (1.0 + correlation)).max(3.0);
        let error = (square / (worth - 2.0) / x_square).sqrt();
        let first_and_last = points.iter().fold((f64::MAX, f64::MIN), |(a, b), (x, _)| (a.min(*x), b.max(*x)));
        let width = first_and_last.1 - first_and_last.0;
        Some(Slope { per_x, margin: student(worth - 2.0) * error, mean: y_mean, width })
    }

    /// How much the value grew over all samples at the least, with 95 % confidence: the lower end of the interval.
    pub fn proven_growth(&self) -> f64 {
        (self.per_x - self.margin) * self.width
    }

    /// Whether it grew by more than `tolerated` beyond what chance explains.
    pub fn grows(&self, tolerated: f64) -> bool {
        self.proven_growth() > tolerated
    }
}

/// The 97.5 % point of Student's distribution, from a table; between its lines the larger value holds.
fn student(freedom: f64) -> f64 {
    const TABLE: [(f64, f64); 10] = [
        (60.0, 2.000),
        (30.0, 2.042),
        (20.0, 2.086),
        (15.0, 2.131),
        (10.0, 2.228),
        (7.0, 2.365),
        (5.0, 2.571),
        (3.0, 3.182),
        (2.0, 4.303),
        (1.0, 12.706),
    ];
    TABLE.iter().find(|(from, _)| freedom >= *from).map_or(12.706, |(_, point)| *point)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that repeats, without a trend.
    fn noise(at: usize) -> f64 {
        let mixed = (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 31)) >> 40) as f64 / (1u64 << 24) as f64 - 0.5
    }

    #[test]
    fn a_line_is_found_exactly() {
        let points: Vec<_> = (0..50).map(|at| (f64::from(at) * 10.0, 100.0 + 3.0 * f64::from(at))).collect();
        let slope = Slope::fit(&points).expect("a line");
        assert!((slope.per_x - 0.3).abs() < 1e-12 && slope.margin < 1e-9 && slope.width == 490.0);
        assert!(slope.grows(140.0) && !slope.grows(150.0));
    }

    #[test]
    fn noise_does_not_grow() {
        let points: Vec<_> = (0..180).map(|at| (at as f64 * 10.0, 100.0 + 20.0 * noise(at))).collect();
        let slope = Slope::fit(&points).expect("a line");
        assert!(slope.per_x.abs() < slope.margin, "{slope:?}");
        assert!(!slope.grows(0.0));
    }

    #[test]
    fn growth_under_noise_is_seen() {
        let points: Vec<_> =
            (0..180).map(|at| (at as f64 * 10.0, 100.0 + 20.0 * noise(at) + at as f64 * 0.2)).collect();
        assert!(Slope::fit(&points).expect("a line").grows(20.0));
    }

    #[test]
    fn samples_that_hang_together_prove_less() {
        let steps: Vec<_> = (0..60).map(|at| (f64::from(at), f64::from((at / 20) % 2))).collect();
        let mixed: Vec<_> = (0..60).map(|at| (f64::from(at), f64::from(at % 2))).collect();
        let (steps, mixed) = (Slope::fit(&steps).expect("a line"), Slope::fit(&mixed).expect("a line"));
        assert!(steps.margin > 2.0 * mixed.margin, "{steps:?} {mixed:?}");
    }

    #[test]
    fn too_few_samples_have_no_slope() {
        assert_eq!(Slope::fit(&[(0.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Slope::fit(&[(1.0, 1.0); 9]), None);
    }
}
