//! The table of a search, read once for all trials that this worker makes of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use gristmill_ml::trial::TrialData;
use gristmill_protocol::{Digest, Failure};

/// The last table that was asked for. One is kept: trials of a search come together.
#[derive(Default)]
pub struct TrialTable {
    kept: Mutex<Option<(Digest, Arc<TrialData>)>>,
}

impl fmt::Debug for TrialTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrialTable")
    }
}

impl TrialTable {
    /// The table under this key, read by `read` when it isn't there. Others that ask for it wait for the reading.
    pub(crate) fn get(
        &self,
        key: Digest,
        read: impl FnOnce() -> Result<TrialData, Failure>,
    ) -> Result<Arc<TrialData>, Failure> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, data)) = kept.as_ref().filter(|(of, _)| *of == key) {
            return Ok(data.clone());
        }
        // The last one goes first: two tables may be more than there is memory.
        *kept = None;
        let data = Arc::new(read()?);
        *kept = Some((key, data.clone()));
        Ok(data)
    }

    /// Lets the table go, if it is this one.
    pub(crate) fn forget(&self, key: Digest) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.take_if(|(of, _)| *of == key);
    }
}
