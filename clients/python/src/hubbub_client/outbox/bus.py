"""The bus as the relay's destination."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hubbub_client.beside import beside
from hubbub_client.bus.connecting import BusAddress, keep_signed_in
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable


class _Connection(NamedTuple):
    bus: Bus
    publisher: Publisher


class BusDestination:
    """Stores messages in JetStream, and says why it can't. Made by `to_bus`."""

    def __init__(self) -> None:
        self._connection: _Connection | None = None
        self._has_connection = asyncio.Event()

    async def use(self, bus: Bus, publisher: Publisher) -> None:
        """Publish over this connection, until cancelled."""
        self._connection = _Connection(bus, publisher)
        self._has_connection.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._has_connection.clear()

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, deadline_seconds: float
    ) -> PubAck:
        """As `Destination.publish` says."""
        reason = "there is no connection to the bus"
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._has_connection.wait()
                assert self._connection is not None
                reason = "the bus did not answer in time"
                return await self._connection.publisher.publish(
                    subject, payload, message_id=message_id, deadline_seconds=deadline_seconds
                )
        except (BusUnavailable, TimeoutError) as error:
            raise BusUnavailable(self._told(subject) or str(error) or reason) from error

    def _told(self, subject: str) -> str | None:
        """What the bus has said: it answers nothing to what it does not allow."""
        if self._connection is None:
            return None
        bus, _ = self._connection
        if not bus.connected:
            return bus.last_error
        refusal = bus.not_allowed
        return refusal if refusal and f'"{subject}"'.lower() in refusal.lower() else None


@asynccontextmanager
async def to_bus(
    url: str | Path, *, creds: Path | None = None, ca: Path | None = None
) -> AsyncGenerator[BusDestination]:
    """A destination on a connection of its own; the bus may be away now and come back later.

    When the connection has ended for good, as after a change of the password, another is made.

    Args:
        url: ``nats://user:password@host:4222``, or the file that has it, such as `up`'s
            ``.hubbub/bus/application_url``; it is read for each connection.
        creds: A file of NATS's own, instead of a password.
        ca: The authority of the servers' certificates; with it TLS is required, as by ``tls://``.

    Raises:
        OSError, BadAddress: before the body, as of `BusAddress.read`.
    """
    address = BusAddress(url, creds, ca)
    address.read()
    destination = BusDestination()
    begins_anew = LogEvent("outbox_connects_anew")
    async with beside(keep_signed_in(address, destination.use, begins_anew=begins_anew)):
        yield destination
