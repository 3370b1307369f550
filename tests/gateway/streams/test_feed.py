"""The feed on a real stream."""

import uuid
from collections.abc import Callable
from datetime import datetime

from gateway.streams.feed import Feed, Reason
from gateway.streams.ring import Ring
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually


def a_ring() -> Ring:
    return Ring(max_count=1000, max_bytes=1_000_000)


async def test_each_publication_reaches_the_ring_and_then_the_listeners_in_order(
    bus: Bus, publisher: Publisher, a_channel: Callable[[], ChannelName]
) -> None:
    channel = a_channel()
    heard: list[StoredPublication] = []

    def fan_out(publication: StoredPublication) -> None:
        assert feed.ring.get(publication.offset) is publication
        assert feed.position == publication.offset
        assert datetime.fromisoformat(publication.time).tzinfo is not None
        heard.append(publication)

    feed = Feed(bus, ring=a_ring(), fan_out=fan_out)
    async with running(feed.run):
        await feed.until_caught_up()
        offsets = [
            (
                await publisher.publish(
                    publication_subject(channel), b"%d" % number, message_id=str(uuid.uuid4())
                )
            ).offset
            for number in range(10)
        ]
        await eventually(lambda: len(heard) == 10)

    assert [each[:3] for each in heard] == [
        (offset, channel, b"%d" % number) for number, offset in enumerate(offsets)
    ]
    assert feed.epoch


async def test_a_dot_in_a_channel_survives_the_journey(
    bus: Bus, publisher: Publisher, a_channel: Callable[[], ChannelName]
) -> None:
    channel = ChannelName(f"{a_channel()}.with.dots")
    heard: list[ChannelName] = []

    feed = Feed(bus, ring=a_ring(), fan_out=lambda publication: heard.append(publication.channel))
    async with running(feed.run):
        await feed.until_caught_up()
        await publisher.publish(publication_subject(channel), b"{}", message_id=str(uuid.uuid4()))
        await eventually(lambda: bool(heard))

    assert heard == [channel]


async def test_a_subject_that_names_no_channel_is_counted_and_stepped_over(
    bus: Bus, publisher: Publisher, a_channel: Callable[[], ChannelName]
) -> None:
    channel = a_channel()
    heard: list[ChannelName] = []
    undecodable: list[int] = []

    feed = Feed(
        bus,
        ring=a_ring(),
        fan_out=lambda publication: heard.append(publication.channel),
        on_undecodable=lambda offset, _reason: undecodable.append(offset),
    )
    async with running(feed.run):
        await feed.until_caught_up()
        for subject in ("rt.pub.a.b", "rt.pub.a%zz", publication_subject(channel)):
            await publisher.publish(subject, b"{}", message_id=str(uuid.uuid4()))
        await eventually(lambda: bool(heard))

    assert heard == [channel]
    assert len(undecodable) == 2


async def test_a_listener_that_fails_does_not_stop_the_feed(
    bus: Bus, publisher: Publisher, a_channel: Callable[[], ChannelName]
) -> None:
    channel = a_channel()
    heard: list[bytes] = []

    def fan_out(publication: StoredPublication) -> None:
        heard.append(publication.payload)
        if publication.payload == b"bad":
            raise ValueError("nobody can read that")

    feed = Feed(bus, ring=a_ring(), fan_out=fan_out)
    async with running(feed.run):
        await feed.until_caught_up()
        for payload in (b"bad", b"good"):
            await publisher.publish(
                publication_subject(channel), payload, message_id=str(uuid.uuid4())
            )
        await eventually(lambda: len(heard) == 2)

    assert heard == [b"bad", b"good"]


async def test_a_jump_is_told_once_the_ring_is_empty_as_too_old_or_as_another_epoch(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, told = nats_server(), list[Reason]()
    subject = publication_subject(ChannelName("chat:a"))
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)

        async def publish() -> int:
            message_id = str(uuid.uuid4())
            return (await publisher.publish(subject, b"{}", message_id=message_id)).offset

        def note(reason: Reason) -> None:
            assert feed.last_reset is reason
            assert feed.ring.get(before) is None
            told.append(reason)
            assert feed.resets == len(told)

        feed = Feed(
            bus,
            ring=Ring(max_count=100, max_bytes=10_000),
            fan_out=lambda *_: None,
            on_reset=note,
        )
        async with running(feed.run):
            await feed.until_caught_up()
            before = await publish()
            await eventually(lambda: feed.ring.get(before) is not None)

        last = [await publish() for _ in range(3)][-1]
        await bus.request("$JS.API.STREAM.PURGE.RT", b'{"seq":%d}' % last, timeout_seconds=20)
        async with running(feed.run):
            await eventually(lambda: told == [Reason.TOO_OLD])
            await feed.until_caught_up()
            before = await publish()
            await eventually(lambda: feed.ring.get(before) is not None)

        await bus.request("$JS.API.STREAM.DELETE.RT", b"", timeout_seconds=20)
        await bootstrap(bus)
        async with running(feed.run):
            await eventually(lambda: told == [Reason.TOO_OLD, Reason.EPOCH])
