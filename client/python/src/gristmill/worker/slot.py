"""A slot: a thread that keeps a child process warm and has it run one attempt at a time."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gristmill.errors import BadInputError
from gristmill.worker.frames import Frames
from gristmill.worker.held import Held
from gristmill.worker.wire import Attempt, Failure, Outcome, Work

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChildSettings:
    """How child processes are started."""

    module: str
    artifacts: str
    memory_mb: int = 0
    log_level: str = "INFO"


class Child:
    """A child process."""

    def __init__(self, settings: ChildSettings) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "gristmill.worker.child", settings.module, "--fd", str(theirs.fileno())]
        command += ["--artifacts", settings.artifacts, "--memory-mb", str(settings.memory_mb)]
        command += ["--log-level", settings.log_level]
        with theirs:
            # In a session of its own: what it starts is killed with it, and Ctrl-C is the worker's to handle.
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.frames = Frames(ours)
        threading.Thread(target=self._watch, args=(ours,), name="child", daemon=True).start()

    def _watch(self, ours: socket.socket) -> None:
        """Ends the conversation when the process ends: processes that it has forked may hold its end of the socket open."""
        self._process.wait()
        with contextlib.suppress(OSError):
            # What was sent before is still read.
            ours.shutdown(socket.SHUT_RD)

    def await_ready(self) -> list[str]:
        """Waits until the module is imported; the names of its tasks.

        Raises:
            BadInputError: when it can't be imported.
        """
        frame = self.frames.receive()
        if frame is None or "ready" not in frame:
            self._process.wait()
            text = (frame or {}).get("broken", "the process ended")
            raise BadInputError(f"the tasks can't be imported:\n{text}")
        tasks: list[str] = frame["ready"]
        return tasks

    def kill(self) -> None:
        """Ends it and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Waits for its end; how it ended."""
        return self._process.wait()


class Slot:
    """One place where a task runs."""

    def __init__(self, settings: ChildSettings, held: Held, ended: Callable[[Work, Outcome], None]) -> None:
        self._settings, self._held, self._ended = settings, held, ended
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._current: Attempt | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="slot", daemon=True)

    def start(self) -> list[str]:
        """Starts the child; the names of its tasks."""
        self._child = Child(self._settings)
        tasks = self._child.await_ready()
        self._thread.start()
        return tasks

    def is_started(self) -> bool:
        """Whether it has a child, and so must be closed."""
        return self._thread.is_alive()

    def give(self, work: Work) -> None:
        """Runs an attempt; `ended` is called when it has ended."""
        self._work.put(work)

    def close(self) -> None:
        """Ends the child and the thread."""
        self._work.put(None)
        with self._lock:
            if self._child is not None:
                self._child.kill()
        self._thread.join()

    def _stop(self, attempt: Attempt) -> None:
        with self._lock:
            # A stop that comes late must not hit the attempt after it.
            if self._current == attempt:
                self._stopped = True
                if self._child is not None:
                    self._child.kill()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            with self._lock:
                self._current, self._stopped = work.attempt, False
            if self._held.runs(work.attempt, partial(self._stop, work.attempt)):
                try:
                    outcome = self._attempt(work)
                except Exception as error:
                    log.exception("the child of a slot failed")
                    outcome = Outcome.failed(Failure("internal", f"the worker's child failed: {error!r}"))
            else:
                outcome = Outcome.stopped()
            with self._lock:
                self._current = None
            self._ended(work, outcome)

    def _attempt(self, work: Work) -> Outcome:
        child = self._living_child()
        try:
            child.frames.send(
                {
                    "payload": work.payload,
                    "inputs": dict(work.inputs),
                    "run": work.attempt.run,
                    "task": work.attempt.index,
                    "step": work.step,
                    "attempt": work.attempt.number,
                }
            )
            while (frame := child.frames.receive()) is not None:
                if "progress" in frame:
                    self._held.report_progress(work.attempt, frame["progress"])
                elif "outcome" in frame:
                    word, body = frame["outcome"]
                    return Outcome(word, body)
        except OSError as error:
            log.debug("a child is gone: %r", error)
        return self._died(child)

    def _living_child(self) -> Child:
        if self._child is not None and self._child.has_ended():
            # Between two tasks nothing is lost with it.
            self._died(self._child)
        if self._child is None:
            child = Child(self._settings)
            child.await_ready()
            with self._lock:
                self._child = child
                if self._stopped:
                    child.kill()
        assert self._child is not None
        return self._child

    def _died(self, child: Child) -> Outcome:
        """What the end of a child says: we stopped it, the system took it for its memory, or it broke."""
        child.kill()
        status = child.wait()
        child.frames.close()
        with self._lock:
            self._child = None
            stopped = self._stopped
        if stopped:
            return Outcome.stopped()
        if status == -signal.SIGKILL:
            hint = "give the machine more memory, or the task less"
            return Outcome.failed(Failure("out_of_memory", "the task's process was killed by the system", hint))
        what = signal.Signals(-status).name if status < 0 else f"code {status}"
        return Outcome.failed(Failure("internal", f"the task's process ended with {what}"))
