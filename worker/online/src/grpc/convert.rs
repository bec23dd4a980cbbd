//! Tensors of gRPC become columns, and predictions tensors.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::messages::{Choice, InferTensor, InferTensorContents, ModelInferRequest};
use crate::faces::v2::tensors::{DIMENSIONS_MAX, Tensor, count, to_input, wrong};
use crate::faces::v2::{Datatype, binary};
use crate::refusal::Refusal;
use crate::rows::{Column, Texts, Values};
use crate::signature::{Input, Signature};

/// The columns of a request.
pub fn input<'a>(request: &'a ModelInferRequest, signature: &Signature) -> Result<Input<'a>, Refusal> {
    let raw = &request.raw_input_contents;
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        let text = format!("there are {} inputs, and {} raw contents", request.inputs.len(), raw.len());
        return Err(Refusal::BadRequest(text));
    }
    let mut tensors = Vec::with_capacity(request.inputs.len());
    for (at, input) in request.inputs.iter().enumerate() {
        let read = tensor(input, raw.get(at));
        tensors.push(read.map_err(|text| wrong(&input.name, &text))?);
    }
    to_input(tensors, signature)
}

/// How long the client waits, if the parameters say so, in microseconds as Triton has them.
pub fn timeout(request: &ModelInferRequest) -> Option<Duration> {
    let micros = match request.parameters.get("timeout")?.choice? {
        Choice::Int64(micros) => u64::try_from(micros).ok()?,
        Choice::Uint64(micros) => micros,
    };
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// A tensor of an output: with its contents, or with raw ones that stand elsewhere.
pub fn output(name: &str, column: &Column, raw: bool) -> (InferTensor, Option<Bytes>) {
    let mut tensor = InferTensor {
        name: name.to_owned(),
        datatype: Datatype::from(column.kind()).to_string(),
        shape: vec![column.len().cast_signed() as i64],
        contents: None,
    };
    if raw {
        let mut bytes = Vec::new();
        binary::write(&mut bytes, column);
        return (tensor, Some(bytes.into()));
    }
    let mut contents = InferTensorContents::default();
    match column.values() {
        Values::Number(values) => contents.fp64_contents.clone_from(values),
        Values::Integer(values) => contents.int64_contents.clone_from(values),
        Values::Bool(values) => contents.bool_contents.clone_from(values),
        Values::Text(values) => {
            contents.bytes_contents = values.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
        }
    }
    tensor.contents = Some(contents);
    (tensor, None)
}

fn tensor<'a>(input: &'a InferTensor, raw: Option<&Bytes>) -> Result<Tensor<'a>, String> {
    let datatype = Datatype::named(&input.datatype);
    let datatype = datatype.ok_or_else(|| format!("has `{}`, which is no datatype", input.datatype))?;
    if input.shape.len() > DIMENSIONS_MAX {
        return Err(format!("has a shape with more than {DIMENSIONS_MAX} dimensions"));
    }
    let sizes = input.shape.iter().map(|size| usize::try_from(*size));
    let shape: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| "has a shape with a size below 0")?;
    let expected = count(&shape)?;
    let column = match (raw, &input.contents) {
        (Some(_), Some(_)) => return Err("has both contents and raw contents".to_owned()),
        (Some(raw), None) => binary::read(datatype, raw)?,
        (None, Some(contents)) => elements(contents, datatype)?,
        (None, None) if expected == 0 => binary::read(datatype, b"")?,
        (None, None) => return Err("has no contents".to_owned()),
    };
    if column.len() != expected {
        return Err(format!("has {} elements, and its shape says {expected}", column.len()));
    }
    Ok(Tensor { name: Cow::Borrowed(&input.name), shape, column })
}

