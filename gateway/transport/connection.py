"""One open connection: what it is to be sent, its deadlines, and its life. No task, queue or timer.

What its peer sends is for a class above, such as `websocket.WebSocketConnection`.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Coroutine, Mapping
from enum import Enum
from typing import Any, ClassVar, Protocol

import structlog

from gateway.errors import EndReason
from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch, WriteCoalescer
from gateway.transport.frames import Close, Frame
from gateway.transport.limits import Limits
from gateway.transport.turns import Turns
from gateway.transport.unfinished import Unfinished
from shared.contracts.ids import ConnectionId

log = structlog.get_logger(__name__)

NEVER = float("inf")
LOST = Close(1006, "")
"""Never sent: nobody reads it."""
SILENT = Close(1006, "silent")
"""Never sent either."""


class Receiver(Protocol):
    """Whoever is above a connection. Called from the loop: it neither waits nor fails."""

    close_codes: ClassVar[Mapping[EndReason, Close]]
    """What its protocol tells a peer for each reason to end."""

    def received(self, message: str | bytes) -> None:
        """A whole message came, on a connection that is open."""

    def lost(self, close: Close) -> None:
        """It is over: nothing comes any more, and what is sent goes nowhere."""


class Engine(Protocol):
    """Whoever keeps the connections, and what they all share."""

    loop: asyncio.AbstractEventLoop
    """Asked for once: on some versions of Python that costs a system call."""
    limits: Limits
    outgoing: WriteCoalescer
    stalled_bytes: int
    """Pending on all stalled connections."""
    turns: Turns
    unfinished: Unfinished

    def start(self, connection: "Connection", work: Coroutine[Any, Any, None]) -> None: ...

    def begin_work(self) -> None: ...

    def end_work(self) -> None: ...

    def add(self, connection: "Connection") -> None: ...

    def ended(self, close: Close) -> None: ...

    def failed(self) -> None: ...

    def remove(self, connection: "Connection") -> None: ...


class State(Enum):
    """The life of a connection: from `OPEN` to `CLOSING` to `LOST`, or from `OPEN` to `LOST`."""

    OPEN = "open"
    CLOSING = "closing"
    """We have said why it ends, or aborted it; the socket is still there."""
    LOST = "lost"
    """The receiver was told; the socket may still have to flush."""


_OPEN, _CLOSING, _LOST = State  # an enum's attribute is slow to read before Python 3.12


class Connection(asyncio.Protocol):
    """One open socket, driven by callbacks: an idle one is this object and a transport.

    Frames leave at the end of each turn of the loop. When the socket takes no more than
    `Limits.stall_bytes`, the connection is *stalled*: what can be had again later is then
    offered, not sent, and whoever is above may have to fetch it when the socket has drained.

    It knows when it has to be looked at again; the sweep over all connections does that.
    """

    __slots__ = (
        "_close_at", "_counted_bytes", "_deadline", "_drained", "_engine", "_expiry", "_heard",
        "_is_behind", "_ping_at", "_pinged", "_receiver", "closing", "id", "pending", "state",
        "transport", "wakes_at",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, engine: Engine) -> None:
        self.id = ConnectionId(secrets.token_hex(8))
        self.transport = transport
        self.state = _OPEN
        self.closing: EndReason | Close | None = None
        """Why we end it; a `Close` if that is for one of RFC 6455's own reasons."""
        self.pending: FrameBatch | None = None
        """What is to be sent at the end of this turn; or `STALLED`, or `NOTHING_MORE`."""
        self._engine = engine
        self._receiver: Receiver = _NOBODY
        self._counted_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_behind = False
        self._deadline = NEVER
        self._close_at = NEVER
        self._expiry: EndReason
        self._heard = False
        self._pinged = False
        # Those that came together are not to be pinged together.
        self._ping_at = time.monotonic() + engine.limits.ping_seconds * random.uniform(0.5, 1)
        self.wakes_at = self._ping_at
        """Monotonic seconds; before it there is nothing to check."""
        transport.set_write_buffer_limits(high=engine.limits.stall_bytes)

    def open(self, receiver: Receiver) -> None:
        """Let it carry messages; it calls nobody before."""
        self._receiver = receiver
        self._engine.add(self)
        self.transport.set_protocol(self)

    # Said by the class above.

    def pause_reading(self) -> None:
        """Let the peer wait: it has sent more than is done."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    @property
    def _is_read_from(self) -> bool:
        """Whether what the peer sends is read now."""
        raise NotImplementedError

    def _await_drain(self) -> None:
        """Read no more until the socket has drained: what is read would be answered."""
        raise NotImplementedError

    def _go_on_reading(self) -> None:
        """The socket has drained."""
        raise NotImplementedError

    def _go_on_closing(self) -> None:
        """Read what the peer answers to the close, whatever waits."""
        raise NotImplementedError

    def _stop_reading(self) -> None:
        """Nothing that still comes can be understood."""
        raise NotImplementedError

    def _ping(self) -> None:
        """Send what the peer has to answer."""
        raise NotImplementedError

    def _write_close(self, close: Close) -> None:
        """Write to the socket why it ends."""
        raise NotImplementedError

    # For the rooms above.

    @property
    def is_open(self) -> bool:
        return self.state is _OPEN

    @property
    def is_lost(self) -> bool:
        return self.state is _LOST

    @property
    def is_stalled(self) -> bool:
        """Whether the socket takes nothing now."""
        return self.pending is STALLED

    def send(self, frame: Frame) -> None:
        """Send a frame that is sent but once, such as an answer; never waits.

        A peer that leaves too many of them unread is not read from, so it gets no more answers.
        """
        pending = self.pending
        if pending is STALLED:
            self.transport.write(frame)
            self._count_unsent()
        elif pending is not NOTHING_MORE:
            self._engine.outgoing.queue(self, frame)

    def offer(self, frame: Frame) -> bool:
        """Send a frame on a stalled connection if there is room for it; return whether there is."""
        engine, limits = self._engine, self._engine.limits
        size = self.transport.get_write_buffer_size() + len(frame)
        total = engine.stalled_bytes - self._counted_bytes + size
        if size > limits.max_pending_bytes or total > limits.total_pending_bytes:
            return False
        self.transport.write(frame)
        self._count(size)
        return True

    async def until_drained(self) -> None:
        """Hand over what is pending, and wait until the socket takes more, or it is over.

        Bounded by `lag_seconds`. Others have their turn meanwhile in any case.
        """
        self.write_pending()
        await asyncio.sleep(0)
        while self.pending is STALLED:
            if self._drained is None or self._drained.done():
                self._drained = self._engine.loop.create_future()
            await asyncio.shield(self._drained)  # others wait for it too

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something for this connection; it must end soon after ``is_open`` has turned."""
        self._engine.start(self, work)

    def begin_work(self) -> None:
        """Say that something is under way though nothing runs; a drain waits for its end."""
        self._engine.begin_work()

    def end_work(self) -> None:
        self._engine.end_work()

    def close(self, reason: EndReason) -> None:
        """End the connection once what is pending has left; the first reason counts."""
        if self.is_open:
            self._end(reason)

    def cut(self, reason: EndReason) -> None:
        """End the connection now, and send nothing of what is pending.

        A stalled peer is aborted without a close frame.
        """
        if not self.is_open:
            return
        if self.pending is STALLED:
            self._abort_for(reason)
        else:
            self.pending = None
            self.close(reason)

    def close_after(self, seconds: float, reason: EndReason) -> None:
        """Close it when they are over, whatever clocks say; replaces what was said before."""
        self._close_at = time.monotonic() + seconds
        self._expiry = reason
        self._plan()

    def fall_behind(self) -> None:
        """It missed something live, so it has `lag_seconds` to catch up.

        They begin now, though its socket may have been stalled for nearly as long. A connection
        that never catches up can't fall behind again.
        """
        self._is_behind = True
        self._restart_clock()

    def keep_up(self) -> None:
        """It has caught up; for what its socket has not taken of that, it has the time anew."""
        self._is_behind = False
        if self.pending is STALLED:
            self._restart_clock()
        else:
            self._stop_clock()

    def abandon(self, error: Exception, event: str) -> None:
        """End the connection, since something that was done for it raised.

        That costs this connection and no other: whoever has others to serve catches what is
        raised for one, and calls this.

        Args:
            event: What to call it in the log.
        """
        log.error(event, connection_id=self.id, exc_info=error)
        self._engine.failed()
        if self.is_open:
            self.close(EndReason.INTERNAL_ERROR)
        else:  # its end itself may be what failed
            self.transport.abort()

    # For the engine.

    def check(self, now: float) -> None:
        """Do what is due by now (monotonic seconds): once per sweep, instead of timers."""
        if now >= self._deadline:
            if self.is_open:
                self._end(EndReason.TOO_SLOW)
            else:
                self.transport.abort()
        elif self.is_open:
            if now >= self._close_at:
                self._end(self._expiry)
            elif now >= self._ping_at:
                self._look_for_life(now)
        self._plan()

    def write_pending(self) -> None:
        """Hand what is pending to the socket."""
        batch = self.pending
        if batch is None or batch is STALLED or batch is NOTHING_MORE:
            return
        self.pending = None
        self.transport.write(batch.joined())

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.transport.abort()

    # Called by the transport; `data_received` and `eof_received` are the class's above.

    def pause_writing(self) -> None:
        if self.pending is not NOTHING_MORE:
            self.write_pending()
            self.pending = STALLED
        self._count_unsent()
        if self._deadline == NEVER:
            self._give_up_after(self._engine.limits.lag_seconds)

    def resume_writing(self) -> None:
        self._drain()
        self._stop_clock()
        self._go_on_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(LOST)
        self._stop_reading()
        self._drain()
        self._engine.remove(self)

    # Writing.

    def _drain(self) -> None:
        if self.pending is STALLED:
            self.pending = None
        self._count(0)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _count_unsent(self) -> None:
        engine, unsent = self._engine, self.transport.get_write_buffer_size()
        self._count(unsent)
        limits = engine.limits
        are_too_many = engine.stalled_bytes > limits.total_pending_bytes  # of all together
        if unsent > limits.max_pending_bytes or (unsent and are_too_many):
            self._await_drain()

    def _count(self, pending_bytes: int) -> None:
        self._engine.stalled_bytes += pending_bytes - self._counted_bytes
        self._counted_bytes = pending_bytes

    # Deadlines.

    def _look_for_life(self, now: float) -> None:
        limits = self._engine.limits
        if not self._pinged:
            self._heard, self._pinged = False, True
            self._ping()
            self._ping_at = now + limits.pong_seconds
        elif self._heard or not self._is_read_from:  # what isn't read can't be heard
            self._pinged = False
            self._ping_at = now + max(0.0, limits.ping_seconds - limits.pong_seconds)
        else:
            self._abort_for(SILENT)

    def _restart_clock(self) -> None:
        if self.is_open:
            self._give_up_after(self._engine.limits.lag_seconds)

    def _stop_clock(self) -> None:
        if self.is_open and self.pending is not STALLED and not self._is_behind:
            self._deadline = NEVER
            self._plan()

    def _give_up_after(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._plan()

    def _plan(self) -> None:
        if not self.is_open:
            self.wakes_at = self._deadline
            return
        self.wakes_at = min(self._ping_at, self._deadline, self._close_at)

    # Ending.

    def _end(self, why: EndReason | Close) -> None:
        """From `OPEN` to `CLOSING`, with a word to the peer."""
        self.state, self.closing = _CLOSING, why
        try:
            self.write_pending()
            self._send_close(_as_told(why, self._receiver))
        except Exception:  # whatever fails ends here, so this must not fail too
            log.exception("goodbye_failed", connection_id=self.id)
            self.transport.abort()
        self._go_on_closing()

    def _abort_for(self, why: EndReason | Close) -> None:
        """From `OPEN` to `CLOSING`, without a word."""
        self.state, self.closing = _CLOSING, why
        self.transport.abort()

    def _end_by_peer(self, close: Close) -> None:
        """To `LOST`: the peer has closed it."""
        self._stop_reading()
        if self.is_open:
            self.write_pending()
            self._send_close(close)
        self.transport.close()  # once all has left that is pending
        self._lose(close)

    def _send_close(self, close: Close) -> None:
        self.pending = NOTHING_MORE
        self._write_close(close)
        self._give_up_after(self._engine.limits.close_seconds)

    def _lose(self, close: Close) -> None:
        """To `LOST`, as soon as that is known, though the socket may have to flush."""
        if self.state is _LOST:
            return
        self.state = _LOST
        self.pending = NOTHING_MORE
        receiver, self._receiver = self._receiver, _NOBODY
        if self.closing is not None:
            close = _as_told(self.closing, receiver)
        self._engine.ended(close)
        try:
            receiver.lost(close)
        except Exception as error:
            self.abandon(error, "receiver_failed")


def _as_told(why: EndReason | Close, receiver: Receiver) -> Close:
    return why if isinstance(why, Close) else receiver.close_codes[why]


class _Nobody:
    """Above a connection that is not open yet, or over."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = {}

    def received(self, message: str | bytes) -> None: ...

    def lost(self, close: Close) -> None: ...


_NOBODY = _Nobody()
