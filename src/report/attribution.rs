//! What moved single predictions: a line of dots for each input.

use gristmill_ml::assess::attribution::{Attributed, Attributions, Unit};

use super::charts::dot_with;
use super::page::{note, table};
use super::svg::{Scale, WIDTH, label, line};
use crate::text;
use gristmill_markup::{Markup, attr, class};

/// Inputs that are drawn.
const INPUTS_SHOWN: usize = 15;
/// Room of an input, and of its dots.
const LANE: f64 = 26.0;
const SPREAD: f64 = 16.0;
/// Places side by side that dots are heaped up in.
const HEAPS: usize = 80;

/// The chart and a table of the same.
pub fn attributions(m: &mut Markup, step: &str, found: &Attributions) {
    m.leaf("h4", &[], "What moved predictions");
    let unit = match found.unit {
        Unit::Prediction => "the prediction",
        Unit::Probability => "the probability",
        Unit::LogOdds => "log-odds",
        Unit::Logarithm => "the logarithm of the prediction",
    };
    let caption = format!(
        "Each dot is a row: on the right, its value of the input raised {unit}, on the left it lowered it. Dots are \
         orange where the value is high, blue where it is low, and grey where values have no order."
    );
    m.el("figure", &[class("wide")], |m| {
        swarm(m, found, unit);
        m.leaf("figcaption", &[], &caption);
    });
    let most = found.inputs.first().map_or(0.0, |input| input.mean_size);
    table(m, &format!("Mean size of what each input moves, measured by {step}"), &["input", ">moves by", ""], |m| {
        for input in found.inputs.iter().take(INPUTS_SHOWN) {
            m.el("tr", &[], |m| {
                m.leaf("th", &[attr("scope", "row")], &input.name);
                m.leaf("td", &[class("number")], &text::number(input.mean_size));
                let width = if most > 0.0 { input.mean_size / most * 100.0 } else { 0.0 };
                m.el("td", &[class("bar-cell"), attr("aria-hidden", "true")], |m| {
                    m.leaf("span", &[class("bar"), attr("style", format!("width:{width:.1}%"))], "");
                });
            });
        }
    });
    let (rows, base) = (text::counted(found.rows, "row"), text::number(found.base));
    note(m, &format!("Shapley values of {rows}; they add up to {unit} less {base}, which is said of a row unseen."));
}

fn swarm(m: &mut Markup, found: &Attributions, unit: &str) {
    const NAMES: f64 = 110.0;
    let width = WIDTH * 2.0;
    let shown: Vec<&Attributed> = found.inputs.iter().take(INPUTS_SHOWN).collect();
    let height = LANE * shown.len() as f64 + 44.0;
    let shares = shown.iter().flat_map(|input| input.shares.iter().map(|(share, _)| *share));
    let (from, to) = shares.fold((0.0_f64, 0.0_f64), |(from, to), share| (from.min(share), to.max(share)));
    let scale = Scale::new(from, to, NAMES + 10.0, width - 12.0);
    let names: Vec<&str> = shown.iter().map(|input| input.name.as_str()).collect();
    let alt = format!("how far each input moved {unit}, from the one that moves most: {}", names.join(", "));
    let attrs = [
        class("chart"),
        attr("viewBox", format!("0 0 {width} {height}")),
        attr("role", "img"),
        attr("aria-label", alt),
    ];
    m.el("svg", &attrs, |m| {
        let bottom = LANE * shown.len() as f64 + 6.0;
        for value in scale.ticks(6) {
            let x = scale.at(value);
            line(m, "grid", (x, 4.0), (x, bottom));
            label(m, "tick middle", (x, bottom + 16.0), &text::number(value));
        }
        let zero = scale.at(0.0);
        line(m, "axis", (zero, 4.0), (zero, bottom));
        for (at, input) in shown.iter().enumerate() {
            let middle = LANE * (at as f64 + 0.5) + 4.0;
            label(m, "tick end", (NAMES, middle + 4.0), &text::cut(&input.name, 16));
            let mut heaps = [0_u32; HEAPS];
            for &(share, place) in &input.shares {
                let x = scale.at(share);
                let heap = ((x - NAMES) / (width - NAMES) * HEAPS as f64) as usize;
                let heap = &mut heaps[heap.min(HEAPS - 1)];
                // Up and down by turns, nearer to each other the more there are.
                let step = f64::from(heap.div_ceil(2)) * if *heap % 2 == 0 { 1.0 } else { -1.0 };
                *heap += 1;
                let y = middle + (step * 2.2).clamp(-SPREAD / 2.0, SPREAD / 2.0);
                let colour = place.map(|place| attr("style", format!("--place:{place:.2}")));
                let classes = if colour.is_some() { "point placed" } else { "point unplaced" };
                dot_with(m, classes, (x, y), 2.2, colour);
            }
        }
        label(m, "label middle", ((NAMES + width) / 2.0, height - 4.0), &format!("moves {unit} by"));
    });
}
