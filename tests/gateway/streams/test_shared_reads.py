"""Many who need the same of the stream: it is read once, for all of them."""

import asyncio
from typing import cast

import pytest

from gateway.streams.brief_cache import CacheLimits
from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.history import History, HistoryLimits
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.nats.errors import BusUnavailable
from tests.fixtures.waiting import eventually
from tests.gateway.streams.model_gateway import ModelFeed
from tests.gateway.streams.model_stream import STATE, ModelStream

ROOM, OTHER = ChannelName("chat:a"), ChannelName("chat:b")
IN_ROOM = publication_subject(ROOM)


class Gateway:
    """One that has just started, while the stream has 20 publications of each of two rooms."""

    def __init__(
        self,
        *,
        batch_count: int = 200,
        limits: CacheLimits | None = None,
        max_channel_bytes: int = 1_000_000,
        deadline_seconds: float = 60,
    ) -> None:
        self.stream = ModelStream(lag=lambda: self.lag, meanwhile=self._turn)
        self.lag = 0
        for _ in range(20):
            self.stream.add(ROOM, b"x")
            self.stream.add(OTHER, b"x")
        self.feed = ModelFeed(self.stream)
        self.feed.begin_here()
        history = History(
            self.stream,
            HistoryLimits(
                batch_count=batch_count, deadline_seconds=deadline_seconds, retry_seconds=0.001
            ),
        )
        self.reads = SharedReads(
            cast(Feed, self.feed), history, limits, max_channel_bytes=max_channel_bytes
        )

    async def _turn(self) -> None:
        await asyncio.sleep(0)

    async def after(self, offset: int, channel: ChannelName = ROOM) -> list[int]:
        """All that the channel has after an offset."""
        found: list[int] = []
        while offset < self.feed.position:
            page = await self.reads.read(channel, offset, up_to=self.feed.position)
            found += [each.offset for each in page.publications]
            offset = page.through
        return found

    @property
    def requests(self) -> int:
        """Of the room."""
        return self.stream.asked[IN_ROOM]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def at_once(gateway: Gateway, offsets: list[int]) -> list[list[int]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(gateway.after(offset)) for offset in offsets]
    return [task.result() for task in tasks]


async def test_those_who_come_at_once_are_read_for_once(gateway: Gateway) -> None:
    offsets = [*range(30, 10, -1), *range(30, 10, -1)]

    found = await at_once(gateway, offsets)

    assert found == [list(range(offset + 1 + offset % 2, 40, 2)) for offset in offsets]
    assert gateway.requests <= 5
    assert gateway.stream.asked[STATE] <= 5


async def test_those_who_missed_nothing_cost_one_request(gateway: Gateway) -> None:
    assert await at_once(gateway, [39, 38, 39]) == [[], [39], []]

    assert gateway.requests == 1


async def test_who_comes_later_is_given_what_was_read(gateway: Gateway) -> None:
    await gateway.after(10)
    asked = gateway.requests

    assert await gateway.after(20) == list(range(21, 40, 2))
    assert gateway.reads.known(ROOM, 20, up_to=40) is not None
    assert gateway.requests == asked
    assert gateway.reads.known(ROOM, 9, up_to=40) is None


async def test_long_histories_are_read_in_pages_which_others_share() -> None:
    gateway = Gateway(batch_count=3)

    found = await at_once(gateway, [0] * 10)

    assert found == [list(range(1, 40, 2))] * 10
    assert gateway.requests <= 20 / 3 + 3


async def test_last_publications_are_read_once(gateway: Gateway) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(gateway.reads.last(ROOM, count, up_to=40)) for count in [5, 5, 3, 5]
        ]

    assert [[each.offset for each in task.result()] for task in tasks] == [
        [31, 33, 35, 37, 39],
        [31, 33, 35, 37, 39],
        [35, 37, 39],
        [31, 33, 35, 37, 39],
    ]
    once = gateway.requests
    assert len(await gateway.reads.last(ROOM, 2, up_to=39)) == 2
    assert gateway.requests == once


async def test_a_channel_that_has_no_more_is_not_asked_for_more(gateway: Gateway) -> None:
    assert len(await gateway.reads.last(ROOM, 100, up_to=40)) == 20
    once = gateway.requests

    assert len(await gateway.reads.last(ROOM, 50, up_to=40)) == 20
    assert gateway.requests == once


