//! From predictions to the bytes of an infer response.

use super::binary;
use super::datatype::Datatype;
use super::request::WantedOutput;
use crate::json::{write_cell, write_text};
use crate::refusal::Refusal;
use crate::rows::{Column, Predictions};

/// Who answers whom.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub model: &'a str,
    pub version: u64,
    /// The request's id, if it had one.
    pub id: Option<&'a str>,
}

/// The bytes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferAnswer {
    pub body: Vec<u8>,
    /// Bytes of JSON before the binary tensors; none when all of it is JSON.
    pub json_bytes: Option<usize>,
}

/// Writes the outputs that were asked for, or all of them.
pub fn write(
    named: Named<'_>,
    predictions: &Predictions,
    wanted: &[WantedOutput],
    binary_output: bool,
) -> Result<InferAnswer, Refusal> {
    let mut body = Vec::with_capacity(256);
    let mut tail = Vec::new();
    body.extend_from_slice(b"{\"model_name\":");
    write_text(&mut body, named.model);
    body.extend_from_slice(format!(",\"model_version\":\"{}\"", named.version).as_bytes());
    if let Some(id) = named.id {
        body.extend_from_slice(b",\"id\":");
        write_text(&mut body, id);
    }
    body.extend_from_slice(b",\"outputs\":[");
    let mut any_binary = false;
    let mut first = true;
    for (name, column, binary) in selected(predictions, wanted, binary_output)? {
        if !std::mem::take(&mut first) {
            body.push(b',');
        }
        any_binary |= binary;
        write_output(&mut body, &mut tail, name, column, binary);
    }
    body.extend_from_slice(b"]}");
    let json_bytes = any_binary.then_some(body.len());
    body.append(&mut tail);
    Ok(InferAnswer { body, json_bytes })
}

/// The outputs with whether each is binary.
pub fn selected<'a>(
    predictions: &'a Predictions,
    wanted: &[WantedOutput],
    binary_output: bool,
) -> Result<Vec<(&'a str, &'a Column, bool)>, Refusal> {
    if wanted.is_empty() {
        return Ok(predictions.columns().iter().map(|(name, column)| (&**name, column, binary_output)).collect());
    }
    let find = |output: &WantedOutput| {
        let found = predictions.columns().iter().find(|(name, _)| **name == *output.name);
        let unknown = || Refusal::BadRequest(format!("the model has no output `{}`", output.name));
        let (name, column) = found.ok_or_else(unknown)?;
        Ok((&**name, column, output.binary.unwrap_or(binary_output)))
    };
    wanted.iter().map(find).collect()
}

fn write_output(body: &mut Vec<u8>, tail: &mut Vec<u8>, name: &str, column: &Column, binary: bool) {
    body.extend_from_slice(b"{\"name\":");
    write_text(body, name);
    let datatype = Datatype::from(column.kind());
    body.extend_from_slice(format!(",\"shape\":[{}],\"datatype\":\"{datatype}\"", column.len()).as_bytes());
    if binary {
        let start = tail.len();
        binary::write(tail, column);
        let size = tail.len() - start;
        body.extend_from_slice(format!(",\"parameters\":{{\"binary_data_size\":{size}}}}}").as_bytes());
        return;
    }
    body.extend_from_slice(b",\"data\":[");
    for at in 0..column.len() {
        if at > 0 {
            body.push(b',');
        }
        write_cell(body, &column.cell(at));
    }
    body.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions() -> Predictions {
        let columns =
            vec![("prediction".into(), Column::from(vec![1])), ("probability".into(), Column::from(vec![f64::NAN]))];
        Predictions::new(columns, 1)
    }

    fn text(answer: &InferAnswer) -> &str {
        std::str::from_utf8(&answer.body).unwrap()
    }

    #[test]
    fn an_answer_names_its_model_and_repeats_the_id() {
        let named = Named { model: "m", version: 3, id: Some("q\"1") };
        let answer = write(named, &predictions(), &[], false).unwrap();
        let expected = r#"{"model_name":"m","model_version":"3","id":"q\"1","outputs":[{"name":"prediction","shape":[1],"datatype":"INT64","data":[1]},{"name":"probability","shape":[1],"datatype":"FP64","data":[null]}]}"#;
        assert_eq!(text(&answer), expected);
        assert_eq!(answer.json_bytes, None);
    }

    #[test]
    fn an_output_overrides_what_the_request_says_of_all() {
        let named = Named { model: "m", version: 1, id: None };
        let wanted = [
            WantedOutput { name: "probability".into(), binary: None },
            WantedOutput { name: "prediction".into(), binary: Some(false) },
        ];
        let answer = write(named, &predictions(), &wanted, true).unwrap();
        let json = answer.json_bytes.unwrap();
        let head: serde_json::Value = serde_json::from_slice(&answer.body[..json]).unwrap();
        assert_eq!(head["outputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(head["outputs"][1]["data"][0], 1);
        assert_eq!(answer.body[json..].len(), 8);
        let unknown = [WantedOutput { name: "x".into(), binary: None }];
        let refusal = write(named, &predictions(), &unknown, false).unwrap_err();
        assert_eq!(refusal.to_string(), "the model has no output `x`");
    }
}
