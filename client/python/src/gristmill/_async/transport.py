"""Requests over one pool of connections: retries, errors, pages, events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from gristmill.environment import api_url, setting
from gristmill.errors import GristmillError, InternalError
from gristmill.requests import (
    ATTEMPTS_MAX,
    REPEATABLE_STATUS,
    EventReader,
    Request,
    chunks_of,
    failure_of,
    pause_before,
    unreachable,
)

CONNECTIONS_MAX = 20
"""Connections of one client: more requests than that at a time wait for their turn."""
EVENTS_SILENCE_S = 35.0
"""The server says each 10 s that a stream of events lives."""


class AsyncTransport:
    """Connections to one server, which are kept."""

    def __init__(self, url: str | None, token: str | None, timeout: float) -> None:
        self.url = api_url(url)
        secret = setting(token, "GRISTMILL_TOKEN")
        headers = {"user-agent": "gristmill-python/0.1"}
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
        self._timeout = timeout
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=timeout, limits=limits)

    async def ask(self, request: Request) -> Any:
        """The answer's JSON; nothing for an answer without a body."""
        response = await self.respond(request)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise InternalError(f"the server at {self.url} answered with something that is no JSON") from error

    async def respond(self, request: Request) -> httpx.Response:
        """The answer, after as many attempts as make sense.

        Raises:
            GristmillError: what the server says is wrong, or that it can't be reached.
        """
        attempts = ATTEMPTS_MAX if request.repeatable else 1
        for attempt in range(1, attempts + 1):
            retry_after = None
            try:
                response = await self._http.request(
                    request.method,
                    request.path,
                    params=request.parameters(),
                    json=request.json,
                    headers=dict(request.headers or {}),
                )
            except httpx.TransportError as error:
                # Without a connection nothing was done, and even what isn't repeatable could be sent.
                failure: GristmillError = unreachable(self.url, error)
                cause: Exception | None = error
            else:
                if response.is_success:
                    return response
                failure, cause = failure_of(response), None
                if response.status_code not in REPEATABLE_STATUS:
                    raise failure
                retry_after = response.headers.get("retry-after")
            if attempt == attempts:
                raise failure from cause
            await asyncio.sleep(pause_before(attempt, retry_after))
        raise AssertionError("the last attempt returns or raises")

    async def upload(self, data: bytes | Path) -> dict[str, Any]:
        """Keeps bytes, or those of a file, as an artifact; its digest and size. The same bytes are kept once."""
        for attempt in range(1, ATTEMPTS_MAX + 1):
            content = data if isinstance(data, bytes) else self._pieces(data)
            try:
                response = await self._http.post(
                    "/v1/files", content=content, headers={"content-type": "application/octet-stream"}, timeout=None
                )
            except httpx.TransportError as error:
                if attempt == ATTEMPTS_MAX:
                    raise unreachable(self.url, error) from error
            else:
                if response.is_success:
                    found: dict[str, Any] = response.json()
                    return found
                if response.status_code not in REPEATABLE_STATUS or attempt == ATTEMPTS_MAX:
                    raise failure_of(response)
            await asyncio.sleep(pause_before(attempt, None))
        raise AssertionError("the last attempt returns or raises")

    async def _pieces(self, file: Path) -> AsyncIterator[bytes]:
        for piece in chunks_of(file):
            yield piece

    async def pages(self, request: Request, limit: int | None) -> AsyncIterator[dict[str, Any]]:
        """The items of all pages, or the first so many of them. A request with a page of its own has only that one."""
        if not request.paged:
            for item in (await self.ask(request))["items"][:limit]:
                yield item
            return
        left, cursor = limit, None
        while left is None or left > 0:
            size = 200 if left is None else min(left, 200)
            query = {**(request.query or {}), "limit": size, "cursor": cursor}
            page = await self.ask(Request(request.method, request.path, query))
            for item in page["items"][:left]:
                yield item
            cursor = page.get("next")
            left = None if left is None else left - len(page["items"])
            if not cursor:
                return

    async def events(self, request: Request, silence_s: float) -> AsyncIterator[tuple[str, Any]]:
        """A stream of events, and comments that say that it lives, until the server closes it or is silent for so long.

        Raises:
            httpx.TransportError: when the connection breaks; whoever wants more asks again.
        """
        timeout = httpx.Timeout(self._timeout, read=min(silence_s, EVENTS_SILENCE_S))
        reader = EventReader()
        async with self._http.stream(
            request.method,
            request.path,
            params=request.parameters(),
            headers={"accept": "text/event-stream"},
            timeout=timeout,
        ) as response:
            if not response.is_success:
                await response.aread()
                raise failure_of(response)
            async for line in response.aiter_lines():
                event = reader.line(line)
                if event is not None:
                    yield event[0], json.loads(event[1])

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()
