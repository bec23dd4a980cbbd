use expect_test::{Expect, expect};

use super::*;

const RULES: Rules = Rules { min: 0, max: 8, slots: 2, drain_ms: 10_000, start_up_ms: 1_000, idle_ms: 2_000 };

/// Each line is a look: `seconds ready out work_s unknown live`. What is decided stands beside it.
fn check(rules: &Rules, script: &str, expected: &Expect) {
    let mut memory = Memory::default();
    let mut told = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let numbers: Vec<f64> = line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [at, ready, out, work_s, unknown, live] = numbers[..] else { panic!("six numbers: {line}") };
        let sight = Sight {
            now: Timestamp((at * 1_000.0) as u64),
            ready: ready as u64,
            out: out as u64,
            work_ms: (work_s * 1_000.0) as u64,
            unknown: unknown as u64,
            live: live as u32,
            starting: 0,
            draining: 0,
        };
        let decision = decide(rules, &mut memory, &sight);
        told += &format!("{at:<4} {}  {}\n", decision.wanted, decision.why);
    }
    expected.assert_eq(&told);
}

#[test]
fn one_task_wakes_a_pool_and_its_end_lets_it_go_after_a_while() {
    check(
        &RULES,
        "
        0.0  0 0 0 0 0
        0.5  1 0 0 1 0
        1.0  0 1 0 1 1
        1.5  0 0 0 0 1
        3.0  0 0 0 0 1
        3.5  0 0 0 0 1
        ",
        &expect![[r#"
            0    0  nothing is ready or out
            0.5  1  0 s of work and 1 tasks of unknown length, to be done in 10 s with 2 slots each
            1    1  0 s of work and 1 tasks of unknown length, to be done in 10 s with 2 slots each
            1.5  1  they were needed within the last 2 s
            3    1  they were needed within the last 2 s
            3.5  0  nothing is ready or out
        "#]],
    );
}

#[test]
fn a_backlog_gets_the_workers_that_do_it_in_time_and_they_stay_while_there_is_work_for_them() {
    check(
        &RULES,
        "
        0   100 0  70 0  0
        2    92 8  50 0  4
        5     4 8   6 0  4
        6     0 5   2 0  4
        9     0 1   1 0  4
        12    0 0   0 0  3
        ",
        &expect![[r#"
            0    4  70 s of work, to be done in 10 s with 2 slots each
            2    4  100 tasks are left for those that work
            5    4  they were needed within the last 2 s
            6    4  they were needed within the last 2 s
            9    1  1 s of work, to be done in 10 s with 2 slots each
            12   1  they were needed within the last 2 s
        "#]],
    );
}

#[test]
fn nobody_is_asked_for_without_a_task_and_the_owners_bounds_hold() {
    check(
        &RULES,
        "
        0  3 0  900 0  0
        9  900 0  900 0  2
        ",
        &expect![[r#"
            0    2  3 tasks for 2 slots each: more would idle
            9    8  the most there may be; 45 would do
        "#]],
    );
    check(
        &Rules { min: 2, ..RULES },
        "
        0  0 0  0 0  0
        ",
        &expect![[r#"
            0    2  the least there may be
        "#]],
    );
}

#[test]
fn looks_that_are_far_apart_hold_what_was_needed_as_well() {
    check(
        &RULES,
        "
        0   100 0  70 0  0
        30    0 0   0 0  4
        60   90 0  70 0  4
        90    0 0   0 0  4
        120   0 0   0 0  4
        ",
        &expect![[r#"
            0    4  70 s of work, to be done in 10 s with 2 slots each
            30   4  they were needed within the last 2 s
            60   4  70 s of work, to be done in 10 s with 2 slots each
            90   4  they were needed within the last 2 s
            120  0  nothing is ready or out
        "#]],
    );
}

#[test]
fn a_clock_that_goes_back_forgets_what_was_before() {
    check(
        &RULES,
        "
        100  100 0  70 0  0
        50     0 0   0 0  4
        ",
        &expect![[r#"
            100  4  70 s of work, to be done in 10 s with 2 slots each
            50   0  nothing is ready or out
        "#]],
    );
}

#[test]
fn rules_that_nobody_can_follow_are_refused() {
    let cases = [
        (Rules { max: 0, ..RULES }, "`max` is 0"),
        (Rules { min: 9, ..RULES }, "`min` is 9 and `max` is 8"),
        (Rules { slots: 0, ..RULES }, "`slots` is 0"),
        (Rules { drain_ms: 0, ..RULES }, "`drain_time` is 0"),
    ];
    for (rules, expected) in cases {
        let error = rules.check().expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    RULES.check().expect("these are well");
}

proptest::proptest! {
    #[test]
    fn more_work_never_needs_fewer_and_the_bounds_hold(
        ready in 0_u64..10_000, out in 0_u64..100, work in 0_u64..10_000_000, unknown in 0_u64..100, live in 0_u32..50,
        more in 0_u64..1_000_000, slots in 1_u32..16, drain in 1_u64..100_000,
    ) {
        let rules = Rules { slots, drain_ms: drain, ..RULES };
        let sight = Sight { now: Timestamp(0), ready, out, work_ms: work, unknown, live, starting: 0, draining: 0 };
        let wanted = |sight: &Sight| decide(&rules, &mut Memory::default(), sight).wanted;
        let few = wanted(&sight);
        let with_more = wanted(&Sight { work_ms: work + more, ..sight });
        proptest::prop_assert!(few <= with_more);
        let (with_tasks, with_unknown) = (Sight { ready: ready + more, ..sight }, Sight { unknown: unknown + more, ..sight });
        proptest::prop_assert!(few <= wanted(&with_tasks));
        proptest::prop_assert!(few <= wanted(&with_unknown));
        proptest::prop_assert!(few <= rules.max);
        proptest::prop_assert!(u64::from(few) <= (ready + out).div_ceil(u64::from(slots)));
        proptest::prop_assert_eq!(few == 0, ready + out == 0);
    }
}

proptest::proptest! {
    #[test]
    fn what_stays_the_same_is_decided_once(
        ready in 0_u64..10_000, out in 0_u64..100, work in 0_u64..10_000_000, unknown in 0_u64..100, live in 0_u32..50,
        slots in 1_u32..16, drain in 1_u64..100_000,
    ) {
        let rules = Rules { slots, drain_ms: drain, idle_ms: 0, ..RULES };
        let mut memory = Memory::default();
        let mut sight = Sight { now: Timestamp(0), ready, out, work_ms: work, unknown, live, starting: 0, draining: 0 };
        let first = decide(&rules, &mut memory, &sight).wanted;
        for second in 1..10 {
            // There are as many as were wanted.
            sight = Sight { now: Timestamp(second * 1_000), live: first, ..sight };
            proptest::prop_assert_eq!(decide(&rules, &mut memory, &sight).wanted, first);
        }
    }
}
