//! Models: what they learned from, what matters to them, how good they are and whether that was enough.

use std::collections::BTreeMap;

use gristmill_ml::assess::Assessment;
use gristmill_ml::calibrate::Curve;
use gristmill_ml::estimators::algorithm_name;
use gristmill_ml::metrics::{self, Charts, ClassificationCharts, Direction, Evaluation, RegressionCharts};
use gristmill_ml::model::{Importance, Model};
use gristmill_ml::target::Goal;
use gristmill_protocol::pipeline::Learning;
use gristmill_scheduler::history::History;
use gristmill_worker::documents::GateResult;

use super::assessment;
use super::attribution;
use super::charts;
use super::gather::{Findings, FoundEvidence, FoundModel};
use super::page::{note, section, table};
use super::search;
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Input columns whose importance is shown.
const IMPORTANCES_SHOWN: usize = 25;
/// Classes of a confusion matrix that is drawn; a larger one can't be read.
const CONFUSION_CLASSES_MAX: usize = 25;
/// Classes that are named in a line.
const CLASSES_NAMED: usize = 12;

/// The section on models, if the run made or measured any.
pub fn section_of(m: &mut Markup, history: &History, findings: &Findings) {
    if findings.models.is_empty() && findings.evaluations.is_empty() {
        return;
    }
    section(m, "model", "Model", |m| {
        for found in &findings.evaluations {
            evaluation(m, found);
        }
        for found in &findings.models {
            model(m, history, found);
        }
    });
}

fn evaluation(m: &mut Markup, found: &FoundEvidence) {
    m.leaf("h3", &[], &format!("Measured by {}", found.step));
    let evidence = match &found.evidence {
        Ok(evidence) => evidence,
        Err(why) => return note(m, &format!("It can't be shown: {why}.")),
    };
    gates(m, &evidence.gates);
    let rows = text::counted(evidence.evaluation.rows, "row");
    note(m, &format!("On {rows} that the model had not seen."));
    assessment::warnings(m, &evidence.assessment);
    metrics_table(m, &found.step, &evidence.evaluation, &evidence.assessment);
    assessment::comparisons(m, &found.step, &evidence.assessment);
    assessment::slices(m, &found.step, &evidence.evaluation, &evidence.assessment);
    assessment::fairness(m, &found.step, &evidence.assessment);
    assessment::robustness(m, &found.step, &evidence.assessment);
    assessment::permutation(m, &found.step, &evidence.assessment);
    if let Some(attributions) = &evidence.assessment.attributions {
        attribution::attributions(m, &found.step, attributions);
    }
    match &evidence.evaluation.charts {
        Charts::Classification(charts) => classification(m, &found.step, charts),
        Charts::Regression(charts) => regression(m, charts),
    }
}

fn gates(m: &mut Markup, gates: &[GateResult]) {
    if gates.is_empty() {
        return;
    }
    m.el("ul", &[class("gates")], |m| {
        for gate in gates {
            let (look, sign) =
                if gate.passed { ("badge is-good", "✓ passed") } else { ("badge is-rejected", "! not met") };
            m.el("li", &[], |m| {
                m.leaf("span", &[class(look)], sign);
                m.text(" ");
                m.leaf("span", &[], &gate.message);
            });
        }
    });
}

fn metrics_table(m: &mut Markup, step: &str, evaluation: &Evaluation, assessment: &Assessment) {
    let learning = match evaluation.charts {
        Charts::Classification(_) => Learning::Classification,
        Charts::Regression(_) => Learning::Regression,
    };
    let interval = format!(">{}% interval", text::number(100.0 * assessment.level));
    let mut headings = vec!["metric", ">value"];
    let has_intervals = !assessment.intervals.is_empty();
    if has_intervals {
        headings.push(&interval);
    }
    headings.push("better is");
    table(m, &format!("Metrics of {step}"), &headings, |m| {
        for (name, value) in &evaluation.metrics {
            m.el("tr", &[], |m| {
                m.leaf("th", &[attr("scope", "row")], name);
                m.leaf("td", &[class("number")], &text::number(*value));
                if has_intervals {
                    m.leaf("td", &[class("number")], &assessment::ends(assessment.intervals.get(name)));
                }
                let better = match metrics::direction(learning, name) {
                    Ok(Direction::Larger) => "larger",
                    Ok(Direction::Smaller) => "smaller",
                    Ok(Direction::NearerToZero) => "nearer to 0",
                    Err(_) => "",
                };
                m.leaf("td", &[], better);
            });
        }
    });
}

fn classification(m: &mut Markup, step: &str, charts: &ClassificationCharts) {
    for curve in &charts.curves {
        m.leaf("h4", &[class("class")], &format!("Class {}", curve.class));
        m.el("div", &[class("charts")], |m| {
            charts::roc(m, curve);
            charts::precision_recall(m, curve);
            charts::calibration(m, &curve.calibration, &curve.class);
            charts::scores(m, curve);
        });
    }
    confusion(m, step, charts);
}

