//! Every rule of delivery is left out once, and the checker has to notice: a rule without that isn't tested.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gristmill_protocol::twins::{Twin, leave_out};
use gristmill_scheduler_sim::trace::Telling;
use gristmill_scheduler_sim::world::execute;

/// Executions within which a rule that is left out has to show.
const EXECUTIONS_MAX: u64 = 5_000;
/// The name of threads whose panics are an expected way of being caught.
const THREAD: &str = "twin";

/// Rules that the rest of the rules make needless as far as this checker can see, each with the reason and the
/// other rule to be left out with it, so that it shows.
const COVERED: &[(Twin, Twin, &str)] = &[];

/// How a twin was caught.
struct Caught {
    executions: u64,
    what: String,
}

/// `GRISTMILL_TWIN` names the one to be looked at.
#[test]
fn every_rule_that_is_left_out_is_noticed() {
    be_silent_about_twins();
    let chosen = std::env::var("GRISTMILL_TWIN").ok();
    let is_asked = |twin: &Twin| chosen.as_ref().is_none_or(|name| *name == format!("{twin:?}"));
    let twins: Vec<Twin> = Twin::ALL.into_iter().filter(is_asked).collect();
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let thread = std::thread::Builder::new().name(THREAD.to_owned());
            let work = || {
                while let Some(twin) = twins.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if !is_noticed(*twin) {
                        missed.lock().expect("nothing panics under the lock").push(*twin);
                    }
                }
            };
            thread.spawn_scoped(scope, work).expect("a thread");
        }
    });
    let missed = missed.into_inner().expect("nothing panics under the lock");
    assert!(missed.is_empty(), "left out and not noticed within {EXECUTIONS_MAX} executions: {missed:?}");
}

/// Leaves a rule out, with the one that covers it where there is one, and says what came of it.
fn is_noticed(twin: Twin) -> bool {
    let covered = COVERED.iter().find(|(covered, ..)| *covered == twin);
    let (twins, why) = match covered {
        Some((_, other, why)) => (vec![twin, *other], format!(" (with {other:?}: {why})")),
        None => (vec![twin], String::new()),
    };
    let begin = std::time::Instant::now();
    let caught = catch(&twins);
    let took = begin.elapsed();
    match &caught {
        Some(Caught { executions, what }) => {
            println!("{twin:?}{why}: caught by execution {executions} in {took:?}: {what}");
        }
        None => println!("{twin:?}{why}: NOT caught in {took:?}"),
    }
    caught.is_some()
}

/// Runs executions with the rules left out until one breaks a promise.
fn catch(twins: &[Twin]) -> Option<Caught> {
    leave_out(twins);
    let outcome = (0..EXECUTIONS_MAX).find_map(|seed| {
        let what = match catch_unwind(AssertUnwindSafe(|| execute(seed, Telling::Nothing))) {
            Ok(outcome) => outcome.violations.into_iter().next()?,
            Err(panic) => format!("panic: {}", text_of(&*panic)),
        };
        Some(Caught { executions: seed + 1, what })
    });
    leave_out(&[]);
    outcome
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of something that isn't text")
}

/// Broken executions may panic; what they say then is told with the rest.
fn be_silent_about_twins() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some(THREAD) {
            loud(info);
        }
    }));
}
