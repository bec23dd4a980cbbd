//! Running units on threads: in any order, stoppable, and with a fault in one of them contained.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::TrainError;

/// How training runs. Nothing here changes what is learned.
pub struct Control<'a> {
    /// Threads at the most.
    pub threads: usize,
    /// Set to stop; training looks at it between units.
    pub stop: &'a AtomicBool,
    /// Told after each unit how many are done, and of how many.
    pub progress: &'a (dyn Fn(u32, u32) + Sync),
}

impl Control<'_> {
    /// Runs every unit of the range and returns the results in their order. The first failure stops the rest.
    pub(super) fn run<T: Send>(
        &self,
        algorithm: &'static str,
        range: Range<u32>,
        work: impl Fn(u32) -> Result<T, TrainError> + Sync,
    ) -> Result<Vec<T>, TrainError> {
        let total = range.end.saturating_sub(range.start);
        let next = AtomicU32::new(range.start);
        let results: Mutex<Vec<(u32, Result<T, TrainError>)>> = Mutex::new(Vec::with_capacity(total as usize));
        let failed = AtomicBool::new(false);
        let worker = || {
            loop {
                if failed.load(Ordering::Relaxed) || self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let unit = next.fetch_add(1, Ordering::Relaxed);
                if unit >= range.end {
                    return;
                }
                // A unit that panicked leaves nothing behind that another looks at.
                let result = catch_unwind(AssertUnwindSafe(|| work(unit)))
                    .unwrap_or_else(|panic| Err(TrainError::Panicked { algorithm, message: panic_message(&*panic) }));
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                let mut results = results.lock().expect("no thread panics while it holds the results");
                results.push((unit, result));
                let done = u32::try_from(results.len()).unwrap_or(u32::MAX);
                drop(results);
                // A single unit tells its own progress, if it can.
                if total > 1 {
                    (self.progress)(done, total);
                }
            }
        };
        let threads = self.threads.clamp(1, (total as usize).max(1));
        if threads == 1 {
            worker();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(worker);
                }
            });
        }
        let mut results = results.into_inner().expect("no thread panics while it holds the results");
        results.sort_by_key(|(unit, _)| *unit);
        let done = results.len();
        let units = results.into_iter().map(|(_, result)| result).collect::<Result<Vec<T>, TrainError>>()?;
        if done < total as usize { Err(TrainError::Stopped) } else { Ok(units) }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control<'a>(threads: usize, stop: &'a AtomicBool) -> Control<'a> {
        Control { threads, stop, progress: &|_, _| {} }
    }

    #[test]
    fn results_come_in_order_whatever_the_threads() {
        let stop = AtomicBool::new(false);
        for threads in [1, 2, 5] {
            let results = control(threads, &stop).run("test", 3..20, |unit| Ok(unit * 2)).unwrap();
            assert_eq!(results, (3..20).map(|unit| unit * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let stop = AtomicBool::new(false);
        let result = control(2, &stop).run("test", 0..4, |unit| if unit == 2 { panic!("broken") } else { Ok(unit) });
        assert_eq!(result.unwrap_err().to_string(), "fitting `test` panicked: broken");
    }

    #[test]
    fn stopping_leaves_the_rest_undone() {
        let stop = AtomicBool::new(false);
        let result = control(1, &stop).run("test", 0..4, |unit| {
            stop.store(unit == 1, Ordering::Relaxed);
            Ok(unit)
        });
        assert!(matches!(result, Err(TrainError::Stopped)));
    }
}
