"""Catching up while the rest goes on: publications, deliveries, retention, replicas that lag."""

import asyncio
from datetime import datetime
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams.catch_up import CatchUp, CatchUpLimits
from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.history import History, HistoryLimits
from gateway.streams.kept import Kept
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import publication_subject
from tests.gateway.streams.model_gateway import CHANNELS, World, run
from tests.gateway.streams.model_stream import ModelStream

PATIENT = HistoryLimits(batch_count=3, batch_bytes=400, retry_seconds=0.0001, deadline_seconds=60)
REPLAY_LIMIT = 12
IN_SMALL_BATCHES = CatchUpLimits(replay_limit=REPLAY_LIMIT, batch_count=2, batch_bytes=20)
KEPT = st.builds(Kept, *(st.none() | st.integers(1, 15),) * 2)


class Client:
    """One subscriber: what it was sent, however it came."""

    def __init__(self, channels: list[ChannelName], offset: int) -> None:
        self.channels = channels
        self.offset = offset
        self.live_from: int | None = None
        self.got: list[int] = []
        self.refused: Reason | None = None

    def send(self, batch: list[StoredPublication]) -> None:
        assert self.live_from is None
        self.got += [each.offset for each in batch]

    def go_live(self, from_offset: int) -> None:
        self.live_from = from_offset

    def hear(self, offset: int, channel: ChannelName) -> None:
        if self.live_from is not None and offset >= self.live_from and channel in self.channels:
            self.got.append(offset)

    def should_have(self, stream: ModelStream) -> list[int]:
        return sorted(
            offset for channel in self.channels for offset in self.missed(stream, channel)
        )

    def missed(self, stream: ModelStream, channel: ChannelName) -> list[int]:
        later = stream.messages[self.offset :]
        return [each.sequence for each in later if each.subject == publication_subject(channel)]

    def is_kept(self, world: World, kept: Kept) -> bool:
        """Whether all that it misses of each channel is."""
        for channel in self.channels:
            missed = self.missed(world.stream, channel)
            if kept.size is not None and len(missed) > kept.size:
                return False
            if missed and kept.ttl_seconds is not None:
                oldest = datetime.fromisoformat(world.stream.messages[missed[0] - 1].time)
                if oldest.timestamp() < world.now() - kept.ttl_seconds:
                    return False
        return True

    async def come_back(self, catch_up: CatchUp, world: World, epoch: str | None) -> None:
        if len(self.channels) == 1:
            recent = catch_up.recent(self.channels[0], self.offset, epoch)
            if recent is not None:
                self.got = [each.offset for each in recent]
                self.go_live(max(world.position, self.offset) + 1)
                return
        try:
            await catch_up.run(
                self.channels,
                self.offset,
                epoch,
                send=self.send,
                drained=world.go_on,
                go_live=self.go_live,
            )
        except Unrecoverable as unrecoverable:
            self.refused = unrecoverable.reason


def a_catch_up(world: World, limits: CatchUpLimits, kept: Kept | None = None) -> CatchUp:
    feed = cast(Feed, world)
    return CatchUp(
        feed,
        SharedReads(feed, History(world.stream, PATIENT)),
        limits,
        kept_of=lambda _channel: kept or Kept(),
        now=world.now,
    )


def a_world(data: st.DataObject) -> World:
    """With some history, of which the ring may lack the beginning."""
    world = World(data)
    world.publish(data.draw(st.integers(0, 12)))
    world.deliver(data.draw(st.integers(0, 12)))
    if data.draw(st.booleans()):
        world.ring.clear()
    else:
        world.publish(data.draw(st.integers(0, 6)))
        world.deliver(data.draw(st.integers(0, 6)))
    return world


async def all_come_back(world: World, catch_up: CatchUp, clients: list[Client]) -> None:
    async def come_back(client: Client) -> None:
        for _ in range(world.data.draw(st.integers(0, 3))):
            await world.go_on()
        epoch = world.data.draw(st.sampled_from([None, world.epoch]))
        await client.come_back(catch_up, world, epoch)

    async with asyncio.TaskGroup() as group:
        for client in clients:
            world.on_delivered.append(client.hear)
            group.create_task(come_back(client))


