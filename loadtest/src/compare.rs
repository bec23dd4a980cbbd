//! Two results beside each other: what got better, what worse, and what only varied.

use std::fmt::Write as _;

use anyhow::ensure;

use crate::outcome::{Better, Figure, Outcome, SCHEMA};
use crate::text;

/// Change that is taken for chance where rounds don't tell how far a figure varies: what the same program varies by
/// from run to run on a machine that others use too.
const NOISE: f64 = 0.05;
/// Standard errors of the two that a change must exceed: about 95 of 100 chance changes stay below.
const ERRORS: f64 = 2.0;

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// Within what figures vary by.
    Same,
    /// It says how much there was, and neither way is better.
    Neutral,
    /// Only the later result has it.
    New,
    /// Only the earlier result has it.
    Gone,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::Same => "same",
            Verdict::Neutral => "",
            Verdict::New => "new",
            Verdict::Gone => "gone",
        }
    }
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub name: String,
    pub unit: String,
    pub before: Option<f64>,
    pub after: Option<f64>,
    /// In per cent of the value before; nothing where that was zero or one of them is missing.
    pub percent: Option<f64>,
    pub verdict: Verdict,
}

/// All lines, and what makes the two hard to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub changes: Vec<Change>,
    pub caveats: Vec<String>,
}

/// Compares two results of one scenario.
///
/// # Errors
///
/// When they are of different scenarios, or of a form that this program doesn't know.
pub fn compare(before: &Outcome, after: &Outcome) -> anyhow::Result<Comparison> {
    ensure!(before.schema == SCHEMA, "the earlier result has form {}; this program knows {SCHEMA}", before.schema);
    ensure!(
        before.scenario == after.scenario,
        "the earlier result is of `{}`, this one of `{}`: they can't be compared",
        before.scenario,
        after.scenario
    );
    let mut caveats = Vec::new();
    if before.machine != after.machine {
        caveats.push("the machines differ".to_owned());
    }
    let different: Vec<&str> = after
        .settings
        .keys()
        .chain(before.settings.keys().filter(|name| !after.settings.contains_key(*name)))
        .filter(|name| before.settings.get(*name) != after.settings.get(*name))
        .map(String::as_str)
        .collect();
    if !different.is_empty() {
        caveats.push(format!("the settings differ: {}", different.join(", ")));
    }
    for (program, version) in &after.versions {
        if let Some(earlier) = before.versions.get(program).filter(|earlier| *earlier != version) {
            caveats.push(format!("{program} was {earlier} and is {version}"));
        }
    }
    let mut changes: Vec<Change> =
        after.found.figures.iter().map(|figure| change(before.found.get(&figure.name), Some(figure))).collect();
    let gone = before.found.figures.iter().filter(|figure| after.found.get(&figure.name).is_none());
    changes.extend(gone.map(|figure| change(Some(figure), None)));
    Ok(Comparison { changes, caveats })
}

fn change(before: Option<&Figure>, after: Option<&Figure>) -> Change {
    let named = after.or(before);
    let (name, unit) = named.map(|figure| (figure.name.clone(), figure.unit.clone())).unwrap_or_default();
    let (verdict, percent) = match (before, after) {
        (Some(before), Some(after)) => judge(before, after),
        (None, _) => (Verdict::New, None),
        (_, None) => (Verdict::Gone, None),
    };
    let value = |figure: Option<&Figure>| figure.map(|figure| figure.value);
    Change { name, unit, before: value(before), after: value(after), percent, verdict }
}

fn judge(before: &Figure, after: &Figure) -> (Verdict, Option<f64>) {
    let difference = after.value - before.value;
    let share = (before.value != 0.0).then(|| difference / before.value.abs());
    let percent = share.map(|share| share * 100.0);
    let Some(better) = after.better else { return (Verdict::Neutral, percent) };
    let noise = match (before.noise, after.noise) {
        (Some(a), Some(b)) => (ERRORS * a.hypot(b)).max(0.01),
        (Some(one), None) | (None, Some(one)) => (ERRORS * one).max(NOISE),
        (None, None) => NOISE,
    };
    // From nothing to something is beyond any noise.
    let is_change = share.map_or(difference != 0.0, |share| share.abs() > noise);
    let verdict = match (is_change, better) {
        (false, _) => Verdict::Same,
        (true, Better::Higher) if difference > 0.0 => Verdict::Better,
        (true, Better::Lower) if difference < 0.0 => Verdict::Better,
        (true, _) => Verdict::Worse,
    };
    (verdict, percent)
}

