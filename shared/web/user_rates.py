"""How much a user may ask for: one bucket for all that they do here, on whatever connection.

A bucket is told by one number, the moment at which it will be full, and is kept only until
then: who has been quiet for as long costs nothing.
"""

import math
import time
from typing import ClassVar

from shared.contracts.errors import AppError, ErrorKind
from shared.contracts.ids import UserId

_NANOSECONDS = 1_000_000_000


class TooFast(AppError):
    """The user has asked for too much lately."""

    kind: ClassVar[ErrorKind] = ErrorKind.THROTTLED
    code: ClassVar[str] = "rate_limited"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too much at a time: try again, more slowly")
        self.retry_after_seconds = retry_after_seconds


class UserRates:
    """The buckets of those who did something lately; of one process.

    They lie in two halves. A bucket that nothing was taken from for as long as an empty one
    needs to fill is full, and that is how long a half lasts: then the older half is dropped as
    it is, without a look at any of it.
    """

    __slots__ = ("_fills_in", "_gains_one_in", "_max_users", "_newer", "_older", "_turns_at")

    def __init__(self, *, units_per_second: float, burst: int, max_users: int) -> None:
        """
        Args:
            units_per_second: What a user may spend in the long run; 0 is no limit.
            burst: What a full bucket holds.
            max_users: Of each half. With more, the older half is dropped before its time.
        """
        self._gains_one_in = round(_NANOSECONDS / units_per_second) if units_per_second else 0
        self._fills_in = burst * self._gains_one_in
        self._max_users = max_users
        self._newer: dict[UserId, int] = {}
        self._older: dict[UserId, int] = {}
        self._turns_at = 0

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._newer.keys() | self._older.keys())

    def take(self, user_id: UserId, units: int, now: int) -> int:
        """Take so much out of the user's bucket, if it is there.

        Args:
            units: More than a burst counts as a burst, or nobody could ever have it.
            now: Nanoseconds of a clock that never goes back.

        Returns:
            0, or the nanoseconds until it will be there, and then nothing was taken.
        """
        if not self._gains_one_in:
            return 0
        if now >= self._turns_at or len(self._newer) >= self._max_users:
            self._turn(now)
        full_at = self._newer.get(user_id) or self._older.get(user_id, now)
        full_at = max(full_at, now) + min(units * self._gains_one_in, self._fills_in)
        missing = full_at - now - self._fills_in
        if missing > 0:
            return missing
        self._newer[user_id] = full_at
        return 0

    def charge(self, user_id: UserId, units: int) -> None:
        """Take so much now.

        Raises:
            TooFast: it isn't there; nothing was taken.
        """
        missing = self.take(user_id, units, time.monotonic_ns())
        if missing:
            raise TooFast(math.ceil(missing / _NANOSECONDS))

    def _turn(self, now: int) -> None:
        """Drop the older half, and the newer one if that is as old."""
        self._older = self._newer if now < self._turns_at + self._fills_in else {}
        self._newer = {}
        self._turns_at = now + self._fills_in
