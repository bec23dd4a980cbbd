"""What a worker holds: shared by its loop and its heartbeat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gristmill.worker.wire import Attempt


@dataclass
class _Lease:
    deadline: float | None
    stopped: bool = False
    stop: Callable[[], None] | None = None
    progress: dict[str, Any] | None = None


class Held:
    """The attempts whose leases are the worker's, and what the heartbeat has learnt."""

    def __init__(self, another_life: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._leases: dict[Attempt, _Lease] = {}
        self._another_life = another_life
        self._store = ""
        self._lived: float | None = None
        self.draining = False

    def begin(self, attempt: Attempt, timeout_ms: int | None) -> None:
        """A lease has begun."""
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        with self._lock:
            self._leases[attempt] = _Lease(deadline)

    def runs(self, attempt: Attempt, stop: Callable[[], None]) -> bool:
        """The attempt is about to run, and `stop` ends it. False when it is to stop already."""
        with self._lock:
            lease = self._leases.get(attempt)
            if lease is None or lease.stopped:
                return False
            lease.stop = stop
            return True

    def end(self, attempt: Attempt) -> None:
        """A lease is about to end: the heartbeat doesn't hold it up any more."""
        with self._lock:
            self._leases.pop(attempt, None)

    def holds(self, attempt: Attempt) -> bool:
        """Whether the attempt is at hand."""
        with self._lock:
            return attempt in self._leases

    def was_stopped(self, attempt: Attempt) -> bool:
        """Whether the store has said that the attempt isn't the worker's any more."""
        with self._lock:
            lease = self._leases.get(attempt)
            return lease is not None and lease.stopped

    def report_progress(self, attempt: Attempt, progress: dict[str, Any]) -> None:
        """Says how far an attempt is."""
        with self._lock:
            lease = self._leases.get(attempt)
            if lease is not None:
                lease.progress = progress

    def leases(self) -> list[tuple[Attempt, int | None, dict[str, Any] | None]]:
        """What the next heartbeat says: attempts, milliseconds left to their deadlines, how far they are."""
        now = time.monotonic()
        with self._lock:
            return [
                (
                    attempt,
                    None if lease.deadline is None else max(0, int((lease.deadline - now) * 1000)),
                    lease.progress,
                )
                for attempt, lease in self._leases.items()
                if not lease.stopped
            ]

    def stop(self, attempts: Iterable[Attempt]) -> None:
        """The store says that these aren't the worker's any more."""
        stops = []
        with self._lock:
            for attempt in attempts:
                lease = self._leases.get(attempt)
                if lease is not None and not lease.stopped:
                    lease.stopped = True
                    stops.append(lease.stop)
        for stop in stops:
            if stop is not None:
                stop()

    def stop_all(self) -> None:
        """All that runs is to stop."""
        with self._lock:
            stops = [lease.stop for lease in self._leases.values() if lease.stop is not None]
        for stop in stops:
            stop()

    def saw_store(self, life: str) -> None:
        """Takes note of the store's life, which answered now; tells of one that wasn't known."""
        with self._lock:
            before, self._store = self._store, life
            if before in ("", life):
                self._lived = time.monotonic()
        if before != life:
            self._another_life()

    def store_lived_at(self) -> float | None:
        """Until when the store is known to have lived on; what it was told long enough before can't be lost."""
        with self._lock:
            return self._lived
