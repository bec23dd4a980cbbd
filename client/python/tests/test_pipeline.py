"""What the builder writes, the checker accepts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from gristmill import BadPipelineError, Pipeline
from gristmill.pipeline import text_of


def full() -> Pipeline:
    p = Pipeline("flight-delays", description="Everything once", limits={"disk": 2}, weight=2)
    flights = p.ingest("data/*.csv", name="flights", types={"hour": "integer"}, nulls=["", "NA"])
    trips = p.transform(
        f"select month, hour, carrier, dep_delay, arr_delay > 15 as late from {flights}", name="late-trips", retries=0
    )
    trusted = p.expect(trips, [{"rows": {"min": 10}}, {"column": "carrier", "in": ["AA", "UA"]}], limits=["disk"])
    clean = p.python("clean-up", {"flights": trusted}, {"limit": 3}, timeout="5m")
    parts = p.split(clean, test=0.2, validation=0.1, stratify="late", seed=7, name="parts")
    joined = p.transform("select * from {parts.train} union all select * from {other}", tables={"other": parts.test})
    model = p.train(
        parts.train,
        "late",
        algorithm={"random_forest": {"trees": 10}},
        features={"numeric": ["dep_delay", "hour"], "categorical": ["carrier"]},
        class_weight="balanced",
        seed=1,
    )
    quality = p.validate(
        model,
        parts.test,
        require=[{"metric": "roc_auc", "min": 0.8}, {"beats": "champion"}],
        slices={"morning": "hour < 12"},
        settings={"importance": {"repeats": 2}},
    )
    p.register(model, "flight-delays", evidence=quality, alias="champion")
    p.score(model, parts.validation, "out/scores.parquet", keep=["carrier"], priority=5)
    p.score("flight-delays@champion", joined, "out/again.csv")
    p.noop(tasks=3, after=[joined], cache=False)
    return p


def check(binary: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "pipeline.json"
    path.write_text(text)
    return subprocess.run([binary, "check", str(path)], capture_output=True, text=True, check=False)


def test_everything_that_is_built_is_accepted(binary: str, tmp_path: Path) -> None:
    checked = check(binary, full().to_json(), tmp_path)
    assert checked.returncode == 0, checked.stderr + checked.stdout


def test_steps_refer_to_each_other_by_name() -> None:
    steps = full().to_dict()["steps"]
    assert list(steps) == [
        "flights", "late-trips", "expect", "python", "parts", "transform", "train", "validate", "register", "score",
        "score-2", "noop",
    ]  # fmt: skip
    assert steps["transform"]["transform"]["sql"] == 'select * from "parts.train" union all select * from "parts.test"'
    assert steps["python"] == {
        "python": {"task": "clean-up", "inputs": {"flights": "expect"}, "params": {"limit": 3}},
        "timeout": "5m",
    }
    assert steps["expect"]["expect"]["input"] == "late-trips"
    assert steps["noop"] == {"noop": {"tasks": 3}, "after": ["transform"], "cache": False}


def test_tables_go_with_the_submission(tmp_path: Path) -> None:
    p = Pipeline("tables")
    frame, table = pd.DataFrame({"a": [1]}), pa.table({"a": [1]})
    path = tmp_path / "data.csv"
    p.ingest(frame, name="frame")
    p.ingest(table, name="table")
    p.ingest(path, name="file")
    assert p.files == {"frame": frame, "table": table, "file": path}
    assert p.to_dict()["steps"]["frame"] == {"ingest": {"source": "frame.parquet", "format": "parquet"}}
    assert p.to_dict()["steps"]["file"] == {"ingest": {"source": "data.csv"}}


def test_what_is_no_pipeline_is_refused() -> None:
    p, other = Pipeline("one"), Pipeline("other")
    data = p.ingest("a.csv", name="data")
    parts = p.split(data, name="parts")
    foreign = other.ingest("b.csv")
    cases: list[tuple[Any, str]] = [
        (lambda: Pipeline("Flight Delays"), "`Flight Delays` can't be the name of a pipeline"),
        (lambda: p.ingest("b.csv", name="data"), "there are two steps `data`"),
        (lambda: p.split(foreign), "is a step of the pipeline `other`"),
        (lambda: p.transform("select * from {dta}"), "names no step"),
        (lambda: p.train(parts, "a", algorithm="ridge"), "`parts` is a split"),  # type: ignore[arg-type]
        (lambda: p.expect("data", []), "a str is no step"),  # type: ignore[arg-type]
    ]
    for call, message in cases:
        with pytest.raises(BadPipelineError, match=message):
            call()


def test_a_pipeline_may_be_given_in_many_ways(tmp_path: Path) -> None:
    text = "name: x\nsteps:\n  a: { noop: {} }\n"
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    assert text_of(path) == text_of(str(path)) == text_of(text) == text
    assert json.loads(text_of({"name": "x", "steps": {"a": {"noop": {}}}}))["name"] == "x"
    with pytest.raises(BadPipelineError, match="can't be read"):
        text_of(tmp_path / "none.yaml")
