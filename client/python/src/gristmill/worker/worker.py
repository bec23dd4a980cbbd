"""The worker's loop: deliveries → claims → slots → reports.

A message wakes; the store's claim decides. Granted attempts go to one list that all slots take from. The message is
acknowledged when its work has ended or a second after the claim, whichever is first: until then it is the slots'
credit, so a busy worker hoards nothing.
"""

from __future__ import annotations

import enum
import logging
import queue
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gristmill.errors import GristmillError, UnavailableError, VersionError
from gristmill.limits import (
    ACK_AFTER_S,
    DRAIN_S,
    FINISH_REPORTS_MAX,
    REASSERT_S,
    UNSTARTED_RETURN_S,
)
from gristmill.worker.consumer import Consumers, Delivery
from gristmill.worker.heartbeat import Heartbeat, Identity
from gristmill.worker.held import Held
from gristmill.worker.slot import ChildSettings, Slot
from gristmill.worker.store import Store
from gristmill.worker.wire import Assignment, Attempt, Outcome, Report, Work

log = logging.getLogger(__name__)

RETRY_S = 0.05
"""The pause before a store call that failed, or found the inbox full, is made again."""
GIVE_UP_S = 10.0
"""After the drain: how long reports may still wait for a store that is away. Their leases run out by themselves."""
KEPT_REPORTS_MAX = 4_096
"""Reports kept to be sent again: five seconds of a worker that ends hundreds a second."""


class Drain(enum.IntEnum):
    """How a worker is to end."""

    NO = 0
    FINISH = 1
    """Take nothing more; finish what runs, or hand it back when the grace period is over."""
    NOW = 2
    """Hand everything back now."""


@dataclass(frozen=True)
class WorkerConfig:
    """How a worker is set up."""

    broker: str
    state: str
    pools: tuple[str, ...]
    slots: int
    child: ChildSettings
    queue_type: str = "classic"
    allow_unsafe: bool = False
    drain_s: float = DRAIN_S


@dataclass
class _Message:
    """A message whose attempts were claimed."""

    delivery: Delivery | None
    claimed: float
    open: int
    attempts: list[Attempt]


@dataclass(frozen=True)
class _Granted:
    """An attempt that is the worker's."""

    work: Work
    message: int
    claimed: float
    alone: bool


