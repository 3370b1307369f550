"""The bus as the relay's destination."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from hubbub_client.bus.connecting import BusAddress, sign_in
from hubbub_client.jetstream.publisher import Publisher, start_publisher


@asynccontextmanager
async def to_bus(
    url: str | Path, *, creds: Path | None = None, ca: Path | None = None
) -> AsyncGenerator[Publisher]:
    """A destination on a connection of its own; the bus may be away now and come back later.

    Args:
        url: ``nats://user:password@host:4222``, or the file that has it, such as `up`'s
            ``.hubbub/bus/application_url``.
        creds: A file of NATS's own, instead of a password.
        ca: The authority of the servers' certificates; with it TLS is required, as by ``tls://``.

    Raises:
        OSError, BadAddress, BusLost: as of `sign_in`.
    """
    async with sign_in(BusAddress(url, creds, ca)) as bus, start_publisher(bus) as publisher:
        yield publisher
