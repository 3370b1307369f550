"""The bus as the relay's destination."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from hubbub_client.bus.connecting import BusAddress, sign_in
from hubbub_client.jetstream.publisher import PubAck, Publisher, start_publisher
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable


class BusDestination:
    """Stores messages in JetStream, and says why it can't."""

    def __init__(self, bus: Bus, publisher: Publisher) -> None:
        self._bus = bus
        self._publisher = publisher

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, deadline_seconds: float
    ) -> PubAck:
        """As `Destination.publish` says."""
        try:
            return await self._publisher.publish(
                subject, payload, message_id=message_id, deadline_seconds=deadline_seconds
            )
        except BusUnavailable as error:
            raise BusUnavailable(self._reason(subject) or str(error)) from error

    def _reason(self, subject: str) -> str | None:
        """What the bus has said: it answers nothing to what it does not allow."""
        if not self._bus.connected:
            return self._bus.last_error
        refusal = self._bus.not_allowed
        return refusal if refusal and f'"{subject}"'.lower() in refusal.lower() else None


@asynccontextmanager
async def to_bus(
    url: str | Path, *, creds: Path | None = None, ca: Path | None = None
) -> AsyncGenerator[BusDestination]:
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
        yield BusDestination(bus, publisher)
