"""A pull consumer that several processes share.

Each gets some of its messages; or one gets them all, if it is *pinned*, and the others stand by.
The server pins such a consumer to one of the clients that pull from it. When that one unpins itself
or does not pull for too long, the server pins another (NATS 2.11, ADR-42).

Unsettled jobs are reported to be in progress at intervals. If a process dies, its jobs are
redelivered to another one after the ack wait, so handlers must be idempotent.
"""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from hubbub_client.jetstream.api import JetStreamApi, nanoseconds
from hubbub_client.nats.client import Bus, Subscription
from hubbub_client.nats.errors import BusUnavailable, MessageRejected
from hubbub_client.nats.headers import header, status

log = logging.getLogger(__name__)

_SLACK_SECONDS = 1.0  # for the server's word that a pull request has expired
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ACK_PREFIX = "$JS.ACK."
_HEARTBEAT = 100
_OTHER_IS_PINNED = 423
_NO_MESSAGES = (404, 408)
_FAILURES = MappingProxyType({409: "the consumer is busy or gone", 503: "no such consumer"})


@dataclass(frozen=True, slots=True)
class WorkQueueLimits:
    """How often jobs are requested and reported."""

    wait_seconds: float = 5.0
    """How long one pull request stays with the server. A consumer that gets a new leader forgets
    its requests without a word, so this is also how long a job may wait then."""
    progress_seconds: float = 3.0
    """Between two reports that jobs are in progress; well below the consumer's ack wait."""
    stop_seconds: float = 1.0
    """For what is on its way at the stop; later it is redelivered after the ack wait."""


class _Delivery(NamedTuple):
    deliveries: int
    sequence: int
    stored_at: datetime | None


def _parse_ack_subject(ack_subject: str) -> _Delivery:
    """Read what the server writes into a job's ack subject, in any of its forms.

    A job with an unknown form is taken too, or it would be redelivered for ever. It counts as
    delivered before.
    """
    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>;
    # newer servers put a domain and an account hash before the stream.
    tokens = ack_subject.split(".")
    try:
        delivered, sequence, _, nanoseconds = map(
            int, tokens[4:8] if len(tokens) == 9 else tokens[6:10]
        )
        stored_at = _UNIX_EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except (ValueError, OverflowError):
        log.warning("ack_address_unreadable", extra={"address": ack_subject})
        return _Delivery(2, 0, None)
    return _Delivery(delivered, sequence, stored_at)


class Job:
    """One message to work on. Unless it is acknowledged, it is redelivered."""

    def __init__(
        self,
        bus: Bus,
        payload: bytes,
        ack_subject: str,
        *,
        subject: str = "",
        on_settled: Callable[["Job"], None] = lambda _job: None,
    ) -> None:
        self._bus = bus
        self._ack_subject = ack_subject
        self._on_settled = on_settled
        self.payload = payload
        self.subject = subject
        """Where it was published."""
        delivery = _parse_ack_subject(ack_subject)
        self.deliveries = delivery.deliveries
        """How often it was delivered; 1 for the first time."""
        self.sequence = delivery.sequence
        """Its sequence in the stream; 0 if unknown."""
        self.stored_at = delivery.stored_at

    def ack(self) -> None:
        """The job is done. The ack may get lost, so it may be redelivered all the same."""
        self._settle(b"+ACK")

    def nak(self, *, delay_seconds: float) -> None:
        """The job could not be done now: redeliver it after the delay."""
        delay = {"delay": nanoseconds(delay_seconds)}
        self._settle(b"-NAK " + json.dumps(delay).encode())

    def term(self) -> None:
        """The job can never be done: do not redeliver it."""
        self._settle(b"+TERM")

    def in_progress(self) -> None:
        """The job takes longer: let its ack wait begin anew."""
        self._send(b"+WPI")

    def _settle(self, answer: bytes) -> None:
        self._send(answer)
        self._on_settled(self)

    def _send(self, answer: bytes) -> None:
        with suppress(BusUnavailable):  # then it is redelivered after the ack wait
            try:
                self._bus.send(self._ack_subject, answer)
            except MessageRejected:
                log.warning("ack_address_unusable", extra={"address": self._ack_subject})


