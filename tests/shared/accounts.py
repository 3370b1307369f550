"""Two small tables for tests of the database itself."""

from datetime import UTC, datetime

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hubbub_client.sql.database import (
    DatabaseLimits,
    Moment,
    Sessions,
    open_engine,
    transaction,
)
from shared.sql.migrations import migrate


class Base(DeclarativeBase):
    """Tables of this test."""


class AccountRow(Base):
    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(primary_key=True)
    balance: Mapped[int]
    opened_at: Mapped[datetime] = mapped_column(Moment, default=lambda: datetime.now(UTC))


class CardRow(Base):
    __tablename__ = "cards"

    number: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey(AccountRow.name))


async def create_tables(url: str) -> None:
    await migrate(url, "tests.shared.sql.counting")  # as any service's database was
    engine = open_engine(url, DatabaseLimits())
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


async def open_account(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        session.add(AccountRow(name="ann", balance=0))


async def balance(sessions: Sessions) -> int | None:
    async with transaction(sessions, read_only=True) as session:
        return await session.scalar(select(AccountRow.balance))
