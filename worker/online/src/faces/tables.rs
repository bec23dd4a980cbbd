//! The JSON bodies of MLflow's `/invocations`; `instances` is also what Vertex AI and TensorFlow Serving send.

use std::borrow::Cow;

use crate::cells::Cells;
use crate::json::{Reader, write_cell, write_text};
use crate::refusal::Refusal;
use crate::rows::{Column, Predictions};
use crate::signature::{Input, Signature};

/// The keys of which a body has exactly one.
const FORMS: [&str; 4] = ["dataframe_split", "dataframe_records", "instances", "inputs"];

/// Columns that grow row by row; a row is an array, or an object with names.
#[derive(Default)]
struct Table<'a> {
    /// Empty while rows are arrays.
    names: Vec<Cow<'a, str>>,
    columns: Vec<Cells>,
    rows: usize,
}

/// Parses a body with one of the four forms.
pub fn parse<'a>(text: &'a str, signature: &Signature) -> Result<Input<'a>, Refusal> {
    let mut reader = Reader::new(text);
    if reader.peek() != b'{' {
        return Err(Refusal::BadRequest(format!("the body must be a JSON object with {}", one_of())));
    }
    let mut found: Vec<Cow<'a, str>> = Vec::new();
    let mut input = None;
    let mut more = reader.open(b'{')?;
    while more {
        let key = reader.key()?;
        match &*key {
            "dataframe_split" if found.is_empty() => input = Some(read_split(&mut reader)?),
            "dataframe_records" if found.is_empty() => input = Some(read_records(&mut reader)?),
            "instances" if found.is_empty() => input = Some(read_instances(&mut reader)?),
            "inputs" if found.is_empty() => input = Some(read_inputs(&mut reader, signature)?),
            "signature_name" => return Err(bad("`signature_name` is not supported; a model has one signature")),
            _ => reader.skip()?,
        }
        if FORMS.contains(&&*key) {
            found.push(key);
        }
        more = reader.more(b'{')?;
    }
    reader.end()?;
    match input {
        Some(input) if found.len() == 1 => Ok(input),
        Some(_) => {
            Err(Refusal::BadRequest(format!("the body has `{}`; it must have {}", found.join("` and `"), one_of())))
        }
        None => Err(Refusal::BadRequest(format!("the body must have {}", one_of()))),
    }
}

/// `{"predictions":[…]}`: plain values for a model with one output, objects for one with more.
pub fn write(predictions: &Predictions) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(b"{\"predictions\":[");
    for row in 0..predictions.len() {
        if row > 0 {
            out.push(b',');
        }
        match predictions.columns() {
            [(_, column)] => write_cell(&mut out, &column.cell(row)),
            columns => {
                out.push(b'{');
                for (at, (name, column)) in columns.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    write_text(&mut out, name);
                    out.push(b':');
                    write_cell(&mut out, &column.cell(row));
                }
                out.push(b'}');
            }
        }
    }
    out.extend_from_slice(b"]}");
    out
}

fn bad(text: &str) -> Refusal {
    Refusal::BadRequest(text.to_owned())
}

fn one_of() -> String {
    format!("exactly one of `{}`", FORMS.join("`, `"))
}

/// `{"columns":[…]?,"index":[…]?,"data":[[…]]}`, and nothing else.
fn read_split<'a>(reader: &mut Reader<'a>) -> Result<Input<'a>, Refusal> {
    let mut names: Option<Vec<Cow<'a, str>>> = None;
    let mut table = None;
    let mut more = reader.open(b'{')?;
    while more {
        match &*reader.key()? {
            "columns" => {
                let mut all = Vec::new();
                let mut more_names = reader.open(b'[')?;
                while more_names {
                    // Pandas numbers columns that have no names.
                    all.push(if reader.peek() == b'"' {
                        reader.text()?
                    } else {
                        reader.number()?.as_f64().to_string().into()
                    });
                    more_names = reader.more(b'[')?;
                }
                names = Some(all);
            }
            "index" => reader.skip()?,
            "data" => table = Some(read_rows(reader)?),
            other => {
                let text = format!("`dataframe_split` has `columns`, `index` and `data`, and no `{other}`");
                return Err(Refusal::BadRequest(text));
            }
        }
        more = reader.more(b'{')?;
    }
    let table = table.ok_or(bad("`dataframe_split` has no `data`"))?;
    let Some(names) = names else { return Ok(table.finish()) };
    if !table.names.is_empty() {
        return Err(bad("`data` of `dataframe_split` must be arrays"));
    }
    let columns: Vec<Cells> = if table.rows == 0 { vec![Cells::default(); names.len()] } else { table.columns };
    if columns.len() != names.len() {
        let text = format!("`dataframe_split` names {} columns, and its rows have {}", names.len(), columns.len());
        return Err(Refusal::BadRequest(text));
    }
    Ok(Input::Named(names.into_iter().zip(columns.into_iter().map(Cells::finish)).collect()))
}

