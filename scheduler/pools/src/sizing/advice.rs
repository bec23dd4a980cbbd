//! What follows from use for the workers of a pool.

use super::{Sketch, StepUsage};

/// Attempts below which nothing can be said of the largest in a hundred.
const TASKS_MIN: u64 = 30;
/// The share of attempts that the cores of their slot are enough for: one in twenty waits a little.
const CPU_QUANTILE: f64 = 0.95;
/// The share of attempts that the memory of their slot is enough for. A worker that runs out loses all that it runs,
/// so it is higher.
const MEMORY_QUANTILE: f64 = 0.99;
/// Slots that are recommended at the most for each core, for tasks that only wait.
const SLOTS_A_CORE_MAX: u32 = 4;
/// KiB of a MiB.
const MIB_KIB: u64 = 1_024;

/// What a worker runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    pub cores: u32,
    /// All of its memory; 0 where it isn't known.
    pub memory_bytes: u64,
}

/// How far a recommendation can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// Too few attempts were measured.
    TooFewTasks,
    /// Memory is known as an upper bound, since too few attempts ran alone.
    UpperBound,
    Good,
}

impl Confidence {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::TooFewTasks => "too few tasks",
            Confidence::UpperBound => "upper bound",
            Confidence::Good => "good",
        }
    }
}

/// What is recommended for the workers of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// Slots of each worker, at least 1.
    pub slots: u32,
    /// MiB of each worker; nothing where no memory was measured.
    pub memory_mib: Option<u64>,
    pub confidence: Confidence,
    /// Attempts that it rests on.
    pub tasks: u64,
    /// Thousandths of a core that an attempt keeps busy, but for one in twenty.
    pub cpu_p95: u64,
    /// KiB that an attempt needs, but for one in a hundred.
    pub peak_kib_p99: Option<u64>,
    /// Why, a sentence each.
    pub reasons: Vec<String>,
}

/// Recommends slots and memory for the workers of a pool on this machine; nothing when nothing was measured.
pub fn advise<'a>(steps: impl IntoIterator<Item = &'a StepUsage>, machine: Machine) -> Option<Advice> {
    let mut all = StepUsage::default();
    steps.into_iter().for_each(|step| all.merge(step));
    if all.tasks == 0 {
        return None;
    }
    let mut reasons = vec![format!("{} were measured", counted(all.tasks, "task"))];
    let cores = machine.cores.max(1);
    let share = all.cpu_share.quantile(CPU_QUANTILE).unwrap_or(0);
    let (by_cpu, why) = slots_by_cpu(cores, share);
    reasons.push(why);
    let (peak, is_bound) = peak(&all);
    let by_memory = peak.and_then(|peak| slots_by_memory(peak, all.base_kib, machine.memory_bytes));
    let slots = match by_memory {
        Some(fit) if fit < by_cpu => {
            reasons.push(format!(
                "{} fit into the machine's {} MiB, so there are fewer slots than the cores would allow",
                counted(u64::from(fit), "such task"),
                machine.memory_bytes >> 20
            ));
            fit
        }
        _ => by_cpu,
    };
    let memory_mib = peak.map(|peak| {
        let kib = peak.saturating_mul(u64::from(slots)).saturating_add(all.base_kib);
        kib.div_ceil(MIB_KIB)
    });
    match (peak, memory_mib) {
        (Some(peak), Some(memory)) => {
            let bound = if is_bound { " at the most, as neighbours ran beside them" } else { "" };
            reasons.push(format!(
                "99 in 100 tasks need up to {} MiB{bound}; {slots} times that and {} MiB of the worker's own are \
                 {memory} MiB",
                peak.div_ceil(MIB_KIB),
                all.base_kib.div_ceil(MIB_KIB)
            ));
        }
        _ => reasons.push("no memory was measured: the system doesn't say how much is in use".to_owned()),
    }
    let confidence = if all.tasks < TASKS_MIN {
        reasons.push(format!("with under {TASKS_MIN} tasks it is a guess"));
        Confidence::TooFewTasks
    } else if is_bound {
        Confidence::UpperBound
    } else {
        Confidence::Good
    };
    Some(Advice { slots, memory_mib, confidence, tasks: all.tasks, cpu_p95: share, peak_kib_p99: peak, reasons })
}

