//! The pipeline that `gristmill init` writes: a first one that runs, with comments for whoever edits it.
//!
//! What it says is read off the table: types, distinct values and missing ones (`roles.rs`). The target's meaning decides between classes and numbers by the same rule as `train`.

use std::fmt::Write;

use super::names::as_name;
use super::roles::{Role, role};
use super::steps::{ColumnType, Learning};

/// Levels up to which the allowed values are listed in a rule, and a line stays readable.
const LISTED_MAX: usize = 24;
/// Distinct values up to which whole numbers can be classes rather than quantities.
const CLASSES_MAX: u64 = 2;

/// What is known of a table before the first pipeline is written for it.
#[derive(Clone, Debug, PartialEq)]
pub struct StarterTable {
    /// The data as the pipeline will name it: a file, a folder or a glob, relative to the pipeline file.
    pub source: String,
    /// The column to predict; one of `columns`.
    pub target: String,
    /// Rows of the table.
    pub rows: u64,
    /// The columns, in the order of the table.
    pub columns: Vec<StarterColumn>,
}

/// What is known of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct StarterColumn {
    pub name: String,
    pub kind: ColumnType,
    /// Number of distinct values, missing ones not counted; an estimate will do.
    pub distinct: u64,
    /// Share of rows without a value, 0 to 1.
    pub null_share: f64,
    /// The distinct values of a text, when they are few enough to be known exactly; else empty.
    pub levels: Vec<String>,
}

/// Writes a commented pipeline for the table; the checker accepts it without a warning.
///
/// The columns that can't be used are named in a comment. When none can, the features are empty and the
/// checker says so: there is nothing to learn from.
pub fn starter_pipeline(table: &StarterTable) -> String {
    let learning = learning(table);
    let roles: Vec<(&StarterColumn, Option<Role>)> =
        table.columns.iter().map(|column| (column, role_in(column, table))).collect();
    let model = as_name(&table.target).unwrap_or_else(|| "model".to_owned());
    let ending = match learning {
        Learning::Classification => "tells the class",
        Learning::Regression => "tells the value",
        Learning::Clustering => "tells the group",
    };
    let target = scalar(&table.target);
    // Parameters can't use each other, so a path that reads as if it did stands in the step itself.
    let (params, source) = match table.source.contains("${") {
        true => (String::new(), scalar(&table.source)),
        false => {
            let source = quoted(&table.source);
            let line = format!("params:\n  source: {source}    # a file, a folder or a glob, relative to this file\n");
            (line, "\"${source}\"".to_owned())
        }
    };
    let mut text = format!(
        "# Learns a model that {ending} of {target}, written by `gristmill init`.\n\
         #\n\
         # Change what you like and look with `gristmill check`; then `gristmill run` this file.\n\
         # Steps that didn't change aren't run again.\n\
         name: {model}\n\
         {params}\
         steps:\n\
         \x20 data:\n\
         \x20   ingest: {{ source: {source} }}\n\n"
    );
    let has_unknown_targets = table.columns.iter().any(|column| column.name == table.target && column.null_share > 0.0);
    let mut data = "data";
    if has_unknown_targets {
        data = "known";
        let condition = format!("\"{}\" is not null", table.target.replace('"', "\"\""));
        let sql = scalar(&format!("select * from data where {condition}"));
        let _ = writeln!(
            text,
            "  # Only rows whose {target} is known can teach.\n  known:\n    transform: {{ sql: {sql} }}\n"
        );
    }
    expect_step(&mut text, data, table, &roles);
    text += "\n  # A part of the rows is kept aside, to measure the model on what it hasn't seen.\n  parts:\n";
    let _ = match learning {
        Learning::Classification => {
            writeln!(text, "    split: {{ input: trusted, test: 0.2, stratify: {target}, seed: 1 }}")
        }
        Learning::Regression | Learning::Clustering => {
            writeln!(text, "    split: {{ input: trusted, test: 0.2, seed: 1 }}")
        }
    };
    train_step(&mut text, &target, learning, &roles);
    let (useless, metric, least) = gate(table, learning);
    let _ = write!(
        text,
        "\n\
         \x20 # Measures the model. Once a version is champion, `{{ beats: champion }}` keeps worse ones out.\n\
         \x20 quality:\n\
         \x20   validate:\n\
         \x20     model: model\n\
         \x20     input: parts.test\n\
         \x20     require:\n\
         \x20       # {useless} is refused. Raise it to what the model must reach.\n\
         \x20       - {{ metric: {metric}, min: {least} }}\n\n\
         \x20 release:\n\
         \x20   register: {{ model: model, evidence: quality, name: {model}, alias: champion }}\n\n\
         \x20 scores:\n\
         \x20   score: {{ model: model, input: parts.test, output: out/scores.csv }}\n"
    );
    text
}

