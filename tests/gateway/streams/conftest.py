"""A gateway's view of a real RT stream."""

import uuid
from collections.abc import AsyncGenerator, Callable

import pytest

from gateway.streams.history import History
from hubbub_client.contracts.ids import ChannelName
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus


@pytest.fixture
def a_channel() -> Callable[[], ChannelName]:
    """A channel of the test's own, since all tests share one stream."""
    return lambda: ChannelName(f"chat:{uuid.uuid4()}")


@pytest.fixture
async def publisher(bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(bus) as started:
        yield started


@pytest.fixture
def history(bus: Bus) -> History:
    return History(StreamReader(bus, "RT"))
