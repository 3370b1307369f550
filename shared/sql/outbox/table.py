"""The outbox's tables, and how a use case adds to them."""

import re
from datetime import UTC, datetime

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text, and_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.sql.database import Moment

APPENDED = "outbox_appended"
"""In ``session.info``: this transaction has added rows."""

RELAY = "relay"
"""The name of the one lease."""

MAX_NAME_LENGTH = 255
_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


class OutboxTables(DeclarativeBase):
    """The tables that every service with an outbox has, beside its own."""


class OutboxRow(OutboxTables):
    """A message for the bus: unsent, sent, or poisoned (the bus will never take it)."""

    __tablename__ = "outbox"

    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    """Rises within an aggregate. Between aggregates it is *not* the order of commits, so nothing
    may rely on the last position seen: a lower one can still become visible."""
    id: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH), unique=True)
    """The ``Nats-Msg-Id``, the same however often the row goes out."""
    subject: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH))
    aggregate: Mapped[str] = mapped_column(String(MAX_NAME_LENGTH))
    """What the message is about; an aggregate's messages are published in order."""
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Moment, default=lambda: datetime.now(UTC))
    sent_at: Mapped[datetime | None] = mapped_column(Moment)
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    """In the stream, as it was when the row was sent."""
    life: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Of the stream when the row was sent: each life gives the sequences anew."""
    poisoned_at: Mapped[datetime | None] = mapped_column(Moment)
    error: Mapped[str | None] = mapped_column(Text)


class OutboxStream(OutboxTables):
    """What was last known of a stream, to notice when the bus has lost some of it."""

    __tablename__ = "outbox_streams"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[str] = mapped_column(String(64))
    floor: Mapped[int] = mapped_column(BigInteger)
    """EVENTS: the sequence up to which the consumer has handled all. CTL: the sequence of the
    message that marks the revocations as complete."""
    life: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """How often the stream was made anew or rolled back, which gives its sequences again."""
    lost_above: Mapped[int | None] = mapped_column(BigInteger)
    """Rows of the previous life with a higher sequence have to go out again; None: no more."""


class OutboxLease(OutboxTables):
    """The relay that may publish now. The migration makes the one row."""

    __tablename__ = "outbox_lease"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime] = mapped_column(Moment)


UNSENT = and_(OutboxRow.sent_at.is_(None), OutboxRow.poisoned_at.is_(None))
_SENT = OutboxRow.sent_at.is_not(None)
_STORED = OutboxRow.sequence.is_not(None)

Index("ix_outbox_unsent", OutboxRow.position, postgresql_where=UNSENT, sqlite_where=UNSENT)
Index("ix_outbox_sent", OutboxRow.sent_at, postgresql_where=_SENT, sqlite_where=_SENT)
Index(
    "ix_outbox_places",
    OutboxRow.life,
    OutboxRow.sequence,
    postgresql_where=_STORED,
    sqlite_where=_STORED,
)


def append(
    session: AsyncSession, *, subject: str, aggregate: str, message_id: str, payload: bytes
) -> None:
    """Add a message to the transaction; the relay publishes it after the commit.

    Lock the aggregate's row *first* (an UPDATE of it does): positions are given when rows are
    written, so the lock makes them follow the order of commits.

    Raises:
        ValueError: no bus could take it under this subject or id.
    """
    if not _SUBJECT.fullmatch(subject) or not _PRINTABLE.fullmatch(message_id):
        raise ValueError(f"not a subject and a message id: {subject!r}, {message_id!r}")
    if max(map(len, (subject, aggregate, message_id))) > MAX_NAME_LENGTH:
        raise ValueError(f"a name of the message is over {MAX_NAME_LENGTH} characters")
    session.info[APPENDED] = True
    session.add(OutboxRow(id=message_id, subject=subject, aggregate=aggregate, payload=payload))
