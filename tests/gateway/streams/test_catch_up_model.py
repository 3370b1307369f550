"""Catching up while the rest goes on: publications, deliveries, retention, replicas that lag."""

import asyncio
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams.catch_up import CatchUp, CatchUpLimits, Unrecoverable
from gateway.streams.feed import Feed, Reason
from gateway.streams.history import History, HistoryLimits
from shared.contracts.ids import ChannelName
from shared.contracts.publications import StoredPublication
from shared.jetstream.subjects import RT_PUB
from tests.gateway.streams.model_gateway import CHANNELS, World
from tests.gateway.streams.model_stream import ModelStream

PATIENT = HistoryLimits(batch_count=3, batch_bytes=400, retry_seconds=0.0001)
REPLAY_LIMIT = 12
IN_SMALL_BATCHES = CatchUpLimits(replay_limit=REPLAY_LIMIT, batch_count=2, batch_bytes=20)


class Client:
    """One subscriber: what it was sent, however it came."""

    def __init__(self, channels: list[ChannelName], offset: int) -> None:
        self.channels = channels
        self.offset = offset
        self.live_from: int | None = None
        self.got: list[int] = []
        self.refused: Reason | None = None

    def send(self, publication: StoredPublication) -> None:
        assert self.live_from is None
        self.got.append(publication.offset)

    def go_live(self, from_offset: int) -> None:
        self.live_from = from_offset

    def hear(self, offset: int, channel: ChannelName) -> None:
        if self.live_from is not None and offset >= self.live_from and channel in self.channels:
            self.got.append(offset)

    def should_have(self, stream: ModelStream) -> list[int]:
        subjects = {f"{RT_PUB}{channel}" for channel in self.channels}
        later = stream.messages[self.offset :]
        return [message.sequence for message in later if message.subject in subjects]

    async def come_back(self, catch_up: CatchUp, world: World, epoch: str | None) -> None:
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


@settings(max_examples=120)
@given(data=st.data())
def test_everybody_gets_all_that_was_missed_once_and_in_order(data: st.DataObject) -> None:
    world = World(data)
    world.publish(data.draw(st.integers(0, 12)))
    world.deliver(data.draw(st.integers(0, 12)))
    if data.draw(st.booleans()):
        world.begin_ring_here()
    else:
        world.publish(data.draw(st.integers(0, 6)))
        world.deliver(data.draw(st.integers(0, 6)))
    clients: list[Client] = []
    for _ in range(data.draw(st.integers(1, 2))):
        channels = data.draw(st.lists(st.sampled_from(CHANNELS), min_size=1, unique=True))
        client = Client(channels, data.draw(st.integers(0, world.stream.last)))
        clients.append(client)
        world.on_delivered.append(client.hear)

    async def all_come_back() -> None:
        catch_up = CatchUp(cast(Feed, world), History(world.stream, PATIENT), IN_SMALL_BATCHES)
        async with asyncio.TaskGroup() as group:
            for client in clients:
                epoch = data.draw(st.sampled_from([None, world.epoch]))
                group.create_task(client.come_back(catch_up, world, epoch))

    asyncio.run(all_come_back())
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

    catch_up = CatchUp(
        cast(Feed, world),
        History(world.stream, PATIENT),
        CatchUpLimits(replay_limit=1000, batch_count=2),
    )
    asyncio.run(client.come_back(catch_up, world, None))

    assert client.refused is (Reason.EPOCH if world.resets else None)
    assert (client.live_from is None) == bool(world.resets)
