//! Files made to be expensive: each must be answered within what a person waits for, and in little memory.
//!
//! A file is at most 256 KiB, so anything linear is fast; what these would show is a step that isn't linear,
//! or one that runs out of stack. The bound on time is generous: only a blunder reaches it.

use std::time::{Duration, Instant};

use gristmill_protocol::pipeline::check;

const TIME_MAX: Duration = Duration::from_secs(20);

fn sql(query: String) -> String {
    format!("name: a\nsteps: {{ a: {{ transform: {{ sql: \"{query}\" }} }} }}")
}

fn steps(count: usize, step: impl Fn(usize) -> String) -> String {
    let steps: String = (0..count).map(|index| format!("  s{index}: {{ {} }}\n", step(index))).collect();
    format!("name: a\nsteps:\n  d: {{ ingest: {{ source: x }} }}\n{steps}")
}

fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect()
}

#[test]
fn no_file_is_expensive_to_check() {
    let files = [
        ("nested brackets", "[".repeat(200_000)),
        ("nested dashes", "- ".repeat(100_000)),
        ("nested questions", "? ".repeat(100_000)),
        ("chained colons", "a: ".repeat(80_000)),
        ("unclosed mapping", format!("{{{}", "a ".repeat(100_000))),
        ("directives", "%".repeat(200_000)),
        ("unclosed quote", format!("\"{}", "\\n".repeat(100_000))),
        ("many lines of one text", format!("name: {}", "x\n  ".repeat(50_000))),
        ("many keys", many(25_000, |index| format!("k{index}: 1\n"))),
        ("one key repeated", "k: 1\n".repeat(50_000)),
        ("one line of keys", format!("{{ {} }}", many(20_000, |index| format!("ключ{index}: 1, ")))),
        ("many aliases", format!("params: {{ x: [{}] }}", many(15_000, |index| format!("&a{index} 1, *a{index},")))),
        ("parentheses in sql", sql(format!("select {}1{}", "(".repeat(100_000), ")".repeat(100_000)))),
        ("a sum in sql", sql(format!("select {}1", "1+".repeat(60_000)))),
        ("a sum that is allowed", sql(format!("select {}1", "1+".repeat(2_000)))),
        ("unions that are allowed", sql(format!("select 1{}", " union select 1".repeat(2_000)))),
        ("casts that are allowed", sql(format!("select 1{}", "::int".repeat(2_000)))),
        ("lists that are allowed", sql(format!("select 1 in ({}1)", "1,".repeat(50_000)))),
        ("unions in sql", sql(format!("select 1{}", " union select 1".repeat(15_000)))),
        ("nots in sql", sql(format!("select {}1", "not ".repeat(60_000)))),
        ("cases in sql", sql(format!("select {}", "case when (".repeat(20_000)))),
        ("tables in sql", sql(format!("select * from {}x", many(30_000, |index| format!("t{index},"))))),
        ("too many steps", steps(9_000, |_| "noop: {}".to_owned())),
        ("a long circle", steps(1_000, |index| format!("noop: {{}}, after: [s{}]", (index + 1) % 1_000))),
        (
            "a dense graph",
            steps(400, |index| {
                format!("noop: {{}}, after: [{}]", many(index.min(80), |back| format!("s{},", index - back - 1)))
            }),
        ),
        (
            "unheeded checks",
            steps(990, |index| match index % 2 {
                0 => "expect: { input: d, rules: [ { rows: { min: 1 } } ] }".to_owned(),
                _ => "split: { input: d, test: 0.5 }".to_owned(),
            }),
        ),
        (
            "unknown steps",
            steps(900, |index| format!("noop: {{}}, after: [{}]", many(20, |other| format!("x{index}a{other},")))),
        ),
        ("unknown kinds", steps(5_000, |index| format!("nop{index}: {{}}"))),
        (
            "unknown limits",
            steps(900, |index| format!("noop: {{}}, limits: [{}]", many(20, |other| format!("x{index}a{other},")))),
        ),
        (
            "a long parameter often",
            format!("params: {{ x: {} }}\ndescription: \"{}\"", "y".repeat(60_000), "${x}".repeat(40_000)),
        ),
        (
            "a large parameter often",
            format!("params: {{ x: [{}] }}\ndescription: [{}]", "1,".repeat(30_000), "\"${x}\",".repeat(20_000),),
        ),
        (
            "unknown parameters",
            format!(
                "params: {{ {} }}\ndescription: \"{}\"",
                many(8_000, |index| format!("p{index}: 1, ")),
                many(12_000, |index| format!("${{q{index}}}")),
            ),
        ),
    ];
    for (name, text) in files {
        let start = Instant::now();
        let answer = check("pipeline.yaml", &text, &[]);
        let taken = start.elapsed();
        println!("{name}: {:.0} ms", taken.as_secs_f64() * 1e3);
        assert!(taken < TIME_MAX, "{name} took {taken:?}");
        if let Err(complaints) = answer {
            assert!(complaints.to_string().len() < 1 << 20, "the complaints about {name} are long");
        }
    }
}
