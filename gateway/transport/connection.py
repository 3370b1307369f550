"""One open connection: what is sent on it, its deadlines and its life. No task, queue or timer.

How a peer is pinged, what it is told at the end, and what is read from it is for a subclass, such
as `websocket.WebSocketConnection`. A stream from which nothing is read needs the first two only.
"""

import asyncio
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from enum import Enum
from typing import Any, ClassVar

import structlog

from gateway.errors import EndReason
from gateway.transport.coalescer import NOTHING_MORE, STALLED, FrameBatch
from gateway.transport.frames import Close, Frame
from gateway.transport.receiver import NOBODY, Receiver, close_for
from gateway.transport.shared_state import SharedState
from hubbub_client.contracts.ids import ConnectionId

log = structlog.get_logger(__name__)

NEVER = float("inf")
LOST = Close(1006, "")
"""The socket ended without a close frame. RFC 6455 reserves the code: it is never sent."""

COMMANDS_WAIT = 1
UNREAD_REPLIES = 2
"""Why nothing is read now; both may hold at once. A subclass may have reasons of its own."""


class State(Enum):
    """The life of a connection: from `OPEN` to `CLOSING` to `LOST`, or from `OPEN` to `LOST`."""

    OPEN = "open"
    CLOSING = "closing"
    """We have sent why it ends, or aborted it; the socket is still there."""
    LOST = "lost"
    """The receiver was told; the socket may still have to flush."""


_OPEN, _CLOSING, _LOST = State  # an enum's attribute is slow to read before Python 3.12


