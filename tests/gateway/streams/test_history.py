"""Reading channels: the same answers from a real stream and from its model."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest

from gateway.streams.history import History, HistoryLimits
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.contracts.subjects import publication_subject
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus
from hubbub_client.nats.errors import BusUnavailable
from tests.gateway.streams.model_stream import ModelStream

SMALL = HistoryLimits(batch_count=3, deadline_seconds=20, retry_seconds=0.001)


class Stream(NamedTuple):
    """A stream under test."""

    reads: StreamReader
    add: Callable[[ChannelName, bytes, str], Awaitable[int]]


@pytest.fixture(params=["real", "model"])
async def stream(
    request: pytest.FixtureRequest, bus: Bus, publisher: Publisher
) -> AsyncGenerator[Stream]:
    async def store(channel: ChannelName, payload: bytes, message_id: str) -> int:
        subject = publication_subject(channel)
        return (await publisher.publish(subject, payload, message_id=message_id)).offset

    async def add(channel: ChannelName, payload: bytes, message_id: str) -> int:
        return model.add(channel, payload, message_id)

    model = ModelStream()
    if request.param == "real":
        yield Stream(StreamReader(bus, "RT"), store)
    else:
        yield Stream(model, add)


@pytest.fixture
def channel(a_channel: Callable[[], ChannelName]) -> ChannelName:
    return a_channel()


async def fill(stream: Stream, channel: ChannelName, count: int) -> list[int]:
    """Publish into the channel, with another channel's publications in between."""
    offsets = []
    for number in range(count):
        offsets.append(await stream.add(channel, b"%d" % number, str(uuid.uuid4())))
        await stream.add(ChannelName(f"{channel}-other"), b"other", str(uuid.uuid4()))
    return offsets


async def test_a_page_says_up_to_where_it_is_complete_and_how_many_publications_follow(
    stream: Stream, channel: ChannelName
) -> None:
    offsets = await fill(stream, channel, 5)
    history = History(stream.reads, SMALL)

    first = await history.read(channel, offsets[0] - 1, up_to=offsets[-1])
    rest = await history.read(channel, first.through, up_to=offsets[-1])

    assert [each.offset for each in first.publications] == offsets[:3]
    assert (first.through, first.beyond) == (offsets[2], 2)
    assert [each.offset for each in rest.publications] == offsets[3:]
    assert (rest.through, rest.beyond) == (offsets[-1], 0)
    assert first.publications[0].channel == channel
    assert first.publications[0].payload == b"0"


async def test_a_page_is_bounded_in_bytes_but_has_at_least_one_publication(
    stream: Stream, channel: ChannelName
) -> None:
    offsets = await fill(stream, channel, 3)
    history = History(stream.reads, HistoryLimits(batch_bytes=10))

    page = await history.read(channel, 0, up_to=offsets[-1])

    assert [each.offset for each in page.publications] == offsets[:1]
    assert page.through == offsets[0]


async def test_publications_after_the_target_are_left_out(
    stream: Stream, channel: ChannelName
) -> None:
    offsets = await fill(stream, channel, 3)

    page = await History(stream.reads).read(channel, 0, up_to=offsets[1])

    assert [each.offset for each in page.publications] == offsets[:2]
    assert page.through == offsets[1]


async def test_a_channel_without_publications_is_complete_at_once(
    stream: Stream, channel: ChannelName
) -> None:
    [offset] = await fill(stream, ChannelName(f"{channel}-else"), 1)

    page = await History(stream.reads).read(channel, 0, up_to=offset)

    assert (page.publications, page.through, page.beyond) == ([], offset, 0)


@pytest.mark.parametrize("count", [1, 4, 100])
async def test_the_last_publications_of_a_channel_are_found(
    stream: Stream, channel: ChannelName, count: int
) -> None:
    offsets = await fill(stream, channel, 30)
    await fill(stream, ChannelName(f"{channel}-else"), 40)

    newest = await History(stream.reads, SMALL).last(channel, count, up_to=offsets[-2])

    assert [each.offset for each in newest] == offsets[:-1][-count:]


