"""A migrated database of the counting service, and the real publisher."""

from collections.abc import AsyncGenerator, Callable

import pytest

from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.nats.client import Bus
from hubbub_client.sql.database import DatabaseLimits, Sessions, connect_database

PATIENT = DatabaseLimits(pool_wait_seconds=60, lock_seconds=60, statement_seconds=60)
"""Many writers at once, and SQLite lets one after the other write, in no order."""


@pytest.fixture
def migrated_url(migrated: Callable[[str], str]) -> str:
    return migrated("tests.shared.sql.counting")


@pytest.fixture
async def sessions(migrated_url: str) -> AsyncGenerator[Sessions]:
    async with connect_database(migrated_url, limits=PATIENT) as connected:
        yield connected


@pytest.fixture
async def other_sessions(migrated_url: str) -> AsyncGenerator[Sessions]:
    """As of another process, on the same database."""
    async with connect_database(migrated_url, limits=PATIENT) as connected:
        yield connected


@pytest.fixture
async def publisher(bus: Bus) -> AsyncGenerator[Publisher]:
    async with start_publisher(bus) as started:
        yield started
