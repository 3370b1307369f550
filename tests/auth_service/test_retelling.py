"""A bus that lost the revocations is told of them again, and that this was all."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from auth_service.app import AuthParts, assembled, create_app
from auth_service.retelling import retell_if_lost
from auth_service.settings import AuthSettings
from shared.jetstream.follower import Follower
from shared.jetstream.publisher import Publisher, start_publisher
from shared.jetstream.streams import bootstrap
from shared.jetstream.subjects import CTL_LIVE
from shared.nats.client import Bus, connect_bus
from shared.runtime.process import running
from shared.tokens.revocations import Revocations
from tests.auth_service.people import a_client, a_signed_in_user, sign_out
from tests.auth_service.test_sessions import session_of
from tests.fixtures.nats import NatsServer, StartServer
from tests.shared.jetstream.builders import js_api

MAX_TOKEN_SECONDS = 86_400


class Service:
    """The auth service without its loops, on a bus that a test may rob of its streams."""

    def __init__(
        self, parts: AuthParts, client: httpx2.AsyncClient, bus: Bus, publisher: Publisher
    ) -> None:
        self.parts = parts
        self.client = client
        self.bus = bus
        self._publisher = publisher

    async def retell(self) -> bool:
        return await retell_if_lost(
            self.parts.sessions,
            self.bus,
            self._publisher,
            max_token_seconds=MAX_TOKEN_SECONDS,
            batch_rows=2,
        )

    async def a_session_that_is_over(self, email: str) -> str:
        tokens = await a_signed_in_user(self.client, email)
        assert (await sign_out(self.client, tokens["access_token"])).status_code == 204
        return session_of(self.parts, tokens["access_token"])

    async def known(self) -> tuple[set[str], bool]:
        """What somebody knows who starts now: sessions that are over, and whether it is all."""
        revocations = Revocations(max_token_seconds=MAX_TOKEN_SECONDS)
        sessions: set[str] = set()

        def heed(payload: bytes) -> None:
            revocation = revocations.apply(payload)
            if revocation is not None:
                assert revocation.session_id is not None
                sessions.add(revocation.session_id)

        control = Follower(
            self.bus,
            "CTL",
            CTL_LIVE,
            deliver=lambda message: heed(message.payload),
            from_start=True,
        )
        async with running(control.run):
            await control.until_caught_up()
            return sessions, revocations.are_complete(control.epoch, control.stream_age_seconds)


@pytest.fixture
def nats(nats_server: StartServer) -> NatsServer:
    return nats_server()


@asynccontextmanager
async def service_on(nats: NatsServer, settings: AuthSettings) -> AsyncGenerator[Service]:
    async with (
        connect_bus(nats.url, name="auth") as bus,
        start_publisher(bus) as publisher,
        assembled(settings, publisher=publisher) as parts,
        a_client(create_app(parts, registry=CollectorRegistry())) as client,
    ):
        await bootstrap(bus)
        yield Service(parts, client, bus, publisher)


async def test_of_a_new_stream_it_is_said_once_that_it_is_whole(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with service_on(nats, settings) as service:
        assert await service.known() == (set(), False)

        assert [await service.retell() for _ in range(3)] == [True, False, False]

        assert await service.known() == (set(), True)


@pytest.mark.parametrize("loss", ["deleted", "emptied", "the whole store", "a backup"])
async def test_what_is_in_force_is_told_again_whatever_was_lost(
    nats: NatsServer, settings: AuthSettings, loss: str
) -> None:
    async with service_on(nats, settings) as service:
        await service.retell()
        backup = nats.store.with_name("backup")
        nats.stop()
        shutil.copytree(nats.store, backup)
        nats.start()
        await service.bus.until_connected()
        over = {await service.a_session_that_is_over(f"{n}@example.com") for n in range(5)}
        assert not await service.retell()

        if loss == "deleted":
            await js_api(service.bus, "STREAM.DELETE.CTL")
            await bootstrap(service.bus)
        elif loss == "emptied":
            await js_api(service.bus, "STREAM.PURGE.CTL")
        else:
            nats.stop()
            shutil.rmtree(nats.store)
            if loss == "a backup":
                backup.rename(nats.store)
            nats.start()
            await service.bus.until_connected()
            await bootstrap(service.bus)
        assert (await service.known())[0] == set()
        assert [await service.retell() for _ in range(2)] == [True, False]

        assert await service.known() == (over, True)


async def test_a_stream_that_is_older_than_any_token_is_whole_without_a_word() -> None:
    revocations = Revocations(max_token_seconds=60)

    assert not revocations.are_complete("e1", 60)
    assert revocations.are_complete("e1", 86_400)
