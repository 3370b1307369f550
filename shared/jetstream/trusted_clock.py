"""Whether our clock may say what is so old that it is deleted: what is deleted stays deleted."""

import time

import structlog

from shared.jetstream.clock import Clock, our_clock, trouble_with_clock
from shared.jetstream.stream_reader import StreamReader
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable

log = structlog.get_logger(__name__)

SETTLE_SECONDS = 600.0
"""Since our clock has jumped: by then it is put right, or it was that jump that put it right."""
_STREAM = "CTL"  # of which every service may ask


class TrustedClock:
    """Ours, as long as the bus's agrees with it and it does not jump.

    Both, because the bus may lie on the same machine, and ours may be wrong since it began.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        max_offset_seconds: float,
        now: Clock = our_clock,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self._bus = bus
        self._max_offset_seconds = max_offset_seconds
        self._now = now
        self._monotonic = monotonic
        self._offset = now() - monotonic()
        self._settled_at = monotonic()

    async def is_right(self) -> bool:
        """Whether nothing speaks against it now; it is not where the bus can't be asked."""
        before, self._offset = self._offset, self._now() - self._monotonic()
        if abs(self._offset - before) > self._max_offset_seconds:
            log.warning("clock_jumped", seconds=round(self._offset - before))
            self._settled_at = self._monotonic() + SETTLE_SECONDS
        if self._monotonic() < self._settled_at:
            return False
        try:
            state = await StreamReader(self._bus, _STREAM, now=self._now).state()
        except BusUnavailable:
            return False
        return not trouble_with_clock(state.clock_ahead_seconds, at_most=self._max_offset_seconds)
