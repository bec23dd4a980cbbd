# Made from `_async/run.py` by `tools/unasync.py`; change that file.
"""A run: how it stands, and what its steps have made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from gristmill._sync.listing import Listing
from gristmill._sync.transport import Transport
from gristmill.errors import (
    BadInputError,
    GristmillError,
    NotFoundError,
    RunFailedError,
    TimedOutError,
    UnavailableError,
)
from gristmill.progress import Progress, progress_of
from gristmill.requests import Request, path, pause_before
from gristmill.results import DatasetView, Explanation, MadeModel, RunView, StepView, read
from gristmill.tables import frame_of, table_of

BROKEN_MAX = 20
"""Streams of events in a row that may break without an event before waiting is given up: about a minute and a half."""


class StepResult:
    """What a step of a run has made."""

    def __init__(self, transport: Transport, view: StepView) -> None:
        self._transport = transport
        self.view = view

    @property
    def output(self) -> Mapping[str, Any]:
        """What it has made, as servers say it.

        Raises:
            NotFoundError: when it has made nothing.
        """
        if self.view.output is None:
            raise NotFoundError(f"the step `{self.view.name}` has made nothing: it is {self.view.status}")
        return self.view.output

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of an evaluation, or the numbers that a Python step returned."""
        return dict(self.output.get("metrics") or {})

    @property
    def rows(self) -> int | None:
        """Rows that it speaks of."""
        return self.view.rows

    @property
    def model(self) -> MadeModel:
        """The model that it has trained, measured or registered."""
        output = self.output
        if "model" not in output:
            raise BadInputError(f"the step `{self.view.name}` has made no model, but {output.get('made')}")
        return read(MadeModel, output, digest=str(output["model"]))

    def dataset(self, part: str | None = None) -> DatasetView:
        """The dataset that it has made; of a split the part that is named."""
        output = self.output
        found = (output.get("parts") or {}).get(part) if part else output.get("dataset")
        if found is None:
            parts = ", ".join(f"`{name}`" for name in output.get("parts") or ())
            hint = f"name one of its parts: {parts}" if parts else None
            raise BadInputError(f"the step `{self.view.name}` has made no such dataset", hint=hint)
        return DatasetView.of(self._transport.ask(Request("GET", path("datasets", found["manifest"]))))

    def to_arrow(self, part: str | None = None) -> Any:
        """Its rows as an Arrow table."""
        dataset = self.dataset(part)
        partitions = []
        for partition in dataset.partitions:
            response = self._transport.respond(Request("GET", path("artifacts", partition["digest"])))
            partitions.append(response.content)
        return table_of(partitions, dataset.names_and_kinds())

    def to_pandas(self, part: str | None = None) -> Any:
        """Its rows as a DataFrame."""
        return frame_of(self.to_arrow(part))

    def values(self) -> Any:
        """What a Python step returned, where it was no table."""
        output = self.output
        if "values" not in output:
            raise BadInputError(f"the step `{self.view.name}` has made no values, but {output.get('made')}")
        return self._transport.ask(Request("GET", path("artifacts", output["values"])))

    def evaluation(self) -> Any:
        """All that a validate step has found out."""
        output = self.output
        if "evaluation" not in output:
            raise BadInputError(f"the step `{self.view.name}` has made no evaluation, but {output.get('made')}")
        return self._transport.ask(Request("GET", path("artifacts", output["evaluation"])))

    def save(self, target: str) -> None:
        """Writes the scores of a score step into a file here, where they are among the artifacts."""
        from pathlib import Path

        digest = self.output.get("artifact") or self.output.get("model")
        if not digest:
            hint = "submit the run with `outputs='artifacts'`"
            raise BadInputError(f"what the step `{self.view.name}` has made is on a worker's disk", hint=hint)
        response = self._transport.respond(Request("GET", path("artifacts", digest)))
        Path(target).write_bytes(response.content)

    def __repr__(self) -> str:
        made = (self.view.output or {}).get("made", "nothing")
        return f"<step `{self.view.name}` {self.view.status}: {made}>"


