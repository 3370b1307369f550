"""One open socket, as the rooms above know it: frames go out and never wait, texts come in."""

import asyncio
import secrets
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

from gateway.engine.frame import Frame, size_of
from gateway.engine.limits import Limits
from gateway.errors import TOO_SLOW, Close
from shared.ids import ConnectionId


class Receiver(Protocol):
    """Whoever is above a connection. Called from the loop: it neither waits nor fails."""

    def received(self, text: str) -> None:
        """A text message came, on a connection that is open."""

    def lost(self, close: Close) -> None:
        """It is over: nothing comes any more, and what is sent goes nowhere."""


class Socket(Protocol):
    """What carries a connection; the connection calls it and knows nothing else of it."""

    def wake(self) -> None:
        """There is something to write, or reading may go on, or all is to be closed."""

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the reading; it ends by itself soon after the connection."""

    def abort(self) -> None:
        """Drop the connection without a word, and whatever still runs for it."""


class Connection:
    """One open socket of one tab: a bounded queue of frames, and at the end a close."""

    __slots__ = (
        "_buffered_bytes", "_close_at", "_drained", "_ends_at", "_limits", "_outgoing", "_socket",
        "_stalled_at", "closing", "id", "is_lost", "may_read",
    )  # fmt: skip

    def __init__(self, socket: Socket, limits: Limits) -> None:
        self.id = ConnectionId(secrets.token_hex(8))
        self.closing: Close | None = None
        self.is_lost = False
        self.may_read = True
        self._socket = socket
        self._limits = limits
        self._outgoing: deque[Frame] = deque()
        self._buffered_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._close_at: tuple[float, Close] | None = None
        self._ends_at = 0.0
        self._stalled_at: float | None = None

    # For the rooms above.

    @property
    def is_open(self) -> bool:
        return self.closing is None and not self.is_lost

    @property
    def buffered_bytes(self) -> int:
        """Queued, and not yet taken by the socket."""
        return self._buffered_bytes

    def send(self, frame: Frame) -> None:
        """Queue a frame; never waits.

        Whoever reads too slowly loses the queue and is asked to come back: what it
        has seen tells where to resume, and nobody else pays for it.
        """
        if not self.is_open:
            return
        size = size_of(frame)
        if self._outgoing and self._buffered_bytes + size > self._limits.max_pending_bytes:
            self._give_up()
            return
        self._outgoing.append(frame)
        self._buffered_bytes += size
        self._drained.clear()
        self._socket.wake()

    def close(self, code: int, reason: str) -> None:
        """End the connection once what is queued has left; the first close counts."""
        if self.is_open:
            self.closing = Close(code, reason)
            self._ends_at = _monotonic() + self._limits.close_seconds
            self._socket.wake()

    def cut(self, code: int, reason: str) -> None:
        """End the connection now, and send nothing more of what is queued.

        Who takes nothing at this moment hears no reason either.
        """
        if not self.is_open:
            return
        if self._stalled_at is not None:
            self._socket.abort()
        self._forget_queue()
        self.close(code, reason)

    def close_at(self, moment: float | None, code: int, reason: str) -> None:
        """Close it when ``moment`` (unix seconds) has come; replaces what was said before."""
        self._close_at = None if moment is None else (moment, Close(code, reason))

    async def until_drained(self) -> None:
        """Wait until all that was queued has left, or the connection is over.

        Bounded, since the sweep ends a connection whose socket takes nothing.
        """
        await self._drained.wait()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something for this connection; it must end soon after ``is_open`` has turned."""
        self._socket.start(work)

    def pause_reading(self) -> None:
        """Let the peer wait: it has sent more than is done."""
        self.may_read = False

    def resume_reading(self) -> None:
        self.may_read = True
        self._socket.wake()

    # For the engine.

    def next_frame(self) -> Frame | None:
        """The frame to write now; call `wrote` when the socket has taken it."""
        if not self._outgoing:
            return None
        self._stalled_at = _monotonic() + self._limits.write_seconds
        return self._outgoing[0]

    def wrote(self, frame: Frame) -> None:
        self._stalled_at = None
        if self._outgoing and self._outgoing[0] is frame:  # else given up meanwhile
            self._outgoing.popleft()
            self._buffered_bytes -= size_of(frame)
        if not self._outgoing:
            self._drained.set()

    def check(self, *, monotonic: float, unix: float) -> None:
        """What is due by now: once per sweep, instead of timers for each connection."""
        if self.closing is not None:
            if monotonic >= self._ends_at:
                self._socket.abort()
        elif self._stalled_at is not None and monotonic >= self._stalled_at:
            self._give_up()
        elif self._close_at is not None and unix >= self._close_at[0]:
            self.close(*self._close_at[1])

    def abort(self) -> None:
        self._socket.abort()

    def mark_lost(self) -> None:
        self.is_lost = True
        self._forget_queue()

    def _give_up(self) -> None:
        self._forget_queue()
        self.close(*TOO_SLOW)

    def _forget_queue(self) -> None:
        self._outgoing.clear()
        self._buffered_bytes = 0
        self._drained.set()


def _monotonic() -> float:
    return asyncio.get_running_loop().time()
