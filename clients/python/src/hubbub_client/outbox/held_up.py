"""Aggregates that can't go on: each is left alone for a pause, so that no other waits for it."""

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from hubbub_client.outbox.limits import RelayLimits


@dataclass(slots=True)
class _Pause:
    reason: str
    seconds: float
    until: float


class HeldUp:
    """Which aggregates are held up, why, and when each is tried again."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._pauses: dict[str, _Pause] = {}

    @property
    def aggregates(self) -> Collection[str]:
        return self._pauses.keys()

    @property
    def reasons(self) -> Collection[str]:
        return {pause.reason for pause in self._pauses.values()}

    @property
    def seconds_until_due(self) -> float:
        """Until the first is tried again; infinite if there is none."""
        first = min((pause.until for pause in self._pauses.values()), default=math.inf)
        return max(0.0, first - time.monotonic())

    def due(self) -> list[str]:
        """Those whose pause is over, at most as many as a batch has rows.

        Who was not tried for longest comes first, so that each has its turn.
        """
        now = time.monotonic()
        over = [(each.until, name) for name, each in self._pauses.items() if each.until <= now]
        return [name for _, name in sorted(over)[: self._limits.batch_rows]]

    def hold(self, aggregate: str, reason: str, *, others_go_on: bool) -> bool:
        """Leave it alone, each time for longer; return whether it was not known.

        Args:
            others_go_on: So it is not the destination that is away. What is held up by that one
                has to go on soon after it is back.
        """
        limits, known = self._limits, self._pauses.get(aggregate)
        seconds = limits.first_backoff_seconds
        if known is not None:
            longest = limits.max_pause_seconds if others_go_on else limits.max_backoff_seconds
            seconds = max(known.seconds, min(known.seconds * 2, longest))
        if known is not None or len(self._pauses) < limits.held_up_aggregates:
            self._pauses[aggregate] = _Pause(reason, seconds, time.monotonic() + seconds)
        return known is None

    def release(self, aggregates: Iterable[str]) -> None:
        """They went on, or have no rows any more."""
        for aggregate in aggregates:
            self._pauses.pop(aggregate, None)
