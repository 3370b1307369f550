"""Publishing into JetStream: answered once it is stored, and stored once.

Many publications are in flight at a time, up to a bounded window. Each is sent again
under the same ``Nats-Msg-Id`` until the server has answered, so a lost answer, a
leader election or a reconnect neither loses nor doubles it. One timer sweeps all of
them; a timer each would cost as much as the publishing.
"""

import asyncio
import json
import re
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from shared.bus.client import Bus
from shared.bus.errors import BusUnavailable, MessageRejected
from shared.bus.headers import encode_headers, status

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_SEQUENCE = re.compile(rb'"seq": ?(\d+)')
_DUPLICATE = re.compile(rb'"duplicate": ?true')
_STORED = re.compile(rb'\{"stream": ?"[^"]*", ?"seq": ?(\d+)(, ?"duplicate": ?true)?\}')
_DUPLICATE_IN_PROCESS = 10158  # its first attempt is being stored right now
_TEMPORARY_CODES = (408, 429)


class Stored(NamedTuple):
    """The bus has it."""

    offset: int
    """The sequence in its stream; of the first one, if this is a duplicate."""
    duplicate: bool


class _Entry:
    """One publication that has not been answered."""

    __slots__ = ("deadline", "due", "headers", "payload", "reply", "stored", "subject",
                 "token", "tries")  # fmt: skip

    def __init__(
        self,
        subject: str,
        payload: bytes,
        headers: bytes,
        deadline: float,
        stored: asyncio.Future[Stored],
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = headers
        self.deadline = deadline
        self.stored = stored
        self.token = 0
        self.reply = ""
        self.due = 0.0
        """When to send it (again), by the monotonic clock."""
        self.tries = 0


class Publisher:
    """Publishes through one bus. Made by `start_publisher`."""

    def __init__(
        self,
        bus: Bus,
        *,
        window: int = 2000,
        attempt_seconds: float = 1.0,
        retry_seconds: float = 0.05,
        on_published: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """
        Args:
            window: How many may be unanswered; further ones wait in their order.
            attempt_seconds: How long to wait for an answer before sending it again.
            retry_seconds: The pause after a temporary refusal, doubled up to ``attempt_seconds``;
                also how often deadlines are looked at.
            on_published: Gets the seconds from the call to the answer.
        """
        self._bus = bus
        self._window = window
        self._attempt_seconds = attempt_seconds
        self._retry_seconds = retry_seconds
        self._on_published = on_published
        self._in_flight: dict[int, _Entry] = {}  # in the order in which they were first sent
        self._waiting: OrderedDict[int, _Entry] = OrderedDict()
        self._sweeper: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def unanswered(self) -> int:
        """Publications that neither ended nor gave up."""
        return len(self._in_flight) + len(self._waiting)

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        deadline_seconds: float = 5.0,
        ttl: str | None = None,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Stored:
        """Store the message; return when it is.

        Args:
            message_id: What the stream knows it by: within its dedupe window the same id is
                stored once, whatever the subject.
            ttl: When the stream drops it, as ``Nats-TTL`` says it: ``15s``, ``never``.

        Raises:
            BusUnavailable: no answer by the deadline. It may be stored all the same, so try
                again with the same id.
            MessageRejected: it can never be stored.
        """
        if self._stopped:
            raise BusUnavailable("the publisher has stopped")
        started = time.monotonic()
        all_headers = {"Nats-Msg-Id": message_id, **headers}
        if ttl is not None:
            all_headers["Nats-TTL"] = ttl
        stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        entry = _Entry(
            subject, payload, encode_headers(all_headers), started + deadline_seconds, stored
        )
        entry.token, entry.reply = self._bus.expect_reply(partial(self._take_answer, entry))
        if self._sweeper is None:
            self._sweep_later()
        if self._waiting or len(self._in_flight) >= self._window:
            self._waiting[entry.token] = entry
        else:
            self._admit(entry)
        try:
            result = await stored
        finally:
            self._forget(entry)
        self._on_published(time.monotonic() - started)
        return result

    def send_again(self) -> None:
        """After a reconnect: whatever was in flight may be lost. In the first order."""
        for entry in list(self._in_flight.values()):
            entry.tries = 0
            self._send(entry)

    def stop(self) -> None:
        """Give up whatever is unanswered."""
        self._stopped = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for entry in [*self._in_flight.values(), *self._waiting.values()]:
            _fail(entry, BusUnavailable("the publisher has stopped"))

    def _admit(self, entry: _Entry) -> None:
        self._in_flight[entry.token] = entry
        self._send(entry)

    def _forget(self, entry: _Entry) -> None:
        self._bus.forget_reply(entry.token)
        self._in_flight.pop(entry.token, None)
        if self._waiting:
            self._waiting.pop(entry.token, None)
        while self._waiting and len(self._in_flight) < self._window:
            _, first = self._waiting.popitem(last=False)
            self._admit(first)

    def _send(self, entry: _Entry) -> None:
        if entry.stored.done():
            return
        entry.due = time.monotonic() + self._attempt_seconds
        try:
            self._bus.send(entry.subject, entry.payload, headers=entry.headers, reply=entry.reply)
        except BusUnavailable:
            self._retry(entry)
        except MessageRejected as rejected:
            _fail(entry, rejected)

    def _retry(self, entry: _Entry) -> None:
        pause = self._retry_seconds * 2**entry.tries
        entry.tries = min(entry.tries + 1, 10)
        entry.due = time.monotonic() + min(pause, self._attempt_seconds)

    def _take_answer(self, entry: _Entry, answer: bytes, headers: bytes | None) -> None:
        if entry.stored.done():
            return
        outcome = _outcome(answer, headers)
        if outcome is None:
            self._retry(entry)
        elif isinstance(outcome, Stored):
            entry.stored.set_result(outcome)
        else:
            _fail(entry, outcome)

    def _sweep_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._retry_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = time.monotonic()
        for entry in [*self._in_flight.values(), *self._waiting.values()]:
            if now >= entry.deadline:
                _fail(entry, BusUnavailable("the bus did not answer in time"))
        for entry in list(self._in_flight.values()):
            if now >= entry.due and self._bus.connected:
                self._send(entry)
        if self.unanswered:
            self._sweep_later()


def _outcome(answer: bytes, headers: bytes | None) -> Stored | MessageRejected | None:
    """What became of a message; None if it is to be tried again."""
    plain = _STORED.fullmatch(answer)
    if plain is not None:
        return Stored(int(plain[1]), duplicate=plain[2] is not None)
    if status(headers) is not None:  # 503: no stream takes it, or none has a leader
        return None
    if b'"error"' in answer:
        return rejection(answer)
    sequence = _SEQUENCE.search(answer)  # the answer says more, such as the stream's domain
    if sequence is None:
        return None
    return Stored(int(sequence[1]), duplicate=_DUPLICATE.search(answer) is not None)


def rejection(answer: bytes) -> MessageRejected | None:
    """Why the message can never be stored, or None if it may be on another try."""
    error = json.loads(answer)["error"]
    code, err_code = error.get("code", 0), error.get("err_code", 0)
    if code in _TEMPORARY_CODES or not 400 <= code < 500 or err_code == _DUPLICATE_IN_PROCESS:
        return None
    return MessageRejected(err_code, error.get("description", ""))


def _fail(entry: _Entry, error: Exception) -> None:
    if not entry.stored.done():
        entry.stored.set_exception(error)


@asynccontextmanager
async def start_publisher(
    bus: Bus,
    *,
    window: int = 2000,
    attempt_seconds: float = 1.0,
    on_published: Callable[[float], None] = lambda _seconds: None,
) -> AsyncGenerator[Publisher]:
    """A publisher that sends again at once after a reconnect, and gives up at the end."""
    publisher = Publisher(
        bus, window=window, attempt_seconds=attempt_seconds, on_published=on_published
    )
    detach = bus.on_connected(publisher.send_again)
    try:
        yield publisher
    finally:
        detach()
        publisher.stop()
