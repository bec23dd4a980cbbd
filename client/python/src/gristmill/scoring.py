"""Rows as the Open Inference Protocol V2 has them, and what a model said of them."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gristmill.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    GristmillError,
    InternalError,
    NotFoundError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
    missing_extra,
)

RowsLike: TypeAlias = Any
"""A DataFrame, an Arrow table, a list of records, one record, or a mapping of columns to lists."""


@dataclass(frozen=True)
class Scores:
    """What a model said: its outputs as columns, one value a row."""

    model: str
    version: str | None
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, column: str) -> Sequence[Any]:
        return self.columns[column]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        names = list(self.columns)
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(names, values, strict=True))

    def to_pandas(self) -> Any:
        """A DataFrame."""
        try:
            import pandas as pd
        except ImportError as error:
            raise missing_extra("pandas", "pandas") from error
        return pd.DataFrame(dict(self.columns))


def columns_of(rows: RowsLike) -> dict[str, list[Any]]:
    """The rows as columns of plain values; what is missing is None."""
    if hasattr(rows, "to_pydict"):
        columns = dict(rows.to_pydict())
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        columns = {str(name): rows[name].tolist() for name in rows.columns}
    elif isinstance(rows, Mapping):
        lists = all(isinstance(value, Sequence) and not isinstance(value, str | bytes) for value in rows.values())
        columns = {str(name): list(value) if lists else [value] for name, value in rows.items()}
    elif isinstance(rows, Iterable):
        columns = _columns_of_records(list(rows))
    else:
        raise BadInputError(f"a {type(rows).__name__} can't be scored: give a DataFrame, a table or records")
    return {name: [_plain(value) for value in values] for name, values in columns.items()}


def _columns_of_records(records: list[Any]) -> dict[str, list[Any]]:
    names: dict[str, None] = {}
    for record in records:
        if not isinstance(record, Mapping):
            raise BadInputError("rows are records: mappings of columns to values")
        names.update(dict.fromkeys(map(str, record)))
    return {name: [record.get(name) for record in records] for name in names}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date):
        # `NaT` of pandas is one too, and says so in its text.
        text = value.isoformat()
        return None if text == "NaT" else text
    if hasattr(value, "item"):
        return _plain(value.item())
    # `NA` of pandas.
    return None if str(value) == "<NA>" else str(value)


def request_of(rows: RowsLike) -> dict[str, Any]:
    """The body of an infer request."""
    columns = columns_of(rows)
    if not columns:
        raise BadInputError("there are no rows to score")
    return {"inputs": [_tensor(name, values) for name, values in columns.items()]}


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        datatype = "BOOL"
    elif kinds <= {int} and kinds and None not in values:
        datatype = "INT64"
    elif kinds <= {int, float, bool}:
        datatype = "FP64"
    elif kinds <= {str}:
        datatype = "BYTES"
    else:
        found = " and ".join(sorted(kind.__name__ for kind in kinds))
        raise BadInputError(f"the column `{name}` has values of more than one type: {found}")
    return {"name": name, "shape": [len(values), 1], "datatype": datatype, "data": values}


def scores_of(answer: Mapping[str, Any]) -> Scores:
    """What an answer says."""
    columns = {}
    for output in answer["outputs"]:
        shape, data = output["shape"], output["data"]
        width = math.prod(shape[1:])
        rows = shape[0] if shape else 0
        columns[output["name"]] = data if width == 1 else [data[row * width : (row + 1) * width] for row in range(rows)]
    version = answer.get("model_version")
    return Scores(str(answer.get("model_name", "")), None if version is None else str(version), columns)


STATUS: dict[int, type[GristmillError]] = {
    400: BadInputError,
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
    429: UnavailableError,
    503: UnavailableError,
    504: TimedOutError,
}
"""The errors of statuses, for servers that speak other protocols than ours."""


def refusal_of(status: int, body: bytes) -> GristmillError:
    """Why a scoring server refuses."""
    kind = STATUS.get(status, InternalError if status >= 500 else BadInputError)
    try:
        found = json.loads(body)
        text = found.get("error") or found.get("message") or found
    except (ValueError, AttributeError):
        text = body[:500].decode(errors="replace")
    return kind(str(text))
