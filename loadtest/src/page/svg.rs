//! Charts: lines over a plane, with ticks at round numbers, in the page's colours.

use crate::text;
use gristmill_markup::{Markup, attr, class, px, round_values};

pub const WIDTH: f64 = 460.0;
pub const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;
/// Points of one line; more can't be told apart on the chart, and a soak has many.
const POINTS_MAX: usize = 600;

/// How values lie along an axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    from: f64,
    to: f64,
    first_px: f64,
    last_px: f64,
    is_logarithmic: bool,
}

impl Axis {
    /// A straight axis over these values, from zero where they aren't far from it.
    pub fn straight(values: impl Iterator<Item = f64>, px: (f64, f64)) -> Axis {
        let (least, most) = range(values);
        let from = if least >= 0.0 && least < most * 0.6 { 0.0 } else { least };
        let pad = if from < most { 0.0 } else { from.abs().max(1.0) * 0.1 };
        Axis { from: from - pad, to: most + pad, first_px: px.0, last_px: px.1, is_logarithmic: false }
    }

    /// A logarithmic axis over these values, all above zero.
    pub fn logarithmic(values: impl Iterator<Item = f64>, px: (f64, f64)) -> Axis {
        let (least, most) = range(values.filter(|value| *value > 0.0));
        let (least, most) = (least.max(1e-9), most.max(1e-9));
        let (from, to) = if least < most { (least, most) } else { (least / 2.0, most * 2.0) };
        Axis { from: from.log10(), to: to.log10(), first_px: px.0, last_px: px.1, is_logarithmic: true }
    }

    /// Where a value is drawn; what lies outside or isn't a number is drawn at the edge.
    pub fn at(&self, value: f64) -> f64 {
        let value = if self.is_logarithmic { value.max(1e-12).log10() } else { value };
        let share = (value - self.from) / (self.to - self.from);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        self.first_px + share * (self.last_px - self.first_px)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.is_logarithmic {
            let decades = (self.to - self.from).ceil();
            let steps: &[f64] = if decades <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let (first, last) = (self.from.floor() as i32, self.to.ceil() as i32);
            let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
            let within = |value: &f64| (self.from - 1e-9..=self.to + 1e-9).contains(&value.log10());
            return all.filter(within).take(20).collect();
        }
        round_values(self.from, self.to, 5)
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let found = finite.fold(None, |found: Option<(f64, f64)>, value| {
        Some(found.map_or((value, value), |(least, most)| (least.min(value), most.max(value))))
    });
    found.unwrap_or((0.0, 1.0))
}

/// A line of a chart.
pub struct Line<'a> {
    pub name: &'a str,
    pub points: &'a [(f64, f64)],
}

/// What a chart is called and what its axes are.
pub struct Labels<'a> {
    pub alt: String,
    pub x: &'a str,
    pub y: &'a str,
}

/// Lines over straight axes. The sixth line and those after share colours with the first.
pub fn lines(m: &mut Markup, labels: &Labels<'_>, lines: &[Line<'_>], is_bytes: bool) {
    let all = || lines.iter().flat_map(|line| line.points.iter().copied());
    let x = Axis::straight(all().map(|(x, _)| x), (LEFT, WIDTH - RIGHT));
    let y = Axis::straight(all().map(|(_, y)| y), (HEIGHT - BOTTOM, TOP));
    let show_y = |value: f64| if is_bytes { text::bytes(value) } else { short(value) };
    chart(m, labels, |m| {
        frame(m, labels, &x.ticks().into_iter().map(|at| (x.at(at), short(at))).collect::<Vec<_>>(), &y, show_y);
        for (at, line) in lines.iter().enumerate() {
            let every = line.points.len().div_ceil(POINTS_MAX).max(1);
            let kept = line.points.iter().enumerate().filter(|(at, _)| at % every == 0 || *at + 1 == line.points.len());
            polyline(m, at, line.name, kept.map(|(_, (px, py))| (x.at(*px), y.at(*py))));
        }
    });
}

