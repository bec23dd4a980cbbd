"""Messages about work as bytes: MessagePack with named fields behind one version byte.

Fields that aren't known are skipped, as in all messages; a higher version is refused. Version 2 is version 1 in a zlib
stream: schedulers write it when all workers that live read it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gristmill.errors import VersionError, missing_extra
from gristmill.limits import ERROR_TEXT_BYTES_MAX, SHARDS

try:
    import msgpack
except ImportError as error:  # pragma: no cover
    raise missing_extra("msgpack", "worker") from error

VERSION = 2
"""The highest version that is read."""
BASE = 1
"""The version that everybody reads, and that is written."""
INFLATED_BYTES_MAX = 16 << 20
"""Bytes of a value that is read from a compressed message, so that a small one can't fill the memory."""


def encode(value: Any) -> bytes:
    """The bytes of a value."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return bytes([BASE]) + packed


def decode(what: str, data: bytes) -> Any:
    """The value of some bytes; `what` names it in the error.

    Raises:
        VersionError: when a later version wrote it.
        ValueError: when it is damaged.
    """
    if not data:
        raise ValueError(f"{what} is empty")
    if not 0 < data[0] <= VERSION:
        raise VersionError(f"{what} has version {data[0]}; this program reads versions up to {VERSION}")
    body = data[1:] if data[0] == BASE else _inflate(what, data[1:])
    return msgpack.unpackb(body, raw=False, strict_map_key=False)


def _inflate(what: str, body: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(body, INFLATED_BYTES_MAX)
    except zlib.error as error:
        raise ValueError(f"{what} can't be decompressed: {error}") from error
    if not stream.eof:
        raise ValueError(f"{what} is cut off, or over {INFLATED_BYTES_MAX} bytes when decompressed")
    return inflated


@dataclass(frozen=True, order=True)
class Attempt:
    """One try at a task: the run, the task's place and tag, and the number of the try."""

    run: str
    index: int
    tag: int
    number: int

    @property
    def shard(self) -> int:
        """The shard that the run belongs to."""
        return int(self.run[-1], 16) % SHARDS

    def key(self) -> str:
        """As the store's scripts take it."""
        return f"{self.run}:{self.index:08x}:{self.tag:08x}:{self.number:04x}"

    def to_wire(self) -> dict[str, Any]:
        """As messages have it."""
        return {"run": self.run, "task": {"index": self.index, "tag": self.tag}, "attempt": self.number}

    def __str__(self) -> str:
        return f"{self.run}:{self.index}#{self.number}"


@dataclass(frozen=True)
class Work:
    """One attempt to work on."""

    attempt: Attempt
    name: str
    step: str
    payload: bytes
    inputs: Mapping[str, bytes]
    """Outputs of the steps before, by their names."""
    timeout_ms: int | None


@dataclass(frozen=True)
class Assignment:
    """Work for one worker: some attempts of one shard."""

    shard: int
    solo: bool
    """Whether it must run with no neighbour on the worker, because a worker was lost with it before."""
    work: tuple[Work, ...]

    @staticmethod
    def decode(body: bytes) -> Assignment:
        """The assignment of a message's body."""
        value = decode("an assignment", body)
        works = tuple(work for part in value["parts"] for work in _works(part))
        return Assignment(value["shard"], value["solo"], works)


def _works(part: Mapping[str, Any]) -> Iterator[Work]:
    inputs = {given["step"]: _output(given["value"]) for given in part["inputs"]}
    outputs = {step: output for step, output in inputs.items() if output is not None}
    for index, number in zip(part["tasks"], part["attempts"], strict=True):
        attempt = Attempt(part["run"], index, part["tag"], number)
        yield Work(attempt, part["step"], part["step"], part["payload"], outputs, part["timeout_ms"])


def _output(value: Any) -> bytes | None:
    output = value.get("output") if isinstance(value, Mapping) else None
    return output if isinstance(output, bytes) else None


@dataclass(frozen=True)
class Failure:
    """Why a task failed: a code for programs, a sentence for people and, where there is one, what to do."""

    code: str
    message: str
    hint: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """As messages have it; long texts are cut."""
        found = {"code": self.code, "message": _cut(self.message)}
        if self.hint is not None:
            found["hint"] = _cut(self.hint)
        return found


def _cut(text: str) -> str:
    """Keeps the start and the end of a text that is over the limit: what was attempted, and the cause."""
    data = text.encode()
    if len(data) <= ERROR_TEXT_BYTES_MAX:
        return text
    half = ERROR_TEXT_BYTES_MAX // 2 - 8
    return data[:half].decode(errors="ignore") + " [...] " + data[-half:].decode(errors="ignore")


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: its word on the wire, and what comes with it."""

    word: str
    body: Any = None

    @staticmethod
    def succeeded(output: bytes) -> Outcome:
        """It is done."""
        return Outcome("succeeded", {"output": output, "cached": False})

    @staticmethod
    def failed(failure: Failure) -> Outcome:
        """It went wrong."""
        return Outcome("failed", failure.to_wire())

    @staticmethod
    def rejected(reason: str) -> Outcome:
        """A gate said no."""
        return Outcome("rejected", {"reason": _cut(reason)})

    @staticmethod
    def returned(cause: str) -> Outcome:
        """It is handed back: `draining` or `unstarted`."""
        return Outcome("returned", cause)

    @staticmethod
    def stopped() -> Outcome:
        """It was told to stop, and has."""
        return Outcome("stopped")

    @property
    def kind(self) -> str:
        """What the rules of a report go by."""
        return {"succeeded": "success", "stopped": "stopped"}.get(self.word, "other")

    def to_wire(self) -> Any:
        """As messages have it."""
        return self.word if self.body is None else {self.word: self.body}


@dataclass(frozen=True)
class Report:
    """How one attempt ended, said by the worker that had it."""

    attempt: Attempt
    started_us: int
    slot_us: int
    outcome: Outcome = field(default_factory=Outcome.stopped)

    def encode(self) -> bytes:
        """Its bytes."""
        return encode(
            {
                "attempt": self.attempt.to_wire(),
                "started_us": self.started_us,
                "slot_us": self.slot_us,
                "outcome": self.outcome.to_wire(),
            }
        )