impl Comparison {
    /// The figures that got worse beyond noise and by more than so many per cent.
    pub fn worse_by(&self, percent: f64) -> Vec<&Change> {
        let is_bad = |change: &&Change| {
            change.verdict == Verdict::Worse && change.percent.is_none_or(|changed| changed.abs() > percent)
        };
        self.changes.iter().filter(is_bad).collect()
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let value =
            |value: Option<f64>, unit: &str| value.map_or("–".to_owned(), |value| text::with_unit(value, unit));
        let mut rows = vec![["figure", "before", "after", "change", ""].map(str::to_owned)];
        rows.extend(self.changes.iter().map(|change| {
            [
                change.name.clone(),
                value(change.before, &change.unit),
                value(change.after, &change.unit),
                change.percent.map_or(String::new(), |percent| format!("{percent:+.1} %")),
                change.verdict.as_str().to_owned(),
            ]
        }));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3)];
        let mut table = String::new();
        for [name, before, after, changed, verdict] in &rows {
            let [a, b, c, d] = widths;
            let line = format!("{name:<a$}  {before:>b$}  {after:>c$}  {changed:>d$}  {verdict}");
            table.push_str(line.trim_end());
            table.push('\n');
        }
        for caveat in &self.caveats {
            // Writing to a string can't fail.
            let _ = writeln!(table, "note: {caveat}");
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests_support::outcome;

    fn verdicts(before: &Outcome, after: &Outcome) -> Vec<(String, Verdict)> {
        let compared = compare(before, after).expect("comparable");
        compared.changes.into_iter().map(|change| (change.name, change.verdict)).collect()
    }

    #[test]
    fn changes_are_told_from_noise_and_both_ways() {
        let (mut before, mut after) = (outcome("throughput"), outcome("throughput"));
        for (found, values) in [(&mut before, [100.0, 10.0, 10.0, 5.0, 0.0]), (&mut after, [80.0, 8.0, 10.3, 9.0, 1.0])]
        {
            found.found.figures.clear();
            found.found.higher("rate", values[0], "1/s");
            found.found.lower("wait_ms", values[1], "ms");
            found.found.lower("hop_ms", values[2], "ms");
            found.found.count("runs", values[3] as u64, "");
            found.found.lower("lost", values[4], "");
        }
        after.found.higher("extra", 1.0, "");
        let expected = [
            ("rate", Verdict::Worse),
            ("wait_ms", Verdict::Better),
            ("hop_ms", Verdict::Same),
            ("runs", Verdict::Neutral),
            ("lost", Verdict::Worse),
            ("extra", Verdict::New),
        ];
        assert_eq!(verdicts(&before, &after), expected.map(|(name, verdict)| (name.to_owned(), verdict)));
        let compared = compare(&before, &after).expect("comparable");
        let names = |percent| compared.worse_by(percent).iter().map(|change| change.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(10.0), ["rate", "lost"]);
        assert_eq!(names(30.0), ["lost"]);
        assert!(compared.table().contains("-20.0 %  WORSE"), "{}", compared.table());
        assert_eq!(verdicts(&after, &before).last(), Some(&("extra".to_owned(), Verdict::Gone)));
    }

    #[test]
    fn rounds_tell_how_far_a_figure_varies() {
        let (mut before, mut after) = (outcome("chain"), outcome("chain"));
        before.found.figures.clear();
        after.found.figures.clear();
        before.found.lower("hop_ms", 1.0, "ms").rounds(&[0.999, 1.0, 1.001]);
        after.found.lower("hop_ms", 1.03, "ms").rounds(&[1.029, 1.03, 1.031]);
        assert_eq!(verdicts(&before, &after)[0].1, Verdict::Worse);
        after.found.figures.clear();
        after.found.lower("hop_ms", 1.2, "ms").rounds(&[0.8, 1.2, 1.6]);
        assert_eq!(verdicts(&before, &after)[0].1, Verdict::Same);
    }

    #[test]
    fn other_scenarios_and_machines_are_told() {
        let (before, mut after) = (outcome("chain"), outcome("chain"));
        assert!(compare(&outcome("throughput"), &before).is_err());
        after.machine.cores += 1;
        after.settings.insert("steps".to_owned(), serde_json::json!(7));
        let compared = compare(&before, &after).expect("comparable");
        assert_eq!(compared.caveats, ["the machines differ", "the settings differ: steps"]);
    }
}
