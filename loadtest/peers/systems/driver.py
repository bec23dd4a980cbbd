"""Measures one system once: every system is asked for the same and timed in the same way, as its client sees it.

A system is a program `systems/NAME.py` that gives `run` its class. It runs in the environment of that system, starts
the system's processes, goes through the loads and writes what it found as one JSON object.
"""

import argparse
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from harness.processes import Processes, wait_until

LOAD_SECONDS_MAX = 300.0
"""No load takes longer when anything works at all."""
STALL_SECONDS = 20.0
"""When no task has ended for so long after a crash, nothing more will come: what is missing then is lost.

Dask notices a dead worker by its closed connection at once, RabbitMQ too; Gristmill's leases run out earlier than this.
"""
CRASH_AT = 0.3
"""The worker is killed when this share of the tasks has ended."""

Figures = dict[str, float]


class System:
    """What a system has to do. `name`s of loads that it can't do are in `leaves_out`, with the reason."""

    leaves_out: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self.folder, self.options, self.marks = folder, options, folder / "marks"
        self.marks.mkdir(parents=True, exist_ok=True)
        os.environ["PEERS_MARKS"] = str(self.marks)
        # The servers' and the workers' own: the folder of these scripts is where they find the tasks.
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        self.processes = Processes(folder / "logs", {})

    def start(self) -> None:
        """Starts servers of its own and two workers; returns when they take tasks."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends all that was started."""
        self.processes.stop()

    def throughput(self, tasks: int) -> int:
        """Runs no-ops numbered from 0 as one batch; the sum of their results."""
        raise NotImplementedError

    def submissions(self, tasks: int) -> int:
        """The same, each submitted by its own."""
        raise NotImplementedError

    def chain(self, steps: int, load: str) -> int:
        """Runs `hop`s one after another; what the last one returned."""
        raise NotImplementedError

    def fan_out(self, tasks: int) -> int:
        """Runs a no-op, then so many numbered from 0, then `total` of them; its result."""
        raise NotImplementedError

    def begin_naps(self, tasks: int, seconds: float, load: str) -> None:
        """Submits `nap`s and returns."""
        raise NotImplementedError

    def kill_worker(self) -> None:
        """Kills one of the two workers with all its processes. Nobody starts it again."""
        raise NotImplementedError

    def mixed(self, data: str, folder: str) -> Figures:
        """Trains, validates and scores the flights; the metrics and `rows`."""
        raise NotImplementedError

    def scoring(self, seconds: float, rates: list[float]) -> Figures:
        """Asks a server for predictions at these rates, so long each; at rising ones when none are given."""
        raise NotImplementedError

    def own_processes(self) -> list[int]:
        """Processes beside those that `processes` has whose memory is the system's."""
        return []

    # What differs for a system that can't run Python functions.

    def hops(self, load: str) -> list[float]:
        """Milliseconds from each end to the next start."""
        starts, ends = spans(self.marks, load)
        return [(starts[at][0] - ends[at - 1][0]) / 1e6 for at in range(1, len(starts))]

    def crash(self, tasks: int, seconds: float) -> Figures:
        """Kills a worker in the middle of the naps, and counts."""
        began = time.time_ns()
        self.begin_naps(tasks, seconds, "crash")

        def ended() -> int:
            return len(spans(self.marks, "crash")[1])

        wait_until("a part of the tasks has ended", lambda: ended() >= tasks * CRASH_AT, LOAD_SECONDS_MAX, 0.1)
        self.kill_worker()
        before, since = ended(), time.monotonic()
        while before < tasks and time.monotonic() - since < STALL_SECONDS:
            time.sleep(0.1)
            if (now := ended()) > before:
                before, since = now, time.monotonic()
        starts, ends = spans(self.marks, "crash")
        last = max(times[0] for times in ends.values())
        # Time for one that is run again although it has ended.
        return {
            "tasks_ended": len(ends),
            "tasks_lost": tasks - len(ends),
            "tasks_started_twice": sum(len(times) > 1 for times in starts.values()),
            "tasks_ended_twice": sum(len(times) > 1 for times in ends.values()),
            "seconds": (last - began) / 1e9,
        }