async def test_what_the_stream_dropped_is_refused_to_those_alone_who_need_it(
    gateway: Gateway,
) -> None:
    gateway.stream.drop(10)

    async def refused(offset: int) -> None:
        with pytest.raises(Unrecoverable) as unrecoverable:
            await gateway.after(offset)
        assert unrecoverable.value.reason is Reason.TOO_OLD

    async with asyncio.TaskGroup() as group:
        group.create_task(refused(3))
        tasks = [group.create_task(gateway.after(offset)) for offset in (30, 10, 20)]
        group.create_task(refused(9))

    assert [len(task.result()) for task in tasks] == [5, 15, 10]
    once = gateway.requests
    await refused(5)
    assert gateway.requests == once


async def test_what_was_read_before_the_stream_dropped_it_can_still_be_had(
    gateway: Gateway,
) -> None:
    before = await gateway.after(10)
    gateway.stream.drop(20)
    await gateway.after(30, OTHER)  # by which it is known

    assert await gateway.after(10) == before


async def test_the_oldest_there_is_can_be_asked_for(gateway: Gateway) -> None:
    gateway.stream.drop(30)

    page = await gateway.reads.read(ROOM, 0, up_to=40, or_oldest=True)

    assert [each.offset for each in page.publications] == [31, 33, 35, 37, 39]
    gateway.stream.drop(10)
    page = await gateway.reads.read(OTHER, 0, up_to=40, or_oldest=True)
    assert (page.publications, page.through) == ([], 40)


async def test_nothing_of_a_stream_is_mixed_with_one_that_began_anew(gateway: Gateway) -> None:
    await gateway.after(10)
    gateway.stream.messages.clear()
    gateway.stream.add(ROOM, b"new")
    gateway.feed.begin_anew()
    gateway.feed.begin_here()

    assert gateway.reads.known(ROOM, 10, up_to=20) is None
    assert await gateway.after(0) == [1]


async def test_a_stream_that_begins_anew_during_a_read_refuses_all_who_wait(
    gateway: Gateway,
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(refusal(gateway, offset)) for offset in (10, 11, 5)]
        await asyncio.sleep(0)
        gateway.feed.begin_anew()

    assert [task.result() for task in tasks] == [Reason.EPOCH] * 3


async def refusal(gateway: Gateway, offset: int) -> Reason | None:
    try:
        await gateway.after(offset)
    except Unrecoverable as unrecoverable:
        return unrecoverable.reason
    return None


async def test_another_stream_in_its_place_is_noticed(gateway: Gateway) -> None:
    gateway.stream.epoch = "another"

    assert await refusal(gateway, 10) is Reason.EPOCH


async def test_who_waits_for_others_waits_no_longer_than_for_the_stream() -> None:
    gateway = Gateway(deadline_seconds=0.2)
    gateway.lag = 40

    async def unavailable() -> None:
        with pytest.raises(BusUnavailable):
            await gateway.after(10)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(unavailable())


async def test_what_was_read_is_forgotten_when_nobody_uses_it() -> None:
    gateway = Gateway(limits=CacheLimits(keep_seconds=0.01))
    await gateway.after(10)

    await eventually(lambda: gateway.reads.channel_count == 0)


@pytest.mark.parametrize(
    "limits",
    [
        CacheLimits(max_count=1),
        CacheLimits(max_bytes=9_000),
    ],
)
async def test_only_so_much_is_kept_and_what_was_used_last_stays(limits: CacheLimits) -> None:
    gateway = Gateway(limits=limits)
    await gateway.after(10)
    await gateway.after(10, OTHER)

    assert gateway.reads.known(ROOM, 10, up_to=40) is None
    assert gateway.reads.known(OTHER, 10, up_to=40) is not None


async def test_of_one_channel_what_was_read_last_stays() -> None:
    gateway = Gateway(batch_count=3, max_channel_bytes=3_000)
    await gateway.after(0)

    assert gateway.reads.known(ROOM, 0, up_to=40) is None
    assert gateway.reads.known(ROOM, 37, up_to=40) is not None
