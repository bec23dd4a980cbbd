//! Tensors whose elements are read, on their way to columns; the same for JSON, binary and gRPC.

use std::borrow::Cow;

use crate::refusal::Refusal;
use crate::rows::Column;
use crate::signature::{Input, Signature};

/// Dimensions of a tensor. Ours have two; some clients wrap them.
pub const DIMENSIONS_MAX: usize = 16;

/// A tensor with as many elements as its shape says, in row-major order.
#[derive(Debug)]
pub struct Tensor<'a> {
    pub name: Cow<'a, str>,
    pub shape: Vec<usize>,
    pub column: Column,
}

/// The refusal of an input; the text goes on after its name.
pub fn wrong(name: &str, text: &str) -> Refusal {
    Refusal::BadRequest(format!("input `{name}` {text}"))
}

/// Elements of a shape.
pub fn count(shape: &[usize]) -> Result<usize, &'static str> {
    let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
    count.ok_or("has a shape with too many elements")
}

/// Columns of tensors: each is a column, or one is the matrix of them all.
pub fn to_input<'a>(tensors: Vec<Tensor<'a>>, signature: &Signature) -> Result<Input<'a>, Refusal> {
    let alone = tensors.len() == 1;
    let mut columns = Vec::with_capacity(tensors.len());
    for Tensor { name, shape, column } in tensors {
        match *shape {
            [rows, width] if alone && width > 1 && !signature.takes(&name) => {
                return Ok(Input::Positional(columns_of_matrix(&column, rows, width)));
            }
            [_] | [_, 1] if alone && signature.inputs().len() == 1 => return Ok(Input::Positional(vec![column])),
            [_] | [_, 1] => columns.push((name, column)),
            _ => {
                let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
                let text = format!("has the shape [{}]; a column has [n] or [n,1]", shape.join(","));
                return Err(wrong(&name, &format!("{text}, and one matrix of all columns has [n,f]")));
            }
        }
    }
    Ok(Input::Named(columns))
}

/// The columns of a matrix whose rows stand one after the other.
pub fn columns_of_matrix(column: &Column, rows: usize, width: usize) -> Vec<Column> {
    (0..width).map(|at| column.strided(at, width, rows)).collect()
}
