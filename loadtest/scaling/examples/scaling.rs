//! Simulated scaling by hand: `scaling rules|growth|large|day [SIZE] [SEED]`.

use std::time::Instant;

use gristmill_scaling::scenarios::{full_day, growth, is_well, large, rules};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, usual: u64| words.get(at).map_or(usual, |word| word.parse().expect("a number"));
    let seed = number(2, 7);
    let began = Instant::now();
    match words.first().map(String::as_str) {
        Some("rules") => {
            rules(number(1, 1_000) as u32, seed, |one| {
                let (outcome, quantile) = (&one.outcome, |share| one.outcome.waits.quantile(share).unwrap_or(0.0));
                println!(
                    "{:18} {:11} paid {:9.0} s  optimum {:9.0} s  ratio {:.3}  work {:9.0} s  p50 {:6.1} s  p95 {:6.1} s  starts {:6}  most {:5}  left {}  {}",
                    one.shape.name(),
                    one.rule,
                    outcome.paid_s,
                    one.optimum_s,
                    one.ratio(),
                    outcome.work_s,
                    quantile(0.5),
                    quantile(0.95),
                    outcome.starts,
                    outcome.most_workers,
                    outcome.left_workers,
                    is_well(outcome),
                );
            });
        }
        Some("growth") => {
            growth(number(1, 1_000_000) as u32, seed, |one| {
                println!(
                    "{:8} {:8}  {:6.2} µs a task  longest turn {:6.1} ms  {:8.1} s imagined  {}",
                    one.what, one.size, one.core_us, one.longest_turn_ms, one.ended_s, one.passed
                );
            });
        }
        Some("large") => {
            for loses in [false, true] {
                let outcome = large(number(1, 1_000_000) as u32, 10_000, loses, seed);
                println!(
                    "{} tasks  {:.1} s imagined  {} workers lost  core {:.1} s  longest turn {:.1} ms  {}",
                    outcome.tasks,
                    outcome.ended_s,
                    outcome.lost_workers,
                    outcome.core.as_secs_f64(),
                    outcome.longest_turn.as_secs_f64() * 1e3,
                    is_well(&outcome)
                );
            }
        }
        Some("day") => {
            let (outcome, optimum_s) = full_day(number(1, 100_000) as u32, 1_000, seed);
            println!(
                "{} runs  {} tasks  paid {:.0} s  ratio {:.3}  p95 {:.1} s  {} workers lost  {}",
                outcome.runs,
                outcome.tasks,
                outcome.paid_s,
                outcome.paid_s / optimum_s,
                outcome.waits.quantile(0.95).unwrap_or(0.0),
                outcome.lost_workers,
                is_well(&outcome)
            );
        }
        _ => eprintln!("usage: scaling rules|growth|large|day [SIZE] [SEED]"),
    }
    println!("{:.1} s", began.elapsed().as_secs_f64());
}