class Run:
    """A run that was submitted."""

    def __init__(self, transport: Transport, run: str, *, created: bool = True) -> None:
        self._transport = transport
        self.id = run
        self.created = created
        """Whether this submission made it, and not an earlier one with the same key."""
        self._view: RunView | None = None

    def view(self) -> RunView:
        """The run as it stands now."""
        self._view = RunView.of(self._transport.ask(Request("GET", path("runs", self.id))))
        return self._view

    def status(self) -> str:
        """`running`, `cancelling`, `succeeded`, `failed`, `rejected` or `cancelled`."""
        return (self.view()).status

    def steps(self) -> tuple[StepView, ...]:
        """How its steps stand."""
        return (self.view()).steps

    def step(self, name: str) -> StepResult:
        """What a step has made.

        Raises:
            KeyError: when the run has no such step.
        """
        view = self._view if self._view is not None and self._view.has_ended else self.view()
        return StepResult(self._transport, view.step(name))

    def __getitem__(self, name: str) -> StepResult:
        """What a step has made."""
        return self.step(name)

    def explain(self) -> Explanation:
        """Why it is where it is."""
        return Explanation.of(self._transport.ask(Request("GET", path("runs", self.id, "explain"))))

    def tasks(
        self, *, step: str | None = None, status: str | None = None, limit: int | None = None
    ) -> Listing[Mapping[str, Any]]:
        """Its tasks, of a step or with a status only."""
        request = Request("GET", path("runs", self.id, "tasks"), {"step": step, "status": status})
        return Listing(self._transport, request, dict, limit)

    def task(self, index: int) -> Mapping[str, Any]:
        """One task: its settings, inputs, attempts and what it waits for."""
        found: Mapping[str, Any] = self._transport.ask(Request("GET", path("runs", self.id, "tasks", index)))
        return found

    def timeline(self) -> Mapping[str, Any]:
        """Its attempts: when each began, how long it took, and who had it."""
        found: Mapping[str, Any] = self._transport.ask(Request("GET", path("runs", self.id, "timeline")))
        return found

    def cancel(self) -> None:
        """Asks for it to stop; it ends when nothing of it is out."""
        self._transport.ask(Request("POST", path("runs", self.id, "cancel")))

    def resume(self) -> None:
        """Goes on from what succeeded, after a failure or a cancel."""
        # What was asked for may have begun though the answer was lost; a second time it is refused.
        self._transport.ask(Request("POST", path("runs", self.id, "resume"), repeatable=False))
        self._view = None

    def events(self, *, timeout: float | None = None) -> Iterator[RunView]:
        """The run each time it has changed, until it has ended. A broken connection is made anew.

        Raises:
            TimedOutError: when it hasn't ended after `timeout` seconds; it runs on.
        """
        broken = 0
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        request = Request("GET", path("runs", self.id, "events"))
        while True:
            try:
                left = max(0.1, deadline - time.monotonic())
                for event, data in self._transport.events(request, left):
                    if time.monotonic() > deadline:
                        break
                    if event not in ("run", "end"):
                        continue
                    broken = 0
                    view = RunView.of(data)
                    yield view
                    if event == "end" or view.has_ended:
                        return
            except (httpx.TransportError, UnavailableError) as error:
                broken += 1
                if broken == BROKEN_MAX:
                    raise UnavailableError(f"the server can't be reached to follow {self.id}") from error
            if time.monotonic() > deadline:
                raise TimedOutError(f"{self.id} hasn't ended within {timeout} s; it runs on")
            time.sleep(pause_before(max(1, min(broken, 6)), None))

    def wait(self, *, timeout: float | None = None, progress: bool | Progress = False, check: bool = True) -> RunView:
        """Waits until it has ended.

        With `progress` shows how far it is, in a terminal or a notebook. With `check` a run that didn't succeed is an
        error.

        Raises:
            RunFailedError: when it ended otherwise than with success, unless `check` is false.
            TimedOutError: when it takes longer than `timeout` seconds; it runs on.
        """
        shown = progress_of(progress)
        try:
            for view in self.events(timeout=timeout):
                shown.update(view)
        finally:
            shown.close()
        found = self.view()
        if check and found.status != "succeeded":
            raise self._failure(found)
        return found

    def _failure(self, view: RunView) -> GristmillError:
        failed = [step for step in view.steps if step.error is not None]
        lines = [f"{view.run} ({view.pipeline}) is {view.status}"]
        lines += [f"step `{step.name}`: {step.error}" for step in failed]
        hint = None
        if not failed:
            hint = (self.explain()).hint
        return RunFailedError("\n".join(lines), run=view.run, status=view.status, hint=hint)

    def __repr__(self) -> str:
        return f"<run {self.id}>"
