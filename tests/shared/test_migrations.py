"""Alembic without an ini file, on both databases, inside the program's own loop."""

import asyncio

import pytest
from sqlalchemy import Connection, inspect

from shared.database import DatabaseAway, DatabaseLimits, open_engine
from shared.migrations import differences, downgrade, migrate
from tests.shared.counting.tables import Base

SERVICE = "tests.shared.counting"


async def table_names(url: str) -> set[str]:
    def names(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    engine = open_engine(url, DatabaseLimits())
    async with engine.connect() as connection:
        found = await connection.run_sync(names)
    await engine.dispose()
    return found


async def test_the_migrated_database_is_what_the_code_knows(database_url: str) -> None:
    await migrate(database_url, SERVICE)

    assert await differences(database_url, Base.metadata) == []


async def test_a_missing_table_is_a_difference(database_url: str) -> None:
    await migrate(database_url, SERVICE)
    await downgrade(database_url, SERVICE, "base")

    assert len(await differences(database_url, Base.metadata)) >= 3


async def test_migrations_go_up_and_down_and_up_again(database_url: str) -> None:
    await migrate(database_url, SERVICE)
    up = await table_names(database_url)
    await downgrade(database_url, SERVICE, "base")
    down = await table_names(database_url)
    await migrate(database_url, SERVICE)

    assert up == {"alembic_version", "counters", "outbox", "outbox_lease"}
    assert down == {"alembic_version"}
    assert await table_names(database_url) == up


async def test_processes_that_migrate_together_wait_for_each_other(database_url: str) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(migrate(database_url, SERVICE))

    assert await differences(database_url, Base.metadata) == []


async def test_migrating_a_database_that_is_away_says_so() -> None:
    with pytest.raises(DatabaseAway):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing", SERVICE)
