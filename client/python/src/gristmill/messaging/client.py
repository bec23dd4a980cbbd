"""Runs submitted, and rows scored, by messages."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from gristmill.environment import setting
from gristmill.errors import (
    BadInputError,
    GristmillError,
    TooLargeError,
    UnavailableError,
    error_of,
    missing_extra,
)
from gristmill.limits import MESSAGE_BYTES_MAX, SUBMISSIONS_MAX
from gristmill.messaging.publisher import Answer, Message, Publisher
from gristmill.pipeline import PipelineLike, text_of
from gristmill.scoring import RowsLike, Scores, refusal_of, request_of, scores_of

try:
    import msgpack
except ImportError as error:  # pragma: no cover
    raise missing_extra("msgpack", "queue") from error

ONE = "application/vnd.gristmill.submission+msgpack; v=1"
MANY = "application/vnd.gristmill.submissions+msgpack; v=1"
CHUNK = 5_000
"""Messages that are encoded before the first of them is published."""


@dataclass(frozen=True)
class Submission:
    """A run to make: a pipeline, or the name of a kept one, and what it runs with."""

    pipeline: PipelineLike | None = None
    name: str | None = None
    version: int | None = None
    params: Mapping[str, Any] | None = None
    key: str | None = None
    namespace: str | None = None
    priority: int | None = None
    no_cache: bool = False

    def to_wire(self) -> dict[str, Any]:
        """As messages and requests have it."""
        if (self.pipeline is None) == (self.name is None):
            raise BadInputError("a submission has either a `pipeline` or the `name` of a kept one")
        fields: dict[str, Any] = {
            "pipeline": None if self.pipeline is None else text_of(self.pipeline),
            "name": self.name,
            "version": self.version,
            "params": dict(self.params) if self.params else None,
            "key": self.key,
            "namespace": self.namespace,
            "priority": self.priority,
            "no_cache": self.no_cache or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Receipt:
    """A submission that RabbitMQ has safe."""

    key: str
    """What makes it the same one when it is submitted again."""
    run: str | None = None
    """The run, where an answer was asked for."""
    error: GristmillError | None = None
    """Why it was refused, where an answer was asked for."""


class QueueClient:
    """Submits runs over RabbitMQ, with confirms; thread-safe.

    A submission is safe when the call returns, whether or not a scheduler runs. The same key makes the same run.
    """

    def __init__(
        self, url: str | None = None, *, queue_type: str | None = None, prefix: str = "gm", timeout: float = 30.0
    ) -> None:
        address = setting(url, "GRISTMILL_BROKER")
        if address is None:
            raise BadInputError("there is no broker to submit to", hint="give `url=` or set GRISTMILL_BROKER")
        kind = setting(queue_type, "GRISTMILL_QUEUE_TYPE", "classic") or "classic"
        self._queue = f"{prefix}.submissions"
        self._timeout = timeout
        self._publisher = Publisher(address, kind)

    def submit(
        self,
        pipeline: PipelineLike | None = None,
        *,
        name: str | None = None,
        version: int | None = None,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        namespace: str | None = None,
        priority: int | None = None,
        no_cache: bool = False,
        answer: bool = False,
    ) -> Receipt:
        """Submits a run. With `answer` waits until a scheduler has made it, and says which it is.

        Raises:
            GristmillError: why it was refused, with `answer`; why it can't be submitted, else.
        """
        submission = Submission(pipeline, name, version, params, key, namespace, priority, no_cache)
        (receipt,) = self.submit_many([submission], answers=answer)
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def submit_many(
        self,
        submissions: Iterable[Submission | PipelineLike],
        *,
        per_message: int = 1,
        answers: bool = False,
    ) -> list[Receipt]:
        """Submits many runs, with confirms on the way while more are published; receipts in the same order.

        With `per_message` over 1 a message carries that many, which is faster still; schedulers need to be of a version
        that takes lists.

        Raises:
            GristmillError: when they can't be submitted. Some of them may have been: submit them all again with the same keys.
        """
        if not 1 <= per_message <= SUBMISSIONS_MAX:
            raise BadInputError(f"a message carries 1 to {SUBMISSIONS_MAX} submissions")
        receipts: list[Receipt] = []
        messages: list[Message] = []
        keys: list[list[str]] = []
        for message, of_message in self._messages(submissions, per_message, answers):
            messages.append(message)
            keys.append(of_message)
            if len(messages) >= CHUNK:
                receipts += self._publish(messages, keys)
                messages, keys = [], []
        return receipts + self._publish(messages, keys)

    def score(
        self,
        model: str,
        rows: RowsLike,
        *,
        version: str | int | None = None,
        queue: str = "gristmill.score",
        timeout: float | None = None,
    ) -> Scores:
        """Scores rows by whichever server takes the request first (`gristmill serve --queue`).

        Raises:
            GristmillError: why it was refused.
            TimedOutError: when nobody has answered in time; the request is dropped then.
        """
        seconds = self._timeout if timeout is None else timeout
        headers = {"gristmill-model": model, "gristmill-timeout-ms": str(int(seconds * 1000))}
        if version is not None:
            headers["gristmill-model-version"] = str(version)
        key = str(uuid.uuid4())
        body = json.dumps(request_of(rows), allow_nan=False).encode()
        expiration = int(seconds * 1000)
        message = Message(queue, body, "application/json", key, int(time.time()), headers, True, expiration)
        answer = self._publisher.publish([message], seconds)[key]
        status = int(answer.headers.get("gristmill-status", 200))
        if status >= 400:
            raise refusal_of(status, answer.body)
        return scores_of(json.loads(answer.body))

    def _messages(
        self, submissions: Iterable[Submission | PipelineLike], per_message: int, answers: bool
    ) -> Iterator[tuple[Message, list[str]]]:
        now = int(time.time())
        several: list[dict[str, Any]] = []
        base = uuid.uuid4().hex
        for number, given in enumerate(submissions):
            submission = given if isinstance(given, Submission) else Submission(given)
            fields = submission.to_wire()
            if per_message == 1:
                # Without a key the message's id is the key.
                key = submission.key or f"{base}-{number}"
                yield self._message(fields, ONE, key, now, answers), [key]
                continue
            fields.setdefault("key", f"{base}-{number}")
            several.append(fields)
            if len(several) == per_message:
                yield self._message(several, MANY, f"{base}-{number}", now, answers), [one["key"] for one in several]
                several = []
        if several:
            yield self._message(several, MANY, f"{base}-last", now, answers), [one["key"] for one in several]

    def _message(self, body: Any, content_type: str, message_id: str, now: int, answers: bool) -> Message:
        packed: bytes = msgpack.packb(body, use_bin_type=True)
        if len(packed) > MESSAGE_BYTES_MAX:
            hint = "give fewer submissions to a message with `per_message`"
            raise TooLargeError(f"a message has {len(packed)} bytes; the limit is {MESSAGE_BYTES_MAX}", hint=hint)
        return Message(self._queue, packed, content_type, message_id, now, wants_answer=answers)

    def _publish(self, messages: list[Message], keys: list[list[str]]) -> list[Receipt]:
        # A message that is published again has the same id, and makes the same run.
        answers = self._publisher.publish(messages, self._timeout)
        receipts: list[Receipt] = []
        for message, of_message in zip(messages, keys, strict=True):
            answer = answers.get(message.message_id)
            receipts += [Receipt(key) for key in of_message] if answer is None else _receipts(answer, of_message)
        return receipts

    def close(self) -> None:
        """Closes the connection."""
        self._publisher.close()

    def __enter__(self) -> QueueClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _receipts(answer: Answer, keys: list[str]) -> list[Receipt]:
    found = json.loads(answer.body)
    answers = found if isinstance(found, list) else [found] * len(keys)
    if len(answers) != len(keys):
        raise UnavailableError(f"a message of {len(keys)} submissions got {len(answers)} answers")
    return [_receipt(one, key) for one, key in zip(answers, keys, strict=True)]


def _receipt(answer: Mapping[str, Any], key: str) -> Receipt:
    if "run" in answer:
        return Receipt(key, run=str(answer["run"]))
    return Receipt(key, error=error_of({**answer, "message": answer.get("error")}))
