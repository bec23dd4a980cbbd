"""Dask distributed: a scheduler and two workers with one thread each, in processes of their own.

Nothing is durable: tasks and results are in the memory of scheduler and workers. When a worker dies the scheduler has
its tasks done again elsewhere; when the scheduler or the client dies all is gone.
"""

import os
import sys
from pathlib import Path
from typing import Any

from distributed import Client, fire_and_forget

from harness.processes import wait_until
from systems import flights, work
from systems.driver import LOAD_SECONDS_MAX, Figures, System, run


class DaskSystem(System):
    """As `dask scheduler` and `dask worker` of its documentation; each worker with its nanny."""

    def start(self) -> None:
        """The scheduler writes its address into a file."""
        self.processes.env |= {"PEERS_MARKS": str(self.marks), "PYTHONPATH": os.environ["PYTHONPATH"]}
        dask, where = Path(sys.executable).parent / "dask", self.folder / "scheduler.json"
        loopback = ["--host", "127.0.0.1", "--no-dashboard"]
        self.processes.start("scheduler", [dask, "scheduler", "--port", "0", *loopback, "--scheduler-file", where])
        wait_until("the scheduler's file is there", where.exists, 60)
        for name in ("one", "two"):
            command = [dask, "worker", "--scheduler-file", where, "--nthreads", "1", "--name", name,
                       "--local-directory", self.folder / name, *loopback]  # fmt: skip
            self.processes.start(name, command)
        self.client = Client(scheduler_file=str(where))
        self.client.wait_for_workers(2, timeout=60)
        assert self.client.submit(work.noop, 7).result(timeout=60) == 7

    def stop(self) -> None:
        """The client first: it would try to come back."""
        if hasattr(self, "client"):
            self.client.close()
        super().stop()

    def throughput(self, tasks: int) -> int:
        """`map`, then `gather`. `pure=False`: work that is known already isn't taken from memory."""
        return sum(self.client.gather(self.client.map(work.noop, range(tasks), pure=False)))

    def submissions(self, tasks: int) -> int:
        """`submit`, each, which Dask sends in batches of 2 ms."""
        futures = [self.client.submit(work.noop, at, pure=False) for at in range(tasks)]
        return sum(self.client.gather(futures))

    def chain(self, steps: int, load: str) -> int:
        """Futures as arguments of the next. The scheduler keeps a chain on one worker, which saves it the way."""
        future: Any = 0
        for _ in range(steps):
            future = self.client.submit(work.hop, load, future, pure=False)
        return int(future.result(timeout=LOAD_SECONDS_MAX))

    def fan_out(self, tasks: int) -> int:
        """`map` of numbers that need the first task's end."""
        first = self.client.submit(work.noop, 0, pure=False)
        each = self.client.map(lambda at, _: at, range(tasks), [first] * tasks, pure=False)
        return int(self.client.submit(work.total, each, pure=False).result(timeout=LOAD_SECONDS_MAX))

    def begin_naps(self, tasks: int, seconds: float, load: str) -> None:
        """`map`; the futures are let go."""
        fire_and_forget(self.client.map(lambda at: work.nap(load, at, seconds), range(tasks), pure=False))

    def kill_worker(self) -> None:
        """The second worker with its nanny, which would start it again."""
        self.processes.kill("two")

    def mixed(self, data: str, folder: str) -> Figures:
        """Futures as arguments."""
        submit = self.client.submit
        parts = submit(flights.split, submit(flights.ingest, data, folder))
        models = [submit(flights.train, parts, kind) for kind in ("logistic", "forest")]
        return dict(submit(flights.score, submit(flights.validate, models), folder).result(timeout=LOAD_SECONDS_MAX))


if __name__ == "__main__":
    run(DaskSystem)
