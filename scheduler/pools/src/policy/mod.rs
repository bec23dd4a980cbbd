//! stub
#![allow(missing_docs)]
use gristmill_protocol::Timestamp;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub min: u32,
    pub max: u32,
    pub slots: u32,
    pub drain_ms: u64,
    pub start_up_ms: u64,
    pub idle_ms: u64,
}
impl Rules {
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
#[derive(Clone, Debug, Default)]
pub struct Memory {}
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    pub now: Timestamp,
    pub ready: u64,
    pub out: u64,
    pub work_ms: u64,
    pub unknown: u64,
    pub live: u32,
    pub starting: u32,
    pub draining: u32,
}
#[derive(Clone, Debug)]
pub struct Decision {
    pub wanted: u32,
    pub why: String,
}
pub fn decide(rules: &Rules, _memory: &mut Memory, sight: &Sight) -> Decision {
    Decision { wanted: ((sight.ready + sight.out) as u32).clamp(rules.min, rules.max), why: "stub".into() }
}