/// The role of a column; none of the target.
fn role_in(column: &StarterColumn, table: &StarterTable) -> Option<Role> {
    let nulls = (table.rows as f64 * column.null_share).round() as u64;
    (column.name != table.target).then(|| role(column.kind, table.rows, nulls, column.distinct))
}

/// By the rule of `train` for a target whose task isn't given, but that rare whole numbers count as classes
/// only when there are two.
fn learning(table: &StarterTable) -> Learning {
    let target = table.columns.iter().find(|column| column.name == table.target);
    match target.map(|column| (column.kind, column.distinct)) {
        Some((ColumnType::Float, _)) => Learning::Regression,
        Some((ColumnType::Integer, distinct)) if distinct > CLASSES_MAX => Learning::Regression,
        _ => Learning::Classification,
    }
}

/// What a useless model does, and the metric and the bound by which it fails.
fn gate(table: &StarterTable, learning: Learning) -> (&'static str, &'static str, f64) {
    let classes = table.columns.iter().find(|column| column.name == table.target).map_or(2, |column| column.distinct);
    match learning {
        Learning::Regression | Learning::Clustering => ("No better than always saying the mean", "r2", 0.01),
        // It doesn't depend on how rare a class is, as the accuracy does.
        Learning::Classification if classes <= 2 => ("No better than chance", "roc_auc", 0.55),
        // Chance is one in so many; a tenth over that isn't chance.
        Learning::Classification => {
            let least = (110.0 / classes as f64).ceil() / 100.0;
            ("No better than chance", "balanced_accuracy", least)
        }
    }
}

fn expect_step(text: &mut String, data: &str, table: &StarterTable, roles: &[(&StarterColumn, Option<Role>)]) {
    let _ = write!(
        text,
        "  # What must hold of the data; a broken rule ends the run before anything is learned from it.\n\
         \x20 trusted:\n    expect:\n      input: {data}\n      rules:\n"
    );
    // Half of today's rows: less than that is rather a broken delivery than a quiet month.
    let _ = writeln!(text, "        - {{ rows: {{ min: {} }} }}", (table.rows / 2).max(1));
    for (column, role) in roles {
        let name = scalar(&column.name);
        match role {
            None => {
                let _ = writeln!(text, "        - {{ column: {name}, nulls: {{ max: 0 }} }}");
            }
            Some(role @ (Role::Numeric | Role::Categorical | Role::Dates)) => {
                let share = rounded_up(column.null_share);
                let _ = writeln!(text, "        - {{ column: {name}, nulls: {{ max: {share} }} }}");
                let are_levels_known = matches!(role, Role::Categorical)
                    && column.kind == ColumnType::String
                    && (1..=LISTED_MAX).contains(&column.levels.len())
                    && column.levels.len() as u64 == column.distinct;
                if are_levels_known {
                    let levels: Vec<String> = column.levels.iter().map(|level| scalar(level)).collect();
                    // A new level is worth a look, not a stop: the model has a bucket for it.
                    let levels = levels.join(", ");
                    let _ = writeln!(text, "        - {{ column: {name}, in: [{levels}], severity: warn }}");
                }
            }
            Some(Role::Left(_)) => {}
        }
    }
}

