"""A real gateway, and both clients of it; a server of NATS of a test's own."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from pydantic import SecretStr

from hubbub_client import Hubbub, SyncHubbub
from hubbub_client.nats.client import Bus, connect_bus
from shared.jetstream.streams import bootstrap
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.tokens import SECRET
from tests.gateway.chatting import RunningGateway, a_gateway

API_KEY = "an API key of the tests"
NAMESPACES: dict[str, Any] = {
    "chat": {"publish": "users", "presence": True, "join_leave": True},
    "kept": {"force_recovery": True},
    "bare": {"history": False},
}


class InThread:
    """A `SyncHubbub` that is awaited: each command runs in a thread."""

    def __init__(self, hubbub: SyncHubbub) -> None:
        self._hubbub = hubbub

    def __getattr__(self, command: str) -> Any:
        async def run(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(getattr(self._hubbub, command), *args, **kwargs)

        return run


@pytest.fixture(scope="module")
async def gateway(nats_url: str) -> AsyncGenerator[RunningGateway]:
    """One that nobody stops. Each test takes users and channels of its own."""
    settings = {"api_key": SecretStr(API_KEY), "namespaces": NAMESPACES}
    async with a_gateway(nats_url, settings=settings, hmac_secret=SECRET) as running:
        yield running


@pytest.fixture
def url(gateway: RunningGateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


@pytest.fixture(params=["awaited", "synchronous"])
async def hubbub(request: pytest.FixtureRequest, url: str) -> AsyncGenerator[Hubbub]:
    """Each client in turn, as if both were awaited."""
    if request.param == "awaited":
        async with Hubbub(url, API_KEY) as client:
            yield client
    else:
        with SyncHubbub(url, API_KEY) as synchronous:
            yield cast(Hubbub, InThread(synchronous))


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    """For tests that kill or fill it."""
    return nats_server()


@pytest.fixture
async def own_bus(server: NatsServer) -> AsyncGenerator[Bus]:
    """On it, with the streams."""
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        yield bus
