"""What a connection does when its time has come: pings, deadlines, the end of a token."""

import asyncio
import random
import time

from gateway.errors import EndReason
from gateway.transport.coalescer import STALLED
from gateway.transport.frames import Close, ping_frame
from gateway.transport.resources import Resources
from gateway.transport.writing import Writing

NEVER = float("inf")
PING = ping_frame()
SILENT = Close(1006, "silent")
"""Never sent: nobody reads it."""


class Timing(Writing):
    """Knows when it has to be looked at again; the sweep over all connections does that."""

    __slots__ = (
        "_close_at", "_deadline", "_expiry", "_heard", "_is_behind", "_ping_at", "_pinged",
        "wakes_at",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, engine: Resources) -> None:
        super().__init__(transport, engine)
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

    # Said by the whole connection.

    def _end(self, end: EndReason | Close) -> None:
        raise NotImplementedError

    # For the rooms above.

    def close_after(self, seconds: float, reason: EndReason) -> None:
        """Close it when they are over, whatever clocks say; replaces what was said before."""
        self._close_at = time.monotonic() + seconds
        self._expiry = reason
        self._plan()

    def fall_behind(self) -> None:
        """It missed something live, so it has `lag_seconds` to catch up.

        Those begin now, though its socket may have taken nothing for nearly as long; who never
        catches up cannot fall behind again.
        """
        self._is_behind = True
        self._restart_clock()

    def keep_up(self) -> None:
        """It has caught up; what its socket has not taken of that, it has time for anew."""
        self._is_behind = False
        if self.due is STALLED:
            self._restart_clock()
        else:
            self._stop_clock()

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

    # Within.

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
            self.transport.abort()

    def _start_clock(self) -> None:
        """It is given up after `lag_seconds`, unless it is stopped before."""
        if self._deadline == NEVER:
            self._give_up_after(self._engine.limits.lag_seconds)

    def _restart_clock(self) -> None:
        if self.is_open:
            self._give_up_after(self._engine.limits.lag_seconds)

    def _stop_clock(self) -> None:
        if self.is_open and self.due is not STALLED and not self._is_behind:
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
