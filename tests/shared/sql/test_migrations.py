"""Alembic without an ini file, on both databases, inside the program's own loop."""

import asyncio
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, inspect, text

from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.sql.database import (
    DatabaseLimits,
    DatabaseUnavailable,
    Moment,
    connect_database,
    open_engine,
    transaction,
)
from shared.sql.migrations import differences, downgrade, migrate
from tests.fixtures.commands import HUBBUB, Command, Program
from tests.shared.sql.counting.tables import Base

SERVICE = "tests.shared.sql.counting"
MIGRATE_SECONDS = 60


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

    assert up == {"alembic_version", "counters", "outbox", "outbox_lease", "outbox_streams"}
    assert down == {"alembic_version"}
    assert await table_names(database_url) == up


async def test_what_an_outbox_sent_is_kept_when_its_stream_gets_lives(database_url: str) -> None:
    await migrate(database_url, SERVICE)
    await downgrade(database_url, SERVICE, "0002")
    async with connect_database(database_url) as sessions:
        async with transaction(sessions) as db:
            await db.execute(
                text(
                    "INSERT INTO outbox"
                    " (id, subject, aggregate, payload, created_at, sent_at, sequence)"
                    " VALUES ('m', 'events.x', 'a', :payload, :now, :now, 7)"
                ).bindparams(bindparam("now", datetime.now(UTC), Moment)),
                {"payload": b"{}"},
            )
            await db.execute(text("INSERT INTO outbox_streams VALUES ('EVENTS', 'e', 5)"))

        await migrate(database_url, SERVICE)

        row = (await outbox_rows.find(sessions, "m")).rows[0]
        stream = await outbox_rows.noted(sessions, "EVENTS")
    assert stream is not None
    assert (row.sequence, row.life) == (7, stream.life)
    assert (stream.epoch, stream.floor, stream.lost_above) == ("e", 5, None)


async def test_processes_that_migrate_together_wait_for_each_other(
    database_url: str, tmp_path: Path
) -> None:
    program = Program(SERVICE, HUBBUB.loads)
    with (tmp_path / "log").open("wb") as log:
        processes = [
            Command([database_url], program=program, env=os.environ, stdout=log, stderr=log)
            for _ in range(3)
        ]

    ended = [await asyncio.to_thread(process.wait, MIGRATE_SECONDS) for process in processes]
    assert ended == [0, 0, 0], (tmp_path / "log").read_text()
    assert await differences(database_url, Base.metadata) == []


async def test_databases_that_are_migrated_side_by_side_are_not_mixed_up(
    database_url: str, tmp_path: Path
) -> None:
    urls = [database_url, *(f"sqlite:///{tmp_path}/{number}.db" for number in range(3))]

    async with asyncio.TaskGroup() as group:
        for url in urls:
            group.create_task(migrate(url, SERVICE))

    for url in urls:
        assert await differences(url, Base.metadata) == []


async def test_migrating_waits_for_whoever_has_the_file(sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE held (n)")
        holder.execute("BEGIN IMMEDIATE")
        async with asyncio.TaskGroup() as group:
            migrating = group.create_task(migrate(sqlite_url, SERVICE))
            _, waiting = await asyncio.wait([migrating], timeout=0.2)
            assert waiting
            holder.execute("ROLLBACK")

    assert "counters" in await table_names(sqlite_url)


async def test_migrating_gives_up_on_a_file_that_is_never_free(sqlite_url: str) -> None:
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("CREATE TABLE held (n)")
        holder.execute("BEGIN EXCLUSIVE")

        with pytest.raises(DatabaseUnavailable):
            await migrate(sqlite_url, SERVICE, limits=DatabaseLimits(lock_seconds=0.1))


async def test_migrating_a_database_that_is_away_says_so() -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing", SERVICE)
