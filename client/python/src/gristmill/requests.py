"""Requests to the HTTP API as values, and when one is made again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from gristmill.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    GristmillError,
    InternalError,
    NotFoundError,
    TimedOutError,
    TooLargeError,
    UnavailableError,
    VersionError,
    error_of,
)

ATTEMPTS_MAX = 5
"""Attempts of a request that may be repeated; with the pauses between them some four seconds."""
PAUSE_FIRST_S, PAUSE_MAX_S = 0.1, 5.0
"""The pause before a request is repeated; it doubles, up to the longest."""
CHUNK_BYTES = 1024 * 1024
"""Bytes of a file that are read at a time."""
REPEATABLE_STATUS = frozenset({429, 502, 503, 504})
"""What may be over the next time."""

STATUS: dict[int, type[GristmillError]] = {
    400: BadInputError,
    401: DeniedError,
    403: DeniedError,
    404: NotFoundError,
    405: VersionError,
    409: ConflictError,
    413: TooLargeError,
    422: BadInputError,
    429: UnavailableError,
    502: UnavailableError,
    503: UnavailableError,
    504: TimedOutError,
}
"""Errors of answers that don't come from Gristmill itself, but from what stands before it."""


@dataclass(frozen=True)
class Request:
    """One request. `repeatable` says that making it twice is as good as once."""

    method: str
    path: str
    query: Mapping[str, Any] | None = None
    json: Any = None
    headers: Mapping[str, str] | None = None
    repeatable: bool = True
    paged: bool = True
    """Whether a list comes in pages."""

    def parameters(self) -> dict[str, str]:
        """The query as text, without what isn't given."""
        return {key: str(value) for key, value in (self.query or {}).items() if value is not None}


def path(*parts: str | int) -> str:
    """`/v1/…` of some parts, each escaped."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given."""
    return {name: value for name, value in fields.items() if value is not None}


def pause_before(attempt: int, retry_after: str | None) -> float:
    """Seconds to wait before the attempt of this number, from 1; with chance, so that clients don't come together."""
    pause: float = min(PAUSE_FIRST_S * 2 ** (attempt - 1), PAUSE_MAX_S) * random.uniform(0.5, 1.0)
    if retry_after and retry_after.isdigit():
        pause = max(pause, min(float(retry_after), PAUSE_MAX_S))
    return pause


def failure_of(response: httpx.Response) -> GristmillError:
    """The error of an answer that is one; its body has been read."""
    try:
        error = response.json()["error"]
        if isinstance(error, Mapping):
            return error_of(error)
        text = str(error)
    except (ValueError, KeyError, TypeError):
        text = response.text[:500] or response.reason_phrase
    kind = STATUS.get(response.status_code, InternalError)
    return kind(f"{response.request.method} {response.request.url} answered {response.status_code}: {text}")


def unreachable(url: str, error: Exception) -> GristmillError:
    """The error of a server that can't be reached."""
    kind = TimedOutError if isinstance(error, httpx.TimeoutException) else UnavailableError
    what = str(error) or type(error).__name__
    hint = "start it with `gristmill api`, or say where it is with `url=` or GRISTMILL_API"
    return kind(f"the server at {url} can't be reached: {what}", hint=hint)


def chunks_of(file: Path) -> Iterator[bytes]:
    """The bytes of a file, a piece at a time."""
    with file.open("rb") as opened:
        while piece := opened.read(CHUNK_BYTES):
            yield piece


class EventReader:
    """Reads server-sent events line by line."""

    def __init__(self) -> None:
        self._event, self._data = "message", list[str]()

    def line(self, line: str) -> tuple[str, str] | None:
        """Takes a line; the event and its data when it ends one."""
        if line == "":
            event, data = self._event, "\n".join(self._data)
            self._event, self._data = "message", []
            return (event, data) if data else None
        if line.startswith(":"):
            # It lives. Whoever waits may look at the clock.
            return "comment", "null"
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None
