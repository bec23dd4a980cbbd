//! Open Inference Protocol V2 with Triton's binary extension.

mod binary;
mod datatype;
pub mod metadata;
mod request;
mod response;

pub use datatype::Datatype;
pub use request::{InferRequest, parse, parse_raw};
pub use response::{InferAnswer, Named, write};
