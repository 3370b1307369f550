"""Pages of history, against a plain list of all that was published."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.streams.feed import Feed, Reason, Unrecoverable
from gateway.streams.history import History, HistoryLimits
from gateway.streams.kept import Kept
from gateway.streams.pages import EVERYTHING, PageLimits, Pages
from gateway.streams.ring import Ring
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.publications import StoredPublication
from hubbub_client.contracts.subjects import RT_PUB, publication_subject
from hubbub_client.jetstream.clock import our_clock
from tests.gateway.streams.model_gateway import CHANNELS, ModelFeed, World, run
from tests.gateway.streams.model_stream import ModelStream

ROOM = CHANNELS[0]
PATIENT = HistoryLimits(batch_count=3, batch_bytes=400, retry_seconds=0.0001, deadline_seconds=60)
SMALL = PageLimits(max_count=8, step_count=3)
KEPT = st.builds(Kept, *(st.none() | st.integers(1, 20),) * 2)


class Asked(NamedTuple):
    since: int | None
    limit: int
    reverse: bool


def pages(world: ModelFeed, kept: Kept, limits: PageLimits = SMALL) -> Pages:
    feed, history = cast(Feed, world), History(world.stream, PATIENT)
    return Pages(
        feed,
        SharedReads(feed, history),
        history,
        kept_of=lambda _channel: kept,
        limits=limits,
        now=world.now if isinstance(world, World) else our_clock,
    )


def a_world(data: st.DataObject) -> World:
    """With some history, of which the ring may lack the beginning."""
    world = World(data)
    world.publish(data.draw(st.integers(0, 20)))
    world.deliver(world.stream.last)
    if data.draw(st.booleans()):
        world.ring.clear()
    world.publish(data.draw(st.integers(0, 20)))
    world.deliver(world.stream.last)
    return world


def published(world: World) -> list[int]:
    return [m.sequence for m in world.stream.messages if m.subject == f"{RT_PUB}{ROOM}"]


def kept_offsets(world: World, kept: Kept) -> list[int]:
    """An offset is also the second at which it was published."""
    offsets = [each for each in published(world) if each >= world.stream.first]
    if kept.size is not None:
        offsets = offsets[-kept.size :]
    if kept.ttl_seconds is not None:
        offsets = [each for each in offsets if each >= world.stream.last - kept.ttl_seconds]
    return offsets


def a_page(offsets: list[int], asked: Asked) -> list[int]:
    if asked.reverse:
        offsets = [each for each in reversed(offsets) if not asked.since or each < asked.since]
    else:
        offsets = [each for each in offsets if each > (asked.since or 0)]
    return offsets[: 8 if asked.limit == EVERYTHING else asked.limit]


@settings(max_examples=120)
@given(data=st.data(), kept=KEPT)
def test_a_page_is_what_a_list_would_give(data: st.DataObject, kept: Kept) -> None:
    world = a_world(data)
    world.steps_left = 0
    since = data.draw(st.none() | st.integers(1, max(world.position, 1)))
    asked = Asked(since, data.draw(st.integers(EVERYTHING, 8)), data.draw(st.booleans()))

    page = run(
        pages(world, kept).read(
            ROOM,
            limit=asked.limit,
            since=None if since is None else (min(since, world.position), None),
            reverse=asked.reverse,
        )
    )

    assert [each.offset for each in page.publications] == a_page(kept_offsets(world, kept), asked)
    assert (page.epoch, page.top) == (world.epoch, world.position)


@pytest.mark.parametrize("since", [None, (40, None)])
@pytest.mark.parametrize("reverse", [False, True])
def test_no_more_of_the_ring_is_looked_at_than_the_page_holds(
    since: tuple[int, str | None] | None, *, reverse: bool
) -> None:
    class CountingRing(Ring):
        looked_at = 0

        def after(
            self, channels: Iterable[ChannelName], offset: int
        ) -> Iterator[StoredPublication]:
            for each in super().after(channels, offset):
                self.looked_at += 1
                yield each

    feed = ModelFeed(ModelStream())
    feed.ring = ring = CountingRing(max_count=1000, max_bytes=10_000)
    for offset in range(1, 81):
        ring.append(StoredPublication(offset, ROOM, b"x"))
    feed.position = 80

    page = run(pages(feed, Kept()).read(ROOM, limit=2, since=since, reverse=reverse))

    assert len(page.publications) == 2
    assert ring.looked_at <= 2


def test_no_more_of_the_stream_is_read_than_the_page_has_room_for() -> None:
    stream = ModelStream()
    for _ in range(60):
        stream.add(ROOM, bytes(100))
    feed = ModelFeed(stream)
    feed.begin_here()

    limits = PageLimits(max_count=60, max_bytes=250)
    page = run(pages(feed, Kept(), limits).read(ROOM, limit=EVERYTHING))

    assert [each.offset for each in page.publications] == [1, 2]
    assert stream.asked[publication_subject(ROOM)] <= 2


@pytest.mark.parametrize("since", [None, (60, None)])
def test_backwards_hardly_more_of_the_stream_is_read_than_the_page_has_room_for(
    since: tuple[int, str | None] | None,
) -> None:
    stream = ModelStream()
    for _ in range(60):
        stream.add(ROOM, bytes(100))
    feed = ModelFeed(stream)
    feed.begin_here()

    limits = PageLimits(max_count=60, max_bytes=250, step_count=3)
    page = run(pages(feed, Kept(), limits).read(ROOM, limit=EVERYTHING, since=since, reverse=True))

    newest = 60 if since is None else 59
    assert [each.offset for each in page.publications] == [newest, newest - 1]
    assert stream.read <= 24


@settings(max_examples=60)
@given(data=st.data(), limit=st.integers(1, 5), reverse=st.booleans())
def test_whoever_turns_the_pages_reads_everything_once(
    data: st.DataObject, limit: int, reverse: bool
) -> None:
    world = a_world(data)
    world.may_drop = False

    async def read_all() -> list[int]:
        read: list[int] = []
        while True:
            since = (read[-1], world.epoch) if read else None
            page = await pages(world, Kept()).read(ROOM, limit=limit, since=since, reverse=reverse)
            if not page.publications:
                return read
            read += [each.offset for each in page.publications]

    before = published(world)
    read = run(read_all())

    if reverse:
        newer = [each for each in published(world) if each in read and each not in before]
        assert read == (before + newer)[::-1]
    else:
        assert read == published(world)[: len(read)]
        assert len(read) >= len(before)


@pytest.mark.parametrize(
    ("since", "reason"),
    [((1, "another"), Reason.EPOCH), ((99, None), Reason.AHEAD)],
)
@given(data=st.data())
def test_an_offset_of_no_stream_is_refused(
    data: st.DataObject, since: tuple[int, str | None], reason: Reason
) -> None:
    world = a_world(data)
    world.steps_left = 0

    with pytest.raises(Unrecoverable) as refused:
        run(pages(world, Kept()).read(ROOM, limit=1, since=since))

    assert refused.value.reason is reason
