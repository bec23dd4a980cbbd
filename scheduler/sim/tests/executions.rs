//! Thousands of executions, each from its seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gristmill_scheduler_sim::trace::Telling;
use gristmill_scheduler_sim::world::{Outcome, execute};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

fn report(seed: u64, outcome: &Outcome) -> String {
    format!(
        "seed {seed}:\n  {}\nrepeat with: GRISTMILL_SEED={seed} cargo nextest run --release -p gristmill-scheduler-sim \
         --no-capture executions",
        outcome.violations.join("\n  ")
    )
}

/// `GRISTMILL_SEED` repeats one execution and prints all that happens in it; `GRISTMILL_SIM_SEEDS` sets how
/// many there are, `GRISTMILL_SIM_FIRST` which is the first.
#[test]
fn executions_keep_every_promise() {
    if let Some(seed) = number("GRISTMILL_SEED") {
        let log = tracing_subscriber::fmt().without_time().with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "gristmill=debug".into()),
        );
        log.with_writer(std::io::stderr).init();
        let outcome = execute(seed, Telling::Aloud);
        assert!(outcome.violations.is_empty(), "{}", report(seed, &outcome));
        return;
    }
    let seeds = number("GRISTMILL_SIM_SEEDS").unwrap_or(10_000);
    let first = number("GRISTMILL_SIM_FIRST").unwrap_or(0);
    let (next, begin) = (AtomicU64::new(first), Instant::now());
    let wrong = std::sync::Mutex::new(Vec::new());
    let (runs, tasks) = (AtomicU64::new(0), AtomicU64::new(0));
    let virtual_ms = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds || wrong.lock().map_or(true, |wrong| wrong.len() >= 10) {
                        break;
                    }
                    let outcome = match std::panic::catch_unwind(|| execute(seed, Telling::Nothing)) {
                        Ok(outcome) => outcome,
                        Err(panic) => {
                            eprintln!("panic at seed {seed}; repeat with GRISTMILL_SEED={seed}");
                            std::panic::resume_unwind(panic);
                        }
                    };
                    runs.fetch_add(outcome.runs as u64, Ordering::Relaxed);
                    tasks.fetch_add(outcome.tasks, Ordering::Relaxed);
                    virtual_ms.fetch_add(outcome.virtual_time.as_millis() as u64, Ordering::Relaxed);
                    if !outcome.violations.is_empty() {
                        wrong.lock().expect("no check panics under the lock").push(report(seed, &outcome));
                    }
                }
            });
        }
    });
    println!(
        "{seeds} executions in {:?}: {} runs, {} attempts worked on, {:?} of virtual time",
        begin.elapsed(),
        runs.into_inner(),
        tasks.into_inner(),
        Duration::from_millis(virtual_ms.into_inner()),
    );
    let wrong = wrong.into_inner().expect("no check panics under the lock");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_execution() {
    for seed in 0..40 {
        let (first, second) = (execute(seed, Telling::Kept), execute(seed, Telling::Kept));
        assert!(first.trace.len() > 1_000, "a trace says what happened");
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
