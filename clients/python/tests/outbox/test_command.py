"""The relay as a process of its own, and what it says when it can't start."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from clients.python.tests.conftest import API_KEY
from clients.python.tests.outbox.builders import until
from clients.python.tests.outbox.shop import a_shop, commit_with, rows_in, synchronous
from hubbub_client.outbox import append_publication
from tests.fixtures.commands import Command, Program, run_command
from tests.gateway.chatting import RunningGateway

STOP_SECONDS = 20
RELAY = Program(
    "hubbub_client.outbox",
    (
        "hubbub_client.outbox.bus", "hubbub_client.outbox.gateway", "hubbub_client.outbox.relay",
        "aiosqlite", "asyncpg", "psycopg", "sqlalchemy.dialects.postgresql.psycopg",
        "sqlalchemy.dialects.sqlite.aiosqlite",
    ),
)  # fmt: skip
DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg2"}
"""As in the URLs of applications that are not asynchronous; neither can be awaited."""


def settings_of(destination: str, nats_url: str, url: str) -> dict[str, str]:
    if destination == "bus":
        return {"HUBBUB_NATS_URL": nats_url}
    return {"HUBBUB_URL": url, "HUBBUB_API_KEY": API_KEY}


@contextmanager
def started(env: dict[str, str], log: Path) -> Generator[Command]:
    with log.open("wb") as output:
        process = Command([], program=RELAY, env=os.environ | env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
async def engine(database_url: str) -> AsyncGenerator[AsyncEngine]:
    async with a_shop(database_url) as shop:
        yield shop


def lines_in(log: Path) -> list[str]:
    return log.read_text().splitlines()


async def relay_one(url: str, engine: AsyncEngine, env: dict[str, str], log: Path) -> None:
    """See a synchronous application's row leave, and the process stop when it is told to."""
    async with synchronous(url) as sessions:
        await commit_with(sessions)(
            lambda session: append_publication(session, f"chat:{secrets.token_hex(6)}", 1)
        )

    async def is_sent() -> bool:
        return (await rows_in(engine))[-1].sent_at is not None

    with started(env, log) as process:
        await until(is_sent)
        process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(process.wait, STOP_SECONDS)
    said = lines_in(log)
    assert status == 0, said
    assert any(line.endswith("INFO outbox_lease_taken") for line in said)
    assert not any("Traceback" in line for line in said)


@pytest.mark.parametrize("destination", ["bus", "gateway"])
async def test_it_relays_for_an_application_that_awaits_nothing(
    destination: str,
    database_url: str,
    engine: AsyncEngine,
    nats_url: str,
    url: str,
    gateway: RunningGateway,
    tmp_path: Path,
) -> None:
    written = make_url(database_url)
    driver = DRIVERS[written.get_backend_name()]
    own_url = written.set(drivername=driver).render_as_string(hide_password=False)
    env = {"HUBBUB_OUTBOX_DATABASE_URL": own_url, **settings_of(destination, nats_url, url)}

    await relay_one(database_url, engine, env, tmp_path / "log")


async def test_it_takes_the_driver_that_is_named(
    postgres_url: str, nats_url: str, gateway: RunningGateway, tmp_path: Path
) -> None:
    url = make_url(postgres_url).set(drivername="postgresql+psycopg")
    written = url.render_as_string(hide_password=False)
    env = {"HUBBUB_OUTBOX_DATABASE_URL": written, "HUBBUB_NATS_URL": nats_url}

    async with a_shop(written) as engine:
        await relay_one(postgres_url, engine, env, tmp_path / "log")
        assert engine.dialect.driver == "psycopg"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no database: --database, or HUBBUB_OUTBOX_DATABASE_URL"),
        (["--database", "mysql://db/shop"], "the database: not the URL of a SQLite or PostgreSQL"),
        (["--database", "sqlite:///x"], "no destination: --nats, or --gateway with --api-key"),
        (["--database", "sqlite:///x", "--gateway", "http://a"], "no destination: "),
        (
            ["--database", "sqlite:///x", "--nats", "nats://a", "--gateway", "http://a"],
            "two destinations: --nats (HUBBUB_NATS_URL), --gateway (HUBBUB_URL)",
        ),
        (
            ["--database", "sqlite:///x", "--gateway", "a", "--api-key", "k"],
            "the gateway: not a URL of HTTP",
        ),
        (["--database", "sqlite:///x", "--nats", "nats://"], "'nats://' is not the address"),
        (["--database", "sqlite:///x", "--nats", "no_file"], "[Errno 2] No such file"),
        (
            ["--database", "sqlite://", "--gateway", "http://a", "--api-key", "k"],
            "the outbox: no such table: outbox",
        ),
    ],
)
def test_what_is_missing_is_said_in_a_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run_command(*arguments, program=RELAY, env=os.environ, cwd=tmp_path)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"Error: {said}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        (("aiosqlite",), "no driver for sqlite is installed: pip install aiosqlite"),
        (("nats",), "pip install 'hubbub-client[nats]'"),
    ],
)
def test_what_is_not_installed_is_said_in_a_line(absent: tuple[str, ...], said: str) -> None:
    run = "import runpy; runpy.run_module('hubbub_client.outbox', run_name='__main__')"
    without = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n{run}"
    arguments = ["--database", "sqlite:///x", "--nats", "nats://a"]
    done = subprocess.run(
        [sys.executable, "-c", without, *arguments], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.strip().endswith(said)
