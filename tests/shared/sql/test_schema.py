"""Whether a database is migrated is looked at before anything is read or written there."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from hubbub_client.sql.database import DatabaseUnfit, Sessions, connect_database, transaction
from shared.sql.migrations import differences, downgrade, migrate
from shared.sql.schema import Schema, newest_revision, revision_of
from tests.fixtures.waiting import eventually

PACKAGE = "posts_service"
NEWEST = newest_revision(PACKAGE)


@pytest.fixture
async def sessions(migrated: Callable[[str], str]) -> AsyncGenerator[Sessions]:
    async with connect_database(migrated(PACKAGE)) as opened:
        yield opened


async def test_a_migrated_database_is_no_trouble(sessions: Sessions) -> None:
    schema = Schema(sessions, PACKAGE)

    await schema.look()

    assert schema.trouble() == []
    assert await revision_of(sessions, PACKAGE) == NEWEST


async def test_one_that_was_never_migrated_is_told_and_let_alone_until_it_is(
    sqlite_url: str,
) -> None:
    async with connect_database(sqlite_url) as sessions:
        schema = Schema(sessions, PACKAGE, look_seconds=0.01)
        await schema.look()

        advice = "run `hubbub migrate`"
        said = f"the database is at revision none, not {NEWEST}: {advice}"
        assert schema.trouble() == [said]
        with pytest.raises(DatabaseUnfit, match=advice):
            async with transaction(sessions):
                pass

        async with asyncio.TaskGroup() as group:
            looking = group.create_task(schema.run())
            await migrate(sqlite_url, PACKAGE)
            await eventually(lambda: schema.trouble() == [])
            looking.cancel()
        async with transaction(sessions):
            pass


async def test_an_older_revision_is_told_though_it_was_right_before(sqlite_url: str) -> None:
    await migrate(sqlite_url, PACKAGE)
    async with connect_database(sqlite_url) as sessions:
        schema = Schema(sessions, PACKAGE)
        await schema.look()
        await downgrade(sqlite_url, PACKAGE, "0001")

        await schema.look()

    assert schema.trouble()[0].startswith(f"the database is at revision 0001, not {NEWEST}")


async def test_a_newer_revision_is_served_while_services_are_replaced(sqlite_url: str) -> None:
    await migrate(sqlite_url, PACKAGE)
    async with connect_database(sqlite_url) as sessions:
        async with transaction(sessions) as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        schema = Schema(sessions, PACKAGE)

        await schema.look()

    assert schema.trouble() == []


@pytest.mark.parametrize(
    ("package", "other"), [("posts_service", "auth_service"), ("auth_service", "posts_service")]
)
async def test_the_database_of_another_service_is_let_alone_whatever_its_revision(
    package: str, other: str, sqlite_url: str
) -> None:
    await migrate(sqlite_url, other)
    async with connect_database(sqlite_url) as sessions:
        schema = Schema(sessions, package)

        await schema.look()

        [said] = schema.trouble()
        assert said == "the database is another service's or application's"
        with pytest.raises(DatabaseUnfit, match=said):
            async with transaction(sessions):
                pass
    with pytest.raises(DatabaseUnfit, match=said):
        await migrate(sqlite_url, package)
    assert await differences(sqlite_url, import_module(f"{other}.tables").Base.metadata) == []


async def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database" * 1000)
    async with connect_database(f"sqlite:///{tmp_path / 'text'}") as sessions:
        schema = Schema(sessions, PACKAGE)

        await schema.look()

    assert schema.trouble() == ["the database's file is damaged, or not a database"]


async def test_one_that_is_away_is_told_until_it_was_there_once() -> None:
    async with connect_database("postgresql://127.0.0.1:1/x") as sessions:
        schema = Schema(sessions, PACKAGE)

        with capture_logs() as lines:
            await schema.look()

    assert schema.trouble() == ["the database does not answer now"]
    [line] = lines
    assert (line["event"], line["database"]) == ("database_unfit", "127.0.0.1:1/x")
    assert "Connect" in line["reason"]


@pytest.mark.parametrize("package", ["auth_service", "posts_service"])
async def test_the_newest_revision_is_the_one_that_migrating_leads_to(
    package: str, sqlite_url: str
) -> None:
    await migrate(sqlite_url, package)

    async with connect_database(sqlite_url) as sessions:
        assert await revision_of(sessions, package) == newest_revision(package)