fn read_records<'a>(reader: &mut Reader<'a>) -> Result<Input<'a>, Refusal> {
    let table = read_rows(reader)?;
    if table.rows > 0 && table.names.is_empty() && !table.columns.is_empty() {
        return Err(bad("`dataframe_records` must be a list of objects"));
    }
    Ok(Input::Named(table.into_named()))
}

fn read_instances<'a>(reader: &mut Reader<'a>) -> Result<Input<'a>, Refusal> {
    Ok(read_rows(reader)?.finish())
}

/// Columns by name, or rows as `instances` has them; one list of plain values is the one column of a model.
fn read_inputs<'a>(reader: &mut Reader<'a>, signature: &Signature) -> Result<Input<'a>, Refusal> {
    if reader.peek() != b'{' {
        let table = read_rows(reader)?;
        return Ok(table.finish());
    }
    let mut columns = Vec::with_capacity(signature.inputs().len());
    let mut more = reader.open(b'{')?;
    while more {
        let name = reader.key()?;
        let mut cells = Cells::default();
        read_column(reader, &mut cells, &name)?;
        columns.push((name, cells.finish()));
        more = reader.more(b'{')?;
    }
    Ok(Input::Named(columns))
}

/// `[1,2]` or `[[1],[2]]`, and a plain value for one row.
fn read_column(reader: &mut Reader<'_>, cells: &mut Cells, name: &str) -> Result<(), Refusal> {
    if reader.peek() != b'[' {
        return push(reader, cells, name);
    }
    let mut more = reader.open(b'[')?;
    while more {
        if reader.peek() == b'[' {
            if !reader.open(b'[')? {
                return Err(reader.error("a value").into());
            }
            push(reader, cells, name)?;
            if reader.more(b'[')? {
                return Err(Refusal::BadRequest(format!("column `{name}` has more than one value in a row")));
            }
        } else {
            push(reader, cells, name)?;
        }
        more = reader.more(b'[')?;
    }
    Ok(())
}

fn push(reader: &mut Reader<'_>, cells: &mut Cells, name: &str) -> Result<(), Refusal> {
    let cell = reader.cell()?;
    if cells.push(&cell) {
        return Ok(());
    }
    Err(Refusal::BadRequest(format!("column `{name}` has values of different kinds, first in row {}", cells.len())))
}

fn read_rows<'a>(reader: &mut Reader<'a>) -> Result<Table<'a>, Refusal> {
    let mut table = Table::default();
    let mut more = reader.open(b'[')?;
    while more {
        match reader.peek() {
            b'{' => table.read_object(reader)?,
            b'[' => table.read_array(reader)?,
            _ => table.read_value(reader)?,
        }
        table.rows += 1;
        more = reader.more(b'[')?;
    }
    Ok(table)
}

impl<'a> Table<'a> {
    fn read_object(&mut self, reader: &mut Reader<'a>) -> Result<(), Refusal> {
        if self.rows > 0 && self.names.is_empty() && !self.columns.is_empty() {
            return Err(reader.error("rows that are all arrays").into());
        }
        let mut at = 0;
        let mut more = reader.open(b'{')?;
        while more {
            let name = reader.key()?;
            // Objects mostly repeat the order of the first.
            if self.names.get(at) != Some(&name) {
                at = self.place_of(name.clone());
            }
            if self.columns[at].len() > self.rows {
                return Err(Refusal::BadRequest(format!("row {} has `{name}` twice", self.rows)));
            }
            push(reader, &mut self.columns[at], &name)?;
            at += 1;
            more = reader.more(b'{')?;
        }
        for cells in &mut self.columns {
            if cells.len() == self.rows {
                // A null fits any kind.
                let _ = cells.push(&crate::rows::Cell::Null);
            }
        }
        Ok(())
    }

