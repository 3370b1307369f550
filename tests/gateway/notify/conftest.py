"""A server of its own for each test, since all notifiers on a server share one consumer."""

from collections.abc import AsyncGenerator

import pytest

from tests.fixtures.nats import NatsServer, StartServer
from tests.gateway.notify.notifying import Notifying, connected


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    return nats_server()


@pytest.fixture
async def notifying(server: NatsServer) -> AsyncGenerator[Notifying]:
    async with connected(server) as notifying:
        yield notifying
