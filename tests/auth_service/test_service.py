"""The whole service beside a real bus: who hears of a session's end, and when."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from auth_service.app import create_app, serving
from auth_service.settings import AuthSettings
from hubbub_client.contracts.subjects import CTL_LIVE, CTL_PUB
from hubbub_client.jetstream.api import JetStreamApi, StoredMessage
from hubbub_client.jetstream.clock import Clock, our_clock
from hubbub_client.jetstream.publisher import start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.outbox import rows as outbox_rows
from hubbub_client.outbox.lease import Lease
from hubbub_client.outbox.table import MAX_LEASE_SECONDS
from hubbub_client.sql.database import Sessions, connect_database
from shared.jetstream.follower import Follower
from shared.jetstream.stream_configs import StreamSettings
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from shared.sql.outbox_metrics import OutboxMetrics
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, Revocation, Revocations
from tests.auth_service.people import (
    a_client,
    a_signed_in_user,
    me,
    problem_of,
    refresh,
    session_of,
    sign_in,
    sign_out,
)
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.waiting import eventually


class Listener:
    """Somebody who heeds the CTL stream."""

    def __init__(self) -> None:
        self.revocations = Revocations(max_token_seconds=86_400)
        self.heard: set[Revocation] = set()

    def heed(self, message: StoredMessage) -> None:
        revocation = self.revocations.apply(message.payload)
        if revocation is not None:
            self.heard.add(revocation)

    async def until_heard(self, count: int) -> None:
        await eventually(lambda: len(self.heard) == count)


@pytest.fixture
def nats(nats_server: StartServer) -> NatsServer:
    return nats_server()


@asynccontextmanager
async def service(
    nats: NatsServer, settings: AuthSettings, *, now: Clock = our_clock
) -> AsyncGenerator[httpx2.AsyncClient]:
    registry = CollectorRegistry()
    async with (
        connect_bus(nats.url, name="auth") as bus,
        start_publisher(bus) as publisher,
        serving(
            settings,
            bus=bus,
            publisher=publisher,
            outbox_metrics=OutboxMetrics(registry),
            now=now,
        ) as parts,
        a_client(create_app(parts, registry=registry)) as client,
    ):
        yield client


@asynccontextmanager
async def listening(nats: NatsServer) -> AsyncGenerator[Listener]:
    listener = Listener()
    async with connect_bus(nats.url, name="listener") as bus:
        await bootstrap(bus)
        control = Follower(bus, "CTL", CTL_PUB, CTL_LIVE, deliver=listener.heed, from_start=True)
        async with running(control.run):
            await control.until_caught_up()
            yield listener


async def test_everybody_hears_at_once_that_somebody_signed_out(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with (
        listening(nats) as listener,
        connect_database(settings.database_url) as sessions,
    ):
        # So the relay, which looks for rows now and then, tells nothing.
        assert await Lease(sessions, seconds=MAX_LEASE_SECONDS).hold()
        async with service(nats, settings) as client:
            pairs = [await a_signed_in_user(client, f"user-{n}@example.com") for n in range(5)]

            for number, tokens in enumerate(pairs, start=1):
                await sign_out(client, tokens["access_token"])
                await listener.until_heard(number)

    assert len({heard.session_id for heard in listener.heard}) == 5


async def test_signing_out_is_told_as_pending_while_the_bus_is_away_and_heard_of_when_it_is_back(
    nats: NatsServer, settings: AuthSettings
) -> None:
    impatient = settings.model_copy(update={"revoke_seconds": 0.1})
    async with listening(nats) as listener, service(nats, impatient) as client:
        token = (await a_signed_in_user(client))["access_token"]
        nats.kill()

        for _ in range(2):
            assert problem_of(await sign_out(client, token)) == (503, "revocation_pending")
        assert (await me(client, token)).status_code == 401
        assert (await sign_in(client)).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        nats.start()

        await listener.until_heard(1)


async def test_signing_out_is_told_as_pending_while_the_bus_has_no_room_for_it(
    nats: NatsServer, settings: AuthSettings
) -> None:
    impatient = settings.model_copy(update={"revoke_seconds": 0.1})
    async with listening(nats) as listener, service(nats, impatient) as client:
        async with connect_bus(nats.url, name="bootstrap") as bus:
            await bootstrap(bus, StreamSettings(ctl_max_bytes=100))
        token = (await a_signed_in_user(client))["access_token"]

        assert problem_of(await sign_out(client, token)) == (503, "revocation_pending")
        assert not listener.heard
        async with connect_bus(nats.url, name="bootstrap") as bus:
            await bootstrap(bus)

        await listener.until_heard(1)


@pytest.mark.parametrize(("off", "where"), [(600, "ahead of"), (-600, "behind")])
async def test_with_a_clock_that_is_off_it_says_that_it_is_not_ready_until_it_is_right(
    nats: NatsServer, settings: AuthSettings, off: float, where: str
) -> None:
    wrong = off

    async def until_readiness_is(status: int) -> dict[str, list[str]]:
        async with asyncio.timeout(20):
            while (answer := await client.get("/readyz")).status_code != status:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        said: dict[str, list[str]] = answer.json()
        return said

    async with listening(nats), service(nats, settings, now=lambda: our_clock() + wrong) as client:
        said = await until_readiness_is(503)
        assert str(said).count(f" s {where} that of the bus") == 1

        wrong = 0
        await until_readiness_is(200)


@pytest.mark.parametrize("way", ["signing out", "a refresh token used twice"])
async def test_an_end_of_a_session_is_heard_of_at_once_whoever_holds_the_lease_of_the_outbox(
    nats: NatsServer, settings: AuthSettings, way: str
) -> None:
    async with (
        listening(nats) as listener,
        connect_database(settings.database_url) as sessions,
    ):
        assert await Lease(
            sessions, seconds=MAX_LEASE_SECONDS
        ).hold()  # as a process that was killed left it
        async with service(nats, settings) as client:
            tokens = await a_signed_in_user(client)
            if way == "signing out":
                answer = await sign_out(client, tokens["access_token"])
                assert answer.status_code == 204
            else:
                for status in (200, 401):
                    answer = await refresh(client, tokens["refresh_token"])
                    assert answer.status_code == status

            await listener.until_heard(1)


async def test_a_pending_end_of_a_session_can_be_asked_for_again_without_the_lease(
    nats: NatsServer, settings: AuthSettings
) -> None:
    impatient = settings.model_copy(update={"revoke_seconds": 0.1})
    async with (
        listening(nats) as listener,
        connect_database(settings.database_url) as sessions,
    ):
        assert await Lease(sessions, seconds=MAX_LEASE_SECONDS).hold()
        async with service(nats, impatient) as client:
            token = (await a_signed_in_user(client))["access_token"]
            nats.kill()
            assert problem_of(await sign_out(client, token)) == (503, "revocation_pending")
            nats.start()

            async with asyncio.timeout(20):
                while (await sign_out(client, token)).status_code != 204:
                    pass

            await listener.until_heard(1)


async def test_what_the_relay_tells_again_is_stored_once(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with (
        connect_bus(nats.url, name="test") as bus,
        listening(nats) as listener,
        service(nats, settings) as client,
    ):
        await until_last(bus, 1)  # the word that the stream is whole
        for number in (1, 2, 3):
            tokens = await a_signed_in_user(client, f"user-{number}@example.com")
            assert (await sign_out(client, tokens["access_token"])).status_code == 204
        async with connect_database(settings.database_url) as sessions:
            await until_all_are_sent(sessions)

        await listener.until_heard(3)
        await until_last(bus, 4)


async def test_who_knows_a_session_cannot_keep_its_end_from_being_heard(
    nats: NatsServer, settings: AuthSettings
) -> None:
    """The bus stores an answer wherever the request says, under the message id that it has."""
    async with (
        listening(nats) as listener,
        service(nats, settings) as client,
        connect_bus(nats.url, name="application") as bus,
        start_publisher(bus) as publisher,
    ):
        await until_last(bus, 1)  # the word that the stream is whole
        token = (await a_signed_in_user(client))["access_token"]
        first = f"session_revoked:{session_of(token)}"
        subject, api = "events.shop.order_paid", JetStreamApi(bus)
        await api.create_consumer("EVENTS", {"durable_name": "shop", "filter_subject": subject})
        await publisher.publish(subject, b"{}", message_id=first)
        api.request_next(
            "EVENTS", "shop", batch=1, expires_seconds=1, group=None, pin=None,
            reply=SESSION_REVOKED_SUBJECT,
        )  # fmt: skip
        await until_last(bus, 2)
        forged = await publisher.publish(SESSION_REVOKED_SUBJECT, b"{}", message_id=first)
        assert (forged.duplicate, forged.offset) == (True, 2)

        assert (await sign_out(client, token)).status_code == 204

        await listener.until_heard(1)


async def until_last(bus: Bus, sequence: int) -> None:
    await bus.until_connected()
    async with asyncio.timeout(20):
        while (last := (await StreamReader(bus, "CTL").state()).last) < sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert last == sequence


async def until_all_are_sent(sessions: Sessions) -> None:
    async with asyncio.timeout(20):
        while (await outbox_rows.unsent(sessions))[0]:  # noqa: ASYNC110 only the database knows
            await asyncio.sleep(0.02)


async def test_the_outbox_is_measured(nats: NatsServer, settings: AuthSettings) -> None:
    async with service(nats, settings) as client:
        metrics = (await client.get("/metrics")).text

    assert 'hubbub_outbox_depth{outbox="auth"}' in metrics
