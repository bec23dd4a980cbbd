//! What pages that stand alone are written with: markup around escaped text, and the numbers of charts' axes.

mod axis;
mod markup;

pub use axis::{px, round_values};
pub use markup::{Attr, Markup, attr, class};
