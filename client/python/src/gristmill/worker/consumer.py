"""Consuming pools' queues: a thread that builds all anew whenever something ends.

RabbitMQ counts what is unsettled for each of its consumers, and their prefetch can't be changed. Where less credit is
wanted, the consumer is cancelled; what is still out from before then counts against the credit of the next one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gristmill.errors import UnavailableError, missing_extra
from gristmill.worker.store import PREFIX

try:
    import pika
    from pika.exceptions import AMQPError
except ImportError as error:  # pragma: no cover
    raise missing_extra("pika", "worker") from error

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10
"""A peer that is gone is noticed after two."""
RETRY_FIRST_S, RETRY_MAX_S = 0.05, 1.0
"""Pauses before a connection is tried again: short, since whatever waits for a worker waits for it."""
SILENCE_S = 10.0
"""After how long without a delivery the queues are asked for: an end that nobody told us of is noticed then."""
DELIVERY_LIMIT = 1_000_000
"""Giving back isn't failing here, so there should be no limit for quorum queues."""


def queue_arguments(queue_type: str) -> dict[str, Any]:
    """What a queue of this type is declared with."""
    arguments: dict[str, Any] = {"x-queue-type": queue_type}
    if queue_type == "quorum":
        arguments["x-delivery-limit"] = DELIVERY_LIMIT
    return arguments


def connection_parameters(url: str, purpose: str) -> Any:
    """How to connect to a broker; the purpose shows in its list of connections."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = HEARTBEAT_SECONDS
    parameters.socket_timeout = 5
    parameters.stack_timeout = 10
    parameters.client_properties = {"connection_name": f"gristmill python {purpose}"}
    return parameters


@dataclass(frozen=True)
class Delivery:
    """A message that is ours until it is settled."""

    body: bytes
    message_id: str
    queue: str
    tag: int
    life: int


@dataclass
class _Pool:
    queue: str
    consumer: str | None = None
    given: int = 0
    out: set[int] = field(default_factory=set)
    out_before: set[int] = field(default_factory=set)


class Consumers:
    """The consumers of some pools. `deliver` is called on their thread and must return at once."""

    def __init__(self, url: str, pools: Sequence[str], queue_type: str, deliver: Callable[[Delivery], None]) -> None:
        self._parameters = connection_parameters(url, "worker")
        self._queue_type = queue_type
        self._deliver = deliver
        self._pools = [_Pool(f"{PREFIX}.pool.{pool}") for pool in pools]
        self._credit = 0
        self._life = 0
        self._cancelled = False
        self._closing = False
        self._commands: queue.SimpleQueue[Callable[[Any], None]] = queue.SimpleQueue()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._run, name="consumers", daemon=True)

    def start(self) -> None:
        """Connects, and begins to consume once there is credit.

        Raises:
            UnavailableError: when the broker can't be reached.
        """
        try:
            pika.BlockingConnection(self._parameters).close()
        except (AMQPError, OSError) as error:
            place = f"{self._parameters.host}:{self._parameters.port}"
            raise UnavailableError(f"RabbitMQ at {place} can't be reached: {error!r}") from error
        self._thread.start()

    def set_credit(self, credit: int) -> None:
        """Messages of each pool that may be unsettled."""
        self._command(lambda _: setattr(self, "_credit", credit))

    def ack(self, delivery: Delivery) -> None:
        """The message is done with."""
        self._command(lambda channel: self._settle(channel, delivery, requeue=False))

    def requeue(self, delivery: Delivery) -> None:
        """The message goes back to its queue."""
        self._command(lambda channel: self._settle(channel, delivery, requeue=True))

    def close(self, timeout_s: float = 5.0) -> None:
        """Ends; what wasn't settled is given back."""
        self._command(lambda _: setattr(self, "_closing", True))
        self._thread.join(timeout_s)

    def _command(self, command: Callable[[Any], None]) -> None:
        self._commands.put(command)
        connection = self._connection
        if connection is not None and connection.is_open:
            try:
                connection.add_callback_threadsafe(lambda: None)
            except AMQPError:
                # It has ended just now; commands are carried out when there is another.
                log.debug("the connection ended while it was woken")

    def _settle(self, channel: Any, delivery: Delivery, *, requeue: bool) -> None:
        if delivery.life != self._life or channel is None:
            return
        for pool in self._pools:
            pool.out.discard(delivery.tag)
            pool.out_before.discard(delivery.tag)
        if requeue:
            channel.basic_nack(delivery.tag, requeue=True)
        else:
            channel.basic_ack(delivery.tag)

    def _run(self) -> None:
        pause = RETRY_FIRST_S
        while not self._closing:
            try:
                self._live()
                return
            except (AMQPError, OSError, _CancelledError) as error:
                log.warning("the consumers are built anew: %r", error)
            self._life += 1
            until = time.monotonic() + pause
            pause = pause * 2 if time.monotonic() < until else RETRY_MAX_S
            pause = min(pause, RETRY_MAX_S)
            self._carry_out(None, until)

    def _carry_out(self, channel: Any, until: float | None) -> None:
        """Carries out what is asked for; with `until` waits for more until then."""
        while not self._closing:
            try:
                if until is None:
                    command = self._commands.get_nowait()
                else:
                    command = self._commands.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            command(channel)

    def _live(self) -> None:
        connection = self._connection = pika.BlockingConnection(self._parameters)
        try:
            channel = connection.channel()
            self._cancelled = False
            channel.add_on_cancel_callback(lambda _: setattr(self, "_cancelled", True))
            for pool in self._pools:
                pool.consumer, pool.given = None, 0
                pool.out, pool.out_before = set(), set()
                channel.queue_declare(pool.queue, durable=True, arguments=queue_arguments(self._queue_type))
            asked = time.monotonic()
            while True:
                self._carry_out(channel, None)
                if self._closing:
                    return
                for pool in self._pools:
                    self._adjust(channel, pool)
                if not self._commands.empty():
                    continue
                connection.process_data_events(time_limit=SILENCE_S)
                if self._cancelled:
                    raise _CancelledError
                if time.monotonic() - asked > SILENCE_S:
                    asked = time.monotonic()
                    for pool in self._pools:
                        channel.queue_declare(pool.queue, passive=True)
        finally:
            if connection.is_open:
                connection.close()

    def _adjust(self, channel: Any, pool: _Pool) -> None:
        """Gives the pool the credit that it is to have, less what is out from before."""
        if max(0, self._credit - len(pool.out_before)) == pool.given:
            return
        if pool.consumer is not None:
            # What was pushed and not handed out goes back with this.
            channel.basic_cancel(pool.consumer)
            pool.out_before |= pool.out
            pool.consumer, pool.given, pool.out = None, 0, set()
        given = max(0, self._credit - len(pool.out_before))
        if given > 0:
            # Never a prefetch of 0: on the wire it means no limit.
            channel.basic_qos(prefetch_count=given)
            pool.consumer = channel.basic_consume(pool.queue, lambda *message: self._received(pool, *message))
            pool.given = given

    def _received(self, pool: _Pool, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        pool.out.add(method.delivery_tag)
        message_id = properties.message_id or ""
        self._deliver(Delivery(body, message_id, pool.queue, method.delivery_tag, self._life))


class _CancelledError(Exception):
    """The broker has cancelled a consumer: was its queue deleted?"""
