"""How far our clock is from the bus's, which all services share."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Tells unix seconds."""


def our_clock() -> float:
    return datetime.now(UTC).timestamp()


class Stopwatch:
    """Started with a request, to compare the time that the answer bears."""

    def __init__(self, now: Clock = our_clock) -> None:
        self._now = now
        self._asked_at = now()

    def ahead_seconds(self, told: object) -> float:
        """By how much we are ahead at least: negative if we are behind, 0 if the clocks may agree.

        Args:
            told: The moment of the answer by the other clock, in RFC 3339.
        """
        try:
            told_at = datetime.fromisoformat(str(told)).timestamp()
        except ValueError:
            return 0.0  # a server that doesn't tell
        if told_at < self._asked_at:
            return self._asked_at - told_at
        return min(self._now() - told_at, 0.0)


def trouble_with_clock(ahead_seconds: float, *, at_most: float) -> list[str]:
    """Why tokens can't be checked, for the operator: at most one reason."""
    if abs(ahead_seconds) <= at_most:
        return []
    where = "ahead of" if ahead_seconds > 0 else "behind"
    return [f"the clock here is {abs(ahead_seconds):.0f} s {where} that of the bus"]
