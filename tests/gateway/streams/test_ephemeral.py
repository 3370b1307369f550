"""What is published for those who are there, between gateways on a real bus."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.streams.ephemeral import EphemeralFeed
from gateway.streams.publishing import (
    PublicationRefused,
    PublicationTooLong,
    PublishingLimits,
)
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import Publication, StoredPublication
from hubbub_client.contracts.subjects import EPHEMERAL, ephemeral_subject, publication_subject
from hubbub_client.jetstream.publishing import publish_ephemeral
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, BusUnavailable
from tests.fixtures.waiting import eventually

MAX_BYTES = 100


@dataclass
class Listening:
    """A gateway, as far as this goes."""

    feed: EphemeralFeed
    heard: list[StoredPublication]
    unreadable: list[str]
    state: dict[str, bool] = field(default_factory=dict)

    def data(self, channel: ChannelName) -> list[object]:
        return [
            Publication.decode(each.payload).data for each in self.heard if each.channel == channel
        ]


@asynccontextmanager
async def listening(
    bus: Bus, *, may_pass: Callable[[ChannelName], bool] = lambda _channel: True
) -> AsyncGenerator[Listening]:
    heard: list[StoredPublication] = []
    unreadable: list[str] = []
    state = {"knows": True}
    feed = EphemeralFeed(
        bus,
        fan_out=heard.append,
        may_deliver=lambda: state["knows"],
        may_pass=may_pass,
        on_unreadable=lambda _offset, reason: unreadable.append(reason),
        limits=PublishingLimits(deadline_seconds=5, max_payload_bytes=MAX_BYTES),
    )
    async with feed.listening():
        yield Listening(feed, heard, unreadable, state)


async def test_all_hear_it_in_the_order_of_its_publisher_and_no_stream_has_it(
    bus: Bus, a_channel: Callable[[], ChannelName]
) -> None:
    channel = a_channel()
    async with listening(bus) as one, listening(bus) as two:
        for number in range(3):
            one.feed.publish(channel, Publication(number))
        publish_ephemeral(bus, channel, {"by": "a service"})

        said = [0, 1, 2, {"by": "a service"}]
        await eventually(lambda: one.data(channel) == two.data(channel) == said)
        assert all(each.is_ephemeral for each in one.heard)
    assert await StreamReader(bus, "RT").last_of(publication_subject(channel)) is None


async def test_while_it_is_not_known_who_was_signed_out_nobody_hears_anything(
    bus: Bus, a_channel: Callable[[], ChannelName]
) -> None:
    channel = a_channel()
    async with listening(bus) as one, listening(bus) as two:
        one.state["knows"] = False
        one.feed.publish(channel, Publication("unheard"))
        await eventually(lambda: two.data(channel) == ["unheard"])
        one.state["knows"] = True
        one.feed.publish(channel, Publication("heard"))

        await eventually(lambda: one.data(channel) == ["heard"])


async def test_what_came_around_the_checks_is_counted_and_passed_over(
    bus: Bus, a_channel: Callable[[], ChannelName]
) -> None:
    channel, closed = a_channel(), a_channel()
    async with listening(bus, may_pass=lambda asked: asked != closed) as one:
        bus.send(f"{EPHEMERAL}a.b", b"{}")
        bus.send(f"{EPHEMERAL}%zz", b"{}")
        bus.send(ephemeral_subject(closed), Publication(1).encode())
        one.feed.publish(channel, Publication(2))

        await eventually(lambda: one.data(channel) == [2])
        assert len(one.unreadable) == 3
        assert one.data(closed) == []


async def test_what_can_never_be_sent_is_refused(
    bus: Bus, a_channel: Callable[[], ChannelName]
) -> None:
    async with listening(bus) as one:
        with pytest.raises(PublicationTooLong):
            one.feed.publish(a_channel(), Publication("x" * MAX_BYTES))
        with pytest.raises(PublicationRefused):
            one.feed.publish(a_channel(), Publication(float("nan")))


async def test_without_a_bus_the_publisher_is_told(a_channel: Callable[[], ChannelName]) -> None:
    nowhere = Bus(inbox_prefix="_INBOX_test", max_pending_bytes=1000)
    async with listening(nowhere) as one:
        with pytest.raises(BusUnavailable):
            one.feed.publish(a_channel(), Publication(1))
