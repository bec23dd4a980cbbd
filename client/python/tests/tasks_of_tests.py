"""The tasks that the tests' workers have."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

import gristmill


@gristmill.task("clean")
def clean(flights: pd.DataFrame, limit: int = 3) -> pd.DataFrame:
    """Every kind of column that a table can have."""
    kept = flights[flights["value"] >= limit].copy()
    kept["double"] = kept["value"] * 2
    kept["half"] = kept["value"] / 2
    kept["late"] = kept["value"] > 500
    kept["at"] = pd.Timestamp("2013-01-02T03:04:05.678901")
    kept["day"] = pd.Timestamp("2013-01-02").date()
    kept["level"] = kept["name"].astype("category")
    kept["gap"] = kept["half"].where(kept["value"] % 2 == 0)
    return kept


@gristmill.task("stats")
def stats(rows: pa.Table, context: gristmill.Context) -> dict[str, Any]:
    """Values, some of which are metrics."""
    context.progress(1, 2)
    return {"rows": rows.num_rows, "columns": rows.column_names, "kinds": [str(kind) for kind in rows.schema.types]}


@gristmill.task("orphans")
def orphans() -> None:
    """Is killed while a process that it has forked lives on."""
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


@gristmill.task("arrays")
def arrays() -> dict[str, Any]:
    """Values of NumPy."""
    return {"weights": pd.Series([1.5, 2.5]).to_numpy(), "best": pd.Series([3]).max()}


@gristmill.task("again")
def again(values: dict[str, Any]) -> dict[str, Any]:
    """What another Python step has returned."""
    return {"twice": values["rows"] * 2}


@gristmill.task("nothing")
def nothing() -> None:
    """Returns nothing."""


@gristmill.task("empty")
def empty(rows: pa.Table) -> pa.Table:
    """A table without rows."""
    return rows.slice(0, 0)


@gristmill.task("wrong")
def wrong(rows: pd.DataFrame) -> Any:
    """Raises."""
    return rows["no_such_column"]


@gristmill.task("refused")
def refused() -> None:
    """Fails in its own words."""
    raise gristmill.TaskError("the upstream is away", code="not_found", hint="ask again tomorrow")


@gristmill.task("no")
def no() -> None:
    """Rejects."""
    raise gristmill.Rejected("too few rows")


@gristmill.task("greedy")
def greedy() -> int:
    """Takes more memory than there is to take."""
    return len(bytearray(64 * 1024 * 1024 * 1024))


@gristmill.task("killed")
def killed() -> None:
    """Ends as the system ends what takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


@gristmill.task("broken")
def broken() -> None:
    """Ends its process."""
    sys.stdout.flush()
    os._exit(7)


@gristmill.task("odd")
def odd() -> Any:
    """Returns what can't be kept."""
    return object()


@gristmill.task("gate")
def gate(folder: str, context: gristmill.Context) -> dict[str, Any]:
    """Says that it has begun, and waits until it may go on."""
    mine = {"pid": os.getpid(), "worker": os.getppid(), "attempt": context.attempt, "at": time.time()}
    path = Path(folder) / f"began-{context.step}-{context.attempt}-{os.getpid()}"
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(mine))
    aside.rename(path.with_suffix(".json"))
    while not (Path(folder) / f"go-{context.step}").exists():
        time.sleep(0.02)
    return {"attempt": context.attempt}