fn train_step(text: &mut String, target: &str, learning: Learning, roles: &[(&StarterColumn, Option<Role>)]) {
    let task = match learning {
        Learning::Classification => "classification",
        Learning::Regression => "regression",
        Learning::Clustering => "clustering",
    };
    let named = |wanted: Role| -> String {
        let names: Vec<String> =
            roles.iter().filter(|(_, role)| *role == Some(wanted)).map(|(column, _)| scalar(&column.name)).collect();
        names.join(", ")
    };
    let left: Vec<(&StarterColumn, &str)> = roles
        .iter()
        .filter_map(|(column, role)| match role {
            Some(Role::Left(why)) => Some((*column, *why)),
            _ => None,
        })
        .collect();
    let _ = write!(
        text,
        "\n  model:\n    train:\n      input: parts.train\n      target: {target}\n      task: {task}\n      features:\n"
    );
    for (key, names) in
        [("numeric", named(Role::Numeric)), ("categorical", named(Role::Categorical)), ("dates", named(Role::Dates))]
    {
        if !names.is_empty() {
            let _ = writeln!(text, "        {key}: [{names}]");
        }
    }
    if !roles.iter().any(|(_, role)| role.is_some_and(|role| !matches!(role, Role::Left(_)))) {
        *text += "        numeric: []    # no column can be used as it is\n";
    }
    if !left.is_empty() {
        *text += "        # Left out:\n";
        for (column, why) in left {
            let _ = writeln!(text, "        #   {}: {why}", quoted(&column.name));
        }
    }
    *text += "      algorithm: { random_forest: { trees: 100, max_depth: 12 } }\n      seed: 1\n";
}

/// A share of missing values that today's data keeps to with some room, in whole hundredths.
fn rounded_up(share: f64) -> f64 {
    if share <= 0.0 {
        return 0.0;
    }
    ((share * 1.5 + 0.01).clamp(0.0, 1.0) * 100.0).ceil() / 100.0
}

/// A text where parameters are put in, as a scalar of YAML.
fn scalar(text: &str) -> String {
    quoted(&text.replace("${", "$${"))
}

