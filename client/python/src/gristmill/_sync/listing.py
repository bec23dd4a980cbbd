# Made from `_async/listing.py` by `tools/unasync.py`; change that file.
"""Things of one kind, as pages have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from gristmill._sync.transport import Transport
from gristmill.requests import Request

T = TypeVar("T")


class Listing(Generic[T]):
    """Things of one kind, over as many pages as there are."""

    def __init__(
        self, transport: Transport, request: Request, parse: Callable[[Mapping[str, Any]], T], limit: int | None
    ) -> None:
        self._transport, self._request, self._parse, self._limit = transport, request, parse, limit

    def __iter__(self) -> Iterator[T]:
        for item in self._transport.pages(self._request, self._limit):
            yield self._parse(item)

    def all(self) -> list[T]:
        """All of them as a list."""
        return [item for item in self]
