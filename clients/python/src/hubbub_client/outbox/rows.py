"""The outbox's SQL."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from hubbub_client.outbox.table import UNSENT, OutboxRow, OutboxStream, OutboxTables
from hubbub_client.sql.database import Sessions, insert_into, transaction

NEWEST_SEQUENCES = 5000
"""Searched for those that were given twice: more than are sent between two checks."""
_LIFE = select(func.coalesce(func.max(OutboxStream.life), 0)).scalar_subquery()
"""Of the one stream that an outbox is for."""


async def check_tables(sessions: Sessions) -> None:
    """See that all tables and columns are there.

    Raises:
        DBAPIError: they are not.
        DatabaseUnavailable: nobody knows.
    """
    async with transaction(sessions, read_only=True) as session:
        for table in OutboxTables.metadata.sorted_tables:
            await session.execute(select(table).limit(0))


class Due(NamedTuple):
    """What is to be published, and the life of the stream as we know it."""

    rows: Sequence[OutboxRow]
    life: int


async def oldest_unsent(
    sessions: Sessions, limit: int, *, held_up: Collection[str] = (), due: Collection[str] = ()
) -> Due:
    """The first unsent rows by position; their transaction has ended when this returns.

    Always from the beginning: on PostgreSQL a lower position may be committed after a higher one.

    Args:
        limit: Of the rows that are not held up, and again of those that are due.
        held_up: Aggregates that are left out,
        due: but for these of them.
    """
    first = select(OutboxRow, _LIFE).where(UNSENT).order_by(OutboxRow.position).limit(limit)
    others = first.where(OutboxRow.aggregate.not_in(held_up)) if held_up else first
    async with transaction(sessions, read_only=True) as session:
        found = list((await session.execute(others)).all())
        if due:
            found += (await session.execute(first.where(OutboxRow.aggregate.in_(due)))).all()
        return Due([row for row, _ in found], found[0][1] if found else 0)


async def find(sessions: Sessions, message_id: str) -> Due:
    """The row of the message, or none."""
    async with transaction(sessions, read_only=True) as session:
        of_message = select(OutboxRow, _LIFE).where(OutboxRow.id == message_id)
        found = (await session.execute(of_message)).all()
        return Due([row for row, _ in found], found[0][1] if found else 0)


async def is_unsent(session: AsyncSession, message_id: str) -> bool:
    """Whether there is such a row that is not marked as sent; a poisoned one isn't either."""
    unsent = (OutboxRow.id == message_id) & OutboxRow.sent_at.is_(None)
    return await session.scalar(select(OutboxRow.position).where(unsent)) is not None


async def mark(
    sessions: Sessions, *, life: int, sent: Mapping[int, int], poisoned: Mapping[int, str]
) -> None:
    """Mark rows by position: sent with the sequence in the stream, poisoned with the error.

    Args:
        life: As it was known before they were sent. If it had ended by then, they go out again.
    """
    if not sent and not poisoned:
        return
    now = datetime.now(UTC)
    async with transaction(sessions) as session:
        if sent:
            sequence = case(dict(sent), value=OutboxRow.position)
            of_sent = update(OutboxRow).where(OutboxRow.position.in_(sent))
            await session.execute(of_sent.values(sent_at=now, sequence=sequence, life=life))
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
    """Delete the rows that were sent longest ago, up to the limit; return how many."""
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
    """What is noted of the stream."""
    async with transaction(sessions, read_only=True) as session:
        return await session.get(OutboxStream, stream)


async def note(
    session: AsyncSession, stream: str, *, epoch: str, floor: int, begins_anew: bool = False
) -> None:
    """Note what is known of the stream now.

    Args:
        begins_anew: Begin a new life: what was sent before is not expected in the stream.
    """
    known = {"epoch": epoch, "floor": floor}
    upsert = insert_into(session, OutboxStream).values(name=stream, life=int(begins_anew), **known)
    await session.execute(
        upsert.on_conflict_do_update(
            index_elements=[OutboxStream.name],
            set_={**known, "life": OutboxStream.life + int(begins_anew)},
        )
    )


async def note_floor(sessions: Sessions, of: OutboxStream, floor: int) -> None:
    """Note that all up to there is handled, unless the stream began a new life meanwhile."""
    async with transaction(sessions) as session:
        same_life = (OutboxStream.name == of.name) & (OutboxStream.life == of.life)
        lower = update(OutboxStream).where(same_life, OutboxStream.floor < floor)
        await session.execute(lower.values(floor=floor))


async def note_loss(
    sessions: Sessions, of: OutboxStream, *, epoch: str, floor: int, lost_above: int
) -> bool:
    """Note once that what was sent above that sequence is lost; return whether we did.

    Not while an older loss is still being repaired.
    """
    async with transaction(sessions) as session:
        same_life = (OutboxStream.name == of.name) & (OutboxStream.life == of.life)
        stream = update(OutboxStream).where(same_life, OutboxStream.lost_above.is_(None))
        lost = stream.values(
            epoch=epoch, floor=floor, life=OutboxStream.life + 1, lost_above=lost_above
        )
        return (await session.execute(lost.returning(OutboxStream.name))).first() is not None


@dataclass(frozen=True, slots=True)
class NewestSequences:
    """The sequences that the stream gave to what was sent last."""

    highest: int
    """The stream has to reach at least this."""
    repeated: Sequence[int]
    """Given to more than one row, ascending: the stream lost the first row's message."""


async def newest_sequences(sessions: Sessions) -> NewestSequences:
    """What the stream gave in this life."""
    async with transaction(sessions, read_only=True) as session:
        sent = select(OutboxRow.sequence).where(OutboxRow.life == _LIFE, OutboxRow.sequence > 0)
        newest = sent.order_by(OutboxRow.sequence.desc()).limit(NEWEST_SEQUENCES).subquery()
        sequence = newest.c.sequence
        highest = await session.scalar(select(func.max(sequence)))
        repeated = select(sequence).group_by(sequence).having(func.count() > 1).order_by(sequence)
        return NewestSequences(highest or 0, (await session.scalars(repeated)).all())


async def unsend_lost(sessions: Sessions, name: str, limit: int) -> int:
    """Mark rows that the stream has lost as unsent, up to the limit; return how many.

    Fewer than the limit were the last.
    """
    stream = await noted(sessions, name)
    if stream is None or stream.lost_above is None:
        return 0
    async with transaction(sessions) as session:
        # In the order in which they were sent, so that an aggregate's leave in order again.
        lost = (
            select(OutboxRow.position)
            .where(OutboxRow.life == stream.life - 1, OutboxRow.sequence > stream.lost_above)
            .order_by(OutboxRow.sequence)
            .limit(limit)
        )
        again = update(OutboxRow).where(OutboxRow.position.in_(lost))
        unsent = again.values(sent_at=None, sequence=None).returning(OutboxRow.position)
        count = len((await session.execute(unsent)).all())
        if count < limit:
            same_life = (OutboxStream.name == name) & (OutboxStream.life == stream.life)
            await session.execute(update(OutboxStream).where(same_life).values(lost_above=None))
        return count
