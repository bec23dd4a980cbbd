use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use expect_test::{Expect, expect};
use gristmill_protocol::pipeline::steps::ColumnType;

use super::*;
use crate::partition::{PartitionError, to_blob};
use crate::table::kind_name;

fn schema(columns: &[(&str, ColumnType)]) -> TableSchema {
    let column = |(name, kind): &(&str, ColumnType)| Column { name: (*name).to_owned(), kind: *kind, nullable: true };
    TableSchema { columns: columns.iter().map(column).collect() }
}

fn tables() -> Vec<(String, TableSchema)> {
    use ColumnType::*;
    let flights = schema(&[
        ("month", Integer),
        ("carrier", String),
        ("arr_delay", Float),
        ("at", Timestamp),
        ("Tail", String),
        ("day", Date),
    ]);
    let weather = schema(&[("month", Integer), ("temp", Float)]);
    vec![("flights".into(), flights), ("weather".into(), weather.clone()), ("parts.train".into(), weather)]
}

fn describe(sql: &str) -> String {
    match plan(sql, &tables()) {
        Ok(planned) => {
            let columns: Vec<String> = planned
                .output
                .columns
                .iter()
                .map(|column| format!("{} {}", column.name, kind_name(column.kind)))
                .collect();
            let how = if planned.row_by_row { "row by row" } else { "whole" };
            format!("{how} over {}: {}\n", planned.tables.join(", "), columns.join(", "))
        }
        Err(error) => {
            let hint = error.hint().map(|hint| format!("hint: {hint}\n"));
            format!("{error}\n{}", hint.unwrap_or_default())
        }
    }
}

fn check(sql: &str, expected: Expect) {
    expected.assert_eq(&describe(sql));
}

#[test]
fn the_plan_says_what_runs_row_by_row() {
    for (sql, row_by_row) in [
        ("select * from flights", true),
        ("select month, arr_delay > 15 as late from flights where arr_delay is not null", true),
        ("select f.month m from flights as f", true),
        ("select m + 1 n from (select month m from flights where month > 2) t where m < 9", true),
        ("with t as (select month from flights) select upper(cast(month as varchar)) m from t", true),
        ("select temp from \"parts.train\"", true),
        ("select case when arr_delay > 0 then 1 else 0 end l, coalesce(arr_delay, 0) d from flights", true),
        ("select * from flights limit 5", false),
        ("select * from flights order by month", false),
        ("select distinct month from flights", false),
        ("select count(*) n from flights", false),
        ("select month, avg(arr_delay) d from flights group by month", false),
        ("select month, row_number() over (order by at) r from flights", false),
        ("select f.month, temp from flights f join weather w on f.month = w.month", false),
        ("select month from flights union all select month from weather", false),
        ("select month from flights union all select month from flights", false),
        ("select month from flights where arr_delay > (select avg(temp) from weather)", false),
        ("select month from flights where month in (select month from weather)", false),
        ("select month from flights where exists (select 1 from weather w where w.month = flights.month)", false),
        ("select 1 as one", false),
        ("select month from flights where false", false),
    ] {
        let planned = plan(sql, &tables()).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(planned.row_by_row, row_by_row, "{sql}");
    }
}

