"""What a cluster has beside runs: models, pipelines, schedules, triggers, endpoints, workers, tokens."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from gristmill._async.listing import AsyncListing
from gristmill._async.transport import AsyncTransport
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


class _AsyncResource:
    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _ask(
        self, method: str, *parts: str | int, json: Any = None, repeatable: bool = True, **query: Any
    ) -> Any:
        return await self._transport.ask(Request(method, path(*parts), query, json, None, repeatable))

    def _list(
        self, parse: Callable[[Mapping[str, Any]], T], limit: int | None, *parts: str | int, **query: Any
    ) -> AsyncListing[T]:
        return AsyncListing(self._transport, Request("GET", path(*parts), query), parse, limit)


class AsyncModels(_AsyncResource):
    """Registered models."""

    def list(self, *, limit: int | None = None) -> AsyncListing[ModelItem]:
        """All of them."""
        return self._list(lambda item: read(ModelItem, item), limit, "models")

    async def get(self, name: str) -> ModelView:
        """One, with its versions, aliases and their history."""
        return ModelView.of(await self._ask("GET", "models", name))

    async def promote(self, name: str, version: int, alias: str = "champion", *, why: str | None = None) -> AliasMove:
        """Moves an alias to a version.

        Raises:
            ConflictError: when the version's evidence says no.
        """
        body = given(version=version, alias=alias, why=why)
        return AliasMove.of(await self._ask("POST", "models", name, "promote", json=body, repeatable=False))

    async def rollback(self, name: str, alias: str = "champion", *, why: str | None = None) -> AliasMove:
        """Moves an alias back to where it was before."""
        body = given(alias=alias, why=why)
        return AliasMove.of(await self._ask("POST", "models", name, "rollback", json=body, repeatable=False))

    def log(self, name: str, *, limit: int | None = None) -> AsyncListing[Mapping[str, Any]]:
        """Who did what with it, when and why."""
        return self._list(dict, limit, "models", name, "log")


class AsyncPipelines(_AsyncResource):
    """Kept pipelines."""

    async def check(self, pipeline: PipelineLike, params: Mapping[str, Any] | None = None) -> PipelineCheck:
        """Checks a pipeline without running it.

        Raises:
            BadPipelineError: with all of its mistakes.
        """
        body = {"pipeline": text_of(pipeline), "params": dict(params or {})}
        found = await self._ask("POST", "pipelines", "check", json=body)
        return read(PipelineCheck, found, steps=tuple(found["steps"]), warnings=tuple(found.get("warnings") or ()))

    async def keep(self, pipeline: PipelineLike, *, namespace: str | None = None) -> PipelineVersion:
        """Keeps a pipeline as the newest version under its name; the same text makes no new version."""
        body = given(pipeline=text_of(pipeline), namespace=namespace)
        return read(PipelineVersion, await self._ask("POST", "pipelines", json=body))

    def list(self, *, limit: int | None = None) -> AsyncListing[PipelineItem]:
        """All of them."""
        return self._list(lambda item: read(PipelineItem, item), limit, "pipelines")

    async def versions(self, name: str, *, namespace: str | None = None) -> Sequence[PipelineVersion]:
        """The versions of one."""
        found = await self._ask("GET", "pipelines", name, namespace=namespace)
        return [read(PipelineVersion, {"name": name, **one}) for one in found["versions"]]

    async def get(self, name: str, version: int, *, namespace: str | None = None) -> PipelineVersion:
        """One version, with its text."""
        found = await self._ask("GET", "pipelines", name, "versions", version, namespace=namespace)
        return read(PipelineVersion, found)


def _schedule(data: Mapping[str, Any]) -> Schedule:
    return read(Schedule, data, next_ms=tuple(data.get("next_ms") or ()), recent=tuple(data.get("recent") or ()))


def _trigger(data: Mapping[str, Any]) -> Trigger:
    return read(Trigger, data, recent=tuple(data.get("recent") or ()))


class AsyncSchedules(_AsyncResource):
    """Runs made by the clock."""

    async def put(
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
        return _schedule(await self._ask("PUT", "schedules", name, json=body, namespace=namespace))

    def list(self, *, namespace: str | None = None, limit: int | None = None) -> AsyncListing[Schedule]:
        """All of them."""
        return self._list(_schedule, limit, "schedules", namespace=namespace)

    async def get(self, name: str, *, namespace: str | None = None) -> Schedule:
        """One, with its next times and what came of the last."""
        return _schedule(await self._ask("GET", "schedules", name, namespace=namespace))

    async def pause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes no runs until it is unpaused."""
        await self._ask("POST", "schedules", name, "pause", namespace=namespace)

    async def unpause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes runs again."""
        await self._ask("POST", "schedules", name, "unpause", namespace=namespace)

    async def delete(self, name: str, *, namespace: str | None = None) -> None:
        """Removes it; its runs stay."""
        await self._ask("DELETE", "schedules", name, namespace=namespace)


class AsyncTriggers(_AsyncResource):
    """Runs made when something happens: a new file, a webhook, the end of another run."""

    async def put(
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
        return _trigger(await self._ask("PUT", "triggers", name, json=body, namespace=namespace))

    def list(self, *, namespace: str | None = None, limit: int | None = None) -> AsyncListing[Trigger]:
        """All of them."""
        return self._list(_trigger, limit, "triggers", namespace=namespace)

    async def get(self, name: str, *, namespace: str | None = None) -> Trigger:
        """One."""
        return _trigger(await self._ask("GET", "triggers", name, namespace=namespace))

    async def pause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes no runs until it is unpaused."""
        await self._ask("POST", "triggers", name, "pause", namespace=namespace)

    async def unpause(self, name: str, *, namespace: str | None = None) -> None:
        """Makes runs again."""
        await self._ask("POST", "triggers", name, "unpause", namespace=namespace)

    async def fire(self, name: str, body: Mapping[str, Any] | None = None, *, namespace: str | None = None) -> str:
        """Makes a run, as a webhook would; its id."""
        # With a key of its own it can be sent again after a lost answer.
        headers = {"idempotency-key": str(uuid.uuid4())}
        query = {"namespace": namespace}
        request = Request("POST", path("triggers", name, "fire"), query, dict(body or {}), headers)
        found = await self._transport.ask(request)
        return str(found["run"])

    async def delete(self, name: str, *, namespace: str | None = None) -> None:
        """Removes it; its runs stay."""
        await self._ask("DELETE", "triggers", name, namespace=namespace)


