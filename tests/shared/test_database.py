"""Transactions on both databases, and what a database that is away looks like."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import httpx2
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import ForeignKey, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.database import (
    DatabaseAway,
    DatabaseLimits,
    Moment,
    Sessions,
    connect_database,
    database_url,
    open_engine,
    transaction,
    transaction_dependency,
)
from shared.http import install_edge
from shared.migrations import migrate
from tests.fixtures.databases import PostgresServer

WRITERS = 20
SOON_SECONDS = 0.3
"""A limit in these tests, so that what waits for it doesn't wait long."""
IN_TIME_SECONDS = 3


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
    await migrate(url, "tests.shared.counting")  # as any service's database was
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


@pytest.fixture
async def sessions(database_url: str) -> AsyncGenerator[Sessions]:
    await create_tables(database_url)
    limits = DatabaseLimits(lock_seconds=10)
    async with connect_database(database_url, limits=limits) as connected:
        await open_account(connected)
        yield connected


@pytest.fixture
async def impatient(database_url: str) -> AsyncGenerator[Sessions]:
    """Sessions that give up soon, and have two connections."""
    await create_tables(database_url)
    limits = DatabaseLimits(
        pool_connections=2,
        pool_wait_seconds=SOON_SECONDS,
        lock_seconds=SOON_SECONDS,
    )
    async with connect_database(database_url, limits=limits) as connected:
        await open_account(connected)
        yield connected


@pytest.mark.parametrize(
    ("written", "driver"),
    [
        ("sqlite:///posts.db", "sqlite+aiosqlite"),
        ("postgresql://ann:secret@db/posts", "postgresql+asyncpg"),
        ("postgres://ann:secret@db/posts", "postgresql+asyncpg"),
        ("postgresql+asyncpg://ann:secret@db/posts", "postgresql+asyncpg"),
    ],
)
def test_a_url_gets_our_driver_and_keeps_the_rest(written: str, driver: str) -> None:
    url = database_url(written)

    assert url.drivername == driver
    assert url.render_as_string(hide_password=False).partition(":")[2] == written.partition(":")[2]


async def test_a_transaction_commits_at_its_end(sessions: Sessions) -> None:
    async with transaction(sessions) as session:
        await session.execute(update(AccountRow).values(balance=7))

    assert await balance(sessions) == 7