/// Slots that keep the cores busy, and why so many.
fn slots_by_cpu(cores: u32, share: u64) -> (u32, String) {
    let most = cores.saturating_mul(SLOTS_A_CORE_MAX);
    let of_cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
    let wanted = u64::from(cores).saturating_mul(1_000).checked_div(share).unwrap_or(u64::from(most));
    let slots = u32::try_from(wanted).unwrap_or(most).clamp(1, most);
    let busy = format!("95 in 100 tasks keep up to {:.2} cores busy", share as f64 / 1e3);
    let why = if slots == most {
        format!("{busy}; {of_cores} would do more, but {SLOTS_A_CORE_MAX} slots a core are enough")
    } else {
        format!("{busy}, so {of_cores} do {}", counted(u64::from(slots), "slot"))
    };
    (slots, why)
}

/// What a task needs in KiB, and whether that is an upper bound only.
fn peak(all: &StepUsage) -> (Option<u64>, bool) {
    let of = |sketch: &Sketch| sketch.quantile(MEMORY_QUANTILE);
    if all.alone_kib.count() >= TASKS_MIN {
        return (of(&all.alone_kib), false);
    }
    match (of(&all.alone_kib), of(&all.shared_kib)) {
        (alone, Some(shared)) => (Some(alone.unwrap_or(0).max(shared)), true),
        (alone, None) => (alone, false),
    }
}

/// Slots whose tasks fit into the machine; nothing where its memory isn't known.
fn slots_by_memory(peak_kib: u64, base_kib: u64, memory_bytes: u64) -> Option<u32> {
    let room = (memory_bytes / 1_024).checked_sub(base_kib).filter(|_| memory_bytes > 0)?;
    let fit = room.checked_div(peak_kib)?;
    Some(u32::try_from(fit).unwrap_or(u32::MAX).max(1))
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::super::{Peak, TaskUse};
    use super::*;

    const MACHINE: Machine = Machine { cores: 8, memory_bytes: 16 << 30 };

    fn usage(tasks: u64, cpu_us: u64, peak: Option<Peak>) -> StepUsage {
        let mut usage = StepUsage { base_kib: 100 << 10, ..StepUsage::default() };
        (0..tasks).for_each(|_| usage.count(TaskUse { wall_us: 1_000_000, cpu_us, peak }));
        usage
    }

    #[test]
    fn slots_follow_from_the_cores_that_tasks_keep_busy() {
        let slots = |cpu_us| advise([&usage(100, cpu_us, None)], MACHINE).expect("measured").slots;
        assert_eq!([950_000, 1_900_000, 460_000, 0, 20_000_000].map(slots), [8, 4, 16, 32, 1]);
    }

    #[test]
    fn memory_is_that_of_the_slots_and_the_worker() {
        let advice = advise([&usage(100, 950_000, Some(Peak::Alone(1_000 << 10)))], MACHINE).expect("measured");
        // An eighth too much at the most.
        let peak = advice.peak_kib_p99.expect("measured");
        assert!((1_024_000..=1_152_000).contains(&peak), "{peak}");
        assert_eq!(advice.memory_mib, Some((peak * 8 + (100 << 10)).div_ceil(1_024)));
        assert_eq!(advice.confidence, Confidence::Good);
        let text = advice.reasons.join("\n");
        assert!(text.contains("100 tasks were measured") && text.contains("8 cores do 8 slots"), "{text}");
    }

    #[test]
    fn what_does_not_fit_gets_fewer_slots() {
        let advice = advise([&usage(100, 500_000, Some(Peak::Shared(3 << 20)))], MACHINE).expect("measured");
        assert_eq!((advice.slots, advice.confidence), (4, Confidence::UpperBound));
        assert!(advice.reasons.iter().any(|why| why.contains("4 such tasks fit")), "{:?}", advice.reasons);
    }

    #[test]
    fn little_is_said_of_few_tasks_and_nothing_of_none() {
        let few = advise([&usage(29, 500_000, None)], MACHINE).expect("measured");
        assert_eq!((few.confidence, few.memory_mib), (Confidence::TooFewTasks, None));
        assert_eq!(advise([], MACHINE), None);
        assert_eq!(advise([&StepUsage::default()], MACHINE), None);
    }
}
