"""How a command finds the bus: by its options, the environment, or the data folder of an `up`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from hubbub.data_folder import DEFAULT_PATH, DataFolder
from hubbub.errors import CommandFailed
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.urls import without_passwords
from shared.runtime.settings import ServiceSettings, read_settings

CONNECT_SECONDS = 5.0


@asynccontextmanager
async def bus_of(
    *, nats: str | None, data: Path | None, name: str, user: str
) -> AsyncGenerator[Bus]:
    """The bus at ``nats``; else the one of ``data``; else of HUBBUB_NATS_URL; else of ``.hubbub``.

    Args:
        user: As whom to sign in to the bus of a data folder.

    Raises:
        CommandFailed: nothing runs there, or it does not answer.
        BadAddress: the URL is malformed, or the CA can't be read.
    """
    settings = read_settings(ServiceSettings)
    named = named_bus(nats=nats, data=data, settings=settings)
    url = named or _running_on(data, user)
    # The bus of a data folder is unencrypted, and its URL has the user and password.
    creds, ca = (settings.nats_creds, settings.nats_ca) if named else (None, None)
    async with connect_bus(url, name=name, creds=creds, ca=ca) as bus:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await bus.until_connected()
        except TimeoutError:
            raise CommandFailed(f"NATS at {without_passwords(url)} {why_away(bus)}") from None
        yield bus


def why_away(bus: Bus) -> str:
    """What is to be said after the name of a bus that we could not connect to."""
    if bus.not_allowed:  # it closes the connection then, which may be heard of in its place
        return f"does not let us in: {bus.not_allowed}"
    reason = f": {bus.last_error}" if bus.last_error else ""
    return f"does not answer{reason}"


def named_bus(*, nats: str | None, data: Path | None, settings: ServiceSettings) -> str | None:
    """The URL from the command line or the environment; None: use a data folder's bus."""
    by_environment = data is None and "nats_url" in settings.model_fields_set
    return nats or (settings.nats_url if by_environment else None)


def _running_on(data: Path | None, user: str) -> str:
    folder = DataFolder(data or DEFAULT_PATH)
    try:
        return folder.bus_url_file(user).read_text().strip()
    except FileNotFoundError:
        raise CommandFailed(
            f"nothing runs on {folder.path}: start `hubbub up`, or name a NATS server"
            " by --nats or HUBBUB_NATS_URL"
        ) from None
    except OSError as error:
        raise CommandFailed(f"cannot read {error.filename}: {error.strerror}") from error
