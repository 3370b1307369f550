"""Catching up on a real stream: what is replayed, what is refused, and from where."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest

from gateway.streams.catch_up import CatchUp, CatchUpLimits
from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.history import History
from gateway.streams.ring import Ring
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.nats.errors import BusUnavailable
from shared.jetstream.limits import FollowerLimits
from shared.jetstream.stream_configs import StreamSettings
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from tests.fixtures.nats import NatsServer
from tests.fixtures.waiting import eventually

Publish = Callable[[ChannelName], Awaitable[int]]
LIMITS = CatchUpLimits(replay_limit=1000)


def a_ring(max_count: int = 1000) -> Ring:
    return Ring(max_count=max_count, max_bytes=1_000_000)


def a_catch_up(feed: Feed, history: History, limits: CatchUpLimits = LIMITS) -> CatchUp:
    return CatchUp(feed, SharedReads(feed, history), limits)


class Client:
    """Remembers what it was sent, and from where on it is live."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.live_from: int | None = None
        self.drains = 0

    def send(self, batch: list[StoredPublication]) -> None:
        self.got += [each.offset for each in batch]

    def go_live(self, from_offset: int) -> None:
        self.live_from = from_offset

    async def drained(self) -> None:
        self.drains += 1


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def room(a_channel: Callable[[], ChannelName]) -> ChannelName:
    return a_channel()


@pytest.fixture
def personal(a_channel: Callable[[], ChannelName]) -> ChannelName:
    return ChannelName(a_channel().replace("chat:", "#"))


@pytest.fixture
async def feed(bus: Bus) -> AsyncGenerator[Feed]:
    """A follower with a ring of three publications."""
    feed = Feed(bus, ring=a_ring(max_count=3), fan_out=lambda *_: None)
    async with running(feed.run):
        await feed.until_caught_up()
        yield feed


@pytest.fixture
def publish(publisher: Publisher, feed: Feed) -> Publish:
    """Publishes, and waits until the feed has it."""

    async def publish(channel: ChannelName) -> int:
        subject = publication_subject(channel)
        stored = await publisher.publish(subject, b"{}", message_id=str(uuid.uuid4()))
        await eventually(lambda: feed.position >= stored.offset)
        return stored.offset

    return publish


async def come_back(
    catch_up: CatchUp,
    client: Client,
    channels: list[ChannelName],
    offset: int,
    epoch: str | None = None,
) -> None:
    await catch_up.run(
        channels,
        offset,
        epoch,
        send=client.send,
        drained=client.drained,
        go_live=client.go_live,
    )


async def test_a_newcomer_is_live_at_once_and_is_sent_nothing(
    feed: Feed, history: History, publish: Publish, client: Client, room: ChannelName
) -> None:
    await publish(room)

    await come_back(a_catch_up(feed, history), client, [room], feed.position)

    assert client.got == []
    assert client.live_from == feed.position + 1


async def test_what_the_ring_holds_is_replayed_without_waiting(
    feed: Feed, history: History, publish: Publish, client: Client, room: ChannelName
) -> None:
    before = await publish(room)
    missed = [await publish(room), await publish(room)]

    await come_back(a_catch_up(feed, history), client, [room], before, feed.epoch)

    assert client.got == missed
    assert client.live_from == feed.position + 1
    assert client.drains == 0


async def test_what_the_ring_no_longer_holds_comes_from_the_stream_in_batches_and_in_order(
    feed: Feed,
    history: History,
    publish: Publish,
    client: Client,
    room: ChannelName,
    personal: ChannelName,
) -> None:
    before = await publish(room)
    missed = [await publish(channel) for channel in [room, personal, room] * 10]
    catch_up = a_catch_up(feed, history, replace(LIMITS, batch_count=4))

    await come_back(catch_up, client, [room, personal], before, feed.epoch)

    assert client.got == missed
    assert client.live_from == feed.position + 1
    assert client.drains >= 7


async def test_a_gateway_that_has_just_started_replays_from_the_stream(
    bus: Bus, history: History, feed: Feed, publish: Publish, client: Client, room: ChannelName
) -> None:
    before = await publish(room)
    missed = [await publish(room) for _ in range(5)]
    fresh = Feed(bus, ring=a_ring(), fan_out=lambda *_: None)

    async with running(fresh.run):
        await fresh.until_caught_up()
        await come_back(a_catch_up(fresh, history), client, [room], before, feed.epoch)

    assert client.got == missed
    assert client.live_from is not None


async def test_who_comes_from_a_gateway_that_was_ahead_is_live_after_its_own_offset(
    feed: Feed, history: History, publish: Publish, client: Client, room: ChannelName
) -> None:
    ahead = await publish(room)
    behind = FrozenFeed(feed, position=ahead - 1)

    await come_back(a_catch_up(cast(Feed, behind), history), client, [room], ahead, feed.epoch)

    assert client.got == []
    assert client.live_from == ahead + 1


class FrozenFeed:
    """The feed, as it stood a moment ago."""

    def __init__(self, feed: Feed, position: int) -> None:
        self.ring = feed.ring
        self.resets = feed.resets
        self.last_reset = feed.last_reset
        self.epoch = feed.epoch
        self.position = position


