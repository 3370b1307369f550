"""Several channels as one sequence."""

import asyncio
from typing import cast

import pytest

from gateway.streams.feed import Feed
from gateway.streams.history import History, HistoryLimits
from gateway.streams.merged_history import MergedHistory
from gateway.streams.shared_reads import SharedReads
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.nats.errors import BusUnavailable
from tests.gateway.streams.model_gateway import ModelFeed
from tests.gateway.streams.model_stream import ModelStream

CHANNELS = [ChannelName("chat:a"), ChannelName("chat:b")]


def a_history(model: ModelStream, after: int, limits: HistoryLimits | None = None) -> MergedHistory:
    feed = cast(Feed, ModelFeed(model))
    return MergedHistory(SharedReads(feed, History(model, limits)), CHANNELS, after)


async def test_channels_are_read_concurrently() -> None:
    asked, both_asked = list[None](), asyncio.Event()

    async def wait_for_the_other() -> None:
        asked.append(None)
        if len(asked) == len(CHANNELS):
            both_asked.set()
        await both_asked.wait()

    model = ModelStream(meanwhile=wait_for_the_other)
    offsets = [model.add(each, b"x") for each in CHANNELS]
    merged = a_history(model, 0)

    await merged.read(up_to=offsets[-1])

    assert [each.offset for each in merged.take(10, 1000)[0]] == offsets


async def test_if_one_of_several_channels_fails_the_read_fails() -> None:
    model = ModelStream(lag=lambda: 10)
    offsets = [model.add(each, b"x") for each in (*CHANNELS, *CHANNELS)]
    limits = HistoryLimits(deadline_seconds=0.05, retry_seconds=0.001)

    merged = a_history(model, 0, limits)

    with pytest.raises(BusUnavailable, match="lag"):
        await merged.read(up_to=offsets[-1])
