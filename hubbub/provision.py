"""What has to be there before services start: tables and streams."""

import asyncio
import re
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import click
from pydantic import Field
from pydantic_settings import NoDecode
from sqlalchemy.exc import DBAPIError

from hubbub.bus_access import bus_of, named_bus
from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub.errors import CommandFailed
from hubbub.nats_child import store_room
from shared.jetstream.stream_configs import STREAMS, StreamSettings
from shared.jetstream.streams import bootstrap, keep_streams
from shared.runtime.process import running, stop_signals
from shared.runtime.settings import ServiceSettings
from shared.runtime.telemetry import configure_logging
from shared.sql.database import DatabaseUnavailable, DatabaseUrl
from shared.sql.migrations import migrate
from shared.tokens.access_tokens import CLOCK_SKEW_SECONDS

DRIVER_SECONDS = 1.0
DRIVER_POLL_SECONDS = 0.01
PACKAGES = {"auth": "auth_service", "posts": "posts_service"}


class _EnvironmentsDatabase(ServiceSettings):
    database_url: Annotated[DatabaseUrl | None, NoDecode] = Field(
        None, validation_alias="HUBBUB_DATABASE_URL"
    )


async def migrate_databases(*, service: str | None, data: Path | None) -> None:
    """Bring the databases of a data folder, or one service's from the environment, up to date.

    Without a word from anybody it is the folder that `up` would use.
    """
    configure_logging("ERROR", json=False)
    named = None if data is not None else _EnvironmentsDatabase().database_url
    if named is not None and service is None:
        raise CommandFailed("say whose database HUBBUB_DATABASE_URL is by --service, or --data")
    folder = DataFolder(data or DEFAULT_PATH)
    if named is None:
        folder.create()
    for name in [service] if service else PACKAGES:
        try:
            await migrate(named or folder.database_url(name), PACKAGES[name])
        except DatabaseUnavailable as error:
            await _until_drivers_threads_end()
            raise CommandFailed(f"{name}: {error}: {_reason(error.__cause__)}") from error
        except DBAPIError as error:
            if not getattr(error.orig, "sqlstate", None):
                raise
            raise CommandFailed(f"{name}: the database refuses it: {_reason(error)}") from error
        click.echo(f"{name}: the database is up to date")


def _reason(error: BaseException | None) -> str:
    """What the server or the system said, in one line."""
    said = getattr(error, "orig", None) or error
    first, *_ = str(said).splitlines() or [""]
    return re.sub(r"^<class '[^']*'>: ", "", first) or type(said).__name__


async def _until_drivers_threads_end() -> None:
    """Of a SQLite file that can't be opened, aiosqlite tells a loop that must still be there."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRIVER_SECONDS):
            while _driver_is_busy():  # noqa: ASYNC110 a thread tells nobody that it ends
                await asyncio.sleep(DRIVER_POLL_SECONDS)


def _driver_is_busy() -> bool:
    return any("_connection_worker" in thread.name for thread in threading.enumerate())


async def bootstrap_streams(
    *, replicas: int, data: Path | None, nats: str | None, watch: bool, restored: bool
) -> None:
    """Create the streams, or bring them up to date; watching, make them anew until a signal."""
    settings = ServiceSettings()
    configure_logging(settings.log_level if watch else "ERROR", json=watch)
    with stop_signals() if watch else nullcontext() as stop:
        async with bus_of(nats=nats, data=data, name="bootstrap", user="bootstrap") as bus:
            is_of_folder = named_bus(nats=nats, data=data, settings=settings) is None
            room = store_room(DataFolder(data or DEFAULT_PATH).nats) if is_of_folder else None
            streams = stream_settings(settings, replicas=replicas, store_bytes=room)
            await bootstrap(bus, streams, restored=restored)
            click.echo(f"the streams are up to date: {', '.join(STREAMS)}")
            if stop is not None:
                async with running(lambda: keep_streams(bus, streams)):
                    await stop.wait()


def stream_settings(
    settings: ServiceSettings, *, replicas: int = 1, store_bytes: int | None = None
) -> StreamSettings:
    """Revocations outlive the longest token, by whatever clock."""
    longest = settings.max_token_seconds + CLOCK_SKEW_SECONDS
    return StreamSettings(replicas=replicas, ctl_max_age_seconds=longest, store_bytes=store_bytes)
