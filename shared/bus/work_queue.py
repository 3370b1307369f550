"""Work for one of several processes, in order: the others stand by, and take over from it.

The server *pins* the consumer to one of those who ask; once that one leaves, or is silent
for too long, it pins another (NATS 2.11, ADR-42). Messages are asked for and never pushed, so
nobody gets more than it can do. Who dies over one lets its acknowledgement time run out,
and then another gets it: the handler of a job has to bear repetition.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from shared.bus.client import Bus
from shared.bus.errors import BusUnavailable
from shared.bus.headers import header, status

_NANOSECONDS = 1_000_000_000
_SLACK_SECONDS = 1.0  # for the server's word that a request has run out
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HEARTBEAT = 100
_OTHER_IS_PINNED = 423
_NOTHING_THERE = (404, 408)
_FAILURES = MappingProxyType({409: "the consumer is busy or gone", 503: "no such consumer"})


class Job:
    """One message to be worked on. Unless it is answered, somebody gets it again."""

    def __init__(self, bus: Bus, payload: bytes, ack_subject: str) -> None:
        self._bus = bus
        self._ack_subject = ack_subject
        self.payload = payload
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>,
        # in which newer servers name a domain and an account before the stream.
        tokens = ack_subject.split(".")
        delivered, sequence, _, stored_at = map(
            int, tokens[4:8] if len(tokens) == 9 else tokens[6:10]
        )
        self.deliveries = delivered
        """How often it was given to somebody; 1 for the first time."""
        self.sequence = sequence
        self.stored_at = _UNIX_EPOCH + timedelta(microseconds=stored_at // 1000)

    def ack(self) -> None:
        """It is done. The answer may get lost, so it may come again all the same."""
        self._answer(b"+ACK")

    def retry(self, *, delay_seconds: float) -> None:
        """It could not be done now."""
        delay = {"delay": round(delay_seconds * _NANOSECONDS)}
        self._answer(b"-NAK " + json.dumps(delay).encode())

    def terminate(self) -> None:
        """It can never be done: nobody gets it again."""
        self._answer(b"+TERM")

    def still_working(self) -> None:
        """It takes longer: let the acknowledgement time begin anew."""
        self._answer(b"+WPI")

    def _answer(self, answer: bytes) -> None:
        with suppress(BusUnavailable):  # then it comes again after the acknowledgement time
            self._bus.send(self._ack_subject, answer)


class WorkQueue:
    """A consumer's messages, while it is this process's turn. Made by `open_work_queue`."""

    def __init__(self, bus: Bus, stream: str, consumer: str, *, wait_seconds: float) -> None:
        self._bus = bus
        self._request_subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._unpin_subject = f"$JS.API.CONSUMER.UNPIN.{stream}.{consumer}"
        self._group = consumer
        self._pin: str | None = None
        self._wait_seconds = wait_seconds
        self.inbox = bus.own_inbox()
        self._jobs: deque[Job] = deque()
        self._pulls = 0
        self._expected = 0  # of the open request
        self._open_until = 0.0
        self._failure: str | None = None
        self._heard = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many jobs are here and not taken."""
        return len(self._jobs)

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
        return [self._jobs.popleft() for _ in range(min(limit, len(self._jobs)))]

    def _pull(self, limit: int) -> None:
        self._pulls += 1
        request: dict[str, Any] = {
            "batch": limit,
            "expires": round(self._wait_seconds * _NANOSECONDS),
            "group": self._group,
        }
        if self._pin is not None:
            request["id"] = self._pin
        reply = f"{self.inbox}.{self._pulls}"
        self._bus.send(self._request_subject, json.dumps(request).encode(), reply=reply)
        self._expected = limit
        self._open_until = time.monotonic() + self._wait_seconds + _SLACK_SECONDS

    def hear(self, subject: bytes, payload: bytes, headers: bytes | None, reply: bytes) -> None:
        """Take what the bus brings: jobs under their own subjects, else word of a request."""
        if reply:
            self._expected -= 1
            self._jobs.append(Job(self._bus, payload, reply.decode()))
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

    def give_back(self) -> None:
        """Let another take over, at once, and have what nobody here has taken."""
        for job in self._jobs:
            job.retry(delay_seconds=0)
        self._jobs.clear()
        if self._pin is not None:
            self._pin = None
            with suppress(BusUnavailable):  # then it has to wait for our silence
                self._bus.send(self._unpin_subject, json.dumps({"group": self._group}).encode())


@asynccontextmanager
async def open_work_queue(
    bus: Bus, stream: str, consumer: str, *, wait_seconds: float = 5.0
) -> AsyncGenerator[WorkQueue]:
    """Take part in the work of a consumer that `bootstrap` made.

    At the end what nobody took is given back at once. What is on its way at that moment
    comes to another only when its acknowledgement time has run out.

    Args:
        wait_seconds: How long one request for work stays with the server; also how long work
            may lie there after an election of its leader, of which nobody tells.
    """
    queue = WorkQueue(bus, stream, consumer, wait_seconds=wait_seconds)
    subscription = await bus.subscribe(f"{queue.inbox}.*", queue.hear)
    detach = bus.on_disconnected(queue.end_request)
    try:
        yield queue
    finally:
        detach()
        subscription.close()
        queue.give_back()
