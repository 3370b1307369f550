"""A whole system of processes: nats-server, two gateways, the posts service."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import jwt
import pytest

from shared.jetstream.streams import bootstrap
from shared.nats.client import connect_bus
from shared.sql.migrations import migrate
from tests.fixtures.nats import NatsServer
from tests.system.processes import HubbubProcess, Processes, processes_in

SECRET = "a secret that the tests share with the services"
API_KEY = "the tests' API key"


def a_token(user_id: int | str, name: str | None = None) -> str:
    """A token of a foreign issuer that shares the secret."""
    claims: dict[str, object] = {"sub": str(user_id), "exp": datetime.now(UTC) + timedelta(hours=1)}
    return jwt.encode(claims if name is None else {**claims, "name": name}, SECRET, "HS256")


@dataclass(frozen=True)
class System:
    """Two gateways and a posts service on one nats-server."""

    nats: NatsServer
    gateways: list[HubbubProcess]
    posts: HubbubProcess
    environment: Mapping[str, str]
    processes: Processes

    @property
    def ws_urls(self) -> list[str]:
        return [gateway.ws_url for gateway in self.gateways]

    def posts_client(self, user_id: int | str, name: str) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {a_token(user_id, name)}"}
        return httpx2.AsyncClient(base_url=self.posts.url, headers=headers, trust_env=False)

    def api_client(self, gateway: int = 0) -> httpx2.AsyncClient:
        url = self.gateways[gateway].url
        return httpx2.AsyncClient(base_url=url, headers={"X-API-Key": API_KEY}, trust_env=False)


def make_streams(nats_url: str) -> None:
    """As `hubbub bootstrap` does, without a process for it."""

    async def make() -> None:
        async with connect_bus(nats_url, name="test") as bus:
            await bootstrap(bus)

    asyncio.run(make())


def make_tables(database_url: str, package: str) -> None:
    """As `hubbub migrate` does, without a process for it."""
    asyncio.run(migrate(database_url, package))


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    home = tmp_path / "processes"
    home.mkdir()
    with processes_in(home) as started:
        yield started


@pytest.fixture
def system(
    processes: Processes, nats_server: Callable[[], NatsServer], tmp_path: Path
) -> Iterator[System]:
    nats = nats_server()
    environment = {
        "HUBBUB_NATS_URL": nats.url,
        "HUBBUB_HMAC_SECRET": SECRET,
        "HUBBUB_API_KEY": API_KEY,
        "HUBBUB_DATABASE_URL": f"sqlite:///{tmp_path / 'posts.db'}",
    }
    make_streams(nats.url)
    make_tables(environment["HUBBUB_DATABASE_URL"], "posts_service")
    gateways = [processes.service("gateway", env=environment) for _ in range(2)]
    posts = processes.service("posts", env=environment)
    for process in [*gateways, posts]:
        process.until_ready()
    yield System(nats, gateways, posts, environment, processes)
    assert_no_secrets_and_no_tracebacks(processes.logs())


def assert_no_secrets_and_no_tracebacks(logs: str) -> None:
    """Nothing that these tests do may leave a token or a traceback in a log."""
    assert "eyJ" not in logs
    assert SECRET not in logs
    assert API_KEY not in logs
    assert "Traceback" not in logs, logs[-5000:]
