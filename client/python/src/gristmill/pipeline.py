"""Pipelines written in Python: steps as values, from which the pipeline file's text is made.

```python
p = Pipeline("flight-delays")
flights = p.ingest("data/*.csv", name="flights")
trips = p.transform(f"select *, arr_delay > 15 as late from {flights} where arr_delay is not null")
parts = p.split(trips, test=0.2, stratify="late")
model = p.train(parts.train, "late", algorithm="random_forest")
quality = p.validate(model, parts.test, require=[{"metric": "roc_auc", "min": 0.8}])
p.register(model, "flight-delays", evidence=quality, alias="champion")
```

What is wrong with a pipeline as a whole the checker says, with all of it at once; here only what would not even be a
pipeline is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from gristmill.errors import BadPipelineError
from gristmill.tables import TableLike, is_table

if TYPE_CHECKING:
    from typing_extensions import Unpack

PipelineLike: TypeAlias = "str | Path | Mapping[str, Any] | Pipeline"
"""A pipeline file's path or text, what it says as a mapping, or a pipeline that was built."""

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z][a-z0-9_.-]*)\}")
FILE_ENDINGS = (".yaml", ".yml", ".json")


def text_of(pipeline: PipelineLike) -> str:
    """The pipeline file's text. A text that names a `.yaml`, `.yml` or `.json` file is its path."""
    if isinstance(pipeline, Pipeline):
        return pipeline.to_json()
    if isinstance(pipeline, Mapping):
        return json.dumps(pipeline, ensure_ascii=False, indent=2)
    is_path = isinstance(pipeline, Path) or ("\n" not in pipeline and pipeline.endswith(FILE_ENDINGS))
    if not is_path:
        return str(pipeline)
    try:
        return Path(pipeline).read_text(encoding="utf-8")
    except OSError as error:
        raise BadPipelineError(f"the pipeline file `{pipeline}` can't be read: {error.strerror}") from error


class Common(TypedDict, total=False):
    """What every step may have."""

    name: str
    """The step's name. Default: its kind, with a number when there is one already."""
    after: Sequence[Step]
    when: Literal["success", "failure", "always"]
    retries: int
    timeout: str
    pool: str
    priority: int
    limits: Sequence[str]
    cache: bool


@dataclass(frozen=True)
class Step:
    """A step of a pipeline, as what others refer to."""

    pipeline: Pipeline
    name: str

    @property
    def reference(self) -> str:
        """As other steps name it."""
        return self.name

    def __str__(self) -> str:
        return self.reference


@dataclass(frozen=True)
class Dataset(Step):
    """A step, or a part of one, that is a dataset. In a text of SQL it stands for its table."""

    part: str | None = None

    @property
    def reference(self) -> str:
        """As other steps name it."""
        return self.name if self.part is None else f"{self.name}.{self.part}"

    def __str__(self) -> str:
        """As SQL has it: names with other characters than letters, digits and `_` in double quotes."""
        return self.reference if re.fullmatch(r"[a-z][a-z0-9_]*", self.reference) else f'"{self.reference}"'


@dataclass(frozen=True)
class Parts(Step):
    """The parts of a split."""

    @property
    def train(self) -> Dataset:
        """The rows to learn from."""
        return Dataset(self.pipeline, self.name, "train")

    @property
    def test(self) -> Dataset:
        """The rows to measure on."""
        return Dataset(self.pipeline, self.name, "test")

    @property
    def validation(self) -> Dataset:
        """The rows of `validation`, when it was given a share."""
        return Dataset(self.pipeline, self.name, "validation")


class Model(Step):
    """A step that trains a model."""


class Evaluation(Step):
    """A step that measures a model."""


class Version(Step):
    """A step that registers a model."""


class File(Step):
    """A step that writes a file."""


ModelLike: TypeAlias = "Model | str"
"""A step that trains a model, or a registered one: `name@alias`, `name@3`."""


