//! JSON without a tree: a reader that walks a text once, and a writer that appends to bytes.

mod reader;
mod writer;

pub use reader::{JsonError, Number, Reader};
pub use writer::{write_cell, write_number, write_text};