def spans(marks: Path, load: str) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """When the tasks of a load started and when they ended, in nanoseconds since 1970."""
    found: dict[str, dict[int, list[int]]] = {"s": {}, "e": {}}
    for file in marks.glob("*.marks"):
        for line in file.read_text().splitlines():
            of, what, index, at = line.split()
            if of == load:
                found[what].setdefault(int(index), []).append(int(at))
    for times in (*found["s"].values(), *found["e"].values()):
        times.sort()
    return found["s"], found["e"]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of them doesn't exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def expect(what: str, found: object, wanted: object) -> None:
    """A wrong result is no figure."""
    if found != wanted:
        raise AssertionError(f"{what}: {found} instead of {wanted}")


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and its result."""
    since = time.perf_counter()
    result = call()
    return time.perf_counter() - since, result


def measure(system: System, load: str, size: dict[str, Any]) -> Figures:
    """One load, checked."""
    if load in ("throughput", "submissions"):
        tasks: int = size["tasks"]
        call = system.throughput if load == "throughput" else system.submissions
        # The first call pays for imports and connections.
        call(2)
        seconds, found = timed(lambda: call(tasks))
        expect(f"the sum of {tasks} results", found, tasks * (tasks - 1) // 2)
        return {"tasks_per_second": tasks / seconds}
    if load == "chain":
        steps: int = size["steps"]
        # The first chain of a system pays for imports and connections.
        system.chain(min(steps, 5), "warm")
        seconds, found = timed(lambda: system.chain(steps, "chain"))
        expect("steps of the chain", found, steps)
        hops = system.hops("chain")
        expect("hops", len(hops), steps - 1)
        return {
            "hop_ms_p50": statistics.median(hops),
            "hop_ms_p99": percentile(hops, 0.99),
            "step_ms_mean": seconds * 1000 / steps,
        }
    if load == "fan-out":
        tasks = size["tasks"]
        seconds, found = timed(lambda: system.fan_out(tasks))
        expect(f"the sum of {tasks} results", found, tasks * (tasks - 1) // 2)
        return {"seconds": seconds, "tasks_per_second": (tasks + 2) / seconds}
    if load == "mixed":
        folder = system.folder / "mixed"
        folder.mkdir()
        with system.processes.peak_memory(*system.own_processes()) as peak:
            seconds, metrics = timed(lambda: system.mixed(size["data"], str(folder)))
        expect("rows that were scored", metrics["rows"], size["rows"])
        for name in ("logistic", "forest"):
            expect(f"{name} is of use ({metrics[name]:.3f})", metrics[name] > 0.85, True)
        figures = {"seconds": seconds, "roc_auc": metrics["forest"]}
        # One that has nothing running between calls isn't measured.
        return figures | ({"peak_mib": peak()} if peak() else {})
    if load == "scoring":
        return system.scoring(size["seconds"], size["rates"])
    if load == "crash":
        return system.crash(size["tasks"], size["seconds"])
    raise ValueError(f"there is no load `{load}`")


def run(kind: type[System]) -> None:
    """The program of a system."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--loads", type=json.loads, required=True, help="sizes by load, in their order")
    parser.add_argument("--options", type=json.loads, default={}, help="options of the system")
    arguments = parser.parse_args()
    found: dict[str, Any] = {"figures": {}, "failed": {}, "took": {}}
    # Whoever ends this ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    system = kind(arguments.folder, arguments.options)
    try:
        found["start_seconds"] = timed(system.start)[0]
        for load, size in arguments.loads.items():
            if load in system.leaves_out:
                continue
            try:
                found["took"][load], found["figures"][load] = timed(partial(measure, system, load, size))
            except Exception as error:  # What went wrong stands in the table; the other loads still count.
                found["failed"][load] = f"{type(error).__name__}: {error}"[:500]
                print(f"{load} failed: {error!r}", file=sys.stderr)
    finally:
        system.stop()
        arguments.output.write_text(json.dumps(found))
