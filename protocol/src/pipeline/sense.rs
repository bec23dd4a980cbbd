//! What has the right shape and names the right steps, and still can't be meant.
//!
//! Errors are contradictions: a share over all rows, a gate without a bound, a regression with a metric of
//! classification. Warnings are things left unused: above all a check whose verdict nothing waits for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::complaint::{Complaint, wants_hint};
use super::graph::{dependents, waiters};
use super::names::{in_backticks, suggest};
use super::references::{Reference, StepInfo};
use super::source::{Kind, Node, Source, Span};
use super::steps::{CLASSIFICATION_METRICS, REGRESSION_METRICS};

/// Complains about everything that contradicts itself or is left unused.
pub(super) fn look(source: &Source<'_>, root: &Node, steps: &[StepInfo<'_>], complaints: &mut Vec<Complaint>) {
    let dependents = dependents(steps);
    let mut looker = Looker { source, root, steps, dependents: &dependents, complaints };
    for (index, step) in steps.iter().enumerate() {
        match step.kind {
            Some("ingest") => looker.ingest(step),
            Some("expect") => looker.expect(step),
            Some("split") => looker.split(step),
            Some("train") => looker.train(step),
            Some("tune") => looker.tune(step),
            Some("validate") => looker.validate(step),
            Some("register") => looker.register(index),
            Some("score") => looker.score(step),
            _ => {}
        }
        looker.limits_of(step);
        looker.when(step);
    }
    looker.unused_checks();
    looker.outputs();
    looker.unused_limits();
}

