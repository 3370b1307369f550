"""Publishing into JetStream: acknowledged once it is stored, and stored once.

Many messages are in flight at a time, up to a window. Each is sent again under the same
``Nats-Msg-Id`` until the server answers, so a lost answer, an election or a reconnect neither loses
nor doubles it. One timer serves all of them; a timer each would cost as much as the publishing.
"""

import asyncio
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import NamedTuple

from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected
from hubbub_client.nats.headers import encode_headers, encode_message_id, status

log = logging.getLogger(__name__)

MAX_WAITING_BYTES = 64 * 1024 * 1024
_BYTES_BESIDE = 1024
"""What a waiting message takes besides its payload."""

_SEQUENCE = re.compile(rb'"seq": ?(\d+)')
_DUPLICATE = re.compile(rb'"duplicate": ?true')
_STORED = re.compile(rb'\{"stream": ?"[^"]*", ?"seq": ?(\d+)(, ?"duplicate": ?true)?\}')
_TEMPORARY_CODES = (408, 429)
_TEMPORARY_ERRORS = frozenset(
    {
        10002,  # all that the account may store is stored
        10120,  # the account may store nothing like that, as yet
        10158,  # the first attempt is being stored right now
    }
)
"""Which nevertheless have the code 400."""


class PubAck(NamedTuple):
    """JetStream's word that a message is stored."""

    offset: int
    """The sequence in its stream; the first one's, if this is a duplicate."""
    duplicate: bool


def read_answer(answer: bytes, headers: bytes | None) -> PubAck | MessageRejected | None:
    """The result in an answer; None if the message is to be sent again."""
    plain = _STORED.fullmatch(answer)
    if plain is not None:
        return PubAck(int(plain[1]), plain[2] is not None)
    if status(headers) is not None:  # 503: no stream takes it, or none has a leader
        return None
    if b'"error"' in answer:
        return rejection(answer)
    sequence = _SEQUENCE.search(answer)  # the answer says more, such as the stream's domain
    if sequence is None:
        return None
    return PubAck(int(sequence[1]), _DUPLICATE.search(answer) is not None)


def rejection(answer: bytes) -> MessageRejected | None:
    """Why the message can never be stored, or None if another try may store it."""
    error = json.loads(answer)["error"]
    code, err_code = error.get("code", 0), error.get("err_code", 0)
    if code in _TEMPORARY_CODES or not 400 <= code < 500 or err_code in _TEMPORARY_ERRORS:
        return None
    return MessageRejected(err_code, error.get("description", ""))


PubAckResult = PubAck | BusUnavailable | MessageRejected
"""The result of publishing. If the bus is unavailable, the message may be stored all the same: try
again with the same id. If it is rejected, it can never be stored."""

OnDone = Callable[[PubAckResult], None]


