"""The example notebook runs from its first cell to its last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from conftest import ROOT

NOTEBOOK = ROOT / "examples" / "notebook" / "flight-delays.ipynb"
LINES_MAX = 20
"""From a DataFrame to a served model in less than so many lines."""


def read() -> Any:
    format: Any = nbformat  # It comes without types.
    return format.read(NOTEBOOK, as_version=4)


def test_the_notebook_is_short_and_without_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)
    lines = [line for cell in cells for line in cell.source.splitlines() if line.strip()]
    assert len(lines) < LINES_MAX


def test_the_notebook_runs(binary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRISTMILL_BIN", binary)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    # A cluster that the environment names is none of the notebook's.
    monkeypatch.setenv("GRISTMILL_STATE", os.environ.get("GRISTMILL_STATE", "redis://127.0.0.1:1"))
    notebook = read()
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = {cell.source.splitlines()[-1]: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert outputs["len(flights)"][0].data["text/plain"] == "336776"
    shown, status = outputs["run.wait(progress=True).status"]
    assert status.data["text/plain"] == "'succeeded'"
    assert "6/6 steps" in shown.data["text/html"]
    metrics = outputs['run["validate"].metrics'][0].data["text/plain"]
    assert "'roc_auc': 0.9" in metrics
    (scored,) = [found for source, found in outputs.items() if source.startswith("client.score")]
    assert "probability" in scored[0].data["text/plain"]
