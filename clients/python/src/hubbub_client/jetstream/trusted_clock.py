"""Whether our clock may decide what is old enough to be deleted."""

import logging
import time

from hubbub_client.jetstream.clock import Clock, our_clock, trouble_with_clock
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable

log = logging.getLogger(__name__)

SETTLE_SECONDS = 600.0
"""After a jump of our clock: by then it is corrected, or the jump was the correction."""
_STREAM = "CTL"  # every service may read its state


class TrustedClock:
    """Our clock, trusted while it agrees with the bus's and does not jump.

    One check is not enough: the bus may be on the same machine and use the same clock, and a clock
    may be wrong from the start without a jump.
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
        """Whether it can be trusted now; not while the bus does not answer."""
        before, self._offset = self._offset, self._now() - self._monotonic()
        if abs(self._offset - before) > self._max_offset_seconds:
            log.warning(LogEvent("clock_jumped", seconds=round(self._offset - before)))
            self._settled_at = self._monotonic() + SETTLE_SECONDS
        if self._monotonic() < self._settled_at:
            return False
        try:
            state = await StreamReader(self._bus, _STREAM, now=self._now).state()
        except BusUnavailable:
            return False
        return not trouble_with_clock(state.clock_ahead_seconds, at_most=self._max_offset_seconds)