@dataclass
class _Running:
    granted: _Granted
    slot: Slot
    began: float = field(default_factory=time.monotonic)
    began_us: int = field(default_factory=lambda: time.time_ns() // 1000)


class Worker:
    """A worker process."""

    def __init__(self, config: WorkerConfig) -> None:
        self._config = config
        self.id = f"w-{secrets.token_hex(8)}"
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._held = Held(lambda: self._post(self._say_again))
        self._store = Store(config.state, allow_unsafe=config.allow_unsafe)
        self._finish_store = self._store.another()
        identity = Identity(self.id, config.pools, config.slots)
        self._heartbeat = Heartbeat(self._store.another(), identity, self._held)
        self._consumers = Consumers(
            config.broker, config.pools, config.queue_type, lambda delivery: self._post(self._delivered, delivery)
        )
        self._slots = [
            Slot(config.child, self._held, lambda work, outcome: self._post(self._ended, work, outcome))
            for _ in range(config.slots)
        ]
        self._free = list(self._slots)
        # One thread each: a claim must not wait for reports, nor reports for a claim.
        self._claimer = ThreadPoolExecutor(1, "claims")
        self._finisher = ThreadPoolExecutor(1, "finishes")
        self._messages: dict[int, _Message] = {}
        self._next_message = 0
        self._ready: deque[_Granted] = deque()
        self._solo: tuple[Delivery, Assignment] | None = None
        self._running: dict[Attempt, _Running] = {}
        self._running_alone = False
        self._long_running: set[Attempt] = set()
        self._claims = 0
        self._finishes = 0
        self._outbox: list[Report] = []
        self._kept: deque[tuple[float, Report]] = deque()
        # How many lives of the store the heartbeat has seen. Nothing is taken before the first: whoever doesn't know in
        # which life it began can't tell that another has begun, and what it must say again.
        self._lives = 0
        self._credit = 0
        self._drain = Drain.NO
        self._drain_deadline: float | None = None
        self._gone = False

    def drain(self, how: Drain) -> None:
        """Asks for the end. May be called from a signal handler."""
        self._post(self._begin_draining, how)

    def run(self) -> None:
        """Works until it has drained.

        Raises:
            GristmillError: when the servers can't be used, or the tasks can't be imported.
        """
        self._store.check()
        self._consumers.start()
        tasks: list[str] = []
        try:
            for slot in self._slots:
                tasks = slot.start()
            names = ", ".join(f"`{task}`" for task in tasks) or "none"
            log.info("%s serves %s with the tasks %s", self.id, ", ".join(self._config.pools), names)
            self._heartbeat.start()
            self._loop()
        finally:
            self._end()

    def _loop(self) -> None:
        while True:
            self._begin_work()
            if self._is_over():
                return
            self._set_credit()
            wake = self._next_wake()
            timeout = None if wake is None else max(0.0, wake - time.monotonic())
            try:
                self._events.get(timeout=timeout)()
            except queue.Empty:
                self._woken()

    def _end(self) -> None:
        self._gone = True
        self._consumers.close()
        for slot in self._slots:
            if slot.is_started():
                slot.close()
        if self._heartbeat.is_started():
            self._heartbeat.end()
        self._claimer.shutdown(cancel_futures=True)
        self._finisher.shutdown(cancel_futures=True)
        try:
            self._store.leave(self.id)
        except GristmillError as error:
            log.debug("the worker couldn't say that it leaves: %s", error)

    def _post(self, event: Callable[..., None], *arguments: Any) -> None:
        self._events.put(lambda: event(*arguments))

    # --- Taking work ---

    def _set_credit(self) -> None:
        """Messages that may be delivered: one a slot, less the slots that long tasks keep."""
        takes = self._drain == Drain.NO and self._lives > 0 and self._solo is None and not self._running_alone
        credit = max(0, self._config.slots - len(self._long_running)) if takes else 0
        if credit != self._credit:
            self._credit = credit
            self._consumers.set_credit(credit)

    def _delivered(self, delivery: Delivery) -> None:
        if self._drain != Drain.NO:
            self._consumers.requeue(delivery)
            return
        try:
            assignment = Assignment.decode(delivery.body)
        except (VersionError, ValueError, KeyError, TypeError) as error:
            # Whoever published it will find the attempt unclaimed; it can't be worked on as it is.
            log.error("a message in `%s` is dropped: %s", delivery.queue, error)  # noqa: TRY400
            self._consumers.ack(delivery)
            return
        if assignment.solo and not self._is_idle():
            if self._solo is not None:
                self._consumers.requeue(self._solo[0])
            self._solo = (delivery, assignment)
        else:
            self._claim(delivery, assignment)

    def _claim(self, delivery: Delivery, assignment: Assignment) -> None:
        self._claims += 1
        attempts = [(work.attempt, work.timeout_ms) for work in assignment.work]

        def claim() -> None:
            answers: list[str] | None = None
            failure: GristmillError | None = None
            while answers is None and failure is None and not self._gone:
                try:
                    answers = self._store.claim(assignment.shard, self.id, attempts)
                except UnavailableError as error:
                    log.warning("attempts can't be claimed yet: %s", error)
                except GristmillError as error:
                    failure = error
                if answers is None and failure is None:
                    time.sleep(RETRY_S)
            self._post(self._answered, delivery, assignment, answers, failure)

        self._claimer.submit(claim)

    def _answered(
        self, delivery: Delivery, assignment: Assignment, answers: list[str] | None, failure: GristmillError | None
    ) -> None:
        """Takes the attempts that were granted; a message without any is done with."""
        self._claims -= 1
        if answers is None:
            log.warning("attempts can't be claimed: %s", failure)
            self._consumers.requeue(delivery)
            return
        message, now = self._next_message, time.monotonic()
        granted = []
        for work, answer in zip(assignment.work, answers, strict=True):
            # One that is held was published twice, and this worker has it already.
            if answer == "granted" and not self._held.holds(work.attempt):
                self._held.begin(work.attempt, work.timeout_ms)
                granted.append(_Granted(work, message, now, assignment.solo))
            elif answer != "granted":
                log.debug("%s is %s", work.attempt, answer)
        if not granted:
            self._consumers.ack(delivery)
            return
        self._next_message += 1
        attempts = [one.work.attempt for one in granted]
        self._messages[message] = _Message(delivery, now, len(granted), attempts)
        self._ready.extend(granted)
        if self._drain != Drain.NO:
            self._return_ready()

    def _is_idle(self) -> bool:
        return not self._running and not self._ready and self._claims == 0

    # --- Doing work ---

    def _begin_work(self) -> None:
        """Fills free slots and sends reports."""
        if self._solo is not None and self._is_idle():
            delivery, assignment = self._solo
            self._solo = None
            self._claim(delivery, assignment)
        while self._ready and self._free and not self._running_alone:
            if self._ready[0].alone and self._running:
                break
            granted = self._ready.popleft()
            slot = self._free.pop()
            self._running_alone = granted.alone
            self._running[granted.work.attempt] = _Running(granted, slot)
            slot.give(granted.work)
        if self._outbox:
            reports, self._outbox = self._outbox, []
            self._finish(reports)

    def _ended(self, work: Work, outcome: Outcome) -> None:
        running = self._running.pop(work.attempt)
        self._free.append(running.slot)
        self._running_alone = self._running_alone and not running.granted.alone
        if outcome.word == "stopped" and not self._held.was_stopped(work.attempt):
            # Stopped by us, and not because the store said so: it is handed back.
            outcome = Outcome.returned("draining")
        slot_us = int((time.monotonic() - running.began) * 1_000_000)
        self._report(Report(work.attempt, running.began_us, slot_us, outcome), running.granted.message)

    def _report(self, report: Report, message: int) -> None:
        self._held.end(report.attempt)
        self._long_running.discard(report.attempt)
        self._outbox.append(report)
        known = self._messages.get(message)
        if known is not None:
            known.open -= 1
            if known.open == 0:
                del self._messages[message]
                if known.delivery is not None:
                    self._consumers.ack(known.delivery)

    def _report_unstarted(self, granted: _Granted, cause: str) -> None:
        report = Report(granted.work.attempt, time.time_ns() // 1000, 0, Outcome.returned(cause))
        self._report(report, granted.message)

    def _finish(self, reports: list[Report]) -> None:
        life = self._lives
        for shard in sorted({report.attempt.shard for report in reports}):
            here = [report for report in reports if report.attempt.shard == shard]
            for start in range(0, len(here), FINISH_REPORTS_MAX):
                self._finishes += 1
                self._finisher.submit(self._send, shard, here[start : start + FINISH_REPORTS_MAX], life)

    def _send(self, shard: int, reports: list[Report], life: int) -> None:
        """Sends reports until the store has answered. What it answers changes nothing for the worker."""
        while not self._gone:
            try:
                answers = self._finish_store.finish(shard, self.id, reports)
            except GristmillError as error:
                log.warning("reports can't be sent: %s", error)
                time.sleep(RETRY_S)
            else:
                log.debug("reported: %s", answers)
                self._post(self._sent, reports, life)
                return

    def _sent(self, reports: list[Report], life: int) -> None:
        """Reports were taken. If the store has begun another life since they left, it may have forgotten them."""
        self._finishes -= 1
        if life != self._lives:
            self._finish(reports)
            return
        now, lived = time.monotonic(), self._held.store_lived_at()
        self._kept.extend((now, report) for report in reports)
        while self._kept and (
            (lived is not None and lived - self._kept[0][0] > REASSERT_S) or len(self._kept) > KEPT_REPORTS_MAX
        ):
            self._kept.popleft()

    def _say_again(self) -> None:
        """The store is known, or has begun another life and may have gone back: says again what was said lately."""
        self._lives += 1
        if self._lives > 1:
            kept, self._kept = self._kept, deque()
            self._finish([report for _, report in kept])
            self._heartbeat.beat_now()

    # --- What is due by time ---

    def _next_wake(self) -> float | None:
        acks = [known.claimed + ACK_AFTER_S for known in self._messages.values() if known.delivery is not None]
        unstarted = [self._ready[0].claimed + UNSTARTED_RETURN_S] if self._ready else []
        now = time.monotonic()
        drain = []
        if self._drain_deadline is not None:
            # A deadline that has passed has had its effect: to wake for it again would be to spin.
            drain = [at for at in (self._drain_deadline, self._drain_deadline + GIVE_UP_S) if at > now]
        return min([*acks, *unstarted, *drain], default=None)

    def _woken(self) -> None:
        now = time.monotonic()
        for known in self._messages.values():
            if known.delivery is not None and now - known.claimed >= ACK_AFTER_S:
                self._long_running.update(attempt for attempt in known.attempts if self._held.holds(attempt))
                log.debug("a message of %d attempts is acknowledged before its end", known.open)
                # Less credit first: else the next message would come as this one is acknowledged.
                self._set_credit()
                self._consumers.ack(known.delivery)
                known.delivery = None
        while self._ready and now - self._ready[0].claimed >= UNSTARTED_RETURN_S:
            self._report_unstarted(self._ready.popleft(), "unstarted")

    # --- Ending ---

    def _begin_draining(self, how: Drain) -> None:
        self._drain = max(self._drain, how)
        if self._drain_deadline is None:
            log.info("draining: what runs may take %.0f s more", self._config.drain_s)
            self._drain_deadline = time.monotonic() + self._config.drain_s
            self._held.draining = True
            self._heartbeat.beat_now()
            if self._solo is not None:
                self._consumers.requeue(self._solo[0])
                self._solo = None
            self._return_ready()

    def _return_ready(self) -> None:
        while self._ready:
            self._report_unstarted(self._ready.popleft(), "draining")

    def _is_over(self) -> bool:
        if self._drain_deadline is None:
            return False
        now = time.monotonic()
        if self._drain == Drain.NOW or now >= self._drain_deadline:
            self._held.stop_all()
        if now >= self._drain_deadline + GIVE_UP_S:
            log.error("the store is away; what was done is found out when the leases run out")
            return True
        return self._is_idle() and not self._outbox and self._finishes == 0
