"""The revocations are told again when the bus has lost them.

Nobody lets anybody in on a new life of the control stream before we have said that it is whole.
Each process of the service sees to it by itself: what two of them tell is told twice, which does
no harm, and nobody waits for a lease that a dead one holds.
"""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service import repository
from auth_service.tables import SessionRow, user_id_of
from shared.contracts.ids import SessionId
from shared.jetstream.api import StreamState
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
)

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How often the bus is asked whether its stream is still the same."""
BATCH_ROWS = 200
"""Revocations read, and published, at a time."""
_STREAM = "CTL"


async def retell_for_ever(
    sessions: Sessions, bus: Bus, publisher: Publisher, *, max_token_seconds: float
) -> None:
    """See to it that the stream is whole, until cancelled."""
    while True:
        await bus.until_connected()
        try:
            await retell_if_lost(sessions, bus, publisher, max_token_seconds=max_token_seconds)
        except* (BusUnavailable, DatabaseUnavailable) as away:
            log.info("retelling_waits", reason=str(away.exceptions[0]))
        await asyncio.sleep(LOOK_SECONDS)


async def retell_if_lost(
    sessions: Sessions,
    bus: Bus,
    publisher: Publisher,
    *,
    max_token_seconds: float,
    batch_rows: int = BATCH_ROWS,
) -> bool:
    """Tell all that is in force if the stream may lack it; return whether it was necessary.

    Raises:
        BusUnavailable, DatabaseUnavailable: it is not known, or not told.
    """
    keep_seconds = max_token_seconds + CLOCK_SKEW_SECONDS
    reached = await outbox_rows.newest_sequence(sessions)  # first: the stream only grows
    noted = await outbox_rows.noted(sessions, _STREAM)
    state = await StreamReader(bus, _STREAM).state()
    if _is_whole(state, noted, reached=reached, keep_seconds=keep_seconds):
        return False
    # Ids of this time only: the stream may remember others though it was emptied.
    round_id = secrets.token_hex(8)
    since = datetime.now(UTC) - timedelta(seconds=keep_seconds)
    told, last = 0, None
    while True:
        async with transaction(sessions, read_only=True) as db:
            batch = await repository.revoked_since(db, since, after=last, limit=batch_rows)
        async with asyncio.TaskGroup() as group:
            for session in batch:
                group.create_task(_tell(publisher, session, round_id))
        told += len(batch)
        if len(batch) < batch_rows:
            break
        last = batch[-1]
    complete = RevocationsComplete(epoch=state.epoch)
    stored = await publisher.publish(
        REVOCATIONS_COMPLETE_SUBJECT,
        complete.model_dump_json().encode(),
        message_id=f"revocations_complete:{round_id}",
    )
    async with transaction(sessions) as db:
        await _note(db, state.epoch, stored.offset)
    log.info("revocations_complete", told=told, epoch=state.epoch)
    return True


def _is_whole(
    state: StreamState, noted: OutboxStream | None, *, reached: int, keep_seconds: float
) -> bool:
    if noted is None or noted.epoch != state.epoch:
        return False  # made anew
    if max(noted.floor, reached) > state.last:
        return False  # rolled back, as by a backup
    # Emptied, unless it is only so old that it has dropped our word.
    return state.first <= noted.floor or state.age_seconds > keep_seconds


async def _tell(publisher: Publisher, session: SessionRow, round_id: str) -> None:
    assert session.revoked_at is not None
    message = SessionRevoked(
        session_id=SessionId(session.id),
        user_id=user_id_of(session.user_id),
        time=session.revoked_at,
    )
    await publisher.publish(
        SESSION_REVOKED_SUBJECT,
        message.model_dump_json().encode(),
        message_id=f"session_revoked:{session.id}:{round_id}",
    )


async def _note(db: AsyncSession, epoch: str, sequence: int) -> None:
    await outbox_rows.forget_sequences(db, above=sequence)
    await outbox_rows.note(db, _STREAM, epoch=epoch, floor=sequence)
