"""Retelling: the revocations are published again when the bus has lost them.

In a new epoch of the control stream no gateway lets anybody in before this service has said that
the stream is complete. Each process of the service does that by itself. Two of them may publish
the same revocation twice, which is harmless, and none waits for the lease of a dead one.
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
from hubbub_client.jetstream.api import StreamState
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.table import OutboxStream
from hubbub_client.sql.database import DatabaseUnavailable, Sessions, transaction
from shared.tokens.claims import SessionId
from shared.tokens.issuers import CLOCK_SKEW_SECONDS
from shared.tokens.revocations import (
    REVOCATIONS_COMPLETE_SUBJECT,
    SESSION_REVOKED_SUBJECT,
    CompletePosition,
    RevocationsComplete,
    SessionRevoked,
)

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often the stream is checked."""
BATCH_ROWS = 200
"""Revocations read, and published, at a time."""
_STREAM = "CTL"


class Retelling:
    """Keeps the control stream complete, on behalf of one process of the service."""

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
        """By how much our clock is ahead of the bus's at least, when the bus was last asked."""
        self.complete_at: CompletePosition | None = None
        """Where the stream was seen or made complete; None before the first successful look."""
        self._was_complete = asyncio.Event()
        self._sessions = sessions
        self._bus = bus
        self._publisher = publisher
        self._keep_seconds = max_token_seconds + CLOCK_SKEW_SECONDS
        self._batch_rows = batch_rows
        self._now = now
        self._monotonic = monotonic
        self._mark = _Mark("", 0, since=-math.inf)

    async def run(self) -> None:
        """Keep the stream complete until cancelled."""
        while True:
            await self._bus.until_connected()
            try:
                await self.look()
            except* (BusUnavailable, DatabaseUnavailable) as away:
                log.info("retelling_waits", reason=str(away.exceptions[0]))
            await asyncio.sleep(LOOK_SECONDS)

    async def until_complete(self) -> None:
        """Wait for the first look that succeeds."""
        await self._was_complete.wait()

    async def look(self) -> bool:
        """Publish all revocations in force if the stream may lack some; return whether it did.

        Raises:
            BusUnavailable, DatabaseUnavailable: the stream may still be incomplete.
        """
        # Before the stream is asked: it only grows.
        newest = await outbox_rows.newest_sequences(self._sessions)
        noted = await outbox_rows.noted(self._sessions, _STREAM)
        state = await StreamReader(self._bus, _STREAM, now=self._now).state()
        self.clock_ahead_seconds = state.clock_ahead_seconds
        if noted is None or not _is_complete(state, noted, newest):
            await self._publish_all(state)
            return True
        self._note_complete(noted.epoch, noted.floor)
        if self._must_renew(state, noted):
            await self._publish_mark(state, f"{noted.epoch}:{noted.floor}", oldest=noted.floor)
        return False

    def _note_complete(self, epoch: str, sequence: int) -> None:
        self.complete_at = CompletePosition(epoch, sequence)
        self._was_complete.set()

    def _must_renew(self, state: StreamState, noted: OutboxStream) -> bool:
        """Whether a third of the mark's life is over: it must outlive an absence of this service.

        Its age counts from when we first saw it; of a mark that is older than we are it is unknown.
        """
        mark, now = self._mark, self._monotonic()
        if mark.epoch == noted.epoch and noted.floor > mark.sequence:
            self._mark = mark = _Mark(noted.epoch, noted.floor, since=now)  # another process's
        if not state.max_age_seconds:
            return False
        is_known = (mark.epoch, mark.sequence) == (noted.epoch, noted.floor)
        return not is_known or now - mark.since > state.max_age_seconds / 3

    async def _publish_all(self, state: StreamState) -> None:
        # Part of the message ids. All processes use the same, also for a retry, so that each
        # revocation is stored once. An emptied stream still knows the old ids, so it gets new ones.
        life = f"{state.epoch}:{state.first}"
        # If our clock is ahead, a revocation must not be taken for an expired one.
        is_now = self._now() - max(state.clock_ahead_seconds, 0.0)
        since = datetime.fromtimestamp(is_now - self._keep_seconds, UTC)
        published, last, oldest = 0, None, None
        while True:  # the newest first: its token lives longest
            async with transaction(self._sessions, read_only=True) as db:
                batch = await repository.revoked_since(
                    db, since, after=last, limit=self._batch_rows
                )
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._publish(session, life)) for session in batch]
            sequences = [task.result() for task in tasks]
            if oldest is not None:
                sequences.append(oldest)
            oldest = min(sequences, default=None)
            published += len(batch)
            if len(batch) < self._batch_rows:
                break
            last = batch[-1]
        await self._publish_mark(state, secrets.token_hex(8), oldest=oldest)
        log.info("revocations_complete", told=published, epoch=state.epoch)

    async def _publish(self, session: SessionRow, life: str) -> int:
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

    async def _publish_mark(
        self, before: StreamState, message_key: str, *, oldest: int | None
    ) -> None:
        """Say in the stream that it is complete, and note the sequence, to notice a loss.

        Args:
            oldest: The lowest sequence of the messages that make it so; None if there are none.

        Raises:
            BusUnavailable: the stream was lost or emptied meanwhile; nothing is noted.
        """
        message = RevocationsComplete(epoch=before.epoch)
        stored = await self._publisher.publish(
            REVOCATIONS_COMPLETE_SUBJECT,
            message.model_dump_json().encode(),
            message_id=f"revocations_complete:{message_key}",
        )
        after = await StreamReader(self._bus, _STREAM).state()
        oldest = stored.offset if oldest is None else oldest
        if after.epoch != before.epoch or after.first > oldest or after.last < stored.offset:
            raise BusUnavailable("the control stream changed while it was marked as complete")
        async with transaction(self._sessions) as db:
            await _note(db, before.epoch, stored.offset)
        self._mark = _Mark(before.epoch, stored.offset, since=self._monotonic())
        self._note_complete(before.epoch, stored.offset)


class _Mark(NamedTuple):
    """The message in the stream that says that it is complete."""

    epoch: str
    sequence: int
    since: float
    """When we published or first saw it, by the monotonic clock."""


def _is_complete(
    state: StreamState, noted: OutboxStream, newest: outbox_rows.NewestSequences
) -> bool:
    if noted.epoch != state.epoch:
        return False  # made anew
    if state.first > noted.floor:
        return False  # emptied, or the mark was dropped for its age
    if max(noted.floor, newest.highest) > state.last:
        return False  # rolled back, as by a backup
    # A sequence that was given twice: rolled back, and filled again since.
    return all(sequence <= noted.floor for sequence in newest.repeated)


async def _note(db: AsyncSession, epoch: str, sequence: int) -> None:
    await outbox_rows.note(db, _STREAM, epoch=epoch, floor=sequence, begins_anew=True)
