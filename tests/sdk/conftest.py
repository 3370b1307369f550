"""Two gateways, the real SDKs, and the client of the server API."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack

import pytest
from cent import AsyncClient

from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import Bus
from tests.gateway.chatting import RunningGateway
from tests.sdk.javascript import VERSIONS, driving, need_packages, node
from tests.sdk.site import API_KEY, SDKS, Sdk, Site, a_site, sdk_gateway


@pytest.fixture(scope="session")
def node_port() -> Iterator[int]:
    """Where Node takes commands; skips without the SDK, unless nothing may be skipped."""
    need_packages()
    with node() as port:
        yield port


@pytest.fixture(scope="module")
async def gateways(nats_url: str) -> AsyncGenerator[tuple[RunningGateway, RunningGateway]]:
    """Two that nobody stops. Each test takes users and channels of its own."""
    async with sdk_gateway(nats_url) as first, sdk_gateway(nats_url) as second:
        yield first, second


@pytest.fixture
async def publisher(bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(bus) as started:
        yield started


@pytest.fixture
async def site(
    gateways: tuple[RunningGateway, RunningGateway], bus: Bus, publisher: Publisher
) -> AsyncGenerator[Site]:
    async with a_site(bus, publisher, *gateways) as made:
        yield made


@pytest.fixture
async def api(gateways: tuple[RunningGateway, RunningGateway]) -> AsyncGenerator[AsyncClient]:
    client = AsyncClient(f"http://127.0.0.1:{gateways[0].port}/api", API_KEY)
    yield client
    await client._session.close()  # it has no other way


@pytest.fixture(params=SDKS)
async def sdk(request: pytest.FixtureRequest) -> AsyncGenerator[Sdk]:
    """Each version of each SDK, over each of its transports."""
    name, _, transport = request.param.partition("-")
    async with AsyncExitStack() as stack:
        driver = None
        if name in VERSIONS:
            driver = await stack.enter_async_context(driving(request.getfixturevalue("node_port")))
        sdk = Sdk(name, transport, driver, [])
        yield sdk
        for client in sdk.clients:
            await client.call("disconnect")
