//! CSV in and out, as MLflow and SageMaker send it: fields in quotes may hold commas, quotes and lines.
//!
//! MLflow's first line has names, SageMaker's has values. A first line that names a column of the model is one of
//! names; without one, values are in the signature's order.

use std::borrow::Cow;

use crate::cells::Cells;
use crate::refusal::Refusal;
use crate::rows::{Cell, Kind, Predictions};
use crate::signature::{Input, Signature};

/// Parses a body.
pub fn parse<'a>(text: &'a str, signature: &Signature) -> Result<Input<'a>, Refusal> {
    let mut lines = Lines { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 0 };
    let Some(first) = lines.next_line()? else { return Err(Refusal::BadRequest("the body has no lines".into())) };
    let has_names = first.iter().any(|field| signature.takes(field));
    let width = first.len();
    if !has_names && width != signature.inputs().len() {
        let takes = signature.inputs().len();
        let text =
            format!("the first line has {width} fields and no name of a column; the model takes {takes} columns");
        return Err(Refusal::BadRequest(text));
    }
    let kinds: Vec<Option<Kind>> =
        (0..width).map(|at| kind_of(signature, has_names.then(|| &*first[at]), at)).collect();
    let mut columns = vec![Cells::default(); width];
    let mut next = if has_names { lines.next_line()? } else { Some(first.clone()) };
    while let Some(fields) = next {
        if fields.len() != width {
            let text = format!("line {} has {} fields, and the first has {width}", lines.line, fields.len());
            return Err(Refusal::BadRequest(text));
        }
        for (at, field) in fields.into_iter().enumerate() {
            let Some(kind) = kinds[at] else { continue };
            let wrong = || Refusal::BadRequest(format!("`{field}` in line {} is no {kind}", lines.line));
            let cell = cell(&field, kind).ok_or_else(wrong)?;
            if !columns[at].push(&cell) {
                return Err(wrong());
            }
        }
        next = lines.next_line()?;
    }
    let columns = columns.into_iter().map(Cells::finish);
    if !has_names {
        return Ok(Input::Positional(columns.collect()));
    }
    let named = first.into_iter().zip(columns).zip(kinds).filter(|(_, kind)| kind.is_some());
    Ok(Input::Named(named.map(|(column, _)| column).collect()))
}

/// The predictions, one line a row, without names: what SageMaker's clients read.
pub fn write(predictions: &Predictions) -> Vec<u8> {
    let mut out = Vec::new();
    for row in 0..predictions.len() {
        for (at, (_, column)) in predictions.columns().iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            match column.cell(row) {
                Cell::Null => {}
                Cell::Text(text) => write_field(&mut out, &text),
                cell => crate::json::write_cell(&mut out, &cell),
            }
        }
        out.push(b'\n');
    }
    out
}

fn write_field(out: &mut Vec<u8>, text: &str) {
    if !text.contains([',', '"', '\n', '\r']) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

/// The kind of the model's column at a place, if the model has one there.
fn kind_of(signature: &Signature, name: Option<&str>, at: usize) -> Option<Kind> {
    match name {
        Some(name) => signature.inputs().iter().find(|field| &*field.name == name).map(|field| field.kind),
        None => signature.inputs().get(at).map(|field| field.kind),
    }
}

fn cell<'a>(field: &'a str, kind: Kind) -> Option<Cell<'a>> {
    if kind == Kind::Text {
        return Some(if field.is_empty() { Cell::Null } else { Cell::Text(Cow::Borrowed(field)) });
    }
    let field = field.trim();
    if field.is_empty() {
        return Some(Cell::Null);
    }
    match kind {
        Kind::Bool => match field {
            "true" | "True" | "TRUE" | "1" => Some(Cell::Bool(true)),
            "false" | "False" | "FALSE" | "0" => Some(Cell::Bool(false)),
            _ => None,
        },
        Kind::Integer => field.parse().map(Cell::Integer).or_else(|_| field.parse().map(Cell::Number)).ok(),
        Kind::Number | Kind::Text => field.parse().map(Cell::Number).ok(),
    }
}

