"""What a jump of the wall clock means for connections that are open.

A token ends by the wall clock, a connection by the monotonic one, which knows no jump: how long
its token has to live is reckoned once, when the token is shown. So a wall clock that is set wrong
for a moment ends nobody. One that is set right, or has gone on while the machine slept, has to
count: what has stood for `clock_settle_seconds` is reckoned with anew, for all that are open.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from hubbub_client.jetstream.clock import Clock, our_clock

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_JUMP_SECONDS = 1.0
"""Less is how clocks are kept right, and moves no end by more than a sweep does."""


class ClockWatch:
    """Watches the wall clock by the monotonic one."""

    def __init__(
        self,
        on_settled: Callable[[], None],
        *,
        settle_seconds: float,
        unix: Clock = our_clock,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_settled`` is called when a jump has stood for so long, once for each."""
        self._on_settled = on_settled
        self._settle_seconds = settle_seconds
        self._unix = unix
        self._now = now
        self._offset = unix() - now()
        self._jumped_at: float | None = None

    async def run(self) -> None:
        """Look at the clocks, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        now = self._now()
        jumped = self._unix() - now - self._offset
        if abs(jumped) > _JUMP_SECONDS:
            log.warning("clock_jumped", seconds=round(jumped, 3))
            self._offset += jumped
            self._jumped_at = now
        elif self._jumped_at is not None and now - self._jumped_at >= self._settle_seconds:
            self._jumped_at = None
            self._on_settled()
