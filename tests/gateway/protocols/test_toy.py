"""Room for another protocol: a toy over the sessions and the transport that `/ws/chat` has."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.app import Gateway
from gateway.channels.registry import Subscription
from gateway.protocols.chat.client import chat_endpoint
from gateway.session.session import Session, SessionKind
from gateway.settings import GatewaySettings
from gateway.streams.feed import Reason
from gateway.transport.sniffer import websocket_options
from gateway.transport.upgrade import Upgrade
from hubbub_client.contracts.channels import post_channel
from hubbub_client.contracts.ids import ChannelName, PostId, UserId
from hubbub_client.jetstream.clock import our_clock
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import Bus
from shared.jetstream.streams import bootstrap
from shared.runtime.supervision import Supervisor
from shared.tokens.claims import SessionId
from shared.tokens.keys import FixedKeys
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.fixtures.tokens import OUR_KEY, a_verifier
from tests.gateway.chatting import a_room, now, token_of
from tests.gateway.protocols.toy import ToyClient, line
from tests.gateway.serving import DEADLINE_SECONDS, served, until


@dataclass
class TwoProtocols:
    """A gateway that speaks both."""

    gateway: Gateway
    port: int
    registry: CollectorRegistry

    @asynccontextmanager
    async def toy(self, hello: str) -> AsyncGenerator[ClientConnection]:
        url = f"ws://127.0.0.1:{self.port}/toy"
        async with connect(url, compression=None, max_queue=None, close_timeout=1) as socket:
            await socket.send(hello)
            yield socket

    @asynccontextmanager
    async def chat(self, user_id: int, name: str, room: str) -> AsyncGenerator[ClientConnection]:
        query = f"token={token_of(user_id, name)}&room={room}"
        url = f"ws://127.0.0.1:{self.port}/ws/chat?{query}"
        async with connect(url, compression=None, close_timeout=1) as socket:
            assert '"welcome"' in await heard(socket)
            yield socket


def tell_gap(session: Session, missed: Collection[Subscription], reason: Reason) -> None:
    session.connection.send(line("gap", reason, *(each.channel for each in missed)))


def toy_endpoint(sessions: SessionKind, upgrade: Upgrade) -> None:
    upgrade.accept(lambda connection: ToyClient(connection, sessions))


@pytest.fixture
async def both(bus: Bus, publisher: Publisher) -> AsyncGenerator[TwoProtocols]:
    await bootstrap(bus)
    registry = CollectorRegistry()
    supervisor = Supervisor(registry)
    async with start_publisher(bus) as presence_publisher:
        gateway = Gateway(
            GatewaySettings(max_pending_bytes=100_000, drain_seconds=1),
            bus=bus,
            publisher=publisher,
            presence_publisher=presence_publisher,
            verifier=a_verifier(now=now, keys=FixedKeys([OUR_KEY])),
            registry=registry,
            supervisor=supervisor,
            complete_at=None,
            now=our_clock,
        )
        toys = replace(
            gateway.chat.sessions,
            on_hole=tell_gap,
            on_caught_up=lambda session, rooms: None,
        )
        endpoints = {
            "/ws/chat": partial(chat_endpoint, gateway.chat),
            "/toy": partial(toy_endpoint, toys),
        }
        options = websocket_options(gateway.hub, endpoints)
        async with (
            gateway.hub.working(),
            supervisor.running(*gateway.loops),
            served(FastAPI(), drain=gateway.drain, options=options) as port,
        ):
            await until(lambda: not gateway.not_ready())
            yield TwoProtocols(gateway, port, registry)


async def heard(socket: ClientConnection) -> str:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return str(await socket.recv())


async def closed(socket: ClientConnection) -> tuple[int, str]:
    with suppress(ConnectionClosed):
        while True:
            await heard(socket)
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


def three_channels() -> list[ChannelName]:
    return [post_channel(PostId(secrets.randbelow(2**50))) for _ in range(3)]


def hello(channels: list[ChannelName], since: int = 0, sid: str = "s") -> str:
    return " ".join([token_of(1, "Ann", sid=sid), str(since), *channels])


async def test_one_connection_hears_each_of_its_three_channels_and_no_other(
    both: TwoProtocols, publisher: Publisher
) -> None:
    channels, [another, *_] = three_channels(), three_channels()
    async with both.toy(hello(channels)) as toy:
        assert (await heard(toy)).startswith("live ")
        stored = [
            (channel, (await publish(publisher, channel, "x")).offset)
            for channel in [*channels, another, channels[0]]
        ]
        del stored[3]

        assert [await heard(toy) for _ in stored] == [
            f'{channel} {offset} "x"' for channel, offset in stored
        ]


async def test_who_comes_back_gets_what_all_three_missed_once_and_in_order(
    both: TwoProtocols, publisher: Publisher
) -> None:
    channels = three_channels()
    first = (await publish(publisher, channels[0], "had")).offset
    missed = [await publish(publisher, channels[n % 3], n) for n in range(30)]
    async with both.toy(hello(channels, since=first)) as toy:
        assert [await heard(toy) for _ in missed] == [
            f"{channels[n % 3]} {ack.offset} {n}" for n, ack in enumerate(missed)
        ]
        assert await heard(toy) == f"live {missed[-1].offset}"


async def test_both_protocols_hear_one_room_each_in_its_own_frames(both: TwoProtocols) -> None:
    room = a_room()
    async with (
        both.chat(2, "Ben", room) as ben,
        both.toy(hello([ChannelName(f"chat:{room}")])) as toy,
    ):
        assert (await heard(toy)).startswith("live ")
        await toy.send("0 hi")
        answers = {await heard(toy), await heard(toy)}
        said = await heard(ben)
        while '"message"' not in said:  # first he hears that Ann came
            said = await heard(ben)

    [offset] = [word.removeprefix("ok ") for word in answers if word.startswith("ok ")]
    assert f'chat:{room} {offset} {{"body": "hi"}}' in answers
    assert f'"name":"Ann","body":"hi","offset":{offset}' in said


async def test_what_a_toy_may_not_publish_is_refused_and_the_next_command_has_its_turn(
    both: TwoProtocols,
) -> None:
    room = a_room()
    channels = [*three_channels()[:2], ChannelName(f"chat:{room}")]
    async with both.toy(hello(channels)) as toy:
        assert (await heard(toy)).startswith("live ")
        await toy.send("0 no")
        await toy.send("2 yes")
        assert await heard(toy) == "no forbidden"
        assert "ok" in (await heard(toy)) + (await heard(toy))


async def test_a_toy_that_stalls_is_sent_all_of_it_later_once_and_in_order(
    both: TwoProtocols, publisher: Publisher
) -> None:
    channels = three_channels()
    async with both.toy(hello(channels)) as toy:
        assert (await heard(toy)).startswith("live ")
        toy.transport.pause_reading()
        for number in range(170):
            await publish(publisher, channels[number % 3], [number, "x" * 60_000])
        await until(lambda: both.registry.get_sample_value("hubbub_lagging_total") == 1)
        toy.transport.resume_reading()
        numbers = [int((await heard(toy)).split("[")[1].split(",")[0]) for _ in range(170)]
        assert numbers == list(range(170))

        stored = await publish(publisher, channels[2], "live again")
        assert await heard(toy) == f'{channels[2]} {stored.offset} "live again"'


async def test_its_closes_have_its_own_codes(both: TwoProtocols, publisher: Publisher) -> None:
    session = SessionId(a_room())
    revoked = SessionRevoked(session_id=session, user_id=UserId("1"))
    async with both.toy(hello(three_channels(), sid=session)) as toy:
        assert (await heard(toy)).startswith("live ")
        await publisher.publish(
            SESSION_REVOKED_SUBJECT, revoked.model_dump_json().encode(), message_id=revoked.id
        )
        assert await closed(toy) == (4003, "SESSION_ENDED")
    async with both.toy("nonsense 0 post:1") as toy:
        assert await closed(toy) == (4001, "INVALID_TOKEN")
    async with both.toy(hello([ChannelName("$private")])) as toy:
        assert await closed(toy) == (4004, "INVALID_CHANNEL")


async def test_a_hole_is_told_in_its_own_words(both: TwoProtocols) -> None:
    channels = three_channels()
    async with both.toy(hello(channels, since=2**40)) as toy:
        assert await heard(toy) == " ".join(["gap ahead", *channels])
        assert (await heard(toy)).startswith("live ")
