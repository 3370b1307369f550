"""The parts that every test may ask for."""

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("timeless", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("timeless")

pytest_plugins = ["tests.fixtures.nats", "tests.fixtures.databases", "tests.fixtures.small_disk"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
