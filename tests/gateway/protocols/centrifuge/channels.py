"""Channels of each kind that there is, and gateways that have them."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from gateway.channels.options import Namespace, Who
from hubbub_client.nats.client import Bus
from tests.gateway.chatting import RunningGateway, a_gateway, a_room

NAMESPACES = {
    "chat": Namespace(publish=Who.USERS, presence=True, join_leave=True),
    "news": Namespace(publish=Who.USERS, force_recovery=True, presence=True),
    "small": Namespace(publish=Who.USERS, force_recovery=True, history_size=2),
    "tagged": Namespace(publish=Who.USERS, allow_tags_filter=True),
    "delta": Namespace(
        publish=Who.USERS, force_recovery=True, allowed_delta_types={"fossil"}, delta_publish=True
    ),
    "cache": Namespace(
        publish=Who.USERS,
        force_recovery=True,
        force_recovery_mode="cache",
        auto_cache_recover=True,
    ),
    "seen": Namespace(presence=True, allow_presence_for_client=True),
    "off": Namespace(subscribe=Who.SERVICES, history=False),
}
SETTINGS: dict[str, Any] = {"namespaces": NAMESPACES, "channel_limit": 5}


@pytest.fixture(scope="module")
async def standing(nats_url: str) -> AsyncGenerator[RunningGateway]:
    """For tests that change nothing of it. Each takes channels of its own."""
    async with a_gateway(nats_url, settings=SETTINGS) as running:
        yield running


@pytest.fixture
async def gateway(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings=SETTINGS) as running:
        yield running


@pytest.fixture
async def other(nats_url: str, bus: Bus) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings=SETTINGS) as running:
        yield running


def a_channel(namespace: str = "news") -> str:
    return f"{namespace}:{a_room()}"
