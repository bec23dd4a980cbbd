//! What all charts share: scales from values to pixels, ticks at round numbers, a frame with axes.
//!
//! Charts are drawn at the size at which they are shown on a phone, so that their text stays readable there;
//! colours come from the page's classes, which know of light and dark.

use crate::text;
pub use gristmill_markup::px;
use gristmill_markup::{Attr, Markup, attr, class, round_values};

/// Width and height of a chart, and the room for its axes.
pub const WIDTH: f64 = 340.0;
pub const HEIGHT: f64 = 250.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;

/// From values to pixels, in a straight line.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    from: f64,
    to: f64,
    first_px: f64,
    last_px: f64,
}

impl Scale {
    /// A scale over these values; one that has no width is given some.
    pub fn new(from: f64, to: f64, first_px: f64, last_px: f64) -> Scale {
        let (from, to) = match (from.is_finite() && to.is_finite(), from < to) {
            (true, true) => (from, to),
            (true, false) => {
                let pad = if from == 0.0 { 0.5 } else { from.abs() * 0.05 };
                (from - pad, from + pad)
            }
            (false, _) => (0.0, 1.0),
        };
        Scale { from, to, first_px, last_px }
    }

    /// Where a value is drawn; what lies outside is drawn at the edge.
    pub fn at(&self, value: f64) -> f64 {
        let share = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        let share = if share.is_nan() { 0.0 } else { share };
        self.first_px + share * (self.last_px - self.first_px)
    }

    /// Round values on the scale, some `about` of them.
    pub fn ticks(&self, about: usize) -> Vec<f64> {
        round_values(self.from, self.to, about)
    }
}

/// What a chart is called and what its axes are.
#[derive(Clone, Debug)]
pub struct Labels<'a> {
    /// What the chart shows, for those who can't see it.
    pub alt: String,
    pub x: &'a str,
    pub y: &'a str,
}

/// The plane of a chart.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    pub x: Scale,
    pub y: Scale,
}

impl Plane {
    /// A plane over these values.
    pub fn new(x: (f64, f64), y: (f64, f64)) -> Plane {
        Plane { x: Scale::new(x.0, x.1, LEFT, WIDTH - RIGHT), y: Scale::new(y.0, y.1, HEIGHT - BOTTOM, TOP) }
    }

    /// The chart: axes, and what `inside` draws over them.
    pub fn draw(&self, m: &mut Markup, labels: &Labels<'_>, inside: impl FnOnce(&mut Markup)) {
        self.draw_with(m, labels, text::number, inside);
    }

    /// The chart, with its values down the side printed by `show`.
    pub fn draw_with(
        &self,
        m: &mut Markup,
        labels: &Labels<'_>,
        show: impl Fn(f64) -> String,
        inside: impl FnOnce(&mut Markup),
    ) {
        let attrs = [
            class("chart"),
            attr("viewBox", format!("0 0 {WIDTH} {HEIGHT}")),
            attr("role", "img"),
            attr("aria-label", &labels.alt),
        ];
        m.el("svg", &attrs, |m| {
            self.axes(m, labels, show);
            inside(m);
        });
    }

    fn axes(&self, m: &mut Markup, labels: &Labels<'_>, show: impl Fn(f64) -> String) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for value in self.y.ticks(5) {
            let y = self.y.at(value);
            line(m, "grid", (LEFT, y), (right, y));
            label(m, "tick end", (LEFT - 6.0, y + 4.0), &show(value));
        }
        for value in self.x.ticks(5) {
            let x = self.x.at(value);
            line(m, "axis", (x, bottom), (x, bottom + 4.0));
            label(m, "tick middle", (x, bottom + 17.0), &text::number(value));
        }
        line(m, "axis", (LEFT, bottom), (right, bottom));
        label(m, "label middle", ((LEFT + right) / 2.0, HEIGHT - 6.0), labels.x);
        let (x, y) = (12.0, (TOP + bottom) / 2.0);
        let turned = attr("transform", format!("rotate(-90 {} {})", px(x), px(y)));
        m.leaf("text", &[class("label middle"), attr("x", px(x)), attr("y", px(y)), turned], labels.y);
    }

    /// A line through points.
    pub fn polyline(&self, m: &mut Markup, classes: &str, points: impl Iterator<Item = (f64, f64)>) {
        let points: Vec<String> = points.map(|(x, y)| format!("{},{}", px(self.x.at(x)), px(self.y.at(y)))).collect();
        m.void("polyline", &[class(classes), attr("points", points.join(" "))]);
    }

    /// A bar from the value `base` to `value`, between two values of x; hovering tells `title`.
    pub fn bar(&self, m: &mut Markup, classes: &str, x: (f64, f64), base: f64, value: f64, title: &str) {
        let (left, right) = (self.x.at(x.0), self.x.at(x.1));
        let (a, b) = (self.y.at(base), self.y.at(value));
        let gap = if right - left > 4.0 { 1.0 } else { 0.0 };
        let shape = Shape { x: left, y: a.min(b), width: (right - left - gap).max(0.5), height: (a - b).abs() };
        rect(m, classes, shape, title);
    }
}

/// A rectangle.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// A rectangle that tells a title when one hovers over it.
pub fn rect(m: &mut Markup, classes: &str, shape: Shape, title: &str) {
    let attrs: [Attr; 5] = [
        class(classes),
        attr("x", px(shape.x)),
        attr("y", px(shape.y)),
        attr("width", px(shape.width)),
        attr("height", px(shape.height)),
    ];
    if title.is_empty() {
        m.void("rect", &attrs);
    } else {
        m.el("rect", &attrs, |m| m.leaf("title", &[], title));
    }
}

/// A straight line.
pub fn line(m: &mut Markup, classes: &str, from: (f64, f64), to: (f64, f64)) {
    let ends = [attr("x1", px(from.0)), attr("y1", px(from.1)), attr("x2", px(to.0)), attr("y2", px(to.1))];
    let mut attrs = vec![class(classes)];
    attrs.extend(ends);
    m.void("line", &attrs);
}

/// A text at a place.
pub fn label(m: &mut Markup, classes: &str, at: (f64, f64), text: &str) {
    m.leaf("text", &[class(classes), attr("x", px(at.0)), attr("y", px(at.1))], text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_without_width_is_given_some() {
        assert!(!Scale::new(3.0, 3.0, 0.0, 100.0).ticks(5).is_empty());
    }

    #[test]
    fn what_is_no_number_is_drawn_at_the_edge() {
        let scale = Scale::new(f64::NAN, f64::INFINITY, 0.0, 100.0);
        assert_eq!(scale.at(f64::NAN), 0.0);
    }
}
