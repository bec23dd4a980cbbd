"""Datasets as steps hand them on: a manifest, and partitions that are Parquet artifacts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

from gristmill.errors import missing_extra
from gristmill.worker.artifacts import Artifacts
from gristmill.worker.tasks import TaskError

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as error:  # pragma: no cover
    raise missing_extra("pyarrow", "worker") from error

ROW_GROUP_ROWS = 131_072
"""Rows that are read at a time, as in partitions that Gristmill's own steps write."""
PARTITION_BYTES = 64 * 1024 * 1024
"""Bytes at which a partition is full: a second or two of work for whoever reads it."""


def kind_of(column: str, kind: Any) -> str:
    """The kind of a column: one of the six that tables have.

    Raises:
        TaskError: when none holds its values.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return kind_of(column, kind.value_type)
    for name, holds in (
        ("boolean", types.is_boolean),
        ("integer", types.is_integer),
        ("float", types.is_floating),
        ("float", types.is_decimal),
        ("string", types.is_string),
        ("string", types.is_large_string),
        ("string", types.is_null),
        ("date", types.is_date),
        ("timestamp", types.is_timestamp),
    ):
        if holds(kind):
            return name
    if str(kind) == "string_view":
        return "string"
    hint = f"leave `{column}` out, or turn it into numbers or text"
    raise TaskError(f"column `{column}` is of type {kind}, which tables can't hold", hint=hint)


ARROW = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
"""The Arrow type that each kind is kept in."""


def coerce(table: Any) -> Any:
    """The table with each column as its kind is kept.

    Raises:
        TaskError: when a column, by name, can't be; no value silently becomes null.
    """
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TaskError(f"the column `{twice[0]}` is there twice", hint="give one of them another name")
    columns, fields = [], []
    for name, column in zip(names, table.columns, strict=True):
        wanted = ARROW[kind_of(name, column.type)]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)  # noqa: PLW2901
        try:
            # Finer times than a microsecond are cut, as they are when a file is read.
            safe = not pa.types.is_timestamp(wanted)
            columns.append(column if column.type == wanted else column.cast(wanted, safe=safe))
        except pa.ArrowInvalid as error:
            raise TaskError(f"column `{name}` can't be kept as {wanted}: {error}") from error
        fields.append(pa.field(name, wanted, nullable=True))
    return pa.table(columns, schema=pa.schema(fields))


def keep(artifacts: Artifacts, table: Any) -> dict[str, Any]:
    """Writes a table as a dataset; the output that names it."""
    table = coerce(table)
    partitions = [_kept(artifacts, data, rows) for data, rows in _partitions(table)]
    columns = [{"name": f.name, "kind": kind_of(f.name, f.type), "nullable": True} for f in table.schema]
    manifest = {"schema": {"columns": columns}, "partitions": partitions}
    digest = artifacts.put(json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode())
    return {"made": "dataset", "dataset": {"manifest": digest, "rows": table.num_rows}}


def _kept(artifacts: Artifacts, data: bytes, rows: int) -> dict[str, Any]:
    return {"digest": artifacts.put(data), "rows": rows, "bytes": len(data)}


def _partitions(table: Any) -> Iterator[tuple[bytes, int]]:
    """The bytes and rows of each partition; a table without rows has none."""
    start = 0
    while start < table.num_rows:
        sink, rows = io.BytesIO(), 0
        with pq.ParquetWriter(sink, table.schema, compression="zstd", compression_level=1) as writer:
            while start + rows < table.num_rows and sink.tell() < PARTITION_BYTES:
                group = table.slice(start + rows, ROW_GROUP_ROWS)
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
                rows += group.num_rows
        start += rows
        yield sink.getvalue(), rows


def load(artifacts: Artifacts, manifest: str) -> Any:
    """The rows of a dataset, by its manifest's digest, as an Arrow table."""
    document = json.loads(artifacts.get(manifest))
    columns = document["schema"]["columns"]
    schema = pa.schema([pa.field(column["name"], ARROW[column["kind"]]) for column in columns])
    tables = [
        pq.read_table(pa.BufferReader(artifacts.get(partition["digest"])), columns=schema.names)
        for partition in document["partitions"]
    ]
    # A partition may have been made elsewhere, of narrower types.
    return pa.concat_tables([_as(table, schema) for table in tables]) if tables else schema.empty_table()


def _as(table: Any, schema: Any) -> Any:
    table = table.select(schema.names)
    columns = [
        column.cast(column.type.value_type).cast(field.type)
        if pa.types.is_dictionary(column.type)
        else column.cast(field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)