/// The name under which a model is registered, when all registering steps agree on one.
pub(super) fn registered_name<'s>(steps: &'s [StepInfo<'_>], model: usize) -> Option<&'s str> {
    let mut names = registered_names(steps, model);
    names.dedup();
    match names.as_slice() {
        [name] => Some(name),
        _ => None,
    }
}

fn registered_names<'s>(steps: &'s [StepInfo<'_>], model: usize) -> Vec<&'s str> {
    let of_model = steps.iter().filter(|step| {
        step.kind == Some("register") && step.target("model").is_some_and(|reference| reference.target == model)
    });
    let mut names: Vec<&str> = of_model.filter_map(|step| step.text("name")).collect();
    names.sort_unstable();
    names
}

/// What a train step learns, as far as the file says.
fn learning(train: &StepInfo<'_>) -> Option<&'static str> {
    match train.text("task") {
        Some("classification") => return Some("classification"),
        Some("regression") => return Some("regression"),
        Some("clustering") => return Some("clustering"),
        _ => {}
    }
    algorithm_learns(&train.param("algorithm")?.entries().first()?.key)
}

struct Looker<'l, 't, 'a> {
    source: &'l Source<'a>,
    root: &'t Node,
    steps: &'l [StepInfo<'t>],
    /// For every step those that mention it.
    dependents: &'l [Vec<usize>],
    complaints: &'l mut Vec<Complaint>,
}

impl Looker<'_, '_, '_> {
    fn error(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        let hint = hint.into();
        let complaint = self.source.complain(span, message);
        self.complaints.push(complaint.maybe_hint((!hint.is_empty()).then_some(hint)));
    }

    fn warn(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.complaints.push(self.source.complain(span, message).hint(hint).warning());
    }

    fn ingest(&mut self, step: &StepInfo<'_>) {
        if let Some(delimiter) = step.param("delimiter")
            && delimiter.as_str().is_some_and(|text| text.chars().count() == 1 && text.len() > 1)
        {
            self.error(
                delimiter.span,
                "`delimiter` must be an ASCII character",
                "use `,`, `;`, `|` or a tab: `\"\\t\"`",
            );
        }
        let source = step.param("source");
        let sources = source.into_iter().filter(|node| node.as_str().is_some());
        for node in sources.chain(source.map(Node::items).unwrap_or_default()) {
            if node.as_str().is_some_and(|text| text.trim().is_empty()) {
                self.error(node.span, "`source` is empty", "name a file, a folder or a glob");
            }
        }
        if let Some(node) = source
            && matches!(&node.kind, Kind::Sequence(items) if items.is_empty())
        {
            self.error(node.span, "`source` is empty", "name a file, a folder or a glob");
        }
        self.repeated(step.param("columns"), "columns");
        let (Some(columns), Some(types)) = (step.param("columns"), step.param("types")) else { return };
        if columns.has_unknown() {
            return;
        }
        let known: BTreeSet<&str> = columns.items().iter().filter_map(Node::as_str).collect();
        for entry in types.entries().iter().filter(|entry| !known.contains(entry.key.as_str())) {
            let hint = suggest(&entry.key, "the columns kept are", known.iter().copied()).unwrap_or_default();
            self.error(entry.key_span, format!("`types` names the column `{}`, which isn't kept", entry.key), hint);
        }
    }

    fn expect(&mut self, step: &StepInfo<'_>) {
        for rule in step.param("rules").map(Node::items).unwrap_or_default() {
            self.rule(rule);
        }
    }

    fn rule(&mut self, rule: &Node) {
        if !matches!(rule.kind, Kind::Mapping(_)) {
            return;
        }
        let has = |key: &str| rule.get(key).is_some_and(|node| node.kind != Kind::Null);
        let subjects: Vec<&str> = ["rows", "column", "sql"].into_iter().filter(|key| has(key)).collect();
        let checks: Vec<&str> =
            ["nulls", "between", "in", "matches", "unique"].into_iter().filter(|key| has(key)).collect();
        let span = rule.entries().first().map_or(rule.span, |entry| entry.key_span);
        let is_spelt_well = rule.entries().iter().all(|entry| is_rule_key(&entry.key));
        match subjects.as_slice() {
            // A key that isn't known is complained about already, and may be what is missed here.
            [] | ["column"] if !is_spelt_well => {}
            [] if !checks.is_empty() => {
                self.error(span, format!("{} needs a column", in_backticks(checks)), "add `column: NAME`");
            }
            [] => {
                self.error(span, "this rule checks nothing", "give it `rows`, `column` or `sql`");
            }
            ["column"] if checks.is_empty() => {
                let hint = "add `nulls`, `between`, `in`, `matches` or `unique`";
                self.error(span, "this rule says nothing about its column", hint);
            }
            [_, _, ..] => {
                let message = format!("a rule is about one of {}", in_backticks(subjects));
                self.error(span, message, "write one rule for each");
            }
            [other] if *other != "column" && !checks.is_empty() => {
                let message = format!("{} needs a column, not `{other}`", in_backticks(checks));
                self.error(span, message, "write one rule for each");
            }
            _ => {}
        }
        for (key, most) in [("rows", None), ("nulls", Some(1.0))] {
            if let Some(bounds) = rule.get(key) {
                self.bounds(bounds, key, most);
            }
        }
        if let Some(between) = rule.get("between") {
            self.between(between);
        }
        if let Some(entry) = rule.entry("in")
            && matches!(&entry.value.kind, Kind::Sequence(items) if items.is_empty())
        {
            self.error(entry.key_span, "`in` allows no value", "");
        }
    }

    fn bounds(&mut self, bounds: &Node, key: &str, most: Option<f64>) {
        if !matches!(bounds.kind, Kind::Mapping(_)) {
            return;
        }
        if bounds.entries().is_empty() {
            self.error(bounds.span, format!("`{key}` has no bound"), "give it `min`, `max` or both");
        }
        for end in ["min", "max"] {
            let Some(node) = bounds.get(end) else { continue };
            let Some(value) = node.as_f64() else { continue };
            if value < 0.0 || most.is_some_and(|most| value > most) {
                let range = most.map_or("at least 0".to_owned(), |most| format!("at least 0 and at most {most}"));
                self.error(node.span, format!("`{end}` in `{key}` must be {range}, found {value}"), "");
            }
        }
        self.ordered(bounds.get("min"), bounds.get("max"));
    }

    /// Complains when the lower bound is over the upper one.
    fn ordered(&mut self, min: Option<&Node>, max: Option<&Node>) {
        let (Some(min), Some(max)) = (min, max) else { return };
        let is_reversed = match (min.as_f64(), max.as_f64(), min.as_str(), max.as_str()) {
            (Some(min), Some(max), _, _) => min > max,
            // Texts are days or points in time here; they sort as they are written.
            (_, _, Some(min), Some(max)) => min > max,
            _ => false,
        };
        if is_reversed {
            let show = |node: &Node| node.to_value().to_string();
            let message = format!("the lower bound {} is over the upper bound {}", show(min), show(max));
            self.error(min.span, message, "swap them");
        }
    }

    fn between(&mut self, between: &Node) {
        let items = between.items();
        if let [min, max] = items {
            if min.kind == Kind::Null && max.kind == Kind::Null {
                self.error(between.span, "`between` has no bound", "");
            }
            self.ordered(Some(min), Some(max));
            let is_mixed =
                min.as_f64().is_some() && max.as_str().is_some() || min.as_str().is_some() && max.as_f64().is_some();
            if is_mixed {
                self.error(between.span, "`between` has a number and a text as its bounds", "");
            }
        }
        for item in items {
            if matches!(item.kind, Kind::Bool(_) | Kind::Sequence(_) | Kind::Mapping(_)) {
                self.error(item.span, "a bound of `between` must be a number, a day or a point in time", "");
            }
        }
    }

    fn split(&mut self, step: &StepInfo<'_>) {
        let share = |key: &str| step.param(key).and_then(Node::as_f64);
        if let (Some(test), Some(validation)) = (share("test"), share("validation"))
            && (0.0..1.0).contains(&test)
            && (0.0..1.0).contains(&validation)
            && test + validation >= 1.0
        {
            let span = step.param("test").map_or(step.name_span, |node| node.span);
            let message =
                format!("`test` and `validation` take {} of the rows and leave none to train", test + validation);
            self.error(span, message, "together they must be under 1");
        }
        let is_given =
            |key: &str| step.params.and_then(|params| params.entry(key)).filter(|entry| entry.value.kind != Kind::Null);
        if let (Some(_), Some(time)) = (is_given("stratify"), is_given("time")) {
            let hint = "a split by time takes the last rows, whatever their values; remove one of the two";
            self.error(time.key_span, "a split is either stratified or by time", hint);
        }
    }

    fn train(&mut self, step: &StepInfo<'_>) {
        if let Some(features) = step.param("features") {
            self.features(step, features);
        }
        self.decisions(step);
        if let Some(algorithm) = step.param("algorithm").and_then(|node| node.entries().first()) {
            let target = step.params.and_then(|params| params.entry("target"));
            match (target, algorithm_learns(&algorithm.key) == Some("clustering")) {
                (Some(target), true) => {
                    let message = format!("`{}` finds groups without a target", algorithm.key);
                    self.error(target.key_span, message, "remove `target`");
                }
                (None, false) => {
                    let hint = "name the column to predict: `target: column`";
                    self.error(step.name_span, format!("step `{}` has no `target`", step.name), hint);
                }
                (Some(_), false) | (None, true) => {}
            }
        }
        let Some((algorithm, says)) = step
            .param("algorithm")
            .and_then(|node| node.entries().first())
            .and_then(|entry| Some((entry, algorithm_learns(&entry.key)?)))
        else {
            return;
        };
        if let Some(task) = step.param("task")
            && let Some(asked) = task.as_str()
            && ["classification", "regression", "clustering"].contains(&asked)
            && asked != says
        {
            let hint = match asked {
                "regression" => {
                    "use `linear_regression`, `ridge`, `lasso`, `elastic_net`, `decision_tree` or `random_forest`"
                }
                "clustering" => "use `k_means` or `dbscan`",
                _ => "use `logistic_regression`, `decision_tree` or `random_forest`",
            };
            let message = format!("`{}` is for {says}, but `task` is `{asked}`", algorithm.key);
            self.error(algorithm.key_span, message, hint);
        }
    }

    fn tune(&mut self, step: &StepInfo<'_>) {
        if let Some(features) = step.param("features") {
            self.features(step, features);
        }
        self.decisions(step);
        let listed = step.param("algorithms").map(Node::items).unwrap_or_default();
        let algorithms: Vec<&str> =
            listed.iter().filter_map(|node| node.entries().first()).map(|entry| entry.key.as_str()).collect();
        for entry in step.param("space").map(Node::entries).unwrap_or_default() {
            let of = entry.key.split_once('.').map(|(of, _)| of);
            if !of.is_some_and(|of| of == "features" || algorithms.contains(&of)) {
                let message = format!("`{}` is no setting of the algorithms or the features", entry.key);
                let hint = "write the algorithm and its setting: `random_forest.max_depth`, or `features.scale`";
                self.error(entry.key_span, message, hint);
            }
            let has = |key: &str| entry.value.get(key).is_some_and(|value| value.kind != Kind::Null);
            let (numbers, choices) = (has("low") && has("high"), has("choices"));
            match entry.value.get("type").and_then(Node::as_str) {
                Some("categorical") if !choices => {
                    self.error(entry.key_span, format!("`{}` has no `choices`", entry.key), "list its values");
                }
                Some("integer" | "float") if !numbers => {
                    let hint = "give `low` and `high`";
                    self.error(entry.key_span, format!("`{}` has no bounds", entry.key), hint);
                }
                _ => {}
            }
        }
        let folds = step.param("folds");
        let by = folds.and_then(|folds| folds.get("by"));
        let column = folds.and_then(|folds| folds.get("column")).filter(|node| node.kind != Kind::Null);
        if let Some(by) = by
            && matches!(by.as_str(), Some("group" | "time"))
            && column.is_none()
        {
            self.error(by.span, "folds by a group or by time need a column", "add `column:`");
        }
    }

    fn features(&mut self, step: &StepInfo<'_>, features: &Node) {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let target = step.text("target");
        for list in FEATURE_LISTS {
            for item in features.get(list).map(Node::items).unwrap_or_default() {
                let node = item.get("column").unwrap_or(item);
                let Some(column) = node.as_str() else { continue };
                if Some(column) == target {
                    let hint = "a model that sees the target learns nothing else; remove it";
                    self.error(node.span, format!("the target `{column}` is listed among the features"), hint);
                }
                match seen.insert(column, list) {
                    Some(other) if other == list => {
                        self.error(node.span, format!("column `{column}` is listed twice"), "");
                    }
                    Some("numeric") if list == "categorical" => {
                        let hint = "numbers that are labels (a month, a code) are categorical; quantities are numeric";
                        self.error(node.span, format!("column `{column}` is both numeric and categorical"), hint);
                    }
                    Some(other) => {
                        let hint = format!(
                            "for a second view of it write an expression: `expressions: {{ again: {column} }}`"
                        );
                        self.error(node.span, format!("column `{column}` is listed under `{other}` too"), hint);
                    }
                    None => {}
                }
                self.numeric_settings(item);
            }
        }
        let expressions = features.get("expressions").map(Node::entries).unwrap_or_default();
        for entry in expressions.iter().filter(|entry| Some(entry.key.as_str()) == target) {
            let hint = "the table has the target under this name; choose another";
            self.error(entry.key_span, format!("an expression is called `{}`, like the target", entry.key), hint);
        }
        let infers = features.get("infer").is_some_and(|node| node.kind == Kind::Bool(true));
        let is_empty = seen.is_empty() && expressions.is_empty() && !infers && !features.has_unknown();
        let knows_all = features.entries().iter().all(|entry| match entry.key.as_str() {
            "expressions" => matches!(entry.value.kind, Kind::Mapping(_)),
            key => !FEATURE_LISTS.contains(&key) || matches!(entry.value.kind, Kind::Sequence(_)),
        });
        if is_empty && knows_all && matches!(features.kind, Kind::Mapping(_)) {
            let span =
                step.params.and_then(|params| params.entry("features")).map_or(features.span, |entry| entry.key_span);
            self.error(span, "no features are listed", "list columns under `numeric` or `categorical`");
        }
    }

    /// Settings of a column that contradict each other.
    fn numeric_settings(&mut self, column: &Node) {
        let clip = column.get("clip");
        if let [min, max] = clip.map(|clip| clip.get("quantiles").unwrap_or(clip).items()).unwrap_or_default() {
            self.ordered(Some(min), Some(max));
        }
        let is_set =
            |key: &str| column.entry(key).filter(|entry| !matches!(entry.value.kind, Kind::Null | Kind::Bool(false)));
        if is_set("bins").is_some() {
            for entry in ["scale", "log", "clip"].into_iter().filter_map(is_set) {
                let message = format!("`{}` changes nothing beside `bins`", entry.key);
                self.error(
                    entry.key_span,
                    message,
                    "bins hold the same rows whatever the scale; remove one of the two",
                );
            }
        }
    }

    /// Calibration and thresholds are about classes.
    fn decisions(&mut self, step: &StepInfo<'_>) {
        let given =
            |key: &str| step.params.and_then(|params| params.entry(key)).filter(|entry| entry.value.kind != Kind::Null);
        for key in ["calibrate", "threshold"] {
            if let Some(entry) = given(key)
                && learning(step) == Some("regression")
            {
                let message = format!("`{key}` is for classes, and `{}` learns a number", step.name);
                self.error(entry.key_span, message, "remove it");
            }
        }
        if let Some(kept) = given("kept")
            && given("calibrate").is_none()
            && given("threshold").is_none()
        {
            let hint = "remove it, or add `calibrate` or `threshold`";
            self.error(kept.key_span, "`kept` keeps rows apart for nothing", hint);
        }
        let Some(threshold) = given("threshold") else { return };
        let aims = ["metric", "costs", "min_recall", "min_precision"];
        let entries = threshold.value.entries();
        let named: Vec<&str> = aims.into_iter().filter(|aim| has(&threshold.value, aim)).collect();
        let is_spelt_well = entries.iter().all(|entry| aims.contains(&entry.key.as_str()));
        match named.as_slice() {
            [] if is_spelt_well && matches!(threshold.value.kind, Kind::Mapping(_)) => {
                let message = "this threshold is chosen for nothing";
                self.error(threshold.key_span, message, format!("give it one of {}", in_backticks(aims)));
            }
            [_, _, ..] => {
                let message = format!("a threshold is chosen for one of {}", in_backticks(named));
                self.error(threshold.key_span, message, "remove the others");
            }
            _ => {}
        }
        if let Some(costs) = threshold.value.get("costs") {
            let cost = |key: &str| match costs.get(key) {
                Some(node) => node.as_f64(),
                None => Some(0.0),
            };
            let pairs = [("false_positive", "true_negative"), ("false_negative", "true_positive")];
            for (mistake, right) in pairs {
                if let (Some(node), Some(wrong), Some(fine)) = (costs.get(mistake), cost(mistake), cost(right))
                    && wrong <= fine
                {
                    let message = format!("`{mistake}` costs {wrong}, no more than `{right}` with {fine}");
                    self.error(node.span, message, "mistakes cost more than being right; gains are negative");
                }
            }
        }
    }

    fn validate(&mut self, step: &StepInfo<'_>) {
        let model = step.target("model").map(|reference| reference.target);
        if let Some(draws) = step.param("intervals").and_then(|intervals| intervals.get("draws"))
            && let Some(count) = draws.as_f64()
            && count > 0.0
            && count < 100.0
        {
            let message = format!("`draws` must be 0 or at least 100, found {count}");
            self.error(draws.span, message, "with fewer the ends of an interval are guesses");
        }
        for entry in step.param("slices").map(Node::entries).unwrap_or_default() {
            if entry.key.trim().is_empty() {
                self.error(entry.key_span, "a slice has no name", "");
            }
        }
        self.repeated(step.param("fairness").and_then(|fairness| fairness.get("by")), "by");
        if let Some(fairness) = step.params.and_then(|params| params.entry("fairness"))
            && fairness.value.kind != Kind::Null
            && model.is_some_and(|model| learning(&self.steps[model]) == Some("regression"))
        {
            self.error(fairness.key_span, "`fairness` is for classes, and the model tells a number", "remove it");
        }
        if let Some(node) = step.param("importance").and_then(|importance| importance.get("metric")) {
            self.metric_fits(node, model);
        }
        for gate in step.param("require").map(Node::items).unwrap_or_default() {
            if matches!(gate.kind, Kind::Mapping(_)) {
                self.gate(step, gate, model);
            }
        }
    }

    fn gate(&mut self, step: &StepInfo<'_>, gate: &Node, model: Option<usize>) {
        let has = |key: &str| has(gate, key);
        let span = gate.entries().first().map_or(gate.span, |entry| entry.key_span);
        let is_bounded = has("min") || has("max");
        let subjects: Vec<&str> = GATE_SUBJECTS.into_iter().filter(|key| has(key)).collect();
        if !is_bounded && !has("beats") {
            // A misspelt bound is complained about already.
            if gate.entries().iter().all(|entry| GATE_WORDS.contains(&entry.key.as_str())) {
                self.error(span, "this gate lets everything pass", "give it `min`, `max` or `beats`");
            }
        } else if is_bounded && subjects.is_empty() {
            self.error(span, "this gate has a bound but no metric", "add `metric: NAME`");
        }
        match subjects.as_slice() {
            [_, _, ..] => {
                let message = format!("a gate is about one of {}", in_backticks(subjects.iter().copied()));
                self.error(span, message, "write one gate for each");
            }
            [subject] if *subject != "metric" && has("beats") => {
                let message = format!("`beats` compares a metric, not `{subject}`");
                self.error(span, message, "write one gate for each");
            }
            _ => {}
        }
        for (key, wanted) in GATE_NEEDS {
            if let Some(entry) = gate.entry(key).filter(|_| has(key) && !has(wanted)) {
                let hint = format!("remove it, or add `{wanted}: …`");
                self.error(entry.key_span, format!("`{key}` means nothing without `{wanted}`"), hint);
            }
        }
        if has("name") && !has("beats") {
            self.error(span, "`name` means nothing without `beats`", "remove it, or add `beats: ALIAS`");
        }
        if let Some(entry) = gate.entry("p_max").filter(|_| has("p_max"))
            && gate.get("significant").is_none_or(|node| node.kind == Kind::Bool(false))
        {
            self.error(entry.key_span, "`p_max` means nothing without `significant`", "add `significant: true`");
        }
        self.ordered(gate.get("min"), gate.get("max"));
        self.gate_is_measured(step, gate);
        let Some(model) = model else { return };
        if let Some(node) = gate.get("metric") {
            self.metric_fits(node, Some(model));
        }
        if let Some(beats) = gate.entry("beats").filter(|_| has("beats") && !has("name"))
            && registered_name(self.steps, model).is_none()
        {
            let model_name = self.steps[model].name;
            let message = match registered_names(self.steps, model).as_slice() {
                [] => format!("`beats` needs a registered model, and no step registers `{model_name}`"),
                names => format!(
                    "`beats` is ambiguous: `{model_name}` is registered as {}",
                    in_backticks(names.iter().copied())
                ),
            };
            self.error(beats.key_span, message, "say which model: `name: NAME`");
        }
    }

    /// A gate can only bound what its step measures.
    fn gate_is_measured(&mut self, step: &StepInfo<'_>, gate: &Node) {
        let entry = |key: &str| gate.entry(key).filter(|entry| entry.value.kind != Kind::Null);
        let measured = |key: &str| step.param(key).is_some_and(|node| node.kind != Kind::Null);
        if let Some(slice) = entry("slice")
            && let Some(name) = slice.value.as_str()
        {
            let slices = step.param("slices").map(Node::entries).unwrap_or_default();
            if !slices.iter().any(|known| known.key == name) {
                let hint = suggest(name, "the step's slices", slices.iter().map(|known| known.key.as_str()))
                    .unwrap_or_else(|| format!("declare it: `slices: {{ {name}: \"CONDITION\" }}`"));
                self.error(slice.value.span, format!("unknown slice `{name}`"), hint);
            }
        }
        let draws = step.param("intervals").and_then(|intervals| intervals.get("draws"));
        if let Some(bound) = entry("bound")
            && draws.and_then(Node::as_f64) == Some(0.0)
        {
            let message = "`bound` needs intervals, and `intervals` has no draws";
            self.error(bound.key_span, message, "give `draws` 100 or more");
        }
        for (key, section, hint) in [
            ("fairness", "fairness", "add `fairness: { by: [COLUMN] }` to the step"),
            ("flips", "robustness", "add `robustness: {}` to the step"),
        ] {
            if let Some(entry) = entry(key)
                && !measured(section)
            {
                self.error(entry.key_span, format!("`{key}` isn't measured by `{}`", step.name), hint);
            }
        }
        let Some(fairness) = entry("fairness").filter(|_| measured("fairness")) else { return };
        let groups = step.param("fairness").and_then(|fairness| fairness.get("by")).map(Node::items);
        let groups: Vec<&str> = groups.unwrap_or_default().iter().filter_map(Node::as_str).collect();
        match entry("by") {
            None if groups.len() > 1 => {
                let message = "this gate doesn't say whose groups it compares";
                self.error(fairness.key_span, message, format!("add `by:` with one of {}", in_backticks(groups)));
            }
            Some(by) => {
                if let Some(column) = by.value.as_str()
                    && !groups.contains(&column)
                {
                    let hint = suggest(column, "the step's groups", groups.iter().copied()).unwrap_or_default();
                    let message = format!("`fairness` of `{}` doesn't look at `{column}`", step.name);
                    self.error(by.value.span, message, hint);
                }
            }
            None => {}
        }
    }

    fn metric_fits(&mut self, node: &Node, model: Option<usize>) {
        if let Some(model) = model
            && let Some(metric) = node.as_str()
            && let Some(learned) = learning(&self.steps[model])
        {
            let (fitting, others) = match learned {
                "classification" => (CLASSIFICATION_METRICS.as_slice(), REGRESSION_METRICS.as_slice()),
                _ => (REGRESSION_METRICS.as_slice(), CLASSIFICATION_METRICS.as_slice()),
            };
            if others.contains(&metric) {
                let message = format!("`{metric}` doesn't fit `{}`, which is a {learned}", self.steps[model].name);
                self.error(node.span, message, format!("use one of {}", in_backticks(fitting.iter().copied())));
            }
        }
    }

    fn register(&mut self, index: usize) {
        let step = &self.steps[index];
        let Some(model) = step.target("model") else { return };
        if let Some(evidence) = step.target("evidence") {
            let judged = self.steps[evidence.target].target("model");
            if let Some(judged) = judged.filter(|judged| judged.target != model.target) {
                let message =
                    format!("`evidence` is about `{}`, but the step registers `{}`", judged.need.step, model.need.step);
                self.error(evidence.span, message, "name the `validate` step of the same model");
            }
            return;
        }
        // Unresolved evidence is complained about already.
        if step.param("evidence").is_some_and(|node| node.kind != Kind::Null) {
            return;
        }
        let validations: Vec<usize> = (0..self.steps.len())
            .filter(|other| {
                let judged = self.steps[*other].target("model");
                self.steps[*other].kind == Some("validate")
                    && judged.is_some_and(|judged| judged.target == model.target)
            })
            .collect();
        let is_judged = validations.iter().any(|validation| waiters(self.dependents, *validation).contains(&index));
        if let Some(&validation) = validations.first()
            && !is_judged
        {
            let name = self.steps[validation].name;
            let message = format!("step `{}` registers `{}` without waiting for `{name}`", step.name, model.need.step);
            self.warn(step.name_span, message, format!("add `evidence: {name}`"));
        }
    }

    fn score(&mut self, step: &StepInfo<'_>) {
        if let Some(output) = step.param("output")
            && let Some(path) = output.as_str()
            && !(path.ends_with(".csv") || path.ends_with(".parquet"))
        {
            let message = format!("`output` must end in `.parquet` or `.csv`, found `{path}`");
            self.error(output.span, message, "");
        }
        self.repeated(step.param("keep"), "keep");
    }

    fn repeated(&mut self, list: Option<&Node>, key: &str) {
        let mut seen = HashSet::new();
        for node in list.map(Node::items).unwrap_or_default() {
            if let Some(column) = node.as_str()
                && !seen.insert(column)
            {
                self.error(node.span, format!("column `{column}` stands twice in `{key}`"), "");
            }
        }
    }

    fn limits_of(&mut self, step: &StepInfo<'_>) {
        let declared = self.root.get("limits").map(Node::entries).unwrap_or_default();
        let names: HashSet<&str> = declared.iter().map(|entry| entry.key.as_str()).collect();
        for node in step.body.get("limits").map(Node::items).unwrap_or_default() {
            let Some(name) = node.as_str() else { continue };
            if !names.contains(name) {
                let wants = wants_hint(self.complaints);
                let declared = if wants { declared } else { &[] };
                let hint = suggest(name, "the pipeline's limits", declared.iter().map(|entry| entry.key.as_str()))
                    .unwrap_or_else(|| format!("declare it: `limits: {{ {name}: 4 }}`"));
                self.error(node.span, format!("unknown limit `{name}`"), hint);
            }
        }
    }

    /// A step that runs when another failed can't have its output.
    fn when(&mut self, step: &StepInfo<'_>) {
        let when = step.body.get("when").and_then(Node::as_str);
        if !matches!(when, Some("failure" | "always")) {
            return;
        }
        let input = step.references.iter().find(|reference| !reference.need.order_only);
        if let Some(Reference { need, span, .. }) = input {
            let message = format!(
                "step `{}` also runs when `{}` has failed, and then there is nothing to take from it",
                step.name, need.step
            );
            self.warn(*span, message, "use `after` for steps that are only waited for");
        }
    }

    /// An `expect` whose verdict is bypassed: others take the same input without waiting for it.
    fn unused_checks(&mut self) {
        let steps = self.steps;
        // One check that is passed by is enough to say of a step.
        let mut warned = HashSet::new();
        for (index, check) in steps.iter().enumerate().filter(|(_, step)| step.kind == Some("expect")) {
            let Some(checked) = check.target("input") else { continue };
            if !can_reject(check) {
                continue;
            }
            let waiting = waiters(self.dependents, index);
            for (other, step) in steps.iter().enumerate() {
                if other == index || step.kind == Some("expect") || waiting.contains(&other) {
                    continue;
                }
                let bypass = step.references.iter().find(|reference| reference.need == checked.need);
                if let Some(bypass) = bypass
                    && warned.insert(other)
                {
                    let taken = need_name(bypass);
                    let message = format!(
                        "step `{}` takes `{taken}` without waiting for `{}`, which checks it",
                        step.name, check.name
                    );
                    self.warn(
                        bypass.span,
                        message,
                        format!("take `{}`, which is the same data once checked", check.name),
                    );
                }
            }
        }
    }

    /// Two steps that write the same file.
    fn outputs(&mut self) {
        let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
        let steps = self.steps;
        for step in steps.iter().filter(|step| step.kind == Some("score")) {
            let Some(node) = step.param("output") else { continue };
            let Some(path) = node.as_str() else { continue };
            let path = path.strip_prefix("./").unwrap_or(path);
            if let Some(first) = writers.insert(path, step.name) {
                self.error(node.span, format!("step `{first}` writes to `{path}` too"), "give each its own file");
            }
        }
    }

    fn unused_limits(&mut self) {
        let used: HashSet<&str> = self
            .steps
            .iter()
            .flat_map(|step| step.body.get("limits").map(Node::items).unwrap_or_default())
            .filter_map(Node::as_str)
            .collect();
        for entry in self.root.get("limits").map(Node::entries).unwrap_or_default() {
            if !used.contains(entry.key.as_str()) {
                let message = format!("limit `{}` is never used", entry.key);
                self.warn(
                    entry.key_span,
                    message,
                    format!("add `limits: [{}]` to the steps that it is for", entry.key),
                );
            }
        }
    }
}