def _endpoint(data: Mapping[str, Any]) -> EndpointItem:
    return read(EndpointItem, data, shadows=tuple(data.get("shadows") or ()))


class AsyncEndpoints(_AsyncResource):
    """Names that online scoring answers under: a champion, a canary, shadows."""

    def list(self, *, limit: int | None = None) -> AsyncListing[EndpointItem]:
        """All of them."""
        request = Request("GET", path("endpoints"), paged=False)
        return AsyncListing(self._transport, request, _endpoint, limit)

    async def get(self, name: str) -> Mapping[str, Any]:
        """One, and how its models do."""
        found: Mapping[str, Any] = await self._ask("GET", "endpoints", name)
        return found

    async def put(self, name: str, endpoint: Mapping[str, Any]) -> None:
        """Makes or changes one."""
        await self._ask("PUT", "endpoints", name, json=dict(endpoint))

    async def delete(self, name: str) -> None:
        """Removes it."""
        await self._ask("DELETE", "endpoints", name)


class AsyncDeadLetters(_AsyncResource):
    """Messages that nobody could read."""

    def list(self, *, queue: str | None = None, limit: int | None = None) -> AsyncListing[DeadLetter]:
        """All of them, or those of one queue."""
        return self._list(lambda item: read(DeadLetter, item), limit, "dead-letters", queue=queue)

    async def requeue(self, letter: str) -> None:
        """Puts one back where it came from."""
        await self._ask("POST", "dead-letters", letter, "requeue", repeatable=False)

    async def delete(self, letter: str) -> None:
        """Throws one away."""
        await self._ask("DELETE", "dead-letters", letter)


class AsyncTokens(_AsyncResource):
    """Tokens, which say who may do what."""

    def list(self, *, limit: int | None = None) -> AsyncListing[TokenItem]:
        """All of them, without their secrets."""
        return self._list(
            lambda item: read(TokenItem, item, namespaces=tuple(item.get("namespaces") or ())), limit, "tokens"
        )

    async def create(
        self,
        name: str,
        role: Literal["viewer", "submitter", "deployer", "admin"],
        *,
        namespaces: Sequence[str] = ("*",),
        expires_days: int | None = None,
    ) -> NewToken:
        """Makes one. Its secret is shown this once."""
        body = given(name=name, role=role, namespaces=[*namespaces], expires_days=expires_days)
        return read(NewToken, await self._ask("POST", "tokens", json=body, repeatable=False))

    async def delete(self, token: str) -> None:
        """Makes one worthless."""
        await self._ask("DELETE", "tokens", token)

    def audit(self, *, limit: int | None = None) -> AsyncListing[Mapping[str, Any]]:
        """Who did what."""
        return self._list(dict, limit, "audit")


class AsyncDatasets(_AsyncResource):
    """Datasets of recent runs."""

    def list(self, *, limit: int | None = None) -> AsyncListing[DatasetItem]:
        """The newest first."""
        return self._list(lambda item: read(DatasetItem, item), limit, "datasets")

    async def get(self, digest: str) -> DatasetView:
        """One, by its digest."""
        return DatasetView.of(await self._ask("GET", "datasets", digest))


class AsyncCluster(_AsyncResource):
    """Workers and pools."""

    def workers(self, *, limit: int | None = None) -> AsyncListing[WorkerItem]:
        """The workers that live."""
        return self._list(
            lambda item: read(WorkerItem, item, pools=tuple(item["pools"]), held=tuple(item.get("held") or ())),
            limit,
            "workers",
        )

    def pools(self, *, limit: int | None = None) -> AsyncListing[PoolItem]:
        """The pools."""
        request = Request("GET", path("pools"), paged=False)
        return AsyncListing(self._transport, request, lambda item: read(PoolItem, item), limit)


def _submission(submit: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(submit)
    if "pipeline" in found:
        found["pipeline"] = text_of(found["pipeline"])
    return found
