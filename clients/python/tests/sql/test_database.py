"""Transactions on both databases, and at the edge of a service."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Annotated, cast

import httpx2
import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import QueuePool

from hubbub_client.sql.database import (
    DatabaseLimits,
    Sessions,
    connect_database,
    database_url,
    transaction,
    transaction_dependency,
)
from hubbub_client.sql.postgres import BadDatabaseUrl
from shared.web.http import install_edge
from tests.fixtures.waiting import eventually
from tests.shared.accounts import AccountRow, CardRow, balance, create_tables, open_account

WRITERS = 20
IN_TIME_SECONDS = 8


@pytest.fixture
async def sessions(database_url: str) -> AsyncGenerator[Sessions]:
    await create_tables(database_url)
    limits = DatabaseLimits(lock_seconds=10)
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


def test_options_of_a_sqlite_file_are_refused_as_nobody_would_follow_them() -> None:
    with pytest.raises(BadDatabaseUrl, match="a SQLite file takes no options: leave out mode"):
        database_url("sqlite:///posts.db?mode=ro")


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


async def test_reading_does_not_wait_for_writers_whom_another_process_keeps_waiting(
    sqlite_url: str,
) -> None:
    await create_tables(sqlite_url)
    limits = DatabaseLimits(pool_connections=2, pool_wait_seconds=30, lock_seconds=30)
    async with (
        connect_database(sqlite_url) as other,
        connect_database(sqlite_url, limits=limits) as sessions,
        asyncio.TaskGroup() as group,
    ):
        await open_account(sessions)

        async def deposit() -> None:
            async with transaction(sessions) as session:
                await session.execute(update(AccountRow).values(balance=AccountRow.balance + 1))

        async with transaction(other) as holding:
            await holding.execute(update(AccountRow).values(balance=7))
            for _ in range(WRITERS):
                group.create_task(deposit())
            pool = cast(QueuePool, cast(AsyncEngine, sessions.kw["bind"]).pool)
            await eventually(lambda: pool.checkedout() == limits.pool_connections)

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


async def test_a_mistake_in_sql_is_not_a_database_that_is_away(sessions: Sessions) -> None:
    with pytest.raises(DBAPIError):
        async with transaction(sessions) as session:
            await session.execute(text("SELECT nothing FROM nowhere"))


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
