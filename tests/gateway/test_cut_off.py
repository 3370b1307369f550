"""A gateway that the bus has left, or whose way to it is cut, and comes back."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

from websockets.exceptions import ConnectionClosed

from hubbub_client.contracts.channels import room_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher, start_publisher
from hubbub_client.jetstream.publishing import publish
from hubbub_client.nats.client import connect_bus
from shared.jetstream.streams import bootstrap
from shared.tokens.claims import SessionId
from shared.tokens.revocations import SESSION_REVOKED_SUBJECT, SessionRevoked
from tests.fixtures.nats import NatsServer
from tests.fixtures.tcp import a_tcp_server
from tests.gateway.chatting import a_gateway, a_room, token_of
from tests.gateway.protocols.centrifuge.talking import talking
from tests.gateway.serving import until


class Line:
    """A TCP relay to the bus that can be cut, with everybody on it, and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        if self._is_cut:  # meanwhile
            far_writer.transport.abort()
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, far_writer))
                group.create_task(_pump(far_reader, writer))
        finally:
            self._writers -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()


@asynccontextmanager
async def a_line(port: int) -> AsyncGenerator[tuple[Line, str]]:
    """The line, and the URL of a bus at its near end."""
    line = Line(port)
    async with a_tcp_server(line.relay) as near:
        try:
            yield line, f"nats://127.0.0.1:{near}"
        finally:
            line.cut()


async def revoke(publisher: Publisher, session_id: str) -> None:
    message = SessionRevoked(session_id=SessionId(session_id), user_id=UserId("1"))
    await publisher.publish(
        SESSION_REVOKED_SUBJECT,
        message.model_dump_json().encode(),
        message_id=message.id,
        deadline_seconds=30,  # thousands at once, on whatever machine
    )


async def test_a_gateway_cut_off_is_not_ready_and_applies_revocations_before_it_delivers(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, room = nats_server(), a_room()
    async with (
        connect_bus(server.url, name="test") as bus,
        start_publisher(bus) as publisher,
        a_line(server.port) as (line, url),
    ):
        await bootstrap(bus)
        async with (
            a_gateway(url) as gateway,
            gateway.tab(1, "Ann", room, token=token_of(1, "Ann", sid="over")) as ann,
            gateway.tab(2, "Ben", room) as ben,
        ):
            await ann.until("user_joined")
            line.cut()
            await until(lambda: "the bus is not connected" in gateway.parts.ready())
            async with asyncio.TaskGroup() as group:
                for number in range(3000):  # so that it takes longer to read than what follows
                    group.create_task(revoke(publisher, f"another-{number}"))
            await revoke(publisher, "over")
            await publish(publisher, room_channel(room), "not for Ann")
            for number in range(20):
                await ann.send(type="message", body="too late", id=f"cut-{number}")
            line.mend()
            with suppress(ConnectionClosed):
                for number in range(20):
                    await ann.send(type="message", body="too late", id=f"mended-{number}")

            assert (await ben.until("publication"))["data"] == "not for Ann"
            answers, close = await ann.closed_after()
            assert {answer.get("code") for answer in answers} == {"unavailable"}
            assert close == (1008, "Session ended")
            await until(lambda: not gateway.parts.ready())
            assert [told for told in await ben.so_far() if told["type"] == "message"] == []


async def test_with_the_bus_away_connections_are_kept_and_caught_up_afterwards(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, room = nats_server(), a_room()
    async with connect_bus(server.url, name="test") as bus, start_publisher(bus) as publisher:
        await bootstrap(bus)
        async with (
            a_gateway(server.url, settings={"publish_seconds": 2}) as gateway,
            gateway.tab(1, "Ann", room) as ann,
        ):
            await ann.say("before")
            server.kill()
            await ann.send(type="message", body="lost?", id="m")
            refused = await ann.until("error")
            assert (refused["code"], refused["id"]) == ("unavailable", "m")
            assert await ann.pong() > 0
            await until(lambda: "the bus is not connected" in gateway.parts.ready())
            async with gateway.socket(token=token_of(2, "Ben")) as ben:
                assert await ben.closed() == (1013, "not ready")

            server.start()
            stored = await publish(publisher, room_channel(room), "after", deadline_seconds=10)
            assert (await ann.until("publication"))["offset"] == stored.offset
            await ann.send(type="message", body="lost?", id="m")
            await ann.until("ack", id="m")


async def test_with_the_bus_away_an_sdk_is_told_to_ask_again_later_and_stays(
    nats_server: Callable[[], NatsServer],
) -> None:
    server, channel = nats_server(), f"chat:{a_room()}"
    later = {"error": {"code": 100, "message": "internal server error", "temporary": True}}
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        async with (
            a_gateway(server.url) as gateway,
            talking(gateway, token_of(1, "Ann")) as client,
        ):
            await client.ask("subscribe", channel=channel)
            server.kill()
            await until(lambda: "the bus is not connected" in gateway.parts.ready())
            token = token_of(1, "Ann", seconds=600)

            assert await client.ask("refresh", token=token) == later
            assert await client.ask("presence", channel=channel) == later
            assert await client.ask("presence_stats", channel=channel) == later

            server.start()
            await until(lambda: not gateway.parts.ready())
            assert (await client.ask("refresh", token=token))["expires"]
            assert (await client.ask("presence_stats", channel=channel))["num_clients"] == 1


async def test_nobody_is_let_in_while_revocations_may_be_missing_however_early_they_came(
    nats_server: Callable[[], NatsServer],
) -> None:
    server = nats_server()
    async with connect_bus(server.url, name="test") as bus:
        await bootstrap(bus)
        async with a_gateway(server.url) as gateway, gateway.socket(room=a_room()) as early:
            server.kill()
            await until(lambda: bool(gateway.parts.ready()))
            await early.send(type="auth", token=token_of(1, "Ann"))

            assert await early.closed() == (1013, "not ready")


async def test_who_comes_is_announced_though_nothing_else_can_be_published(nats_url: str) -> None:
    room = a_room()
    async with a_gateway(nats_url, window=1) as gateway, gateway.tab(1, "Ann", room) as ann:
        stuck = gateway.publisher.send(
            "nobody.takes.this", b"", message_id=room, on_done=lambda _: None, deadline_seconds=60
        )
        async with gateway.tab(2, "Ben", room):
            assert (await ann.until("user_joined"))["user_id"] == 2
        assert gateway.publisher.unanswered == 1
        gateway.publisher.forget(stuck)
