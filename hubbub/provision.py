"""What has to be there before services start: tables and streams."""

from pathlib import Path

import click
from pydantic import Field

from hubbub.bus_access import bus_of
from hubbub.data_folder import DataFolder
from hubbub.errors import CommandFailed
from shared.bus.streams import STREAMS, StreamSettings, bootstrap
from shared.migrations import migrate
from shared.settings import ServiceSettings
from shared.telemetry import configure_logging


class _DatabaseSettings(ServiceSettings):
    database_url: str = Field(validation_alias="HUBBUB_DATABASE_URL")


PACKAGES = {"auth": "auth_service", "posts": "posts_service"}


async def migrate_databases(*, service: str | None, data: Path | None) -> None:
    """Bring the databases of a data folder, or one service's from the environment, up to date."""
    configure_logging("ERROR", json=False)
    for name in [service] if service else PACKAGES:
        if data is not None:
            folder = DataFolder(data)
            folder.create()
            url = folder.database_url(name)
        elif service is None:
            raise CommandFailed("say whose database HUBBUB_DATABASE_URL is by --service, or --data")
        else:
            url = _DatabaseSettings().database_url
        await migrate(url, PACKAGES[name])
        click.echo(f"{name}: the database is up to date")


async def bootstrap_streams(*, replicas: int, data: Path | None, nats: str | None) -> None:
    """Create the streams, or bring them up to date."""
    configure_logging("ERROR", json=False)
    async with bus_of(nats=nats, data=data, name="hubbub-bootstrap") as bus:
        await bootstrap(bus, stream_settings(ServiceSettings(), replicas=replicas))
    click.echo(f"the streams are up to date: {', '.join(STREAMS)}")


def stream_settings(settings: ServiceSettings, *, replicas: int = 1) -> StreamSettings:
    """Revocations outlive the longest token, whatever that is."""
    return StreamSettings(replicas=replicas, ctl_max_age_seconds=settings.max_token_seconds)
