//! The command line.

#![expect(dead_code, reason = "the reading side is called once the commands are there")]

mod artifacts;
mod explain;
mod models;
mod report;
mod show;
mod text;
mod trace;

fn main() {}
