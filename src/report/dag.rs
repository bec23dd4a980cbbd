//! The graph of a run's steps, from top to bottom: each step a layer below the lowest of those it needs.
//!
//! Layered drawing after Sugiyama, Tagawa and Toda (1981): edges over several layers go through places of
//! their own, layers are ordered by the mean place of their neighbours, and places are then drawn towards
//! those neighbours as far as the order allows.

use gristmill_protocol::Timestamp;
use gristmill_scheduler::history::History;

use super::svg::{Shape, label, px, rect};
use super::{state_class, state_icon};
use crate::text;
use gristmill_markup::{Markup, attr, class};

const NODE_WIDTH: f64 = 158.0;
const NODE_HEIGHT: f64 = 48.0;
/// Room that an edge takes in a layer which it only passes.
const PASS_WIDTH: f64 = 14.0;
const GAP_X: f64 = 18.0;
const GAP_Y: f64 = 34.0;
const MARGIN: f64 = 6.0;
/// How often layers are put in a better order; more changes little.
const SWEEPS: usize = 6;
/// Steps of a graph that is drawn; larger ones are left to the table.
const STEPS_DRAWN_MAX: usize = 150;

/// A place in a layer: a step, or an edge that passes.
#[derive(Clone, Debug)]
struct Place {
    step: Option<usize>,
    layer: usize,
    /// Places in the layers above and below that it is joined with.
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

impl Place {
    fn width(&self) -> f64 {
        if self.step.is_some() { NODE_WIDTH } else { PASS_WIDTH }
    }

    fn top(&self) -> f64 {
        MARGIN + self.layer as f64 * (NODE_HEIGHT + GAP_Y)
    }

    fn middle(&self) -> f64 {
        self.x + self.width() / 2.0
    }
}

struct Layout {
    places: Vec<Place>,
    layers: Vec<Vec<usize>>,
    width: f64,
}

/// The graph as SVG; a sentence instead when it is too large to be read.
pub fn draw(m: &mut Markup, history: &History, now: Timestamp) {
    if history.steps.len() > STEPS_DRAWN_MAX {
        let steps = text::counted(history.steps.len() as u64, "step");
        m.leaf("p", &[class("note")], &format!("{steps} are too many for a drawing; the table lists them."));
        return;
    }
    let layout = layout(history);
    let height = MARGIN * 2.0 + layout.layers.len() as f64 * (NODE_HEIGHT + GAP_Y) - GAP_Y;
    let attrs = [
        class("dag"),
        attr("viewBox", format!("0 0 {} {}", px(layout.width), px(height))),
        attr("width", px(layout.width)),
        attr("height", px(height)),
        attr("role", "img"),
        attr("aria-label", alt(history)),
    ];
    m.el(
        "div",
        &[class("scroll"), attr("tabindex", "0"), attr("role", "region"), attr("aria-label", "graph of the steps")],
        |m| {
            m.el("svg", &attrs, |m| {
                for place in &layout.places {
                    for below in &place.below {
                        edge(m, place, &layout.places[*below]);
                    }
                }
                for place in layout.places.iter().filter(|place| place.step.is_some()) {
                    node(m, place, history, now);
                }
            });
        },
    );
}

/// The graph in words: each step and what it needs.
fn alt(history: &History) -> String {
    let step = |step: &gristmill_scheduler::history::StepHistory| {
        let needs: Vec<&str> =
            step.needs.iter().map(|need| history.steps[usize::from(need.step)].name.as_str()).collect();
        let after = if needs.is_empty() { String::new() } else { format!(" after {}", needs.join(" and ")) };
        format!("{} ({}){after}", step.name, step.state.as_str())
    };
    history.steps.iter().map(step).collect::<Vec<_>>().join("; ")
}

fn node(m: &mut Markup, place: &Place, history: &History, now: Timestamp) {
    let Some(step) = place.step.map(|at| &history.steps[at]) else { return };
    let (x, y) = (place.x, place.top());
    let state = if step.is_cached() { "cached" } else { step.state.as_str() };
    let shape = Shape { x, y, width: NODE_WIDTH, height: NODE_HEIGHT };
    m.el("g", &[class(&format!("node {}", state_class(step)))], |m| {
        rect(m, "box", shape, &format!("{}: {} ({state})", step.name, step.kind));
        label(m, "icon middle", (x + 16.0, y + 30.0), state_icon(step));
        label(m, "name", (x + 32.0, y + 20.0), &text::cut(&step.name, 17));
        let time = if step.tally.attempts > 0 { text::seconds(step.seconds_until(now)) } else { String::new() };
        let second = [step.kind.as_str(), state, &time].join(" · ");
        label(m, "detail", (x + 32.0, y + 37.0), &text::cut(second.trim_end_matches([' ', '·']), 24));
    });
}

/// A curve from the bottom of one place to the top of another; an edge that passes goes on through its place.
fn edge(m: &mut Markup, from: &Place, to: &Place) {
    let (x1, y1) = (from.middle(), from.top() + NODE_HEIGHT);
    let (x2, y2) = (to.middle(), to.top());
    let bend = GAP_Y / 2.0;
    let mut path = format!(
        "M{} {} C{} {} {} {} {} {}",
        px(x1),
        px(y1),
        px(x1),
        px(y1 + bend),
        px(x2),
        px(y2 - bend),
        px(x2),
        px(y2)
    );
    if to.step.is_none() {
        path += &format!(" V{}", px(y2 + NODE_HEIGHT));
    } else {
        // The arrow's head.
        path +=
            &format!(" M{} {} L{} {} L{} {}", px(x2 - 4.0), px(y2 - 6.0), px(x2), px(y2), px(x2 + 4.0), px(y2 - 6.0));
    }
    m.void("path", &[class("edge"), attr("d", path)]);
}

fn layout(history: &History) -> Layout {
    let depth = depths(history);
    let mut places: Vec<Place> = depth
        .iter()
        .enumerate()
        .map(|(step, layer)| Place { step: Some(step), layer: *layer, above: Vec::new(), below: Vec::new(), x: 0.0 })
        .collect();
    for (to, step) in history.steps.iter().enumerate() {
        let mut needs: Vec<usize> = step.needs.iter().map(|need| usize::from(need.step)).collect();
        needs.sort_unstable();
        needs.dedup();
        for from in needs {
            join(&mut places, from, to);
        }
    }
    let count = depth.iter().max().map_or(0, |deepest| deepest + 1);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); count];
    places.iter().enumerate().for_each(|(at, place)| layers[place.layer].push(at));
    for sweep in 0..SWEEPS {
        order(&places, &mut layers, sweep % 2 == 0);
    }
    let width = arrange(&mut places, &layers);
    Layout { places, layers, width }
}

