"""The relay's SQL."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shared.sql.database import Sessions, transaction
from shared.sql.outbox.table import UNSENT, OutboxRow, OutboxStream

_NEWEST_ROWS = 200
"""Those of one batch were sent at the same moment."""


async def oldest_unsent(sessions: Sessions, limit: int) -> Sequence[OutboxRow]:
    """The first unsent rows by their places, in a transaction that is over when they are here.

    Always from the beginning: on PostgreSQL a lower place may be committed after a higher one.
    """
    async with transaction(sessions, read_only=True) as session:
        first = select(OutboxRow).where(UNSENT).order_by(OutboxRow.position).limit(limit)
        return (await session.scalars(first)).all()


async def find(sessions: Sessions, message_id: str) -> OutboxRow | None:
    async with transaction(sessions, read_only=True) as session:
        return await session.scalar(select(OutboxRow).where(OutboxRow.id == message_id))


async def is_unsent(session: AsyncSession, message_id: str) -> bool:
    """Whether there is such a row and the bus was not seen to store it; poison was not either."""
    unsent = (OutboxRow.id == message_id) & OutboxRow.sent_at.is_(None)
    return await session.scalar(select(OutboxRow.position).where(unsent)) is not None


async def mark(sessions: Sessions, *, sent: Mapping[int, int], poisoned: Mapping[int, str]) -> None:
    """Write down what became of rows, by their places; sent with its sequence, poison with its
    error.
    """
    if not sent and not poisoned:
        return
    now = datetime.now(UTC)
    async with transaction(sessions) as session:
        if sent:
            sequence = case(dict(sent), value=OutboxRow.position)
            of_sent = update(OutboxRow).where(OutboxRow.position.in_(sent))
            await session.execute(of_sent.values(sent_at=now, sequence=sequence))
        for position, error in poisoned.items():
            of_one = update(OutboxRow).where(OutboxRow.position == position)
            await session.execute(of_one.values(poisoned_at=now, error=error))


async def unsent(sessions: Sessions) -> tuple[int, datetime | None]:
    """How many rows are unsent, and since when the oldest."""
    async with transaction(sessions, read_only=True) as session:
        measured = select(func.count(), func.min(OutboxRow.created_at)).where(UNSENT)
        depth, oldest = (await session.execute(measured)).one()
        return depth, oldest


async def prune(sessions: Sessions, older_than: datetime, limit: int) -> int:
    """Delete the longest sent rows, at most so many; return how many."""
    async with transaction(sessions) as session:
        longest_sent = (
            select(OutboxRow.position)
            .where(OutboxRow.sent_at < older_than)
            .order_by(OutboxRow.sent_at)
            .limit(limit)
        )
        gone = delete(OutboxRow).where(OutboxRow.position.in_(longest_sent))
        return len((await session.execute(gone.returning(OutboxRow.position))).all())


async def noted(sessions: Sessions, stream: str) -> OutboxStream | None:
    """What was last known of the stream."""
    async with transaction(sessions, read_only=True) as session:
        return await session.get(OutboxStream, stream)


async def note(session: AsyncSession, stream: str, *, epoch: str, floor: int) -> None:
    """Write down what is known of the stream now."""
    await session.merge(OutboxStream(name=stream, epoch=epoch, floor=floor))


async def newest_sequence(sessions: Sessions) -> int:
    """Where the stream has to reach at least: it took what was sent last."""
    async with transaction(sessions, read_only=True) as session:
        sent = select(OutboxRow.sequence).where(OutboxRow.sent_at.is_not(None))
        newest = sent.order_by(OutboxRow.sent_at.desc()).limit(_NEWEST_ROWS)
        return max((sequence or 0 for sequence in await session.scalars(newest)), default=0)


async def unsend(session: AsyncSession, *, above: int) -> int:
    """Have what was sent to places above go out again, and the rest never; return how many."""
    done = update(OutboxRow).where(OutboxRow.sequence > 0, OutboxRow.sequence <= above)
    await session.execute(done.values(sequence=0))
    lost = update(OutboxRow).where(OutboxRow.sequence > above)
    unsent = lost.values(sent_at=None, sequence=None).returning(OutboxRow.position)
    return len((await session.execute(unsent)).all())


async def forget_sequences(session: AsyncSession, *, above: int) -> None:
    """Of what was sent and is beyond the end of the stream: its places are others' now."""
    beyond = update(OutboxRow).where(OutboxRow.sequence > above)
    await session.execute(beyond.values(sequence=0))
