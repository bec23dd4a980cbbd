"""The store: Redis, asked through the scripts that Gristmill's own workers send.

A connection is believed only after the server has said which life it is in, and it is given up after any error; so
whatever came over one connection came from one life of the store.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from gristmill.errors import GristmillError, InternalError, UnavailableError, missing_extra
from gristmill.limits import INBOX_MAX, LEASE_MS, STORE_CALL_S
from gristmill.worker import wire
from gristmill.worker.wire import Attempt, Report

try:
    import redis
except ImportError as error:  # pragma: no cover
    raise missing_extra("redis", "worker") from error

PREFIX = "gm"
VERSION_MIN = (6, 2)


class UnsuitableError(GristmillError):
    """The server can't be the store."""

    code = "bad_input"


class Script:
    """A script as the server keeps it: under the SHA-1 of its text."""

    def __init__(self, name: str) -> None:
        folder = resources.files("gristmill.worker") / "scripts"
        self.text = "".join((folder / f"{part}.lua").read_text() for part in ("common", name))
        self.sha1 = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


CLAIM, FINISH, RENEW, PRESENCE, LEAVE = (Script(name) for name in ("claim", "finish", "renew", "presence", "leave"))


class Store:
    """The store's verbs that a worker needs. One call at a time; each within two seconds."""

    def __init__(self, url: str, *, allow_unsafe: bool = False) -> None:
        self._url = url
        self._allow_unsafe = allow_unsafe
        self._lock = threading.Lock()
        self._link: Any = None
        self._life = ""

    def another(self) -> Store:
        """A connection of its own to the same server."""
        return Store(self._url, allow_unsafe=self._allow_unsafe)

    def check(self) -> None:
        """Finds out whether the server will do.

        Raises:
            UnsuitableError: when it won't.
            UnavailableError: when it can't be reached.
        """
        with self._lock:
            self._open()

    def claim(self, shard: int, worker: str, attempts: Sequence[tuple[Attempt, int | None]]) -> list[str] | None:
        """Begins leases; `granted`, `taken`, `stale`, `over` or `settled` for each, nothing when the inbox is full."""
        arguments: list[str | int] = [worker, LEASE_MS, INBOX_MAX]
        for attempt, timeout_ms in attempts:
            arguments += [attempt.key(), _number(timeout_ms)]
        answers = _words(self._ask(CLAIM, _shard(shard), arguments)[0])
        return None if answers == ["busy"] else _of_each(answers, attempts)

    def finish(self, shard: int, worker: str, reports: Sequence[Report]) -> list[str]:
        """Ends leases with reports; `recorded`, `stale`, `settled` or `over` for each."""
        arguments: list[str | int | bytes] = [worker]
        for report in reports:
            arguments += [report.attempt.key(), report.outcome.kind, report.encode()]
        return _of_each(_words(self._ask(FINISH, _shard(shard), arguments)[0]), reports)

    def renew(
        self, worker: str, presence: dict[str, Any], held: Sequence[tuple[Attempt, int | None]]
    ) -> tuple[list[Attempt], str]:
        """Renews leases and says what the worker does; the attempts to stop, and the store's life."""
        stop: list[Attempt] = []
        lives = set()
        for shard in sorted({attempt.shard for attempt, _ in held}):
            here = [(attempt, left) for attempt, left in held if attempt.shard == shard]
            arguments: list[str | int] = [worker, LEASE_MS]
            for attempt, left_ms in here:
                arguments += [attempt.key(), _number(left_ms)]
            answer, life = self._ask(RENEW, _shard(shard), arguments)
            answers = _of_each(_words(answer), here)
            stop += [attempt for (attempt, _), word in zip(here, answers, strict=True) if word == "stop"]
            lives.add(life)
        said = wire.encode(presence)
        _, life = self._ask(PRESENCE, f"{PREFIX}:{{workers}}:", [worker, said, LEASE_MS])
        if lives - {life}:
            raise UnavailableError("the store began another life during a heartbeat")
        return stop, life

    def leave(self, worker: str) -> None:
        """Forgets the worker."""
        self._ask(LEAVE, f"{PREFIX}:{{workers}}:", [worker])

    def _ask(self, script: Script, key: str, arguments: Iterable[str | int | bytes]) -> tuple[Any, str]:
        with self._lock:
            link = self._link or self._open()
            try:
                try:
                    answer = link.evalsha(script.sha1, 1, key, *arguments)
                except redis.exceptions.NoScriptError:
                    # Nothing was done: a server that was started anew doesn't know the scripts yet.
                    answer = link.eval(script.text, 1, key, *arguments)
            except (redis.RedisError, OSError) as error:
                self._give_up()
                raise UnavailableError(f"the store can't be asked: {error}") from error
            return answer, self._life

    def _open(self) -> Any:
        link = redis.Redis.from_url(
            self._url,
            socket_timeout=STORE_CALL_S,
            socket_connect_timeout=STORE_CALL_S,
            single_connection_client=True,
            retry=None,
        )
        try:
            info = link.info()
        except (redis.RedisError, OSError) as error:
            link.close()
            raise UnavailableError(f"the store can't be reached: {error}") from error
        if info.get("loading") == 1 or info.get("role") == "slave":
            link.close()
            raise UnavailableError("the store is loading its data, or is a replica")
        _check(info, self._allow_unsafe)
        self._link, self._life = link, str(info["run_id"])
        return link

    def _give_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._give_up()


def _check(info: dict[str, Any], allow_unsafe: bool) -> None:
    """Refuses a server that can't do what is needed, or that may lose what it was told."""
    version = str(info.get("redis_version", "0"))
    parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if tuple(parts) < VERSION_MIN:
        raise UnsuitableError(f"the Redis server has version {version}", hint="run Redis 6.2 or newer")
    if info.get("cluster_enabled") == 1:
        raise UnsuitableError("the Redis server is a Redis Cluster", hint="run a single Redis server")
    advice = []
    if info.get("aof_enabled") != 1:
        advice.append("set `appendonly yes`")
    if info.get("maxmemory_policy") != "noeviction":
        advice.append("set `maxmemory-policy noeviction`")
    if advice and not allow_unsafe:
        raise UnsuitableError("the Redis server may lose what it is told", hint=" and ".join(advice))


def _shard(shard: int) -> str:
    return f"{PREFIX}:{{{shard}}}:"


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _words(answer: Any) -> list[str]:
    return [word.decode() if isinstance(word, bytes) else str(word) for word in answer]


def _of_each(answers: list[str], asked: Sequence[Any]) -> list[str]:
    if len(answers) != len(asked):
        raise InternalError(f"the store gave {len(answers)} answers to {len(asked)} questions")
    return answers
