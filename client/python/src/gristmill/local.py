"""A Gristmill of one's own, for as long as a `with` lasts: no servers needed."""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from gristmill._sync.client import Client
from gristmill.errors import NotFoundError, UnavailableError
from gristmill.scoring import RowsLike, Scores

START_S = 60.0
"""Seconds in which the process must say where it listens. It takes a tenth of one."""
STOP_S = 30.0
"""Seconds from asking for the end to killing: what runs may take 25."""
SERVED_S = 10.0
"""Seconds within which a model that is registered is served: the server looks each second."""
LOOK_S = 0.05
"""Between two looks."""
PR_SET_PDEATHSIG = 1
LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
LINES_MAX = 200
"""Lines of its output that are kept, to say what was wrong."""

API = re.compile(r"the API is at (https?://[^\s;,]+)")
SERVE = re.compile(r"(?:scoring|serving) at (https?://[^\s;,]+)")


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
            # One call into libc, which is loaded already: nothing that another thread could hold a lock of.
            preexec_fn=_end_with_parent if _can_end_with_parent() else None,  # noqa: PLW1509
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
        atexit.register(self.close)

    def score(self, model: str, rows: RowsLike, *, version: str | int | None = None, key: str | None = None) -> Scores:
        """As a client does; a model that was registered just now is waited for."""
        until = time.monotonic() + SERVED_S
        while True:
            try:
                return super().score(model, rows, version=version, key=key)
            except NotFoundError:
                # One that isn't registered either is none.
                self.models.get(model)
                if time.monotonic() > until:
                    raise
            time.sleep(LOOK_S)

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
        atexit.unregister(self.close)
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


def _end_with_parent() -> None:  # pragma: no cover (in the child, between fork and exec)
    """Has the system end the process when its parent is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _can_end_with_parent() -> bool:
    """Whether the system can; it means the thread that starts a process, which must not end before."""
    return LIBC is not None and threading.current_thread() is threading.main_thread()


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
