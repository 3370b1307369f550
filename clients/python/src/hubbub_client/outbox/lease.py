"""The relay's lease: one relay at a time, among all processes that share the database."""

import secrets
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select, update

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
            now = await database_now(session)
            expires_at = OutboxLease.expires_at
            is_over = or_(
                expires_at <= now, expires_at > now + timedelta(seconds=MAX_LEASE_SECONDS)
            )
            available = or_(OutboxLease.owner == self._owner, is_over)
            take = (
                update(OutboxLease)
                .where(OutboxLease.name == RELAY, available)
                .values(owner=self._owner, expires_at=now + timedelta(seconds=self._seconds))
                .returning(OutboxLease.owner)
            )
            taken = (await session.execute(take)).first() is not None
            of_others = select(expires_at).where(OutboxLease.name == RELAY)
            self.others_until = None if taken else await session.scalar(of_others)
        self._is_there = True
        self._held_until = asked_at + self._seconds if taken else 0.0
        return taken

    async def release(self) -> None:
        """Give it up, so that the next relay need not wait for its expiry."""
        self._held_until = 0.0
        async with transaction(self._sessions) as session:
            ours = update(OutboxLease).where(OutboxLease.owner == self._owner)
            await session.execute(ours.values(expires_at=_LONG_AGO))
