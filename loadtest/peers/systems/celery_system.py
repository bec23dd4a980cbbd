"""Celery 5 on RabbitMQ, with results in Redis: two workers, each with one process of its pool."""

import os
import sys
from pathlib import Path
from typing import Any

from systems.driver import LOAD_SECONDS_MAX, Figures, System, run


class CelerySystem(System):
    """`{"late": true}`: with acknowledgements after the work."""

    def start(self) -> None:
        """Two nodes: what a kill takes away is a node with all its processes."""
        os.environ["PEERS_CELERY_LATE"] = self.processes.env["PEERS_CELERY_LATE"] = "01"[bool(self.options.get("late"))]
        self.processes.env |= {"PEERS_MARKS": str(self.marks), "PYTHONPATH": os.environ["PYTHONPATH"]}
        celery = Path(sys.executable).parent / "celery"
        for name in ("one", "two"):
            # Gossip and mingle are talk between workers that nothing here needs.
            command: list[str | Path] = [celery, "-A", "systems.celery_tasks", "worker", "--concurrency", "1", "--without-gossip",
                       "--without-mingle", "--loglevel", "WARNING", "-n", f"{name}@peers"]  # fmt: skip
            self.processes.start(name, command, cwd=self.folder)
        from systems import celery_tasks

        self.tasks: Any = celery_tasks
        # Both are there when two tasks that wait for each other have ended; a plain one proves a worker only.
        self.tasks.app.backend.client.ping()
        self._wait_for_consumers()
        assert self.tasks.noop.delay(7).get(timeout=60) == 7

    def _wait_for_consumers(self) -> None:
        from harness.processes import wait_until

        def consumers() -> int:
            with self.tasks.app.connection_for_read() as connection, connection.channel() as channel:
                try:
                    return int(channel.queue_declare("celery", passive=True).consumer_count)
                except connection.channel_errors:
                    return 0

        wait_until("both workers take tasks", lambda: consumers() == 2, 30, 0.1)

    def throughput(self, tasks: int) -> int:
        """A group. `join` rather than `get`: it was two to three times faster for 1,000 results."""
        from celery import group

        return sum(group(self.tasks.noop.s(at) for at in range(tasks))().join(timeout=LOAD_SECONDS_MAX))

    def submissions(self, tasks: int) -> int:
        """`delay`, one after another; then each result."""
        results = [self.tasks.noop.delay(at) for at in range(tasks)]
        return sum(result.get(timeout=LOAD_SECONDS_MAX) for result in results)

    def chain(self, steps: int, load: str) -> int:
        """A chain."""
        from celery import chain

        hop = self.tasks.hop
        return int(self._get(chain(hop.s(0, load), *(hop.s(load) for _ in range(steps - 1)))()))

    def fan_out(self, tasks: int) -> int:
        """A chord after a task."""
        from celery import chain, chord

        each = chord([self.tasks.noop.si(at) for at in range(tasks)], self.tasks.total.s())
        return int(self._get(chain(self.tasks.noop.si(0), each)()))

    def begin_naps(self, tasks: int, seconds: float, load: str) -> None:
        """`delay`, each."""
        for at in range(tasks):
            self.tasks.nap.delay(load, at, seconds)

    def kill_worker(self) -> None:
        """The second node."""
        self.processes.kill("two")

    def mixed(self, data: str, folder: str) -> Figures:
        """A chain with a chord in it."""
        from celery import chain, chord

        of = self.tasks
        trains = chord([of.train.si(folder, kind) for kind in ("logistic", "forest")], of.validate.s())
        flow = chain(of.ingest.si(data, folder), of.split.s(), trains, of.score.s(folder))
        return dict(self._get(flow()))

    def _get(self, result: Any) -> Any:
        return result.get(timeout=LOAD_SECONDS_MAX)


if __name__ == "__main__":
    run(CelerySystem)
