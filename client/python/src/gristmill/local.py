"""A Gristmill of one's own, for as long as a `with` lasts: no servers needed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO

from gristmill._sync.client import Client
from gristmill.errors import NotFoundError, UnavailableError

START_S = 60.0
"""Seconds in which the process must say where it listens. It takes a tenth of one."""
STOP_S = 30.0
"""Seconds from asking for the end to killing: what runs may take 25."""
LINES_MAX = 200
"""Lines of its output that are kept, to say what was wrong."""

API = re.compile(r"the API is at (https?://[^\s;,]+)")
SERVE = re.compile(r"scoring at (https?://[^\s;,]+)")


def find_binary(binary: str | Path | None = None) -> str:
    """The program `gristmill`: the given one, else `GRISTMILL_BIN`, else the one on the `PATH`.

    Raises:
        NotFoundError: when there is none.
    """
    found = str(binary) if binary else os.environ.get("GRISTMILL_BIN") or shutil.which("gristmill")
    if not found or not shutil.which(found):
        what = f"`{found}` isn't a program" if found else "the program `gristmill` isn't on the PATH"
        raise NotFoundError(what, hint="build it with `cargo install --path .`, or set GRISTMILL_BIN to where it is")
    return found


class Local(Client):
    """A client of a process that it has started, for runs and for scoring. It ends with the `with`."""

    def __init__(self, folder: str | Path | None = None, *, binary: str | Path | None = None) -> None:
        program = find_binary(binary)
        self._scratch = tempfile.TemporaryDirectory(prefix="gristmill-") if folder is None else None
        self.folder = Path(self._scratch.name if self._scratch else folder or ".").resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lines: list[str] = []
        self._found: dict[str, str] = {}
        self._ready = threading.Event()
        command = [program, "up", "--api", "127.0.0.1:0", "--serve", "127.0.0.1:0"]
        # In the embedded mode whatever cluster the environment names; its state stays in the folder.
        hidden = ("GRISTMILL_BROKER", "GRISTMILL_STATE", "GRISTMILL_ARTIFACTS", "GRISTMILL_CONFIG")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment["GRISTMILL_HOME"] = str(self.folder / ".gristmill")
        self._process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        if not self._ready.wait(START_S) or "api" not in self._found or "serve" not in self._found:
            self._stop()
            said = "\n".join(self._lines[-20:])
            raise UnavailableError(f"`{' '.join(command)}` didn't say where it listens:\n{said}")
        super().__init__(self._found["api"], serve=self._found["serve"])
        self.serve = self._found["serve"]

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._lines = [*self._lines[-LINES_MAX:], line.rstrip()]
            for name, pattern in (("api", API), ("serve", SERVE)):
                match = pattern.search(line)
                if match:
                    self._found.setdefault(name, match.group(1))
            if len(self._found) == 2:
                self._ready.set()
        self._ready.set()

    @property
    def output(self) -> str:
        """The last lines of what the process has said."""
        return "\n".join(self._lines)

    def close(self) -> None:
        """Ends the process. A folder that was given stays, with its runs and models."""
        super().close()
        self._stop()

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()
        if self._scratch is not None:
            self._scratch.cleanup()

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def local(folder: str | Path | None = None, *, binary: str | Path | None = None) -> Local:
    """Starts a Gristmill in a folder (else in one that goes away), and gives a client of it.

    ```python
    with gristmill.local() as client:
        client.submit(pipeline).wait()
        client.score("flight-delays", rows)
    ```

    Raises:
        NotFoundError: when the program isn't there.
        UnavailableError: when it doesn't start.
    """
    return Local(folder, binary=binary)
