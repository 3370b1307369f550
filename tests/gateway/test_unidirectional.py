"""Transports on which the server alone speaks."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.protocols.centrifuge.service import EXPIRY_GRACE_SECONDS
from hubbub_client.contracts.channels import parse_channel
from hubbub_client.contracts.ids import UserId
from hubbub_client.jetstream.publisher import Publisher
from hubbub_client.jetstream.publishing import publish
from tests.gateway.chatting import RunningGateway, a_gateway, a_room, now, token_of
from tests.gateway.protocols.centrifuge.talking import talk, talking
from tests.gateway.serving import DEADLINE_SECONDS, until
from tests.gateway.test_emulation import a_client_of

Message = dict[str, Any]
API_KEY = "k" * 20
QUICK = {"ping_seconds": 1, "pong_seconds": 0.4}


class Listening:
    """A client that says no more than how it connects."""

    def __init__(self, get: Callable[[], Awaitable[str]]) -> None:
        self._get = get

    async def get(self) -> Message:
        """The next message; a ping is empty."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            message: Message = json.loads(await self._get())
        return message

    async def until(self, kind: str) -> Message:
        while True:
            message = await self.get()
            if kind in message:
                return message

    async def all_until_the_end(self) -> list[Message]:
        messages: list[Message] = []
        try:
            while True:
                messages.append(await self.get())
        except (ConnectionClosed, StopAsyncIteration):
            return messages


Listen = Callable[[RunningGateway, Message], AbstractAsyncContextManager[Listening]]


@asynccontextmanager
async def websocket(gateway: RunningGateway, asked: Message) -> AsyncGenerator[Listening]:
    url = f"ws://127.0.0.1:{gateway.port}/connection/uni_websocket"
    async with connect(url, compression=None, max_queue=None, close_timeout=1) as socket:
        await socket.send(json.dumps(asked))

        async def text() -> str:
            return str(await socket.recv())

        yield Listening(text)


@asynccontextmanager
async def websocket_by_url(gateway: RunningGateway, asked: Message) -> AsyncGenerator[Listening]:
    query = f"?cf_connect={quote(json.dumps(asked))}"
    url = f"ws://127.0.0.1:{gateway.port}/connection/uni_websocket{query}"
    async with connect(url, compression=None, max_queue=None, close_timeout=1) as socket:

        async def text() -> str:
            return str(await socket.recv())

        yield Listening(text)


@asynccontextmanager
async def sse(gateway: RunningGateway, asked: Message) -> AsyncGenerator[Listening]:
    query = {"cf_connect": json.dumps(asked)}
    async with (
        a_client_of(gateway) as client,
        client.stream("GET", "/connection/uni_sse", params=query) as response,
    ):
        lines = response.aiter_lines()
        yield Listening(lambda: anext(_data_of(lines)))


@asynccontextmanager
async def http_stream(gateway: RunningGateway, asked: Message) -> AsyncGenerator[Listening]:
    async with (
        a_client_of(gateway) as client,
        client.stream("POST", "/connection/uni_http_stream", json=asked) as response,
    ):
        lines = response.aiter_lines()
        yield Listening(lambda: anext(lines))


async def _data_of(lines: AsyncIterator[str]) -> AsyncGenerator[str]:
    async for line in lines:
        if line:
            yield line.removeprefix("data: ")


every_transport = pytest.mark.parametrize("listen", [websocket, websocket_by_url, sse, http_stream])


@every_transport
async def test_a_client_is_connected_and_hears_the_channels_that_it_asked_for(
    listen: Listen, gateway: RunningGateway, publisher: Publisher
) -> None:
    channel = parse_channel(f"post:{a_room()}")
    async with listen(gateway, {"token": token_of(42, "Ann"), "subs": {channel: {}}}) as client:
        connected = (await client.get())["connect"]
        offset = (await publish(publisher, channel, {"likes": 1})).offset

        assert connected["client"]
        assert connected["version"]
        assert connected["subs"].keys() == {"#42", channel}
        assert connected["ping"] == 20
        assert "pong" not in connected
        assert "node" not in connected
        assert await client.until("pub") == {
            "channel": channel,
            "pub": {"data": {"likes": 1}, "offset": offset},
        }


