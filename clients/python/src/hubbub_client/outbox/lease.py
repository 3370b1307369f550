"""The relay's lease: one relay at a time, among all processes that share the database."""

import secrets
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from hubbub_client.outbox.table import MAX_LEASE_SECONDS, RELAY, OutboxLease
from hubbub_client.sql.database import Sessions, database_now, insert_into, transaction

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Lease:
    """A claim that expires unless it is renewed.

    It expires by the database's clock, the same for all. The holder counts by its own monotonic
    clock, from *before* it asked. So it stops a little before anybody else may start, even if its
    system clock is wrong.

    A clock that was ahead when it was written keeps nobody out for longer than the longest lease.
    """

    def __init__(self, sessions: Sessions, *, seconds: float) -> None:
        self._sessions = sessions
        self._seconds = seconds
        self._owner = secrets.token_hex(8)
        self._held_until = 0.0
        self._is_there = False
        self.others_until: datetime | None = None
        """When it expires, if another had it when we asked."""

    @property
    def remaining_seconds(self) -> float:
        """How long it is certainly ours; zero or less: it may not be ours."""
        return self._held_until - time.monotonic()

    @property
    def renewal_seconds(self) -> float:
        """When to renew it: after a third, so that one failure doesn't lose it."""
        return self.remaining_seconds - self._seconds * 2 / 3

    async def hold(self) -> bool:
        """Take it if it is free or expired, renew it if it is ours; return whether we have it."""
        if self.renewal_seconds > 0:
            return True
        asked_at = time.monotonic()
        async with transaction(self._sessions) as session:
            if not self._is_there:  # who made the table need not have made its row
                free = {"name": RELAY, "owner": "", "expires_at": _LONG_AGO}
                make = insert_into(session, OutboxLease).values(free)
                await session.execute(make.on_conflict_do_nothing())
            lease = await session.get(OutboxLease, RELAY, with_for_update=True)
            # By a clock read before it is locked, one written meanwhile could seem to be too long.
            now = await database_now(session)
            taken = lease is not None and self._is_available(lease, now)
            if lease is not None and taken:
                lease.owner = self._owner
                lease.expires_at = now + timedelta(seconds=self._seconds)
            self.others_until = None if lease is None or taken else lease.expires_at
        self._is_there = lease is not None
        self._held_until = asked_at + self._seconds if taken else 0.0
        return taken

    def _is_available(self, lease: OutboxLease, now: datetime) -> bool:
        longest = now + timedelta(seconds=MAX_LEASE_SECONDS)
        return lease.owner == self._owner or not now < lease.expires_at <= longest

    async def release(self) -> None:
        """Give it up, so that the next relay need not wait for its expiry."""
        self._held_until = 0.0
        async with transaction(self._sessions) as session:
            ours = update(OutboxLease).where(OutboxLease.owner == self._owner)
            await session.execute(ours.values(expires_at=_LONG_AGO))
