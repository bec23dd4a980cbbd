//! From the bytes of an infer request to columns.

use std::borrow::Cow;
use std::time::Duration;

use super::binary;
use super::datatype::Datatype;
use super::tensors;
use crate::cells::Cells;
use crate::json::{JsonError, Number, Reader};
use crate::refusal::Refusal;
use crate::rows::{Column, Kind, Texts, Values};
use crate::signature::{Input, Signature};

/// Nesting of a tensor's data. Ours have two dimensions; some clients wrap them.
const DATA_DEPTH_MAX: usize = 16;

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct InferRequest<'a> {
    /// Answered as it came.
    pub id: Option<Cow<'a, str>>,
    pub input: Input<'a>,
    /// The outputs that are wanted, in order; empty for all.
    pub outputs: Vec<WantedOutput>,
    /// Whether an output is binary that doesn't say so itself.
    pub binary_output: bool,
    /// How long the client waits, if it says so.
    pub timeout: Option<Duration>,
}

/// One output that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedOutput {
    pub name: String,
    pub binary: Option<bool>,
}

/// One tensor on its way to columns.
#[derive(Default)]
struct Tensor<'a> {
    name: Option<Cow<'a, str>>,
    shape: Option<Vec<usize>>,
    datatype: Option<Datatype>,
    binary_size: Option<usize>,
    data: Option<Cells>,
}

/// What parameters can say that matters here.
#[derive(Default)]
struct Parameters {
    binary_size: Option<usize>,
    binary: Option<bool>,
    binary_output: Option<bool>,
    timeout_micros: Option<u64>,
}

/// Parses the JSON of a request, with the binary tensors that follow it.
pub fn parse<'a>(json: &'a str, binary: &[u8], signature: &Signature) -> Result<InferRequest<'a>, Refusal> {
    let mut reader = Reader::new(json);
    let mut id = None;
    let mut tensors = None;
    let mut outputs = Vec::new();
    let mut parameters = Parameters::default();
    let mut more = reader.open(b'{')?;
    while more {
        match &*reader.key()? {
            "id" => id = if reader.null()? { None } else { Some(reader.text()?) },
            "inputs" => tensors = Some(read_tensors(&mut reader)?),
            "outputs" => outputs = read_outputs(&mut reader)?,
            "parameters" => parameters = read_parameters(&mut reader)?,
            // The kserve SDK adds keys of its own.
            _ => reader.skip()?,
        }
        more = reader.more(b'{')?;
    }
    reader.end()?;
    let tensors = tensors.ok_or_else(|| bad("the request has no `inputs`"))?;
    let mut rest = binary;
    let input = to_input(tensors, &mut rest, signature)?;
    if !rest.is_empty() {
        return Err(Refusal::BadRequest(format!("{} bytes follow the last binary tensor", rest.len())));
    }
    Ok(InferRequest {
        id,
        input,
        outputs,
        binary_output: parameters.binary_output.unwrap_or(false),
        timeout: parameters.timeout_micros.filter(|micros| *micros > 0).map(Duration::from_micros),
    })
}

/// A body that is one tensor and nothing else: the one input of a model with one input, or one row of numbers.
pub fn parse_raw(body: &[u8], signature: &Signature) -> Result<InferRequest<'static>, Refusal> {
    let column = match signature.inputs() {
        // The one element is the whole body, without its length.
        [field] if field.kind == Kind::Text => {
            let text = std::str::from_utf8(body).map_err(|_| bad("the raw input is not UTF-8"))?;
            [text].into_iter().collect::<Texts>().into()
        }
        [field] => {
            let column = binary::read(field.kind.into(), body).map_err(|text| bad(&format!("the raw input {text}")))?;
            if column.len() != 1 {
                return Err(Refusal::BadRequest(format!("the raw input has {} elements; it takes one", column.len())));
            }
            column
        }
        fields if fields.iter().all(|field| field.kind == Kind::Number) => {
            let column = binary::read(Datatype::F64, body).map_err(|text| bad(&format!("the raw input {text}")))?;
            let input = tensors::columns_of_matrix(&column, 1, column.len());
            return Ok(raw_request(Input::Positional(input)));
        }
        _ => return Err(bad("a raw input needs a model with one input, or with numbers alone")),
    };
    Ok(raw_request(Input::Positional(vec![column])))
}

fn raw_request(input: Input<'static>) -> InferRequest<'static> {
    InferRequest { id: None, input, outputs: Vec::new(), binary_output: true, timeout: None }
}

fn bad(text: &str) -> Refusal {
    Refusal::BadRequest(text.to_owned())
}

fn read_tensors<'a>(reader: &mut Reader<'a>) -> Result<Vec<Tensor<'a>>, Refusal> {
    let mut tensors = Vec::new();
    let mut more = reader.open(b'[')?;
    while more {
        tensors.push(read_tensor(reader)?);
        more = reader.more(b'[')?;
    }
    Ok(tensors)
}

