//! What gates said of a model, as a validate step leaves it: JSON with the model's digest and each gate's answer.

use gristmill_protocol::Digest;
use serde::Deserialize;

/// The part of an evaluation that a promotion goes by.
#[derive(Debug, Deserialize)]
pub(crate) struct Evidence {
    /// The model that was measured.
    model: Digest,
    gates: Vec<Gate>,
}

#[derive(Debug, Deserialize)]
struct Gate {
    passed: bool,
    message: String,
}

/// What evidence says of a model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// What the gates that said no gave as their reasons.
    Rejected(String),
    OtherModel,
}

impl Evidence {
    pub fn read(bytes: &[u8]) -> Result<Evidence, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub fn verdict(&self, model: Digest) -> Verdict {
        if self.model != model {
            return Verdict::OtherModel;
        }
        let said_no: Vec<&str> =
            self.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.message.as_str()).collect();
        if said_no.is_empty() { Verdict::Passed } else { Verdict::Rejected(said_no.join("; ")) }
    }
}
