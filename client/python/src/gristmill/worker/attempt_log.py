"""What an attempt prints and logs: shown by the worker as it comes, and kept, so that the API can show it too."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from gristmill.errors import GristmillError
from gristmill.limits import ATTEMPT_LOG_BYTES_MAX
from gristmill.worker.artifacts import Artifacts

log = logging.getLogger(__name__)


@contextlib.contextmanager
def kept_log(artifacts: Artifacts, run: str, task: int, attempt: int) -> Iterator[None]:
    """Keeps what is written to standard output and error meanwhile, of C libraries and child processes too.

    It is an artifact with a mark `attempt-log/<run>/<task>.<attempt>.<hex of its digest>`; of a long one the end is kept.
    """
    with tempfile.TemporaryFile() as file:
        _flush()
        ours = os.dup(1), os.dup(2)
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield
        finally:
            _flush()
            for number, original in zip((1, 2), ours, strict=True):
                os.dup2(original, number)
                os.close(original)
            text = _end(file)
            if text:
                with contextlib.suppress(OSError):
                    os.write(2, text)
                _keep(artifacts, f"attempt-log/{run}/{task}.{attempt}.", text)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _end(file: IO[bytes]) -> bytes:
    """The last bytes of a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - ATTEMPT_LOG_BYTES_MAX))
    return file.read()


def _keep(artifacts: Artifacts, prefix: str, text: bytes) -> None:
    try:
        digest = artifacts.put(text)
        artifacts.mark(prefix + digest.removeprefix("sha256:"))
    except GristmillError as error:
        # The task has done its work; that its log is lost is no reason to do it again.
        log.warning("what the task has logged isn't kept: %s", error)