fn read_tensor<'a>(reader: &mut Reader<'a>) -> Result<Tensor<'a>, Refusal> {
    let mut tensor = Tensor::default();
    let mut more = reader.open(b'{')?;
    while more {
        match &*reader.key()? {
            "name" => tensor.name = Some(reader.text()?),
            "shape" => tensor.shape = Some(read_shape(reader)?),
            "datatype" => {
                let name = reader.text()?;
                let unknown = || Refusal::BadRequest(format!("`{name}` is no datatype of the protocol"));
                tensor.datatype = Some(Datatype::named(&name).ok_or_else(unknown)?);
            }
            "parameters" => tensor.binary_size = read_parameters(reader)?.binary_size,
            "data" => {
                let mut cells = Cells::default();
                read_data(reader, &mut cells, DATA_DEPTH_MAX)?;
                tensor.data = Some(cells);
            }
            _ => reader.skip()?,
        }
        more = reader.more(b'{')?;
    }
    Ok(tensor)
}

fn read_shape(reader: &mut Reader<'_>) -> Result<Vec<usize>, Refusal> {
    let mut shape = Vec::new();
    let mut more = reader.open(b'[')?;
    while more {
        let size = match reader.number()? {
            Number::Integer(size) => usize::try_from(size).ok(),
            Number::Float(_) => None,
        };
        shape.push(size.ok_or(bad("a shape holds whole numbers from 0"))?);
        if shape.len() > tensors::DIMENSIONS_MAX {
            return Err(bad("a shape has at most 16 dimensions"));
        }
        more = reader.more(b'[')?;
    }
    Ok(shape)
}

/// Values in row-major order, nested or flat.
fn read_data(reader: &mut Reader<'_>, cells: &mut Cells, depth: usize) -> Result<(), Refusal> {
    if depth == 0 {
        return Err(reader.error("less nesting of `data`").into());
    }
    let mut more = reader.open(b'[')?;
    while more {
        if reader.peek() == b'[' {
            read_data(reader, cells, depth - 1)?;
        } else {
            let cell = reader.cell()?;
            if !cells.push(&cell) {
                return Err(reader.error("`data` of one kind").into());
            }
        }
        more = reader.more(b'[')?;
    }
    Ok(())
}

fn read_outputs(reader: &mut Reader<'_>) -> Result<Vec<WantedOutput>, Refusal> {
    let mut outputs = Vec::new();
    if reader.null()? {
        return Ok(outputs);
    }
    let mut more = reader.open(b'[')?;
    while more {
        let mut name = None;
        let mut binary = None;
        let mut more_keys = reader.open(b'{')?;
        while more_keys {
            match &*reader.key()? {
                "name" => name = Some(reader.text()?.into_owned()),
                "parameters" => binary = read_parameters(reader)?.binary,
                _ => reader.skip()?,
            }
            more_keys = reader.more(b'{')?;
        }
        let name = name.ok_or(bad("an output has no `name`"))?;
        outputs.push(WantedOutput { name, binary });
        more = reader.more(b'[')?;
    }
    Ok(outputs)
}

fn read_parameters(reader: &mut Reader<'_>) -> Result<Parameters, JsonError> {
    let mut parameters = Parameters::default();
    if reader.null()? {
        return Ok(parameters);
    }
    let mut more = reader.open(b'{')?;
    while more {
        match &*reader.key()? {
            "binary_data_size" => parameters.binary_size = Some(read_count(reader)?),
            "binary_data" => parameters.binary = Some(reader.bool()?),
            "binary_data_output" => parameters.binary_output = Some(reader.bool()?),
            "timeout" => parameters.timeout_micros = Some(read_count(reader)? as u64),
            _ => reader.skip()?,
        }
        more = reader.more(b'{')?;
    }
    Ok(parameters)
}

fn read_count(reader: &mut Reader<'_>) -> Result<usize, JsonError> {
    let error = reader.error("a whole number from 0");
    match reader.number()? {
        Number::Integer(value) => usize::try_from(value).map_err(|_| error),
        Number::Float(_) => Err(error),
    }
}

fn to_input<'a>(tensors: Vec<Tensor<'a>>, rest: &mut &[u8], signature: &Signature) -> Result<Input<'a>, Refusal> {
    let mut whole = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let name = tensor.name.clone().ok_or(bad("an input has no `name`"))?;
        let (shape, column) = tensor.elements(rest).map_err(|text| tensors::wrong(&name, &text))?;
        whole.push(tensors::Tensor { name, shape, column });
    }
    tensors::to_input(whole, signature)
}

