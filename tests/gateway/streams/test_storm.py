"""After the end of one gateway its clients come to another, all at once: who reads what."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.streams.catch_up import CatchUp, CatchUpLimits
from gateway.streams.feed import Feed
from gateway.streams.history import History, HistoryLimits
from gateway.streams.ring import Ring
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.api import Batch, StoredMessage, StreamState
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from shared.runtime.process import running

CLIENTS = 10_000
WITH_NEWS_OF_THEIR_OWN = 500
ROOMS = 50
MISSED = 20
MOST_READS = 5
PATIENT = HistoryLimits(deadline_seconds=60)  # however busy the machine is


class CountedReader(StreamReader):
    """Counts the requests to the bus, by subject; those for the stream's state apart."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, "RT")
        self.asked = Counter[str]()
        self.states = 0

    async def batch(self, request: Mapping[str, Any]) -> Batch:
        self.asked[request["next_by_subj"]] += 1
        return await super().batch(request)

    async def state(self) -> StreamState:
        self.states += 1
        return await super().state()

    async def next_on_leader(self, subject: str, sequence: int) -> StoredMessage | None:
        self.asked[subject] += 1
        return await super().next_on_leader(subject, sequence)

    async def last_on_leader(self, subject: str) -> StoredMessage | None:
        self.asked[subject] += 1
        return await super().last_on_leader(subject)


class Client:
    """Was live in its channels until the other gateway ended."""

    def __init__(self, channels: list[ChannelName], offset: int) -> None:
        self.channels = channels
        self.offset = offset
        self.got: list[int] = []
        self.is_live = False

    async def come_back(self, catch_up: CatchUp) -> None:
        await catch_up.run(
            self.channels,
            self.offset,
            None,
            send=self._send,
            drained=self._drained,
            go_live=self._go_live,
        )

    def _send(self, batch: list[StoredPublication]) -> None:
        self.got += [each.offset for each in batch]

    async def _drained(self) -> None:
        await asyncio.sleep(0)

    def _go_live(self, _offset: int) -> None:
        self.is_live = True


@pytest.mark.parametrize("at_once", [3, CLIENTS])
async def test_ten_thousand_who_come_back_cost_a_few_reads_of_each_channel(
    bus: Bus, publisher: Publisher, at_once: int
) -> None:
    prefix = uuid.uuid4()
    rooms = [ChannelName(f"chat:{prefix}-{number}") for number in range(ROOMS)]
    own = [ChannelName(f"#{prefix}-{number}") for number in range(WITH_NEWS_OF_THEIR_OWN)]
    published: dict[ChannelName, list[int]] = {each: [] for each in (*rooms, *own)}

    async def publish(channel: ChannelName) -> None:
        subject = publication_subject(channel)
        ack = await publisher.publish(subject, b"{}", message_id=str(uuid.uuid4()))
        published[channel].append(ack.offset)

    async with asyncio.TaskGroup() as group:
        for channel in (*rooms * MISSED, *own):
            group.create_task(publish(channel))
    everything = sorted(offset for offsets in published.values() for offset in offsets)
    clients = [
        Client(
            [rooms[number % ROOMS], *own[number : number + 1]], random.choice(everything[:-MISSED])
        )
        for number in range(CLIENTS)
    ]
    random.shuffle(clients)

    reader = CountedReader(bus)
    feed = Feed(bus, ring=Ring(max_count=1000, max_bytes=1_000_000), fan_out=lambda _: None)
    async with running(feed.run):
        await feed.until_caught_up()  # it has just started: its ring is empty
        catch_up = CatchUp(
            feed, SharedReads(feed, History(reader, PATIENT)), CatchUpLimits(replay_limit=1000)
        )
        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                task = group.create_task(client.come_back(catch_up))
                if not number % at_once:
                    await task

    for client in clients:
        assert client.is_live
        offsets = sorted(each for channel in client.channels for each in published[channel])
        assert client.got == [each for each in offsets if each > client.offset]
    assert max(reader.asked.values()) <= MOST_READS
    assert len(reader.asked) == ROOMS + WITH_NEWS_OF_THEIR_OWN
    assert reader.states <= MOST_READS * len(reader.asked)
