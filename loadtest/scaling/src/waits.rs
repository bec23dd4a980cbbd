//! How long tasks waited, from their run's submission to their start.

/// Waits in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waits(Vec<u32>);

impl Waits {
    pub(crate) fn add(&mut self, wait_ms: u64) {
        self.0.push(u32::try_from(wait_ms).unwrap_or(u32::MAX));
    }

    pub(crate) fn sort(&mut self) {
        self.0.sort_unstable();
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The wait in seconds that this share of tasks doesn't exceed; nothing without tasks.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let at = (share * self.0.len() as f64).ceil() as usize;
        Some(f64::from(self.0[at.saturating_sub(1).min(last)]) / 1_000.0)
    }
}
