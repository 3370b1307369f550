"""The ways in which a database is away, and that each is told as one error, in time."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from hubbub_client.sql.database import (
    DatabaseLimits,
    DatabaseUnavailable,
    Sessions,
    connect_database,
    transaction,
)
from tests.fixtures.databases import PostgresServer
from tests.fixtures.tcp import a_tcp_server
from tests.shared.accounts import AccountRow, balance, create_tables, open_account

SOON_SECONDS = 0.3
"""A limit in these tests, so that what waits for it doesn't wait long."""
IN_TIME_SECONDS = 20


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


async def test_a_lock_that_is_not_freed_is_a_database_that_is_away(impatient: Sessions) -> None:
    async with transaction(impatient) as holder:
        await holder.execute(update(AccountRow).values(balance=1))

        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
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

        with pytest.raises(DatabaseUnavailable):
            await balance(impatient)

    assert await balance(impatient) == 0


async def test_a_statement_that_never_ends_is_ended(postgres_url: str) -> None:
    limits = DatabaseLimits(statement_seconds=SOON_SECONDS)
    started = time.monotonic()
    async with connect_database(postgres_url, limits=limits) as sessions:
        with pytest.raises(DatabaseUnavailable):
            async with transaction(sessions) as session:
                await session.execute(select(func.pg_sleep(60)))

    assert time.monotonic() - started < IN_TIME_SECONDS


async def test_a_server_that_refuses_is_a_database_that_is_away() -> None:
    async with connect_database("postgresql://nobody@127.0.0.1:1/nothing") as sessions:
        with pytest.raises(DatabaseUnavailable):
            await balance(sessions)


async def test_a_server_that_is_silent_is_a_database_that_is_away() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with a_tcp_server(say_nothing) as port:
        url = f"postgresql://nobody@127.0.0.1:{port}/nothing"
        limits = DatabaseLimits(connect_seconds=SOON_SECONDS)
        async with connect_database(url, limits=limits) as sessions:
            with pytest.raises(DatabaseUnavailable):
                await balance(sessions)


async def test_a_sqlite_file_without_its_folder_is_a_database_that_is_away(tmp_path: Path) -> None:
    async with connect_database(f"sqlite:///{tmp_path}/gone/test.db") as sessions:
        with pytest.raises(DatabaseUnavailable):
            await balance(sessions)


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
            with pytest.raises(DatabaseUnavailable):
                await caught_in_the_middle()
            with pytest.raises(DatabaseUnavailable):
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
