//! The charts of an evaluation and of columns.

use gristmill_ml::metrics::{Bin, CalibrationBin, ClassCurve, Point, RegressionCharts, ScoreBin};
use gristmill_ml::profile::Histogram;

use super::svg::{Labels, Plane, Shape, label, line, px, rect};
use crate::text;
use gristmill_markup::{Attr, Markup, attr, class};

/// A chart with its title and a sentence on how to read it.
pub fn figure(m: &mut Markup, title: &str, caption: &str, inside: impl FnOnce(&mut Markup)) {
    m.el("figure", &[], |m| {
        m.leaf("h4", &[], title);
        inside(m);
        m.leaf("figcaption", &[], caption);
    });
}

/// True positives over false positives.
pub fn roc(m: &mut Markup, curve: &ClassCurve) {
    let area = area(&curve.roc);
    let caption = format!(
        "Area {}. The nearer to the top left corner, the better; the dashed line is chance.",
        text::number(area)
    );
    figure(m, "ROC", &caption, |m| {
        let alt = format!("ROC curve of class {}, area under it {}", curve.class, text::number(area));
        let labels = Labels { alt, x: "false positive rate", y: "true positive rate" };
        let plane = Plane::new((0.0, 1.0), (0.0, 1.0));
        plane.draw(m, &labels, |m| {
            plane.polyline(m, "reference", [(0.0, 0.0), (1.0, 1.0)].into_iter());
            plane.polyline(m, "series", curve.roc.iter().map(|point| (point.x, point.y)));
        });
    });
}

/// Precision over recall.
pub fn precision_recall(m: &mut Markup, curve: &ClassCurve) {
    let (of_class, rest) = sides(&curve.scores);
    let base = of_class as f64 / (of_class + rest).max(1) as f64;
    let caption =
        format!("The dashed line is what guessing reaches: {} of the rows are of the class.", text::percent(base));
    figure(m, "Precision and recall", &caption, |m| {
        let alt = format!("precision over recall of class {}; guessing reaches {}", curve.class, text::percent(base));
        let labels = Labels { alt, x: "recall", y: "precision" };
        let plane = Plane::new((0.0, 1.0), (0.0, 1.0));
        plane.draw(m, &labels, |m| {
            plane.polyline(m, "reference", [(0.0, base), (1.0, base)].into_iter());
            plane.polyline(m, "series", curve.precision_recall.iter().map(|point| (point.x, point.y)));
        });
    });
}

/// What share came true of what was predicted.
pub fn calibration(m: &mut Markup, bins: &[CalibrationBin], of: &str) {
    let caption = "On the dashed line, what is said to happen 3 times of 10 does. Larger dots stand for more rows.";
    figure(m, "Calibration", caption, |m| {
        let gap = bins.iter().map(|bin| (bin.observed - bin.predicted).abs()).fold(0.0, f64::max);
        let alt = format!(
            "observed share over mean predicted probability of class {of} in {} bins; the largest gap is {}",
            bins.len(),
            text::number(gap)
        );
        let labels = Labels { alt, x: "predicted probability", y: "observed share" };
        let plane = Plane::new((0.0, 1.0), (0.0, 1.0));
        let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(1).max(1) as f64;
        plane.draw(m, &labels, |m| {
            plane.polyline(m, "reference", [(0.0, 0.0), (1.0, 1.0)].into_iter());
            plane.polyline(m, "series thin", bins.iter().map(|bin| (bin.predicted, bin.observed)));
            for bin in bins {
                let radius = 2.5 + 4.5 * (bin.rows as f64 / most).sqrt();
                let title = format!(
                    "predicted {}, observed {}, {}",
                    text::number(bin.predicted),
                    text::number(bin.observed),
                    text::counted(bin.rows, "row")
                );
                dot(m, "point", (plane.x.at(bin.predicted), plane.y.at(bin.observed)), radius, &title);
            }
        });
    });
}

