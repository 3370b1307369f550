"""How often sign-ins may fail, and accounts may be made.

The counts are in the database, so that all processes count together and a restart forgets
nothing. Exhausted keys are remembered in memory as well: a repeated refusal needs no transaction.
"""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from auth_service import repository
from auth_service.errors import TooManyFailures, TooManyRegistrations
from hubbub_client.contracts.errors import AppError
from hubbub_client.sql.database import database_now

_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt, and the keys under which it counts."""

    limits: Mapping[str, int]
    """How often each key may count within the throttle's time. Rows are locked in this order."""
    refusal: Callable[[int], AppError]
    """Makes the error from the seconds until the next try."""


class Throttle:
    """Allows or refuses attempts; each counts for ``seconds``."""

    def __init__(
        self,
        *,
        seconds: float,
        failures_per_account: int,
        failures_per_address: int,
        registrations_per_address: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._failures_per_account = failures_per_account
        self._failures_per_address = failures_per_address
        self._registrations_per_address = registrations_per_address
        self._monotonic = monotonic
        self._full_until: OrderedDict[str, float] = OrderedDict()

    def sign_in(self, email_key: str, address: str) -> Attempt:
        """It counts if it fails: for the account and for the address."""
        account = hashlib.sha256(email_key.encode()).hexdigest()
        limits = {
            f"account:{account}": self._failures_per_account,
            f"address:{address}": self._failures_per_address,
        }
        return Attempt(limits, TooManyFailures)

    def registration(self, address: str) -> Attempt:
        """It counts in any case, as every answer tells whether an email is taken."""
        return Attempt(
            {f"register:{address}": self._registrations_per_address}, TooManyRegistrations
        )

    def refuse_known(self, attempt: Attempt) -> None:
        """Refuse by memory alone, without asking the database.

        Raises:
            TooManyFailures, TooManyRegistrations: as the attempt says.
        """
        now = self._monotonic()
        until = max(self._full_until.get(key, 0.0) for key in attempt.limits)
        if until > now:
            raise attempt.refusal(math.ceil(until - now))

    async def check(self, db: AsyncSession, attempt: Attempt, *, lock: bool) -> None:
        """
        Raises:
            TooManyFailures, TooManyRegistrations: as the attempt says.
        """
        times = await repository.read_failures(db, list(attempt.limits), lock=lock)
        refusal = self._judge(attempt, times, (await database_now(db)).timestamp())
        if refusal is not None:
            raise refusal

    async def count(self, db: AsyncSession, attempt: Attempt) -> AppError | None:
        """Count it, or return the refusal, which the caller raises after the commit."""
        rows = [await repository.lock_failures(db, key) for key in attempt.limits]
        now = (await database_now(db)).timestamp()
        refusal = self._judge(attempt, {row.key: row.failed_at for row in rows}, now)
        if refusal is None:
            for row in rows:
                row.failed_at = [*row.failed_at, now][-attempt.limits[row.key] :]
                row.last_at = datetime.fromtimestamp(now, UTC)
        return refusal

    def _judge(
        self, attempt: Attempt, times: Mapping[str, list[float]], now: float
    ) -> AppError | None:
        longest = 0.0
        for key, limit in attempt.limits.items():
            # Times in the future are from a clock that was set back since: they don't count.
            made_at = [time for time in times.get(key, []) if time <= now]
            seconds = made_at[-limit] + self.seconds - now if len(made_at) >= limit else 0.0
            if seconds > 0:
                self._remember(key, min(seconds, self.seconds))
            longest = max(longest, seconds)
        return attempt.refusal(math.ceil(longest)) if longest > 0 else None

    def _remember(self, key: str, seconds: float) -> None:
        self._full_until[key] = self._monotonic() + seconds
        self._full_until.move_to_end(key)
        if len(self._full_until) > _MAX_REMEMBERED:
            self._full_until.popitem(last=False)