#[test]
fn outputs_are_of_the_six_kinds() {
    check(
        "select count(*) n, sum(month) s, avg(arr_delay) d, max(at) at, min(day) day, cast(1.5 as decimal(10, 2)) x, \
         cast(month as int) i, bool_or(month > 2) b, cast(null as varchar) t from flights",
        expect![[r#"
            the SQL can't be planned: column `flights.month` is neither in `group by` nor inside an aggregate
            hint: group by it too, or say which of its values is meant: `min(...)`, `max(...)`
        "#]],
    );
    check(
        "select f.month, w.month wm, \"Tail\", Tail t from flights f, weather w",
        expect![[r#"
        whole over flights, weather: month integer, wm integer, Tail string, t string
    "#]],
    );
}

#[test]
fn wrong_queries_are_explained() {
    check(
        "select mnth from flights",
        expect![[r#"
        there is no column `mnth`
        hint: did you mean `month`?
    "#]],
    );
    check(
        "select tail from flights",
        expect![[r#"
        there is no column `tail`
        hint: did you mean `Tail`?
    "#]],
    );
    check(
        "select f.mnth from flights f",
        expect![[r#"
        there is no column `mnth`
        hint: did you mean `month`?
    "#]],
    );
    check(
        "select * from flight",
        expect![[r#"
        the SQL names table `flight`, which there isn't
        hint: did you mean `flights`?
    "#]],
    );
    check(
        "select * from parts.train",
        expect![[r#"
        the SQL names table `parts.train`, which there isn't
        hint: write it in double quotes: `"parts.train"`
    "#]],
    );
    check(
        "select month from flights, weather",
        expect![[r#"
        the SQL can't be planned: column `month` is in more than one of the tables
        hint: say which one is meant: `table.month`
    "#]],
    );
    check(
        "select month, month from flights f",
        expect![[r#"
        the query makes two columns called `month`
        hint: name one of them otherwise with `as`, or take `month` once
    "#]],
    );
    check(
        "select f.month, w.month from flights f, weather w",
        expect![[r#"
        the query makes two columns called `month`
        hint: name one of them otherwise with `as`, or take `month` once
    "#]],
    );
    check(
        "selct month from flights",
        expect![[r#"
        the SQL can't be parsed at line 1, column 1: expected: an SQL statement, found: selct
    "#]],
    );
    check(
        "select month,\n from flights",
        expect![[r#"
        row by row over flights: month integer
    "#]],
    );
    check(
        "select month from flights where",
        expect![[r#"
        the SQL can't be parsed: expected: an expression, found: EOF
    "#]],
    );
    check(
        "select 'open from flights",
        expect![[r#"
        the SQL can't be parsed at line 1, column 8: unterminated string literal
    "#]],
    );
    check(
        "select mediann(month) m from flights",
        expect![[r#"
        the SQL can't be planned: invalid function 'mediann'
        hint: did you mean `median`?
    "#]],
    );
    check(
        "select month + carrier x from flights",
        expect![[r#"
        the SQL can't be planned: cannot coerce arithmetic expression Int64 + Utf8 to valid types
    "#]],
    );
    check(
        "select carrier, count(*) n from flights",
        expect![[r#"
        the SQL can't be planned: column `flights.carrier` is neither in `group by` nor inside an aggregate
        hint: group by it too, or say which of its values is meant: `min(...)`, `max(...)`
    "#]],
    );
    check(
        "select upper(month, 2) x from flights",
        expect![[r#"
        the SQL can't be planned: function 'upper' expects 1 arguments but received 2. No function matches the given name and argument types 'upper(Int64, Int64)'. You might need to add explicit type casts. Candidate functions: upper(String)
    "#]],
    );
    check(
        "",
        expect![[r#"
        the SQL can't be planned: it is empty
    "#]],
    );
    check(
        "select 1 a; select 2 b",
        expect![[r#"
        the SQL can't be planned: it is more than one statement
    "#]],
    );
    check(
        "drop table flights",
        expect![[r#"
        only a `select` makes a dataset, and this is DROP
    "#]],
    );
    check(
        "insert into flights select * from flights",
        expect![[r#"
        only a `select` makes a dataset, and this is INSERT
    "#]],
    );
    check(
        "explain select * from flights",
        expect![[r#"
        only a `select` makes a dataset, and this is EXPLAIN
    "#]],
    );
    check(
        "copy flights to 'x.csv'",
        expect![[r#"
        only a `select` makes a dataset, and this is COPY
    "#]],
    );
    check(
        "set datafusion.execution.batch_size = 1",
        expect![[r#"
        only a `select` makes a dataset, and this is SET
    "#]],
    );
    check(
        "select array_agg(month) months from flights",
        expect![[r#"
        the query makes column `months` of type List(Int64), which tables can't hold
        hint: cast `months` to text or a number
    "#]],
    );
    check(
        "select interval '1 day' i from flights",
        expect![[r#"
        the query makes column `i` of type Interval(MonthDayNano), which tables can't hold
        hint: cast `i` to text or a number
    "#]],
    );
    check(
        "select * from 'x.csv'",
        expect![[r#"
        the SQL names table `x.csv`, which there isn't
        hint: there are `flights`, `weather`, `parts.train`
    "#]],
    );
}

#[test]
fn results_that_change_are_refused() {
    check(
        "select month, random() r from flights",
        expect![[r#"
        `random()` gives another result each time it runs
        hint: results are kept and used again by what they were made from; pass what changes as a parameter (`'${day}'`)
    "#]],
    );
    check(
        "select month from flights where at < now()",
        expect![[r#"
        `now()` gives another result each time it runs
        hint: results are kept and used again by what they were made from; pass what changes as a parameter (`'${day}'`)
    "#]],
    );
    check(
        "select month from flights where day < current_date",
        expect![[r#"
        `current_date()` gives another result each time it runs
        hint: results are kept and used again by what they were made from; pass what changes as a parameter (`'${day}'`)
    "#]],
    );
    check(
        "select month from flights where month in (select month from weather where temp > random())",
        expect![[r#"
        `random()` gives another result each time it runs
        hint: results are kept and used again by what they were made from; pass what changes as a parameter (`'${day}'`)
    "#]],
    );
    check(
        "select uuid() u from flights",
        expect![[r#"
        `uuid()` gives another result each time it runs
        hint: results are kept and used again by what they were made from; pass what changes as a parameter (`'${day}'`)
    "#]],
    );
}

fn numbers(from: i64, to: i64) -> (TableSchema, SharedBlob) {
    let numbers: Int64Array = (from..to).map(Some).collect();
    let texts: StringArray = (from..to).map(|n| Some(format!("text {}", n * 7_919 % 100_003))).collect();
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("t", Arc::new(texts) as ArrayRef)]).unwrap();
    let schema = TableSchema::from_arrow(batch.schema_ref()).unwrap();
    let blob = to_blob(&schema, &[batch]).unwrap();
    (schema, blob)
}

fn query(sql: &str, parts: &[(i64, i64)], memory_bytes: usize) -> Result<Vec<RecordBatch>, SqlError> {
    let (schema, _) = numbers(0, 0);
    let partitions = parts.iter().map(|(from, to)| numbers(*from, *to).1).collect();
    let tables = [QueryTable { name: "numbers".into(), schema, partitions }];
    let spill = tempfile::tempdir().unwrap();
    let mut batches = Vec::new();
    execute(sql, &tables, QueryLimits { memory_bytes, spill_folder: spill.path() }, &mut |batch| {
        batches.push(batch);
        Ok(())
    })?;
    Ok(batches)
}

fn column(batches: &[RecordBatch], index: usize) -> Vec<i64> {
    let values = batches.iter().flat_map(|batch| batch.column(index).as_primitive::<Int64Type>().values().to_vec());
    values.collect()
}

#[test]
fn rows_come_in_the_order_of_the_partitions_and_of_the_kinds_promised() {
    let batches = query(
        "select n * 2 as d, cast(n as decimal(20, 1)) as x from numbers where n % 2 = 1",
        &[(5, 20_000), (0, 5)],
        64 << 20,
    )
    .unwrap();
    let expected: Vec<i64> = (5..20_000).chain(0..5).filter(|n| n % 2 == 1).map(|n| n * 2).collect();
    assert_eq!(column(&batches, 0), expected);
    assert_eq!(batches[0].column(1).as_primitive::<Float64Type>().value(0), 5.0);
    let plan =
        plan("select n * 2 as d, cast(n as decimal(20, 1)) as x from numbers", &[("numbers".into(), numbers(0, 0).0)])
            .unwrap();
    assert_eq!(batches[0].schema(), plan.output.to_arrow());
}

#[test]
fn sorting_and_grouping_spill_rather_than_fail() {
    let parts = [(0, 300_000), (300_000, 600_000)];
    for sql in ["select n, t from numbers order by t, n", "select t, max(n) m from numbers group by t order by t"] {
        let small = query(sql, &parts, 16 << 20).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let large = query(sql, &parts, 512 << 20).unwrap();
        let whole = |batches: &[RecordBatch]| arrow::compute::concat_batches(batches[0].schema_ref(), batches).unwrap();
        assert!(whole(&small) == whole(&large), "{sql}");
    }
}

#[test]
fn a_join_too_large_for_hashing_is_merged() {
    let sql = "select a.n, b.n m from numbers a join numbers b on a.t = b.t where a.n < 300000";
    let parts = [(0, 90_000)];
    let mut small = column(&query(sql, &parts, 8 << 20).unwrap(), 0);
    let mut large = column(&query(sql, &parts, 512 << 20).unwrap(), 0);
    small.sort_unstable();
    large.sort_unstable();
    assert_eq!(small, large);
}

#[test]
fn the_same_query_gives_the_same_rows_in_the_same_order() {
    for sql in [
        "select t, count(*) c, avg(n) a from numbers group by t",
        "select string_agg(distinct t, ',') s, count(distinct t) c from numbers where n < 500",
        "select a.t, b.n from numbers a join numbers b on a.n % 1000 = b.n where b.n < 1000",
    ] {
        let run = || query(sql, &[(0, 50_000), (10_000, 60_000)], 64 << 20).unwrap();
        assert_eq!(run(), run(), "{sql}");
    }
}

#[test]
fn errors_while_it_runs_say_what_failed() {
    let error = query("select cast(t as bigint) x from numbers", &[(0, 10)], 64 << 20).unwrap_err();
    expect!["the query failed: cast error: Cannot cast string 'text 0' to value of Int64 type"]
        .assert_eq(&error.to_string());
    let error = query("select n / (n - 3) x from numbers", &[(0, 10)], 64 << 20).unwrap_err();
    expect!["the query failed: divide by zero error"].assert_eq(&error.to_string());
    let (schema, _) = numbers(0, 0);
    let broken: SharedBlob = Arc::new(crate::blob::MemoryBlob("no parquet".into()));
    let tables = [QueryTable { name: "numbers".into(), schema, partitions: vec![broken] }];
    let spill = tempfile::tempdir().unwrap();
    let limits = QueryLimits { memory_bytes: 1 << 20, spill_folder: spill.path() };
    let error = execute("select n from numbers", &tables, limits, &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, SqlError::Read(PartitionError::Read(_))), "{error:?}");
}

#[test]
fn whoever_takes_rows_may_stop_the_query() {
    let (schema, blob) = numbers(0, 100_000);
    let tables = [QueryTable { name: "numbers".into(), schema, partitions: vec![blob] }];
    let spill = tempfile::tempdir().unwrap();
    let limits = QueryLimits { memory_bytes: 64 << 20, spill_folder: spill.path() };
    let mut taken = 0;
    let error = execute("select n from numbers", &tables, limits, &mut |_| {
        taken += 1;
        Err(SqlError::Run { message: "enough".into() })
    });
    assert_eq!((error.unwrap_err().to_string().as_str(), taken), ("the query failed: enough", 1));
}

#[test]
fn conditions_are_compiled_once_and_evaluated_by_batch() {
    let (schema, blob) = numbers(0, 10);
    let batch = crate::partition::PartitionReader::open_all(blob).unwrap().next().unwrap().unwrap();
    let condition = Condition::compile("n > 3 and t like 'text %' and nullif(n, 5) is not null", &schema).unwrap();
    assert_eq!(condition.columns(), ["n", "t"]);
    assert_eq!(condition.evaluate(&batch).unwrap().true_count(), 5);
    assert_eq!(Condition::compile("nullif(n, 5) < 7", &schema).unwrap().evaluate(&batch).unwrap().null_count(), 1);
    assert_eq!(Condition::compile("true", &schema).unwrap().evaluate(&batch).unwrap().true_count(), 10);
    let text = |sql: &str| {
        let error = Condition::compile(sql, &schema).unwrap_err();
        format!("{error}\n{}", error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default())
    };
    let all: String =
        ["n + 1", "m > 1", "n > ", "n > 1 n", "n > 1; drop", "count(n) > 1", "n > (select 1)", "random() > 0.5", ""]
            .into_iter()
            .map(text)
            .collect();
    expect![[r#"
        the condition is of type Int64, not true or false
        there is no column `m`
        hint: there are `n`, `t`
        the SQL can't be parsed: expected: an expression, found: EOF
        the SQL can't be parsed at line 1, column 7: expected: end of expression, found: n
        the SQL can't be parsed at line 1, column 6: expected: end of expression, found: ;
        a condition about each row can't hold an aggregate
        a condition about each row can't hold a query
        `random()` gives another result each time it runs
        hint: results are kept and used again by what they were made from; pass what changes as a parameter (`'${day}'`)
        the SQL can't be parsed: expected: an expression, found: EOF
    "#]]
    .assert_eq(&all);
}
