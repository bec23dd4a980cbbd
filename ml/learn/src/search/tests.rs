use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::chance::Chance;

/// A space from text as people write it.
fn space(json: &str) -> Space {
    serde_json::from_str(json).expect("a space")
}

fn two_estimators() -> Space {
    space(
        r#"{
            "estimator": { "type": "categorical", "choices": ["forest", "boost"] },
            "depth": { "type": "integer", "low": 2, "high": 12 },
            "trees": { "type": "integer", "low": 50, "high": 500, "step": 50, "when": { "estimator": ["forest"] } },
            "rate": { "type": "float", "low": 0.001, "high": 1.0, "log": true, "when": { "estimator": ["boost"] } },
            "leaves": { "type": "float", "low": 0.1, "high": 0.9, "step": 0.1 }
        }"#,
    )
}

fn settings(seed: u64, trials: u32, sampler: Sampler) -> Settings {
    Settings { seed, trials, better: Better::Smaller, in_flight: 4, sampler, halving: None, resource: None }
}

fn number(assignment: &Assignment, name: &str) -> f64 {
    match assignment.get(name) {
        Some(Value::Integer(value)) => *value as f64,
        Some(Value::Float(value)) => *value,
        other => panic!("`{name}` is {other:?}"),
    }
}

/// Runs a study with so many workers whose jobs take random times, and gives it finished.
fn run(mut study: Study, workers: usize, chance: u64, objective: impl Fn(&Job) -> Outcome) -> Study {
    let mut chance = Chance::stream(chance, &[]);
    // When each busy worker is done, and with what.
    let mut busy: BTreeSet<(u64, u32)> = BTreeSet::new();
    let (mut now, mut next) = (0, 0);
    loop {
        while busy.len() < workers {
            let Ask::Run(job) = study.ask(next) else { break };
            busy.insert((now + 1 + chance.below(1000), job.number));
            next += 1;
        }
        let Some((end, job)) = busy.pop_first() else { break };
        now = end;
        let outcome = objective(&study.jobs()[job as usize]);
        assert_eq!(study.tell(job, outcome.clone()), Ok(Told::New));
        assert_eq!(study.tell(job, outcome), Ok(Told::Known));
    }
    assert!(study.is_over());
    assert_eq!(study.ask(next), Ask::Over);
    study
}

/// The first open job that isn't held back.
fn open_but(study: &Study, held: Option<u32>) -> Option<Job> {
    study.open().find(|job| Some(job.number) != held).cloned()
}

/// A bowl in the logarithm of the rate and the depth, other for each estimator; some trials fail.
fn bowl(job: &Job) -> Outcome {
    let assignment = &job.assignment;
    let depth = (number(assignment, "depth") - 7.0) / 5.0;
    let leaves = number(assignment, "leaves") - 0.3;
    let rest = match assignment.get("estimator") {
        Some(Value::Text(name)) if name == "boost" => (number(assignment, "rate").log10() + 1.5).powi(2),
        _ => 0.5 + (number(assignment, "trees") - 300.0).abs() / 1000.0,
    };
    if job.trial % 11 == 3 {
        return Outcome::Failed { reason: "out of memory".to_owned() };
    }
    // With little of the resource the measurement is worse and noisy.
    let noise = job.resource.map_or(0.0, |resource| {
        Chance::stream(job.trial.into(), &[resource]).normal() * 0.2 / resource as f64 + 0.5 / resource as f64
    });
    Outcome::Score(depth * depth + leaves * leaves + rest + noise)
}

