"""One attempt inside a child process: read the inputs, call the function, keep what it returns."""

from __future__ import annotations

import json
import logging
import math
import numbers
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from gristmill.errors import GristmillError
from gristmill.limits import OUTPUT_BYTES_MAX
from gristmill.worker import datasets, wire
from gristmill.worker.artifacts import Artifacts
from gristmill.worker.tasks import Context, Rejected, Task, TaskError, find
from gristmill.worker.wire import Failure, Outcome

log = logging.getLogger(__name__)

METRICS_MAX = 12
"""Metrics that stand in an output itself, which is small; all of them are in its document."""


def perform(
    artifacts: Artifacts, work: Mapping[str, Any], report_progress: Callable[[int, int | None, str], None]
) -> Outcome:
    """Works on an attempt, whatever comes of it."""
    try:
        output = _perform(artifacts, work, report_progress)
    except Rejected as no:
        return Outcome.rejected(str(no) or "the task rejected its input")
    except TaskError as error:
        return Outcome.failed(Failure(error.code, error.message, error.hint))
    except GristmillError as error:
        return Outcome.failed(Failure(error.code, error.message, error.hint))
    except MemoryError as error:
        hint = "give the worker more with `--memory-mb`, or the task less"
        return Outcome.failed(Failure("out_of_memory", f"the task ran out of memory: {error}", hint))
    except Exception as error:
        log.exception("the task `%s` failed", work["step"])
        return Outcome.failed(_failure(error))
    encoded = wire.encode(output)
    if len(encoded) > OUTPUT_BYTES_MAX:
        text = f"its output has {len(encoded)} bytes; the limit is {OUTPUT_BYTES_MAX}"
        return Outcome.failed(Failure("too_large", text, "give its metrics shorter names"))
    return Outcome.succeeded(encoded)


def _failure(error: Exception) -> Failure:
    """What the reader of a run sees of an exception: what it is, and the line of the task that it came from."""
    # A connection or a file may be back the next time; what a function makes of its data stays the same.
    code = "unavailable" if isinstance(error, OSError) else "bad_input"
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    where = f" ({own[-1].filename}, line {own[-1].lineno}: `{own[-1].line}`)" if last and own else ""
    return Failure(code, f"{type(error).__name__}: {error}{where}", "the attempt's log has the whole traceback")


def _perform(
    artifacts: Artifacts, work: Mapping[str, Any], report_progress: Callable[[int, int | None, str], None]
) -> dict[str, Any]:
    payload = wire.decode("a task", work["payload"])
    step = payload.get("step")
    kind = next(iter(step["task"]), "?") if step else "child"
    if kind != "python":
        hint = "the pools of Python workers are for `python` steps; give the step another `pool`"
        raise TaskError(f"a `{kind}` task came to a Python worker", code="bad_pipeline", hint=hint)
    settings = step["task"]["python"]
    task = find(settings["task"])
    references: Mapping[str, str] = settings.get("inputs", {})
    arguments: dict[str, Any] = dict(settings.get("params", {}))
    wrong = task.check_arguments([*references, *arguments])
    if wrong:
        raise TaskError(f"`{task.function.__name__}` can't be called like this: {wrong}", code="bad_pipeline")
    for name, reference in references.items():
        arguments[name] = _input(artifacts, task, name, reference, work["inputs"])
    if task.wants_context:
        arguments["context"] = Context(work["run"], work["step"], work["attempt"], report_progress)
    return _keep(artifacts, task, task.function(**arguments))


def _input(artifacts: Artifacts, task: Task, name: str, reference: str, inputs: Mapping[str, bytes]) -> Any:
    step, _, part = reference.partition(".")
    if step not in inputs:
        raise TaskError(f"the output of step `{step}` didn't come with the task", code="internal")
    output = wire.decode("an output", inputs[step])
    if output["made"] == "values":
        return json.loads(artifacts.get(output["values"]))
    dataset = output.get("parts", {}).get(part) if part else output.get("dataset")
    if dataset is None:
        raise TaskError(f"`{reference}` isn't a dataset: the step made {output['made']}", code="bad_pipeline")
    table = datasets.load(artifacts, dataset["manifest"])
    return table if task.wants_arrow(name) else _frame(table)


def _frame(table: Any) -> Any:
    """The table as a DataFrame where pandas is installed."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        return table
    return table.to_pandas()


def _keep(artifacts: Artifacts, task: Task, returned: Any) -> dict[str, Any]:
    """The output of what a function has returned."""
    if returned is None:
        return {"made": "nothing"}
    if isinstance(returned, Mapping):
        return _values(artifacts, task, returned)
    table = as_table(returned)
    if table is None:
        what = type(returned).__name__
        hint = "return a DataFrame, an Arrow table, a dict or None"
        raise TaskError(f"the task `{task.name}` returned a {what}", code="bad_pipeline", hint=hint)
    return datasets.keep(artifacts, table)


def as_table(value: Any) -> Any:
    """The Arrow table of a DataFrame, a table or batches; nothing for anything else."""
    import pyarrow as pa

    if isinstance(value, pa.Table):
        return value
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    if type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame":
        # An index that somebody has named is a column; numbers of rows aren't.
        return pa.Table.from_pandas(value.reset_index() if any(value.index.names) else value, preserve_index=False)
    return None


def _values(artifacts: Artifacts, task: Task, returned: Mapping[str, Any]) -> dict[str, Any]:
    try:
        document = json.dumps(returned, default=_plain, allow_nan=False, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise TaskError(f"what the task `{task.name}` returned can't be kept as JSON: {error}") from error
    plain = json.loads(document)
    found = {
        name: float(value)
        for name, value in plain.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    metrics = dict(sorted(found.items())[:METRICS_MAX])
    return {"made": "values", "values": artifacts.put(document.encode()), "metrics": metrics}


def _plain(value: Any) -> Any:
    """Numbers of NumPy, and whatever else can say its value."""
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    for method in ("tolist", "item", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"a {type(value).__name__} isn't plain data")
