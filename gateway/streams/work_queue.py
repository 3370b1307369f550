"""A consumer's messages for one of several processes, in order; the others stand by.

The server *pins* the consumer to one of those that ask; when that one leaves or is silent for
too long, it pins another (NATS 2.11, ADR-42). Messages are pulled, so nobody gets more than it
can do. The server is told now and then of the jobs in hand. If a process dies over a job, its
acknowledgement time runs out and another process gets it: handlers have to bear repetition.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

import structlog

from shared.jetstream.api import JetStreamApi, nanoseconds
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable, MessageRejected
from shared.nats.headers import header, status

log = structlog.get_logger(__name__)

_SLACK_SECONDS = 1.0  # for the server to tell that a request has expired
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ACK_PREFIX = "$JS.ACK."
_HEARTBEAT = 100
_OTHER_IS_PINNED = 423
_NOTHING_THERE = (404, 408)
_FAILURES = MappingProxyType({409: "the consumer is busy or gone", 503: "no such consumer"})


class _Delivery(NamedTuple):
    deliveries: int
    sequence: int
    stored_at: datetime | None


def _read_delivery(ack_subject: str) -> _Delivery:
    """What a job's address for answers says of it, in whichever form that the server writes.

    One that says nothing to us is an address all the same. Were the job not taken it would come
    again for ever; it is taken as one that may have been given out before.
    """
    # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>,
    # in which newer servers name a domain and an account before the stream.
    tokens = ack_subject.split(".")
    try:
        delivered, sequence, _, nanoseconds = map(
            int, tokens[4:8] if len(tokens) == 9 else tokens[6:10]
        )
        stored_at = _UNIX_EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except (ValueError, OverflowError):
        log.warning("ack_address_unreadable", address=ack_subject)
        return _Delivery(2, 0, None)
    return _Delivery(delivered, sequence, stored_at)


class Job:
    """One message to be worked on. Unless it is answered, somebody gets it again."""

    def __init__(
        self,
        bus: Bus,
        payload: bytes,
        ack_subject: str,
        *,
        on_answered: Callable[["Job"], None] = lambda _job: None,
    ) -> None:
        self._bus = bus
        self._ack_subject = ack_subject
        self._on_answered = on_answered
        self.payload = payload
        delivery = _read_delivery(ack_subject)
        self.deliveries = delivery.deliveries
        """How often it was given to somebody; 1 for the first time."""
        self.sequence = delivery.sequence
        """Its place in the stream; 0 if that isn't known."""
        self.stored_at = delivery.stored_at

    def ack(self) -> None:
        """It is done. The answer may get lost, so it may come again all the same."""
        self._answer_for_good(b"+ACK")

    def retry(self, *, delay_seconds: float) -> None:
        """It could not be done now."""
        delay = {"delay": nanoseconds(delay_seconds)}
        self._answer_for_good(b"-NAK " + json.dumps(delay).encode())

    def terminate(self) -> None:
        """It can never be done: nobody gets it again."""
        self._answer_for_good(b"+TERM")

    def still_working(self) -> None:
        """It takes longer: let the acknowledgement time begin anew."""
        self._answer(b"+WPI")

    def _answer_for_good(self, answer: bytes) -> None:
        self._answer(answer)
        self._on_answered(self)

    def _answer(self, answer: bytes) -> None:
        with suppress(BusUnavailable):  # then it comes again after the acknowledgement time
            try:
                self._bus.send(self._ack_subject, answer)
            except MessageRejected:
                log.warning("ack_address_unusable", address=self._ack_subject)


