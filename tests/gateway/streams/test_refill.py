"""A ring after a start has what it would have had before."""

import asyncio
import uuid
from collections.abc import Callable
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams.feed import Feed
from gateway.streams.refill import RefillLimits, refill
from gateway.streams.ring import Ring
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from shared.runtime.process import running
from tests.gateway.streams.model_gateway import World, run
from tests.gateway.streams.model_stream import ModelStream

SMALL = RefillLimits(span=4, batch_count=3, batch_bytes=300)


class Starting(World):
    """A gateway that is caught up, though it goes on."""

    async def until_caught_up(self) -> None:
        pass


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_goes_on_meanwhile_the_ring_has_no_hole(data: st.DataObject) -> None:
    world = Starting(data)
    world.ring = Ring(max_count=data.draw(st.integers(1, 20)), max_bytes=10_000)
    world.steps_left = 0
    world.publish(data.draw(st.integers(0, 30)))
    world.position = world.stream.last
    world.stream.drop(data.draw(st.integers(0, 10)))
    world.steps_left = data.draw(st.integers(0, 10))
    if data.draw(st.booleans()):
        world.reset_at_step = data.draw(st.integers(1, 10))

    run(refill(cast(Feed, world), world.stream, SMALL))

    floor = min(world.ring.floor, world.position)
    held = world.stream.messages[floor : world.position]
    assert [world.ring.get(each.sequence) is not None for each in held] == [True] * len(held)
    assert len(world.ring) == len(held)


def test_it_is_filled_as_far_as_there_is_room_or_something_to_read() -> None:
    async def refilled(size: int, dropped: int) -> Ring:
        stream = ModelStream()
        for _ in range(20):
            stream.add(ChannelName("chat:a"), b"x")
        stream.drop(dropped)
        feed = Standing(stream, size)
        await refill(cast(Feed, feed), stream, SMALL)
        return feed.ring

    def floor(size: int, dropped: int = 0) -> int:
        return asyncio.run(refilled(size, dropped)).floor

    assert floor(size=100) == 0
    assert floor(size=10) == 10
    assert floor(size=100, dropped=7) == 7


class Standing(Starting):
    def __init__(self, stream: ModelStream, size: int) -> None:
        self.stream, self.position = stream, stream.last
        self.ring, self.epoch, self.resets = Ring(max_count=size, max_bytes=1000), stream.epoch, 0


async def test_the_ring_of_a_gateway_that_has_just_started_is_filled(
    bus: Bus, publisher: Publisher, a_channel: Callable[[], ChannelName]
) -> None:
    channel = a_channel()
    subject = publication_subject(channel)
    acks = [
        await publisher.publish(subject, b"{}", message_id=str(uuid.uuid4())) for _ in range(30)
    ]
    feed = Feed(bus, ring=Ring(max_count=100, max_bytes=100_000), fan_out=lambda _: None)
    async with running(feed.run):
        await refill(feed, StreamReader(bus, "RT"))

        found = feed.ring.after([channel], 0)
        assert [each.offset for each in found] == [ack.offset for ack in acks]
