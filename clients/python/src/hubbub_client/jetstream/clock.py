"""Comparing our clock with the bus's, which is the same for all services."""

import time
from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], float]
"""Tells unix seconds."""


def our_clock() -> float:
    """As `datetime.now(UTC)` has it, in a tenth of the time: each connect asks several times."""
    return time.time()  # noqa: TID251


class ClockComparison:
    """Started with a request; compares our clock with the time in the answer."""

    def __init__(self, now: Clock = our_clock) -> None:
        self._now = now
        self._asked_at = now()

    def ahead_seconds(self, answered: object) -> float:
        """By how much we are ahead at least; negative if behind, 0 if the clocks may agree.

        Args:
            answered: The time of the answer by the other clock, in RFC 3339.
        """
        try:
            answered_at = datetime.fromisoformat(str(answered)).timestamp()
        except ValueError:
            return 0.0  # the answer has no time
        if answered_at < self._asked_at:
            return self._asked_at - answered_at
        return min(self._now() - answered_at, 0.0)


def trouble_with_clock(ahead_seconds: float, *, at_most: float) -> list[str]:
    """Why tokens can't be verified, for the operator: at most one reason."""
    if abs(ahead_seconds) <= at_most:
        return []
    where = "ahead of" if ahead_seconds > 0 else "behind"
    return [f"the clock here is {abs(ahead_seconds):.0f} s {where} that of the bus"]
