use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use expect_test::{Expect, expect};
use flate2::Compression;
use flate2::write::GzEncoder;
use gristmill_protocol::pipeline::steps::BadLines;
use proptest::prelude::*;
use serde_json::json;

use super::csv::{Next, Records};
use super::input::{Input, RECORD_BYTES_MAX};
use super::*;
use crate::partition::FinishedPartition;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Ingests files of these names and bytes, and shows the schema, the rows and what was set apart.
fn ingest(files: &[(&str, &[u8])], step: serde_json::Value) -> String {
    let base = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(base.path().join(name), bytes).unwrap();
    }
    let mut step = step;
    step["source"] = step.get("source").cloned().unwrap_or_else(|| json!("."));
    let step: Ingest = serde_json::from_value(step).unwrap();
    let text = match ingest_all(&step, base.path()) {
        Ok(text) => text,
        Err(error) => {
            let mut text = format!("error: {error}\n");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                writeln!(text, "  caused by: {error}").unwrap();
                source = error.source();
            }
            if let Some(hint) = error.hint() {
                writeln!(text, "hint: {hint}").unwrap();
            }
            text
        }
    };
    text.replace("/./", "/").replace(&format!("{}/", base.path().display()), "")
}

fn ingest_all(step: &Ingest, base: &Path) -> Result<String, IngestError> {
    let files = discover(&step.source.to_vec(), base, step.format)?;
    let schema = infer(&files, step)?;
    let columns: Vec<String> =
        schema.columns.iter().map(|column| format!("{} {}", column.name, table::kind_name(column.kind))).collect();
    let mut text = format!("{}\n", columns.join(", "));
    let options = ReadOptions::of(step)?;
    let mut quarantine = Quarantine::default();
    let mut rows = 0;
    for file in &files {
        let folder = tempfile::tempdir().unwrap();
        let mut partitions: Vec<FinishedPartition> = Vec::new();
        let mut sink = |partition| {
            partitions.push(partition);
            Ok(())
        };
        let report = read_file(file, &schema, &options, folder.path(), &mut sink)?;
        rows += report.rows;
        quarantine.merge(report.quarantine);
        for partition in partitions {
            let blob = Arc::new(FileBlob::open(&partition.path).unwrap());
            for batch in PartitionReader::open_all(blob).unwrap() {
                show(&batch.unwrap(), &mut text);
            }
        }
    }
    for line in &quarantine.lines {
        writeln!(text, "{}:{} {} | {}", line.file, line.line, line.reason, line.raw.escape_debug()).unwrap();
    }
    assert_eq!(quarantine.to_batch().unwrap().num_rows() as u64, quarantine.total);
    if let Some((message, hint)) = quarantine.over(&step.bad_lines, rows, "lines can't be read") {
        writeln!(text, "over: {message}\nhint: {}", hint.unwrap_or_default()).unwrap();
    }
    Ok(text)
}

fn show(batch: &RecordBatch, text: &mut String) {
    let options = FormatOptions::default().with_null("-");
    let columns: Vec<ArrayFormatter> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    for row in 0..batch.num_rows() {
        let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
        writeln!(text, "{}", cells.join(" ; ").escape_debug()).unwrap();
    }
}

fn check(files: &[(&str, &[u8])], step: serde_json::Value, expected: Expect) {
    expected.assert_eq(&ingest(files, step));
}

/// One CSV file where all bad lines are tolerated.
fn check_csv(text: impl AsRef<[u8]>, expected: Expect) {
    check(&[("t.csv", text.as_ref())], json!({ "bad_lines": { "max_share": 1.0 } }), expected);
}

