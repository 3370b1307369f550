"""`hubbub migrate`: the tables that services need before they start."""

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import click
from pydantic import Field
from pydantic_settings import NoDecode
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub.errors import CommandFailed
from hubbub_client.sql.database import DatabaseUnavailable, place_of, reason_of, why_away
from shared.runtime.settings import ServiceSettings, read_settings
from shared.runtime.telemetry import configure_logging
from shared.sql.migrations import DatabaseNewer, migrate
from shared.sql.settings import DatabaseUrl

DRIVER_SECONDS = 1.0
DRIVER_POLL_SECONDS = 0.01
PACKAGES = {"auth": "auth_service", "posts": "posts_service"}


class _EnvironmentsDatabase(ServiceSettings):
    database_url: Annotated[DatabaseUrl | None, NoDecode] = Field(
        None, validation_alias="HUBBUB_DATABASE_URL"
    )


async def migrate_databases(*, service: str | None, data: Path | None) -> None:
    """Migrate the databases of a data folder, or the one that the environment names.

    If neither is given, it is the folder that `up` would use.
    """
    configure_logging("ERROR", json=False)
    named = None if data is not None else read_settings(_EnvironmentsDatabase).database_url
    if named is not None and service is None:
        raise CommandFailed("say whose database HUBBUB_DATABASE_URL is by --service, or --data")
    folder = DataFolder(data or DEFAULT_PATH)
    if named is None:
        folder.create()
    for name in [service] if service else PACKAGES:
        await bring_up_to_date(name, named or folder.database_url(name))
        click.echo(f"{name}: the database is up to date")


async def bring_up_to_date(service: str, url: URL) -> None:
    """Migrate the database of that service.

    Raises:
        CommandFailed: it can't be done; the reason says where.
    """
    try:
        await migrate(url, PACKAGES[service])
    except DatabaseNewer as error:
        why = str(error)
    except DatabaseUnavailable as error:
        await until_drivers_threads_end()
        why = why_away(error)
    except DBAPIError as error:
        if not getattr(error.orig, "sqlstate", None):
            raise
        why = f"the database refuses it: {reason_of(error)}"
    else:
        return
    raise CommandFailed(f"{service}: {why} ({place_of(url)})")


async def until_drivers_threads_end() -> None:
    """If a SQLite file can't be opened, aiosqlite's thread reports it to the loop a bit later."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRIVER_SECONDS):
            while _driver_is_busy():  # noqa: ASYNC110 the end of a thread can't be awaited
                await asyncio.sleep(DRIVER_POLL_SECONDS)


def _driver_is_busy() -> bool:
    return any("_connection_worker" in thread.name for thread in threading.enumerate())
