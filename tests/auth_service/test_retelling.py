"""A bus that lost the revocations is told of them again, and that this was all."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from auth_service.app import AuthParts, assembled, create_app
from auth_service.retelling import Retelling
from auth_service.settings import AuthSettings
from hubbub_client.contracts.subjects import CTL_LIVE, CTL_PUB
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.stream_reader import StreamReader
from hubbub_client.nats.client import Bus, connect_bus
from hubbub_client.outbox.rows import note
from hubbub_client.sql.database import transaction
from shared.jetstream.follower import Follower
from shared.jetstream.stream_configs import STREAMS
from shared.jetstream.streams import bootstrap
from shared.runtime.process import running
from shared.tokens.revocations import Revocations, RevocationsComplete
from tests.auth_service.people import a_client, a_signed_in_user, session_of, sign_out
from tests.fixtures.nats import NatsServer, StartServer
from tests.fixtures.tokens import Clock
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
        self.clock = Clock()
        self._retelling = self.a_process()

    def a_process(self, now: Callable[[], float] = our_clock) -> Retelling:
        return Retelling(
            self.parts.sessions,
            self.bus,
            self._publisher,
            max_token_seconds=MAX_TOKEN_SECONDS,
            batch_rows=2,
            now=now,
            monotonic=self.clock,
        )

    async def retell(self) -> bool:
        return await self._retelling.look()

    async def a_session_that_is_over(self, email: str) -> str:
        tokens = await a_signed_in_user(self.client, email)
        assert (await sign_out(self.client, tokens["access_token"])).status_code == 204
        return session_of(tokens["access_token"])

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
            CTL_PUB,
            CTL_LIVE,
            deliver=lambda message: heed(message.payload),
            from_start=True,
        )
        async with running(control.run):
            await control.until_caught_up()
            return sessions, revocations.are_complete(control.epoch)


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
        nats.back_up()
        await service.bus.until_connected()
        over = {await service.a_session_that_is_over(f"{n}@example.com") for n in range(5)}
        assert not await service.retell()

        if loss == "deleted":
            await js_api(service.bus, "STREAM.DELETE.CTL")
            await bootstrap(service.bus)
        elif loss == "emptied":
            await js_api(service.bus, "STREAM.PURGE.CTL")
        else:
            if loss == "a backup":
                nats.restore()
            else:
                nats.lose_store()
            await service.bus.until_connected()
            await bootstrap(service.bus)
        assert (await service.known())[0] == set()
        assert [await service.retell() for _ in range(2)] == [True, False]

        assert await service.known() == (over, True)


async def test_what_is_told_again_is_told_from_the_newest_on_and_stored_once(
    nats: NatsServer, settings: AuthSettings
) -> None:
    """Its tokens live longest. To be broken off, and to begin again, costs no room."""
    async with service_on(nats, settings) as service:
        over = [await service.a_session_that_is_over(f"{n}@example.com") for n in range(5)]
        await js_api(service.bus, "STREAM.PURGE.CTL")
        emptied = await StreamReader(service.bus, "CTL").state()

        for _ in range(3):
            assert await service.a_process().look()
            async with transaction(service.parts.sessions) as db:  # as if it died before it noted
                await note(db, "CTL", epoch="another", floor=0, begins_anew=True)

        state = await StreamReader(service.bus, "CTL").state()
        words = 3
        assert state.last == emptied.last + len(over) + words
        told = [
            await StreamReader(service.bus, "CTL").message(emptied.last + 1 + n)
            for n in range(len(over))
        ]
        assert [json.loads(each.payload)["session_id"] for each in told if each] == over[::-1]


async def test_of_a_bus_that_is_said_to_be_restored_no_old_word_is_believed(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with service_on(nats, settings) as service:
        await service.retell()
        nats.back_up()
        await service.bus.until_connected()
        over = {await service.a_session_that_is_over("ann@example.com")}
        nats.restore()
        await service.bus.until_connected()
        await bootstrap(service.bus)
        assert await service.known() == (set(), True)  # nobody can see that it is a backup
        before = [(await StreamReader(service.bus, name).state()).epoch for name in STREAMS]

        await bootstrap(service.bus, restored=True)

        assert await service.known() == (set(), False)
        after = [(await StreamReader(service.bus, name).state()).epoch for name in STREAMS]
        assert len({*before, *after}) == 2 * len(STREAMS)
        await bootstrap(service.bus)
        assert [(await StreamReader(service.bus, name).state()).epoch for name in STREAMS] == after
        assert [await service.retell() for _ in range(2)] == [True, False]
        assert await service.known() == (over, True)


async def drop_the_oldest(service: Service) -> None:
    """As its age does."""
    await js_api(service.bus, "STREAM.PURGE.CTL", {"keep": 1})


async def test_a_stream_that_dropped_the_word_for_its_age_and_was_emptied_is_told_again(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with service_on(nats, settings) as service:
        await service.retell()
        over = {await service.a_session_that_is_over(f"{n}@example.com") for n in range(3)}
        await drop_the_oldest(service)
        assert await service.retell()
        await js_api(service.bus, "STREAM.PURGE.CTL")
        assert await service.known() == (set(), False)

        assert [await service.a_process().look() for _ in range(2)] == [True, False]

        assert await service.known() == (over, True)


async def test_the_word_that_a_stream_is_whole_is_renewed_before_the_stream_drops_it(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with service_on(nats, settings) as service:
        await service.retell()
        first = (await StreamReader(service.bus, "CTL").state()).last
        other = service.a_process()
        assert not await other.look()  # it can't know how old the word is
        await service.retell()
        assert (await StreamReader(service.bus, "CTL").state()).last == first + 1

        for hours in range(1, 49):
            service.clock.now += 3600
            assert not await service.retell()
            assert not await other.look()
            if not hours % 12:
                await drop_the_oldest(service)
                assert await service.known() == (set(), True)

        assert (await StreamReader(service.bus, "CTL").state()).last <= first + 6


async def test_what_was_rolled_back_is_told_again_though_others_have_its_places_already(
    nats: NatsServer, settings: AuthSettings
) -> None:
    async with service_on(nats, settings) as service:
        await service.retell()
        nats.back_up()
        await service.bus.until_connected()
        over = {await service.a_session_that_is_over(f"{n}@example.com") for n in range(2)}
        nats.restore()
        await service.bus.until_connected()
        over |= {await service.a_session_that_is_over(f"new-{n}@example.com") for n in range(3)}

        assert [await service.retell() for _ in range(2)] == [True, False]

        assert await service.known() == (over, True)


@pytest.mark.parametrize("off", [172_800, -172_800])
async def test_all_that_is_in_force_is_told_by_a_clock_that_is_days_off_as_well(
    nats: NatsServer, settings: AuthSettings, off: float
) -> None:
    async with service_on(nats, settings) as service:
        over = {await service.a_session_that_is_over("ann@example.com")}
        await js_api(service.bus, "STREAM.PURGE.CTL")

        assert await service.a_process(now=lambda: our_clock() + off).look()

        assert await service.known() == (over, True)


async def test_no_stream_is_whole_for_its_age() -> None:
    revocations = Revocations(max_token_seconds=60)

    assert not revocations.are_complete("e1")
    revocations.apply(RevocationsComplete(epoch="e1").model_dump_json().encode())
    assert revocations.are_complete("e1")
    assert not revocations.are_complete("e2")