/// The elements in the field of the datatype.
fn elements(contents: &InferTensorContents, datatype: Datatype) -> Result<Column, String> {
    Ok(match datatype {
        Datatype::Bool => contents.bool_contents.clone().into(),
        Datatype::I8 | Datatype::I16 | Datatype::I32 => integers(&contents.int_contents, datatype)?,
        Datatype::U8 | Datatype::U16 | Datatype::U32 => integers(&contents.uint_contents, datatype)?,
        Datatype::I64 => contents.int64_contents.clone().into(),
        Datatype::U64 => {
            let values = &contents.uint64_contents;
            // Integers where all fit, and numbers where one doesn't, as in binary.
            match values.iter().map(|value| i64::try_from(*value)).collect::<Result<Vec<i64>, _>>() {
                Ok(values) => values.into(),
                Err(_) => values.iter().map(|value| *value as f64).collect::<Vec<f64>>().into(),
            }
        }
        Datatype::F16 | Datatype::Bf16 => return Err(format!("is {datatype}, which needs raw contents")),
        Datatype::F32 => contents.fp32_contents.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>().into(),
        Datatype::F64 => contents.fp64_contents.clone().into(),
        Datatype::Bytes => {
            let mut texts = Texts::default();
            for (at, bytes) in contents.bytes_contents.iter().enumerate() {
                texts.push(std::str::from_utf8(bytes).map_err(|_| format!("has element {at}, which is not UTF-8"))?);
            }
            texts.into()
        }
    })
}

fn integers<T: Copy + Into<i64>>(values: &[T], datatype: Datatype) -> Result<Column, String> {
    let values: Vec<i64> = values.iter().map(|value| (*value).into()).collect();
    let (low, high) = datatype.integers().ok_or_else(|| format!("is {datatype}"))?;
    match values.iter().position(|value| !(low..=high).contains(&i128::from(*value))) {
        Some(at) => Err(format!("is {datatype}, and element {at} is {}", values[at])),
        None => Ok(values.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Kind;
    use crate::signature::Field;

    fn request(tensor: InferTensor, raw: &[&'static [u8]]) -> ModelInferRequest {
        let raw_input_contents = raw.iter().map(|bytes| Bytes::from_static(bytes)).collect();
        ModelInferRequest { inputs: vec![tensor], raw_input_contents, ..ModelInferRequest::default() }
    }

    fn named(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferTensor {
        InferTensor { name: "a".to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), contents }
    }

    fn signature() -> Signature {
        let inputs = vec![Field::new("a", Kind::Number), Field::new("b", Kind::Number).nullable()];
        Signature::new(inputs, Vec::new())
    }

    #[test]
    fn raw_and_typed_contents_are_the_same_columns() {
        let raw = request(named("INT16", &[2, 1], None), &[&[7, 0, 0xff, 0xff]]);
        let contents = InferTensorContents { int_contents: vec![7, -1], ..InferTensorContents::default() };
        let typed = request(named("INT16", &[2], Some(contents)), &[]);
        let expected = Input::Named(vec![("a".into(), Column::from(vec![7, -1]))]);
        assert_eq!(input(&raw, &signature()).unwrap(), expected);
        assert_eq!(input(&typed, &signature()).unwrap(), expected);
    }

    #[test]
    fn wrong_tensors_are_refused_with_the_input_and_the_reason() {
        let contents = || Some(InferTensorContents { uint_contents: vec![256], ..InferTensorContents::default() });
        let cases = [
            (request(named("FP8", &[1], None), &[]), "input `a` has `FP8`, which is no datatype"),
            (request(named("FP64", &[-1], None), &[]), "input `a` has a shape with a size below 0"),
            (request(named("FP64", &[1], None), &[]), "input `a` has no contents"),
            (request(named("FP32", &[2], None), &[&[0; 4]]), "input `a` has 1 elements, and its shape says 2"),
            (request(named("UINT8", &[1], contents()), &[]), "input `a` is UINT8, and element 0 is 256"),
            (request(named("UINT8", &[1], contents()), &[&[1]]), "input `a` has both contents and raw contents"),
            (request(named("UINT8", &[1], contents()), &[&[1], &[1]]), "there are 1 inputs, and 2 raw contents"),
            (request(named("BF16", &[1], contents()), &[]), "input `a` is BF16, which needs raw contents"),
            (request(named("UINT8", &[1; 17], contents()), &[]), "input `a` has a shape with more than 16 dimensions"),
            (
                request(named("INT8", &[1 << 40, 1 << 40], contents()), &[]),
                "input `a` has a shape with too many elements",
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(input(&request, &signature()).unwrap_err().to_string(), expected);
        }
    }
}
