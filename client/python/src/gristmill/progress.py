"""How far a run is: a line in a terminal, a table in a notebook, nothing where nobody looks."""

from __future__ import annotations

import html
import sys
from typing import Any, Protocol

from gristmill.results import RunView, StepView

BAR = 24
"""Characters of the bar."""
WIDTH = 100
"""Characters of the line at the most."""
MARKS = {
    "succeeded": "✓",
    "running": "▸",
    "retrying": "↻",
    "failed": "✗",
    "rejected": "✗",
    "skipped": "–",
    "cancelled": "–",
    "waiting": "·",
}


class Progress(Protocol):
    """Shows how far a run is."""

    def update(self, view: RunView) -> None:
        """The run has changed."""

    def close(self) -> None:
        """Nothing more comes."""


def progress_of(wanted: bool | Progress) -> Progress:
    """What shows it: the given one, else what suits where we are."""
    if not isinstance(wanted, bool):
        return wanted
    if not wanted:
        return Silent()
    if _is_notebook():
        return NotebookProgress()
    return TerminalProgress() if sys.stderr.isatty() else Silent()


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    kernel = shell.get_ipython() if shell is not None else None
    return kernel is not None and type(kernel).__name__ == "ZMQInteractiveShell"


class Silent:
    """Shows nothing."""

    def update(self, view: RunView) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class TerminalProgress:
    """One line on standard error, written over and over."""

    def __init__(self) -> None:
        self._shown = False

    def update(self, view: RunView) -> None:
        """Writes the line."""
        sys.stderr.write(f"\r\x1b[2K{line_of(view)[:WIDTH]}")
        sys.stderr.flush()
        self._shown = True

    def close(self) -> None:
        """Leaves the last line standing."""
        if self._shown:
            sys.stderr.write("\n")


class NotebookProgress:
    """A table of the steps under the cell, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def update(self, view: RunView) -> None:
        """Draws the table."""
        import IPython.display

        notebook: Any = IPython.display
        content = notebook.HTML(table_of_steps(view))
        if self._handle is None:
            self._handle = notebook.display(content, display_id=True)
        else:
            self._handle.update(content)

    def close(self) -> None:
        """Leaves the last table standing."""


def line_of(view: RunView) -> str:
    """`[████░░░░] 3/8 steps · model running 80/120 · 12.3 s`."""
    done = sum(step.status not in ("waiting", "running", "retrying") for step in view.steps)
    filled = BAR * done // max(1, len(view.steps))
    parts = [f"[{'█' * filled}{'░' * (BAR - filled)}] {done}/{len(view.steps)} steps"]
    parts += [_state_of(step) for step in view.steps if step.status in ("running", "retrying")]
    if view.has_ended or view.status == "cancelling":
        parts.append(view.status)
    if view.seconds is not None:
        parts.append(f"{view.seconds:.1f} s")
    return " · ".join(parts)


def _state_of(step: StepView) -> str:
    counts = f" {step.ended}/{step.tasks}" if step.tasks > 1 else ""
    return f"{step.name} {step.status}{counts}"


def table_of_steps(view: RunView) -> str:
    """The steps as HTML."""
    rows = []
    for step in view.steps:
        seconds = "" if step.seconds is None else f"{step.seconds:.1f} s"
        count = "" if step.rows is None else f"{step.rows:,} rows"
        cells = [MARKS.get(step.status, "·"), step.name, _state_of(step).removeprefix(f"{step.name} "), seconds, count]
        rows.append("".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in cells))
    title = html.escape(f"{view.pipeline} {view.run}: {line_of(view)}")
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div><code>{title}</code><table>{body}</table></div>"