/// The keys of `features` under which columns are listed.
const FEATURE_LISTS: [&str; 4] = ["numeric", "categorical", "dates", "text"];

/// Whether a mapping gives a key a value.
fn has(node: &Node, key: &str) -> bool {
    node.get(key).is_some_and(|value| value.kind != Kind::Null)
}

/// What a gate can be about.
const GATE_SUBJECTS: [&str; 4] = ["metric", "fairness", "flips", "budget"];
/// Keys of a gate that leave it without a bound.
const GATE_WORDS: [&str; 11] =
    ["metric", "name", "bound", "slice", "fairness", "measure", "by", "flips", "budget", "significant", "p_max"];
/// Keys of a gate that say more of another.
const GATE_NEEDS: [(&str, &str); 5] =
    [("bound", "metric"), ("slice", "metric"), ("measure", "fairness"), ("by", "fairness"), ("significant", "beats")];

fn is_rule_key(key: &str) -> bool {
    ["rows", "column", "nulls", "between", "in", "matches", "unique", "sql", "severity", "tolerate"].contains(&key)
}

/// Whether a broken rule of this step stops the run.
fn can_reject(expect: &StepInfo<'_>) -> bool {
    let rules = expect.param("rules").map(Node::items).unwrap_or_default();
    rules.iter().any(|rule| rule.get("severity").and_then(Node::as_str) != Some("warn"))
}

fn algorithm_learns(algorithm: &str) -> Option<&'static str> {
    match algorithm {
        "logistic_regression" | "naive_bayes" | "support_vector_machine" => Some("classification"),
        "k_means" | "dbscan" => Some("clustering"),
        "linear_regression" | "ridge" | "lasso" | "elastic_net" => Some("regression"),
        _ => None,
    }
}

fn need_name(reference: &Reference) -> String {
    match &reference.need.output {
        Some(output) => format!("{}.{output}", reference.need.step),
        None => reference.need.step.clone(),
    }
}
