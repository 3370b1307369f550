"""The bus as the relay's destination."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import connect_bus


@asynccontextmanager
async def to_bus(
    url: str, *, creds: Path | None = None, ca: Path | None = None, name: str = "application"
) -> AsyncGenerator[Publisher]:
    """A destination on a connection of its own; the bus may be away now and come back later.

    Args:
        url: As of `connect_bus`, with the user ``application`` and its password.
        name: Under which the user may get answers: the server's accounts say it.

    Raises:
        BusLost, BadAddress: as of `connect_bus`.
    """
    async with connect_bus(url, name=name, creds=creds, ca=ca) as bus, start_publisher(bus) as made:
        yield made
