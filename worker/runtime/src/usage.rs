//! What attempts use of the machine: cores and memory.
//!
//! The process is read ten times a second while anything runs. What its cores did since the last time is shared among
//! the attempts that ran, by how long each ran in between; the memory in use counts for each of them, exactly where one
//! ran alone and as an upper bound where not. Shorter attempts than that are read together with their neighbours in
//! time. Every ten seconds what was seen is added to the documents `usage/POOL/STEP`.
//!
//! Only Linux says what is read here (`/proc/self`); elsewhere times are counted, and no memory. Processes that a task
//! starts count with their processor time once they have ended and were waited for, and not with their memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gristmill_backends::state::{State, StateError};
use gristmill_pools::sizing::{Peak, StepUsage, TaskUse};
use gristmill_protocol::AttemptRef;
use gristmill_protocol::limits::{USAGE_FLUSH_MS, USAGE_SAMPLE_MS, USAGE_SAMPLED_MAX, USAGE_STEPS_MAX};
use tracing::warn;

/// What stands for steps that have no measures of their own.
const OTHERS: &str = "…";
/// How often a document is read again that another worker has written meanwhile; each race has a winner.
const RACES_MAX: usize = 100;
/// Microseconds of a clock tick in `/proc/self/stat`: Linux tells a hundred a second on every machine.
const TICK_US: u64 = 10_000;

/// Measures what a worker's attempts use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    shared: Arc<Mutex<Shared>>,
}

/// Pool and step.
type Key = (String, String);

#[derive(Debug, Default)]
struct Shared {
    running: BTreeMap<AttemptRef, Running>,
    /// Attempts that ended since the last reading, and when.
    ended: Vec<(Running, Instant)>,
    last: Option<(Instant, Reading)>,
    /// Memory in KiB before the first attempt.
    base_kib: Option<u64>,
    /// What is to be written.
    sums: BTreeMap<Key, StepUsage>,
}

#[derive(Debug)]
struct Running {
    key: Key,
    started: Instant,
    cpu_us: u64,
    peak_kib: Option<u64>,
    alone: bool,
}

/// What the system says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reading {
    cpu_us: u64,
    memory_kib: Option<u64>,
}

