"""The server of a test."""

import pytest

from tests.fixtures.nats import NatsServer, StartServer


@pytest.fixture
def server(nats_server: StartServer) -> NatsServer:
    """One of its own for each test: a table holds all that its server has."""
    return nats_server()
