"""The parts that every test may ask for."""

import pytest

pytest_plugins = ["tests.fixtures.nats", "tests.fixtures.databases"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