impl Usage {
    /// Nothing measured yet.
    pub fn new() -> Usage {
        Usage::default()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code panics while it holds the lock; what is there is whole.
        self.shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// An attempt begins.
    pub(crate) fn begin(&self, attempt: AttemptRef, pool: &str, step: &str) {
        let mut shared = self.lock();
        let now = Instant::now();
        if shared.running.is_empty() && shared.ended.is_empty() {
            // What was done before is nobody's.
            let reading = read();
            shared.base_kib = shared.base_kib.or(reading.memory_kib);
            shared.last = Some((now, reading));
        }
        let key = (pool.to_owned(), step.to_owned());
        let running = Running { key, started: now, cpu_us: 0, peak_kib: None, alone: true };
        shared.running.insert(attempt, running);
    }

    /// An attempt has ended.
    pub(crate) fn end(&self, attempt: AttemptRef) {
        let mut shared = self.lock();
        let Some(running) = shared.running.remove(&attempt) else { return };
        if shared.ended.len() < USAGE_SAMPLED_MAX {
            shared.ended.push((running, Instant::now()));
        }
    }

    /// Measures until dropped, and writes down what it has seen. Runs beside the heartbeat, where work doesn't starve it.
    pub async fn run(self, state: Arc<dyn State>) {
        let mut written = tokio::time::Instant::now();
        let mut is_away = false;
        loop {
            tokio::time::sleep(Duration::from_millis(USAGE_SAMPLE_MS)).await;
            self.sample();
            if written.elapsed() < Duration::from_millis(USAGE_FLUSH_MS) {
                continue;
            }
            written = tokio::time::Instant::now();
            match self.write(&*state).await {
                Ok(()) => is_away = false,
                Err(error) if !std::mem::replace(&mut is_away, true) => {
                    warn!(error = &error as &dyn std::error::Error, "what tasks use can't be written down");
                }
                Err(_) => {}
            }
        }
    }

    /// Writes down what is left, when the worker has ended.
    pub async fn flush(&self, state: &dyn State) -> Result<(), StateError> {
        self.sample();
        self.write(state).await
    }

    /// Reads what the process has used since the last time.
    fn sample(&self) {
        let mut shared = self.lock();
        if !shared.running.is_empty() || !shared.ended.is_empty() {
            shared.take(Instant::now(), read());
        }
    }

    async fn write(&self, state: &dyn State) -> Result<(), StateError> {
        let mut sums = std::mem::take(&mut self.lock().sums);
        let mut failed = None;
        while let Some((key, mut usage)) = sums.pop_first() {
            (usage.cores, usage.memory_bytes) = machine();
            if let Err(error) = add(state, &key, &usage).await {
                sums.insert(key, usage);
                failed = Some(error);
                break;
            }
        }
        // What couldn't be written is written with what comes.
        let mut shared = self.lock();
        for (key, usage) in sums {
            shared.sums.entry(key).or_default().merge(&usage);
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Shared {
    /// Takes a reading into account.
    fn take(&mut self, now: Instant, reading: Reading) {
        let (since, before) = self.last.replace((now, reading)).unwrap_or((now, reading));
        let cpu_us = reading.cpu_us.saturating_sub(before.cpu_us);
        let base = self.base_kib.unwrap_or(0);
        let peak_kib = reading.memory_kib.map(|memory| memory.saturating_sub(base));
        let ran = |from: Instant, until: Instant| until.saturating_duration_since(from.max(since)).as_micros() as u64;
        let running = self.running.values().map(|running| ran(running.started, now));
        let ended = self.ended.iter().map(|(ended, at)| ran(ended.started, *at));
        let whole = running.chain(ended).sum::<u64>().max(1);
        let alone = self.running.len() + self.ended.len() == 1;
        let share = |running: &mut Running, until: Instant| {
            let part = u128::from(cpu_us) * u128::from(ran(running.started, until)) / u128::from(whole);
            running.cpu_us += u64::try_from(part).unwrap_or(u64::MAX);
            running.peak_kib = running.peak_kib.max(peak_kib);
            running.alone &= alone;
        };
        self.running.values_mut().for_each(|running| share(running, now));
        for (mut running, at) in std::mem::take(&mut self.ended) {
            share(&mut running, at);
            let wall_us = at.saturating_duration_since(running.started).as_micros() as u64;
            let peak = running.peak_kib.map(|kib| if running.alone { Peak::Alone(kib) } else { Peak::Shared(kib) });
            let (pool, step) = running.key;
            let is_known = self.sums.len() < USAGE_STEPS_MAX || self.sums.contains_key(&(pool.clone(), step.clone()));
            let key = (pool, if is_known { step } else { OTHERS.to_owned() });
            let usage = self.sums.entry(key).or_default();
            usage.base_kib = usage.base_kib.max(base);
            usage.count(TaskUse { wall_us, cpu_us: running.cpu_us, peak });
        }
    }
}

/// Adds what was seen to the document of a pool's step.
async fn add(state: &dyn State, (pool, step): &Key, seen: &StepUsage) -> Result<(), StateError> {
    let prefix = format!("usage/{pool}/");
    let mut key = format!("{prefix}{step}");
    let mut race = 0;
    loop {
        let found = state.get(&key).await?;
        if found.is_none() && !key.ends_with(OTHERS) {
            let known = state.keys(&prefix, "", USAGE_STEPS_MAX).await?;
            if known.len() >= USAGE_STEPS_MAX {
                key = format!("{prefix}{OTHERS}");
                continue;
            }
        }
        // What another version wrote in another way isn't worth keeping.
        let (version, mut usage) = found.map_or_else(Default::default, |found| {
            (found.version, serde_json::from_slice::<StepUsage>(&found.body).unwrap_or_default())
        });
        usage.merge(seen);
        usage.fade();
        let body = serde_json::to_vec(&usage).expect("plain data");
        match state.put(&key, version, body).await {
            Err(StateError::Conflict { .. }) if race < RACES_MAX => race += 1,
            written => return written.map(|_| ()),
        }
    }
}

/// What this process has used and has in memory; nothing where the system doesn't say.
fn read() -> Reading {
    let cpu_us = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_us(&stat)).unwrap_or(0);
    let memory_kib = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| kib(&status, "VmRSS:"));
    Reading { cpu_us, memory_kib }
}

/// Microseconds of processor time in `/proc/self/stat`: of this process, and of those that it waited for.
fn cpu_us(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything, also parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    // utime, stime, cutime and cstime are the 14th to the 17th field; the rest begins with the third.
    let ticks = rest.split_ascii_whitespace().skip(11).take(4).map(|field| field.parse::<u64>().unwrap_or(0));
    Some(ticks.sum::<u64>() * TICK_US)
}

/// The value of a line like `VmRSS:     1234 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Cores and bytes of memory that this process may use; no bytes where the system doesn't say.
fn machine() -> (u32, u64) {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX));
    let all = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib(&text, "MemTotal:"));
    let all = all.map(|kib| kib.saturating_mul(1_024));
    // A container's limit; `max` where it has none.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    (cores, [all, limit].into_iter().flatten().min().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use gristmill_backends::state::StoreId;
    use gristmill_backends::state::memory::{MemoryStore, SharedMemory};
    use gristmill_backends::state::model::Ageing;
    use gristmill_protocol::{RunId, TaskKey, Timestamp};

    use super::*;

    fn attempt(index: u32) -> AttemptRef {
        AttemptRef { run: RunId::from_u128(1), task: TaskKey { index, tag: 0 }, attempt: 1 }
    }

    fn running(step: &str, started: Instant) -> Running {
        let key = ("default".to_owned(), step.to_owned());
        Running { key, started, cpu_us: 0, peak_kib: None, alone: true }
    }

    #[test]
    fn cores_are_shared_by_time_and_memory_is_everybodys() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let reading = |cpu_ms: u64, memory_kib: u64| Reading { cpu_us: cpu_ms * 1_000, memory_kib: Some(memory_kib) };
        let mut shared = Shared { last: Some((start, reading(0, 1_000))), base_kib: Some(1_000), ..Shared::default() };
        shared.running.insert(attempt(1), running("alone", start));
        shared.take(at(100), reading(80, 5_000));
        let alone = shared.running.remove(&attempt(1)).expect("it runs");
        assert_eq!((alone.cpu_us, alone.peak_kib, alone.alone), (80_000, Some(4_000), true));
        shared.ended.push((alone, at(100)));
        shared.take(at(200), reading(80, 3_000));
        // Two run, one of them for a third of the time.
        shared.running.insert(attempt(2), running("long", at(200)));
        shared.running.insert(attempt(3), running("short", at(200)));
        let short = shared.running.remove(&attempt(3)).expect("it runs");
        shared.ended.push((short, at(250)));
        shared.take(at(300), reading(230, 9_000));
        let of = |step: &str| &shared.sums[&("default".to_owned(), step.to_owned())];
        assert_eq!(of("alone").alone_kib.quantile(1.0), Some(4_095), "4,000 within an eighth");
        assert!(of("short").alone_kib.is_empty() && !of("short").shared_kib.is_empty());
        let told = of("short").cpu_us.quantile(1.0).expect("it is counted");
        assert!((50_000..=56_250).contains(&told), "a third of 150 ms: {told}");
        assert_eq!(shared.running[&attempt(2)].cpu_us, 100_000);
        assert_eq!((of("short").tasks, of("short").base_kib), (1, 1_000));
    }

    #[tokio::test]
    async fn what_workers_see_comes_together_in_a_document_a_step() {
        let store = MemoryStore::new(StoreId(1), Ageing::ByDeadline);
        let state = SharedMemory::new(store, Timestamp(0));
        let workers = [Usage::new(), Usage::new()];
        for worker in &workers {
            for index in 0..20 {
                worker.begin(attempt(index), "default", "train");
                worker.end(attempt(index));
            }
        }
        let (first, second) = (workers[0].flush(&state), workers[1].flush(&state));
        let (first, second) = futures_util::future::join(first, second).await;
        first.and(second).expect("written");
        let found = state.get("usage/default/train").await.expect("read").expect("it is there");
        let usage: StepUsage = serde_json::from_slice(&found.body).expect("it can be read");
        assert_eq!(usage.tasks, 40);
        assert!(usage.cores > 0);
        if cfg!(target_os = "linux") {
            assert!(usage.base_kib > 0 && usage.memory_bytes > 0, "{usage:?}");
        }
        workers[0].flush(&state).await.expect("there is nothing to write");
        assert_eq!(state.get("usage/default/train").await.expect("read").expect("there").version, found.version);
    }

    #[tokio::test]
    async fn more_steps_than_are_kept_are_summed_up() {
        let store = MemoryStore::new(StoreId(1), Ageing::ByDeadline);
        let state = SharedMemory::new(store, Timestamp(0));
        for batch in 0..2 {
            let usage = Usage::new();
            for step in 0..400 {
                usage.begin(attempt(0), "default", &format!("s{batch}-{step}"));
                usage.end(attempt(0));
            }
            usage.flush(&state).await.expect("written");
        }
        let keys = state.keys("usage/default/", "", 2_000).await.expect("read");
        assert_eq!(keys.len(), USAGE_STEPS_MAX + 1);
        let found = state.get("usage/default/…").await.expect("read").expect("it is there");
        let usage: StepUsage = serde_json::from_slice(&found.body).expect("it can be read");
        assert_eq!(usage.tasks, 300);
    }

    #[test]
    fn the_system_is_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 12 3 4 1 20 0 9 0 100 0 0";
        assert_eq!(cpu_us(stat), Some(20 * TICK_US));
        assert_eq!(kib("VmPeak:\t 9 kB\nVmRSS:\t   1234 kB\n", "VmRSS:"), Some(1_234));
        assert_eq!((cpu_us("nonsense"), kib("", "VmRSS:")), (None, None));
    }
}
