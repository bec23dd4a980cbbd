"""The HTTP client against a real server, in the process that `gristmill.local()` starts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

import gristmill
from conftest import PATIENCE_S, wait_for
from gristmill import Client, Local, Pipeline
from gristmill.progress import TerminalProgress
from gristmill.results import RunView

NOOP = "name: nightly\nsteps:\n  a: { noop: {} }\n"
SLOW = "name: slow\nsteps:\n  a: { noop: { ms: 60000 } }\n"


@pytest.fixture(scope="module")
def client(binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with gristmill.local(tmp_path_factory.mktemp("home"), binary=binary) as found:
        yield found


def flights() -> pd.DataFrame:
    """Flights, of which those that leave late arrive late."""
    rows = range(2_000)
    return pd.DataFrame(
        {
            "hour": [row % 24 for row in rows],
            "carrier": [("AA", "UA", "DL")[row % 3] for row in rows],
            "dep_delay": [float(row * 37 % 60) for row in rows],
            "arr_delay": [float(row * 37 % 60 + row % 7) for row in rows],
        }
    )


def learning(name: str = "flight-delays", trees: int = 5) -> Pipeline:
    p = Pipeline(name)
    table = p.ingest(flights(), name="flights")
    trips = p.transform("select hour, carrier, dep_delay, arr_delay > 15 as late from {flights}", name="trips")
    assert str(table) == "flights"
    parts = p.split(trips, test=0.25, stratify="late", seed=7, name="parts")
    features = {"numeric": ["dep_delay", "hour"], "categorical": ["carrier"]}
    model = p.train(parts.train, "late", algorithm={"random_forest": {"trees": trees}}, features=features, name="model")
    quality = p.validate(model, parts.test, require=[{"metric": "roc_auc", "min": 0.8}], name="quality")
    p.register(model, name, evidence=quality, alias="champion", name="release")
    return p


@pytest.fixture(scope="module")
def learned(client: Local) -> gristmill.Run:
    run = client.submit(learning())
    run.wait(timeout=PATIENCE_S)
    return run


def test_a_table_from_here_becomes_a_model(learned: gristmill.Run) -> None:
    assert learned.status() == "succeeded"
    assert [step.status for step in learned.steps()] == ["succeeded"] * 6
    assert learned["quality"].metrics["roc_auc"] > 0.8
    assert learned["model"].model.algorithm == "random_forest"
    assert (learned["release"].model.name, learned["release"].model.alias) == ("flight-delays", "champion")
    assert learned["quality"].evaluation()["model"] == learned["model"].model.digest
    assert "succeeded" in str(learned.explain())


def test_datasets_come_back_as_tables(learned: gristmill.Run) -> None:
    trips = learned["trips"].to_pandas()
    given = flights()
    assert list(trips.columns) == ["hour", "carrier", "dep_delay", "late"]
    assert trips["dep_delay"].tolist() == given["dep_delay"].tolist()
    assert trips["late"].tolist() == (given["arr_delay"] > 15).tolist()
    assert learned["parts"].to_arrow("test").num_rows == 500
    assert learned["parts"].to_arrow("train").schema.field("hour").type == pa.int64()
    with pytest.raises(gristmill.BadInputError, match="name one of its parts: `test`, `train`"):
        learned["parts"].to_arrow()
    with pytest.raises(KeyError, match="`flights`, `trips`"):
        learned["trip"]
    with pytest.raises(gristmill.BadInputError, match="made no model"):
        _ = learned["trips"].model


def test_rows_are_scored(client: Local, learned: gristmill.Run) -> None:
    assert learned.created

    def served() -> gristmill.Scores | None:
        try:
            return client.score("flight-delays", flights())
        except gristmill.NotFoundError:
            return None

    scores = wait_for("the model to be served", served)
    assert scores.model == "flight-delays"
    assert len(scores) == 2_000
    late = (flights()["arr_delay"] > 15).tolist()
    right = sum(bool(found) == wanted for found, wanted in zip(scores["prediction"], late, strict=True))
    assert right > 1_800
    record = {"hour": 8, "carrier": "AA", "dep_delay": 50.0}
    assert client.score("flight-delays", record, version=1)["prediction"] == [True]
    assert (
        client.score("flight-delays", pa.table({key: [value] for key, value in record.items()})).to_pandas().shape[0]
        == 1
    )
    with pytest.raises(gristmill.NotFoundError):
        client.score("nobody", record)
    with pytest.raises(gristmill.BadInputError, match="dep_delay"):
        client.score("flight-delays", {"hour": 8})


def test_models_are_listed_promoted_and_rolled_back(client: Local, learned: gristmill.Run) -> None:
    assert learned.created
    client.submit(learning(trees=9)).wait(timeout=PATIENCE_S)
    assert {model.name: model.latest for model in client.models.list()} == {"flight-delays": 2}
    model = client.models.get("flight-delays")
    assert model.aliases == {"champion": 2}
    assert [version.version for version in sorted(model.versions, key=lambda one: one.version)] == [1, 2]
    assert all(version.metrics["roc_auc"] > 0.8 for version in model.versions)


def test_pipelines_are_checked_and_kept(client: Local) -> None:
    assert client.pipelines.check(NOOP).name == "nightly"
    with pytest.raises(gristmill.BadPipelineError) as caught:
        client.pipelines.check("name: x\nsteps:\n  a: { nop: {} }\n  b: { split: { input: c, test: 2 } }\n")
    assert len(caught.value.complaints) == 3
    assert caught.value.complaints[0].line == 3
    assert "did you mean `noop`?" in str(caught.value)
    first = client.pipelines.keep(NOOP)
    assert (first.name, first.version) == ("nightly", 1)
    assert client.pipelines.keep(NOOP).version == 1
    assert client.pipelines.keep(NOOP + "  b: { noop: {} }\n").version == 2
    assert client.pipelines.get("nightly", 1).pipeline == NOOP
    assert [version.version for version in client.pipelines.versions("nightly")] in ([1, 2], [2, 1])
    run = client.submit(name="nightly", version=1)
    assert len(run.wait(timeout=PATIENCE_S).steps) == 1


def test_a_key_makes_one_run(client: Local) -> None:
    first, second = client.submit(NOOP, key="once"), client.submit(NOOP, key="once")
    assert first.id == second.id
    assert (first.created, second.created) == (True, False)
    with pytest.raises(gristmill.ConflictError):
        client.submit(NOOP + "  b: { noop: {} }\n", key="once")


def test_many_are_submitted_at_once(client: Local) -> None:
    bad = "name: x\nsteps:\n  a: { nop: {} }\n"
    found = client.submit_many([NOOP, bad, {"pipeline": NOOP, "key": "many"}, {"pipeline": NOOP, "key": "many"}])
    assert [type(one).__name__ for one in found] == ["Run", "BadPipelineError", "Run", "Run"]
    runs = [one for one in found if isinstance(one, gristmill.Run)]
    assert len({run.id for run in runs}) == 2
    assert all(run.wait(timeout=PATIENCE_S).status == "succeeded" for run in runs)


def test_a_failed_run_says_why(client: Local) -> None:
    run = client.submit("name: x\nsteps:\n  a: { noop: { fail: bad_input }, retries: 0 }\n")
    with pytest.raises(gristmill.RunFailedError, match="step `a`") as caught:
        run.wait(timeout=PATIENCE_S)
    assert (caught.value.run, caught.value.status) == (run.id, "failed")
    view = run.wait(check=False)
    assert isinstance(view.step("a").error, gristmill.BadInputError)
    assert any(step.step == "a" for step in run.explain().steps)


def test_a_run_is_cancelled_and_resumed(client: Local) -> None:
    run = client.submit(SLOW)
    with pytest.raises(gristmill.TimedOutError, match="it runs on"):
        run.wait(timeout=0.5)
    run.cancel()
    assert run.wait(timeout=PATIENCE_S, check=False).status == "cancelled"
    with pytest.raises(gristmill.ConflictError):
        run.cancel()
    run.resume()
    wait_for("the run to go on", lambda: run.status() == "running")
    run.cancel()
    assert run.wait(timeout=PATIENCE_S, check=False).status == "cancelled"


def test_runs_are_listed_by_what_they_are(client: Local) -> None:
    ids = [client.submit(NOOP).id for _ in range(3)]
    for run in ids:
        client.run(run).wait(timeout=PATIENCE_S)
    listed = client.runs(pipeline="nightly", limit=None).all()
    assert [item.run for item in listed if item.run in ids] == list(reversed(ids))
    assert client.runs(limit=2).all() == client.runs(limit=None).all()[:2]
    with pytest.raises(gristmill.NotFoundError):
        client.run("run-" + "0" * 32).view()


def test_a_run_tells_of_its_tasks(client: Local) -> None:
    run = client.submit("name: wide\nsteps:\n  a: { noop: { tasks: 5 } }\n  b: { noop: {}, after: [a] }\n")
    run.wait(timeout=PATIENCE_S)
    tasks = run.tasks(step="a").all()
    assert {task["status"] for task in tasks} == {"succeeded"}
    assert len(tasks) >= 5
    task = run.task(int(tasks[0]["task"]))
    assert (task["step"], task["kind"]) == ("a", "noop")
    assert len(run.timeline()["attempts"]) >= len(tasks)
    newest = next(iter(client.watch()))
    assert run.id in {item.run for item in newest}


def test_files_are_uploaded(client: Local, tmp_path: Path) -> None:
    for month in (1, 2):
        (tmp_path / f"flights-{month}.csv").write_text("a,b\n1,x\n2,y\n")
    p = Pipeline("files")
    p.ingest("flights.csv", name="flights")
    run = client.submit(p, files={"flights": str(tmp_path / "*.csv")})
    run.wait(timeout=PATIENCE_S)
    assert run["flights"].to_pandas().values.tolist() == [[1, "x"], [2, "y"]] * 2
    with pytest.raises(gristmill.BadInputError, match="there is no file"):
        client.submit(p, files={"flights": tmp_path / "none.csv"})
    uploaded = client.upload(b"some bytes")
    assert client.artifact(uploaded.digest) == b"some bytes"


def test_progress_is_a_line(client: Local, capsys: pytest.CaptureFixture[str]) -> None:
    run = client.submit("name: two\nsteps:\n  a: { noop: { ms: 300 } }\n  b: { noop: {}, after: [a] }\n")
    run.wait(timeout=PATIENCE_S, progress=TerminalProgress())
    shown = capsys.readouterr().err
    assert "2/2 steps" in shown
    assert shown.endswith("\n")


def test_a_run_is_followed_while_it_changes(client: Local) -> None:
    run = client.submit("name: two\nsteps:\n  a: { noop: { ms: 500 } }\n  b: { noop: {}, after: [a] }\n")
    views: list[RunView] = list(run.events(timeout=PATIENCE_S))
    assert views[-1].status == "succeeded"
    positions = [view.position for view in views]
    assert positions == sorted(positions)
    assert len(views) >= 2


def test_the_asynchronous_client_does_the_same(client: Local) -> None:
    async def work() -> None:
        async with gristmill.AsyncClient(client.url, serve=client.serve) as other:
            runs = await asyncio.gather(*(other.submit(NOOP) for _ in range(5)))
            views = await asyncio.gather(*(run.wait(timeout=PATIENCE_S) for run in runs))
            assert [view.status for view in views] == ["succeeded"] * 5
            run = await other.submit(learning("async"))
            await run.wait(timeout=PATIENCE_S)
            assert (await (await run.step("trips")).to_pandas()).shape == (2_000, 4)
            assert len([item async for item in other.runs(limit=3)]) == 3
            with pytest.raises(gristmill.BadPipelineError):
                await other.submit("name: x")

    asyncio.run(work())


def test_who_asks_is_told(client: Local) -> None:
    assert client.whoami().role == "admin"
    with Client("http://127.0.0.1:1") as nobody, pytest.raises(gristmill.UnavailableError, match="can't be reached"):
        nobody.whoami()


def test_the_process_ends_with_the_client(binary: str, tmp_path: Path) -> None:
    with gristmill.local(tmp_path / "home", binary=binary) as client:
        run = client.submit(NOOP)
        run.wait(timeout=PATIENCE_S)
        process = client._process
    assert process.poll() is not None
    with gristmill.local(tmp_path / "home", binary=binary) as again:
        assert again.run(run.id).status() == "succeeded"


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(gristmill.NotFoundError, match="isn't a program"):
        gristmill.local(binary=tmp_path / "none")
