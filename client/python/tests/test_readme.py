"""What the README shows has been run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gristmill
from conftest import Cluster, Servers
from gristmill.worker.tasks import registered

README = Path(__file__).parents[1] / "README.md"


def test_the_readme_runs(
    binary: str, cluster: Cluster, servers: Servers, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    assert cluster.binary == binary
    monkeypatch.setenv("GRISTMILL_BIN", binary)
    with gristmill.local(binary=binary) as served:
        monkeypatch.setenv("GRISTMILL_API", served.url)
        monkeypatch.setenv("GRISTMILL_BROKER", servers.env["GRISTMILL_BROKER"])
        names: dict[str, object] = {"__name__": "readme"}
        for block in blocks:
            exec(compile(block, str(README), "exec"), names)
    shown = capsys.readouterr().out
    for text in ("'roc_auc': ", "probability", "succeeded", "unknown key `nop`", "run-"):
        assert text in shown, shown
    assert {"clean", "summary"} <= set(registered())