class Sending:
    """A message without an answer yet."""

    __slots__ = ("asks", "began_at", "deadline", "due", "headers", "on_done", "payload", "subject",
                 "token", "tries")  # fmt: skip

    def __init__(
        self,
        subject: str,
        payload: bytes,
        on_done: OnDone,
        began_at: float,
        deadline: float,
        *,
        asks: bool,
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = b""
        self.on_done: OnDone | None = on_done
        """None once it was called, or is not to be called."""
        self.asks = asks
        """Whether JetStream is to answer."""
        self.began_at = began_at
        self.deadline = deadline
        self.token = 0
        """Ends its reply subject."""
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
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        on_published: Callable[[float], None] | None = None,
    ) -> None:
        """
        Args:
            window: How many may be in flight; further ones wait in order.
            max_waiting_bytes: Of those that wait, 1 KiB each beside the payload. Past it `send`
                refuses. `publish` does not: its caller waits, so the callers are the bound.
            attempt_seconds: How long to wait for an answer before sending it again.
            retry_seconds: The pause after a temporary refusal, doubled up to ``attempt_seconds``;
                also how often deadlines are checked.
            on_published: Gets the seconds from the call to the answer.
        """
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call
        self._bus = bus
        self._window = window
        self._attempt_seconds = attempt_seconds
        self._retry_seconds = retry_seconds
        self._max_waiting_bytes = max_waiting_bytes
        self._on_published = on_published
        self._answer_to, self._answers = bus.open_inbox(self._take_answer)
        self._tokens = count(1)
        self._in_flight: dict[int, Sending] = {}  # in the order of their first sending
        self._waiting: OrderedDict[int, Sending] = OrderedDict()
        self._waiting_bytes = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def unanswered(self) -> int:
        """Publications without a result."""
        return len(self._in_flight) + len(self._waiting)

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        deadline_seconds: float = 5.0,
        ttl: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> PubAck:
        """Store the message; return when it is stored. If cancelled, it is not sent again.

        Args: as for `send`.

        Raises:
            BusUnavailable: no answer by the deadline. It may be stored all the same, so try
                again with the same id.
            MessageRejected: it can never be stored.
        """
        stored: asyncio.Future[PubAck] = self._loop.create_future()
        sending = self.send(
            subject,
            payload,
            message_id=message_id,
            on_done=partial(_resolve, stored),
            deadline_seconds=deadline_seconds,
            ttl=ttl,
            headers=headers,
            may_refuse=False,
        )
        try:
            return await stored
        finally:
            self.forget(sending)

    def send(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str,
        on_done: OnDone,
        deadline_seconds: float = 5.0,
        ttl: str | None = None,
        headers: Mapping[str, str] | None = None,
        may_refuse: bool = True,
        asks: bool = True,
    ) -> Sending:
        """Store the message, and call back with the result. Never waits.

        Args:
            message_id: Within its dedupe window the stream stores an id once, whatever the subject.
            on_done: Called once, by the deadline, but not before this has returned; never after
                `forget`. If it raises, that is logged.
            ttl: When the stream drops it, as a ``Nats-TTL``: ``15s``, ``never``.
            may_refuse: Refuse with `BusUnavailable` if too much is waiting already.
            asks: Have JetStream answer. Whoever follows the stream hears otherwise that it is
                stored, and calls `confirm`; where that takes too long, JetStream is asked.

        Returns:
            What to give to `forget`, or to `confirm`.
        """
        now = time.monotonic()
        sending = Sending(subject, payload, on_done, now, now + deadline_seconds, asks=asks)
        if self._stopped:
            self._end_soon(sending, BusUnavailable("the publisher has stopped"))
            return sending
        try:
            if ttl is None and not headers:
                sending.headers = encode_message_id(message_id)
            else:
                lifetime = {} if ttl is None else {"Nats-TTL": ttl}
                all_headers = {"Nats-Msg-Id": message_id, **(headers or {}), **lifetime}
                sending.headers = encode_headers(all_headers)
        except MessageRejected as rejected:
            self._end_soon(sending, rejected)
            return sending
        has_to_wait = bool(self._waiting) or len(self._in_flight) >= self._window
        if has_to_wait and may_refuse and self._is_full(sending):
            self._end_soon(sending, BusUnavailable("too much is waiting to be stored"))
            return sending
        sending.token = next(self._tokens)
        if self._sweeper is None:
            self._sweep_later()
        if has_to_wait:
            self._waiting[sending.token] = sending
            self._waiting_bytes += _size(sending)
        else:
            self._admit(sending, now)
        return sending

    def confirm(self, sending: Sending, sequence: int) -> None:
        """It was seen in its stream, under this sequence; harmless if there was an answer."""
        self._end(sending, PubAck(sequence, duplicate=False))

    def forget(self, sending: Sending) -> None:
        """Do not call `on_done`; the message may be stored all the same."""
        if sending.on_done is not None:
            sending.on_done = None
            self._drop(sending)
            self._admit_waiting()

    def send_again(self) -> None:
        """After a reconnect: send all that is in flight again, in order; it may be lost."""
        now = time.monotonic()
        for sending in list(self._in_flight.values()):
            sending.tries = 0
            self._send(sending, now)

    def stop(self) -> None:
        """Give up all that is unanswered."""
        self._stopped = True
        self._answers.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._give_up(
            [*self._in_flight.values(), *self._waiting.values()], "the publisher has stopped"
        )

    def _admit(self, sending: Sending, now: float) -> None:
        self._in_flight[sending.token] = sending
        self._send(sending, now)

    def _admit_waiting(self) -> None:
        while self._waiting and len(self._in_flight) < self._window:
            _, first = self._waiting.popitem(last=False)
            self._waiting_bytes -= _size(first)
            self._admit(first, time.monotonic())

    def _drop(self, sending: Sending) -> None:
        if self._in_flight.pop(sending.token, None) is not None:
            return
        if self._waiting.pop(sending.token, None) is not None:
            self._waiting_bytes -= _size(sending)

    def _is_full(self, sending: Sending) -> bool:
        return self._waiting_bytes + _size(sending) > self._max_waiting_bytes

    def _send(self, sending: Sending, now: float) -> None:
        sending.due = now + self._attempt_seconds
        reply = f"{self._answer_to}{sending.token}" if sending.asks else ""
        try:
            self._bus.send(sending.subject, sending.payload, headers=sending.headers, reply=reply)
        except BusUnavailable:
            self._retry(sending, now)
        except MessageRejected as rejected:
            self._end_soon(sending, rejected)

    def _retry(self, sending: Sending, now: float) -> None:
        pause = self._retry_seconds * 2**sending.tries
        sending.tries = min(sending.tries + 1, 10)
        sending.due = now + min(pause, self._attempt_seconds)

    def _take_answer(self, token: int, answer: bytes, headers: bytes | None) -> None:
        sending = self._in_flight.get(token)
        if sending is None:
            return  # it was answered before, or forgotten
        result = read_answer(answer, headers)
        if result is None:
            self._retry(sending, time.monotonic())
            return
        del self._in_flight[token]
        if self._waiting:
            self._admit_waiting()
        self._tell(sending, result)

    def _end_soon(self, sending: Sending, result: PubAckResult) -> None:
        """Next turn, so that `on_done` never runs before `send` returns."""
        self._loop.call_soon(self._end, sending, result)

    def _end(self, sending: Sending, result: PubAckResult) -> None:
        self._drop(sending)
        if self._waiting:
            self._admit_waiting()
        self._tell(sending, result)

    def _tell(self, sending: Sending, result: PubAckResult) -> None:
        on_done, sending.on_done = sending.on_done, None
        if on_done is None:
            return
        try:
            if self._on_published is not None and type(result) is PubAck:
                self._on_published(time.monotonic() - sending.began_at)
            on_done(result)
        except Exception:  # a failing callback must not harm the others
            log.exception(LogEvent("publish_callback_failed", subject=sending.subject))

    def _give_up(self, sendings: Iterable[Sending], reason: str) -> None:
        """Drop all of them before any callback, which may send again at once."""
        sendings = list(sendings)
        for sending in sendings:
            self._drop(sending)
        self._admit_waiting()
        for sending in sendings:
            self._tell(sending, BusUnavailable(reason))

    def _sweep_later(self) -> None:
        self._sweeper = self._loop.call_later(self._retry_seconds, self._sweep)

    def _sweep(self) -> None:
        """Check all that is unanswered, and again after `retry_seconds`, even if this fails."""
        self._sweeper = None
        try:
            self._check_all()
        finally:
            if self.unanswered and self._sweeper is None:
                self._sweep_later()

    def _check_all(self) -> None:
        now = time.monotonic()
        unanswered = [*self._in_flight.values(), *self._waiting.values()]
        expired = [sending for sending in unanswered if now >= sending.deadline]
        if expired:
            self._give_up(expired, "the bus did not answer in time")
        for sending in list(self._in_flight.values()):
            if now >= sending.due and self._bus.connected:
                sending.asks = True
                self._send(sending, now)


def _size(sending: Sending) -> int:
    return len(sending.payload) + _BYTES_BESIDE


def _resolve(stored: asyncio.Future[PubAck], result: PubAckResult) -> None:
    if stored.done():
        return  # cancelled: `forget` is about to be called
    if isinstance(result, PubAck):
        stored.set_result(result)
    else:
        stored.set_exception(result)


@asynccontextmanager
async def start_publisher(
    bus: Bus,
    *,
    window: int = 2000,
    attempt_seconds: float = 1.0,
    max_waiting_bytes: int = MAX_WAITING_BYTES,
    on_published: Callable[[float], None] | None = None,
) -> AsyncGenerator[Publisher]:
    """A publisher that sends again after a reconnect, and stops at the end."""
    publisher = Publisher(
        bus,
        window=window,
        attempt_seconds=attempt_seconds,
        max_waiting_bytes=max_waiting_bytes,
        on_published=on_published,
    )
    detach = bus.on_connected(publisher.send_again)
    try:
        yield publisher
    finally:
        detach()
        publisher.stop()
