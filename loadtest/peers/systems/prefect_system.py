"""Prefect 3: its server with SQLite in a folder of its own; flows with a pool of two processes.

Its documentation advises in-process task runners for throughput, `ProcessPoolTaskRunner` where work is to use several
processes; a worker that starts a process for each flow run takes seconds for each. Tasks by their own (`submissions`
and `crash`) are background tasks, `delay`, with two task workers of one task each.
"""

import os
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

from harness.processes import wait_until
from systems.driver import Figures, System, run


class PrefectSystem(System):
    """Flows run in this process and in its pool."""

    def start(self) -> None:
        """The server, then two task workers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = {
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "DO_NOT_TRACK": "1",
            "PEERS_MARKS": str(self.marks),
            "PYTHONPATH": os.environ["PYTHONPATH"],
        }
        os.environ.update(settings)
        self.processes.env |= settings
        prefect = Path(sys.executable).parent / "prefect"
        self.processes.start("server", [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)])

        def is_healthy() -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        wait_until("the server answers", is_healthy, 120, 0.1)
        from systems import prefect_tasks

        self.tasks: Any = prefect_tasks
        self.workers = False

    def _start_workers(self) -> None:
        """Two task workers, when a load needs them. They subscribe some time after their start."""
        if self.workers:
            return
        self.workers = True
        for name in ("one", "two"):
            self.processes.start(name, [sys.executable, "-m", "systems.prefect_tasks"])
        # A task worker shows in no list; that a nap each has ended in two processes proves that both take tasks.
        at = 0

        def both_work() -> bool:
            nonlocal at
            self.tasks.nap.delay("warm", at, 0.2)
            at += 1
            return len(list(self.marks.glob("*.marks"))) - self.marked >= 2

        self.marked = len(list(self.marks.glob("*.marks")))
        wait_until("both task workers work", both_work, 90, 0.5)

    def throughput(self, tasks: int) -> int:
        """`map` within a flow."""
        return int(self.tasks.batch(tasks))

    def submissions(self, tasks: int) -> int:
        """`delay`, each, then each result."""
        self._start_workers()
        futures = [self.tasks.noop.delay(at) for at in range(tasks)]
        return sum(future.result(timeout=120) for future in futures)

    def chain(self, steps: int, load: str) -> int:
        """Within a flow."""
        return int(self.tasks.chain(steps, load))

    def fan_out(self, tasks: int) -> int:
        """Within a flow."""
        return int(self.tasks.fan_out(tasks))

    def begin_naps(self, tasks: int, seconds: float, load: str) -> None:
        """`delay`, each."""
        self._start_workers()
        for at in range(tasks):
            self.tasks.nap.delay(load, at, seconds)

    def kill_worker(self) -> None:
        """The second task worker."""
        self.processes.kill("two")

    def mixed(self, data: str, folder: str) -> Figures:
        """Within a flow."""
        return dict(self.tasks.mixed(data, folder))

    def own_processes(self) -> list[int]:
        """This one: the flow runs here."""
        return [os.getpid()]


if __name__ == "__main__":
    run(PrefectSystem)
