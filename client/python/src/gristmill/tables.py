"""Tables from outside: DataFrames and Arrow tables, to Parquet and back."""

from __future__ import annotations

import io
from typing import Any, TypeAlias

from gristmill.errors import missing_extra

TableLike: TypeAlias = Any
"""A pandas DataFrame or an Arrow table."""


def is_table(value: Any) -> bool:
    """Whether it is a DataFrame or an Arrow table. Neither package is imported for that."""
    package = type(value).__module__.partition(".")[0]
    return (package, type(value).__name__) in {("pandas", "DataFrame"), ("pyarrow", "Table"), ("polars", "DataFrame")}


def arrow() -> Any:
    """The package pyarrow.

    Raises:
        MissingExtraError: when it isn't installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "arrow") from error
    return pa


def parquet_of(table: TableLike) -> bytes:
    """A table as a Parquet file."""
    pa = arrow()
    if not isinstance(table, pa.Table):
        if hasattr(table, "to_arrow"):
            table = table.to_arrow()
        else:
            indexed = table.reset_index() if any(table.index.names) else table
            table = pa.Table.from_pandas(indexed, preserve_index=False)
    sink = io.BytesIO()
    pa.parquet.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return sink.getvalue()


def table_of(partitions: list[bytes], columns: list[tuple[str, str]]) -> Any:
    """The Arrow table of a dataset's partitions; `columns` are its names and kinds."""
    pa = arrow()
    kinds = {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "float": pa.float64(),
        "string": pa.string(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    if not partitions:
        return pa.schema([pa.field(name, kinds.get(kind, pa.string())) for name, kind in columns]).empty_table()
    tables = [pa.parquet.read_table(pa.BufferReader(data)) for data in partitions]
    return pa.concat_tables(tables, promote_options="permissive")


def frame_of(table: Any) -> Any:
    """The DataFrame of an Arrow table."""
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise missing_extra("pandas", "pandas") from error
    return table.to_pandas()
