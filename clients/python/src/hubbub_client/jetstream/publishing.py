"""Publishing into channels, for backend services."""

from typing import Any
from uuid import uuid4

from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import Publication
from hubbub_client.contracts.subjects import api_message_id, ephemeral_subject, publication_subject
from hubbub_client.jetstream.publisher import PubAck, Publisher
from hubbub_client.nats.client import Bus


async def publish(
    publisher: Publisher,
    channel: ChannelName,
    data: Any,
    *,
    key: str | None = None,
    deadline_seconds: float = 5.0,
) -> PubAck:
    """Publish any JSON value into a channel; return when it is stored.

    Args:
        key: Within the dedupe window a channel stores the same key once.

    Raises:
        BusUnavailable: it may be stored or not; try again with the same key.
        MessageRejected: it can never be stored, such as for its size.
        BadPublication: not every reader could read it.
    """
    return await publisher.publish(
        publication_subject(channel),
        Publication(data=data).encode(),
        message_id=api_message_id(channel, key or str(uuid4())),
        deadline_seconds=deadline_seconds,
    )


def publish_ephemeral(bus: Bus, channel: ChannelName, data: Any) -> None:
    """Publish any JSON value to those who are in a channel now. Nobody learns whether it arrived.

    Raises:
        BusUnavailable: the bus is away, so nobody gets it.
        MessageRejected: nobody ever can, such as for its size.
        BadPublication: not every reader could read it.
    """
    bus.send(ephemeral_subject(channel), Publication(data=data).encode())
