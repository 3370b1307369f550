"""The relay's SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from shared.sql.database import Sessions, transaction
from shared.sql.outbox.table import UNSENT, OutboxRow, OutboxStream

NEWEST_PLACES = 5000
"""Looked at for those that were given twice: more than are sent between two looks."""
_LIFE = select(func.coalesce(func.max(OutboxStream.life), 0)).scalar_subquery()
"""Of the one stream that an outbox is for."""


class Due(NamedTuple):
    """What is to be published, and into which life of the stream as far as we know."""

    rows: Sequence[OutboxRow]
    life: int


async def oldest_unsent(sessions: Sessions, limit: int) -> Due:
    """The first unsent rows by their places, in a transaction that is over when they are here.

    Always from the beginning: on PostgreSQL a lower place may be committed after a higher one.
    """
    async with transaction(sessions, read_only=True) as session:
        first = select(OutboxRow, _LIFE).where(UNSENT).order_by(OutboxRow.position).limit(limit)
        found = (await session.execute(first)).all()
        return Due([row for row, _ in found], found[0][1] if found else 0)


async def find(sessions: Sessions, message_id: str) -> Due:
    """The row of the message, or none."""
    async with transaction(sessions, read_only=True) as session:
        of_message = select(OutboxRow, _LIFE).where(OutboxRow.id == message_id)
        found = (await session.execute(of_message)).all()
        return Due([row for row, _ in found], found[0][1] if found else 0)


async def is_unsent(session: AsyncSession, message_id: str) -> bool:
    """Whether there is such a row and the bus was not seen to store it; poison was not either."""
    unsent = (OutboxRow.id == message_id) & OutboxRow.sent_at.is_(None)
    return await session.scalar(select(OutboxRow.position).where(unsent)) is not None


async def mark(
    sessions: Sessions, *, life: int, sent: Mapping[int, int], poisoned: Mapping[int, str]
) -> None:
    """Write down what became of rows, by their places; sent with its sequence, poison with its
    error.

    Args:
        life: What was known before they were sent. If it was over by then, they go out again.
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


async def note(
    session: AsyncSession, stream: str, *, epoch: str, floor: int, begins_anew: bool = False
) -> None:
    """Write down what is known of the stream now.

    Args:
        begins_anew: What was sent before is not to be looked for there.
    """
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    known = {"epoch": epoch, "floor": floor}
    upsert = insert(OutboxStream).values(name=stream, life=int(begins_anew), **known)
    await session.execute(
        upsert.on_conflict_do_update(
            index_elements=[OutboxStream.name],
            set_={**known, "life": OutboxStream.life + int(begins_anew)},
        )
    )


async def note_floor(sessions: Sessions, of: OutboxStream, floor: int) -> None:
    """Write down that all up to there is handled, unless the stream began anew meanwhile."""
    async with transaction(sessions) as session:
        same_life = (OutboxStream.name == of.name) & (OutboxStream.life == of.life)
        lower = update(OutboxStream).where(same_life, OutboxStream.floor < floor)
        await session.execute(lower.values(floor=floor))


async def note_loss(
    sessions: Sessions, of: OutboxStream, *, epoch: str, floor: int, lost_above: int
) -> bool:
    """Write down once that what was sent to places above is lost; return whether we did.

    Not while an older loss is being made good.
    """
    async with transaction(sessions) as session:
        same_life = (OutboxStream.name == of.name) & (OutboxStream.life == of.life)
        stream = update(OutboxStream).where(same_life, OutboxStream.lost_above.is_(None))
        lost = stream.values(
            epoch=epoch, floor=floor, life=OutboxStream.life + 1, lost_above=lost_above
        )
        return (await session.execute(lost.returning(OutboxStream.name))).first() is not None


@dataclass(frozen=True, slots=True)
class Places:
    """Those that the stream gave to what was sent last."""

    reached: int
    """Where the stream has to reach at least."""
    repeated: Sequence[int]
    """Given to more than one, lowest first: the stream lost the one that had it before."""


async def newest_places(sessions: Sessions) -> Places:
    """What the stream was seen to take in this life."""
    async with transaction(sessions, read_only=True) as session:
        placed = select(OutboxRow.sequence).where(OutboxRow.life == _LIFE, OutboxRow.sequence > 0)
        newest = placed.order_by(OutboxRow.sequence.desc()).limit(NEWEST_PLACES).subquery()
        place = newest.c.sequence
        reached = await session.scalar(select(func.max(place)))
        twice = select(place).group_by(place).having(func.count() > 1).order_by(place)
        return Places(reached or 0, (await session.scalars(twice)).all())


async def unsend_lost(sessions: Sessions, name: str, limit: int) -> int:
    """Have what the stream was noted to have lost go out again, at most so many of it.

    Return how many; fewer than the limit were the last.
    """
    stream = await noted(sessions, name)
    if stream is None or stream.lost_above is None:
        return 0
    async with transaction(sessions) as session:
        # In the order in which it was sent: what is of one aggregate leaves in order again.
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