@st.composite
def clients_of(draw: st.DrawFn, world: World) -> list[Client]:
    some_channels = st.lists(st.sampled_from(CHANNELS), min_size=1, unique=True)
    offsets = st.integers(0, world.stream.last)
    return draw(st.lists(st.builds(Client, some_channels, offsets), min_size=1, max_size=4))


@settings(max_examples=120)
@given(data=st.data())
def test_everybody_gets_all_that_was_missed_once_and_in_order(data: st.DataObject) -> None:
    world = a_world(data)
    clients = data.draw(clients_of(world))

    run(all_come_back(world, a_catch_up(world, IN_SMALL_BATCHES), clients))
    world.publish(3)
    world.deliver(world.stream.last)

    for client in clients:
        missed = client.should_have(world.stream)
        if client.refused is None:
            assert client.got == missed
        elif client.refused is Reason.TOO_MANY:
            assert not client.got
            assert len(missed) > REPLAY_LIMIT
        else:
            assert client.refused is Reason.TOO_OLD
            assert client.got == missed[: len(client.got)]  # no hole, even so
            assert world.stream.first > client.offset + 1


@settings(max_examples=80)
@given(data=st.data(), kept=KEPT)
def test_what_is_no_longer_kept_is_refused_and_the_rest_comes_whole(
    data: st.DataObject, kept: Kept
) -> None:
    world = a_world(data)
    world.may_lag = kept.size is None
    for client, was_lost in those_who_came_back(world, kept).items():
        assert client.refused or not was_lost


@settings(max_examples=40)
@given(data=st.data(), size=st.integers(1, 15))
def test_while_a_replica_lags_more_may_be_had_than_is_kept_and_nothing_less(
    data: st.DataObject, size: int
) -> None:
    assert those_who_came_back(a_world(data), Kept(size))


def those_who_came_back(world: World, kept: Kept) -> dict[Client, bool]:
    """Whether something that each missed was kept no longer before it came."""
    world.may_drop = False
    clients = world.data.draw(clients_of(world))
    was_lost = {client: not client.is_kept(world, kept) for client in clients}
    world.deliver(world.stream.last)

    run(all_come_back(world, a_catch_up(world, CatchUpLimits(replay_limit=1000), kept), clients))
    is_lost = {client: not client.is_kept(world, kept) for client in clients}
    world.publish(3)
    world.deliver(world.stream.last)

    for client in clients:
        if client.refused is None:
            assert client.got == client.should_have(world.stream)
        else:
            assert client.refused is Reason.TOO_OLD
            assert is_lost[client]
            assert not client.got
    return was_lost


@settings(max_examples=60)
@given(data=st.data(), kept=KEPT)
def test_the_newest_publication_is_the_one_behind_which_it_goes_on_live(
    data: st.DataObject, kept: Kept
) -> None:
    world = a_world(data)
    world.may_drop = False
    [channel, *_] = CHANNELS
    catch_up = a_catch_up(world, IN_SMALL_BATCHES, kept)

    async def subscribe() -> list[int]:
        for _ in range(data.draw(st.integers(0, 2))):
            await catch_up.read_latest(channel)
        latest = catch_up.latest(channel)
        if latest is None:
            latest = await catch_up.read_latest(channel)
        return [each.offset for each in latest]

    latest = run(subscribe())

    there = Client([channel], 0).missed(world.stream, channel)
    newest = [each for each in there if each <= world.position][-1:]
    if kept.ttl_seconds is not None:  # an offset is also the second at which it was published
        newest = [each for each in newest if each >= world.stream.last - kept.ttl_seconds]
    assert latest == newest


@settings(max_examples=60)
@given(data=st.data())
def test_a_stream_that_begins_anew_in_mid_replay_is_not_mixed_with_the_old_one(
    data: st.DataObject,
) -> None:
    world = World(data)
    world.may_drop = False
    world.publish(12)
    world.deliver(12)
    client = Client(CHANNELS, data.draw(st.integers(0, 12)))
    world.reset_at_step = data.draw(st.integers(0, 10))

    catch_up = a_catch_up(world, CatchUpLimits(replay_limit=1000, batch_count=2))
    run(client.come_back(catch_up, world, None))

    assert client.refused is (Reason.EPOCH if world.resets else None)
    assert (client.live_from is None) == bool(world.resets)
