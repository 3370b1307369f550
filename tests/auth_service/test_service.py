"""The whole service beside a real bus: who hears of a session's end, and when."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from auth_service.app import create_app, serving
from auth_service.settings import AuthSettings
from shared.bus.client import connect_bus
from shared.bus.direct_get import StoredMessage
from shared.bus.follower import Follower
from shared.bus.publisher import start_publisher
from shared.bus.streams import bootstrap
from shared.bus.subjects import CTL_LIVE
from shared.outbox.metrics import OutboxMetrics
from shared.process import running
from shared.revocations import Revocation, Revocations
from tests.auth_service.people import a_client, a_signed_in_user, me, sign_in, sign_out
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.waiting import eventually


class Listener:
    """Somebody who heeds the CTL stream."""

    def __init__(self) -> None:
        self.revocations = Revocations(max_token_seconds=86_400)
        self.heard: list[Revocation | None] = []

    def heed(self, message: StoredMessage) -> None:
        self.heard.append(self.revocations.apply(message.payload))

    async def until_heard(self, count: int) -> None:
        await eventually(lambda: len(self.heard) == count)


@pytest.fixture
def nats(nats_server: StartServer) -> NatsServer:
    return nats_server()


@asynccontextmanager
async def service(nats: NatsServer, settings: AuthSettings) -> AsyncGenerator[httpx2.AsyncClient]:
    registry = CollectorRegistry()
    async with (
        connect_bus(nats.url, name="auth") as bus,
        start_publisher(bus) as publisher,
        serving(settings, publisher=publisher, outbox_metrics=OutboxMetrics(registry)) as parts,
        a_client(create_app(parts, registry=registry)) as client,
    ):
        yield client


@asynccontextmanager
async def listening(nats: NatsServer) -> AsyncGenerator[Listener]:
    listener = Listener()
    async with connect_bus(nats.url, name="listener") as bus:
        await bootstrap(bus)
        control = Follower(bus, "CTL", CTL_LIVE, deliver=listener.heed, from_start=True)
        async with running(control.run):
            await control.until_caught_up()
            yield listener


async def test_everybody_hears_at_once_that_somebody_signed_out(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with listening(nats) as listener, service(nats, settings) as client:
        pairs = [await a_signed_in_user(client, f"user-{n}@example.com") for n in range(5)]

        started = time.monotonic()
        for number, tokens in enumerate(pairs, start=1):
            await sign_out(client, tokens["access_token"])
            await listener.until_heard(number)

    # Looking for rows now and then, the relay would need a second for each.
    assert time.monotonic() - started < 2.5
    assert len({heard.session_id for heard in listener.heard if heard is not None}) == 5


async def test_signing_out_works_without_the_bus_and_is_heard_of_when_it_is_back(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with listening(nats) as listener, service(nats, settings) as client:
        tokens = await a_signed_in_user(client)
        nats.kill()

        assert (await sign_out(client, tokens["access_token"])).status_code == 204
        assert (await me(client, tokens["access_token"])).status_code == 401
        assert (await sign_in(client)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        nats.start()

        await listener.until_heard(1)


async def test_the_outbox_is_measured(nats: NatsServer, settings: AuthSettings) -> None:
    async with service(nats, settings) as client:
        metrics = (await client.get("/metrics")).text

    assert 'hubbub_outbox_depth{outbox="auth"}' in metrics