impl Tensor<'_> {
    /// The shape and the elements, checked against each other. Takes binary ones from `rest`.
    fn elements(self, rest: &mut &[u8]) -> Result<(Vec<usize>, Column), String> {
        let datatype = self.datatype.ok_or("has no `datatype`")?;
        let shape = self.shape.ok_or("has no `shape`")?;
        let count = tensors::count(&shape)?;
        let column = match (self.binary_size, self.data) {
            (Some(_), Some(_)) => return Err("has both `data` and `binary_data_size`".to_owned()),
            (None, None) => return Err("has no `data`".to_owned()),
            (Some(size), None) => {
                let bytes = rest.get(..size).ok_or_else(|| {
                    format!("says that {size} bytes of binary data follow, and there are {}", rest.len())
                })?;
                *rest = &rest[size..];
                binary::read(datatype, bytes)?
            }
            (None, Some(_)) if matches!(datatype, Datatype::F16 | Datatype::Bf16) => {
                return Err(format!("is {datatype}, which has no form in JSON; send it as binary data"));
            }
            (None, Some(cells)) => typed(cells.finish(), datatype)?,
        };
        if column.len() != count {
            return Err(format!("has {} elements, and its shape says {count}", column.len()));
        }
        Ok((shape, column))
    }
}

/// Elements that came as JSON, as their datatype.
fn typed(column: Column, datatype: Datatype) -> Result<Column, String> {
    let found = column.kind();
    let wrong = |at: usize| format!("is {datatype}, and element {at} is {found}");
    match datatype {
        Datatype::F32 => {
            let nulls: Vec<bool> = (0..column.len()).map(|at| column.is_null(at)).collect();
            let column = numbers_only(column, wrong)?;
            let Values::Number(values) = column.values() else { return Err(wrong(0)) };
            // As the same number would have come in binary.
            let rounded: Vec<f64> = values.iter().map(|value| f64::from(*value as f32)).collect();
            Ok(Column::from(rounded).with_nulls(nulls))
        }
        Datatype::F64 => numbers_only(column, wrong),
        Datatype::Bool => column.cast(Kind::Bool).map_err(wrong),
        Datatype::Bytes if column.kind() == Kind::Text || column.is_empty() => column.cast(Kind::Text).map_err(wrong),
        Datatype::Bytes => {
            let first = (0..column.len()).find(|at| !column.is_null(*at));
            first.map_or_else(|| column.cast(Kind::Text).map_err(wrong), |at| Err(wrong(at)))
        }
        _ => integers_only(column, datatype, wrong),
    }
}

fn numbers_only(column: Column, wrong: impl Fn(usize) -> String) -> Result<Column, String> {
    if column.kind() == Kind::Bool { Err(wrong(0)) } else { column.cast(Kind::Number).map_err(wrong) }
}

