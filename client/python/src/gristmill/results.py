"""What servers answer, as plain values. Fields that this version doesn't know are left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gristmill.errors import GristmillError, error_of

T = TypeVar("T")


def read(kind: type[T], data: Mapping[str, Any], **parsed: Any) -> T:
    """The value of an answer's fields; `parsed` are those that aren't taken as they stand."""
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    plain = {name: value for name, value in data.items() if name in names and name not in parsed}
    return kind(**plain, **parsed)


ENDED = frozenset({"succeeded", "failed", "rejected", "cancelled"})
"""How a run can have ended."""


@dataclass(frozen=True)
class RunItem:
    """A run in a list."""

    run: str
    pipeline: str
    namespace: str
    status: str
    created_ms: int
    ended_ms: int | None = None


@dataclass(frozen=True)
class StepView:
    """A step of a run: how it stands, and what it has made."""

    name: str
    kind: str
    status: str
    pool: str = "default"
    when: str = "success"
    needs: tuple[str, ...] = ()
    cached: bool = False
    tasks: int = 0
    ended: int = 0
    out: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    seconds: float | None = None
    rows: int | None = None
    error: GristmillError | None = None
    output: Mapping[str, Any] | None = None

    @staticmethod
    def of(data: Mapping[str, Any]) -> StepView:
        """The step of an answer."""
        needs = tuple(need["step"] if isinstance(need, Mapping) else str(need) for need in data.get("needs") or ())
        error = data.get("error")
        return read(StepView, data, needs=needs, error=error_of(error) if error else None)


@dataclass(frozen=True)
class RunView:
    """A run as it stands."""

    run: str
    pipeline: str
    namespace: str
    status: str
    created_ms: int
    steps: tuple[StepView, ...]
    ended_ms: int | None = None
    seconds: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    cancelled_by: str | None = None
    source: str | None = None
    position: int = 0
    tasks: int = 0
    ended: int = 0
    models: tuple[Mapping[str, Any], ...] = ()
    workers: tuple[Mapping[str, Any], ...] = ()
    trace: Mapping[str, Any] | None = None

    @staticmethod
    def of(data: Mapping[str, Any]) -> RunView:
        """The run of an answer."""
        steps = tuple(StepView.of(step) for step in data.get("steps") or ())
        models, workers = tuple(data.get("models") or ()), tuple(data.get("workers") or ())
        return read(RunView, data, steps=steps, models=models, workers=workers)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens, unless somebody resumes it."""
        return self.status in ENDED

    def step(self, name: str) -> StepView:
        """The step of this name.

        Raises:
            KeyError: when there is none.
        """
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(f"the run has no step `{name}`; it has {', '.join(f'`{step.name}`' for step in self.steps)}")


@dataclass(frozen=True)
class StepReasons:
    """Why a step waits, or what became of it."""

    step: str
    status: str
    reasons: tuple[str, ...] = ()
    hint: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a run is where it is."""

    run: str
    status: str
    summary: str
    steps: tuple[StepReasons, ...] = ()
    hint: str | None = None

    @staticmethod
    def of(data: Mapping[str, Any]) -> Explanation:
        """The explanation of an answer."""
        steps = tuple(read(StepReasons, step, reasons=tuple(step.get("reasons") or ())) for step in data["steps"])
        return read(Explanation, data, steps=steps)

    def __str__(self) -> str:
        lines = [self.summary]
        for step in self.steps:
            lines += [f"  {step.step} ({step.status}): {reason}" for reason in step.reasons]
            if step.hint:
                lines.append(f"    hint: {step.hint}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


@dataclass(frozen=True)
class UploadedFile:
    """A file among the artifacts."""

    path: str
    digest: str
    bytes: int


@dataclass(frozen=True)
class DatasetView:
    """What a dataset is, and where its rows are."""

    digest: str
    rows: int
    bytes: int
    columns: tuple[Mapping[str, Any], ...]
    partitions: tuple[Mapping[str, Any], ...]
    profile: Mapping[str, Any] | None = None

    @staticmethod
    def of(data: Mapping[str, Any]) -> DatasetView:
        """The dataset of an answer."""
        return read(DatasetView, data, columns=tuple(data["columns"]), partitions=tuple(data["partitions"]))

    def names_and_kinds(self) -> list[tuple[str, str]]:
        """Its columns: the name and the kind of each."""
        return [(str(column["name"]), str(column.get("type") or column.get("kind"))) for column in self.columns]


@dataclass(frozen=True)
class DatasetItem:
    """A dataset in a list."""

    digest: str
    rows: int
    run: str
    pipeline: str
    step: str
    part: str | None = None
    made_ms: int | None = None


@dataclass(frozen=True)
class MadeModel:
    """A model that a run has made, or a version that it registered."""

    digest: str
    name: str | None = None
    version: int | None = None
    alias: str | None = None
    algorithm: str | None = None
    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class PipelineCheck:
    """What a checked pipeline is."""

    name: str
    steps: tuple[Mapping[str, Any], ...]
    warnings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class PipelineItem:
    """A kept pipeline."""

    name: str
    namespace: str = "default"
    version: int | None = None
    """The newest."""
    updated_ms: int | None = None
    by: str | None = None


@dataclass(frozen=True)
class PipelineVersion:
    """A version of a kept pipeline; `pipeline` is its text."""

    name: str
    version: int
    namespace: str = "default"
    pipeline: str | None = None
    at_ms: int | None = None
    by: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class ModelItem:
    """A registered model in a list."""

    name: str
    versions: int
    latest: int | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    updated_ms: int | None = None


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model."""

    version: int
    digest: str
    created_ms: int | None = None
    by: str | None = None
    run: str | None = None
    step: str | None = None
    algorithm: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    evidence: str | None = None
    """The digest of what a validate step found out about it."""
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    """The datasets that it comes from, by digest."""
    signed_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelView:
    """A registered model with its versions and the history of its aliases."""

    name: str
    versions: tuple[ModelVersion, ...]
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()

    @staticmethod
    def of(data: Mapping[str, Any]) -> ModelView:
        """The model of an answer."""
        lists = ("aliases", "datasets", "signed_by")
        versions = tuple(
            read(ModelVersion, one, **{name: tuple(one.get(name) or ()) for name in lists}) for one in data["versions"]
        )
        return read(ModelView, data, versions=versions, history=tuple(data.get("history") or ()))