/// Scores of the class above the line, of the rest below it, each as a share of its own.
pub fn scores(m: &mut Markup, curve: &ClassCurve) {
    let (of_class, rest) = sides(&curve.scores);
    let share = |count: u64, all: u64| count as f64 / all.max(1) as f64;
    let caption = "Above the line rows of the class, below it all others, each side as shares of its own rows. \
                   The less they overlap, the better.";
    figure(m, "Scores", caption, |m| {
        let up = curve.scores.iter().map(|bin| share(bin.of_class, of_class)).fold(0.0, f64::max);
        let down = curve.scores.iter().map(|bin| share(bin.of_rest, rest)).fold(0.0, f64::max);
        let alt = format!(
            "histogram of scores: {} of class {} above, {} of the rest below",
            text::counted(of_class, "row"),
            curve.class,
            text::counted(rest, "row")
        );
        let labels = Labels { alt, x: "predicted probability", y: "share of rows" };
        let plane = Plane::new((0.0, 1.0), (-down.max(0.001), up.max(0.001)));
        plane.draw_with(
            m,
            &labels,
            |value| text::number(value.abs()),
            |m| {
                for (at, bin) in curve.scores.iter().enumerate() {
                    let to = curve.scores.get(at + 1).map_or(1.0, |next| next.from);
                    let range = format!("{} to {}", text::number(bin.from), text::number(to));
                    let title = format!("{range}: {} of the class", text::counted(bin.of_class, "row"));
                    plane.bar(m, "fill", (bin.from, to), 0.0, share(bin.of_class, of_class), &title);
                    let title = format!("{range}: {} of the rest", text::counted(bin.of_rest, "row"));
                    plane.bar(m, "fill other", (bin.from, to), 0.0, -share(bin.of_rest, rest), &title);
                }
                let zero = plane.y.at(0.0);
                line(m, "axis", (plane.x.at(0.0), zero), (plane.x.at(1.0), zero));
                label(m, "tick end strong", (plane.x.at(1.0), plane.y.at(up) + 10.0), &text::cut(&curve.class, 20));
                label(m, "tick end strong", (plane.x.at(1.0), plane.y.at(-down) - 4.0), "the rest");
            },
        );
    });
}

/// Predicted over actual values.
pub fn predicted_actual(m: &mut Markup, charts: &RegressionCharts) {
    let caption = "On the dashed line predictions are exact. Rows are evenly picked.";
    figure(m, "Predicted and actual", caption, |m| {
        let values = charts.scatter.iter().flat_map(|point| [point.x, point.y]).filter(|value| value.is_finite());
        let (min, max) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (min.min(v), max.max(v)));
        let alt = format!("predicted over actual values of {}", text::counted(charts.scatter.len() as u64, "row"));
        let labels = Labels { alt, x: "actual", y: "predicted" };
        let plane = Plane::new((min, max), (min, max));
        plane.draw(m, &labels, |m| {
            plane.polyline(m, "reference", [(min, min), (max, max)].into_iter());
            for Point { x, y } in &charts.scatter {
                dot(m, "point faint", (plane.x.at(*x), plane.y.at(*y)), 2.0, "");
            }
        });
    });
}

/// How far predictions were off.
pub fn residuals(m: &mut Markup, bins: &[Bin]) {
    figure(m, "Residuals", "Predicted minus actual; a heap around 0 is good.", |m| {
        let most = bins.iter().map(|bin| bin.rows).max().unwrap_or(0);
        let rows = bins.iter().map(|bin| bin.rows).sum();
        let (from, to) = (bins.first().map_or(0.0, |bin| bin.from), bins.last().map_or(1.0, |bin| bin.to));
        let alt = format!(
            "histogram of predicted minus actual of {}, from {} to {}",
            text::counted(rows, "row"),
            text::number(from),
            text::number(to)
        );
        let labels = Labels { alt, x: "predicted − actual", y: "rows" };
        let plane = Plane::new((from, to), (0.0, most.max(1) as f64));
        plane.draw_with(m, &labels, short_count, |m| {
            for bin in bins {
                let title = format!(
                    "{} to {}: {}",
                    text::number(bin.from),
                    text::number(bin.to),
                    text::counted(bin.rows, "row")
                );
                plane.bar(m, "fill", (bin.from, bin.to), 0.0, bin.rows as f64, &title);
            }
            if from < 0.0 && to > 0.0 {
                plane.polyline(m, "reference", [(0.0, 0.0), (0.0, most.max(1) as f64)].into_iter());
            }
        });
    });
}

