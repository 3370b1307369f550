"""An application with an outbox beside its own tables, and sessions of either kind."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from pydantic import BaseModel
from sqlalchemy import MetaData, create_engine, make_url, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from hubbub_client.outbox import outbox_tables
from hubbub_client.outbox.append import AnySession
from hubbub_client.outbox.table import OutboxRow
from hubbub_client.sql.database import database_url

SYNCHRONOUS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}

Commit: TypeAlias = Callable[[Callable[[AnySession], None]], Awaitable[None]]
"""Does something in a transaction."""


class Base(DeclarativeBase):
    """The application's tables."""

    metadata = MetaData(naming_convention={"uq": "uq_%(table_name)s_%(column_0_name)s"})


outbox_tables(Base.metadata)


class InvoiceRow(Base):
    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)


class InvoicePaid(BaseModel):
    invoice_id: int


class InvoicePaidV2(BaseModel):
    invoice_id: int
    total: str


def synchronous_url(url: str) -> str:
    written = make_url(url)
    driver = SYNCHRONOUS[written.get_backend_name()]
    return written.set(drivername=driver).render_as_string(hide_password=False)


@asynccontextmanager
async def a_shop(url: str, *, tables: bool = True) -> AsyncGenerator[AsyncEngine]:
    """An engine of the application's own, as it would make it."""
    engine = create_async_engine(database_url(url))
    try:
        if tables:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def synchronous(url: str) -> AsyncGenerator[sessionmaker[Session]]:
    engine = create_engine(synchronous_url(url))
    yield sessionmaker(engine)
    engine.dispose()


def commit_with(sessions: async_sessionmaker[AsyncSession] | sessionmaker[Session]) -> Commit:
    """Synchronous sessions work in a thread, as in the workers of a web server."""

    async def commit(work: Callable[[AnySession], None]) -> None:
        if isinstance(sessions, async_sessionmaker):
            async with sessions.begin() as session:
                work(session)
        else:
            await asyncio.to_thread(commit_in_thread, sessions, work)

    return commit


def commit_in_thread(sessions: sessionmaker[Session], work: Callable[[Session], Any]) -> None:
    with sessions.begin() as session:
        work(session)


async def rows_in(engine: AsyncEngine) -> list[OutboxRow]:
    async with AsyncSession(engine) as session:
        return list(await session.scalars(select(OutboxRow).order_by(OutboxRow.position)))


async def invoices_in(engine: AsyncEngine) -> list[int]:
    async with AsyncSession(engine) as session:
        return list(await session.scalars(select(InvoiceRow.id)))
