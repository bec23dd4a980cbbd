"""Renewing leases, on a thread and a connection of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
from dataclasses import dataclass
from typing import Any

from gristmill.errors import GristmillError
from gristmill.limits import HEARTBEAT_S
from gristmill.worker.held import Held
from gristmill.worker.store import Store
from gristmill.worker.wire import VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Identity:
    """What a worker says of itself."""

    worker: str
    pools: tuple[str, ...]
    slots: int


class Heartbeat:
    """Beats each second until it is ended."""

    def __init__(self, store: Store, identity: Identity, held: Held) -> None:
        self._store, self._identity, self._held = store, identity, held
        self._now = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    def is_started(self) -> bool:
        """Whether it beats."""
        return self._thread.is_alive()

    def beat_now(self) -> None:
        """Beats at once."""
        self._now.set()

    def end(self) -> None:
        """Ends the beating, and waits for a beat that is under way."""
        self._ended = True
        self._now.set()
        self._thread.join()
        self._store.close()

    def _run(self) -> None:
        while not self._ended:
            self.beat()
            self._now.wait(HEARTBEAT_S)
            self._now.clear()

    def beat(self) -> bool:
        """Beats once; true when the store answered."""
        identity, leases = self._identity, self._held.leases()
        presence: dict[str, Any] = {
            "pools": list(identity.pools),
            "slots": identity.slots,
            "draining": self._held.draining,
            "about": {"labels": {}, "host": socket.gethostname(), "pid": os.getpid(), "reads": VERSION},
            "held": [[attempt.to_wire(), progress] for attempt, _, progress in leases],
        }
        try:
            held = [(attempt, left) for attempt, left, _ in leases]
            stop, life = self._store.renew(identity.worker, presence, held)
        except GristmillError as error:
            log.warning("a heartbeat failed: %s", error)
            return False
        self._held.stop(stop)
        self._held.saw_store(life)
        return True
