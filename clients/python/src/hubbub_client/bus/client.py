"""The client that publishes over the bus: fewer commands than over HTTP, and the same results."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hubbub_client.arguments import User, listed, user_id
from hubbub_client.beside import beside
from hubbub_client.bus.connecting import USER, BusAddress, keep_signed_in
from hubbub_client.bus.publications import encode, encode_ephemeral, is_same_data
from hubbub_client.contracts.envelope import Encoded, encode_event
from hubbub_client.contracts.subjects import parse_application
from hubbub_client.errors import (
    BadRequest,
    HubbubError,
    IdempotencyKeyReused,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from hubbub_client.events import Event, to_notification
from hubbub_client.exchange import Limits
from hubbub_client.jetstream.api import JetStreamApi, StoredMessage
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.log_events import LogEvent
from hubbub_client.nats.client import TOO_LARGE, Bus
from hubbub_client.nats.errors import BusUnavailable, MessageRejected
from hubbub_client.publishing import Publish, a_key, positions_of
from hubbub_client.results import Position

DEFAULT_LIMITS = Limits()
RETRY_SECONDS = 0.2
AT_ONCE = 500
"""Of many publications; the publisher's own window is larger."""


class BusHubbub:
    """Publishes over the bus. One object serves a whole application. Made by `connect`.

    What differs from `Hubbub`, over HTTP: nobody looks whether a channel's namespace exists, or
    what its options are. Each method may raise a `HubbubError`, as there.
    """

    def __init__(self, *, service: str, limits: Limits) -> None:
        self.service = service
        self._limits = limits
        self._connection: _Connection | None = None
        self._has_connection = asyncio.Event()
        self._epoch = ""
        self._asking = asyncio.Lock()

    async def publish(
        self,
        channel: str,
        data: object,
        *,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        delta: bool = False,
    ) -> Position:
        """Publish into a channel; return when it is stored.

        Args:
            data: An event, or any JSON value.
            idempotency_key: For 5 minutes, a channel gets one publication with the same key.
            tags: What subscribers may filter by.
            delta: Whether subscribers may be sent a patch of the publication before it.
        """
        return await self._store(encode(Publish(channel, data, idempotency_key, tags, delta)))

    async def publish_ephemeral(
        self, channel: str, data: object, *, tags: dict[str, str] | None = None
    ) -> None:
        """Publish to those who are in a channel now; nothing of it is stored.

        Whether anybody got it is not known.
        """
        subject, payload = encode_ephemeral(Publish(channel, data, tags=tags))
        async with self._in_time() as connection:
            await connection.bus.until_connected()
            connection.bus.send(subject, payload)

    async def notify(
        self, user: User, event: object, *, idempotency_key: str | None = None
    ) -> Position:
        """Tell a user of an event, on all of their connections.

        Args:
            event: A model, or a mapping that says its name as `event`.
            idempotency_key: Subscribers see it as the `id` of the event.

        Raises:
            ValueError: it is no event.
        """
        key = idempotency_key or a_key()
        data = to_notification(event, key)
        return await self.publish(f"#{user_id(user)}", data, idempotency_key=key)

    async def broadcast(
        self,
        channels: Iterable[str],
        data: object,
        *,
        idempotency_key: str | None = None,
        tags: dict[str, str] | None = None,
        delta: bool = False,
    ) -> list[Position]:
        """Publish the same into many channels.

        Raises:
            ValueError: the channels are a text instead of a list.
            PartlyPublished: some did not get it; its `outcomes` say which.
        """
        key = idempotency_key or a_key()
        return await self.publish_many(
            Publish(channel, data, key, tags, delta) for channel in listed(channels)
        )

    async def publish_many(self, publications: Iterable[Publish]) -> list[Position]:
        """Publish many, in their order but for those that have to be sent again.

        Raises:
            PartlyPublished: some were not stored; its `outcomes` say which.
        """
        encoded = [_encoded_or_error(each) for each in publications]
        outcomes: list[Position | HubbubError] = []
        for begin in range(0, len(encoded), AT_ONCE):
            some = encoded[begin : begin + AT_ONCE]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._outcome(each)) for each in some]
            outcomes += [task.result() for task in tasks]
            if isinstance(outcomes[-1], Unauthorized | Unavailable):
                outcomes += [outcomes[-1]] * (len(encoded) - len(outcomes))  # the same awaits them
                break
        return positions_of(_with_one_outage(outcomes))

    async def emit(
        self,
        event: Event,
        *,
        recipients: Iterable[User] = (),
        channels: Iterable[str] = (),
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> str:
        """Tell all services of an event; return its id once it is stored.

        It is published on ``events.<service>.<name>``, where consumers of events hear it.

        Args:
            event: A model.
            recipients: Users who are notified of it.
            channels: That get it too.
            idempotency_key: For 10 minutes, an event of this name is stored once with it.
            traceparent: W3C trace context of what caused it.

        Raises:
            ValueError: it is no event, or a user or channel is none.
            TooLarge: as an event it is.
        """
        encoded = encode_event(
            event,
            service=self.service,
            recipients=recipients,
            channels=channels,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )
        async with self._in_time() as connection:
            await self._publish(connection, encoded)
        return encoded.message_id

    async def use(self, bus: Bus, publisher: Publisher) -> None:
        """Publish over this connection, until cancelled."""
        detach = bus.on_connected(self._forget_epoch)
        self._connection = _Connection(bus, publisher, JetStreamApi(bus))
        self._has_connection.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._has_connection.clear()
            detach()

    def _forget_epoch(self) -> None:
        """After a reconnect it may be another stream."""
        self._epoch = ""

    async def _outcome(self, encoded: Encoded | HubbubError) -> Position | HubbubError:
        if isinstance(encoded, HubbubError):
            return encoded
        try:
            return await self._store(encoded)
        except HubbubError as error:
            return error

    async def _store(self, encoded: Encoded) -> Position:
        async with self._in_time() as connection:
            # First: nothing is stored if it can't be known.
            epoch = await self._known_epoch(connection)
            ack = await self._publish(connection, encoded)
            if ack.duplicate:
                await self._check_it_is_the_same(connection, ack, encoded)
            if epoch != self._epoch:
                epoch = await self._known_epoch(connection)
        return Position(ack.offset, epoch)

    async def _publish(self, connection: "_Connection", encoded: Encoded) -> PubAck:
        return await connection.publisher.publish(
            encoded.subject,
            encoded.payload,
            message_id=encoded.message_id,
            deadline_seconds=self._limits.deadline_seconds,
        )

    async def _known_epoch(self, connection: "_Connection") -> str:
        async with self._asking:
            while not self._epoch:
                await connection.bus.until_connected()
                try:
                    self._epoch = (await connection.api.stream_info("RT")).state.epoch
                except BusUnavailable:
                    await asyncio.sleep(RETRY_SECONDS)
            return self._epoch

    async def _check_it_is_the_same(
        self, connection: "_Connection", ack: PubAck, encoded: Encoded
    ) -> None:
        """What is stored no more is taken to be the same, as gateways do.

        Raises:
            IdempotencyKeyReused: other data is stored under its key.
        """
        stored = await self._stored_at(connection, ack.offset)
        if stored is not None and not is_same_data(stored.payload, encoded.payload):
            raise IdempotencyKeyReused("other data was published with this key")

    async def _stored_at(self, connection: "_Connection", offset: int) -> StoredMessage | None:
        while True:
            try:
                return await connection.api.get_message("RT", {"seq": offset})
            except BusUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
                await connection.bus.until_connected()

    @asynccontextmanager
    async def _in_time(self) -> AsyncGenerator["_Connection"]:
        """A connection, within the deadline, and the errors of the bus as those of commands."""
        bus, refusals = None, 0
        try:
            async with asyncio.timeout(self._limits.deadline_seconds):
                await self._has_connection.wait()
                assert self._connection is not None
                bus = self._connection.bus
                refusals = bus.refusals
                yield self._connection
        except (BusUnavailable, TimeoutError) as error:
            if bus is not None and bus.not_allowed and bus.refusals > refusals:
                raise Unauthorized(bus.not_allowed) from error
            raise Unavailable(str(error) or "the bus did not answer in time") from error
        except MessageRejected as rejected:
            kind = TooLarge if rejected.err_code == TOO_LARGE else BadRequest
            raise kind(str(rejected)) from rejected


class _Connection(NamedTuple):
    bus: Bus
    publisher: Publisher
    api: JetStreamApi


@asynccontextmanager
async def connect(
    url: str | Path,
    *,
    service: str = USER,
    creds: Path | None = None,
    ca: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> AsyncGenerator[BusHubbub]:
    """A client that connects in the background, and again whenever the connection is lost.

    Once the body has begun it raises nothing, even if the servers closed the connection for good.

    Args:
        url: ``nats://user:password@host:4222``, several with commas between them, or the file that
            has it, such as `up`'s ``.hubbub/bus/application_url``.
        service: Who emits events.
        creds: A file of NATS's own, instead of a password.
        ca: The authority of the servers' certificates; with it TLS is required, as by ``tls://``.

    Raises:
        ValueError: the service can't be called so, or the URL is malformed.
        OSError: the file can't be read.
    """
    hubbub = BusHubbub(service=parse_application(service), limits=limits)
    address = BusAddress(url, creds, ca)
    address.read()
    begins_anew = LogEvent("bus_client_begins_anew", service=service)
    async with beside(keep_signed_in(address, hubbub.use, begins_anew=begins_anew)):
        yield hubbub


def _encoded_or_error(publication: Publish) -> Encoded | HubbubError:
    try:
        return encode(publication)
    except HubbubError as error:
        return error


def _with_one_outage(
    outcomes: Sequence[Position | HubbubError],
) -> Sequence[Position | HubbubError]:
    """If all failed since the bus is away, all failed by the same error."""
    if outcomes and all(isinstance(each, Unavailable | Unauthorized) for each in outcomes):
        return [outcomes[0]] * len(outcomes)
    return outcomes
