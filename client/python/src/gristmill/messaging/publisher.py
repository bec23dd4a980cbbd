"""Publishing with confirms that are not waited for one by one: a thread that pipelines them.

```text
callers ── batches ──► thread: up to so many unconfirmed ──► RabbitMQ
   ▲                        │ ◄── confirms, returns, answers ──┘
   └────── futures ◄────────┘
```

What a lost connection leaves unconfirmed is published again under the same message id, so that whoever takes it twice
can tell.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any

from gristmill.errors import GristmillError, TimedOutError, UnavailableError, missing_extra

try:
    import pika
    from pika.adapters.select_connection import SelectConnection
    from pika.exceptions import AMQPError
except ImportError as error:  # pragma: no cover
    raise missing_extra("pika", "queue") from error

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
"""A peer that is gone is noticed after two."""
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 1.0
"""Pauses before a connection is tried again."""
UNCONFIRMED_MAX = 10_000
"""Messages on their way. RabbitMQ may keep confirms back for a fifth of a second, until it has written to its disk."""
UNCONFIRMED_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of messages on their way, which stay in memory to be published again."""
TURN_MAX = 200
"""Messages published before confirms are looked at again."""
FRAME_OVERHEAD = 8
"""Bytes of a frame beside what it carries."""
DIRECT_REPLY = "amq.rabbitmq.reply-to"
"""The address of answers that come back over the same channel."""
DELIVERY_LIMIT = 1_000_000
"""Giving back isn't failing here, so there should be no limit for quorum queues."""


@dataclass(frozen=True)
class Message:
    """A message for a queue."""

    queue: str
    body: bytes
    content_type: str
    message_id: str
    timestamp_s: int
    headers: dict[str, Any] | None = None
    wants_answer: bool = False
    expiration_ms: int | None = None


@dataclass(frozen=True)
class Answer:
    """What came back for a message."""

    body: bytes
    headers: dict[str, Any]