#[test]
fn types_come_from_what_the_columns_hold() {
    check_csv(
        "id,share,ok,day,at,name,zip,none,big\n\
         1,0.5,true,2013-01-01,2013-01-01T10:00:00Z,a,00501,NA,9223372036854775808\n\
         2,3,FALSE,2013-01-02,2013-01-02,NULL,12345,,1\n\
         NA,,,,,,,,\n",
        expect![[r#"
            id integer, share float, ok boolean, day date, at timestamp, name string, zip string, none string, big string
            1 ; 0.5 ; true ; 2013-01-01 ; 2013-01-01T10:00:00Z ; a ; 00501 ; - ; 9223372036854775808
            2 ; 3.0 ; false ; 2013-01-02 ; 2013-01-02T00:00:00Z ; - ; 12345 ; - ; 1
            - ; - ; - ; - ; - ; - ; - ; - ; -
        "#]],
    );
}

#[test]
fn quotes_line_ends_and_marks_are_read_as_spreadsheets_write_them() {
    check_csv(
        "\u{feff}a,b\r\n\"x, \"\"y\"\"\",1\r\n\r\n\"two\nlines\",2\r\nit's \"so\",3\r\n\"\",4",
        expect![[r#"
            a string, b integer
            x, \"y\" ; 1
            two\nlines ; 2
            it\'s \"so\" ; 3
            - ; 4
        "#]],
    );
}

#[test]
fn an_empty_file_is_an_error_and_a_header_alone_is_a_table_without_rows() {
    check_csv(
        "",
        expect![[r#"
        error: `t.csv` is empty: it has no header line
    "#]],
    );
    check_csv(
        "\n\n",
        expect![[r#"
        error: `t.csv` is empty: it has no header line
    "#]],
    );
    check_csv(
        "a,b\n",
        expect![[r#"
        a string, b string
    "#]],
    );
    check_csv(
        "a,,a b,\n1,2,3,4\n",
        expect![[r#"
        a integer, column_2 integer, a b integer, column_4 integer
        1 ; 2 ; 3 ; 4
    "#]],
    );
}

#[test]
fn lines_that_can_not_be_read_are_set_apart_with_their_numbers() {
    check_csv(
        b"a,b\n1,2\n1\n1,2,3\n\xff\xfe,2\n\n3,4\n5,\"6\"\n",
        expect![[r#"
            a string, b integer
            1 ; 2
            3 ; 4
            5 ; 6
            t.csv:3 1 fields where the header has 2 | 1
            t.csv:4 3 fields where the header has 2 | 1,2,3
            t.csv:5 field 1 is not UTF-8 | ��,2
        "#]],
    );
}

#[test]
fn a_quote_that_is_never_closed_costs_one_line() {
    check_csv(
        "a,b\n1,x\n2,\"y\n3,z\n4,w\n",
        expect![[r#"
            a integer, b string
            1 ; x
            3 ; z
            4 ; w
            t.csv:3 a quote is opened and not closed | 2,\"y
        "#]],
    );
    // What a later quote closes looks like a text over several lines.
    check_csv(
        "a,b\n1,\"x\n2,y\n3,z\"\n\"4\",w\n",
        expect![[r#"
            a integer, b string
            1 ; x\n2,y\n3,z
            4 ; w
        "#]],
    );
    check_csv(
        "a,b\n\"1,x\n2,y\n3,z\n\"4\",w\n",
        expect![[r#"
            a integer, b string
            2 ; y
            3 ; z
            4 ; w
            t.csv:2 a quote is opened and not closed | \"1,x
        "#]],
    );
    let mut long = b"a,b\n1,x\n2,\"".to_vec();
    for row in 0..400_000 {
        write!(long, "y{row}\n3,z").unwrap();
    }
    let text = ingest(&[("t.csv", &long)], json!({ "bad_lines": { "max_share": 1.0 } }));
    assert!(text.contains("t.csv:3 a quote is opened and not closed | 2,\\\"y0\n"), "{}", &text[..200]);
}

#[test]
fn a_line_longer_than_the_limit_is_passed_over() {
    let mut text = b"a,b\n1,".to_vec();
    text.extend(std::iter::repeat_n(b'x', 3 * RECORD_BYTES_MAX));
    text.extend_from_slice(b"\n2,y\n");
    let shown = ingest(&[("t.csv", &text)], json!({ "bad_lines": { "max_share": 1.0 } }));
    assert!(shown.starts_with("a integer, b string\n2 ; y\nt.csv:2 longer than 1024 KiB | 1,xxx"), "{}", &shown[..80]);
    assert!(shown.len() < 1_200);
}

#[test]
fn a_value_that_comes_after_the_sample_and_does_not_fit_is_set_apart_with_a_hint() {
    let mut text = "n,m\n".to_owned();
    for row in 0..25_000 {
        writeln!(text, "{row},1").unwrap();
    }
    text.push_str("1.5,1\n");
    let shown = ingest(&[("t.csv", text.as_bytes())], json!({ "bad_lines": { "max": 0 } }));
    expect![[r#"
        t.csv:25002 `n`: `1.5` is not of type integer | 1.5,1
        over: 1 of 25001 lines can't be read (0.00 %), 0 are tolerated; the first is line 25002 of `t.csv`: `n`: `1.5` is not of type integer
        hint: say what the column holds with `types:` (`string` takes anything)
    "#]]
    .assert_eq(&shown[shown.find("t.csv").unwrap()..]);
    let shown = ingest(&[("t.csv", text.as_bytes())], json!({ "types": { "n": "float" } }));
    assert!(shown.ends_with("1.5 ; 1\n"));
}

#[test]
fn compressed_files_are_read_and_broken_ones_are_never_taken_for_whole() {
    let text = b"a,b\n1,2\n3,4\n";
    let twice = [gz(b"a,b\n1,2\n"), gz(b"3,4\n")].concat();
    check(
        &[("t.csv.gz", &twice)],
        json!({}),
        expect![[r#"
        a integer, b integer
        1 ; 2
        3 ; 4
    "#]],
    );
    // The name doesn't say so, the bytes do.
    check(
        &[("t.csv", &gz(text))],
        json!({}),
        expect![[r#"
        a integer, b integer
        1 ; 2
        3 ; 4
    "#]],
    );
    let long: String = "a,b\n".to_owned() + &(0..3_000).map(|row| format!("{row},{}\n", row * 7)).collect::<String>();
    let whole = gz(long.as_bytes());
    let shown = ingest(&[("t.csv.gz", &whole[..whole.len() / 2])], json!({}));
    assert!(shown.contains("\n1000 ; 7000\n"), "what came before is read");
    let over = &shown[shown.find("over").unwrap()..];
    assert!(over.starts_with("over: `t.csv.gz` breaks off at line "), "{over}");
    check(
        &[("t.csv.gz", b"\x1f\x8b junk")],
        json!({}),
        expect![[r#"
            error: the header of `t.csv.gz` can't be read: the file breaks off here (unexpected end of file)
        "#]],
    );
}

#[test]
fn files_of_one_source_have_the_same_columns() {
    check(
        &[("1.csv", b"a,b\n1,2\n"), ("2.csv", b"b,a\nx,3\n")],
        json!({}),
        expect![[r#"
        a integer, b string
        1 ; 2
        3 ; x
    "#]],
    );
    check(
        &[("1.csv", b"a,b\n1,2\n"), ("2.csv", b"a\n1\n")],
        json!({}),
        expect![[r#"
        error: `2.csv` has no column `b`, which `1.csv` has
        hint: files of one source have the same columns; `columns:` keeps those they share
    "#]],
    );
    check(
        &[("1.csv", b"a\n1\n"), ("2.csv", b"a,b\n1,2\n")],
        json!({}),
        expect![[r#"
        error: `2.csv` has a column `b`, which `1.csv` doesn't have
        hint: files of one source have the same columns; `columns:` keeps those they share
    "#]],
    );
    check(
        &[("1.csv", b"a\n1\n"), ("2.csv", b"a,b\n1,2\n")],
        json!({ "columns": ["a"] }),
        expect![[r#"
        a integer
        1
        1
    "#]],
    );
    check(
        &[("1.csv", b"a,a\n1,2\n")],
        json!({}),
        expect![[r#"
        error: the header of `1.csv` names column `a` twice
    "#]],
    );
}

#[test]
fn settings_decide_and_wrong_ones_are_explained() {
    check(
        &[("t.tsv", b"a\tb\n1\t-\n")],
        json!({ "nulls": ["-"], "types": { "a": "float", "b": "date" } }),
        expect![[r#"
        a float, b date
        1.0 ; -
    "#]],
    );
    check(
        &[("t.csv", b"a;b\n1;2\n")],
        json!({ "delimiter": ";", "columns": ["b"] }),
        expect![[r#"
        b integer
        2
    "#]],
    );
    check(
        &[("t.csv", b"a;b\n1;2\n")],
        json!({}),
        expect![[r#"
        error: `t.csv` seems to have another delimiter than `,`: its header is one column, `a;b`
        hint: say `delimiter: ";"`
    "#]],
    );
    check(
        &[("t.csv", b"a,b\n")],
        json!({ "delimiter": "\u{20ac}" }),
        expect![[r#"
        error: the delimiter `€` is not a single-byte character
    "#]],
    );
    check(
        &[("t.csv", b"carrier,b\n")],
        json!({ "columns": ["carier"] }),
        expect![[r#"
        error: `columns` names column `carier`, which the files don't have
        hint: did you mean `carrier`?
    "#]],
    );
    check(
        &[("t.csv", b"a,b\n")],
        json!({ "types": { "x": "date" } }),
        expect![[r#"
            error: `types` names column `x`, which the files don't have
            hint: there are `a`, `b`
        "#]],
    );
}

#[test]
fn lines_of_json_become_rows() {
    check(
        &[(
            "t.ndjson",
            b"{\"a\": 1, \"at\": \"2013-01-01T10:00:00Z\", \"ok\": true, \"t\": \"1\"}\n\n{\"b\": 0.5, \"a\": null, \"t\": \"\\u00fc\\n\"}\r\n{\"a\": 2, \"b\": 1}",
        )],
        json!({}),
        expect![[r#"
            a integer, at timestamp, ok boolean, t string, b float
            1 ; 2013-01-01T10:00:00Z ; true ; 1 ; -
            - ; - ; - ; ü\n ; 0.5
            2 ; - ; - ; - ; 1.0
        "#]],
    );
    check(
        &[(
            "t.jsonl.gz",
            &gz(b"{\"a\": 1}\n{\"a\": \n[1]\n{\"a\": 1, \"a\": 2}\n{\"a\": 3} 4\n{\"a\": 18446744073709551615}\n"),
        )],
        json!({ "bad_lines": { "max_share": 1.0 }, "types": { "a": "integer" } }),
        expect![[r#"
            a integer
            1
            t.jsonl.gz:2 not JSON: EOF while parsing a value (column 6) | {\"a\": 
            t.jsonl.gz:3 invalid type: sequence, expected an object | [1]
            t.jsonl.gz:4 `a` comes twice | {\"a\": 1, \"a\": 2}
            t.jsonl.gz:5 not JSON: trailing characters (column 10) | {\"a\": 3} 4
            t.jsonl.gz:6 `a`: `18446744073709552000` is not of type integer | {\"a\": 18446744073709551615}
        "#]],
    );
    check(
        &[("t.ndjson", b"{\"a\": [1]}\n")],
        json!({}),
        expect![[r#"
        error: column `a` of `t.ndjson` holds lists or objects, which tables can't hold
        hint: leave `a` out with `columns:`, or flatten it before
    "#]],
    );
    check(
        &[("t.ndjson", b"a,b\n1,2\n")],
        json!({}),
        expect![[r#"
        error: no line of `t.ndjson` is a JSON object
    "#]],
    );
}

#[test]
fn parquet_files_keep_their_types_and_others_are_refused() {
    use arrow::array::{ArrayRef, Int32Array, ListArray};
    use arrow::datatypes::Int32Type;
    let write = |columns: Vec<(&str, ArrayRef)>| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    };
    let small: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None]));
    let file = write(vec![("a", small), ("l", list)]);
    check(
        &[("t.parquet", &file)],
        json!({ "columns": ["a"], "types": { "a": "string" } }),
        expect![[r#"
        a string
        1
        -
    "#]],
    );
    check(
        &[("t.parquet", &file)],
        json!({}),
        expect![[r#"
        error: column `l` of `t.parquet` holds values of type List(Int32), which tables can't hold
        hint: leave `l` out with `columns:`, or flatten it before
    "#]],
    );
    check(
        &[("t.parquet", &file[..file.len() - 20])],
        json!({}),
        expect![[r#"
        error: `t.parquet` can't be read as Parquet
          caused by: failed to read a partition
          caused by: Parquet error: Invalid Parquet file. Corrupt footer
    "#]],
    );
}

#[test]
fn the_limits_of_bad_lines_hold_over_all_files() {
    let limits = |max_share, max| BadLines { max_share, max };
    let mut quarantine = Quarantine::default();
    (0..10).for_each(|line| quarantine.add(Path::new("a.csv"), line + 1, "why".to_owned(), b"raw"));
    assert!(quarantine.over(&limits(0.01, None), 990, "lines can't be read").is_none());
    let (message, _) = quarantine.over(&limits(0.01, None), 989, "lines can't be read").unwrap();
    assert_eq!(
        message,
        "10 of 999 lines can't be read (1.00 %), 1 % is tolerated; the first is line 1 of `a.csv`: why"
    );
    assert!(quarantine.over(&limits(0.5, Some(9)), 990, "lines can't be read").is_some());
}

/// The records of a text, by us.
fn records(text: &[u8]) -> Vec<Vec<String>> {
    let mut records = Records::new(Input::new(Box::new(io::Cursor::new(text.to_vec()))), b',');
    let mut found = Vec::new();
    loop {
        match records.next() {
            Next::Record => {
                let field = |index| String::from_utf8_lossy(records.field(index)).into_owned();
                found.push((0..records.len()).map(field).collect());
            }
            Next::Bad(_) => found.push(vec!["bad".to_owned()]),
            Next::End => return found,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_a_csv_writer_writes_is_read_back(rows in prop::collection::vec(prop::collection::vec("[a\"',\r\n \u{fc}]{0,6}", 1..5), 1..8)) {
        let mut writer = ::csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
        rows.iter().for_each(|row| writer.write_record(row).unwrap());
        let text = writer.into_inner().unwrap();
        prop_assert_eq!(records(&text), rows);
    }

    #[test]
    fn any_text_is_split_as_the_csv_crate_splits_it(text in "([ab,\"\n]|\r\n){0,40}") {
        let ours = records(text.as_bytes());
        // A quote that stays open is where we go our own way.
        if !ours.iter().any(|record| record == &["bad"]) {
            let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            let theirs: Vec<Vec<String>> = reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn no_bytes_break_ingest(bytes in prop::collection::vec(prop::sample::select(b"ab1.,\"\n\r-\xff{}:".to_vec()), 0..60)) {
        ingest(&[("t.csv", &bytes), ("u.ndjson", &bytes)], json!({ "bad_lines": { "max_share": 1.0 } }));
    }
}
