# Made from `_async/client.py` by `tools/unasync.py`; change that file.
"""The client of a Gristmill server."""

from __future__ import annotations

import glob
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

import httpx

from gristmill._sync.listing import Listing
from gristmill._sync.resources import (
    Cluster,
    Datasets,
    DeadLetters,
    Endpoints,
    Models,
    Pipelines,
    Schedules,
    Tokens,
    Triggers,
)
from gristmill._sync.run import Run
from gristmill._sync.transport import Transport
from gristmill.environment import serve_url
from gristmill.errors import BadInputError, GristmillError, error_of
from gristmill.limits import SUBMISSIONS_MAX
from gristmill.pipeline import Pipeline, PipelineLike, text_of
from gristmill.requests import Request, given, path, unreachable
from gristmill.results import RunItem, UploadedFile, WhoAmI, read
from gristmill.scoring import RowsLike, Scores, refusal_of, request_of, scores_of
from gristmill.tables import TableLike, is_table, parquet_of

FileLike: TypeAlias = "TableLike | str | Path | Sequence[str | Path]"
"""A table, or a file's path, a glob, or a list of paths."""

TIMEOUT_S = 30.0
"""Seconds that one answer may take: longer than any that isn't a stream."""


class Client:
    """A client of the server at `url`, else `GRISTMILL_API`, else http://127.0.0.1:5000.

    `token` or `GRISTMILL_TOKEN` says who asks. It keeps connections; close it, or use it in a `with`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        serve: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        self._transport = Transport(url, token, timeout)
        self._serve = serve_url(serve)
        self._scoring = httpx.Client(timeout=timeout)
        self.models = Models(self._transport)
        self.pipelines = Pipelines(self._transport)
        self.schedules = Schedules(self._transport)
        self.triggers = Triggers(self._transport)
        self.endpoints = Endpoints(self._transport)
        self.dead_letters = DeadLetters(self._transport)
        self.tokens = Tokens(self._transport)
        self.datasets = Datasets(self._transport)
        self.cluster = Cluster(self._transport)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    def submit(
        self,
        pipeline: PipelineLike | None = None,
        *,
        name: str | None = None,
        version: int | None = None,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        files: Mapping[str, FileLike] | None = None,
        outputs: Literal["artifacts", "files"] | None = None,
        namespace: str | None = None,
        priority: int | None = None,
        no_cache: bool = False,
    ) -> Run:
        """Submits a run of a pipeline (path, text, mapping or builder), or of a kept one by its `name`.

        `files` are sources of ingest steps, by the step's name: tables and files from here are uploaded first. The same
        `key` with the same content is the same run.

        Raises:
            BadPipelineError: with all mistakes of the pipeline.
        """
        body = self._body(pipeline, name, version, params, files, outputs, namespace, priority, no_cache)
        # With a key of its own a submission can be sent again after a lost answer.
        body["key"] = key or str(uuid.uuid4())
        found = self._transport.ask(Request("POST", path("runs"), json=body))
        return Run(self._transport, str(found["run"]), created=bool(found.get("created", True)))

    def submit_many(
        self, submissions: Iterable[PipelineLike | Mapping[str, Any]], **common: Any
    ) -> list[Run | GristmillError]:
        """Submits many runs, a thousand a request; for each the run, or why it was refused, in the same order.

        A submission is a pipeline, or a mapping with `submit`'s arguments (`{"pipeline": …, "params": …}`); `common` are
        arguments of all.
        """
        found: list[Run | GristmillError] = []
        bodies: list[dict[str, Any]] = []
        for submission in submissions:
            is_arguments = isinstance(submission, Mapping) and "steps" not in submission
            arguments: dict[str, Any] = dict(submission) if is_arguments else {"pipeline": submission}  # type: ignore[arg-type]
            bodies.append(self._arguments_body({**common, **arguments}))
            if len(bodies) == SUBMISSIONS_MAX:
                found += self._submit_batch(bodies)
                bodies = []
        return found + (self._submit_batch(bodies) if bodies else [])

    def _arguments_body(self, arguments: dict[str, Any]) -> dict[str, Any]:
        key = arguments.pop("key", None)
        names = ("pipeline", "name", "version", "params", "files", "outputs", "namespace", "priority")
        values = [arguments.pop(name, None) for name in names]
        no_cache = bool(arguments.pop("no_cache", False))
        if arguments:
            raise BadInputError(f"a submission has no `{next(iter(arguments))}`")
        pipeline, name, version, params, files, outputs, namespace, priority = values
        body = self._body(pipeline, name, version, params, files, outputs, namespace, priority, no_cache)
        body["key"] = key or str(uuid.uuid4())
        return body

    def _submit_batch(self, bodies: list[dict[str, Any]]) -> list[Run | GristmillError]:
        answer = self._transport.ask(Request("POST", path("runs", "batch"), json={"submissions": bodies}))
        return [
            error_of(result["error"])
            if "error" in result
            else Run(self._transport, str(result["run"]), created=bool(result.get("created", True)))
            for result in answer["results"]
        ]

    def _body(
        self,
        pipeline: PipelineLike | None,
        name: str | None,
        version: int | None,
        params: Mapping[str, Any] | None,
        files: Mapping[str, FileLike] | None,
        outputs: str | None,
        namespace: str | None,
        priority: int | None,
        no_cache: bool,
    ) -> dict[str, Any]:
        if (pipeline is None) == (name is None):
            raise BadInputError("a submission has either a `pipeline` or the `name` of a kept one")
        sources = {**(pipeline.files if isinstance(pipeline, Pipeline) else {}), **(files or {})}
        uploaded = {step: self._upload(step, source) for step, source in sources.items()}
        return given(
            pipeline=None if pipeline is None else text_of(pipeline),
            name=name,
            version=version,
            params=dict(params) if params else None,
            files=uploaded or None,
            outputs=outputs,
            namespace=namespace,
            priority=priority,
            no_cache=no_cache or None,
        )

    def _upload(self, step: str, source: FileLike) -> list[dict[str, Any]]:
        if is_table(source):
            found = self.upload(source, name=f"{step}.parquet")
            return [_file(found)]
        places = [source] if isinstance(source, str | Path) else list(source)
        paths = [Path(match) for place in places for match in sorted(glob.glob(str(place))) or [str(place)]]
        return [_file(self.upload(place)) for place in paths]

    def upload(self, source: TableLike | str | Path | bytes, *, name: str | None = None) -> UploadedFile:
        """Keeps a table, a file or bytes as an artifact, for a step to read."""
        if isinstance(source, bytes):
            found, path_name = self._transport.upload(source), name or "file"
        elif is_table(source):
            found, path_name = self._transport.upload(parquet_of(source)), name or "table.parquet"
        else:
            place = Path(source)
            if not place.is_file():
                raise BadInputError(f"there is no file `{place}`")
            found, path_name = self._transport.upload(place), name or str(place)
        return UploadedFile(path_name, str(found["digest"]), int(found["bytes"]))

    def run(self, run: str) -> Run:
        """The run of this id."""
        return Run(self._transport, run, created=False)

    def runs(
        self,
        *,
        namespace: str | None = None,
        pipeline: str | None = None,
        status: Literal["running", "succeeded", "failed", "rejected", "cancelled"] | None = None,
        search: str | None = None,
        limit: int | None = 50,
    ) -> Listing[RunItem]:
        """Runs, the newest first; all of them with `limit=None`."""
        query = {"namespace": namespace, "pipeline": pipeline, "status": status, "search": search}
        return Listing(self._transport, Request("GET", path("runs"), query), lambda item: read(RunItem, item), limit)

    def watch(self) -> Iterator[Sequence[RunItem]]:
        """The newest runs, and then those that are new or have changed, for as long as the server tells.

        Raises:
            UnavailableError: when the connection breaks.
        """
        try:
            for event, data in self._transport.events(Request("GET", path("events")), float("inf")):
                if event == "runs":
                    yield [read(RunItem, item) for item in data["items"]]
        except httpx.TransportError as error:
            raise unreachable(self.url, error) from error

    def artifact(self, digest: str) -> bytes:
        """The bytes of an artifact."""
        return (self._transport.respond(Request("GET", path("artifacts", digest)))).content

    def score(
        self,
        model: str,
        rows: RowsLike,
        *,
        version: str | int | None = None,
        key: str | None = None,
    ) -> Scores:
        """Scores rows online with a registered model or an endpoint, at `serve=` or `GRISTMILL_SERVE`.

        `version` is a version or an alias; the champion, else. `key` decides who answers of a champion and a canary.

        Raises:
            GristmillError: why it was refused.
        """
        version_path = "" if version is None else f"/versions/{version}"
        headers = {} if key is None else {"gristmill-key": key}
        try:
            response = self._scoring.post(
                f"{self._serve}/v2/models/{model}{version_path}/infer", json=request_of(rows), headers=headers
            )
        except httpx.TransportError as error:
            raise unreachable(self._serve, error) from error
        if not response.is_success:
            raise refusal_of(response.status_code, response.content)
        return scores_of(response.json())

    def whoami(self) -> WhoAmI:
        """Whom the server takes us for."""
        found = self._transport.ask(Request("GET", path("whoami")))
        return read(WhoAmI, found, namespaces=tuple(found.get("namespaces") or ()))

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()
        self._scoring.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _file(uploaded: UploadedFile) -> dict[str, Any]:
    return {"path": uploaded.path, "digest": uploaded.digest, "bytes": uploaded.bytes}
