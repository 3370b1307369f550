"""The auth service as its callers see it, on either database, without its background loops."""

from collections.abc import AsyncGenerator, Callable

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from auth_service.app import AuthParts, assembled, create_app
from auth_service.settings import AuthSettings
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.nats.client import Bus
from tests.auth_service.people import SIGNING_KEY, a_client
from tests.fixtures.tokens import Clock


@pytest.fixture
def settings(migrated: Callable[[str], str]) -> AuthSettings:
    """A migrated database, and passwords that are hashed as fast as Argon2 allows."""
    return AuthSettings(
        database_url=migrated("auth_service"),
        signing_key=SIGNING_KEY,
        argon2_memory_kib=8,
        argon2_passes=1,
        argon2_lanes=1,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def parts(settings: AuthSettings, bus: Bus, clock: Clock) -> AsyncGenerator[AuthParts]:
    async with (
        start_publisher(bus) as publisher,
        assembled(settings, publisher=publisher, monotonic=clock) as parts,
    ):
        yield parts


@pytest.fixture
async def client(parts: AuthParts) -> AsyncGenerator[httpx2.AsyncClient]:
    async with a_client(create_app(parts, registry=CollectorRegistry())) as client:
        yield client