/// The histogram of a column in the space of a table's cell. Bars are equally wide; `show` prints edges.
pub fn small_histogram(m: &mut Markup, histogram: &Histogram, show: impl Fn(f64) -> String) {
    const WIDTH: f64 = 132.0;
    const HEIGHT: f64 = 34.0;
    let bins = histogram.counts.len().min(histogram.edges.len().saturating_sub(1));
    let most = histogram.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let edge = |at: usize| histogram.edges.get(at).copied().unwrap_or(0.0);
    let inner = bins / 2;
    let usual = edge(inner + 1) - edge(inner);
    let alt = format!("histogram from {} to {} in {bins} bins", show(edge(0)), show(edge(bins)));
    let attrs = [
        class("small"),
        attr("viewBox", format!("0 0 {WIDTH} {HEIGHT}")),
        attr("role", "img"),
        attr("aria-label", alt),
    ];
    m.el("svg", &attrs, |m| {
        let width = WIDTH / bins.max(1) as f64;
        for (at, count) in histogram.counts.iter().take(bins).enumerate() {
            let (from, to) = (edge(at), edge(at + 1));
            // The outer bins may hold a long tail; they look different for not being as wide as the others.
            let tail = to - from > 1.5 * usual && usual > 0.0;
            let height = if *count == 0 { 0.0 } else { (*count as f64 / most * (HEIGHT - 2.0)).max(1.0) };
            let title = format!("{} to {}: {}", show(from), show(to), text::counted(*count, "row"));
            let shape = Shape { x: at as f64 * width, y: HEIGHT - height, width: (width - 1.0).max(1.0), height };
            rect(m, if tail { "fill tail" } else { "fill" }, shape, &title);
        }
        line(m, "axis", (0.0, HEIGHT), (WIDTH, HEIGHT));
    });
}

/// A dot with an attribute of its own.
pub fn dot_with(m: &mut Markup, classes: &str, at: (f64, f64), radius: f64, more: Option<Attr>) {
    let mut attrs = vec![class(classes), attr("cx", px(at.0)), attr("cy", px(at.1)), attr("r", px(radius))];
    attrs.extend(more);
    m.void("circle", &attrs);
}

/// A dot that tells a title when one hovers over it.
pub fn dot(m: &mut Markup, classes: &str, at: (f64, f64), radius: f64, title: &str) {
    let attrs = [class(classes), attr("cx", px(at.0)), attr("cy", px(at.1)), attr("r", px(radius))];
    if title.is_empty() {
        m.void("circle", &attrs);
    } else {
        m.el("circle", &attrs, |m| m.leaf("title", &[], title));
    }
}

/// Rows of the class and of the rest.
fn sides(bins: &[ScoreBin]) -> (u64, u64) {
    bins.iter().fold((0, 0), |(class, rest), bin| (class + bin.of_class, rest + bin.of_rest))
}

/// The area under a curve of points in the order of x, by trapezoids.
fn area(points: &[Point]) -> f64 {
    points.windows(2).map(|pair| (pair[1].x - pair[0].x) * (pair[0].y + pair[1].y) / 2.0).sum()
}

/// A count that fits beside an axis: `1.2k`, `3M`.
fn short_count(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{}M", text::number((value / 1e5).round() / 10.0)),
        v if v >= 1e4 => format!("{}k", text::number((value / 1e2).round() / 10.0)),
        _ => text::number(value),
    }
}
