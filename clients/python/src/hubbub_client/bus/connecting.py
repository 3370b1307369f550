"""Where the bus is, and a connection to it, as often as it takes."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from hubbub_client.cancellation import end_if_cancelled
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.address import BadAddress, check_servers, credentials_of, tls_context
from hubbub_client.nats.client import Bus, connect_bus

log = logging.getLogger(__name__)

USER = "application"
"""Who signs in, if the address names nobody."""
FIRST_PAUSE_SECONDS = 0.5
"""Before another connection, after one that ended for good; each pause is twice as long."""
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class BusAddress:
    """How to reach the bus."""

    url: str | Path = field(repr=False)  # it has the password
    """``nats://user:password@host:4222``, or the file that has it, which is read at each start."""
    creds: Path | None = None
    """A file of NATS's own, instead of a password."""
    ca: Path | None = None
    """The authority of the servers' certificates; with it TLS is required, as by ``tls://``."""

    def read(self) -> str:
        """The URL, as far as it can be checked without a server.

        Raises:
            OSError: a file can't be read.
            BadAddress: the URL is malformed, or the CA can't be read.
        """
        is_file = isinstance(self.url, Path)
        url = self.url.read_text().strip() if isinstance(self.url, Path) else self.url
        try:
            tls_context(check_servers(url), self.ca)
        except BadAddress as error:
            if is_file or "://" in url or "/" not in url:
                raise
            raise BadAddress(f"{error}; a file that has it is given as a Path") from None
        if self.creds is not None:
            self.creds.read_bytes()
        return url


async def keep_signed_in(
    address: BusAddress,
    work: Callable[[Bus, Publisher], Awaitable[None]],
    *,
    begins_anew: LogEvent,
    first_pause_seconds: float = FIRST_PAUSE_SECONDS,
) -> NoReturn:
    """Do the work with a connection, and anew with another one whenever that has ended for good.

    It is of the user in the URL. Whatever else ends it, it begins anew as well: nobody would notice
    that a part of an application has stopped.

    Args:
        begins_anew: Logged with the reason.
    """
    pause = first_pause_seconds
    while True:
        began_at = time.monotonic()
        try:
            url = address.read()
            user, _ = credentials_of(url.split(","))
            async with (
                connect_bus(url, name=user or USER, creds=address.creds, ca=address.ca) as bus,
                start_publisher(bus) as publisher,
            ):
                await work(bus, publisher)
        except Exception:  # whatever it is, it is told
            log.exception(begins_anew)
            end_if_cancelled()
        if time.monotonic() - began_at > LONGEST_PAUSE_SECONDS:
            pause = first_pause_seconds
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
