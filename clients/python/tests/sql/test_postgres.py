"""PostgreSQL as it is handed out: options in the URL, TLS, and pgbouncer in front of it."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import make_url, text

from hubbub_client.sql.database import (
    DatabaseLimits,
    DatabaseUnavailable,
    connect_database,
    database_url,
    transaction,
)
from hubbub_client.sql.postgres import BadDatabaseUrl, read_options
from posts_service.settings import PostsSettings
from tests.fixtures.databases import PostgresServer
from tests.fixtures.skipping import skip
from tests.shared.accounts import AccountRow, balance, create_tables, open_account

SETTINGS = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
WRITERS = 20


def arguments_of(query: str) -> dict[str, Any]:
    """What the driver is given."""
    return dict(read_options(database_url(f"postgres://app@db/posts?{query}")).arguments)


@pytest.mark.parametrize(
    ("query", "arguments"),
    [
        ("sslmode=require", {"dsn": "postgresql://?sslmode=require"}),
        ("ssl=require", {"dsn": "postgresql://?sslmode=require"}),
        ("sslmode=require&channel_binding=prefer", {"dsn": "postgresql://?sslmode=require"}),
        ("sslmode=verify-full&sslrootcert=system", {"ssl": True}),
        ("connect_timeout=10", {"timeout": 10.0}),
        ("connect_timeout=0&keepalives=1&gssencmode=disable", {}),
        ("options=-c%20search_path%3Dapp", {"dsn": "postgresql://?options=-c+search_path%3Dapp"}),
        ("application_name=a%26b", {"dsn": "postgresql://?application_name=a%26b"}),
        ("target_session_attrs=read-write", {"dsn": "postgresql://?target_session_attrs=read-write"}),
    ],
)  # fmt: skip
def test_the_options_of_hosted_servers_are_understood(
    query: str, arguments: dict[str, Any]
) -> None:
    assert arguments_of(query) == arguments


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("sslmode=require&channel_binding=require", "channel_binding can only be disable, prefer"),
        ("sslmode=yes", "sslmode can only be disable, allow"),
        ("sslmode=verify-full", "sslmode=verify-full wants sslrootcert"),
        ("sslmode=require&sslrootcert=system", "sslrootcert=system wants sslmode=verify-full"),
        ("sslrootcert=/nowhere/ca.pem", "sslrootcert: /nowhere/ca.pem: No such file"),
        ("sslrootcert=/dev/null", "sslrootcert: /dev/null: "),
        ("connect_timeout=soon", "connect_timeout is not a number of seconds"),
        ("target_session_attrs=master", "target_session_attrs can only be any, primary"),
        ("gssencmode=require", "gssencmode can only be disable, prefer"),
        ("pgbouncer=true", "the option pgbouncer is not known here: leave it out"),
    ],
)
def test_an_option_that_cannot_be_kept_is_a_sentence(query: str, sentence: str) -> None:
    with pytest.raises(BadDatabaseUrl, match=sentence):
        database_url(f"postgresql://app:secret@db/posts?{query}")


@pytest.mark.parametrize(
    "written",
    ["", "posts.db", "mysql://app:secret@db/posts", "postgresql:/app:secret@db/posts",
     "postgresql://app:sec:ret@db:port/posts", "postgresql://app:secret@db/posts?x=1"],
)  # fmt: skip
def test_a_url_that_is_none_is_not_repeated(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBUB_DATABASE_URL", written)
    with pytest.raises(ValueError, match="DATABASE_URL") as refusal:
        PostsSettings()

    assert "secret" not in str(refusal.value)
    assert "ret@" not in str(refusal.value)


def test_several_hosts_are_tried_in_turn() -> None:
    options = read_options(
        database_url("postgresql://app:secret@one:5433,two,[::1]:5434/posts?sslmode=disable")
    )

    assert options.url.query == {"host": ("one:5433", "two:5432", "[::1]:5434")}
    assert (options.url.username, options.url.database) == ("app", "posts")


async def test_a_server_is_found_behind_one_that_is_away(postgres_url: str) -> None:
    there = make_url(postgres_url)
    [socket] = [there.query["host"]] if "host" in there.query else [None]
    if socket is None:
        pytest.skip("the server listens on no socket here")
    url = f"postgresql://{there.username}@/{there.database}?host=127.0.0.1:1&host={socket}:5432"

    async with connect_database(url) as sessions, transaction(sessions) as session:
        assert await session.scalar(text("SELECT 1")) == 1


async def test_our_limits_and_the_options_of_the_url_are_in_force(postgres_url: str) -> None:
    more = "&" if "?" in postgres_url else "?"
    url = f"{postgres_url}{more}application_name=us&options=-c%20search_path%3Dapp&sslmode=prefer"
    limits = DatabaseLimits(statement_seconds=7, lock_seconds=3, idle_transaction_seconds=11)
    async with connect_database(url, limits=limits) as sessions, transaction(sessions) as session:
        names = (*SETTINGS, "search_path", "application_name")
        found = [await session.scalar(text(f"SHOW {name}")) for name in names]

    assert found == ["7s", "3s", "11s", "app", "us"]


@pytest.fixture(params=["", ", ".join(SETTINGS)], ids=["refused", "ignored"])
def pooled_url(
    request: pytest.FixtureRequest, postgres_url: str, postgres: PostgresServer
) -> Iterator[str]:
    """The database through a pgbouncer in transaction mode, with one connection of the server's."""
    if shutil.which("pgbouncer") is None:
        skip("there is no pgbouncer")
    there = make_url(postgres_url)
    reach = {
        "host": there.query.get("host", there.host),
        "port": there.port or 5432,
        "user": there.username,
        "password": there.password,
    }
    server = " ".join(f"{name}={value}" for name, value in reach.items() if value)
    home = Path(tempfile.mkdtemp(prefix="hubbub-pgb-"))  # a unix socket's path is short
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n* = {server}\n[pgbouncer]\nlisten_port = 6432\nunix_socket_dir = {home}\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 1\n"
        f"ignore_startup_parameters = {request.param}\n"
    )
    command = ["pgbouncer", str(home / "pgbouncer.ini")]
    if os.geteuid() == 0:  # which it refuses to be
        owner = Path(str(reach["host"])).owner() if "host" in there.query else "nobody"
        shutil.chown(home, owner)
        command[1:1] = ["-u", owner]
    pooler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with anyio.from_thread.start_blocking_portal() as portal:
            portal.call(_until_there, home / ".s.PGSQL.6432")
        yield f"postgresql://{there.username}@/{there.database}?host={home}&port=6432"
    finally:
        pooler.terminate()
        pooler.wait(timeout=10)
        shutil.rmtree(home)


