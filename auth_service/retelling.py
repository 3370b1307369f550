"""The revocations are told again when the bus has lost them.

Nobody lets anybody in on a new life of the control stream before we have said that it is whole.
Each process of the service sees to it by itself: what two of them tell is told twice, which does
no harm, and nobody waits for a lease that a dead one holds.
"""

import asyncio
import math
import secrets
import time
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service import repository
from auth_service.tables import SessionRow, user_id_of
from shared.contracts.ids import SessionId
from shared.jetstream.api import StreamState
from shared.jetstream.clock import Clock, our_clock
from shared.jetstream.publisher import Publisher
from shared.jetstream.stream_reader import StreamReader
from shared.nats.client import Bus
from shared.nats.errors import BusUnavailable
from shared.sql.database import DatabaseUnavailable, Sessions, transaction
from shared.sql.outbox import rows as outbox_rows
from shared.sql.outbox.table import OutboxStream
from shared.tokens.access_tokens import CLOCK_SKEW_SECONDS
from shared.tokens.revocations import (
    REVOCATIONS_COMPLETE_SUBJECT,
    SESSION_REVOKED_SUBJECT,
    RevocationsComplete,
    SessionRevoked,
    Told,
)

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often the bus is asked whether its stream is still the same."""
BATCH_ROWS = 200
"""Revocations read, and published, at a time."""
_STREAM = "CTL"


class Retelling:
    """What one process of the service does for the control stream to be whole."""

    def __init__(
        self,
        sessions: Sessions,
        bus: Bus,
        publisher: Publisher,
        *,
        max_token_seconds: float,
        batch_rows: int = BATCH_ROWS,
        now: Clock = our_clock,
        monotonic: Clock = time.monotonic,
    ) -> None:
        self.clock_ahead_seconds = 0.0
        """Of ours before the bus's, at least, when it was last asked."""
        self.told: Told | None = None
        """Where we saw, or made, the stream whole; none before the first look that succeeded."""
        self._told_once = asyncio.Event()
        self._sessions = sessions
        self._bus = bus
        self._publisher = publisher
        self._keep_seconds = max_token_seconds + CLOCK_SKEW_SECONDS
        self._batch_rows = batch_rows
        self._now = now
        self._monotonic = monotonic
        self._word = _Word("", 0, since=-math.inf)

    async def run(self) -> None:
        """See to it that the stream is whole, until cancelled."""
        while True:
            await self._bus.until_connected()
            try:
                await self.look()
            except* (BusUnavailable, DatabaseUnavailable) as away:
                log.info("retelling_waits", reason=str(away.exceptions[0]))
            await asyncio.sleep(LOOK_SECONDS)

    async def until_told(self) -> None:
        """Wait for the first look that succeeds."""
        await self._told_once.wait()

    async def look(self) -> bool:
        """Tell all that is in force if the stream may lack it; return whether it was necessary.

        Raises:
            BusUnavailable, DatabaseUnavailable: it is not known, or not told.
        """
        places = await outbox_rows.newest_places(self._sessions)  # first: the stream only grows
        noted = await outbox_rows.noted(self._sessions, _STREAM)
        state = await StreamReader(self._bus, _STREAM, now=self._now).state()
        self.clock_ahead_seconds = state.clock_ahead_seconds
        if noted is None or not _is_whole(state, noted, places):
            await self._tell_all(state)
            return True
        self._has_told(noted.epoch, noted.floor)
        if self._is_to_be_renewed(state, noted):
            await self._say_complete(state, f"{noted.epoch}:{noted.floor}", whole_from=noted.floor)
        return False

    def _has_told(self, epoch: str, sequence: int) -> None:
        self.told = Told(epoch, sequence)
        self._told_once.set()

    def _is_to_be_renewed(self, state: StreamState, noted: OutboxStream) -> bool:
        """At a third of the word's life, so that it outlives a long absence of ours.

        We count from when we first saw it; of one that was there before us nobody knows the age.
        """
        word, now = self._word, self._monotonic()
        if word.epoch == noted.epoch and noted.floor > word.sequence:
            self._word = word = _Word(noted.epoch, noted.floor, since=now)  # another process's
        if not state.max_age_seconds:
            return False
        is_known = (word.epoch, word.sequence) == (noted.epoch, noted.floor)
        return not is_known or now - word.since > state.max_age_seconds / 3

    async def _tell_all(self, state: StreamState) -> None:
        # The same for all who tell it now, and when it is tried again, so that it is stored once;
        # another after it was emptied, as the stream still remembers the ids of before.
        life = f"{state.epoch}:{state.first}"
        # A clock that is fast must not take what is in force for over.
        is_now = self._now() - max(state.clock_ahead_seconds, 0.0)
        since = datetime.fromtimestamp(is_now - self._keep_seconds, UTC)
        told, last, whole_from = 0, None, None
        while True:  # the newest first: its token lives longest
            async with transaction(self._sessions, read_only=True) as db:
                batch = await repository.revoked_since(
                    db, since, after=last, limit=self._batch_rows
                )
            async with asyncio.TaskGroup() as group:
                telling = [group.create_task(self._tell(session, life)) for session in batch]
            places = [task.result() for task in telling]
            if whole_from is not None:
                places.append(whole_from)
            whole_from = min(places, default=None)
            told += len(batch)
            if len(batch) < self._batch_rows:
                break
            last = batch[-1]
        await self._say_complete(state, secrets.token_hex(8), whole_from=whole_from)
        log.info("revocations_complete", told=told, epoch=state.epoch)

    async def _tell(self, session: SessionRow, life: str) -> int:
        assert session.revoked_at is not None
        message = SessionRevoked(
            session_id=SessionId(session.id),
            user_id=user_id_of(session.user_id),
            time=session.revoked_at,
        )
        stored = await self._publisher.publish(
            SESSION_REVOKED_SUBJECT,
            message.model_dump_json().encode(),
            message_id=f"session_revoked:{session.id}:{life}",
        )
        return stored.offset

    async def _say_complete(
        self, before: StreamState, message_key: str, *, whole_from: int | None
    ) -> None:
        """Say that the stream is whole, and note where, so that we see it when it no longer is.

        Args:
            whole_from: Where the oldest lies that the word stands on; None if it needs nothing.

        Raises:
            BusUnavailable: the stream was lost or emptied under it; it is not noted.
        """
        message = RevocationsComplete(epoch=before.epoch)
        stored = await self._publisher.publish(
            REVOCATIONS_COMPLETE_SUBJECT,
            message.model_dump_json().encode(),
            message_id=f"revocations_complete:{message_key}",
        )
        after = await StreamReader(self._bus, _STREAM).state()
        oldest = stored.offset if whole_from is None else whole_from
        if after.epoch != before.epoch or after.first > oldest or after.last < stored.offset:
            raise BusUnavailable("the control stream changed while it was said to be whole")
        async with transaction(self._sessions) as db:
            await _note(db, before.epoch, stored.offset)
        self._word = _Word(before.epoch, stored.offset, since=self._monotonic())
        self._has_told(before.epoch, stored.offset)


class _Word(NamedTuple):
    """That the stream is whole, as it lies in it."""

    epoch: str
    sequence: int
    since: float
    """When we said or first saw it, by the monotonic clock."""


def _is_whole(state: StreamState, noted: OutboxStream, places: outbox_rows.Places) -> bool:
    if noted.epoch != state.epoch:
        return False  # made anew
    if state.first > noted.floor:
        return False  # emptied, or our word was dropped for its age
    if max(noted.floor, places.reached) > state.last:
        return False  # rolled back, as by a backup
    return all(place <= noted.floor for place in places.repeated)  # else refilled after that


async def _note(db: AsyncSession, epoch: str, sequence: int) -> None:
    await outbox_rows.note(db, _STREAM, epoch=epoch, floor=sequence, begins_anew=True)
