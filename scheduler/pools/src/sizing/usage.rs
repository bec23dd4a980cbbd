//! What tasks of a step used.

use serde::{Deserialize, Serialize};

use super::Sketch;

/// Attempts that are remembered: of so many even the largest in a thousand is known well.
const TASKS_MAX: u64 = 100_000;

/// What one attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskUse {
    /// Microseconds in a slot.
    pub wall_us: u64,
    /// Microseconds of all cores together.
    pub cpu_us: u64,
    /// Memory beyond what the worker has without work; nothing where it can't be measured.
    pub peak: Option<Peak>,
}

/// The most memory that was in use while an attempt ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peak {
    /// Nothing else ran on the worker: it is the attempt's, in KiB.
    Alone(u64),
    /// Others ran too: it is theirs as well, so an upper bound, in KiB.
    Shared(u64),
}

/// What attempts of a step in a pool used, all together. Those of several workers can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUsage {
    /// Attempts that were measured.
    pub tasks: u64,
    /// Microseconds in slots, an attempt each.
    pub wall_us: Sketch,
    /// Microseconds of cores, an attempt each.
    pub cpu_us: Sketch,
    /// Cores kept busy in thousandths, an attempt each.
    pub cpu_share: Sketch,
    /// Peak memory in KiB of those that ran alone.
    pub alone_kib: Sketch,
    /// Upper bounds of it in KiB, of those that had neighbours.
    pub shared_kib: Sketch,
    /// The most that a worker had without work, in KiB.
    pub base_kib: u64,
    /// The machine that was seen last.
    pub cores: u32,
    pub memory_bytes: u64,
}

impl StepUsage {
    /// Counts an attempt.
    pub fn count(&mut self, used: TaskUse) {
        self.tasks += 1;
        self.wall_us.add(used.wall_us);
        self.cpu_us.add(used.cpu_us);
        // Of shorter ones the share says more about the clock than about the task.
        if used.wall_us >= 1_000 {
            self.cpu_share.add(used.cpu_us.saturating_mul(1_000) / used.wall_us);
        }
        match used.peak {
            Some(Peak::Alone(kib)) => self.alone_kib.add(kib),
            Some(Peak::Shared(kib)) => self.shared_kib.add(kib),
            None => {}
        }
    }

    /// Forgets a half of what was counted once that is much, so that what holds now weighs more than what held then.
    pub fn fade(&mut self) {
        while self.tasks > TASKS_MAX {
            self.tasks /= 2;
            let all = [&mut self.wall_us, &mut self.cpu_us, &mut self.cpu_share];
            all.into_iter().chain([&mut self.alone_kib, &mut self.shared_kib]).for_each(Sketch::halve);
        }
    }

    /// Adds what was counted elsewhere, later.
    pub fn merge(&mut self, other: &StepUsage) {
        self.tasks = self.tasks.saturating_add(other.tasks);
        self.wall_us.merge(&other.wall_us);
        self.cpu_us.merge(&other.cpu_us);
        self.cpu_share.merge(&other.cpu_share);
        self.alone_kib.merge(&other.alone_kib);
        self.shared_kib.merge(&other.shared_kib);
        self.base_kib = self.base_kib.max(other.base_kib);
        if other.cores > 0 {
            (self.cores, self.memory_bytes) = (other.cores, other.memory_bytes);
        }
    }
}