async def test_the_last_publications_of_a_channel_are_found_if_all_of_them_are_old(
    stream: Stream, channel: ChannelName
) -> None:
    offsets = [await stream.add(channel, b"x", str(uuid.uuid4())) for _ in range(200)]
    end = (await fill(stream, ChannelName(f"{channel}-else"), 100))[-1]

    newest = await History(stream.reads).last(channel, 5, up_to=end)

    assert [each.offset for each in newest] == offsets[-5:]


async def test_an_empty_channel_has_no_last_publications(
    stream: Stream, channel: ChannelName
) -> None:
    [offset] = await fill(stream, ChannelName(f"{channel}-else"), 1)

    assert await History(stream.reads).last(channel, 5, up_to=offset) == []


async def test_a_publication_is_found_by_its_id(stream: Stream, channel: ChannelName) -> None:
    first = await stream.add(channel, b"1", f"{channel}:1")
    await fill(stream, channel, 10)
    await stream.add(channel, b"2", f"{channel}:2")
    message = await stream.reads.message_on_leader(first)
    assert message is not None
    stored_at = datetime.fromisoformat(message.time)
    history = History(stream.reads, SMALL)

    assert await history.holds(channel, f"{channel}:1", since=stored_at)
    assert await history.holds(channel, f"{channel}:2", since=stored_at - timedelta(hours=1))
    assert not await history.holds(channel, f"{channel}:3", since=stored_at)
    other = ChannelName(f"{channel}-other")
    assert not await history.holds(other, f"{channel}:1", since=stored_at)


async def test_a_publication_that_was_stored_earlier_is_not_looked_for(
    stream: Stream, channel: ChannelName
) -> None:
    offset = await stream.add(channel, b"1", f"{channel}:1")
    message = await stream.reads.message_on_leader(offset)
    assert message is not None
    later = datetime.fromisoformat(message.time) + timedelta(milliseconds=1)

    assert not await History(stream.reads).holds(channel, f"{channel}:1", since=later)


async def test_a_message_is_read_by_its_offset(stream: Stream, channel: ChannelName) -> None:
    offset = await stream.add(channel, b"1", str(uuid.uuid4()))
    history = History(stream.reads)

    message = await history.stored(offset)

    assert message is not None
    assert (message.sequence, message.payload) == (offset, b"1")
    assert message.subject == publication_subject(channel)
    assert await history.stored(offset + 10_000_000) is None


async def test_the_state_has_the_end_and_the_epoch(stream: Stream, channel: ChannelName) -> None:
    offset = await stream.add(channel, b"1", str(uuid.uuid4()))

    state = await History(stream.reads).state()

    assert state.first >= 1
    assert state.last >= offset
    assert state.epoch


async def test_a_replica_that_lags_is_asked_again_and_makes_no_hole(channel: ChannelName) -> None:
    lags = iter([2, 2, 0])
    model = ModelStream(lag=lambda: next(lags, 0))
    offsets = [model.add(channel, b"x") for _ in range(4)]
    history = History(model, HistoryLimits(retry_seconds=0.001))

    first = await history.read(channel, 0, up_to=offsets[-1])
    rest = await history.read(channel, first.through, up_to=offsets[-1])

    assert [each.offset for each in first.publications] == offsets[:2]
    assert first.through == offsets[1]
    assert [each.offset for each in rest.publications] == offsets[2:]
    assert rest.through == offsets[-1]


async def test_replicas_that_lag_for_ever_are_unavailable_and_not_an_empty_answer(
    channel: ChannelName,
) -> None:
    model = ModelStream(lag=lambda: 1)
    offset = model.add(channel, b"x", "id-1")
    history = History(model, HistoryLimits(deadline_seconds=0.05, retry_seconds=0.001))

    with pytest.raises(BusUnavailable, match="lag"):
        await history.read(channel, 0, up_to=offset)
    with pytest.raises(BusUnavailable, match="lag"):
        await history.holds(channel, "id-1", since=datetime.fromisoformat("2026-01-01T00:00Z"))


async def test_a_stream_that_does_not_answer_is_unavailable_by_the_deadline(
    other_bus: Bus, channel: ChannelName
) -> None:
    history = History(StreamReader(other_bus, "NONE"), HistoryLimits(deadline_seconds=0.1))

    with pytest.raises(BusUnavailable):
        await history.read(channel, 0, up_to=10)