/// A text as a scalar of YAML, quoted where it could be read as something else.
fn quoted(text: &str) -> String {
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./*".contains(&byte))
        && matches!(super::source::plain(text), super::source::Kind::String(_))
        // Words that other readers of YAML take for flags.
        && !["y", "n", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    // JSON's escapes are YAML's, but for the characters that a line of YAML can't hold.
    let json = serde_json::to_string(text).expect("a text is JSON");
    let mut quoted = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            other => quoted.push(other),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::check;

    fn column(name: &str, kind: ColumnType, distinct: u64, null_share: f64, levels: &[&str]) -> StarterColumn {
        let levels = levels.iter().map(|level| (*level).to_owned()).collect();
        StarterColumn { name: name.to_owned(), kind, distinct, null_share, levels }
    }

    fn flights(target: &str) -> StarterTable {
        StarterTable {
            source: "data/*.csv.gz".to_owned(),
            target: target.to_owned(),
            rows: 336_776,
            columns: vec![
                column("year", ColumnType::Integer, 1, 0.0, &[]),
                column("late", ColumnType::Boolean, 2, 0.0, &[]),
                column("dep_delay", ColumnType::Integer, 527, 0.024, &[]),
                column("air_time", ColumnType::Float, 509, 0.028, &[]),
                column("origin", ColumnType::String, 3, 0.0, &["EWR", "JFK", "LGA"]),
                column("carrier", ColumnType::String, 3, 0.0, &["9E", "AA", "NO"]),
                column("tail num", ColumnType::String, 4_043, 0.007, &[]),
                column("flight id", ColumnType::Integer, 336_776, 0.0, &[]),
                column("time_hour", ColumnType::Timestamp, 6_936, 0.0, &[]),
            ],
        }
    }

    #[test]
    fn a_table_gets_a_pipeline_that_says_what_it_leaves_out() {
        let text = starter_pipeline(&flights("late"));
        expect![[r##"
            # Learns a model that tells the class of late, written by `gristmill init`.
            #
            # Change what you like and look with `gristmill check`; then `gristmill run` this file.
            # Steps that didn't change aren't run again.
            name: late
            params:
              source: data/*.csv.gz    # a file, a folder or a glob, relative to this file
            steps:
              data:
                ingest: { source: "${source}" }

              # What must hold of the data; a broken rule ends the run before anything is learned from it.
              trusted:
                expect:
                  input: data
                  rules:
                    - { rows: { min: 168388 } }
                    - { column: late, nulls: { max: 0 } }
                    - { column: dep_delay, nulls: { max: 0.05 } }
                    - { column: air_time, nulls: { max: 0.06 } }
                    - { column: origin, nulls: { max: 0 } }
                    - { column: origin, in: [EWR, JFK, LGA], severity: warn }
                    - { column: carrier, nulls: { max: 0 } }
                    - { column: carrier, in: ["9E", AA, "NO"], severity: warn }
                    - { column: time_hour, nulls: { max: 0 } }

              # A part of the rows is kept aside, to measure the model on what it hasn't seen.
              parts:
                split: { input: trusted, test: 0.2, stratify: late, seed: 1 }

              model:
                train:
                  input: parts.train
                  target: late
                  task: classification
                  features:
                    numeric: [dep_delay, air_time]
                    categorical: [origin, carrier]
                    dates: [time_hour]
                    # Left out:
                    #   year: it has one value
                    #   "tail num": it has too many different texts
                    #   "flight id": nearly every row has its own value, like an identifier
                  algorithm: { random_forest: { trees: 100, max_depth: 12 } }
                  seed: 1

              # Measures the model. Once a version is champion, `{ beats: champion }` keeps worse ones out.
              quality:
                validate:
                  model: model
                  input: parts.test
                  require:
                    # No better than chance is refused. Raise it to what the model must reach.
                    - { metric: roc_auc, min: 0.55 }

              release:
                register: { model: model, evidence: quality, name: late, alias: champion }

              scores:
                score: { model: model, input: parts.test, output: out/scores.csv }
        "##]]
        .assert_eq(&text);
        let pipeline = check("pipeline.yaml", &text, &[]).unwrap_or_else(|complaints| panic!("{complaints}"));
        assert!(pipeline.warnings.is_empty(), "{}", pipeline.warnings);
    }

    #[test]
    fn a_number_is_predicted_by_regression() {
        let text = starter_pipeline(&flights("air_time"));
        assert!(text.contains("task: regression") && text.contains("metric: r2") && !text.contains("stratify"));
        check("pipeline.yaml", &text, &[]).unwrap_or_else(|complaints| panic!("{complaints}"));
    }

    fn any_column() -> impl Strategy<Value = StarterColumn> {
        let kind = prop::sample::select(vec![
            ColumnType::Boolean,
            ColumnType::Integer,
            ColumnType::Float,
            ColumnType::String,
            ColumnType::Date,
            ColumnType::Timestamp,
        ]);
        let name = prop_oneof![
            "[a-z_]{1,8}",
            "\\PC{1,12}",
            "[$]{1,3}\\{[a-z]{1,3}\\}",
            Just("null".to_owned()),
            Just("1.5".to_owned())
        ];
        let levels = prop::collection::vec("\\PC{0,6}", 0..4);
        (name, kind, 0u64..400, 0.0..=1.0f64, levels).prop_map(|(name, kind, distinct, null_share, mut levels)| {
            levels.sort();
            levels.dedup();
            let distinct = if levels.is_empty() { distinct } else { levels.len() as u64 };
            StarterColumn { name, kind, distinct, null_share, levels }
        })
    }

    proptest! {
        #[test]
        fn any_table_with_something_to_learn_from_gets_a_pipeline_that_checks(
            columns in prop::collection::vec(any_column(), 0..6),
            source in prop_oneof!["\\PC{1,20}", Just("a/$${b}/${c}".to_owned())],
            rows in 1u64..1_000,
            unknown in prop::sample::select(vec![0.0, 0.2]),
        ) {
            let mut seen = std::collections::HashSet::from(["target".to_owned(), "distance".to_owned()]);
            let mut columns: Vec<StarterColumn> =
                columns.into_iter().filter(|column| seen.insert(column.name.clone())).collect();
            columns.push(column("target", ColumnType::String, 2, unknown, &["a", "b"]));
            columns.push(column("distance", ColumnType::Float, 9, 0.0, &[]));
            prop_assume!(!source.trim().is_empty());
            let table = StarterTable { source, target: "target".to_owned(), rows, columns };
            let text = starter_pipeline(&table);
            match check("pipeline.yaml", &text, &[]) {
                Ok(pipeline) => {
                    prop_assert!(pipeline.warnings.is_empty(), "{}\n{}", text, pipeline.warnings);
                    let crate::pipeline::Task::Ingest(ingest) = &pipeline.steps[0].task else {
                        panic!("the first step ingests");
                    };
                    prop_assert_eq!(ingest.source.to_vec(), vec![table.source]);
                }
                Err(complaints) => prop_assert!(false, "{}\n{}", text, complaints),
            }
        }
    }
}
