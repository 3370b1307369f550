"""How fast a connection may send commands: a bucket that fills at a steady rate. Pure.

Also what each thing costs in its user's bucket, which `shared.web.user_rates` keeps.
"""

from enum import Enum

_NANOSECONDS = 1_000_000_000

# In units of the user's bucket.
COMMAND_UNITS = 1
"""And one more for each further `BYTES_A_UNIT`."""
CONNECT_UNITS = 5
BYTES_A_UNIT = 256
PUBLICATIONS_A_UNIT = 20
"""Of those that are replayed, or asked for as history; and as many clients, as presence."""
ANSWERED_BYTES_A_UNIT = 16 * 1024
"""Of a page of history."""


class Verdict(Enum):
    """What becomes of a command."""

    EXECUTE = "execute"
    REFUSE = "refuse"
    CLOSE = "close"
    """Too many were refused."""


EXECUTE, REFUSE, CLOSE = Verdict  # as members of the enum they cost half a microsecond each


class RateLimits:
    """What every connection may do."""

    __slots__ = ("fills_in", "gains_one_in", "max_refusals")

    def __init__(self, *, commands_per_second: float, burst: int, max_refusals: int) -> None:
        """
        Args:
            commands_per_second: What a full bucket allows in the long run; 0 is no limit.
            burst: What a full bucket allows at once.
            max_refusals: So many may be refused before the bucket is full again.
        """
        self.gains_one_in = round(_NANOSECONDS / commands_per_second) if commands_per_second else 0
        self.fills_in = burst * self.gains_one_in
        self.max_refusals = max_refusals


class CommandRate:
    """The bucket of one connection, told by one number: the moment at which it will be full.

    In whole nanoseconds, so that no rounding adds up. Nothing runs between two commands.
    """

    __slots__ = ("_full_at", "_limits", "_refused")

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._full_at = 0
        self._refused = 0

    def take(self, now: int) -> Verdict:
        """Count a command that comes at ``now``: nanoseconds of a clock that never goes back."""
        limits, full_at = self._limits, self._full_at
        if full_at <= now:
            full_at, self._refused = now, 0
        full_at += limits.gains_one_in
        if full_at - now <= limits.fills_in:
            self._full_at = full_at
            return EXECUTE
        return self.refuse()

    def refuse(self) -> Verdict:
        """Count a command that is refused, for whatever is spent."""
        self._refused += 1
        return REFUSE if self._refused <= self._limits.max_refusals else CLOSE


def units_of_text(text: str) -> int:
    """What a command costs that says so much."""
    size = len(text) if text.isascii() else len(text.encode())
    return COMMAND_UNITS + size // BYTES_A_UNIT


def units_of_replay(count: int, size: int = 0) -> int:
    """What so many publications cost, or clients of a channel, that are sent to one who asks.

    Args:
        size: Of them together, in bytes, where that counts too.
    """
    return -(-count // PUBLICATIONS_A_UNIT) + size // ANSWERED_BYTES_A_UNIT
