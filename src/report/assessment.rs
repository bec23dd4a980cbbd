//! What was found out about a model beside its metrics, as tables with bars.

use gristmill_ml::assess::{Assessment, ByGroup};
use gristmill_ml::metrics::{Evaluation, MetricInterval, PairedTest};
use gristmill_protocol::pipeline::steps::Wrong;

use super::page::{note, table};
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Metrics of slices that are shown, the first two that all rows have; the evidence holds all.
const SLICE_METRICS: [&str; 6] = ["roc_auc", "accuracy", "f1", "rmse", "mae", "r2"];
/// Inputs that are shown.
const INPUTS_SHOWN: usize = 25;
/// Groups of a column that are shown.
const GROUPS_SHOWN: usize = 40;

/// An interval in a cell.
pub fn ends(interval: Option<&MetricInterval>) -> String {
    interval.map_or_else(String::new, |ends| format!("{} to {}", text::number(ends.low), text::number(ends.high)))
}

/// A bar as long as a share from 0 to 1.
fn bar(m: &mut Markup, share: f64) {
    let width = if share.is_finite() { share.clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    m.el("td", &[class("bar-cell"), attr("aria-hidden", "true")], |m| {
        m.leaf("span", &[class("bar"), attr("style", format!("width:{width:.1}%"))], "");
    });
}

fn number(m: &mut Markup, value: &str) {
    m.leaf("td", &[class("number")], value);
}

fn row(m: &mut Markup, name: &str, cells: impl FnOnce(&mut Markup)) {
    m.el("tr", &[], |m| {
        m.leaf("th", &[attr("scope", "row")], name);
        cells(m);
    });
}

/// What a person should look at.
pub fn warnings(m: &mut Markup, found: &Assessment) {
    if found.warnings.is_empty() {
        return;
    }
    m.el("ul", &[class("gates")], |m| {
        for warning in &found.warnings {
            m.el("li", &[], |m| {
                m.leaf("span", &[class("badge is-rejected")], "! warning");
                m.text(" ");
                m.leaf("span", &[], warning);
            });
        }
    });
}

/// The model against others on the same rows.
pub fn comparisons(m: &mut Markup, step: &str, found: &Assessment) {
    if found.comparisons.is_empty() {
        return;
    }
    m.leaf("h4", &[], "Against others on the same rows");
    let headings = ["other", "metric", ">this model", ">the other", ">p", "test", ">rows tested"];
    table(m, &format!("How the model measured by {step} compares"), &headings, |m| {
        for comparison in &found.comparisons {
            row(m, &comparison.other, |m| {
                m.leaf("td", &[], &comparison.metric);
                number(m, &text::number(comparison.ours));
                number(m, &text::number(comparison.theirs));
                number(m, &text::number(comparison.p));
                let test = match comparison.test {
                    PairedTest::Delong => "DeLong",
                    PairedTest::Mcnemar => "McNemar",
                    PairedTest::Bootstrap => "paired bootstrap",
                };
                m.leaf("td", &[], test);
                number(m, &text::count(comparison.rows));
            });
        }
    });
    note(m, "p tells how likely the rows alone make such a difference between models that are equally good.");
}

/// Parts of the rows, each with a metric or two.
pub fn slices(m: &mut Markup, step: &str, evaluation: &Evaluation, found: &Assessment) {
    if found.slices.is_empty() {
        return;
    }
    m.leaf("h4", &[], "Slices");
    let metrics: Vec<&str> =
        SLICE_METRICS.into_iter().filter(|name| evaluation.metrics.contains_key(*name)).take(2).collect();
    let titles: Vec<String> = metrics.iter().map(|name| format!(">{name}")).collect();
    let mut headings = vec!["slice", "where", ">rows"];
    for title in &titles {
        headings.extend([title.as_str(), ">interval"]);
    }
    headings.push("");
    let first = metrics.first().copied().unwrap_or_default();
    let largest = found.slices.iter().filter_map(|slice| slice.metrics.get(first)).chain(evaluation.metrics.get(first));
    let largest = largest.copied().fold(0.0, f64::max);
    table(m, &format!("Slices measured by {step}; bars show {first}"), &headings, |m| {
        let mut line = |name: &str,
                        condition: &str,
                        rows: u64,
                        values: &std::collections::BTreeMap<String, f64>,
                        intervals: &std::collections::BTreeMap<String, MetricInterval>| {
            row(m, name, |m| {
                m.el("td", &[], |m| m.leaf("code", &[], condition));
                number(m, &text::count(rows));
                for metric in &metrics {
                    number(m, &values.get(*metric).map(|value| text::number(*value)).unwrap_or_default());
                    number(m, &ends(intervals.get(*metric)));
                }
                bar(m, values.get(first).map_or(0.0, |value| if largest > 0.0 { value / largest } else { 0.0 }));
            });
        };
        line("all rows", "", evaluation.rows, &evaluation.metrics, &found.intervals);
        for slice in &found.slices {
            line(&slice.name, &slice.condition, slice.rows, &slice.metrics, &slice.intervals);
        }
    });
}

/// Decisions by group.
pub fn fairness(m: &mut Markup, step: &str, found: &Assessment) {
    for by in &found.fairness {
        m.leaf("h4", &[], &format!("Groups of {}", by.column));
        groups(m, step, by);
        let spreads = [
            ("selection rates", by.found.demographic_parity),
            ("true positive rates", by.found.equal_opportunity),
            ("true and false positive rates", by.found.equalised_odds),
            ("precisions", by.found.predictive_parity),
        ];
        let told: Vec<String> = spreads
            .iter()
            .filter_map(|(rates, spread)| {
                let spread = (*spread)?;
                let (ratio, difference) = (text::number(spread.ratio), text::number(spread.difference));
                Some(format!("{rates}: ratio {ratio}, difference {difference}"))
            })
            .collect();
        if !told.is_empty() {
            note(m, &format!("Smallest against largest of the groups compared: {}.", told.join("; ")));
        }
        if let Some(holds) = by.found.four_fifths {
            let holds = if holds { "holds" } else { "doesn't hold" };
            note(
                m,
                &format!(
                    "The four-fifths rule {holds}: each group is to be selected at least 0.8 times as often as the most selected."
                ),
            );
        }
    }
}

fn groups(m: &mut Markup, step: &str, by: &ByGroup) {
    let caption = format!("Decisions for {} by group of {}, measured by {step}", by.positive, by.column);
    let headings = ["group", ">rows", ">selected", ">true positive", ">false positive", ">precision", ">ratio", ""];
    table(m, &caption, &headings, |m| {
        for group in by.found.groups.iter().take(GROUPS_SHOWN) {
            row(m, &text::cut(&group.name, 40), |m| {
                number(m, &text::count(group.counts.rows()));
                let rates =
                    [group.selection_rate, group.true_positive_rate, group.false_positive_rate, group.precision];
                for rate in rates {
                    number(m, &rate.map(text::percent).unwrap_or_default());
                }
                let ratio = group.impact_ratio.map_or_else(|| "few rows".to_owned(), text::number);
                number(m, &ratio);
                bar(m, group.selection_rate.unwrap_or(0.0));
            });
        }
    });
    if by.found.groups.len() > GROUPS_SHOWN {
        let more = text::counted((by.found.groups.len() - GROUPS_SHOWN) as u64, "more group");
        note(m, &format!("{more} in the evidence."));
    }
}

/// What wrong inputs do.
pub fn robustness(m: &mut Markup, step: &str, found: &Assessment) {
    let Some(first) = found.robustness.first() else { return };
    m.leaf("h4", &[], "When inputs are wrong");
    let flips = first.flips.is_some();
    let what = if flips { ">predictions flipped" } else { ">moved by (standard deviations)" };
    table(m, &format!("Robustness measured by {step}"), &["inputs", ">amount", what, ""], |m| {
        for way in &found.robustness {
            let (name, amount) = match way.wrong {
                Wrong::Noise => ("noise", format!("{} of a standard deviation", text::number(way.amount))),
                Wrong::Missing => ("missing", format!("{} of the values", text::percent(way.amount))),
                Wrong::OutOfRange => ("out of range", format!("{} of the numbers", text::percent(way.amount))),
            };
            row(m, name, |m| {
                number(m, &amount);
                let share = way.flips.or(way.shift).unwrap_or(0.0);
                number(m, &if flips { text::percent(share) } else { text::number(share) });
                bar(m, share);
            });
        }
    });
    note(m, &format!("On {}.", text::counted(first.rows, "row")));
}

/// What inputs are worth.
pub fn permutation(m: &mut Markup, step: &str, found: &Assessment) {
    let Some(permutation) = &found.permutation else { return };
    m.leaf("h4", &[], "What is lost without an input");
    let most = permutation.inputs.first().map_or(0.0, |input| input.mean);
    let title = format!(">loss of {}", permutation.metric);
    table(m, &format!("Permutation importance measured by {step}"), &["input", &title, ">±", ""], |m| {
        for input in permutation.inputs.iter().take(INPUTS_SHOWN) {
            row(m, &input.name, |m| {
                number(m, &text::number(input.mean));
                number(m, &text::number(input.deviation));
                bar(m, if most > 0.0 { input.mean / most } else { 0.0 });
            });
        }
    });
    let rows = text::counted(permutation.rows, "row");
    note(m, &format!("Each input dealt to other rows {} times, on {rows}.", permutation.repeats));
    if permutation.inputs.len() > INPUTS_SHOWN {
        let more = text::counted((permutation.inputs.len() - INPUTS_SHOWN) as u64, "more input");
        note(m, &format!("{more} matter less."));
    }
}
