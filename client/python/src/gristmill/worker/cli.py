"""`gristmill-worker`: starts a worker for the tasks of a module."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from gristmill.errors import GristmillError
from gristmill.limits import DRAIN_S
from gristmill.worker.slot import ChildSettings
from gristmill.worker.worker import Drain, Worker, WorkerConfig

FAILED, WRONG = 1, 2
"""Exit codes: something failed; the command is wrong."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="gristmill-worker",
        description="Runs the Python steps of pipelines. SIGTERM drains: what runs may take 25 s more; a second one "
        "hands it back at once.",
    )
    found.add_argument("module", help="the module with the tasks, such as `tasks` or `package.tasks:app`")
    found.add_argument("--pools", default="python", help="the pools to serve, separated by commas (default: python)")
    found.add_argument("--slots", type=int, default=1, help="tasks that run at a time, each in a process of its own")
    found.add_argument("--memory-mb", type=int, default=0, help="memory of one task (default: no limit of our own)")
    for name, variable in (
        ("broker", "GRISTMILL_BROKER"),
        ("state", "GRISTMILL_STATE"),
        ("artifacts", "GRISTMILL_ARTIFACTS"),
    ):
        found.add_argument(f"--{name}", default=os.environ.get(variable), metavar="URL", help=f"default: {variable}")
    found.add_argument(
        "--queue-type", choices=["classic", "quorum"], default=os.environ.get("GRISTMILL_QUEUE_TYPE", "classic")
    )
    found.add_argument("--allow-unsafe-state", action="store_true", help="take a Redis server that may lose data")
    found.add_argument("--drain-seconds", type=float, default=DRAIN_S, help=argparse.SUPPRESS)
    found.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a worker until it has drained; exits with 0 then, 1 when it failed, 2 when the command is wrong."""
    parsed = parser().parse_args(arguments)
    missing = [name for name in ("broker", "state", "artifacts") if not getattr(parsed, name)]
    if missing:
        names = ", ".join(f"GRISTMILL_{name.upper()}" for name in missing)
        print(f"error: there are no servers to work for\nhint: set {names}", file=sys.stderr)
        sys.exit(WRONG)
    if parsed.slots < 1:
        print("error: a worker has at least one slot", file=sys.stderr)
        sys.exit(WRONG)
    logging.basicConfig(level=parsed.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("pika").setLevel(logging.ERROR)
    pools = tuple(dict.fromkeys(pool.strip() for pool in parsed.pools.split(",") if pool.strip()))
    child = ChildSettings(parsed.module, parsed.artifacts, parsed.memory_mb, parsed.log_level)
    worker = Worker(
        WorkerConfig(
            parsed.broker,
            parsed.state,
            pools,
            parsed.slots,
            child,
            parsed.queue_type,
            parsed.allow_unsafe_state,
            parsed.drain_seconds,
        )
    )
    seen = Drain.NO

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal seen
        seen = Drain.FINISH if seen == Drain.NO else Drain.NOW
        worker.drain(seen)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    try:
        worker.run()
    except GristmillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