class WorkQueue:
    """A consumer's messages, while it is this process's turn. Made by `open_work_queue`."""

    def __init__(
        self, bus: Bus, stream: str, consumer: str, *, wait_seconds: float, working_seconds: float
    ) -> None:
        self._bus = bus
        self._api = JetStreamApi(bus)
        self._stream = stream
        self._consumer = consumer
        self._group = consumer
        self._pin: str | None = None
        self._wait_seconds = wait_seconds
        self.inbox = bus.own_inbox()
        self._working_seconds = working_seconds
        self._jobs: deque[Job] = deque()
        self._in_hand: dict[Job, None] = {}  # taken and not answered, in their order
        self._answered = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._pulls = 0
        self._expected = 0  # of the open request
        self._open_until = 0.0
        self._failure: str | None = None
        self._heard = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many jobs are here and not taken."""
        return len(self._jobs)

    @property
    def in_hand(self) -> int:
        """How many were taken and are not answered."""
        return len(self._in_hand)

    async def until_in_hand_below(self, count: int) -> None:
        while len(self._in_hand) >= count:
            self._answered.clear()
            await self._answered.wait()

    async def take(self, limit: int) -> list[Job]:
        """Wait for work; return at least one job and at most ``limit``, or none after a while.

        Raises:
            BusUnavailable: the consumer can't be had now.
        """
        if not self._jobs:
            await self._bus.until_connected()
            if self._expected <= 0 or time.monotonic() >= self._open_until:
                self._pull(limit)
            self._heard.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._open_until - time.monotonic()):
                    await self._heard.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise BusUnavailable(failure)
        taken = [self._jobs.popleft() for _ in range(min(limit, len(self._jobs)))]
        self._in_hand.update(dict.fromkeys(taken))
        return taken

    def _pull(self, limit: int) -> None:
        self._pulls += 1
        self._api.request_next(
            self._stream,
            self._consumer,
            batch=limit,
            expires_seconds=self._wait_seconds,
            group=self._group,
            pin=self._pin,
            reply=f"{self.inbox}.{self._pulls}",
        )
        self._expected = limit
        self._open_until = time.monotonic() + self._wait_seconds + _SLACK_SECONDS

    def hear(self, subject: bytes, payload: bytes, headers: bytes | None, reply: bytes) -> None:
        """Take what the bus brings: jobs under their own subjects, else word of a request."""
        if reply:
            address = reply.decode(errors="replace")
            if not address.startswith(_ACK_PREFIX):  # not from the consumer
                log.warning("job_without_ack_address", address=address)
                return
            self._expected -= 1
            self._jobs.append(Job(self._bus, payload, address, on_answered=self._heard_answer))
            pin = header(headers, b"Nats-Pin-Id") if headers else None
            if pin is not None:
                self._pin = pin.decode()
            self._heard.set()
            return
        code = status(headers)
        if code is None or code == _HEARTBEAT or subject.decode() != f"{self.inbox}.{self._pulls}":
            return  # of a request that is over already
        if code == _OTHER_IS_PINNED:
            self._pin = None  # stand by
        elif code not in _NOTHING_THERE:
            self._failure = _FAILURES.get(code, f"the consumer answered {code}")
        self.end_request()

    def end_request(self) -> None:
        """Nothing more comes of the open request."""
        self._expected = 0
        self._heard.set()

    def say_working(self) -> None:
        """Tell the server of all that is here, again and again: none of it is lost."""
        for job in (*self._in_hand, *self._jobs):
            job.still_working()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._working_seconds, self.say_working)

    def _heard_answer(self, job: Job) -> None:
        self._in_hand.pop(job, None)
        self._answered.set()

    def give_back(self) -> None:
        """Let another take over, at once, and have what was not answered here, in its order."""
        if self._timer is not None:
            self._timer.cancel()
        for job in (*self._in_hand, *self._jobs):
            job.retry(delay_seconds=0)
        self._jobs.clear()
        if self._pin is not None:
            self._pin = None
            with suppress(BusUnavailable):  # then it has to wait for our silence
                self._api.unpin(self._stream, self._consumer, group=self._group)


@asynccontextmanager
async def open_work_queue(
    bus: Bus,
    stream: str,
    consumer: str,
    *,
    wait_seconds: float = 5.0,
    working_seconds: float = 3.0,
) -> AsyncGenerator[WorkQueue]:
    """Take part in the work of a consumer that `bootstrap` made.

    At the end what was not answered is given back at once, so those who work on it have to have
    stopped. What is on its way at that moment comes to another only when its acknowledgement
    time has run out.

    Args:
        wait_seconds: How long one request for work stays with the server; also how long work
            may lie there after an election of its leader, of which nobody tells.
        working_seconds: How often the server is told what is in hand; well below the
            acknowledgement time.
    """
    queue = WorkQueue(
        bus, stream, consumer, wait_seconds=wait_seconds, working_seconds=working_seconds
    )
    subscription = await bus.subscribe(f"{queue.inbox}.*", queue.hear)
    detach = bus.on_disconnected(queue.end_request)
    queue.say_working()
    try:
        yield queue
    finally:
        detach()
        subscription.close()
        queue.give_back()