class Connection(asyncio.Protocol, ABC):
    """One open socket, driven by callbacks: an idle one is this object and a transport.

    Frames leave at the end of each turn of the loop. While the socket has more than
    `Limits.stall_bytes` unsent, the connection is *stalled*: what can be fetched again later is
    offered, not sent. What there is no room for, the session fetches once the socket has drained.

    A connection knows when it has to be checked next; the sweep over all of them does that.
    """

    deflates: ClassVar[bool] = False
    """Whether its peer reads what `deflated_text_frame` makes."""

    __slots__ = (
        "_close_at", "_counted_bytes", "_deadline", "_drained", "_expiry", "_heard", "_holds",
        "_is_behind", "_ping_at", "_pinged", "_receiver", "_shared", "closing", "id", "pending",
        "state", "transport", "wakes_at",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, shared: SharedState["Connection"]) -> None:
        self.id = ConnectionId(os.urandom(8).hex())  # as `secrets` does, in fewer steps
        self.transport = transport
        self.state = _OPEN
        self.closing: EndReason | Close | None = None
        """Why we end it; a `Close` if its protocol or RFC 6455 has a code for just that."""
        self.pending: FrameBatch | None = None
        """What is sent at the end of this turn; or `STALLED`, or `NOTHING_MORE`."""
        self._shared = shared
        self._receiver: Receiver = NOBODY
        self._counted_bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_behind = False
        self._holds = 0
        self._deadline = NEVER
        self._close_at = NEVER
        self._expiry: EndReason
        self._heard = False
        """Whether anything came from the peer since the last ping."""
        self._pinged = False
        # Connections that came together are not pinged together.
        self._ping_at = time.monotonic() + shared.limits.ping_seconds * random.uniform(0.5, 1)
        self.wakes_at = self._ping_at
        """Monotonic seconds; before it there is nothing to check."""
        transport.set_write_buffer_limits(high=shared.limits.stall_bytes)

    def open(self, receiver: Receiver) -> None:
        """Begin to call the receiver."""
        self._receiver = receiver
        self._shared.add(self)
        self.transport.set_protocol(self)

    # Of a subclass. One that reads defines `data_received` too, and sets `_heard` there.

    @abstractmethod
    def _ping(self) -> None:
        """Send a ping. If its peer can't answer one, set `_heard`."""

    @abstractmethod
    def _write_close(self, close: Close) -> None:
        """Write why the connection ends. If its peer does not end it, `close_seconds` do."""

    def _read_on(self) -> None:
        """Read what was kept while reading was paused; that may pause it again."""

    # For the rooms above.

    @property
    def is_open(self) -> bool:
        return self.state is _OPEN

    @property
    def is_stalled(self) -> bool:
        """Whether the socket takes nothing now."""
        return self.pending is STALLED

    @property
    def leaves_replies_unread(self) -> bool:
        """Whether its peer takes so little that it is not to be answered more now."""
        return self.is_open and bool(self._holds & UNREAD_REPLIES)

    def send(self, frame: Frame) -> None:
        """Send a frame that can't be fetched again, such as a reply; never waits.

        A peer that leaves too many of them unread is not read from, so it gets no more replies.
        """
        pending = self.pending
        if pending is STALLED:
            self.transport.write(frame)
            self._count_unsent()
        elif pending is not NOTHING_MORE:
            self._shared.coalescer.queue(self, frame)
            if len(frame) > self._shared.limits.stall_bytes:
                self.write_pending()  # whether the peer takes it is known before the next reply

    def offer(self, frame: Frame) -> bool:
        """Send a frame on a stalled connection if there is room for it; return whether there is."""
        shared, limits = self._shared, self._shared.limits
        size = self.transport.get_write_buffer_size() + len(frame)
        total = shared.stalled_bytes - self._counted_bytes + size
        if size > limits.max_pending_bytes or total > limits.total_pending_bytes:
            return False
        self.transport.write(frame)
        self._count(size)
        return True

    async def until_drained(self) -> None:
        """Write what is pending, and wait until the socket takes more, or the connection is over.

        Bounded by `lag_seconds`. Other tasks run meanwhile, even if it has not stalled.
        """
        self.write_pending()
        await asyncio.sleep(0)
        while self.pending is STALLED:
            if self._drained is None or self._drained.done():
                self._drained = self._shared.loop.create_future()
            await asyncio.shield(self._drained)  # others wait for it too

    def pause_reading(self) -> None:
        """Read nothing more for now: the peer has sent more commands than are done."""
        self._hold(COMMANDS_WAIT)

    def resume_reading(self) -> None:
        self._release(COMMANDS_WAIT)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task for this connection. It must end soon after ``is_open`` has become false."""
        self._shared.work.start(self._run(work))

    def begin_work(self) -> None:
        """Say that something is under way without a task; a drain waits for `end_work`."""
        self._shared.work.begin()

    def end_work(self) -> None:
        self._shared.work.end()

    def close(self, reason: EndReason | Close) -> None:
        """End the connection once what is pending has left; the first reason counts.

        Args:
            reason: A `Close` is sent as it is.
        """
        if self.is_open:
            self._end(reason)

    def cut(self, reason: EndReason | Close) -> None:
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
        """Close it after so many seconds of the monotonic clock; replaces an earlier call."""
        self._close_at = time.monotonic() + seconds
        self._expiry = reason
        self._plan()

    def fall_behind(self) -> None:
        """It missed a publication, so it has `lag_seconds` to catch up.

        They begin now, though its socket may have been stalled for nearly as long. A connection
        that never catches up can't fall behind again.
        """
        self._is_behind = True
        self._restart_clock()

    def keep_up(self) -> None:
        """It has caught up. If its socket has not taken all of that, the time begins anew."""
        self._is_behind = False
        if self.pending is STALLED:
            self._restart_clock()
        else:
            self._stop_clock()

    def abandon(self, error: Exception, event: str) -> None:
        """End the connection, since something that was done for it raised.

        That costs this connection and no other: code that serves many catches what is raised
        for one, and calls this.

        Args:
            event: Its name in the log.
        """
        log.error(event, connection_id=self.id, exc_info=error)
        self._shared.on_failed()
        if self.is_open:
            self.close(EndReason.INTERNAL_ERROR)
        else:  # ending it may be what failed
            self.transport.abort()

    # For the hub and the coalescer.

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
                self._check_alive(now)
        self._plan()

    def write_pending(self) -> None:
        """Write what is pending to the socket."""
        batch = self.pending
        if batch is None or batch is STALLED or batch is NOTHING_MORE:
            return
        self.pending = None
        self.transport.write(batch.joined())

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self.transport.abort()

    # Called by the transport.

    def pause_writing(self) -> None:
        if self.pending is not NOTHING_MORE:
            self.write_pending()
            self.pending = STALLED
        self._count_unsent()
        if self._deadline == NEVER:
            self._give_up_after(self._shared.limits.lag_seconds)

    def resume_writing(self) -> None:
        self._drain()
        self._stop_clock()
        self._release(UNREAD_REPLIES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(LOST)
        self._drain()
        self._shared.remove(self)

    # Writing.

    def _drain(self) -> None:
        if self.pending is STALLED:
            self.pending = None
        self._count(0)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _count_unsent(self) -> None:
        shared, unsent = self._shared, self.transport.get_write_buffer_size()
        self._count(unsent)
        limits = shared.limits
        all_are_full = shared.stalled_bytes > limits.total_pending_bytes
        if unsent > limits.max_pending_bytes or (unsent and all_are_full):
            self._hold(UNREAD_REPLIES)  # what is read would be answered

    def _count(self, pending_bytes: int) -> None:
        self._shared.stalled_bytes += pending_bytes - self._counted_bytes
        self._counted_bytes = pending_bytes

    # Reading.

    def _call_receiver(self, message: str | bytes) -> None:
        """A receiver must not raise. If it does, that costs this connection and no other."""
        try:
            self._receiver.received(message)
        except Exception as error:
            self.abandon(error, "receiver_failed")

    @property
    def _may_read(self) -> bool:
        return not self._holds and not self.transport.is_closing()

    def _hold(self, reason: int) -> None:
        if not self.is_open:
            return  # the peer's answer to the close has to be read
        if self._may_read:
            self.transport.pause_reading()
        self._holds |= reason

    def _release(self, reason: int) -> None:
        if not self._holds & reason:
            return
        self._holds &= ~reason
        if self._may_read:
            self._read_on()
        if self._may_read:
            self.transport.resume_reading()

    # Deadlines.

    def _check_alive(self, now: float) -> None:
        limits = self._shared.limits
        if not self._pinged:
            self._heard, self._pinged = False, True
            self._ping()
            self._ping_at = now + limits.pong_seconds
        elif self._heard or self._holds:  # nothing is heard from a peer that isn't read from
            self._pinged = False
            self._ping_at = now + max(0.0, limits.ping_seconds - limits.pong_seconds)
        else:
            self._end_silent()

    def _end_silent(self) -> None:
        """Say why to a peer that may still read, and wait for nothing of it."""
        if self.pending is STALLED:
            self._abort_for(EndReason.SILENT)
            return
        self._end(EndReason.SILENT)
        self.transport.close()
        self._lose(LOST)

    def _restart_clock(self) -> None:
        if self.is_open:
            self._give_up_after(self._shared.limits.lag_seconds)

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

    # Work.

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self.abandon(error, "connection_work_failed")
        except asyncio.CancelledError:
            self.abort()  # the rest of its work will not be done
            raise

    # Ending.

    def _end(self, why: EndReason | Close) -> None:
        """From `OPEN` to `CLOSING`: send what is pending, then why it ends."""
        self.state, self.closing = _CLOSING, why
        try:
            self.write_pending()
            close = close_for(why, self._receiver)
            if (farewell := self._receiver.farewell(close)) is not None:
                self.transport.write(farewell)
            self._send_close(close)
        except Exception:  # `abandon` ends connections here, so this must not raise
            log.exception("close_failed", connection_id=self.id)
            self.transport.abort()
        self._release(COMMANDS_WAIT | UNREAD_REPLIES)  # the peer's answer has to be read

    def _abort_for(self, why: EndReason | Close) -> None:
        """From `OPEN` to `CLOSING`, and send nothing."""
        self.state, self.closing = _CLOSING, why
        self.transport.abort()

    def _send_close(self, close: Close) -> None:
        self.pending = NOTHING_MORE
        self._write_close(close)
        self._give_up_after(self._shared.limits.close_seconds)

    def _lose(self, close: Close) -> None:
        """To `LOST`, as soon as that is known, though the socket may have to flush."""
        if self.state is _LOST:
            return
        self.state = _LOST
        self.pending = NOTHING_MORE
        receiver, self._receiver = self._receiver, NOBODY
        if self.closing is not None:
            close = close_for(self.closing, receiver)
        self._shared.on_closed(close)
        try:
            receiver.lost(close)
        except Exception as error:
            self.abandon(error, "receiver_failed")