@dataclass(eq=False)
class _Batch:
    """Messages whose confirms, or answers, are waited for together."""

    messages: Sequence[Message]
    deadline: float
    done: Future[dict[str, Answer]] = field(default_factory=Future)
    next: int = 0
    left: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = len(self.messages)

    def fail(self, error: GristmillError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def one_done(self) -> None:
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(self.answers)


class Publisher:
    """A connection to RabbitMQ on a thread of its own, made anew when it is lost."""

    def __init__(self, url: str, queue_type: str = "classic") -> None:
        self._parameters = pika.URLParameters(url)
        self._parameters.heartbeat = HEARTBEAT_SECONDS
        self._parameters.socket_timeout = self._parameters.stack_timeout = 5
        self._parameters.client_properties = {"connection_name": "gristmill python publish"}
        self._queue_type = queue_type
        self._connection: Any = None
        self._channel: Any = None
        self._methods: dict[str, bytes] = {}
        self._declared: set[str] = set()
        self._declaring: set[str] = set()
        self._batches: deque[_Batch] = deque()
        self._repeat: deque[tuple[Message, _Batch]] = deque()
        self._unconfirmed: dict[int, tuple[Message, _Batch]] = {}
        self._unconfirmed_bytes = 0
        self._oldest, self._next_tag = 1, 1
        self._returned: set[str] = set()
        self._unanswered: dict[str, tuple[Message, _Batch]] = {}
        self._pumping = False
        self._closing = False
        self._last_error: str = "there is no connection yet"
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._thread = threading.Thread(target=self._run, name="gristmill-publisher", daemon=True)
        self._thread.start()

    def publish(self, messages: Sequence[Message], timeout_s: float) -> dict[str, Answer]:
        """Publishes messages, and waits until RabbitMQ has them all; the answers to those that want one, by message id.

        Raises:
            UnavailableError: when the broker refuses one.
            TimedOutError: when it takes too long; some may have been published.
        """
        if not messages:
            return {}
        batch = _Batch(messages, time.monotonic() + timeout_s)
        self._soon(lambda: self._begin(batch))
        try:
            return batch.done.result(timeout_s)
        except FutureTimeoutError as error:
            self._soon(lambda: self._forget(batch))
            left = f"{batch.left} of {len(messages)} messages are left"
            raise TimedOutError(
                f"RabbitMQ didn't take all within {timeout_s} s: {left} ({self._last_error})"
            ) from error

    def close(self) -> None:
        """Ends the connection; what isn't confirmed by then may be lost."""
        self._soon(self._close)
        self._thread.join(timeout=5)

    # --- The thread ---

    def _soon(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._closing:
                raise UnavailableError("the connection to RabbitMQ is closed")
            self._waiting.append(call)
            connection = self._connection
        if connection is not None:
            connection.ioloop.add_callback_threadsafe(self._take)

    def _take(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                call = self._waiting.popleft()
            call()

    def _close(self) -> None:
        self._closing = True
        for batch in self._batches:
            batch.fail(UnavailableError("the connection to RabbitMQ was closed"))
        connection = self._connection
        if connection is not None and connection.is_open:
            connection.close()
        elif connection is not None:
            connection.ioloop.stop()

    def _run(self) -> None:
        pause = RETRY_FIRST_S
        while not self._closing:
            connection = SelectConnection(
                self._parameters,
                on_open_callback=self._opened,
                on_open_error_callback=self._lost,
                on_close_callback=self._lost,
            )
            with self._lock:
                self._connection = connection
            try:
                connection.ioloop.start()
            except (AMQPError, OSError) as error:
                self._last_error = repr(error)
            if self._channel is not None:
                pause = RETRY_FIRST_S
            with self._lock:
                self._connection, self._channel = None, None
            self._begin_again()
            until = time.monotonic() + pause
            while not self._closing and time.monotonic() < until:
                self._take()
                time.sleep(min(0.01, pause))
            pause = min(pause * 2, RETRY_MAX_S)

    def _begin_again(self) -> None:
        """What wasn't confirmed, and what wasn't answered, is published again."""
        repeat = [self._unconfirmed[tag] for tag in sorted(self._unconfirmed)]
        for waiting in self._unanswered.values():
            waiting[1].left += 1
            repeat.append(waiting)
        self._unanswered.clear()
        self._repeat.extendleft(reversed(repeat))
        self._unconfirmed.clear()
        self._unconfirmed_bytes = 0
        self._oldest, self._next_tag = 1, 1
        self._methods.clear()
        self._declared.clear()
        self._declaring.clear()
        self._returned.clear()
        self._pumping = False

    def _lost(self, connection: Any, error: Any) -> None:
        self._last_error = repr(error)
        log.debug("the connection to RabbitMQ has ended: %r", error)
        connection.ioloop.stop()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Any) -> None:
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(self._message_returned)
        channel.confirm_delivery(self._confirmed)
        channel.basic_consume(DIRECT_REPLY, self._answered, auto_ack=True)
        self._channel = channel
        self._take()
        self._pump()

    def _channel_closed(self, channel: Any, error: Any) -> None:
        self._last_error = repr(error)
        self._channel = None
        if getattr(error, "reply_code", None) == 406:
            hint = "give the queue's type with `queue_type=` or `GRISTMILL_QUEUE_TYPE`"
            failure = UnavailableError(f"RabbitMQ refuses the queue: {error.reply_text}", hint=hint)
            for batch in (*self._batches, *(batch for _, batch in self._repeat)):
                batch.fail(failure)
            self._batches.clear()
            self._repeat.clear()
        if channel.connection.is_open:
            channel.connection.close()

    def _begin(self, batch: _Batch) -> None:
        self._batches.append(batch)
        self._pump()

    def _forget(self, batch: _Batch) -> None:
        """Nobody waits for it any more."""
        if batch in self._batches:
            self._batches.remove(batch)
        self._repeat = deque(waiting for waiting in self._repeat if waiting[1] is not batch)
        self._unanswered = {key: waiting for key, waiting in self._unanswered.items() if waiting[1] is not batch}

    def _pump(self) -> None:
        """Publishes what may be, a turn's worth, and comes again for the rest."""
        if self._channel is None or not self._channel.is_open:
            return
        frames: list[bytes] = []
        published = 0
        while published < TURN_MAX and self._has_room():
            waiting = self._following()
            if waiting is None:
                break
            frames += self._frames(*waiting)
            published += 1
        if frames:
            # One write for all of them: pika makes three of each message, and system calls are most of what it costs.
            self._connection._adapter_emit_data(b"".join(frames))
        if published == TURN_MAX and not self._pumping:
            self._pumping = True
            self._connection.ioloop.add_callback_threadsafe(self._pump_again)

    def _has_room(self) -> bool:
        return len(self._unconfirmed) < UNCONFIRMED_MAX and self._unconfirmed_bytes < UNCONFIRMED_BYTES_MAX

    def _pump_again(self) -> None:
        self._pumping = False
        self._pump()

    def _following(self) -> tuple[Message, _Batch] | None:
        """The next message whose queue is known to be there."""
        if self._repeat:
            message, batch = self._repeat[0]
            if not self._is_declared(message.queue):
                return None
            self._repeat.popleft()
            return message, batch
        while self._batches:
            batch = self._batches[0]
            if batch.next >= len(batch.messages) or batch.done.done():
                self._batches.popleft()
                continue
            message = batch.messages[batch.next]
            if not self._is_declared(message.queue):
                return None
            batch.next += 1
            return message, batch
        return None

    def _is_declared(self, queue: str) -> bool:
        if queue in self._declared:
            return True
        if queue not in self._declaring:
            self._declaring.add(queue)
            arguments: dict[str, Any] = {"x-queue-type": self._queue_type}
            if self._queue_type == "quorum":
                arguments["x-delivery-limit"] = DELIVERY_LIMIT

            def declared(_: Any) -> None:
                self._declared.add(queue)
                self._pump()

            self._channel.queue_declare(queue, durable=True, arguments=arguments, callback=declared)
        return False

    def _frames(self, message: Message, batch: _Batch) -> list[bytes]:
        """A message as it goes over the wire; it is unconfirmed from here on."""
        properties = pika.BasicProperties(
            content_type=message.content_type,
            delivery_mode=2,
            message_id=message.message_id,
            timestamp=message.timestamp_s,
            headers=message.headers,
            expiration=None if message.expiration_ms is None else str(message.expiration_ms),
            reply_to=DIRECT_REPLY if message.wants_answer else None,
            correlation_id=message.message_id if message.wants_answer else None,
        )
        number, body = self._channel.channel_number, message.body
        method = self._methods.get(message.queue)
        if method is None:
            # Mandatory: a queue that was deleted meanwhile would swallow the message, and it would be confirmed.
            publish = pika.spec.Basic.Publish(routing_key=message.queue, mandatory=True)
            method = self._methods[message.queue] = pika.frame.Method(number, publish).marshal()
        room = self._connection.params.frame_max - FRAME_OVERHEAD
        self._unconfirmed[self._next_tag] = (message, batch)
        self._unconfirmed_bytes += len(body)
        self._next_tag += 1
        if message.wants_answer:
            self._unanswered[message.message_id] = (message, batch)
        frames = [method, pika.frame.Header(number, len(body), properties).marshal()]
        frames += [pika.frame.Body(number, body[at : at + room]).marshal() for at in range(0, len(body), room)]
        return frames

    def _message_returned(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        self._returned.add(properties.message_id)
        # Declared again when the message is published again.
        self._declared.discard(method.routing_key)
        self._declaring.discard(method.routing_key)

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        is_ack = method.NAME == "Basic.Ack"
        if method.multiple:
            tags = range(self._oldest, method.delivery_tag + 1)
            self._oldest = method.delivery_tag + 1
        else:
            tags = range(method.delivery_tag, method.delivery_tag + 1)
        for tag in tags:
            waiting = self._unconfirmed.pop(tag, None)
            if waiting is None:
                continue
            message, batch = waiting
            self._unconfirmed_bytes -= len(message.body)
            if message.message_id in self._returned:
                self._returned.discard(message.message_id)
                self._unanswered.pop(message.message_id, None)
                self._repeat.append(waiting)
            elif not is_ack:
                self._unanswered.pop(message.message_id, None)
                batch.fail(UnavailableError(f"RabbitMQ refuses a message for `{message.queue}`: is the queue full?"))
            elif not message.wants_answer:
                batch.one_done()
        self._pump()

    def _answered(self, _channel: Any, _method: Any, properties: Any, body: bytes) -> None:
        waiting = self._unanswered.pop(properties.correlation_id or "", None)
        if waiting is not None:
            message, batch = waiting
            batch.answers[message.message_id] = Answer(body, dict(properties.headers or {}))
            batch.one_done()
