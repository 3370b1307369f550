"""A nats-server for each test."""

import pytest

from tests.fixtures.nats import NatsServer, StartServer


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    """Not shared, since a presence table has all entries of its server."""
    return nats_server()