/// How far below the top each step is. A plan has no circles, so so many passes as it has steps suffice.
fn depths(history: &History) -> Vec<usize> {
    let mut depth = vec![0; history.steps.len()];
    for _ in 0..history.steps.len() {
        let mut changed = false;
        for (at, step) in history.steps.iter().enumerate() {
            let lowest = step.needs.iter().map(|need| depth[usize::from(need.step)] + 1).max().unwrap_or(0);
            changed |= lowest > depth[at];
            depth[at] = depth[at].max(lowest);
        }
        if !changed {
            break;
        }
    }
    depth
}

/// Joins two steps, through a place in each layer between.
fn join(places: &mut Vec<Place>, from: usize, to: usize) {
    let mut above = from;
    for layer in places[from].layer + 1..places[to].layer {
        let at = places.len();
        places.push(Place { step: None, layer, above: vec![above], below: Vec::new(), x: 0.0 });
        places[above].below.push(at);
        above = at;
    }
    places[above].below.push(to);
    places[to].above.push(above);
}

/// Orders layers by the mean place of the neighbours above (or below); ties stay as they are.
fn order(places: &[Place], layers: &mut [Vec<usize>], downwards: bool) {
    let mut position = vec![0usize; places.len()];
    for layer in layers.iter() {
        layer.iter().enumerate().for_each(|(at, place)| position[*place] = at);
    }
    let count = layers.len();
    for step in 0..count {
        let at = if downwards { step } else { count - 1 - step };
        let mean = |place: usize, position: &[usize]| {
            let neighbours = if downwards { &places[place].above } else { &places[place].below };
            match neighbours.len() {
                0 => position[place] as f64,
                many => neighbours.iter().map(|other| position[*other] as f64).sum::<f64>() / many as f64,
            }
        };
        layers[at].sort_by(|a, b| mean(*a, &position).total_cmp(&mean(*b, &position)));
        layers[at].iter().enumerate().for_each(|(index, place)| position[*place] = index);
    }
}

/// Gives places their x; returns the width of the drawing.
fn arrange(places: &mut [Place], layers: &[Vec<usize>]) -> f64 {
    for layer in layers {
        let mut x = 0.0;
        for &place in layer {
            places[place].x = x;
            x += places[place].width() + GAP_X;
        }
    }
    for sweep in 0..SWEEPS * 2 {
        let downwards = sweep % 2 == 0;
        for step in 0..layers.len() {
            let at = if downwards { step } else { layers.len() - 1 - step };
            draw_near(places, &layers[at], downwards);
        }
    }
    let left = places.iter().map(|place| place.x).fold(f64::INFINITY, f64::min);
    let mut right: f64 = 0.0;
    for place in places.iter_mut() {
        place.x += MARGIN - left;
        right = right.max(place.x + place.width());
    }
    right + MARGIN
}

/// Moves the places of a layer to the mean of their neighbours, keeping their order and their distance.
fn draw_near(places: &mut [Place], layer: &[usize], downwards: bool) {
    let wish: Vec<f64> = layer
        .iter()
        .map(|&at| {
            let neighbours = if downwards { &places[at].above } else { &places[at].below };
            match neighbours.len() {
                0 => places[at].x,
                many => {
                    let mean = neighbours.iter().map(|other| places[*other].middle()).sum::<f64>() / many as f64;
                    mean - places[at].width() / 2.0
                }
            }
        })
        .collect();
    // Pushed to the right from the left, and to the left from the right; the mean of both keeps the distance.
    let mut from_left = wish.clone();
    for at in 1..layer.len() {
        let least = from_left[at - 1] + places[layer[at - 1]].width() + GAP_X;
        from_left[at] = from_left[at].max(least);
    }
    let mut from_right = wish;
    for at in (0..layer.len().saturating_sub(1)).rev() {
        let most = from_right[at + 1] - places[layer[at]].width() - GAP_X;
        from_right[at] = from_right[at].min(most);
    }
    for (index, &place) in layer.iter().enumerate() {
        places[place].x = (from_left[index] + from_right[index]) / 2.0;
    }
}
