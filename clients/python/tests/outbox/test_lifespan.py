"""The relay as a part of an application: what is wrong at the start is raised, and later told."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from clients.python.tests.outbox.builders import until
from clients.python.tests.outbox.shop import (
    Base,
    InvoicePaid,
    a_shop,
    commit_with,
    rows_in,
)
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.nats.client import connect_bus
from hubbub_client.outbox import RelayLimits, append, relaying
from hubbub_client.outbox.bus import to_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import StartServer

USERS = """authorization {{ users: [
    {{ user: root, password: root }}
    {{ user: application, password: {} }} ] }}
"""
QUICK = RelayLimits(idle_seconds=0.02, failed_seconds=0.02)


async def pay(engine: AsyncEngine) -> None:
    await commit_with(async_sessionmaker(engine))(
        lambda session: append(session, InvoicePaid(invoice_id=1))
    )


async def until_all_are_sent(engine: AsyncEngine) -> None:
    async def are_sent() -> bool:
        return all(row.sent_at for row in await rows_in(engine))

    await until(are_sent)


@pytest.mark.parametrize("statement", [None, "ALTER TABLE outbox_streams DROP COLUMN life"])
async def test_tables_that_are_not_there_fail_the_start(
    statement: str | None, database_url: str, publisher: Publisher
) -> None:
    async with a_shop(database_url, tables=statement is not None) as engine:
        if statement:
            async with engine.begin() as connection:
                await connection.execute(text(statement))
        with pytest.raises(DBAPIError, match="outbox_streams" if statement else "outbox"):
            async with relaying(engine, publisher):
                pytest.fail("it began")


async def test_a_relay_goes_on_after_what_it_does_not_know(
    database_url: str, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    async def is_logged() -> bool:
        return "outbox_relay_begins_anew" in caplog.text

    async with a_shop(database_url) as engine, relaying(engine, publisher, limits=QUICK):
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await until(is_logged)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await pay(engine)
        await until_all_are_sent(engine)


async def test_a_failure_in_the_body_comes_out_as_it_is(
    database_url: str, publisher: Publisher
) -> None:
    async with a_shop(database_url) as engine:
        with pytest.raises(ZeroDivisionError):
            async with relaying(engine, publisher):
                raise ZeroDivisionError


async def test_a_relay_takes_another_password_when_the_servers_do(
    sqlite_url: str, nats_server: StartServer, tmp_path: Path
) -> None:
    server, file = nats_server(USERS.format("first")), tmp_path / "application_url"

    def url(user: str, password: str) -> str:
        return f"nats://{user}:{password}@127.0.0.1:{server.port}"

    file.write_text(url("application", "first"))
    async with (
        connect_bus(url("root", "root"), name="root") as root,
        a_shop(sqlite_url) as engine,
        to_bus(file) as destination,
        relaying(engine, destination, limits=QUICK),
    ):
        await bootstrap(root)
        await pay(engine)
        await until_all_are_sent(engine)
        file.write_text(url("application", "second"))
        server.reload(USERS.format("second"))
        await pay(engine)
        await until_all_are_sent(engine)


async def test_on_sqlite_readers_and_the_writer_do_not_wait_for_each_other(
    sqlite_url: str, publisher: Publisher
) -> None:
    async with (
        a_shop(sqlite_url) as engine,
        relaying(engine, publisher),
        engine.connect() as connection,
    ):
        mode = await connection.scalar(text("PRAGMA journal_mode"))

    assert mode == "wal"
