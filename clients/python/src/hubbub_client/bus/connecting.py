"""Where the bus is: a URL with user and password, or the file that has it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hubbub_client.nats.address import credentials_of
from hubbub_client.nats.client import Bus, connect_bus

USER = "application"
"""Who signs in, if the address names nobody."""


class BusAddress(NamedTuple):
    """How to reach the bus."""

    url: str | Path
    """``nats://user:password@host:4222``, or the file that has it, which is read at each start."""
    creds: Path | None = None
    """A file of NATS's own, instead of a password."""
    ca: Path | None = None
    """The authority of the servers' certificates; with it TLS is required, as by ``tls://``."""


@asynccontextmanager
async def sign_in(address: BusAddress) -> AsyncGenerator[Bus]:
    """A bus that connects in the background, as the user in the URL.

    Raises:
        OSError: the file can't be read.
        BadAddress: the CA can't be read; or, in the body, the URL is malformed.
        BusLost: in the body, if the connection was closed for good.
    """
    url, creds, ca = address
    if isinstance(url, Path):
        url = url.read_text().strip()
    user, _ = credentials_of(url.split(","))
    async with connect_bus(url, name=user or USER, creds=creds, ca=ca) as bus:
        yield bus
