"""Waiting for a user to be present, with a deadline that costs no timer of its own."""

import asyncio
import time
from collections.abc import Callable

from gateway.presence.subjects import Place

Tell = Callable[[bool], None]
"""Gets whether the user is there; it must not raise."""

_SWEEP_SECONDS = 0.05
"""By so much a deadline may be late."""


class Arrivals:
    """Who waits for whom. One timer sweeps all who wait; there is none while nobody does."""

    def __init__(self) -> None:
        self._waiting: dict[Place, list[tuple[float, Tell]]] = {}
        """The deadline of each, by the monotonic clock."""
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many do."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_sweeping(self) -> bool:
        return self._sweeper is not None

    def wait(self, place: Place, deadline_seconds: float, tell: Tell) -> None:
        """Tell once: True as soon as `arrive` is called of the place, or False if that is late."""
        self._waiting.setdefault(place, []).append((time.monotonic() + deadline_seconds, tell))
        if self._sweeper is None:
            self._sweep_later()

    def arrive(self, place: Place) -> None:
        """The user is there."""
        for _, tell in self._waiting.pop(place, ()):
            tell(True)

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = time.monotonic()
        late: list[Tell] = []
        for place, waiting in list(self._waiting.items()):
            if any(deadline <= now for deadline, _ in waiting):
                late += [tell for deadline, tell in waiting if deadline <= now]
                patient = [each for each in waiting if each[0] > now]
                if patient:
                    self._waiting[place] = patient
                else:
                    del self._waiting[place]
        if self._waiting:
            self._sweep_later()
        for tell in late:
            tell(False)
