//! A pool's rules: options before the table `[pools.NAME]` of the settings, before what is usual.

use std::collections::BTreeMap;

use gristmill_pools::policy::Rules;
use serde::Deserialize;

use crate::cli::PoolArgs;
use crate::problem::Problem;

/// Seconds in which a backlog is to be worked off: a minute is what people wait for a batch without asking.
const DRAIN_TIME: f64 = 60.0;
/// Seconds that a worker takes to start, as measured on a laptop with servers beside; `gristmill pool` measures its own.
const START_UP: f64 = 1.0;

/// The table `[pools.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSettings {
    pub min: Option<u32>,
    pub max: Option<u32>,
    pub slots: Option<u32>,
    /// MiB of each worker.
    pub memory: Option<u64>,
    pub drain_time: Option<f64>,
    pub start_up: Option<f64>,
    pub idle: Option<f64>,
    /// Labels that its workers must have.
    #[serde(default)]
    pub requires: BTreeMap<String, String>,
}

impl PoolSettings {
    /// These settings, where options say nothing else.
    pub fn under(&self, args: &PoolArgs) -> PoolSettings {
        PoolSettings {
            min: args.min.or(self.min),
            max: args.max.or(self.max),
            slots: args.slots.or(self.slots),
            memory: args.memory.or(self.memory),
            drain_time: args.drain_time.or(self.drain_time),
            start_up: args.start_up.or(self.start_up),
            idle: args.idle.or(self.idle),
            requires: self.requires.clone(),
        }
    }

    /// Slots of each worker: one, unless said.
    pub fn slots(&self) -> u32 {
        self.slots.unwrap_or(1)
    }

    /// What the policy takes, checked.
    pub fn rules(&self, pool: &str) -> anyhow::Result<Rules> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        let ms = |key: &str, seconds: f64| -> anyhow::Result<u64> {
            match (0.0..=86_400.0).contains(&seconds) {
                true => Ok((seconds * 1_000.0) as u64),
                false => Err(Problem::usage(format!(
                    "`{key}` of pool `{pool}` is {seconds} s; between 0 and a day is wanted"
                ))
                .into()),
            }
        };
        let start_up_ms = ms("start_up", self.start_up.unwrap_or(START_UP))?;
        let rules = Rules {
            min: self.min.unwrap_or(0),
            max: self.max.unwrap_or_else(|| cores.max(self.min.unwrap_or(0))),
            slots: self.slots(),
            drain_ms: ms("drain_time", self.drain_time.unwrap_or(DRAIN_TIME))?,
            start_up_ms,
            idle_ms: self.idle.map_or(Ok(Rules::idle_ms_for(start_up_ms)), |idle| ms("idle", idle))?,
        };
        rules.check().map_err(|error| {
            Problem::usage(format!("pool `{pool}`: {error}"))
                .hint("see `gristmill pool --help`, or `[pools]` in `gristmill.toml`")
        })?;
        Ok(rules)
    }
}

/// Says which labels a worker lacks for a pool.
pub fn lacking(requires: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> Option<String> {
    let lacks = requires.iter().filter(|(key, value)| labels.get(*key) != Some(*value));
    let named: Vec<String> = lacks.map(|(key, value)| format!("{key}={value}")).collect();
    (!named.is_empty()).then(|| named.join(", "))
}
