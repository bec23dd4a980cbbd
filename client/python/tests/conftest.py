"""Real servers and real processes for the tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVERS = ROOT / "deploy" / "local" / "servers"
GOLDEN = ROOT / "protocol" / "tests" / "golden"

PATIENCE_S = 120.0
"""Longer than anything here takes on a busy machine; only a fault reaches it."""
LOOK_S = 0.05
"""Between two looks at what is waited for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gristmill", default=os.environ.get("GRISTMILL_BIN"), help="the program to test against")


def wait_for(what: str, condition: Callable[[], Any], limit_s: float = PATIENCE_S) -> Any:
    """Waits until the condition gives something, and returns it."""
    until = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < until, f"{what} didn't come within {limit_s} s"
        time.sleep(LOOK_S)


class Process:
    """A process whose output goes into a file."""

    def __init__(self, log: Path, *command: str, env: Mapping[str, str], cwd: Path) -> None:
        self.log = log
        self._file = log.open("ab")
        self.process = subprocess.Popen(
            command, stdout=self._file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=dict(env), cwd=cwd
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def await_line(self, pattern: str) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.text())
            assert match or self.process.poll() is None, f"{self.process.args!r} ended:\n{self.text()}"
            return match

        line: re.Match[str] = wait_for(f"`{pattern}` in {self.log}", found)
        return line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Asks for the end, and waits for it."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._file.close()


@pytest.fixture(scope="session")
def binary(request: pytest.FixtureRequest) -> str:
    found = request.config.getoption("--gristmill")
    if not found:
        pytest.fail("say which program to test against: --gristmill PROGRAM, or GRISTMILL_BIN")
    return str(Path(found).resolve())


class Servers:
    """RabbitMQ, Redis and S3 of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._do("start", str(folder))
        said = (folder / "env").read_text()
        self.env = dict(re.findall(r"export (\w+)=(\S+)", said))

    def _do(self, *arguments: str) -> None:
        done = subprocess.run([str(SERVERS), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def kill(self, name: str) -> None:
        self._do("stop-one", name, str(self.folder), "--kill")

    def start(self, name: str) -> None:
        self._do("start-one", name, str(self.folder))

    def end(self) -> None:
        self._do("stop", str(self.folder))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("servers"))
    yield found
    found.end()


@pytest.fixture(scope="session")
def environment(servers: Servers) -> dict[str, str]:
    """The environment of processes that work on the servers."""
    return {**_clean(), **servers.env}


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")}


class Cluster:
    """A scheduler and a worker of Gristmill's own, and whatever Python workers a test starts."""

    def __init__(self, binary: str, environment: Mapping[str, str], folder: Path) -> None:
        self.binary, self.environment, self.folder = binary, environment, folder
        self._started = 0
        self._processes: list[Process] = []

    def start(self, *command: str, cwd: Path | None = None) -> Process:
        self._started += 1
        log = self.folder / f"{Path(command[0]).name}-{self._started}.log"
        process = Process(log, *command, env=self.environment, cwd=cwd or self.folder)
        self._processes.append(process)
        return process

    def python_worker(self, *options: str, module: str = "tasks_of_tests", folder: Path | None = None) -> Process:
        """A Python worker of the tasks in `tests/tasks_of_tests.py`, or of another module, ready to work."""
        command = ["-m", "gristmill.worker", module, "--log-level", "DEBUG", *options]
        process = self.start(sys.executable, *command, cwd=folder or Path(__file__).parent)
        process.await_line(r"w-[0-9a-f]{16} serves")
        return process

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.binary, *arguments], env=dict(self.environment), cwd=self.folder, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def submit(self, steps: Mapping[str, Any]) -> str:
        """Submits a pipeline of these steps; the run's id."""
        path = self.folder / f"pipeline-{time.monotonic_ns()}.json"
        path.write_text(json.dumps({"name": "python-steps", "steps": steps}))
        return self.submit_file(path)

    def submit_file(self, path: Path) -> str:
        """Submits a pipeline file; the run's id."""
        done = self.command("submit", str(path))
        found = re.search(r"run-[0-9a-f]{32}", done.stdout)
        assert found, done.stdout + done.stderr
        return found.group()

    def show(self, run: str) -> dict[str, Any]:
        done = self.command("show", run, "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def wait(self, run: str, limit_s: float = PATIENCE_S) -> dict[str, Any]:
        """Waits until a run has ended; how it is shown then."""

        def ended() -> dict[str, Any] | None:
            shown = self.show(run)
            return shown if shown["status"] in ("succeeded", "failed", "rejected", "cancelled") else None

        found: dict[str, Any] = wait_for(f"the end of {run}", ended, limit_s)
        return found

    def end(self) -> None:
        for process in reversed(self._processes):
            if process.process.poll() is None:
                process.signal(signal.SIGCONT)
                process.kill()


@pytest.fixture(scope="module")
def cluster(binary: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(binary, environment, tmp_path_factory.mktemp("cluster"))
    found.start(binary, "scheduler").await_line("is ready")
    found.start(binary, "worker", "--slots", "1").await_line("is ready")
    yield found
    found.end()
