"""Things of one kind, as pages have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Generic, TypeVar

from gristmill._async.transport import AsyncTransport
from gristmill.requests import Request

T = TypeVar("T")


class AsyncListing(Generic[T]):
    """Things of one kind, over as many pages as there are."""

    def __init__(
        self, transport: AsyncTransport, request: Request, parse: Callable[[Mapping[str, Any]], T], limit: int | None
    ) -> None:
        self._transport, self._request, self._parse, self._limit = transport, request, parse, limit

    async def __aiter__(self) -> AsyncIterator[T]:
        async for item in self._transport.pages(self._request, self._limit):
            yield self._parse(item)

    async def all(self) -> list[T]:
        """All of them as a list."""
        return [item async for item in self]
