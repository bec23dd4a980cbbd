//! Scoring by messages, against RabbitMQ servers of our own.

mod broker;
#[path = "../clients/python.rs"]
mod python;
mod queue;
#[path = "../../examples/serve_sum.rs"]
#[expect(dead_code, reason = "its `main` is for people")]
mod serve_sum;
mod stream;
