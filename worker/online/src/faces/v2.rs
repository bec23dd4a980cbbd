//! Open Inference Protocol V2 with Triton's binary extension.

pub(crate) mod binary;
mod datatype;
pub mod metadata;
mod request;
mod response;
pub(crate) mod tensors;

pub use datatype::Datatype;
pub use request::{InferRequest, WantedOutput, parse, parse_raw};
pub(crate) use response::selected;
pub use response::{InferAnswer, Named, write};
