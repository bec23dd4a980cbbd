"""Functions as tasks: the decorator, what a function may ask for, and how it says no."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from gristmill.errors import CODES

Function = TypeVar("Function", bound=Callable[..., Any])

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")

_registered: dict[str, Task] = {}


class TaskError(Exception):
    """Fails the step with a code of the table; `unavailable`, `internal`, `out_of_memory` and `out_of_disk` are retried."""

    def __init__(self, message: str, *, code: str = "bad_input", hint: str | None = None) -> None:
        if code not in CODES:
            raise ValueError(f"`{code}` is no code; the codes are {', '.join(sorted(CODES))}")
        super().__init__(message)
        self.message, self.code, self.hint = message, code, hint


class Rejected(Exception):  # noqa: N818 (it is no error: a gate has said no, and the run ends `rejected`)
    """Ends the run as rejected: a gate said no."""


@dataclass(frozen=True)
class Context:
    """What a task may know of where it runs. A function gets one under an argument named `context`."""

    run: str
    step: str
    attempt: int
    report_progress: Callable[[int, int | None, str], None]

    def progress(self, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Says how far the task is; it shows in the list of workers."""
        self.report_progress(done, total, unit)


@dataclass(frozen=True)
class Task:
    """A function with its name in pipelines."""

    name: str
    function: Callable[..., Any]

    @property
    def wants_context(self) -> bool:
        """Whether it has an argument named `context`."""
        return "context" in inspect.signature(self.function).parameters

    def wants_arrow(self, argument: str) -> bool:
        """Whether the argument is annotated as an Arrow table; a DataFrame is given where it isn't."""
        try:
            hint = get_type_hints(self.function).get(argument)
        except (NameError, TypeError):
            hint = self.function.__annotations__.get(argument)
        text = (
            hint if isinstance(hint, str) else f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', '')}"
        )
        return text.startswith(("pyarrow", "pa.")) and text.endswith("Table")

    def check_arguments(self, names: Iterable[str]) -> str | None:
        """What is wrong with being called with these arguments, if something is."""
        given = dict.fromkeys(names)
        if self.wants_context:
            given["context"] = None
        try:
            inspect.signature(self.function).bind(**given)
        except TypeError as error:
            return str(error)
        return None


def task(name: str) -> Callable[[Function], Function]:
    """Makes a function a task under this name: `@gristmill.task("clean")`.

    The function gets the step's `inputs` as DataFrames (as Arrow tables where an argument is annotated so) and its
    `params`, each by its name. It returns a DataFrame or an Arrow table, which becomes a dataset; a dict, which becomes
    values and metrics; or nothing.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"`{name}` can't be a task's name: lower-case letters, digits, `-` and `_`, a letter first")

    def register(function: Function) -> Function:
        known = _registered.get(name)
        if known is not None and known.function.__qualname__ != function.__qualname__:
            raise ValueError(
                f"the tasks `{known.function.__qualname__}` and `{function.__qualname__}` are both `{name}`"
            )
        _registered[name] = Task(name, function)
        return function

    return register


def registered() -> dict[str, Task]:
    """All tasks of the modules that were imported."""
    return dict(_registered)


def find(name: str) -> Task:
    """The task of this name.

    Raises:
        TaskError: when there is none, with the nearest name.
    """
    found = _registered.get(name)
    if found is not None:
        return found
    near = difflib.get_close_matches(name, _registered, 1)
    known = ", ".join(f"`{other}`" for other in sorted(_registered)) or "none"
    hint = f"did you mean `{near[0]}`?" if near else f"the worker's tasks: {known}"
    raise TaskError(f"there is no task `{name}` here", code="bad_pipeline", hint=hint)
