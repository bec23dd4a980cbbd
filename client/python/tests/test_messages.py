"""Messages have the bytes that Gristmill's own programs read and write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgpack
import pytest

from conftest import GOLDEN, ROOT
from gristmill import limits
from gristmill.errors import CODES, VersionError, error_of
from gristmill.messaging.client import Submission
from gristmill.worker import wire
from gristmill.worker.wire import Assignment, Attempt, Failure, Outcome, Report

PACKAGE = Path(wire.__file__).parent
RUN = "run-019424f8608871d68f8a99f8a2690153"


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.bin").read_bytes()


def said(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def plain(value: Any) -> Any:
    """As JSON has it: bytes are lists of numbers."""
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.stem)
def test_bytes_and_json_say_the_same(path: Path) -> None:
    data = path.read_bytes()
    is_message = path.stem.startswith("submission")
    value = msgpack.unpackb(data) if is_message else wire.decode("it", data)
    assert plain(value) == said(path.stem)
    assert (msgpack.packb(value) if is_message else wire.encode(value)) == data


def test_a_compressed_message_says_the_same() -> None:
    plain_bytes = golden("assignment")
    compressed = bytes([2]) + zlib.compress(plain_bytes[1:])
    assert wire.decode("it", compressed) == wire.decode("it", plain_bytes)
    for damaged in (compressed[:-8], bytes([2]) + b"no stream", bytes([2]) + zlib.compress(bytes(17 << 20))):
        with pytest.raises(ValueError, match="decompressed"):
            wire.decode("it", damaged)


def test_an_assignment_is_read() -> None:
    assignment = Assignment.decode(golden("assignment"))
    (work,) = assignment.work
    assert (assignment.shard, assignment.solo) == (3, False)
    assert work.attempt == Attempt(RUN, 1, 0xFEEDBEEF, 2)
    assert work.attempt.key() == f"{RUN}:00000001:feedbeef:0002"
    assert (work.step, work.timeout_ms) == ("clean", 90_000)
    assert work.payload == golden("payload")
    assert work.inputs == {"trips": golden("output-dataset")}


def test_reports_are_written() -> None:
    outcomes = {
        "report-succeeded": Outcome.succeeded(golden("output-values")),
        "report-failed": Outcome.failed(Failure("out_of_memory", "the task was killed", "give it less")),
        "report-failed-plainly": Outcome.failed(Failure("bad_input", "no")),
        "report-rejected": Outcome.rejected("too few rows"),
        "report-returned": Outcome.returned("draining"),
        "report-stopped": Outcome.stopped(),
    }
    for name, outcome in outcomes.items():
        attempt = Attempt(RUN, 1, 0xFEEDBEEF, 2)
        assert Report(attempt, 1_763_800_000_000_000, 250_000, outcome).encode() == golden(name), name


def test_submissions_are_read_as_they_are_meant() -> None:
    first = said("submission")
    mine = Submission(
        pipeline=first["pipeline"],
        params=first["params"],
        key="nightly",
        namespace="research",
        priority=-3,
        no_cache=True,
    ).to_wire()
    assert mine == {key: value for key, value in first.items() if key not in ("files", "outputs")}


def test_answers_are_read() -> None:
    answers = said("answers")
    assert answers[0] == {"run": RUN}
    refused = error_of({**answers[2], "message": answers[2]["error"]})
    assert refused.code == "bad_pipeline"
    assert "did you mean `noop`" in str(refused.complaints[0].hint)


def test_a_higher_version_and_damage_are_told_apart() -> None:
    with pytest.raises(VersionError, match="version 3"):
        wire.decode("a task", b"\x03\x80")
    with pytest.raises(ValueError, match="empty"):
        wire.decode("a task", b"")
    with pytest.raises(ValueError, match=r".*"):
        wire.decode("a task", b"\x01\xc1")


def test_long_texts_keep_their_start_and_end() -> None:
    cut = Failure("internal", f"start {'é' * 5_000} end").to_wire()["message"]
    assert len(cut.encode()) <= limits.ERROR_TEXT_BYTES_MAX
    assert cut.startswith("start")
    assert cut.endswith("end")


def test_scripts_are_those_of_the_protocol() -> None:
    for script in sorted((PACKAGE / "scripts").glob("*.lua")):
        theirs = ROOT / "protocol" / "scripts" / script.name
        assert script.read_bytes() == theirs.read_bytes(), f"copy {theirs} to {script}"


def test_codes_and_limits_are_those_of_the_protocol() -> None:
    source = (ROOT / "protocol" / "src" / "error.rs").read_text()
    assert set(re.findall(r'ErrorCode::\w+ => "(\w+)"', source)) == set(CODES)
    theirs = dict(re.findall(r"pub const (\w+): \w+ = ([^;]+);", (ROOT / "protocol" / "src" / "limits.rs").read_text()))
    for name, value in vars(limits).items():
        if name.isupper() and name in theirs:
            assert value == eval(theirs[name].replace("_", "")), name
        elif name.endswith("_S"):
            assert value * 1000 == eval(theirs[f"{name}"[:-1] + "MS"].replace("_", "")), name


def test_the_synchronous_client_is_made_of_the_asynchronous_one() -> None:
    tool = Path(__file__).parents[1] / "tools" / "unasync.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
