"""The relay as a command, beside an application of any kind: ``python -m hubbub_client.outbox``.

All that it is told may stand in the environment, where secrets belong.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from hubbub_client.nats.address import BadAddress
from hubbub_client.outbox.destination import Destination
from hubbub_client.outbox.gateway import to_gateway
from hubbub_client.outbox.relay import prepare, run_relay
from hubbub_client.sql.database import DatabaseLimits, connect_database, database_url
from hubbub_client.sql.postgres import BadDatabaseUrl

LIMITS = DatabaseLimits(pool_connections=2)


class CannotRelay(Exception):
    """What is wrong, in a line for whoever has started it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where messages are, and where they go."""

    database: URL
    destination: AbstractAsyncContextManager[Destination]


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """
    Raises:
        CannotRelay: something is missing or malformed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m hubbub_client.outbox",
        description="Send what an application's outbox holds, until stopped.",
    )

    def option(name: str, variable: str, text: str) -> None:
        parser.add_argument(
            name, default=environment.get(variable), metavar="…", help=f"{text} ({variable})"
        )

    option("--database", "HUBBUB_OUTBOX_DATABASE_URL", "URL of the application's database")
    option("--nats", "HUBBUB_NATS_URL", "URL of the bus with user and password, or a file of it")
    option("--nats-creds", "HUBBUB_NATS_CREDS", "file with credentials, instead of those")
    option("--nats-ca", "HUBBUB_NATS_CA", "file with the authority of the bus's certificate")
    option("--gateway", "HUBBUB_URL", "URL of a gateway, for who has no user of the bus")
    option("--api-key", "HUBBUB_API_KEY", "the gateway's key")
    given = parser.parse_args(arguments)
    if not given.database:
        raise CannotRelay("no database: --database, or HUBBUB_OUTBOX_DATABASE_URL")
    try:
        database = database_url(given.database)
    except BadDatabaseUrl as error:
        raise CannotRelay(f"the database: {error}") from error
    if given.nats and given.gateway:
        raise CannotRelay("two destinations: --nats (HUBBUB_NATS_URL), --gateway (HUBBUB_URL)")
    if given.nats:
        return Settings(database, _bus(given.nats, creds=given.nats_creds, ca=given.nats_ca))
    if not (given.gateway and given.api_key):
        raise CannotRelay("no destination: --nats, or --gateway with --api-key")
    try:
        return Settings(database, to_gateway(given.gateway, given.api_key))
    except ValueError as error:
        raise CannotRelay(f"the gateway: {error}") from error


def _bus(
    url: str, *, creds: str | None, ca: str | None
) -> AbstractAsyncContextManager[Destination]:
    try:
        from hubbub_client.outbox.bus import to_bus
    except ImportError as error:
        raise CannotRelay(str(error)) from error
    return to_bus(
        url if "://" in url else Path(url),
        creds=Path(creds) if creds else None,
        ca=Path(ca) if ca else None,
    )


async def relay_until_signal(settings: Settings) -> None:
    """
    Raises:
        CannotRelay: it can't go on.
    """
    loop, relay = asyncio.get_running_loop(), asyncio.current_task()
    assert relay is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.cancel)
    try:
        async with (
            settings.destination as destination,
            connect_database(settings.database, limits=LIMITS) as sessions,
        ):
            await prepare(sessions)
            await run_relay(sessions, destination, asyncio.Event())
    except asyncio.CancelledError:
        return  # by a signal, and nobody else could
    except (BadAddress, OSError) as error:  # OSError: of a file with the address
        raise CannotRelay(str(error)) from error
    except DBAPIError as error:
        raise CannotRelay(f"the outbox: {str(error.orig).partition(chr(10))[0]}") from error


def main() -> None:
    """Relay until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        settings = read_settings(sys.argv[1:], os.environ)  # noqa: TID251 — it is the process's
        asyncio.run(relay_until_signal(settings))
    except CannotRelay as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
