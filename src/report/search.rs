//! Searches: what was tried, in the order of the trials, and what the best settings were.

use gristmill_learn::search::{Better, Trial};
use gristmill_worker::documents::StudyReport;

use super::charts::{dot, figure};
use super::page::{note, table};
use super::svg::{Labels, Plane};
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Trials that are listed.
const TRIALS_SHOWN: usize = 10;

/// The chart of all trials and a table of the best.
pub fn search(m: &mut Markup, step: &str, study: &StudyReport) {
    m.leaf("h4", &[], &format!("Search of {step}"));
    let scored: Vec<(&Trial, u64, f64)> = study
        .trials
        .iter()
        .filter_map(|trial| trial.scores.last().map(|&(rows, score)| (trial, rows, score)))
        .collect();
    let furthest = scored.iter().map(|(_, rows, _)| *rows).max().unwrap_or(1);
    let tried = text::counted(study.trials.len() as u64, "trial");
    note(m, &format!("{tried}, of which {} has the best {}.", study.winner, study.metric));
    m.el("div", &[class("charts")], |m| progress(m, study, &scored, furthest));
    let mut best: Vec<&(&Trial, u64, f64)> = scored.iter().collect();
    best.sort_by(|a, b| b.1.cmp(&a.1).then(study.better.loss(a.2).total_cmp(&study.better.loss(b.2))));
    let headings = ["trial", &format!(">{}", study.metric), ">rows", "settings"];
    table(m, &format!("The best trials of {step}"), &headings, |m| {
        for (trial, rows, score) in best.iter().take(TRIALS_SHOWN) {
            m.el("tr", &[], |m| {
                m.leaf("th", &[attr("scope", "row")], &trial.number.to_string());
                m.leaf("td", &[class("number")], &text::number(*score));
                let share = if furthest == 1 { 100 } else { *rows };
                m.leaf("td", &[class("number")], &format!("{share} %"));
                let settings: Vec<String> =
                    trial.assignment.iter().map(|(name, value)| format!("{name}={value}")).collect();
                m.el("td", &[], |m| m.leaf("code", &[], &settings.join(" ")));
            });
        }
    });
}

fn progress(m: &mut Markup, study: &StudyReport, scored: &[(&Trial, u64, f64)], furthest: u64) {
    let caption = "Dots are trials, faint ones those that were stopped on fewer rows; the line is the best so far.";
    figure(m, &format!("{} over trials", study.metric), caption, |m| {
        let scores = scored.iter().map(|(_, _, score)| *score);
        let (low, high) =
            scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), score| (low.min(score), high.max(score)));
        let alt = format!(
            "{} of {} trials, from {} to {}",
            study.metric,
            scored.len(),
            text::number(low),
            text::number(high)
        );
        let labels = Labels { alt, x: "trial", y: "" };
        let last = study.trials.len().saturating_sub(1).max(1) as f64;
        let plane = Plane::new((0.0, last), (low, high));
        plane.draw(m, &labels, |m| {
            plane.polyline(m, "series", best_so_far(scored, furthest, study.better).into_iter());
            for (trial, rows, score) in scored {
                let classes = if *rows == furthest { "point" } else { "point faint" };
                let at = (plane.x.at(f64::from(trial.number)), plane.y.at(*score));
                dot(m, classes, at, 2.6, &format!("trial {}: {}", trial.number, text::number(*score)));
            }
        });
    });
}

/// The best score up to each trial that saw all rows.
fn best_so_far(scored: &[(&Trial, u64, f64)], furthest: u64, better: Better) -> Vec<(f64, f64)> {
    let mut best: Option<f64> = None;
    let whole = scored.iter().filter(|(_, rows, _)| *rows == furthest);
    whole
        .map(|(trial, _, score)| {
            let so_far = best.filter(|best| better.loss(*best) <= better.loss(*score)).unwrap_or(*score);
            best = Some(so_far);
            (f64::from(trial.number), so_far)
        })
        .collect()
}