class Pipeline:
    """A pipeline that is being written."""

    def __init__(
        self,
        name: str,
        *,
        description: str | None = None,
        params: Mapping[str, Any] | None = None,
        limits: Mapping[str, int] | None = None,
        priority: int | None = None,
        weight: int | None = None,
    ) -> None:
        _check_name(name, "a pipeline")
        head = {"description": description, "params": params, "limits": limits, "priority": priority, "weight": weight}
        self.name = name
        self._head = {key: value for key, value in head.items() if value is not None}
        self._steps: dict[str, dict[str, Any]] = {}
        self.files: dict[str, TableLike | Path] = {}
        """Tables and files that go with a submission, by the step that reads them."""

    def ingest(
        self,
        source: str | Path | Sequence[str] | TableLike,
        *,
        format: Literal["csv", "parquet", "ndjson"] | None = None,
        delimiter: str | None = None,
        nulls: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        types: Mapping[str, str] | None = None,
        bad_lines: Mapping[str, float] | None = None,
        **common: Unpack[Common],
    ) -> Dataset:
        """Reads files into a dataset.

        A text, or a list of them, is where workers find the files. A DataFrame, an Arrow table or a `Path` goes with the
        submission.
        """
        name = self._name("ingest", common)
        if is_table(source):
            self.files[name] = source
            source, format = f"{name}.parquet", "parquet"
        elif isinstance(source, Path):
            self.files[name] = source
            source = source.name
        settings = {
            "source": source if isinstance(source, str) else list(source),
            "format": format,
            "delimiter": delimiter,
            "nulls": nulls,
            "columns": columns,
            "types": types,
            "bad_lines": bad_lines,
        }
        self._add(name, "ingest", settings, common)
        return Dataset(self, name)

    def transform(self, sql: str, *, tables: Mapping[str, Dataset] | None = None, **common: Unpack[Common]) -> Dataset:
        """Makes a dataset with one query.

        Tables are the steps: `f"select * from {trips}"`, or `{trips}` in a plain text, which is looked up in `tables` and
        then among the pipeline's steps.
        """
        name = self._name("transform", common)

        def table(found: re.Match[str]) -> str:
            key = found.group(1)
            if tables and key in tables:
                return str(self._own(tables[key]))
            step, _, part = key.partition(".")
            if step not in self._steps:
                hint = f"the steps are {', '.join(f'`{name}`' for name in self._steps) or 'none yet'}"
                raise BadPipelineError(f"`{{{key}}}` in the query of `{name}` names no step", hint=hint)
            return str(Dataset(self, step, part or None))

        self._add(name, "transform", {"sql": PLACEHOLDER.sub(table, sql)}, common)
        return Dataset(self, name)

    def expect(self, input: Dataset, rules: Sequence[Mapping[str, Any]], **common: Unpack[Common]) -> Dataset:
        """Checks a dataset; what comes after it runs only when no rule of severity `error` is broken."""
        name = self._name("expect", common)
        self._add(name, "expect", {"input": self._own(input).reference, "rules": list(rules)}, common)
        return Dataset(self, name)

    def split(
        self,
        input: Dataset,
        *,
        test: float = 0.2,
        validation: float | None = None,
        stratify: str | None = None,
        time: str | None = None,
        seed: int | None = None,
        **common: Unpack[Common],
    ) -> Parts:
        """Parts a dataset into `train` and `test` (and `validation`)."""
        name = self._name("split", common)
        settings = {
            "input": self._own(input).reference,
            "test": test,
            "validation": validation,
            "stratify": stratify,
            "time": time,
            "seed": seed,
        }
        self._add(name, "split", settings, common)
        return Parts(self, name)

    def train(
        self,
        input: Dataset,
        target: str | None = None,
        *,
        algorithm: str | Mapping[str, Any],
        features: Mapping[str, Any] | None = None,
        task: Literal["classification", "regression", "clustering"] | None = None,
        weight: str | None = None,
        class_weight: str | Mapping[str, float] | None = None,
        calibrate: Any = None,
        threshold: Any = None,
        kept: float | None = None,
        seed: int | None = None,
        parts: int | None = None,
        **common: Unpack[Common],
    ) -> Model:
        """Trains a model. Without `features` all columns are taken as their profile suggests."""
        name = self._name("train", common)
        settings = {
            "input": self._own(input).reference,
            "target": target,
            "task": task,
            "features": {"infer": True} if features is None else features,
            "algorithm": {algorithm: {}} if isinstance(algorithm, str) else algorithm,
            "weight": weight,
            "class_weight": class_weight,
            "calibrate": calibrate,
            "threshold": threshold,
            "kept": kept,
            "seed": seed,
            "parts": parts,
        }
        self._add(name, "train", settings, common)
        return Model(self, name)

    def tune(self, input: Dataset, settings: Mapping[str, Any], **common: Unpack[Common]) -> Model:
        """Searches for algorithm and settings; `settings` are those of the pipeline file's `tune` but for `input`."""
        name = self._name("tune", common)
        self._add(name, "tune", {"input": self._own(input).reference, **settings}, common)
        return Model(self, name)

    def validate(
        self,
        model: Model,
        input: Dataset,
        *,
        require: Sequence[Mapping[str, Any]] | None = None,
        slices: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        **common: Unpack[Common],
    ) -> Evaluation:
        """Measures a model; with `require` decides whether it is good enough. `settings` are the others of `validate`."""
        name = self._name("validate", common)
        found = {"model": self._own(model).reference, "input": self._own(input).reference}
        self._add(name, "validate", {**found, "slices": slices, "require": require, **(settings or {})}, common)
        return Evaluation(self, name)

    def register(
        self,
        model: Model,
        as_name: str,
        *,
        evidence: Evaluation | None = None,
        alias: str | None = None,
        **common: Unpack[Common],
    ) -> Version:
        """Makes the model a version in the registry."""
        name = self._name("register", common)
        settings = {
            "model": self._own(model).reference,
            "evidence": None if evidence is None else self._own(evidence).reference,
            "name": as_name,
            "alias": alias,
        }
        self._add(name, "register", settings, common)
        return Version(self, name)

    def score(
        self,
        model: ModelLike,
        input: Dataset,
        output: str,
        *,
        keep: Sequence[str] | None = None,
        bad_rows: Mapping[str, float] | None = None,
        **common: Unpack[Common],
    ) -> File:
        """Scores a dataset into a file, `.parquet` or `.csv`."""
        name = self._name("score", common)
        settings = {
            "model": model if isinstance(model, str) else self._own(model).reference,
            "input": self._own(input).reference,
            "output": output,
            "keep": keep,
            "bad_rows": bad_rows,
        }
        self._add(name, "score", settings, common)
        return File(self, name)

    def python(
        self,
        task: str,
        inputs: Mapping[str, Dataset] | None = None,
        params: Mapping[str, Any] | None = None,
        **common: Unpack[Common],
    ) -> Dataset:
        """Calls a function of Python workers, `@gristmill.task(task)`, with datasets and other arguments by their names."""
        name = self._name("python", common)
        given = {key: self._own(dataset).reference for key, dataset in (inputs or {}).items()}
        self._add(name, "python", {"task": task, "inputs": given or None, "params": params or None}, common)
        return Dataset(self, name)

    def noop(
        self, *, tasks: int | None = None, ms: int | None = None, fail: str | None = None, **common: Unpack[Common]
    ) -> Step:
        """Does nothing, in as many tasks as asked for."""
        name = self._name("noop", common)
        self._add(name, "noop", {"tasks": tasks, "ms": ms, "fail": fail}, common)
        return Step(self, name)

    def to_dict(self) -> dict[str, Any]:
        """The pipeline as its file has it."""
        return {"name": self.name, **self._head, "steps": {name: dict(step) for name, step in self._steps.items()}}

    def to_json(self) -> str:
        """The pipeline file's text: JSON, which is YAML too."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2, default=_plain) + "\n"

    def save(self, path: str | Path) -> Path:
        """Writes the pipeline file."""
        found = Path(path)
        found.write_text(self.to_json(), encoding="utf-8")
        return found

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[str]:
        return iter(self._steps)

    def __str__(self) -> str:
        return self.to_json()

    def _name(self, kind: str, common: Common) -> str:
        name = common.get("name")
        if name is not None:
            _check_name(name, "a step")
            if name in self._steps:
                raise BadPipelineError(f"there are two steps `{name}`", hint="give one of them another `name=`")
            return name
        number = 1
        while (found := kind if number == 1 else f"{kind}-{number}") in self._steps:
            number += 1
        return found

    def _add(self, name: str, kind: str, settings: Mapping[str, Any], common: Common) -> None:
        step: dict[str, Any] = {kind: {key: value for key, value in settings.items() if value is not None}}
        for key, value in common.items():
            if key == "after":
                step[key] = [self._own(other).name for other in common["after"]]
            elif key != "name":
                step[key] = value
        self._steps[name] = step

    def _own(self, step: Any) -> Any:
        """The step, when it is one of this pipeline."""
        if not isinstance(step, Step):
            hint = "give what `ingest`, `transform` and the others returned"
            raise BadPipelineError(f"a {type(step).__name__} is no step", hint=hint)
        if step.pipeline is not self:
            raise BadPipelineError(f"`{step.name}` is a step of the pipeline `{step.pipeline.name}`")
        if isinstance(step, Parts):
            raise BadPipelineError(f"`{step.name}` is a split", hint=f"take `{step.name}.train` or `{step.name}.test`")
        return step


def _check_name(name: str, what: str) -> None:
    if not NAME.fullmatch(name):
        hint = "lower-case letters, digits, `-` and `_`, starting with a letter, 63 characters at the most"
        raise BadPipelineError(f"`{name}` can't be the name of {what}", hint=hint)


def _plain(value: Any) -> Any:
    """Tuples of mappings, numbers of NumPy: whatever JSON has a word for."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    raise BadPipelineError(f"a {type(value).__name__} can't stand in a pipeline file")
