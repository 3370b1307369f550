"""Something that changes, and whose every change is told."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hubbub_client.outbox import outbox_tables


class Base(DeclarativeBase):
    """The service's own tables, and the outbox's."""


outbox_tables(Base.metadata)


class CounterRow(Base):
    """An aggregate: its events are numbered 1, 2, 3."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]
