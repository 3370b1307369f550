"""Waiting for a user to be present, with a deadline that costs no timer of its own."""

import asyncio
import time

from gateway.presence.subjects import Place

_SWEEP_SECONDS = 0.05
"""By so much a deadline may be late."""


class Arrivals:
    """Who waits for whom. One timer sweeps all who wait; there is none while nobody does."""

    def __init__(self) -> None:
        self._waiting: dict[Place, dict[asyncio.Future[bool], float]] = {}
        """The deadline of each, by the monotonic clock."""
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many do."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_sweeping(self) -> bool:
        return self._sweeper is not None

    async def wait(self, place: Place, deadline_seconds: float) -> bool:
        """Wait until `tell` is called of the place; False if that is late."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[bool] = loop.create_future()
        waiting = self._waiting.setdefault(place, {})
        waiting[arrived] = time.monotonic() + deadline_seconds
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)
        try:
            return await arrived
        finally:
            waiting.pop(arrived, None)
            if not waiting and self._waiting.get(place) is waiting:
                del self._waiting[place]

    def tell(self, place: Place) -> None:
        """The user is there."""
        for arrived in self._waiting.pop(place, ()):
            if not arrived.done():
                arrived.set_result(True)

    def _sweep(self) -> None:
        self._sweeper = None
        if not self._waiting:
            return
        now = time.monotonic()
        for waiting in self._waiting.values():
            for arrived, deadline in waiting.items():
                if deadline <= now and not arrived.done():
                    arrived.set_result(False)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
