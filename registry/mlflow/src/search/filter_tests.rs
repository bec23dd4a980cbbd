use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;

const RUNS: Dialect = Dialect {
    text_attributes: &["run_id", "run_name", "status"],
    number_attributes: &["start_time"],
    lists: &["run_id"],
    runs: true,
    nulls: true,
    quoted_numbers: false,
};

const VERSIONS: Dialect = Dialect {
    text_attributes: &["name", "run_id"],
    number_attributes: &["version_number"],
    lists: &["name", "run_id"],
    runs: false,
    nulls: false,
    quoted_numbers: true,
};

fn check(dialect: &Dialect, text: &str, expected: Expect) {
    let shown = match parse(text, dialect) {
        Ok(clauses) => {
            let one = |clause: &Clause| format!("{:?} {:?} {:?}", clause.subject, clause.comparator, clause.value);
            clauses.iter().map(one).collect::<Vec<_>>().join("\n")
        }
        Err(refusal) => refusal.to_string(),
    };
    expected.assert_eq(&shown);
}

#[test]
fn clauses_are_read() {
    check(&RUNS, "", expect![""]);
    check(
        &RUNS,
        "metrics.rmse <= 1.5e-3 and params.`a b` = 'x' AND tags.mlflow.user LIKE \"%ann\"",
        expect![[r#"
            Metric("rmse") LessOrEqual Number(0.0015)
            Param("a b") Equal Text("x")
            Tag("mlflow.user") Like Text("%ann")"#]],
    );
    check(
        &RUNS,
        "attributes.run_id IN ('a', \"b\") AND run_name!='c' and attr.start_time>3",
        expect![[r#"
            Attribute("run_id") In Texts(["a", "b"])
            Attribute("run_name") NotEqual Text("c")
            Attribute("start_time") Greater Number(3.0)"#]],
    );
    check(
        &RUNS,
        "attributes.`Run name` ILIKE 'a%' and metrics.\"m/1\" > -1 AND dataset.name = 'd' and tags.t IS NOT NULL",
        expect![[r#"
            Attribute("run_name") ILike Text("a%")
            Metric("m/1") Greater Number(-1.0)
            Dataset("name") Equal Text("d")
            Tag("t") IsNotNull Nothing"#]],
    );
    check(
        &VERSIONS,
        "name='a' and version_number > '3' AND run_id NOT IN ('x')",
        expect![[r#"
            Attribute("name") Equal Text("a")
            Attribute("version_number") Greater Number(3.0)
            Attribute("run_id") NotIn Texts(["x"])"#]],
    );
}

#[test]
fn what_can_not_be_read_is_refused() {
    let bad = [
        "bad",
        "metrics.a > '1'",
        "metrics.a LIKE 1",
        "params.a = 1",
        "params.a > 'x'",
        "params.a = x",
        "foo.a = 'x'",
        "attributes.foo = 'x'",
        "status IN ('a')",
        "run_id IN ()",
        "run_id IN ('a'",
        "run_id = ('a')",
        "run_id IN 'a'",
        "run_id IS NULL",
        "params.a = 'x' OR params.b = 'y'",
        "params.a = 'x' params.b = 'y'",
        "params.a = 'x' AND",
        "params.a = 'x",
        "params.`a = 'x'",
        "= 'x'",
        "params. = 'x'",
        "metrics.a > 1x",
        "metrics.a > --1",
        "start_time = 'x'",
        "start_time IN ('x')",
        "dataset.foo = 'x'",
        "params.a = 'x'; drop",
        "(params.a = 'x')",
    ];
    for text in bad {
        assert!(parse(text, &RUNS).is_err(), "{text}");
    }
    for text in
        ["metrics.a > 1", "tags.a IS NULL", "version_number = 'x'", "version_number LIKE '1'", "tags.a IN ('a')"]
    {
        assert!(parse(text, &VERSIONS).is_err(), "{text}");
    }
    let many = vec!["params.a = 'x'"; 101].join(" AND ");
    assert!(parse(&many, &RUNS).is_err());
}

struct Run(BTreeMap<Subject, Found<'static>>);

impl Searched for Run {
    fn found(&self, subject: &Subject) -> Found<'_> {
        self.0.get(subject).cloned().unwrap_or(Found::Nothing)
    }
}

#[test]
fn clauses_are_matched() {
    let run = Run(BTreeMap::from([
        (Subject::Metric("rmse".to_owned()), Found::Number(1.5)),
        (Subject::Metric("lost".to_owned()), Found::Number(f64::NAN)),
        (Subject::Param("depth".to_owned()), "6".into()),
        (Subject::Attribute("run_id".to_owned()), "r1".into()),
        (Subject::Dataset("name".to_owned()), Found::Any(vec!["train", "test"])),
    ]));
    for (text, fits) in [
        ("metrics.rmse > 1", true),
        ("metrics.rmse = 1.5", true),
        ("metrics.rmse < 1.5", false),
        ("metrics.other != 1", false),
        ("metrics.lost > 0", false),
        ("params.depth = '6'", true),
        ("params.depth != '6'", false),
        ("params.other != '6'", false),
        ("params.other IS NULL", true),
        ("params.depth IS NULL", false),
        ("params.depth IS NOT NULL", true),
        ("params.other IS NOT NULL", false),
        ("run_id IN ('r0', 'r1')", true),
        ("run_id NOT IN ('r1')", false),
        ("dataset.name = 'test'", true),
        ("dataset.name = 'none'", false),
    ] {
        let clauses = parse(text, &RUNS).expect("read");
        assert_eq!(clauses.iter().all(|clause| clause.fits(&run)), fits, "{text}");
    }
}

mod any {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_does_no_harm(text in "\\PC{0,60}", more in "(params|tags|'|`|\"|\\.|=| |AND|IN|\\(|\\)|,|1|é){0,20}") {
            let _ = parse(&text, &RUNS);
            let _ = parse(&more, &VERSIONS);
        }
    }
}
