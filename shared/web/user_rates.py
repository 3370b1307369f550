"""Rate limits of users: one token bucket for all that a user does in this process.

A bucket is one number, the moment at which it will be full, and is kept only until then: users
who are quiet cost nothing.
"""

import math
import time
from typing import ClassVar

from hubbub_client.contracts.errors import AppError, ErrorKind
from hubbub_client.contracts.ids import UserId

_NANOSECONDS = 1_000_000_000


class TooFast(AppError):
    """The user's bucket is empty."""

    kind: ClassVar[ErrorKind] = ErrorKind.THROTTLED
    code: ClassVar[str] = "rate_limited"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("too much at a time: try again, more slowly")
        self.retry_after_seconds = retry_after_seconds


class UserRates:
    """The buckets of users who did something lately.

    There are two halves. A bucket that was not touched for as long as an empty one takes to fill
    is full. So after that time the older half is dropped as a whole, without a look at its buckets.
    """

    __slots__ = ("_fills_in", "_gains_one_in", "_max_users", "_newer", "_older", "_rotates_at")

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
        self._rotates_at = 0

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._newer.keys() | self._older.keys())

    def take(self, user_id: UserId, units: int, now: int) -> int:
        """Take units out of the user's bucket, if it has as many.

        Args:
            units: More than ``burst`` counts as ``burst``, or nobody could ever have them.
            now: Nanoseconds of a clock that never goes back.

        Returns:
            0; or, if nothing was taken, the nanoseconds until the bucket has as many.
        """
        if not self._gains_one_in:
            return 0
        if now >= self._rotates_at or len(self._newer) >= self._max_users:
            self._rotate(now)
        full_at = self._newer.get(user_id) or self._older.get(user_id, now)
        full_at = max(full_at, now) + min(units * self._gains_one_in, self._fills_in)
        missing = full_at - now - self._fills_in
        if missing > 0:
            return missing
        self._newer[user_id] = full_at
        return 0

    def charge(self, user_id: UserId, units: int) -> None:
        """Take units out of the user's bucket now.

        Raises:
            TooFast: it has not as many; nothing was taken.
        """
        missing = self.take(user_id, units, time.monotonic_ns())
        if missing:
            raise TooFast(math.ceil(missing / _NANOSECONDS))

    def _rotate(self, now: int) -> None:
        """Drop the older half, and the newer one if that is as old."""
        self._older = self._newer if now < self._rotates_at + self._fills_in else {}
        self._newer = {}
        self._rotates_at = now + self._fills_in
