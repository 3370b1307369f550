"""One open socket: a transport, what it is due, and what is above it. No task, queue or timer."""

import asyncio
import random
import secrets
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from gateway.engine.frame import Frame, close_frame, ping_frame, pong_frame
from gateway.engine.incoming import Binary, Incoming, Message, Ping, Text, Violation
from gateway.engine.limits import Limits
from gateway.engine.outgoing import NOTHING_MORE, STALLED, Outgoing, Run
from gateway.errors import INTERNAL_ERROR, TOO_SLOW, Close
from shared.ids import ConnectionId

log = structlog.get_logger(__name__)

LOST = Close(1006, "")
SILENT = Close(1006, "silent")
"""Never sent: nobody reads it."""
NEVER = float("inf")


class Receiver(Protocol):
    """Whoever is above a connection. Called from the loop: it neither waits nor fails."""

    def received(self, message: str | bytes) -> None:
        """A whole message came, on a connection that is open."""

    def lost(self, close: Close) -> None:
        """It is over: nothing comes any more, and what is sent goes nowhere."""


class Engine(Protocol):
    """What all connections of one process share."""

    limits: Limits
    outgoing: Outgoing
    stalled_bytes: int

    def start(self, connection: "Connection", work: Coroutine[Any, Any, None]) -> None: ...

    def add(self, connection: "Connection") -> None: ...

    def ended(self, close: Close) -> None: ...

    def remove(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One open socket of one tab, driven by callbacks: an idle one is this object and a transport.

    What is sent leaves at the end of the turn. When the socket takes no more than
    `Limits.stall_bytes`, the connection is *stalled*: what can be had again later is then
    offered, not sent, and whoever is above may have to fetch it when the socket has drained.
    """

    __slots__ = (
        "_close_at", "_counted_bytes", "_deadline", "_drained", "_engine", "_expiry", "_heard",
        "_holds", "_incoming", "_is_behind", "_is_deaf", "_ping_at", "_pinged", "_receiver",
        "_transport", "closing", "due", "id", "is_lost", "wakes_at",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, engine: Engine) -> None:
        self.id = ConnectionId(secrets.token_hex(8))
        self.closing: Close | None = None
        self.is_lost = False
        self.due: Run | None = None
        self._transport = transport
        self._engine = engine
        self._receiver: Receiver = _NOBODY
        self._incoming: Incoming | None = None
        self._holds = 0
        self._heard = False
        self._is_deaf = False
        self._is_behind = False
        self._counted_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._deadline = NEVER
        self._close_at = NEVER
        self._expiry = LOST
        self._pinged = False
        # Those that came together are not to be pinged together.
        self._ping_at = _monotonic() + engine.limits.ping_seconds * random.uniform(0.5, 1)
        self.wakes_at = self._ping_at
        transport.set_write_buffer_limits(high=engine.limits.stall_bytes)

    def open(self, receiver: Receiver) -> None:
        """Let it carry messages; it calls nobody before."""
        self._receiver = receiver
        self._engine.add(self)
        self._transport.set_protocol(self)

    # For the rooms above.

    @property
    def is_open(self) -> bool:
        return self.closing is None and not self.is_lost

    @property
    def is_stalled(self) -> bool:
        """Whether the socket takes nothing now."""
        return self.due is STALLED

    def send(self, frame: Frame) -> None:
        """Send a frame that is sent but once, such as an answer; never waits.

        A peer that leaves too many of them unread is not read from, so it gets no more answers.
        """
        due = self.due
        if due is STALLED:
            self._transport.write(frame)
            self._count_unsent()
        elif due is not NOTHING_MORE:
            self._engine.outgoing.queue(self, frame)

    def offer(self, frame: Frame) -> bool:
        """Send a frame on a stalled connection if there is room for it; return whether there is."""
        engine, limits = self._engine, self._engine.limits
        size = self._transport.get_write_buffer_size() + len(frame)
        total = engine.stalled_bytes - self._counted_bytes + size
        if size > limits.max_pending_bytes or total > limits.total_pending_bytes:
            return False
        self._transport.write(frame)
        self._count(size)
        return True

    def fall_behind(self) -> None:
        """It missed something live, so it has `lag_seconds` to catch up."""
        self._is_behind = True
        self._start_clock()

    def keep_up(self) -> None:
        """It has caught up."""
        self._is_behind = False
        self._stop_clock()

    async def until_drained(self) -> None:
        """Hand over what is due, and wait until the socket takes more, or it is over.

        Bounded by `lag_seconds`. Others have their turn meanwhile in any case.
        """
        self.write_due()
        await asyncio.sleep(0)
        while self.due is STALLED:
            if self._drained is None or self._drained.done():
                self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something for this connection; it must end soon after ``is_open`` has turned."""
        self._engine.start(self, work)

    def pause_reading(self) -> None:
        """Let the peer wait: it has sent more than is done."""
        self._hold(_COMMANDS_WAIT)

    def resume_reading(self) -> None:
        self._release(_COMMANDS_WAIT)

    def close_at(self, moment: float, code: int, reason: str) -> None:
        """Close it when ``moment`` (unix seconds) has come; replaces what was said before."""
        self._close_at = moment
        self._expiry = Close(code, reason)
        self._plan()

    def close(self, code: int, reason: str) -> None:
        """End the connection once what is due has left; the first close counts."""
        if self.is_open:
            self._end(Close(code, reason))

    def cut(self, code: int, reason: str) -> None:
        """End the connection now, and send nothing more of what is due.

        Who takes nothing at this moment hears no reason either.
        """
        if not self.is_open:
            return
        if self.due is STALLED:
            self.closing = Close(code, reason)
            self._transport.abort()
        else:
            self.due = None
            self.close(code, reason)

    # For the engine.

    def write_due(self) -> None:
        """Hand what is due to the socket."""
        run = self.due
        if run is None or run is STALLED or run is NOTHING_MORE:
            return
        self.due = None
        self._transport.write(run.joined())

    def check(self, now: float) -> None:
        """Do what is due by now (monotonic seconds): once per sweep, instead of timers."""
        if now >= self._deadline:
            if self.is_open:
                self._end(TOO_SLOW)
            else:
                self._transport.abort()
        elif self.is_open:
            if self._close_at <= _unix():
                self._end(self._expiry)
            elif now >= self._ping_at:
                self._look_for_life(now)
        self._plan()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._transport.abort()

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._is_deaf:
            return
        if self._incoming is None:
            self._incoming = Incoming(self._engine.limits.max_message_bytes)
        self._incoming.push(data)
        self._read()
        self.write_due()  # much may come in one turn, and its answers are not to pile up

    def eof_received(self) -> None:
        """The peer sends no more: the transport closes itself."""

    def pause_writing(self) -> None:
        if self.due is not NOTHING_MORE:
            self.write_due()
            self.due = STALLED
        self._count_unsent()
        self._start_clock()

    def resume_writing(self) -> None:
        if self.due is STALLED:
            self.due = None
        self._count(0)
        self._stop_clock()
        self._wake()
        self._release(_UNREAD_ANSWERS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(LOST)
        self._count(0)
        self._wake()
        self._engine.remove(self)

    # Reading.

    def _read(self) -> None:
        """Take what has come, for as long as it is wanted; of much, some, before others' turn."""
        try:
            for _ in range(_FRAMES_A_TURN):
                if self._holds or self._incoming is None:
                    return
                message = self._incoming.pull()
                if message is None:
                    if self._incoming.is_empty:
                        self._incoming = None
                    return
                self._take(message)
        except Violation as violation:
            self._turn_deaf()
            self.close(*violation.close)
            if self._transport.can_write_eof() and not self._transport.is_closing():
                self._transport.write_eof()
        else:
            self._let_others_go_first()

    def _let_others_go_first(self) -> None:
        """Read on in the next turn; the transport would bring yet more within this one."""
        if self._holds or self._incoming is None or self._transport.is_closing():
            return
        self._holds = _OTHERS_FIRST
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._release, _OTHERS_FIRST)

    def _take(self, message: Message) -> None:
        if isinstance(message, Text):
            if self.is_open:
                self._call_receiver(message.text)
        elif isinstance(message, Ping):
            self.send(pong_frame(message.payload))
        elif isinstance(message, Close):
            self._end_by_peer(message)
        elif isinstance(message, Binary) and self.is_open:
            self._call_receiver(message.data)

    def _call_receiver(self, message: str | bytes) -> None:
        """What is above must not fail; if it does, it costs this connection and no other."""
        try:
            self._receiver.received(message)
        except Exception:
            log.exception("receiver_failed", connection_id=self.id)
            self.close(*INTERNAL_ERROR)

    def _hold(self, reason: int) -> None:
        if not self.is_open:
            return  # its answer to the close has to be read
        if not self._holds and not self._transport.is_closing():
            self._transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        if not self._holds & reason:
            return
        self._holds &= ~reason
        if not self._holds and not self._transport.is_closing():
            self._transport.resume_reading()
            self._read()

    def _turn_deaf(self) -> None:
        """Nothing that still comes can be understood."""
        self._is_deaf = True
        self._incoming = None

    # Ending.

    def _end(self, close: Close) -> None:
        self.write_due()
        self.closing = close
        self._say_goodbye(close)
        self._release(self._holds)

    def _end_by_peer(self, close: Close) -> None:
        self._turn_deaf()
        if self.is_open:
            self.write_due()
            self._say_goodbye(close)
        self._transport.close()  # once all has left that is due
        self._lose(close)

    def _say_goodbye(self, close: Close) -> None:
        self.due = NOTHING_MORE
        self._transport.write(close_frame(close))
        self._deadline = _monotonic() + self._engine.limits.close_seconds
        self._plan()

    def _lose(self, close: Close) -> None:
        """Say that it is over as soon as it is known, though the socket may have to flush."""
        if self.is_lost:
            return
        self.is_lost = True
        self.due = NOTHING_MORE
        receiver, self._receiver = self._receiver, _NOBODY
        close = self.closing or close
        self._engine.ended(close)
        try:
            receiver.lost(close)
        except Exception:
            log.exception("receiver_failed", connection_id=self.id)

    # What takes time.

    def _look_for_life(self, now: float) -> None:
        limits = self._engine.limits
        if not self._pinged:
            self._heard, self._pinged = False, True
            self.send(PING)
            self._ping_at = now + limits.pong_seconds
        elif self._heard or self._holds:  # whom we don't read can't be heard
            self._pinged = False
            self._ping_at = now + max(0.0, limits.ping_seconds - limits.pong_seconds)
        else:
            self.closing = SILENT
            self._transport.abort()

    def _start_clock(self) -> None:
        if self._deadline == NEVER:
            self._deadline = _monotonic() + self._engine.limits.lag_seconds
            self._plan()

    def _stop_clock(self) -> None:
        if self.is_open and self.due is not STALLED and not self._is_behind:
            self._deadline = NEVER
            self._plan()

    def _plan(self) -> None:
        wakes_at = min(self._ping_at, self._deadline)
        if self._close_at < NEVER:
            wakes_at = min(wakes_at, _monotonic() + max(0.0, self._close_at - _unix()))
        self.wakes_at = wakes_at if self.is_open else self._deadline

    def _count_unsent(self) -> None:
        self._count(self._transport.get_write_buffer_size())
        if self._counted_bytes > self._engine.limits.max_pending_bytes:
            self._hold(_UNREAD_ANSWERS)

    def _count(self, pending_bytes: int) -> None:
        self._engine.stalled_bytes += pending_bytes - self._counted_bytes
        self._counted_bytes = pending_bytes

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None


class _Nobody:
    """Above a connection that is not open yet, or over."""

    def received(self, message: str | bytes) -> None: ...

    def lost(self, close: Close) -> None: ...


PING = ping_frame()
_NOBODY = _Nobody()
_COMMANDS_WAIT = 1
_UNREAD_ANSWERS = 2
_OTHERS_FIRST = 4

_FRAMES_A_TURN = 256  # some milliseconds; megabytes of the smallest frames may lie ready


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


def _unix() -> float:
    return datetime.now(UTC).timestamp()
