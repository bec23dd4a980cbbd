"""Python steps, done by real workers for a real scheduler."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import ROOT, Cluster, Process, Servers, wait_for


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("name,value\n" + "".join(f"n{row % 7},{row}\n" for row in range(1, 1001)))
    return path


def python(task: str, inputs: dict[str, str] | None = None, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"task": task}
    if inputs:
        found["inputs"] = inputs
    if params:
        found["params"] = params
    return {"python": found, "retries": 0}


def began(folder: Path, step: str, count: int = 1) -> list[dict[str, Any]]:
    """The attempts of a `gate` step that have begun, once there are so many."""

    def all_of_them() -> list[dict[str, Any]] | None:
        found = [json.loads(path.read_text()) for path in folder.glob(f"began-{step}-*.json")]
        return sorted(found, key=lambda one: one["at"]) if len(found) >= count else None

    found: list[dict[str, Any]] = wait_for(f"{count} attempts of `{step}`", all_of_them)
    return found


def go(folder: Path, step: str) -> None:
    (folder / f"go-{step}").touch()


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_python_steps_take_and_make_datasets(cluster: Cluster, table: Path) -> None:
    worker = cluster.python_worker("--slots", "2")
    run = cluster.submit(
        {
            "flights": {"ingest": {"source": str(table)}},
            "clean": python("clean", {"flights": "flights"}, limit=100),
            "checked": {
                "expect": {
                    "input": "clean",
                    "rules": [
                        {"rows": {"min": 901, "max": 901}},
                        {"column": "double", "between": [200, 2000]},
                        {"column": "gap", "nulls": {"min": 0.4, "max": 0.6}},
                        {"sql": "late = (value > 500)"},
                        {"sql": "day = date '2013-01-02' and at = timestamp '2013-01-02T03:04:05.678901Z'"},
                        {"sql": "level = name"},
                    ],
                }
            },
            "sums": {"transform": {"sql": "select level, sum(double) as total from checked group by level"}},
            "parts": {"split": {"input": "clean", "test": 0.5, "seed": 1}},
            "stats": python("stats", {"rows": "parts.train"}),
            "again": python("again", {"values": "stats"}),
            "arrays": python("arrays"),
            "empty": python("empty", {"rows": "sums"}),
            "after": {"transform": {"sql": "select count(*) as n from empty"}},
            "nothing": python("nothing"),
        }
    )
    shown = cluster.wait(run)
    steps = shown["steps"]
    assert shown["status"] == "succeeded", shown
    assert [steps[name]["rows"] for name in ("clean", "checked", "sums", "empty", "after")] == [901, 901, 7, 0, 1]
    assert worker.end() == 0


def test_the_example_runs(cluster: Cluster) -> None:
    folder = ROOT / "examples" / "python-steps"
    worker = cluster.python_worker("--slots", "2", module="tasks", folder=folder)
    shown = cluster.wait(cluster.submit_file(folder / "pipeline.yaml"))
    assert shown["status"] == "succeeded", shown
    assert worker.end() == 0


def test_failures_say_what_and_where(cluster: Cluster, table: Path) -> None:
    worker = cluster.python_worker("--memory-mb", "2048")
    run = cluster.submit(
        {
            "flights": {"ingest": {"source": str(table)}},
            "wrong": python("wrong", {"rows": "flights"}),
            "unknown": python("cleen"),
            "argument": python("clean", {"flight": "flights"}),
            "refused": python("refused"),
            "greedy": python("greedy"),
            "killed": python("killed"),
            "orphans": python("orphans"),
            "broken": python("broken"),
            "odd": python("odd"),
            "misplaced": {"noop": {}, "pool": "python", "retries": 0},
        }
    )
    steps = cluster.wait(run)["steps"]
    expected = {
        "wrong": ("bad_input", "KeyError: 'no_such_column'", "tasks_of_tests.py"),
        "unknown": ("bad_pipeline", "there is no task `cleen`", "did you mean `clean`?"),
        "argument": ("bad_pipeline", "`clean` can't be called like this", "flight"),
        "refused": ("not_found", "the upstream is away", "ask again tomorrow"),
        "greedy": ("out_of_memory", "ran out of memory", "--memory-mb"),
        "killed": ("out_of_memory", "killed by the system", "memory"),
        "orphans": ("out_of_memory", "killed by the system", "memory"),
        "broken": ("internal", "ended with code 7", ""),
        "odd": ("bad_pipeline", "returned a object", "DataFrame"),
        "misplaced": ("bad_pipeline", "a `noop` task came to a Python worker", "another `pool`"),
    }
    for step, (code, message, detail) in expected.items():
        error = steps[step]["error"]
        assert error["code"] == code, (step, error)
        assert message in error["message"], (step, error)
        assert detail in f"{error['message']} {error.get('hint')}", (step, error)
    # What an attempt has logged is there for whoever looks at its task.
    api = cluster.start(cluster.binary, "api", "--listen", "127.0.0.1:0")
    url = api.await_line(r"the API is at (http://[0-9.:]+);").group(1)
    attempts = httpx.get(f"{url}/v1/runs/{run}/tasks/1").raise_for_status().json()["attempts"]
    assert "Traceback" in attempts[0]["log"], attempts
    assert "no_such_column" in attempts[0]["log"], attempts
    assert cluster.wait(cluster.submit({"no": python("no")}))["status"] == "rejected"
    assert worker.end() == 0


def test_slots_run_side_by_side_and_no_more(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.python_worker("--slots", "2")
    run = cluster.submit({f"gate-{at}": python("gate", folder=str(tmp_path)) for at in range(3)})

    def two() -> bool:
        return len(list(tmp_path.glob("began-*.json"))) >= 2

    wait_for("two tasks at once", two)
    # The third waits until one has ended, and the messages of the first two are acknowledged after a second.
    worker.await_line("acknowledged before its end")
    first = sorted(tmp_path.glob("began-*.json"))
    assert len(first) == 2
    ended = first[0].name.split("-")[2]
    go(tmp_path, f"gate-{ended}")
    wait_for("the third", lambda: len(list(tmp_path.glob("began-*.json"))) == 3)
    for at in range(3):
        go(tmp_path, f"gate-{at}")
    assert cluster.wait(run)["status"] == "succeeded"
    assert worker.end() == 0


def test_the_task_of_a_killed_worker_runs_elsewhere(cluster: Cluster, tmp_path: Path) -> None:
    victim = cluster.python_worker()
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    (first,) = began(tmp_path, "gate")
    survivor = cluster.python_worker()
    killed = time.time()
    victim.signal(signal.SIGKILL)
    victim.process.wait()
    # The child doesn't outlive its worker.
    wait_for("the end of the child", lambda: not is_alive(first["pid"]))
    _, second = began(tmp_path, "gate", 2)
    assert second["attempt"] == first["attempt"] + 1
    assert second["worker"] == survivor.pid
    # A lease of 6 s, with the poll and the publish.
    assert second["at"] - killed < 15
    go(tmp_path, "gate")
    assert cluster.wait(run)["status"] == "succeeded"
    assert survivor.end() == 0


def test_a_worker_that_was_cut_off_stops_when_it_is_back(cluster: Cluster, tmp_path: Path) -> None:
    hung = cluster.python_worker()
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    (first,) = began(tmp_path, "gate")
    hung.signal(signal.SIGSTOP)
    other = cluster.python_worker()
    _, second = began(tmp_path, "gate", 2)
    assert is_alive(first["pid"])
    hung.signal(signal.SIGCONT)
    wait_for("the end of the first attempt", lambda: not is_alive(first["pid"]))
    assert is_alive(second["pid"])
    go(tmp_path, "gate")
    assert cluster.wait(run)["status"] == "succeeded"
    assert hung.end() == 0
    assert other.end() == 0


def test_sigterm_finishes_what_runs(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.python_worker()
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    began(tmp_path, "gate")
    worker.signal(signal.SIGTERM)
    worker.await_line("draining")
    assert worker.process.poll() is None
    go(tmp_path, "gate")
    assert worker.process.wait(30) == 0
    assert cluster.wait(run)["status"] == "succeeded"
    (only,) = began(tmp_path, "gate")
    assert only["attempt"] == 1


def test_a_second_sigterm_hands_back_at_once(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.python_worker()
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    (first,) = began(tmp_path, "gate")
    worker.signal(signal.SIGTERM)
    worker.await_line("draining")
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(10) == 0
    assert not is_alive(first["pid"])
    other = cluster.python_worker()
    began(tmp_path, "gate", 2)
    go(tmp_path, "gate")
    assert cluster.wait(run)["status"] == "succeeded"
    assert other.end() == 0


def test_the_grace_period_ends(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.python_worker("--drain-seconds", "1")
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    began(tmp_path, "gate")
    worker.signal(signal.SIGTERM)
    assert worker.process.wait(15) == 0
    go(tmp_path, "gate")
    other = cluster.python_worker()
    assert cluster.wait(run)["status"] == "succeeded"
    assert other.end() == 0


def test_a_cancelled_task_is_stopped(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.python_worker()
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    (first,) = began(tmp_path, "gate")
    assert cluster.command("cancel", run).returncode == 0
    assert cluster.wait(run)["status"] == "cancelled"
    wait_for("the end of the child", lambda: not is_alive(first["pid"]))
    # The slot is free again.
    assert cluster.wait(cluster.submit({"nothing": python("nothing")}))["status"] == "succeeded"
    assert worker.end() == 0


def test_a_timeout_stops_the_task(cluster: Cluster, tmp_path: Path) -> None:
    worker = cluster.python_worker()
    run = cluster.submit({"gate": {**python("gate", folder=str(tmp_path)), "timeout": "2s"}})
    (first,) = began(tmp_path, "gate")
    shown = cluster.wait(run)
    assert shown["status"] == "failed"
    assert shown["steps"]["gate"]["error"]["code"] == "timed_out"
    wait_for("the end of the child", lambda: not is_alive(first["pid"]))
    assert worker.end() == 0


@pytest.mark.parametrize("server", ["rabbitmq", "redis"])
def test_a_server_that_dies_and_comes_back(cluster: Cluster, servers: Servers, tmp_path: Path, server: str) -> None:
    worker = cluster.python_worker()
    run = cluster.submit({"gate": python("gate", folder=str(tmp_path))})
    began(tmp_path, "gate")
    servers.kill(server)
    servers.start(server)
    go(tmp_path, "gate")
    assert cluster.wait(run)["status"] == "succeeded"
    assert cluster.wait(cluster.submit({"nothing": python("nothing")}))["status"] == "succeeded"
    assert worker.end() == 0


def test_a_module_that_cannot_be_imported_says_so(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "broken_tasks.py").write_text("import no_such_package\n")
    process: Process = cluster.start(sys.executable, "-m", "gristmill.worker", "broken_tasks", cwd=tmp_path)
    assert process.process.wait(60) == 1
    assert "the tasks can't be imported" in process.text()
    assert "no_such_package" in process.text()
