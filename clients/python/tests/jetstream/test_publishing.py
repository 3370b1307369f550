"""Publishing for services, on a real server."""

from uuid import uuid4

from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.publications import Publication
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus


async def test_a_publication_lies_in_its_channel_once_per_key(bus: Bus) -> None:
    channel, other = parse_channel(f"test:{uuid4()}.a"), parse_channel(f"test:{uuid4()}.b")

    async with start_publisher(bus) as publisher:
        first = await publish(publisher, channel, {"n": 1}, key="k")
        again = await publish(publisher, channel, {"n": 1}, key="k")
        elsewhere = await publish(publisher, other, {"n": 1}, key="k")
        without_a_key = await publish(publisher, channel, None)

    message = await StreamReader(bus, "RT").message(first.offset)
    assert message is not None
    assert Publication.decode(message.payload) == Publication(data={"n": 1})
    assert (again.offset, again.duplicate) == (first.offset, True)
    assert not elsewhere.duplicate
    assert not without_a_key.duplicate
