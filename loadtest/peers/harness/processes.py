"""Processes of a system: started, measured, killed and stopped, each with all that it starts."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

STOP_SECONDS_MAX = 20.0
"""How long a program may take to end in order; then it is killed."""
SAMPLE_SECONDS = 0.2
"""How often memory is looked at: a model takes longer than that to train."""


def wait_until(what: str, is_so: Callable[[], bool], seconds: float, every: float = 0.02) -> None:
    """Waits until something is so; `TimeoutError` after so many seconds."""
    limit = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > limit:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)


class Processes:
    """The processes of one system. Each is the first of a session, so that those that it starts are found."""

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs, self.env = logs, dict(os.environ) | dict(env)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], cwd: Path | None = None) -> None:
        """Starts a program; its output goes to a file of that name."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [str(part) for part in command],
                env=self.env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, name: str) -> str:
        """What a program has written so far."""
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def wait_for_text(self, name: str, text: str, seconds: float = 60) -> None:
        """Waits until a program has written a text."""

        def is_said() -> bool:
            if self.running[name].poll() is not None:
                raise RuntimeError(f"{name} has ended:\n{self.said(name)[-2000:]}")
            return text in self.said(name)

        wait_until(f"{name} says `{text}`", is_said, seconds)

    def kill(self, name: str) -> None:
        """Ends a program, and all that it has started, as the loss of its machine would."""
        process = self.running.pop(name)
        for pid in members({process.pid}):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Ends all, the last one first; returns when nothing of them is left."""
        for name in reversed(list(self.running)):
            process = self.running.pop(name)
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS_MAX)
            for pid in members({process.pid}):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    @contextlib.contextmanager
    def peak_memory(self, *more: int) -> Iterator[Callable[[], float]]:
        """Measures the most memory, in MiB, that all of them took at a time while the `with` lasts.

        Shared pages count once (proportional set size), so that forked workers aren't charged twice. `more` are other
        processes that belong to the system.
        """
        peak, over = 0.0, threading.Event()
        sessions = {process.pid for process in self.running.values()}

        def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, sum(pss_mib(pid) for pid in members(sessions) | set(more)))
                if over.wait(SAMPLE_SECONDS):
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield lambda: peak
        finally:
            over.set()
            watcher.join()


def members(sessions: set[int]) -> set[int]:
    """All processes of some sessions, and those that they have started in sessions of their own."""
    known: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # After the name, which may hold anything: state, parent, group, session.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                known[int(entry.name)] = (int(fields[1]), int(fields[3]))
    found = {pid for pid, (_, session) in known.items() if session in sessions}
    while more := {pid for pid, (parent, _) in known.items() if parent in found} - found:
        found |= more
    return found


def pss_mib(pid: int) -> float:
    """Proportional set size of a process in MiB; 0 when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
