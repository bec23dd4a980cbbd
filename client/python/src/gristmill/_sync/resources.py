# Made from `_async/resources.py` by `tools/unasync.py`; change that file.
"""What a cluster has beside runs: models, pipelines, schedules, triggers, endpoints, workers, tokens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from gristmill._sync.listing import Listing
from gristmill._sync.transport import Transport
from gristmill.pipeline import PipelineLike, text_of
from gristmill.requests import Request, given, path
from gristmill.results import (
    AliasMove,
    DatasetItem,
    DatasetView,
    DeadLetter,
    EndpointItem,
    ModelItem,
    ModelView,
    NewToken,
    PipelineCheck,
    PipelineItem,
    PipelineVersion,
    PoolItem,
    Schedule,
    TokenItem,
    Trigger,
    WorkerItem,
    read,
)

T = TypeVar("T")


class _Resource:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _ask(self, method: str, *parts: str | int, json: Any = None, repeatable: bool = True, **query: Any) -> Any:
        return self._transport.ask(Request(method, path(*parts), query, json, None, repeatable))

    def _list(
        self, parse: Callable[[Mapping[str, Any]], T], limit: int | None, *parts: str | int, **query: Any
    ) -> Listing[T]:
        return Listing(self._transport, Request("GET", path(*parts), query), parse, limit)


class Models(_Resource):
    """Registered models."""

    def list(self, *, limit: int | None = None) -> Listing[ModelItem]:
        """All of them."""
        return self._list(lambda item: read(ModelItem, item), limit, "models")

    def get(self, name: str) -> ModelView:
        """One, with its versions, aliases and their history."""
        return ModelView.of(self._ask("GET", "models", name))

    def promote(self, name: str, version: int, alias: str = "champion", *, why: str | None = None) -> AliasMove:
        """Moves an alias to a version.

        Raises:
            ConflictError: when the version's evidence says no.
        """
        body = given(version=version, alias=alias, why=why)
        return AliasMove.of(self._ask("POST", "models", name, "promote", json=body, repeatable=False))

    def rollback(self, name: str, alias: str = "champion", *, why: str | None = None) -> AliasMove:
        """Moves an alias back to where it was before."""
        body = given(alias=alias, why=why)
        return AliasMove.of(self._ask("POST", "models", name, "rollback", json=body, repeatable=False))

    def log(self, name: str, *, limit: int | None = None) -> Listing[Mapping[str, Any]]:
        """Who did what with it, when and why."""
        return self._list(dict, limit, "models", name, "log")


class Pipelines(_Resource):
    """Kept pipelines."""

    def check(self, pipeline: PipelineLike, params: Mapping[str, Any] | None = None) -> PipelineCheck:
        """Checks a pipeline without running it.

        Raises:
            BadPipelineError: with all of its mistakes.
        """
        body = {"pipeline": text_of(pipeline), "params": dict(params or {})}
        found = self._ask("POST", "pipelines", "check", json=body)
        return read(PipelineCheck, found, steps=tuple(found["steps"]), warnings=tuple(found.get("warnings") or ()))

    def keep(self, pipeline: PipelineLike, *, namespace: str | None = None) -> PipelineVersion:
        """Keeps a pipeline as the newest version under its name; the same text makes no new version."""
        body = given(pipeline=text_of(pipeline), namespace=namespace)
        return read(PipelineVersion, self._ask("POST", "pipelines", json=body))

    def list(self, *, limit: int | None = None) -> Listing[PipelineItem]:
        """All of them."""
        return self._list(lambda item: read(PipelineItem, item), limit, "pipelines")

    def versions(self, name: str, *, namespace: str | None = None) -> Sequence[PipelineVersion]:
        """The versions of one."""
        found = self._ask("GET", "pipelines", name, namespace=namespace)
        return [read(PipelineVersion, {"name": name, **one}) for one in found["versions"]]

    def get(self, name: str, version: int, *, namespace: str | None = None) -> PipelineVersion:
        """One version, with its text."""
        found = self._ask("GET", "pipelines", name, "versions", version, namespace=namespace)
        return read(PipelineVersion, found)


def _schedule(data: Mapping[str, Any]) -> Schedule:
    return read(Schedule, data, next_ms=tuple(data.get("next_ms") or ()), recent=tuple(data.get("recent") or ()))


def _trigger(data: Mapping[str, Any]) -> Trigger:
    return read(Trigger, data, recent=tuple(data.get("recent") or ()))


class Schedules(_Resource):
    """Runs made by the clock."""

    def put(
        self,
        name: str,
        cron: str,
        submit: Mapping[str, Any],
        *,
        timezone: str | None = None,
        overlap: Literal["allow", "skip", "cancel"] | None = None,
        catch_up: Literal["none", "last", "all"] | None = None,
        paused: bool | None = None,
        namespace: str | None = None,
    ) -> Schedule:
        """Makes or changes one. `submit` is what a submission has: `pipeline` or `name`, and `params`."""
        body = given(
            cron=cron,
            timezone=timezone,
            submit=_submission(submit),
            overlap=overlap,
            catch_up=catch_up,
            paused=paused,
        )
        return _schedule(self._ask("PUT", "schedules", name, json=body, namespace=namespace))

    def list(self, *, namespace: str | None = None, limit: int | None = None) -> Listing[Schedule]:
        """All of them."""
        return self._list(_schedule, limit, "schedules", namespace=namespace)

    def get(self, name: str, *, namespace: str | None = None) -> Schedule:
        """One, with its next times and what came of the last."""
        return _schedule(self._ask("GET", "schedules", name, namespace=namespace))

    def pause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes no runs until it is unpaused."""
        self._ask("POST", "schedules", name, "pause", namespace=namespace)

    def unpause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes runs again."""
        self._ask("POST", "schedules", name, "unpause", namespace=namespace)

    def delete(self, name: str, *, namespace: str | None = None) -> None:
        """Removes it; its runs stay."""
        self._ask("DELETE", "schedules", name, namespace=namespace)


class Triggers(_Resource):
    """Runs made when something happens: a new file, a webhook, the end of another run."""

    def put(
        self,
        name: str,
        on: Mapping[str, Any],
        submit: Mapping[str, Any],
        *,
        paused: bool | None = None,
        namespace: str | None = None,
    ) -> Trigger:
        """Makes or changes one. `on` is `{"file": {"glob": …}}`, `{"webhook": {}}` or `{"run_ended": {…}}`."""
        body = given(on=dict(on), submit=_submission(submit), paused=paused)
        return _trigger(self._ask("PUT", "triggers", name, json=body, namespace=namespace))

    def list(self, *, namespace: str | None = None, limit: int | None = None) -> Listing[Trigger]:
        """All of them."""
        return self._list(_trigger, limit, "triggers", namespace=namespace)

    def get(self, name: str, *, namespace: str | None = None) -> Trigger:
        """One."""
        return _trigger(self._ask("GET", "triggers", name, namespace=namespace))

    def pause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes no runs until it is unpaused."""
        self._ask("POST", "triggers", name, "pause", namespace=namespace)

    def unpause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes runs again."""
        self._ask("POST", "triggers", name, "unpause", namespace=namespace)

    def fire(self, name: str, body: Mapping[str, Any] | None = None, *, namespace: str | None = None) -> str:
        """Makes a run, as a webhook would; its id."""
        # With a key of its own it can be sent again after a lost answer.
        headers = {"idempotency-key": str(uuid.uuid4())}
        query = {"namespace": namespace}
        request = Request("POST", path("triggers", name, "fire"), query, dict(body or {}), headers)
        found = self._transport.ask(request)
        return str(found["run"])

    def delete(self, name: str, *, namespace: str | None = None) -> None:
        """Removes it; its runs stay."""
        self._ask("DELETE", "triggers", name, namespace=namespace)


def _endpoint(data: Mapping[str, Any]) -> EndpointItem:
    return read(EndpointItem, data, shadows=tuple(data.get("shadows") or ()))


class Endpoints(_Resource):
    """Names that online scoring answers under: a champion, a canary, shadows."""

    def list(self, *, limit: int | None = None) -> Listing[EndpointItem]:
        """All of them."""
        request = Request("GET", path("endpoints"), paged=False)
        return Listing(self._transport, request, _endpoint, limit)

    def get(self, name: str) -> Mapping[str, Any]:
        """One, and how its models do."""
        found: Mapping[str, Any] = self._ask("GET", "endpoints", name)
        return found

    def put(self, name: str, endpoint: Mapping[str, Any]) -> None:
        """Makes or changes one."""
        self._ask("PUT", "endpoints", name, json=dict(endpoint))

    def delete(self, name: str) -> None:
        """Removes it."""
        self._ask("DELETE", "endpoints", name)


class DeadLetters(_Resource):
    """Messages that nobody could read."""

    def list(self, *, queue: str | None = None, limit: int | None = None) -> Listing[DeadLetter]:
        """All of them, or those of one queue."""
        return self._list(lambda item: read(DeadLetter, item), limit, "dead-letters", queue=queue)

    def requeue(self, letter: str) -> None:
        """Puts one back where it came from."""
        self._ask("POST", "dead-letters", letter, "requeue", repeatable=False)

    def delete(self, letter: str) -> None:
        """Throws one away."""
        self._ask("DELETE", "dead-letters", letter)


class Tokens(_Resource):
    """Tokens, which say who may do what."""

    def list(self, *, limit: int | None = None) -> Listing[TokenItem]:
        """All of them, without their secrets."""
        return self._list(
            lambda item: read(TokenItem, item, namespaces=tuple(item.get("namespaces") or ())), limit, "tokens"
        )

    def create(
        self,
        name: str,
        role: Literal["viewer", "submitter", "deployer", "admin"],
        *,
        namespaces: Sequence[str] = ("*",),
        expires_days: int | None = None,
    ) -> NewToken:
        """Makes one. Its secret is shown this once."""
        body = given(name=name, role=role, namespaces=[*namespaces], expires_days=expires_days)
        return read(NewToken, self._ask("POST", "tokens", json=body, repeatable=False))

    def delete(self, token: str) -> None:
        """Makes one worthless."""
        self._ask("DELETE", "tokens", token)

    def audit(self, *, limit: int | None = None) -> Listing[Mapping[str, Any]]:
        """Who did what."""
        return self._list(dict, limit, "audit")


class Datasets(_Resource):
    """Datasets of recent runs."""

    def list(self, *, limit: int | None = None) -> Listing[DatasetItem]:
        """The newest first."""
        return self._list(lambda item: read(DatasetItem, item), limit, "datasets")

    def get(self, digest: str) -> DatasetView:
        """One, by its digest."""
        return DatasetView.of(self._ask("GET", "datasets", digest))


class Cluster(_Resource):
    """Workers and pools."""

    def workers(self, *, limit: int | None = None) -> Listing[WorkerItem]:
        """The workers that live."""
        return self._list(
            lambda item: read(WorkerItem, item, pools=tuple(item["pools"]), held=tuple(item.get("held") or ())),
            limit,
            "workers",
        )

    def pools(self, *, limit: int | None = None) -> Listing[PoolItem]:
        """The pools."""
        request = Request("GET", path("pools"), paged=False)
        return Listing(self._transport, request, lambda item: read(PoolItem, item), limit)


def _submission(submit: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(submit)
    if "pipeline" in found:
        found["pipeline"] = text_of(found["pipeline"])
    return found