@dataclass(frozen=True)
class AliasMove:
    """An alias that was moved; `source` and `target` are versions."""

    name: str
    alias: str
    source: int | None
    target: int | None

    @staticmethod
    def of(data: Mapping[str, Any]) -> AliasMove:
        """The move of an answer."""
        return AliasMove(str(data["name"]), str(data["alias"]), data.get("from"), data.get("to"))


@dataclass(frozen=True)
class WorkerItem:
    """A worker that lives."""

    worker: str
    pools: tuple[str, ...]
    slots: int
    draining: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    """What its owner says of it."""
    host: str = ""
    seen_ms: int | None = None
    held: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class PoolItem:
    """A pool."""

    name: str
    workers: int
    slots: int
    busy: int = 0
    """Slots at work."""
    demand: int = 0
    """Tasks that are out or could be."""
    ready: int = 0
    """Tasks that could begin if a slot were free."""
    out: int = 0
    work_ms: int = 0
    """Milliseconds of a slot that both are expected to take, as far as that is known."""
    unknown: int = 0
    """How many of both take nobody knows how long."""
    decisions: tuple[Mapping[str, Any], ...] = ()
    """What those who scale it have decided last."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that nobody could read."""

    id: str
    queue: str
    source: str | None = None
    """The queue that it came from."""
    reason: str | None = None
    sent_ms: int | None = None
    content_type: str | None = None
    bytes: int | None = None
    body: str | None = None


@dataclass(frozen=True)
class Schedule:
    """Runs made by the clock."""

    name: str
    cron: str | None = None
    timezone: str | None = None
    submit: Mapping[str, Any] = field(default_factory=dict)
    overlap: str | None = None
    catch_up: str | None = None
    paused: bool = False
    namespace: str = "default"
    by: str | None = None
    updated_ms: int | None = None
    next_ms: tuple[int, ...] = ()
    last: Mapping[str, Any] | None = None
    """What came of the last time."""
    recent: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Trigger:
    """Runs made when something happens."""

    name: str
    on: Mapping[str, Any] = field(default_factory=dict)
    submit: Mapping[str, Any] = field(default_factory=dict)
    paused: bool = False
    namespace: str = "default"
    by: str | None = None
    updated_ms: int | None = None
    last: Mapping[str, Any] | None = None
    """What came of the last firing."""
    recent: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class EndpointItem:
    """A name that online scoring answers under."""

    name: str
    champion: Any = None
    canary: Mapping[str, Any] | None = None
    shadows: tuple[Any, ...] = ()
    updated_ms: int | None = None


@dataclass(frozen=True)
class TokenItem:
    """A token, without its secret."""

    id: str
    name: str | None = None
    role: str | None = None
    namespaces: tuple[str, ...] = ()
    created_ms: int | None = None
    by: str | None = None
    expires_ms: int | None = None


@dataclass(frozen=True)
class NewToken:
    """A token that was made; its secret is shown once."""

    id: str
    token: str


@dataclass(frozen=True)
class WhoAmI:
    """Whom the server takes the caller for."""

    name: str
    role: str
    namespaces: tuple[str, ...] = ()
    anonymous: bool = False
