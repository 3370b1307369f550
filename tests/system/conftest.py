"""A whole system of processes: nats-server, two gateways, the posts service."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex

import httpx2
import jwt
import pytest

from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from shared.sql.migrations import migrate
from tests.fixtures import plain_http
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
        return plain_http.client(base_url=self.posts.url, headers=headers)

    def api_client(self, gateway: int = 0) -> httpx2.AsyncClient:
        url = self.gateways[gateway].url
        return plain_http.client(base_url=url, headers={"X-API-Key": API_KEY})

    def heal(self) -> None:
        """Put another gateway in the place of each that has ended."""
        for place, gateway in enumerate(self.gateways):
            if gateway.process.poll() is not None:
                self.gateways[place] = self.processes.service(
                    "gateway", env=self.environment, port=gateway.port
                )
        for process in [*self.gateways, self.posts]:
            process.until_ready()


def a_room() -> str:
    """One that no other test is in."""
    return f"room-{token_hex(4)}"


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


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """For all tests of a file; each takes a room of its own, and asks for `system` if it kills."""
    home = tmp_path_factory.mktemp("standing")
    nats = NatsServer(home / "nats")
    nats.start()
    try:
        environment = {
            "HUBBUB_NATS_URL": nats.url,
            "HUBBUB_HMAC_SECRET": SECRET,
            "HUBBUB_API_KEY": API_KEY,
            "HUBBUB_DATABASE_URL": f"sqlite:///{home / 'posts.db'}",
        }
        make_streams(nats.url)
        make_tables(environment["HUBBUB_DATABASE_URL"], "posts_service")
        with processes_in(home) as processes:
            gateways = [processes.service("gateway", env=environment) for _ in range(2)]
            posts = processes.service("posts", env=environment)
            for process in [*gateways, posts]:
                process.until_ready()
            yield System(nats, gateways, posts, environment, processes)
            assert_no_secrets_and_no_tracebacks(processes.logs())
    finally:
        nats.stop()


@pytest.fixture
def system(standing: System) -> Iterator[System]:
    """The one of the file, healthy again after what a test has done to it."""
    yield standing
    standing.heal()


def assert_no_secrets_and_no_tracebacks(logs: str) -> None:
    """Nothing that these tests do may leave a token or a traceback in a log."""
    assert "eyJ" not in logs
    assert SECRET not in logs
    assert API_KEY not in logs
    assert "Traceback" not in logs, logs[-5000:]
