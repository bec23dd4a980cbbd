"""What the tasks do: the same functions in each system that runs Python."""

import os
import time
from pathlib import Path

_marks: dict[int, int] = {}


def mark(load: str, what: str, index: int) -> None:
    """Notes that a task has started (`s`) or ended (`e`), in a file of this process; survives its kill.

    A line costs some microseconds and counts for all systems alike.
    """
    pid = os.getpid()
    if pid not in _marks:
        path = Path(os.environ["PEERS_MARKS"]) / f"{pid}.marks"
        _marks[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(_marks[pid], f"{load} {what} {index} {time.time_ns()}\n".encode())


def noop(index: int) -> int:
    """Nothing; the number comes back, so that results can be checked."""
    return index


def hop(load: str, done: int) -> int:
    """A step of a chain: one more than the step before."""
    mark(load, "s", done)
    mark(load, "e", done)
    return done + 1


def total(numbers: list[int]) -> int:
    """Joins a fan-out."""
    return sum(numbers)


def nap(load: str, index: int, seconds: float) -> int:
    """A task that takes a while and tells when it started and ended."""
    mark(load, "s", index)
    time.sleep(seconds)
    mark(load, "e", index)
    return index