struct Lines<'a> {
    rest: &'a str,
    /// The line that was read last, from 1.
    line: usize,
}

impl<'a> Lines<'a> {
    /// The fields of the next line that isn't empty.
    fn next_line(&mut self) -> Result<Option<Vec<Cow<'a, str>>>, Refusal> {
        loop {
            let line_end = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n'));
            let Some(rest) = line_end else { break };
            self.rest = rest;
            self.line += 1;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            let line_end = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n'));
            self.rest = line_end.unwrap_or(self.rest);
            return Ok(Some(fields));
        }
    }

    fn field(&mut self) -> Result<Cow<'a, str>, Refusal> {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
            let (field, rest) = self.rest.split_at(end);
            // The carriage return belongs to the end of the line.
            let field = if rest.starts_with('\n') { field.strip_suffix('\r').unwrap_or(field) } else { field };
            self.rest = rest;
            return Ok(Cow::Borrowed(field));
        };
        let mut text = Cow::Borrowed("");
        let mut rest = quoted;
        loop {
            let open = || Refusal::BadRequest(format!("line {} has a quote without an end", self.line));
            let end = rest.find('"').ok_or_else(open)?;
            text += &rest[..end];
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    text += "\"";
                    rest = after;
                }
                None => break,
            }
        }
        if !(rest.is_empty() || rest.starts_with([',', '\n']) || rest.starts_with("\r\n")) {
            return Err(Refusal::BadRequest(format!("line {} goes on after a quote's end", self.line)));
        }
        self.rest = rest;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Column, Texts};
    use crate::signature::Field;

    fn signature() -> Signature {
        Signature::new(vec![Field::new("a", Kind::Number), Field::new("t", Kind::Text).nullable()], Vec::new())
    }

    fn rows(text: &str) -> Result<Vec<String>, Refusal> {
        let rows = signature().bind(parse(text, &signature())?)?;
        let cell = |column: &Column, row| match column.cell(row) {
            Cell::Text(text) => format!("{text:?}"),
            Cell::Number(value) => value.to_string(),
            other => format!("{other:?}"),
        };
        Ok((0..rows.len())
            .map(|row| format!("{} {}", cell(&rows.columns()[0], row), cell(&rows.columns()[1], row)))
            .collect())
    }

    #[test]
    fn a_first_line_of_names_orders_the_columns_and_others_are_left_out() {
        let text = "t,id,a\r\n\"x, \"\"y\"\"\nz\",7,1.5\r\n,8,2\r\n";
        assert_eq!(rows(text).unwrap(), [r#"1.5 "x, \"y\"\nz""#, "2 Null"]);
    }

    #[test]
    fn without_names_values_are_in_the_signatures_order() {
        assert_eq!(rows("1,u\n\n2,v").unwrap(), ["1 \"u\"", "2 \"v\""]);
    }

    #[test]
    fn wrong_lines_are_named() {
        let cases = [
            ("", "the body has no lines"),
            ("1,2,3", "the first line has 3 fields and no name of a column; the model takes 2 columns"),
            ("a,t\n1", "line 2 has 1 fields, and the first has 2"),
            ("a,t\nx,y", "`x` in line 2 is no number"),
            ("a,t\n1,\"x", "line 2 has a quote without an end"),
            ("a,t\n1,\"x\"y", "line 2 goes on after a quote's end"),
        ];
        for (text, expected) in cases {
            assert_eq!(rows(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn predictions_are_lines_without_names() {
        let texts: Texts = ["x,y", "z"].into_iter().collect();
        let predictions = Predictions::new(vec![("p".into(), vec![0.5, 1.0].into()), ("t".into(), texts.into())], 2);
        assert_eq!(String::from_utf8(write(&predictions)).unwrap(), "0.5,\"x,y\"\n1.0,z\n");
    }
}