fn integers_only(column: Column, datatype: Datatype, wrong: impl Fn(usize) -> String) -> Result<Column, String> {
    if column.kind() == Kind::Bool {
        return Err(wrong(0));
    }
    // An unsigned integer of 64 bits that is over 2^63 came as a number, and stays one.
    let column = match (datatype, column.values()) {
        (Datatype::U64, Values::Number(values)) if values.iter().any(|value| *value >= 9.2e18) => {
            let out = values.iter().position(|value| *value < 0.0 || value.fract() != 0.0 || *value > u64::MAX as f64);
            return out.map_or(Ok(column), |at| Err(wrong(at)));
        }
        _ => column.cast(Kind::Integer).map_err(&wrong)?,
    };
    let (Values::Integer(values), Some((low, high))) = (column.values(), datatype.integers()) else {
        return Err(wrong(0));
    };
    let out = values.iter().position(|value| !(low..=high).contains(&i128::from(*value)));
    out.map_or(Ok(()), |at| Err(format!("is {datatype}, and element {at} is {}", values[at])))?;
    Ok(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Cell, Rows};
    use crate::signature::Field;

    fn signature() -> Signature {
        let inputs = vec![Field::new("a", Kind::Number), Field::new("b", Kind::Number)];
        Signature::new(inputs, vec![Field::new("prediction", Kind::Number)])
    }

    fn rows(json: &str, binary: &[u8]) -> Result<Rows, Refusal> {
        let signature = signature();
        Ok(signature.bind(parse(json, binary, &signature)?.input)?)
    }

    fn cells(rows: &Rows, name: &str) -> Vec<f64> {
        match rows.column(name).unwrap().values() {
            Values::Number(values) => values.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tensor_a_column_and_one_matrix_are_the_same_rows() {
        let columns = r#"{"id":"x","model_name":"m","inputs":[
            {"data":[3,4],"name":"b","shape":[2,1],"datatype":"INT32"},
            {"name":"a","shape":[2],"datatype":"FP64","parameters":{"content_type":"np"},"data":[[1.5],[2]]}]}"#;
        let matrix = r#"{"inputs":[{"name":"input-0","shape":[2,2],"datatype":"FP64","data":[[1.5,3],[2,4]]}]}"#;
        let flat = r#"{"inputs":[{"name":"input-0","shape":[2,2],"datatype":"FP64","data":[1.5,3,2,4]}]}"#;
        for json in [columns, matrix, flat] {
            let rows = rows(json, b"").unwrap();
            assert_eq!((cells(&rows, "a"), cells(&rows, "b")), (vec![1.5, 2.0], vec![3.0, 4.0]), "{json}");
        }
    }

    #[test]
    fn binary_tensors_follow_in_the_order_of_the_inputs() {
        let json = r#"{"inputs":[
            {"name":"b","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}},
            {"name":"a","shape":[1,1],"datatype":"INT64","parameters":{"binary_data_size":8}}],
            "parameters":{"binary_data_output":true,"timeout":2000}}"#;
        let mut binary = 0.5f32.to_le_bytes().to_vec();
        binary.extend_from_slice(&7i64.to_le_bytes());
        let request = parse(json, &binary, &signature()).unwrap();
        assert!(request.binary_output);
        assert_eq!(request.timeout, Some(Duration::from_millis(2)));
        let rows = signature().bind(request.input).unwrap();
        assert_eq!((cells(&rows, "a"), cells(&rows, "b")), (vec![7.0], vec![0.5]));
        let short = super::tests::rows(json, &binary[..11]).unwrap_err();
        let expected = "input `a` says that 8 bytes of binary data follow, and there are 7";
        assert_eq!(short.to_string(), expected);
        binary.push(0);
        let long = super::tests::rows(json, &binary).unwrap_err();
        assert_eq!(long.to_string(), "1 bytes follow the last binary tensor");
    }

    #[test]
    fn wrong_tensors_are_refused_with_the_input_and_the_reason() {
        let with = |tensor: &str| format!(r#"{{"inputs":[{tensor}]}}"#);
        let cases = [
            (r#"{"inputs":5}"#.to_owned(), "failed to read the body: expected an array at byte 10 of the JSON"),
            ("{}".to_owned(), "the request has no `inputs`"),
            (with(r#"{"shape":[1],"datatype":"FP32","data":[1]}"#), "an input has no `name`"),
            (with(r#"{"name":"a","shape":[1],"data":[1]}"#), "input `a` has no `datatype`"),
            (with(r#"{"name":"a","shape":[1],"datatype":"FP32"}"#), "input `a` has no `data`"),
            (with(r#"{"name":"a","shape":[1],"datatype":"FP8","data":[1]}"#), "`FP8` is no datatype of the protocol"),
            (
                with(r#"{"name":"a","shape":[3],"datatype":"FP32","data":[1,2]}"#),
                "input `a` has 2 elements, and its shape says 3",
            ),
            (
                with(r#"{"name":"a","shape":[1],"datatype":"FP16","data":[1]}"#),
                "input `a` is FP16, which has no form in JSON; send it as binary data",
            ),
            (
                with(r#"{"name":"a","shape":[2],"datatype":"UINT8","data":[1,256]}"#),
                "input `a` is UINT8, and element 1 is 256",
            ),
            (
                with(r#"{"name":"a","shape":[1],"datatype":"INT8","data":["x"]}"#),
                "input `a` is INT8, and element 0 is text",
            ),
            (
                with(r#"{"name":"a","shape":[4294967296,4294967296,4294967296],"datatype":"INT8","data":[]}"#),
                "input `a` has a shape with too many elements",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(rows(&json, b"").unwrap_err(), bad(expected), "{json}");
        }
    }

    #[test]
    fn bytes_are_text_and_null_is_null() {
        let inputs = vec![Field::new("t", Kind::Text).nullable()];
        let signature = Signature::new(inputs, Vec::new());
        let json = r#"{"inputs":[{"name":"t","shape":[2],"datatype":"BYTES","data":["é",null]}]}"#;
        let rows = signature.bind(parse(json, b"", &signature).unwrap().input).unwrap();
        assert_eq!(rows.columns()[0].cell(0), Cell::Text("é".into()));
        assert_eq!(rows.columns()[0].cell(1), Cell::Null);
    }

    #[test]
    fn a_raw_body_is_one_row() {
        let mut body = 1.5f64.to_le_bytes().to_vec();
        body.extend_from_slice(&2.5f64.to_le_bytes());
        let rows = signature().bind(parse_raw(&body, &signature()).unwrap().input).unwrap();
        assert_eq!((cells(&rows, "a"), cells(&rows, "b")), (vec![1.5], vec![2.5]));
    }

    #[test]
    fn numbers_of_32_bits_are_the_same_as_json_and_as_binary() {
        let json = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0.1,2]}]}"#;
        let rows = rows(json, b"").unwrap();
        assert_eq!(cells(&rows, "a"), [f64::from(0.1f32)]);
    }
}