/// True classes down, predicted ones across; a cell is as dark as its share of the true class.
fn confusion(m: &mut Markup, step: &str, charts: &ClassificationCharts) {
    m.leaf("h4", &[], "Confusion");
    if charts.classes.len() > CONFUSION_CLASSES_MAX {
        let classes = text::counted(charts.classes.len() as u64, "class");
        return note(m, &format!("{classes} are too many for a table; the evidence holds all counts."));
    }
    let caption = format!("Rows by true and predicted class, measured by {step}; shares are of the true class");
    let mut headings = vec!["true \\ predicted".to_owned()];
    headings.extend(charts.classes.iter().map(|class| format!(">{}", text::cut(class, 24))));
    headings.push(">rows".to_owned());
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    table(m, &caption, &headings, |m| {
        for (truth, (name, counts)) in charts.classes.iter().zip(&charts.confusion).enumerate() {
            let rows: u64 = counts.iter().sum();
            m.el("tr", &[], |m| {
                m.leaf("th", &[attr("scope", "row")], &text::cut(name, 24));
                for (predicted, count) in counts.iter().enumerate() {
                    let share = *count as f64 / rows.max(1) as f64;
                    let shade = attr("style", format!("--share:{share:.3}"));
                    let look = if truth == predicted { "number cell right" } else { "number cell wrong" };
                    m.el("td", &[class(look), shade], |m| {
                        m.text(&text::count(*count));
                        m.leaf("small", &[], &text::percent(share));
                    });
                }
                m.leaf("td", &[class("number")], &text::count(rows));
            });
        }
    });
}

fn regression(m: &mut Markup, charts: &RegressionCharts) {
    m.el("div", &[class("charts")], |m| {
        charts::predicted_actual(m, charts);
        charts::residuals(m, &charts.residuals);
    });
}

fn model(m: &mut Markup, history: &History, found: &FoundModel) {
    m.leaf("h3", &[], &format!("Trained by {}", found.step));
    let model = match &found.model {
        Ok(model) => model,
        Err(why) => return note(m, &format!("The model can't be shown: {why}.")),
    };
    match &found.study {
        Some(Ok(study)) => search::search(m, &found.step, study),
        Some(Err(why)) => note(m, &format!("The search can't be shown: {why}.")),
        None => {}
    }
    let training = model.training();
    m.el("dl", &[class("facts")], |m| {
        let mut fact = |name: &str, value: &str| {
            m.el("div", &[], |m| {
                m.leaf("dt", &[], name);
                m.leaf("dd", &[], value);
            });
        };
        fact("algorithm", algorithm_name(&training.algorithm));
        settings(model).iter().for_each(|(name, value)| fact(name, value));
        fact("seed", &training.seed.to_string());
        fact("predicts", &model.target().text());
        fact("learned from", &text::counted(training.rows, "row"));
        fact("inputs", &format!("{} → {} numbers", model.signature().len(), model.features().outputs().len()));
        goal(model, &mut fact);
        decision(model, &mut fact);
        for made in history.models().iter().filter(|made| made.digest == found.digest) {
            if let Some(version) = made.version {
                fact("registered as", &format!("{}@{version}", made.name));
            }
        }
    });
    importances(m, &found.step, &model.importances());
}

/// The settings of the algorithm, as the pipeline file spells them.
fn settings(model: &Model) -> BTreeMap<String, String> {
    let written = serde_json::to_value(&model.training().algorithm).unwrap_or_default();
    let mut settings = BTreeMap::new();
    // `{ random_forest: { trees: 100, … } }`
    for inner in written.as_object().into_iter().flat_map(|outer| outer.values()) {
        for (name, value) in inner.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            settings.insert(name.replace('_', " "), value);
        }
    }
    settings
}

fn goal(model: &Model, fact: &mut impl FnMut(&str, &str)) {
    match &model.target().goal {
        Goal::Classes { classes, counts } => {
            let rows: u64 = counts.iter().sum();
            let share = |count: u64| text::percent(count as f64 / rows.max(1) as f64);
            let names = classes.names();
            let named = names.iter().zip(counts).take(CLASSES_NAMED);
            let mut shown: Vec<String> = named.map(|(name, count)| format!("{name} {}", share(*count))).collect();
            if names.len() > CLASSES_NAMED {
                shown.push(format!("{} more", names.len() - CLASSES_NAMED));
            }
            fact("classes", &shown.join(", "));
        }
        Goal::Value { mean, std } => {
            fact("target in training", &format!("{} ± {}", text::number(*mean), text::number(*std)));
        }
        Goal::Groups => {}
    }
}

/// How scores become probabilities and decisions, where training fitted that.
fn decision(model: &Model, fact: &mut impl FnMut(&str, &str)) {
    let decision = model.decision();
    if let Some(calibration) = &decision.calibration {
        let curve = match calibration.curves().first() {
            Some(Curve::Isotonic(_)) => "isotonic",
            _ => "platt",
        };
        fact("probabilities", &format!("calibrated ({curve}) on {}", text::counted(decision.rows, "row")));
    }
    if let Some(threshold) = &decision.threshold {
        fact("positive from", &text::number(threshold.at));
    }
}

fn importances(m: &mut Markup, step: &str, importances: &[Importance]) {
    m.leaf("h4", &[], "What matters to it");
    if importances.iter().all(|importance| importance.share <= 0.0) {
        return note(m, "Nothing: the model predicts the same whatever its inputs.");
    }
    let most = importances.iter().map(|importance| importance.share).fold(0.0, f64::max);
    table(m, &format!("Importance of the inputs of {step}"), &["input", "share", ""], |m| {
        for importance in importances.iter().take(IMPORTANCES_SHOWN) {
            m.el("tr", &[], |m| {
                m.leaf("th", &[attr("scope", "row")], &importance.name);
                m.leaf("td", &[class("number")], &text::percent(importance.share));
                m.el("td", &[class("bar-cell"), attr("aria-hidden", "true")], |m| {
                    let width = importance.share / most * 100.0;
                    m.leaf("span", &[class("bar"), attr("style", format!("width:{width:.1}%"))], "");
                });
            });
        }
    });
    if importances.len() > IMPORTANCES_SHOWN {
        let more = text::counted((importances.len() - IMPORTANCES_SHOWN) as u64, "more input");
        note(m, &format!("{more} matter less."));
    }
}
