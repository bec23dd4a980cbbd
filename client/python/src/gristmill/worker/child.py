"""A worker's child process: imports the module of tasks, then runs one task after the other until it is killed."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import queue
import resource
import socket
import sys
import threading
import traceback
from typing import Any

from gristmill.worker.artifacts import open_artifacts
from gristmill.worker.attempt_log import kept_log
from gristmill.worker.frames import Frames
from gristmill.worker.perform import perform
from gristmill.worker.tasks import registered


def import_tasks(module: str) -> None:
    """Imports a module such as `tasks` or `package.tasks`; what stands after a colon is only there to be looked up.

    Raises:
        AttributeError: when the module doesn't have what stands after the colon.
    """
    name, _, attribute = module.partition(":")
    sys.path.insert(0, str(os.getcwd()))  # noqa: PTH109 (as Python itself does)
    found: Any = importlib.import_module(name)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)


def main() -> None:
    """The child's whole life. It ends with the worker, whose end of the socket then closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--artifacts", required=True)
    parser.add_argument("--memory-mb", type=int, default=0)
    parser.add_argument("--log-level", default="INFO")
    arguments = parser.parse_args()
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("boto3", "botocore", "s3transfer", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    frames = Frames(socket.socket(fileno=arguments.fd))
    if arguments.memory_mb:
        limit = arguments.memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        import_tasks(arguments.module)
        artifacts = open_artifacts(arguments.artifacts)
    except BaseException:
        frames.send({"broken": traceback.format_exc()})
        raise
    work: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(frames, work), daemon=True).start()
    frames.send({"ready": sorted(registered())})

    def progress(done: int, total: int | None, unit: str) -> None:
        # Others read this as whole numbers and a text; what isn't would hide this worker from them.
        whole = None if total is None else max(0, int(total))
        frames.send({"progress": {"done": max(0, int(done)), "total": whole, "unit": str(unit)}})

    while True:
        asked = work.get()
        with kept_log(artifacts, asked["run"], asked["task"], asked["attempt"]):
            outcome = perform(artifacts, asked, progress)
        frames.send({"outcome": [outcome.word, outcome.body]})


def _receive(frames: Frames, work: queue.SimpleQueue[Any]) -> None:
    """Hands on work. Without its worker nobody waits for what a task makes, so the process ends with it."""
    while True:
        try:
            frame = frames.receive()
        except (OSError, ValueError):
            frame = None
        if frame is None:
            os._exit(0)
        work.put(frame)


if __name__ == "__main__":
    main()