async def test_a_transaction_that_raises_leaves_nothing(sessions: Sessions) -> None:
    async def spend_and_fail() -> None:
        async with transaction(sessions) as session:
            await session.execute(update(AccountRow).values(balance=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await spend_and_fail()

    assert await balance(sessions) == 0


async def test_concurrent_writers_that_read_first_lose_no_update(sessions: Sessions) -> None:
    async def deposit() -> None:
        async with transaction(sessions) as session:
            row = await session.get_one(AccountRow, "ann", with_for_update=True)
            row.balance += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(deposit())

    assert await balance(sessions) == WRITERS


async def test_reading_does_not_wait_for_a_writer(sessions: Sessions) -> None:
    async with transaction(sessions) as writing:
        await writing.execute(update(AccountRow).values(balance=7))

        async with asyncio.timeout(IN_TIME_SECONDS):
            assert await balance(sessions) == 0


async def test_writing_does_not_wait_for_a_reader(sessions: Sessions) -> None:
    async with transaction(sessions, read_only=True) as reading:
        await reading.execute(select(AccountRow.balance))

        async with asyncio.timeout(IN_TIME_SECONDS):
            async with transaction(sessions) as writing:
                await writing.execute(update(AccountRow).values(balance=7))

    assert await balance(sessions) == 7


async def test_what_refers_to_nothing_is_refused(sessions: Sessions) -> None:
    with pytest.raises(IntegrityError):
        async with transaction(sessions) as session:
            session.add(CardRow(number=1, account="nobody"))


async def test_a_reading_transaction_keeps_no_change(sessions: Sessions) -> None:
    with suppress(DBAPIError):  # PostgreSQL says so, SQLite doesn't
        async with transaction(sessions, read_only=True) as session:
            await session.execute(update(AccountRow).values(balance=7))

    assert await balance(sessions) == 0


async def test_a_moment_comes_back_in_utc(sessions: Sessions) -> None:
    here = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    async with transaction(sessions) as session:
        await session.execute(update(AccountRow).values(opened_at=here))
        found = await session.scalar(select(AccountRow.opened_at))

    assert found == here
    assert found is not None
    assert found.utcoffset() == timedelta(0)


async def test_a_moment_without_a_zone_is_a_mistake(sessions: Sessions) -> None:
    with pytest.raises(Exception, match="time zone"):
        async with transaction(sessions) as session:
            await session.execute(update(AccountRow).values(opened_at=datetime(2026, 5, 1)))  # noqa: DTZ001


async def test_a_lock_that_is_not_freed_is_a_database_that_is_away(impatient: Sessions) -> None:
    async with transaction(impatient) as holder:
        await holder.execute(update(AccountRow).values(balance=1))

        started = time.monotonic()
        with pytest.raises(DatabaseAway):
            async with transaction(impatient) as session:
                await session.execute(update(AccountRow).values(balance=2))

    assert time.monotonic() - started < IN_TIME_SECONDS
    assert await balance(impatient) == 1


async def test_a_pool_without_a_free_connection_is_a_database_that_is_away(
    impatient: Sessions,
) -> None:
    async with (
        transaction(impatient, read_only=True) as first,
        transaction(impatient, read_only=True) as second,
    ):
        for session in (first, second):
            await session.execute(select(1))

        with pytest.raises(DatabaseAway):
            await balance(impatient)

    assert await balance(impatient) == 0


async def test_a_statement_that_never_ends_is_ended(postgres_url: str) -> None:
    limits = DatabaseLimits(statement_seconds=SOON_SECONDS)
    started = time.monotonic()
    async with connect_database(postgres_url, limits=limits) as sessions:
        with pytest.raises(DatabaseAway):
            async with transaction(sessions) as session:
                await session.execute(select(func.pg_sleep(60)))

    assert time.monotonic() - started < IN_TIME_SECONDS


async def test_a_mistake_in_sql_is_not_a_database_that_is_away(sessions: Sessions) -> None:
    with pytest.raises(DBAPIError):
        async with transaction(sessions) as session:
            await session.execute(text("SELECT nothing FROM nowhere"))


async def test_a_server_that_refuses_is_a_database_that_is_away() -> None:
    async with connect_database("postgresql://nobody@127.0.0.1:1/nothing") as sessions:
        with pytest.raises(DatabaseAway):
            await balance(sessions)


async def test_a_server_that_is_silent_is_a_database_that_is_away() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://nobody@127.0.0.1:{port}/nothing"
        limits = DatabaseLimits(connect_seconds=SOON_SECONDS)
        async with connect_database(url, limits=limits) as sessions:
            with pytest.raises(DatabaseAway):
                await balance(sessions)


async def test_a_sqlite_file_without_its_folder_is_a_database_that_is_away(tmp_path: Path) -> None:
    async with connect_database(f"sqlite:///{tmp_path}/gone/test.db") as sessions:
        with pytest.raises(DatabaseAway):
            await balance(sessions)

    for thread in threading.enumerate():  # the driver's ends on its own, and must before the loop
        if "_connection_worker" in thread.name:
            await asyncio.to_thread(thread.join, IN_TIME_SECONDS)


async def test_a_killed_server_is_away_until_it_is_back(
    postgres: PostgresServer, postgres_url: str
) -> None:
    await create_tables(postgres_url)
    async with connect_database(postgres_url) as sessions:
        await open_account(sessions)

        async def caught_in_the_middle() -> None:
            async with transaction(sessions) as session:
                await session.execute(update(AccountRow).values(balance=7))
                await asyncio.to_thread(postgres.kill)

        try:
            with pytest.raises(DatabaseAway):
                await caught_in_the_middle()
            with pytest.raises(DatabaseAway):
                await balance(sessions)
        finally:
            await asyncio.to_thread(postgres.start)

        assert await balance(sessions) == 0


async def test_a_restart_that_nobody_saw_costs_nobody_an_error(
    postgres: PostgresServer, postgres_url: str
) -> None:
    await create_tables(postgres_url)
    async with connect_database(postgres_url) as sessions:
        await open_account(sessions)
        await asyncio.to_thread(postgres.kill)
        await asyncio.to_thread(postgres.start)

        assert await balance(sessions) == 0


def an_app(sessions: Sessions) -> FastAPI:
    app = FastAPI()
    install_edge(app)
    dependency = transaction_dependency(sessions)
    opened = Annotated[AsyncSession, Depends(dependency, scope="function")]

    @app.post("/deposit")
    async def deposit(session: opened) -> None:
        await session.execute(update(AccountRow).values(balance=AccountRow.balance + 1))

    return app


async def test_a_request_is_answered_after_its_commit(sessions: Sessions) -> None:
    seen: list[int | None] = []
    app = an_app(sessions)

    async def spied(scope, receive, send):  # type: ignore[no-untyped-def]
        async def looking(message):  # type: ignore[no-untyped-def]
            seen.append(await balance(sessions))
            await send(message)

        await app(scope, receive, looking)

    transport = httpx2.ASGITransport(app=spied)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/deposit")

    assert answer.status_code == 200
    assert seen == [1, 1]  # start and body


async def test_a_request_is_answered_503_while_the_database_is_away() -> None:
    async with connect_database("postgresql://nobody@127.0.0.1:1/nothing") as sessions:
        transport = httpx2.ASGITransport(app=an_app(sessions))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/deposit")

    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"