/// Percentile curves: percentiles spread towards 100 as in HDR plots, values on a logarithmic axis.
pub fn percentiles(m: &mut Markup, labels: &Labels<'_>, lines: &[Line<'_>]) {
    // The place of a percentile is the number of nines that it has.
    let place = |percentile: f64| -((1.0 - percentile / 100.0).max(1e-5)).log10();
    let told = || lines.iter().flat_map(|line| line.points.iter().copied()).filter(|(p, _)| *p < 100.0);
    let most = told().map(|(p, _)| place(p)).fold(1.0, f64::max);
    let x = Axis { from: 0.0, to: most, first_px: LEFT, last_px: WIDTH - RIGHT, is_logarithmic: false };
    let y = Axis::logarithmic(told().map(|(_, value)| value), (HEIGHT - BOTTOM, TOP));
    let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99].into_iter().filter(|p| place(*p) <= most + 1e-9);
    let ticks: Vec<_> = ticks.map(|p| (x.at(place(p)), format!("{p}"))).collect();
    chart(m, labels, |m| {
        frame(m, labels, &ticks, &y, short);
        for (at, line) in lines.iter().enumerate() {
            let points = line.points.iter().filter(|(p, _)| *p < 100.0);
            polyline(m, at, line.name, points.map(|(p, value)| (x.at(place(*p)), y.at(*value))));
        }
    });
}

fn chart(m: &mut Markup, labels: &Labels<'_>, inside: impl FnOnce(&mut Markup)) {
    let view = format!("0 0 {WIDTH} {HEIGHT}");
    let attrs = [class("chart"), attr("viewBox", view), attr("role", "img"), attr("aria-label", &labels.alt)];
    m.el("svg", &attrs, inside);
}

fn frame(m: &mut Markup, labels: &Labels<'_>, x_ticks: &[(f64, String)], y: &Axis, show: impl Fn(f64) -> String) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for value in y.ticks() {
        let at = y.at(value);
        line(m, "grid", (LEFT, at), (right, at));
        label(m, "tick end", (LEFT - 6.0, at + 4.0), &show(value));
    }
    for (at, text) in x_ticks {
        line(m, "axis", (*at, bottom), (*at, bottom + 4.0));
        label(m, "tick middle", (*at, bottom + 17.0), text);
    }
    line(m, "axis", (LEFT, bottom), (right, bottom));
    label(m, "label middle", ((LEFT + right) / 2.0, HEIGHT - 6.0), labels.x);
    let (x, middle) = (11.0, (TOP + bottom) / 2.0);
    let turned = attr("transform", format!("rotate(-90 {} {})", px(x), px(middle)));
    m.leaf("text", &[class("label middle"), attr("x", px(x)), attr("y", px(middle)), turned], labels.y);
}

fn polyline(m: &mut Markup, at: usize, name: &str, points: impl Iterator<Item = (f64, f64)>) {
    let points: Vec<String> = points.map(|(x, y)| format!("{},{}", px(x), px(y))).collect();
    let class = class(&format!("line l{}", at % 6));
    if let [point] = points.as_slice() {
        // A line of one point can't be seen.
        let (x, y) = point.split_once(',').unwrap_or((point, point));
        m.void("circle", &[class, attr("cx", x), attr("cy", y), attr("r", "3")]);
        return;
    }
    m.el("polyline", &[class, attr("points", points.join(" "))], |m| m.leaf("title", &[], name));
}

fn line(m: &mut Markup, classes: &str, from: (f64, f64), to: (f64, f64)) {
    let (x1, y1, x2, y2) = (px(from.0), px(from.1), px(to.0), px(to.1));
    m.void("line", &[class(classes), attr("x1", x1), attr("y1", y1), attr("x2", x2), attr("y2", y2)]);
}

fn label(m: &mut Markup, classes: &str, at: (f64, f64), text: &str) {
    m.leaf("text", &[class(classes), attr("x", px(at.0)), attr("y", px(at.1))], text);
}

/// A tick's number: `12k` rather than `12,000`.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", text::number((value / 1e4).round() / 100.0)),
        size if size >= 1e4 => format!("{}k", text::number((value / 10.0).round() / 100.0)),
        _ => text::number((value * 1e6).round() / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let axis = Axis::straight([0.0, 1_290.0].into_iter(), (0.0, 100.0));
        assert_eq!(axis.ticks(), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0, 1_200.0]);
        assert!(!Axis::straight([3.0].into_iter(), (0.0, 100.0)).ticks().is_empty());
        assert!(!Axis::straight(std::iter::empty(), (0.0, 100.0)).ticks().is_empty());
        let axis = Axis::logarithmic([0.7, 55.0].into_iter(), (0.0, 100.0));
        assert_eq!(axis.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
    }

    #[test]
    fn what_is_no_number_is_drawn_at_the_edge() {
        let axis = Axis::straight([f64::NAN, f64::INFINITY].into_iter(), (0.0, 100.0));
        assert_eq!(axis.at(f64::NAN), 0.0);
    }
}
