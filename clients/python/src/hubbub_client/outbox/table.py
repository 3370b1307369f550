"""The outbox's tables.

They may be made by another tool than SQLAlchemy, such as the migrations of Django, and written to
without it: a row of `outbox` with ``id``, ``subject``, ``aggregate``, ``payload`` and
``created_at`` is a message, whose ``sent_at``, ``sequence``, ``poisoned_at`` and ``error`` are NULL
and whose ``life`` is 0. `hubbub_client.outbox.append.Message` makes the first four. The relay needs
the names and types of the columns, the unique ``id``, and positions that rise; the indexes make it
quick. It makes the row of `outbox_lease` that it needs.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    and_,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hubbub_client.sql.database import Moment

RELAY = "relay"
"""The name of the one lease."""

MAX_LEASE_SECONDS = 300
"""Nobody takes it for longer: what expires later was written by a clock that was wrong."""

MAX_NAME_LENGTH = 255


class OutboxTables(DeclarativeBase):
    """The tables as the library uses them. `outbox_tables` adds them to an application's.

    A session with several databases is told by it where they are:
    ``binds={Base: engine, OutboxTables: engine}``.
    """


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
    """The relay that may publish now: one row."""

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


def outbox_tables(metadata: MetaData) -> None:
    """Add the outbox's tables to an application's own, so that they are made with them.

    Alembic's ``--autogenerate`` sees them, now and when a later version changes them.

    Raises:
        ValueError: the application has another table of such a name; or its tables are in a schema,
            where neither `append` nor the relay would look for these.
    """
    if metadata.schema is not None:
        raise ValueError(
            "the outbox is in no schema: give it a MetaData of its own, and both to Alembic"
        )
    for table in OutboxTables.metadata.sorted_tables:
        there = metadata.tables.get(table.key)
        if there is not None:
            if not set(table.columns.keys()) <= set(there.columns.keys()):
                raise ValueError(f"the application has another table {table.key}")
            continue
        added = table.to_metadata(metadata)
        for column in added.columns:
            if isinstance(column.type, Moment):  # a revision would have to import it
                column.type = DateTime(timezone=True)
