"""Gristmill by its own commands: a scheduler, an API and two workers with one slot each, on RabbitMQ and Redis, artifacts in
a folder.

Durable: a submission when it is answered; each decision in Redis (append-only file, synced each second, as for Celery's
results) before anything follows from it; each result before its task counts as done. A killed worker's tasks run again.

Times are those of the commands that people type, `gristmill submit` and `gristmill wait`, with the start of their
processes. No-op steps are of the program itself: no Python is in the way, as nobody needs it for pipelines.
"""

import json
import os
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.processes import wait_until
from systems.driver import CRASH_AT, LOAD_SECONDS_MAX, Figures, System, expect, run

PIPELINE = "name: one\nsteps:\n  a: { noop: {} }\n"
FLIGHTS = Path(__file__).with_name("flights.yaml")


def chain_of(steps: int) -> str:
    """A pipeline of no-op steps one after another."""
    rest = "".join(f"  s{at}: {{ noop: {{}}, after: [s{at - 1}] }}\n" for at in range(1, steps))
    return f"name: chain\nsteps:\n  s0: {{ noop: {{}} }}\n{rest}"


class GristmillSystem(System):
    """`{"program": FILE}`."""

    def start(self) -> None:
        """A private port for the API; workers are there when the cluster tells of them."""
        self.program: str = self.options["program"]
        # Artifacts in a folder that all share, as the others' files are.
        artifacts = str(self.folder / "artifacts")
        os.environ["GRISTMILL_ARTIFACTS"] = self.processes.env["GRISTMILL_ARTIFACTS"] = artifacts
        self.processes.start("scheduler", [self.program, "scheduler"], cwd=self.folder)
        for name in ("one", "two"):
            self.processes.start(name, [self.program, "worker", "--slots", "1"], cwd=self.folder)
        self.processes.start("api", [self.program, "api", "--listen", "127.0.0.1:0"], cwd=self.folder)
        self.client = self._client()
        wait_until("both workers are known", lambda: len(list(self.client.cluster.workers())) == 2, 60)

    def _client(self) -> Any:
        import re

        import gristmill

        self.processes.wait_for_text("api", "http://127.0.0.1:")
        found = re.search(r"http://127\.0\.0\.1:\d+", self.processes.said("api"))
        assert found
        return gristmill.Client(found.group())

    def command(self, *arguments: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            [self.program, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=LOAD_SECONDS_MAX
        )
        if done.returncode != 0:
            raise RuntimeError(f"gristmill {arguments[0]}: {done.stderr[-500:]}")
        return done.stdout

    def submit(self, pipeline: str, *more: str) -> str:
        """`gristmill submit`; the run."""
        path = self.folder / "pipeline.yaml"
        path.write_text(pipeline)
        return self.command("submit", str(path), *more).strip()

    def to_end(self, pipeline: str, *more: str) -> str:
        """Submits a pipeline and waits for its end; the run."""
        run_id = self.submit(pipeline, *more)
        # It exits with 0 when the run has succeeded only.
        self.command("wait", run_id)
        return run_id

    def tasks_of(self, run_id: str) -> dict[str, int]:
        """How many tasks each step had. A step that grew has two more: the one that grows and the one that joins."""
        steps = json.loads(self.command("show", run_id, "--json"))["steps"]
        return {name: step["tasks"] - (2 if step["tasks"] > 1 else 0) for name, step in steps.items()}

    def throughput(self, tasks: int) -> int:
        """One step with so many tasks. No-ops return nothing: that all have ended is what can be checked."""
        run_id = self.to_end(f"name: batch\nsteps:\n  a: {{ noop: {{ tasks: {tasks} }} }}\n")
        expect("tasks", self.tasks_of(run_id), {"a": tasks})
        return tasks * (tasks - 1) // 2

    def submissions(self, tasks: int) -> int:
        """A run each, by the Python client's `submit_many`; then the status of each."""
        runs = self.client.submit_many([PIPELINE] * tasks)
        for one in runs:
            expect("the run", one.wait(timeout=LOAD_SECONDS_MAX).status, "succeeded")
        return sum(range(len({one.id for one in runs})))

    def chain(self, steps: int, load: str) -> int:  # noqa: ARG002
        """Steps one after another."""
        self.chained = self.to_end(chain_of(steps))
        return len(self.tasks_of(self.chained))

    def hops(self, load: str) -> list[float]:  # noqa: ARG002
        """From the run's trace, which has each attempt's start and end as its worker saw them."""
        return hops_of(self.attempts(self.chained))

    def attempts(self, run_id: str) -> list[dict[str, Any]]:
        """The spans of attempts of a run's tasks."""
        spans = json.loads(self.command("trace", run_id, "--json"))
        return [span for span in spans if "attempt" in span["attributes"]]

    def fan_out(self, tasks: int) -> int:
        """A step, a step with so many tasks, a step."""
        run_id = self.to_end(
            "name: fan-out\nsteps:\n  a: { noop: {} }\n"
            f"  b: {{ noop: {{ tasks: {tasks} }}, after: [a] }}\n  c: {{ noop: {{}}, after: [b] }}\n"
        )
        expect("tasks", self.tasks_of(run_id), {"a": 1, "b": tasks, "c": 1})
        return tasks * (tasks - 1) // 2

    def crash(self, tasks: int, seconds: float) -> Figures:
        """Attempts are counted by the scheduler; a task counts as ended once, whoever brings its result."""
        began = time.time()
        ms = round(seconds * 1000)
        found = self.client.submit(f"name: crash\nsteps:\n  a: {{ noop: {{ tasks: {tasks}, ms: {ms} }} }}\n")
        wait_until("a part has ended", lambda: found.view().steps[0].ended >= tasks * CRASH_AT, LOAD_SECONDS_MAX, 0.1)
        self.processes.kill("two")
        view = found.wait(timeout=LOAD_SECONDS_MAX)
        step = view.steps[0]
        expect("the run", view.status, "succeeded")
        # The step that grows and the one that joins are tasks of it too.
        return {
            "tasks_ended": step.ended - 2,
            "tasks_lost": tasks - (step.ended - 2),
            "tasks_started_twice": step.attempts - step.tasks,
            "tasks_ended_twice": 0,
            "seconds": time.time() - began,
        }

    def mixed(self, data: str, folder: str) -> Figures:  # noqa: ARG002
        """The pipeline of `flights.yaml`."""
        return flights_of(json.loads(self.command("show", self.to_end(*flights(data)), "--json")))


def flights(data: str) -> tuple[str, ...]:
    """The pipeline and its parameters."""
    return FLIGHTS.read_text(), "--no-cache", "--set", f"source={data}"


def hops_of(attempts: list[dict[str, Any]]) -> list[float]:
    """Milliseconds from each end to the next start."""
    found = sorted(attempts, key=lambda span: int(span["start_us"]))
    return [(after["start_us"] - before["end_us"]) / 1e3 for before, after in pairwise(found)]


def flights_of(shown: dict[str, Any]) -> Figures:
    """The metrics and the number of scored rows of a run of the flights."""
    auc = {model["name"]: model["metrics"]["roc_auc"] for model in shown["models"]}
    return auc | {"rows": shown["steps"]["scores"]["rows"]}


if __name__ == "__main__":
    os.environ.pop("GRISTMILL_HOME", None)
    run(GristmillSystem)