async def _until_there(socket: Path) -> None:
    with anyio.fail_after(10):
        while not await anyio.Path(socket).exists():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_all_works_through_a_pooler_of_transactions(pooled_url: str) -> None:
    limits = DatabaseLimits(statement_seconds=7, lock_seconds=3, idle_transaction_seconds=11)
    await create_tables(pooled_url)
    async with (
        connect_database(pooled_url, limits=limits) as first,
        connect_database(pooled_url, limits=limits) as second,
    ):
        await open_account(first)

        async def deposit(number: int) -> None:
            async with transaction((first, second)[number % 2]) as session:
                row = await session.get_one(AccountRow, "ann", with_for_update=True)
                row.balance += 1

        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(deposit(number))
        async with transaction(second, read_only=True) as session:
            found = [await session.scalar(text(f"SHOW {name}")) for name in SETTINGS]

        assert await balance(first) == WRITERS
        assert found == ["7s", "3s", "11s"]


async def test_an_option_that_a_pooler_refuses_is_told_once_with_what_to_change(
    pooled_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{pooled_url}&options=-c%20search_path%3Dapp"
    async with connect_database(url) as sessions:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                async with transaction(sessions) as session:
                    await session.execute(text("SELECT 1"))

    [told] = [str(record.msg) for record in caplog.records]
    assert "unsupported startup parameter" in told
    assert "leave it out of the database's URL" in told