#[test]
fn every_complaint_about_a_space_is_listed_by_path() {
    let text = r#"{
        "a": { "type": "integer", "low": 5, "high": 1, "step": 0 },
        "b": { "type": "float", "low": 0, "high": 1, "log": true },
        "c": { "type": "categorical", "choices": ["x", "x"], "when": { "a": [9], "z": [1] } },
        "d": { "type": "integer", "low": 1, "high": 2, "when": { "e": [1] } },
        "e": { "type": "integer", "low": 1, "high": 2, "when": { "d": [1] } },
        "f": { "type": "integer", "low": 1, "high": 2, "when": { "b": [0.5] } }
    }"#;
    let error = serde_json::from_str::<Space>(text).expect_err("a bad space").to_string();
    for complaint in [
        "`a.high` is 1, below `low`, which is 5",
        "`a.step` is more than zero, not 0",
        "`b.low` is more than zero with `log`, not 0",
        "`c.choices` has `x` twice",
        "`c.when.a` lists `9`, which `a` can't be",
        "`c.when.z` isn't a parameter of the space",
        "`d.when` depends on itself through others",
        "`e.when` depends on itself through others",
        "`f.when.b` needs single values, and `b` is a float",
    ] {
        assert!(error.contains(complaint), "{complaint:?} is missing in {error:?}");
    }
    for (text, complaint) in [
        (r#"{"a": {"type": "integer", "low": 1.5, "high": 3}}"#, "`a.low` is a whole number, not `1.5`"),
        (r#"{"a": {"type": "integer", "low": 1}}"#, "`a.high` is missing"),
        (
            r#"{"a": {"type": "float", "low": 1, "high": 2, "choices": [1]}}"#,
            "`a.choices` is of categorical parameters",
        ),
        (r#"{"a": {"type": "categorical", "choices": [1], "log": true}}"#, "`a.log` is of numbers"),
        (r#"{}"#, "has 0 parameters"),
        (r#"{"a": {"type": "integer", "low": 1, "high": 2, "hihg": 3}}"#, "unknown field `hihg`"),
    ] {
        let error = serde_json::from_str::<Space>(text).expect_err("a bad space").to_string();
        assert!(error.contains(complaint), "{complaint:?} is missing in {error:?}");
    }
}

#[test]
fn a_space_comes_back_from_its_text() {
    let space = two_estimators();
    let bytes = rmp_serde::to_vec_named(&space).unwrap();
    assert_eq!(rmp_serde::from_slice::<Space>(&bytes).unwrap(), space);
}

#[test]
fn assignments_are_checked_against_the_space() {
    let space = two_estimators();
    let mut assignment = space.sample(1, 1);
    assert_eq!(space.check(&assignment), Ok(()));
    assignment.set("estimator", "boost");
    assignment.set("rate", 0.1);
    assignment.set("trees", 50_i64);
    assignment.set("depth", 99_i64);
    assignment.set("speed", 1_i64);
    let error = space.check(&assignment).unwrap_err().to_string();
    assert_eq!(
        error,
        "`depth` can't be `99`; `speed` isn't a parameter of the space; `trees` has a value, and its `when` doesn't hold"
    );
    assert!(space.check(&Assignment::default()).unwrap_err().to_string().contains("`estimator` is missing"));
    assert_eq!([("b", 1_i64), ("a", 2)].into_iter().collect::<Assignment>().to_string(), "a=2 b=1");
}

proptest! {
    #[test]
    fn samples_lie_in_the_space_and_come_back_from_json(seed: u64, trial in 0_u64..1_000_000) {
        let space = two_estimators();
        let assignment = space.sample(seed, trial);
        prop_assert_eq!(space.check(&assignment), Ok(()));
        let bytes = rmp_serde::to_vec_named(&assignment).unwrap();
        prop_assert_eq!(&rmp_serde::from_slice::<Assignment>(&bytes).unwrap(), &assignment);
    }

    #[test]
    fn a_number_is_the_nearest_to_its_own_coordinate(low in 1_i64..50, more in 0_i64..200, step in 1_i64..9, log: bool) {
        let domain = Domain::Integer { low, high: low + more / step * step, step, log };
        for at in 0..domain.values().unwrap() as i64 {
            let value = Value::Integer(low + at * step);
            prop_assert_eq!(domain.at(domain.coordinate(&value).unwrap()), value.clone());
            let (from, to) = domain.cell(&value).unwrap();
            let middle = domain.coordinate(&value).unwrap();
            prop_assert!(from < middle && middle < to);
        }
    }
}

#[test]
fn every_value_of_a_linear_range_is_equally_likely() {
    let space = space(r#"{ "x": { "type": "integer", "low": 0, "high": 4 } }"#);
    let mut counts = [0; 5];
    for trial in 0..10_000 {
        counts[number(&space.sample(5, trial), "x") as usize] += 1;
    }
    // Five standard deviations of a binomial of 10,000 with 1/5 are 200.
    assert!(counts.iter().all(|&count| (1_800..2_200).contains(&count)), "{counts:?}");
}

#[test]
fn another_parameter_does_not_move_the_values_of_the_first() {
    let one = space(r#"{ "x": { "type": "float", "low": 0, "high": 1 } }"#);
    let two =
        space(r#"{ "x": { "type": "float", "low": 0, "high": 1 }, "a": { "type": "float", "low": 0, "high": 1 } }"#);
    assert_eq!(one.sample(3, 4).get("x"), two.sample(3, 4).get("x"));
    assert_ne!(one.sample(3, 4).get("x"), one.sample(3, 5).get("x"));
}

#[test]
fn a_grid_visits_each_point_once() {
    let space = space(
        r#"{
            "kind": { "type": "categorical", "choices": ["a", "b"] },
            "x": { "type": "float", "low": 0.01, "high": 1, "log": true, "when": { "kind": ["b"] } },
            "y": { "type": "float", "low": 0.1, "high": 0.3, "step": 0.1 }
        }"#,
    );
    let study = Study::new(space.clone(), settings(1, 100, Sampler::Grid { points: 3 })).unwrap();
    let study = run(study, 2, 1, |_| Outcome::Score(1.0));
    let all: BTreeSet<String> = study.trials().iter().map(|trial| trial.assignment.to_string()).collect();
    assert_eq!(all.len(), 3 + 3 * 3);
    assert_eq!(study.trials().len(), 12);
    assert!(all.contains("kind=a y=0.3") && all.contains("kind=b x=0.1 y=0.2"), "{all:?}");
    assert!(study.trials().iter().all(|trial| space.check(&trial.assignment).is_ok()));
}

#[test]
fn a_small_space_is_visited_whole_and_no_further() {
    let space = space(r#"{ "x": { "type": "integer", "low": 1, "high": 7 } }"#);
    let study = run(Study::new(space, settings(1, 60, tpe())).unwrap(), 1, 1, |job| {
        Outcome::Score(number(&job.assignment, "x"))
    });
    assert_eq!(study.trials().len(), 7);
    assert_eq!(number(&study.winner().unwrap().assignment, "x"), 1.0);
}

#[test]
fn no_trial_is_tried_twice_while_others_are_left() {
    let space = space(r#"{ "x": { "type": "integer", "low": 1, "high": 80 } }"#);
    let study = run(Study::new(space, settings(1, 60, tpe())).unwrap(), 2, 1, |job| {
        Outcome::Score((number(&job.assignment, "x") - 40.0).abs())
    });
    let all: BTreeSet<String> = study.trials().iter().map(|trial| trial.assignment.to_string()).collect();
    assert_eq!(all.len(), 60);
}

fn tpe() -> Sampler {
    Sampler::Tpe(Tpe::default())
}

fn asha(max_resource: u64) -> Option<Halving> {
    Some(Halving { min_resource: 1, max_resource, eta: 3, continues: false })
}

#[test]
fn workers_and_their_speed_change_neither_trials_nor_winner() {
    let strategies = [
        (Sampler::Random, None),
        (tpe(), None),
        (Sampler::Grid { points: 4 }, None),
        (Sampler::Random, asha(27)),
        (tpe(), asha(27)),
    ];
    for (sampler, halving) in strategies {
        let settings = Settings { halving, ..settings(7, 50, sampler) };
        let start = || Study::new(two_estimators(), settings.clone()).unwrap();
        let alone = run(start(), 1, 0, bowl);
        for workers in [1, 2, 4] {
            for chance in 0..5 {
                let study = run(start(), workers, chance, bowl);
                assert_eq!(study.jobs(), alone.jobs(), "{workers} workers, {settings:?}");
                assert_eq!(study.winner(), alone.winner());
                assert_eq!(serde_json::to_string(&study).unwrap(), serde_json::to_string(&alone).unwrap());
            }
        }
        assert_eq!(alone.trials().len(), 50);
        let other = Study::new(two_estimators(), Settings { seed: 8, ..settings.clone() }).unwrap();
        assert_ne!(run(other, 1, 0, bowl).jobs(), alone.jobs());
    }
}

#[test]
fn a_study_goes_on_where_it_was_stopped() {
    let settings = Settings { halving: asha(9), ..settings(3, 40, tpe()) };
    let whole = run(Study::new(two_estimators(), settings.clone()).unwrap(), 2, 1, bowl);
    for stop in [0, 1, 7, 30] {
        let mut study = Study::new(two_estimators(), settings.clone()).unwrap();
        // Told out of order, with gaps: of the open jobs always the last.
        for _ in 0..stop {
            let Some(job) = study.open().last().cloned() else { break };
            if study.open().count() == 1 || job.number % 2 == 0 {
                study.tell(job.number, bowl(&job)).unwrap();
            } else {
                let job = study.open().next().cloned().unwrap();
                study.tell(job.number, bowl(&job)).unwrap();
            }
        }
        let bytes = rmp_serde::to_vec_named(&study).unwrap();
        let mut study: Study = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(rmp_serde::to_vec_named(&study).unwrap(), bytes);
        while let Some(job) = open_but(&study, None) {
            study.tell(job.number, bowl(&job)).unwrap();
        }
        assert_eq!(study.jobs(), whole.jobs(), "stopped after {stop}");
        assert_eq!(study.winner(), whole.winner());
    }
}

#[test]
fn trial_k_waits_for_trial_k_minus_in_flight_and_no_other() {
    let mut study = Study::new(two_estimators(), settings(1, 20, tpe())).unwrap();
    assert!(matches!(study.ask(3), Ask::Run(_)));
    assert_eq!(study.ask(4), Ask::Wait { on: 0 });
    study.tell(1, Outcome::Score(1.0)).unwrap();
    assert_eq!(study.ask(4), Ask::Wait { on: 0 });
    study.tell(0, Outcome::Score(1.0)).unwrap();
    assert!(matches!(study.ask(5), Ask::Run(_)));
    assert_eq!(study.ask(6), Ask::Wait { on: 2 });
    assert_eq!(
        study.tell(6, Outcome::Score(1.0)).unwrap_err().to_string(),
        "an outcome was told of job 6, and only 6 jobs have been decided"
    );
}

#[test]
fn a_long_job_on_a_high_rung_stands_in_nobodys_way() {
    let settings = Settings { halving: asha(27), in_flight: 2, ..settings(1, 40, Sampler::Random) };
    let mut study = Study::new(two_estimators(), settings).unwrap();
    // Everything is told but the first job of the third rung, which costs 9.
    let held = loop {
        let job = study.open().next().cloned().unwrap();
        if job.rung == 2 {
            break job.number;
        }
        study.tell(job.number, bowl(&job)).unwrap();
    };
    let mut cost = 0;
    while let Some(job) = open_but(&study, Some(held)) {
        study.tell(job.number, bowl(&job)).unwrap();
        cost += job.resource.unwrap();
    }
    // The other imagined worker has as much done meanwhile as the held job costs.
    assert!(cost >= 9, "{cost}");
    assert!(study.outcome(held).is_none());
}

#[test]
fn halving_promotes_about_one_of_three_and_the_winner_had_the_most() {
    let settings = Settings { halving: asha(9), ..settings(1, 81, Sampler::Random) };
    let study = run(Study::new(two_estimators(), settings).unwrap(), 2, 1, bowl);
    let mut by_rung = BTreeMap::new();
    study.jobs().iter().for_each(|job| *by_rung.entry(job.resource).or_insert(0) += 1);
    assert_eq!(by_rung[&Some(1)], 81);
    assert!((27..40).contains(&by_rung[&Some(3)]), "{by_rung:?}");
    assert!((9..16).contains(&by_rung[&Some(9)]), "{by_rung:?}");
    let winner = study.winner().unwrap();
    assert_eq!(winner.scores.last().unwrap().0, 9);
    assert_eq!(winner.scores.len(), 3);
    // A job that goes on names the one before.
    for job in study.jobs().iter().filter(|job| job.rung > 0) {
        let before = &study.jobs()[job.after.unwrap() as usize];
        assert_eq!((before.trial, before.rung), (job.trial, job.rung - 1));
    }
}

#[test]
fn the_resource_is_never_overspent() {
    for resource in [1, 10, 50, 137] {
        let settings = Settings { halving: asha(9), resource: Some(resource), ..settings(1, 500, tpe()) };
        let study = run(Study::new(two_estimators(), settings).unwrap(), 3, 1, bowl);
        assert!(study.spent() <= resource && study.spent() + 1 > resource, "{} of {resource}", study.spent());
    }
}

#[test]
fn failed_and_pruned_trials_are_kept_and_never_win() {
    let study = Study::new(two_estimators(), Settings { better: Better::Larger, ..settings(1, 12, tpe()) }).unwrap();
    let study = run(study, 2, 1, |job| match job.trial {
        0 => Outcome::Failed { reason: "out of memory".to_owned() },
        1 => Outcome::Score(f64::NAN),
        2 => Outcome::Pruned { score: Some(99.0), reason: "behind".to_owned() },
        trial => Outcome::Score(f64::from(trial % 5)),
    });
    let trials = study.trials();
    assert_eq!(trials[0].state, TrialState::Failed { reason: "out of memory".to_owned() });
    assert!(matches!(&trials[1].state, TrialState::Failed { reason } if reason.contains("NaN")));
    assert_eq!(trials[2].state, TrialState::Pruned { reason: "behind".to_owned() });
    assert_eq!(study.winner().unwrap().number, 4);
}

#[test]
fn a_study_in_which_all_fails_ends_without_a_winner() {
    let settings = Settings { halving: asha(9), ..settings(1, 30, tpe()) };
    let study =
        run(Study::new(two_estimators(), settings).unwrap(), 2, 1, |_| Outcome::Failed { reason: "no".to_owned() });
    assert_eq!(study.trials().len(), 30);
    assert_eq!(study.winner(), None);
}

#[test]
fn settings_that_make_no_sense_are_all_named() {
    let bad = Settings {
        trials: 0,
        in_flight: 0,
        sampler: Sampler::Tpe(Tpe { startup: 0, candidates: 0, good_share: 1.5, good_max: 0 }),
        halving: Some(Halving { min_resource: 0, max_resource: 0, eta: 1, continues: false }),
        ..settings(1, 1, tpe())
    };
    let error = Study::new(two_estimators(), bad).unwrap_err();
    let paths: Vec<&str> = error.complaints.iter().map(|complaint| complaint.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "trials",
            "in_flight",
            "sampler.tpe.startup",
            "sampler.tpe.candidates",
            "sampler.tpe.good_share",
            "sampler.tpe.good_max",
            "halving.min_resource",
            "halving.max_resource",
            "halving.eta"
        ]
    );
    let huge = space(
        r#"{"x": {"type": "integer", "low": 1, "high": 1000}, "y": {"type": "integer", "low": 1, "high": 1000}}"#,
    );
    let error = Study::new(huge, settings(1, 10, Sampler::Grid { points: 1000 })).unwrap_err().to_string();
    assert!(error.contains("grid of more than 100000 points"), "{error}");
}

#[test]
fn scores_nearer_to_zero_win_when_asked_for() {
    let study =
        Study::new(two_estimators(), Settings { better: Better::NearerToZero, ..settings(1, 5, Sampler::Random) });
    let study = run(study.unwrap(), 1, 1, |job| Outcome::Score(f64::from(job.trial) - 2.2));
    assert_eq!(study.winner().unwrap().number, 2);
}

/// The best loss of a study of a function, at an equal budget: 60 full trials.
fn best(
    seed: u64,
    space: &Space,
    sampler: Sampler,
    halving: Option<Halving>,
    loss: impl Fn(&Assignment) -> f64,
) -> f64 {
    let max = halving.as_ref().map_or(1, |halving| halving.max_resource);
    let settings = Settings {
        resource: Some(60 * max),
        trials: if max == 1 { 60 } else { 2_000 },
        halving,
        ..settings(seed, 60, sampler)
    };
    let study = run(Study::new(space.clone(), settings).unwrap(), 4, 1, |job| {
        // What a small resource hides fades with the resource and differs from trial to trial.
        let hidden = 1.0 - job.resource.unwrap_or(max) as f64 / max as f64;
        let noise = Chance::stream(job.trial.into(), &[seed]).unit();
        Outcome::Score(loss(&job.assignment) + hidden * (0.5 + 0.2 * noise))
    });
    let winner = study.winner().unwrap();
    loss(&winner.assignment)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2] + values[(values.len() - 1) / 2]) / 2.0
}

#[test]
fn tpe_and_halving_beat_random_search_at_equal_budget() {
    let space = space(
        r#"{
            "kind": { "type": "categorical", "choices": ["a", "b", "c", "d"] },
            "rate": { "type": "float", "low": 1e-5, "high": 1, "log": true },
            "depth": { "type": "integer", "low": 1, "high": 30 },
            "x": { "type": "float", "low": -1, "high": 1 },
            "y": { "type": "float", "low": -1, "high": 1, "when": { "kind": ["a", "b"] } }
        }"#,
    );
    let loss = |assignment: &Assignment| {
        let kind = match assignment.get("kind") {
            Some(Value::Text(name)) if name == "b" => 0.0,
            _ => 0.4,
        };
        let y = assignment.get("y").map_or(0.2, |_| (number(assignment, "y") - 0.5).powi(2));
        let rate = (number(assignment, "rate").log10() + 3.0) / 2.5;
        let depth = (number(assignment, "depth") - 9.0) / 15.0;
        kind + y + rate * rate + depth * depth + (number(assignment, "x") + 0.4).powi(2)
    };
    let of = |sampler: Sampler, halving: Option<Halving>| {
        median((0..10).map(|seed| best(seed, &space, sampler.clone(), halving.clone(), loss)).collect())
    };
    let random = of(Sampler::Random, None);
    let tpe_alone = of(tpe(), None);
    let asha_random = of(Sampler::Random, asha(27));
    let asha_tpe = of(tpe(), asha(27));
    println!(
        "best loss, median of 10 seeds: random {random:.4}, tpe {tpe_alone:.4}, asha {asha_random:.4}, asha with tpe {asha_tpe:.4}"
    );
    assert!(tpe_alone < 0.6 * random, "{tpe_alone} {random}");
    assert!(asha_random < 0.8 * random, "{asha_random} {random}");
    assert!(asha_tpe < tpe_alone.max(asha_random), "{asha_tpe}");
}
