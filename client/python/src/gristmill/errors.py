"""What can go wrong, as classes: one for each code of Gristmill's table of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Complaint:
    """One mistake of a pipeline file: where it is, what is wrong, and what to write instead."""

    message: str
    line: int | None = None
    column: int | None = None
    hint: str | None = None

    @staticmethod
    def of(data: Mapping[str, Any]) -> Complaint:
        """The complaint that a server sent."""
        return Complaint(str(data.get("message", "")), data.get("line"), data.get("column"), data.get("hint"))

    def __str__(self) -> str:
        place = f"line {self.line}, column {self.column}: " if self.line else ""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class GristmillError(Exception):
    """Something that Gristmill can't do. `code` is for programs, `message` and `hint` are for people."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None, complaints: Sequence[Complaint] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.complaints = tuple(complaints)

    def __str__(self) -> str:
        lines = [self.message, *(f"  {complaint}" for complaint in self.complaints)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class ArtifactCorruptError(GristmillError):
    """The stored bytes of an artifact don't have its digest."""

    code = "artifact_corrupt"


class ArtifactMissingError(GristmillError):
    """An artifact that something names isn't in the store."""

    code = "artifact_missing"


class BadInputError(GristmillError):
    """The data or the request can't be used as asked."""

    code = "bad_input"


class BadPipelineError(GristmillError):
    """The pipeline can't be run as written; `complaints` has every mistake."""

    code = "bad_pipeline"


class CancelledError(GristmillError):
    """Somebody asked for it to stop."""

    code = "cancelled"


class ConflictError(GristmillError):
    """It contradicts what is there already."""

    code = "conflict"


class DeniedError(GristmillError):
    """The caller may not do that, or gave no token."""

    code = "denied"


class InternalError(GristmillError):
    """A fault of Gristmill."""

    code = "internal"


class NotFoundError(GristmillError):
    """What was asked for doesn't exist."""

    code = "not_found"


class OutOfDiskError(GristmillError):
    """The disk is full."""

    code = "out_of_disk"


class OutOfMemoryError(GristmillError):
    """The memory limit was reached."""

    code = "out_of_memory"


class TimedOutError(GristmillError):
    """It took longer than its timeout."""

    code = "timed_out"


class TooLargeError(GristmillError):
    """It is over one of the limits."""

    code = "too_large"


class UnavailableError(GristmillError):
    """A server can't be reached just now."""

    code = "unavailable"


class VersionError(GristmillError):
    """It was written by a version that the reader doesn't know."""

    code = "version"


class RunFailedError(GristmillError):
    """A run ended, and didn't succeed. `status` says how; `run` is its id."""

    code = "internal"

    def __init__(self, message: str, *, run: str, status: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.run = run
        self.status = status


class MissingExtraError(GristmillError, ImportError):
    """A package that only some uses need isn't installed."""

    code = "not_found"


CODES: dict[str, type[GristmillError]] = {
    kind.code: kind
    for kind in (
        ArtifactCorruptError,
        ArtifactMissingError,
        BadInputError,
        BadPipelineError,
        CancelledError,
        ConflictError,
        DeniedError,
        InternalError,
        NotFoundError,
        OutOfDiskError,
        OutOfMemoryError,
        TimedOutError,
        TooLargeError,
        UnavailableError,
        VersionError,
    )
}
"""The class of each code."""


def error_of(data: Mapping[str, Any]) -> GristmillError:
    """The error of an answer's `error` object, `{"code", "message", "hint"?, "complaints"?}`."""
    kind = CODES.get(str(data.get("code")), InternalError)
    complaints = [Complaint.of(complaint) for complaint in data.get("complaints") or ()]
    return kind(
        str(data.get("message") or data.get("error") or "no message"), hint=data.get("hint"), complaints=complaints
    )


def missing_extra(package: str, extra: str) -> MissingExtraError:
    """The error of a use that needs an extra of this package."""
    return MissingExtraError(f"`{package}` isn't installed", hint=f"pip install 'gristmill[{extra}]'")
