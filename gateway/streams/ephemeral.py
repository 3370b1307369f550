"""What is published for those who are there, such as that somebody types: past the streams.

It goes over the bus as it is, `eph.<channel>`, to all gateways, and comes back to this one by the
same way. Nothing of it is stored: whoever is away, or behind, never gets it.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from gateway.streams.feed import FanOut, channel_named_by
from gateway.streams.publishing import PublicationTooLong, PublishingLimits, encode
from hubbub_client.contracts.channels import BadChannelName
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import Publication, StoredPublication
from hubbub_client.contracts.subjects import EPHEMERAL, ephemeral_subject
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import MessageRejected


class EphemeralFeed:
    """Sends ephemeral publications, and hears those of all gateways and services."""

    def __init__(
        self,
        bus: Bus,
        *,
        fan_out: FanOut,
        may_deliver: Callable[[], bool],
        may_pass: Callable[[ChannelName], bool],
        on_unreadable: Callable[[int, str], None],
        limits: PublishingLimits,
    ) -> None:
        """All callbacks are synchronous.

        Args:
            may_deliver: Whether all are known now who may no longer be here.
            may_pass: Whether the channel takes what isn't stored; anybody may write to the bus.
            on_unreadable: Told of the offset, 0, and why nobody was given what came.
        """
        self._bus = bus
        self._fan_out = fan_out
        self._may_deliver = may_deliver
        self._may_pass = may_pass
        self._on_unreadable = on_unreadable
        self._limits = limits

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Give what comes to those who listen here, during the body."""
        subscription = await self._bus.subscribe(f"{EPHEMERAL}>", self._hear)
        try:
            yield
        finally:
            subscription.close()

    def publish(
        self, channel: ChannelName, publication: Publication, *, encoded: bytes | None = None
    ) -> None:
        """Send it to all gateways. Never waits, and nobody learns whether it arrived.

        Args:
            encoded: What `encode` gave for it, if it goes into other channels too.

        Raises:
            PublicationTooLong, PublicationRefused: it can never be sent.
            BusUnavailable: the bus is away.
        """
        payload = encoded
        if payload is None:
            payload = encode(publication, max_bytes=self._limits.max_payload_bytes)
        try:
            self._bus.send(ephemeral_subject(channel), payload)
        except MessageRejected as error:
            raise PublicationTooLong(self._bus.max_payload) from error

    def _hear(self, subject: bytes, payload: bytes, _headers: bytes | None, _reply: bytes) -> None:
        if not self._may_deliver():
            return
        token = subject.decode(errors="replace").removeprefix(EPHEMERAL)
        try:
            channel = channel_named_by(token)
        except BadChannelName as error:
            self._on_unreadable(0, str(error))
            return
        if self._may_pass(channel):
            self._fan_out(StoredPublication(0, channel, payload))
        else:
            self._on_unreadable(0, "ephemeral, in a channel that takes nothing so")
