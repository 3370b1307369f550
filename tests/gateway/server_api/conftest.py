"""A gateway with a server API, and a service that uses it."""

from collections.abc import AsyncGenerator

import httpx2
import pytest
from pydantic import SecretStr

from tests.fixtures import plain_http
from tests.fixtures.documented import Documented
from tests.gateway.chatting import RunningGateway, a_gateway

KEY = "an API key of the tests"


@pytest.fixture(scope="module")
async def guarded(nats_url: str) -> AsyncGenerator[RunningGateway]:
    async with a_gateway(nats_url, settings={"api_key": SecretStr(KEY)}) as running:
        yield running


@pytest.fixture
async def api(guarded: RunningGateway) -> AsyncGenerator[httpx2.AsyncClient]:
    url = f"http://127.0.0.1:{guarded.port}"
    async with plain_http.client(
        base_url=url,
        headers={"X-API-Key": KEY},
        event_hooks=Documented().hooks,
    ) as client:
        yield client