class WorkQueue:
    """Jobs of a consumer that come to this process. Made by `open_work_queue`."""

    def __init__(
        self, bus: Bus, stream: str, consumer: str, limits: WorkQueueLimits, *, group: str | None
    ) -> None:
        """
        Args:
            group: Of those of whom one is pinned.
        """
        self._bus = bus
        self._api = JetStreamApi(bus)
        self._stream = stream
        self._consumer = consumer
        self._group = group
        self._pin: str | None = None
        self._limits = limits
        self.inbox = bus.own_inbox()
        self._jobs: deque[Job] = deque()
        self._unsettled: dict[Job, None] = {}  # in the order in which they were taken
        self._settled = asyncio.Event()
        self._progress_timer: asyncio.TimerHandle | None = None
        self._pulls = 0
        self._outstanding = 0  # jobs that the open pull request may still bring
        self._pull_ends_at = 0.0
        self._failure: str | None = None
        self._pull_answered = asyncio.Event()
        self._subscription: Subscription | None = None
        self._detach: Callable[[], None] = lambda: None

    @property
    def waiting(self) -> int:
        """How many jobs have come and were not taken."""
        return len(self._jobs)

    @property
    def unsettled(self) -> int:
        """How many jobs were taken and not settled by an ack, a nak or a term."""
        return len(self._unsettled)

    async def until_unsettled_below(self, count: int) -> None:
        while len(self._unsettled) >= count:
            self._settled.clear()
            await self._settled.wait()

    async def take(self, limit: int) -> list[Job]:
        """Wait for jobs; return at least one and at most ``limit``, or none after a while.

        Raises:
            BusUnavailable: the consumer answers with an error.
        """
        if not self._jobs:
            await self._bus.until_connected()
            if self._outstanding <= 0 or time.monotonic() >= self._pull_ends_at:
                self._pull(limit)
            self._pull_answered.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pull_ends_at - time.monotonic()):
                    await self._pull_answered.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise BusUnavailable(failure)
        taken = [self._jobs.popleft() for _ in range(min(limit, len(self._jobs)))]
        self._unsettled.update(dict.fromkeys(taken))
        return taken

    def _pull(self, limit: int) -> None:
        self._pulls += 1
        self._api.request_next(
            self._stream,
            self._consumer,
            batch=limit,
            expires_seconds=self._limits.wait_seconds,
            group=self._group,
            pin=self._pin,
            reply=f"{self.inbox}.{self._pulls}",
        )
        self._outstanding = limit
        self._pull_ends_at = time.monotonic() + self._limits.wait_seconds + _SLACK_SECONDS

    def on_message(
        self, subject: bytes, payload: bytes, headers: bytes | None, reply: bytes
    ) -> None:
        """Take a job, which has a reply subject, or the status of a pull request."""
        if reply:
            address = reply.decode(errors="replace")
            if not address.startswith(_ACK_PREFIX):  # not from the consumer
                log.warning("job_without_ack_address", extra={"address": address})
                return
            self._outstanding -= 1
            where = subject.decode(errors="replace")
            self._jobs.append(
                Job(self._bus, payload, address, subject=where, on_settled=self._on_settled)
            )
            pin = header(headers, b"Nats-Pin-Id") if headers else None
            if pin is not None:
                self._pin = pin.decode()
            self._pull_answered.set()
            return
        code = status(headers)
        if code is None or code == _HEARTBEAT or subject.decode() != f"{self.inbox}.{self._pulls}":
            return  # or it belongs to an earlier request
        if code == _OTHER_IS_PINNED:
            self._pin = None  # stand by
        elif code not in _NO_MESSAGES:
            self._failure = _FAILURES.get(code, f"the consumer answered {code}")
        self.end_pull()

    def end_pull(self) -> None:
        """The open pull request brings nothing more."""
        self._outstanding = 0
        self._pull_answered.set()

    def report_progress(self) -> None:
        """Report that all jobs are in progress, now and at intervals, so none is redelivered."""
        for job in (*self._unsettled, *self._jobs):
            job.in_progress()
        loop = asyncio.get_running_loop()
        self._progress_timer = loop.call_later(self._limits.progress_seconds, self.report_progress)

    def _on_settled(self, job: Job) -> None:
        self._unsettled.pop(job, None)
        self._settled.set()

    async def begin(self) -> None:
        self._subscription = await self._bus.subscribe(
            f"{self.inbox}.*", self.on_message, foreign=True
        )
        self._detach = self._bus.on_disconnected(self.end_pull)
        self.report_progress()

    async def stop(self) -> None:
        """Get nothing more, except for what is on its way."""
        if self._subscription is not None:
            await self._subscription.drain(seconds=self._limits.stop_seconds)

    def return_waiting(self) -> None:
        """After `stop`: return at once what was not taken."""
        for job in self._jobs:
            job.nak(delay_seconds=0)
        self._jobs.clear()

    def close(self) -> None:
        """After `stop`: return all jobs in their order, and let another take over at once."""
        self._detach()
        if self._progress_timer is not None:
            self._progress_timer.cancel()
        for job in list(self._unsettled):
            job.nak(delay_seconds=0)
        self.return_waiting()
        if self._pin is not None and self._group is not None:
            self._pin = None
            with suppress(BusUnavailable):  # then the server unpins us after its timeout
                self._api.unpin(self._stream, self._consumer, group=self._group)


@asynccontextmanager
async def open_work_queue(
    bus: Bus,
    stream: str,
    consumer: str,
    limits: WorkQueueLimits | None = None,
    *,
    pinned: bool = True,
) -> AsyncGenerator[WorkQueue]:
    """Pull from a consumer that exists.

    At the end all unsettled jobs are returned, so whoever works on them has to have stopped.
    """
    group = consumer if pinned else None
    queue = WorkQueue(bus, stream, consumer, limits or WorkQueueLimits(), group=group)
    await queue.begin()
    try:
        yield queue
    finally:
        try:
            await queue.stop()
        finally:
            queue.close()
