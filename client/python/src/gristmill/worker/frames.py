"""Messages between a worker and its child processes: MessagePack behind four bytes of length."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

from gristmill.worker import wire

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""More than any message of ours has; past it the other end speaks something else."""


class Frames:
    """Messages over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        # A task may say how far it is from threads of its own.
        self._lock = threading.Lock()

    def send(self, value: Any) -> None:
        """Sends a message.

        Raises:
            OSError: when the other end is gone.
        """
        body = wire.encode(value)
        with self._lock:
            self._connection.sendall(struct.pack(">I", len(body)) + body)

    def receive(self) -> Any:
        """The next message; nothing at the end."""
        head = self._exactly(4)
        if head is None:
            return None
        (length,) = struct.unpack(">I", head)
        if length > FRAME_BYTES_MAX:
            raise ValueError(f"a message of {length} bytes is over the limit")
        body = self._exactly(length)
        return None if body is None else wire.decode("a message", body)

    def _exactly(self, count: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._connection.recv(count - len(parts))
            except ConnectionError:
                return None
            if not part:
                return None
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """Closes the socket."""
        self._connection.close()