async def test_an_offset_that_was_never_given_is_ahead(
    feed: Feed, history: History, publish: Publish, client: Client, room: ChannelName
) -> None:
    offset = await publish(room)

    with pytest.raises(Unrecoverable) as caught:
        await come_back(a_catch_up(feed, history), client, [room], offset + 1_000_000)

    assert caught.value.reason is Reason.AHEAD
    assert (client.got, client.live_from) == ([], None)


async def test_an_offset_of_another_epoch_is_refused(
    feed: Feed, history: History, publish: Publish, client: Client, room: ChannelName
) -> None:
    offset = await publish(room)

    with pytest.raises(Unrecoverable) as caught:
        await come_back(a_catch_up(feed, history), client, [room], offset, "another")

    assert caught.value.reason is Reason.EPOCH
    assert (client.got, client.live_from) == ([], None)


@pytest.mark.parametrize("missed", [2, 10])  # in the ring, and below its floor
async def test_more_than_the_limit_is_refused_before_anything_is_sent(
    feed: Feed,
    history: History,
    publish: Publish,
    client: Client,
    room: ChannelName,
    personal: ChannelName,
    missed: int,
) -> None:
    before = await publish(room)
    for number in range(missed):
        await publish([room, personal][number % 2])

    with pytest.raises(Unrecoverable) as caught:
        await come_back(
            a_catch_up(feed, history, CatchUpLimits(replay_limit=missed - 1)),
            client,
            [room, personal],
            before,
        )
    assert caught.value.reason is Reason.TOO_MANY
    assert (client.got, client.live_from) == ([], None)

    exactly = a_catch_up(feed, history, CatchUpLimits(replay_limit=missed))
    await come_back(exactly, client, [room, personal], before)
    assert len(client.got) == missed


async def test_an_offset_that_the_stream_no_longer_continues_from_is_too_old(
    nats_server: Callable[[], NatsServer], client: Client, room: ChannelName
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus, StreamSettings(rt_max_bytes=4000))
        history = History(StreamReader(bus, "RT"))
        subject = publication_subject(room)
        for number in range(20):
            await publisher.publish(subject, bytes(400), message_id=str(number))
        feed = Feed(bus, ring=a_ring(), fan_out=lambda *_: None)
        async with running(feed.run):
            await feed.until_caught_up()
            first = (await history.state()).first
            assert first > 2

            with pytest.raises(Unrecoverable) as caught:
                await come_back(a_catch_up(feed, history), client, [room], first - 2, feed.epoch)
            assert caught.value.reason is Reason.TOO_OLD
            assert (client.got, client.live_from) == ([], None)

            await come_back(a_catch_up(feed, history), client, [room], first - 1, feed.epoch)
            assert client.got == list(range(first, 21))


async def test_a_stream_made_anew_during_a_replay_ends_it(
    nats_server: Callable[[], NatsServer], client: Client, room: ChannelName
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        resets: list[Reason] = []
        feed = Feed(
            bus,
            ring=a_ring(),
            fan_out=lambda *_: None,
            on_reset=resets.append,
            limits=FollowerLimits(verify_seconds=0.1, idle_seconds=0.1),
        )
        async with running(feed.run):
            await feed.until_caught_up()
            for number in range(5):
                subject = publication_subject(room)
                await publisher.publish(subject, b"{}", message_id=str(number))
            await eventually(lambda: feed.position == 5)

            async def make_anew() -> None:
                await bus.request("$JS.API.STREAM.DELETE.RT", b"", timeout_seconds=20)
                await bootstrap(bus)
                await eventually(lambda: bool(resets), seconds=30)

            catch_up = a_catch_up(
                feed, History(StreamReader(bus, "RT")), replace(LIMITS, batch_count=2)
            )
            with pytest.raises(Unrecoverable) as caught:
                await catch_up.run(
                    [room], 0, None, send=client.send, drained=make_anew, go_live=client.go_live
                )

    assert caught.value.reason is Reason.EPOCH
    assert client.got == [1, 2]
    assert client.live_from is None


async def test_before_the_stream_was_seen_nobody_is_told_anything(
    bus: Bus, history: History, client: Client, room: ChannelName
) -> None:
    unstarted = Feed(bus, ring=a_ring(), fan_out=lambda *_: None)

    with pytest.raises(BusUnavailable):
        await come_back(a_catch_up(unstarted, history), client, [room], 5)


@pytest.mark.parametrize("count", [2, 5])  # of which the ring holds three
async def test_a_newcomer_is_sent_the_last_few_and_then_what_comes_next(
    feed: Feed,
    history: History,
    publish: Publish,
    client: Client,
    room: ChannelName,
    personal: ChannelName,
    count: int,
) -> None:
    offsets = [await publish(room) for _ in range(8)]
    catch_up = a_catch_up(feed, history)

    position = await catch_up.newest(room, count, send=client.send, drained=client.drained)
    later = [await publish(personal), await publish(room)]
    await come_back(catch_up, client, [room, personal], position)

    assert client.got == [*offsets[-count:], *later]