@every_transport
async def test_pings_come_and_the_client_answers_none(
    listen: Listen, nats_url: str, publisher: Publisher
) -> None:
    channel = parse_channel(f"post:{a_room()}")
    async with (
        a_gateway(nats_url, settings=QUICK) as gateway,
        listen(gateway, {"token": token_of(1, "Ann"), "subs": {channel: {}}}) as client,
    ):
        assert (await client.get())["connect"]["ping"] == 1
        assert [await client.get() for _ in range(3)] == [{}] * 3
        await publish(publisher, channel, "still there")
        assert (await client.until("pub"))["pub"]["data"] == "still there"


@every_transport
async def test_the_connection_ends_some_time_after_its_token(
    listen: Listen, gateway: RunningGateway
) -> None:
    async with listen(gateway, {"token": token_of(1, "Ann")}) as client:
        await client.until("connect")
        manager = gateway.parts.manager
        (member,) = manager.connections_of(UserId("1"))
        manager.renew(member, replace(member.claims, expires_at=now() - EXPIRY_GRACE_SECONDS))
        member.end_with_token()

        assert await client.all_until_the_end() == [
            {"disconnect": {"code": 3005, "reason": "connection expired"}}
        ]


@every_transport
@pytest.mark.parametrize(
    ("asked", "disconnect"),
    [
        ({"token": "bad"}, {"code": 3500, "reason": "invalid token"}),
        ({}, {"code": 3501, "reason": "bad request"}),
        ({"token": token_of(1, "A", seconds=-5)}, {"code": 3005, "reason": "connection expired"}),
    ],
)
async def test_who_may_not_connect_is_told_why(
    listen: Listen, asked: Message, disconnect: Message, gateway: RunningGateway
) -> None:
    async with listen(gateway, asked) as client:
        assert await client.all_until_the_end() == [{"disconnect": disconnect}]


@pytest.mark.parametrize("path", ["uni_sse", "uni_http_stream"])
@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"token":1}'])
async def test_what_is_no_request_to_connect_is_answered_400(
    path: str, body: bytes, gateway: RunningGateway
) -> None:
    async with a_client_of(gateway) as client:
        answer = await client.post(f"/connection/{path}", content=body)
    assert answer.status_code == 400


@every_transport
async def test_services_can_name_the_one_connection_that_they_mean(
    listen: Listen, nats_url: str
) -> None:
    may = {"api_key": SecretStr(API_KEY)}
    asked = {"token": token_of(1, "Ann")}
    async with (
        a_gateway(nats_url, settings=may) as gateway,
        listen(gateway, asked) as meant,
        listen(gateway, asked) as other,
        a_client_of(gateway) as service,
    ):
        session = (await meant.until("connect"))["connect"]["session"]
        assert (await other.until("connect"))["connect"]["session"] != session
        order = {"user": "1", "session": session}
        # Answered or not: gateways of other tests may have a lease still.
        await service.post("/api/disconnect", json=order, headers={"X-API-Key": API_KEY})
        assert await meant.all_until_the_end() == [
            {"disconnect": {"code": 3503, "reason": "force disconnect"}}
        ]
        await until(lambda: gateway.parts.manager.connection_count() == 1)


async def test_who_finds_no_room_is_not_signed_in(nats_url: str) -> None:
    full = {"disconnect": {"code": 3004, "reason": "internal server error"}}
    async with (
        a_gateway(nats_url, settings={"max_connections": 1}) as gateway,
        talking(gateway, token_of(1, "Ann")),
    ):
        async with websocket_by_url(gateway, {"token": token_of(2, "Ben")}) as client:
            assert await client.all_until_the_end() == [full]
        refused = "hubbub_connections_refused_total"
        await until(lambda: gateway.metric(refused, reason="process_limit") == 1)


async def test_a_flood_of_what_nobody_reads_is_ended(nats_url: str) -> None:
    may = {"commands_per_second": 1, "command_burst": 2, "max_rate_refusals": 3}
    async with (
        a_gateway(nats_url, settings=may) as gateway,
        talk(gateway, "/connection/uni_websocket") as client,
    ):
        await client.socket.send(json.dumps({"token": token_of(1, "Ann")}))
        for _ in range(2 + 3 + 1):
            await client.socket.send("x")
        assert await client.closed() == (3013, "too many requests")
