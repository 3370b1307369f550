"""Two gateways on the run's NATS, and somebody who publishes beside them."""

from collections.abc import AsyncGenerator

import pytest

from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import Bus
from tests.gateway.chatting import RunningGateway, a_gateway


@pytest.fixture
async def publisher(bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(bus) as started:
        yield started


@pytest.fixture(scope="module")
async def standing(nats_url: str) -> AsyncGenerator[RunningGateway]:
    """For tests that change nothing of it. Each takes rooms and channels of its own."""
    async with a_gateway(nats_url) as running:
        yield running


@pytest.fixture
async def gateway(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url) as running:
        yield running


@pytest.fixture
async def other(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url) as running:
        yield running