    /// Where a name's column is; a name that comes for the first time was null before.
    fn place_of(&mut self, name: Cow<'a, str>) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.names.push(name);
            self.columns.push(Cells::after_nulls(self.rows));
            self.names.len() - 1
        })
    }

    fn read_array(&mut self, reader: &mut Reader<'a>) -> Result<(), Refusal> {
        if !self.names.is_empty() {
            return Err(reader.error("rows that are all objects").into());
        }
        let mut at = 0;
        let mut more = reader.open(b'[')?;
        while more {
            if self.rows == 0 {
                self.columns.push(Cells::default());
            }
            let Some(cells) = self.columns.get_mut(at) else { return Err(self.ragged(at + 1)) };
            push(reader, cells, &at.to_string())?;
            at += 1;
            more = reader.more(b'[')?;
        }
        if at == self.columns.len() { Ok(()) } else { Err(self.ragged(at)) }
    }

    /// A plain value is a row of one.
    fn read_value(&mut self, reader: &mut Reader<'a>) -> Result<(), Refusal> {
        if !self.names.is_empty() || self.columns.len() > 1 {
            return Err(reader.error("rows of one form").into());
        }
        if self.columns.is_empty() {
            self.columns.push(Cells::after_nulls(self.rows));
        }
        push(reader, &mut self.columns[0], "0")
    }

    fn ragged(&self, found: usize) -> Refusal {
        let text = format!("row {} has {found} values or more, and the first has {}", self.rows, self.columns.len());
        Refusal::BadRequest(text)
    }

    fn finish(self) -> Input<'a> {
        if self.names.is_empty() && !self.columns.is_empty() {
            return Input::Positional(self.columns.into_iter().map(Cells::finish).collect());
        }
        Input::Named(self.into_named())
    }

    fn into_named(self) -> Vec<(Cow<'a, str>, Column)> {
        self.names.into_iter().zip(self.columns.into_iter().map(Cells::finish)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Kind, Rows};
    use crate::signature::Field;

    fn signature() -> Signature {
        let inputs = vec![Field::new("a", Kind::Number), Field::new("t", Kind::Text).nullable()];
        Signature::new(inputs, Vec::new())
    }

    fn rows(text: &str) -> Result<Rows, Refusal> {
        Ok(signature().bind(parse(text, &signature())?)?)
    }

    #[test]
    fn all_forms_are_the_same_rows() {
        let forms = [
            r#"{"dataframe_split":{"columns":["t","a"],"index":[0,1],"data":[["x",1],[null,2.5]]}}"#,
            r#"{"dataframe_split":{"data":[["x",1],[null,2.5]],"columns":["t","a"]},"params":{}}"#,
            r#"{"dataframe_split":{"data":[[1,"x"],[2.5,null]]}}"#,
            r#"{"dataframe_records":[{"a":1,"t":"x"},{"a":2.5}]}"#,
            r#"{"dataframe_records":[{"t":"x","a":1,"id":9},{"a":2.5,"t":null,"id":8}]}"#,
            r#"{"instances":[[1,"x"],[2.5,null]],"parameters":{"p":[1]}}"#,
            r#"{"instances":[{"a":1,"t":"x"},{"a":2.5}]}"#,
            r#"{"inputs":{"a":[1,2.5],"t":["x",null]}}"#,
            r#"{"inputs":{"t":[["x"],[null]],"a":[[1],[2.5]]}}"#,
            r#"{"inputs":[[1,"x"],[2.5,null]]}"#,
        ];
        let expected = rows(forms[0]).unwrap();
        assert_eq!(expected.len(), 2);
        for form in forms {
            assert_eq!(rows(form).unwrap(), expected, "{form}");
        }
    }

    #[test]
    fn a_list_of_plain_values_is_one_column() {
        let signature = Signature::new(vec![Field::new("a", Kind::Number)], Vec::new());
        let rows = signature
            .bind(parse(r#"{"instances":[1,null_free]}"#.replace("null_free", "2").as_str(), &signature).unwrap());
        assert_eq!(rows.unwrap().column("a"), Some(&Column::from(vec![1.0, 2.0])));
    }

    #[test]
    fn wrong_bodies_are_refused_with_the_reason() {
        let forms = "exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`";
        let cases = [
            ("[1]", format!("the body must be a JSON object with {forms}")),
            ("{}", format!("the body must have {forms}")),
            (
                r#"{"instances":[[1,"x"]],"inputs":[[1,"x"]]}"#,
                format!("the body has `instances` and `inputs`; it must have {forms}"),
            ),
            (
                r#"{"dataframe_split":{"data":[],"x":1}}"#,
                "`dataframe_split` has `columns`, `index` and `data`, and no `x`".to_owned(),
            ),
            (
                r#"{"dataframe_split":{"columns":["a"],"data":[[1,2]]}}"#,
                "`dataframe_split` names 1 columns, and its rows have 2".to_owned(),
            ),
            (r#"{"instances":[[1,"x"],[1]]}"#, "row 1 has 1 values or more, and the first has 2".to_owned()),
            (
                r#"{"dataframe_records":[{"a":1},{"a":"x"}]}"#,
                "column `a` has values of different kinds, first in row 1".to_owned(),
            ),
            (r#"{"dataframe_records":[{"a":1,"a":2}]}"#, "row 0 has `a` twice".to_owned()),
            (
                r#"{"signature_name":"x","instances":[]}"#,
                "`signature_name` is not supported; a model has one signature".to_owned(),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(rows(text).unwrap_err(), Refusal::BadRequest(expected), "{text}");
        }
    }

    #[test]
    fn one_output_is_a_list_and_more_are_records() {
        let one = Predictions::new(vec![("p".into(), vec![0.5, f64::NAN].into())], 2);
        assert_eq!(write(&one), br#"{"predictions":[0.5,null]}"#);
        let two = Predictions::new(vec![("p".into(), vec![1].into()), ("q".into(), vec![true].into())], 1);
        assert_eq!(write(&two), br#"{"predictions":[{"p":1,"q":true}]}"#);
    }
}
