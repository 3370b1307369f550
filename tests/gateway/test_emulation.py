"""Commands that come with requests of their own, to whatever gateway the proxy chooses."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tests.fixtures import plain_http
from tests.gateway.chatting import RunningGateway, a_gateway, token_of
from tests.gateway.serving import DEADLINE_SECONDS


class Stream:
    """A client whose connection is a response without an end."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.welcome: dict[str, Any] = {}

    async def get(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await anext(self._lines))
        return message

    def asks(self, **command: Any) -> dict[str, str]:
        """The body of a request with one command."""
        whose = {name: self.welcome[name] for name in ("session", "node")}
        return whose | {"data": json.dumps({"id": 2} | command)}


@asynccontextmanager
async def a_client_of(gateway: RunningGateway) -> AsyncGenerator[httpx2.AsyncClient]:
    async with plain_http.client(base_url=f"http://127.0.0.1:{gateway.port}") as client:
        yield client


@asynccontextmanager
async def a_stream(client: httpx2.AsyncClient, user_id: int) -> AsyncGenerator[Stream]:
    connect = {"id": 1, "connect": {"token": token_of(user_id, "Ann")}}
    async with client.stream("POST", "/connection/http_stream", json=connect) as response:
        stream = Stream(response.aiter_lines())
        stream.welcome = (await stream.get())["connect"]
        yield stream


async def test_commands_reach_their_stream_from_any_gateway(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    async with (
        a_client_of(gateway) as here,
        a_client_of(other) as there,
        a_stream(here, 1) as stream,
    ):
        answers = [
            await client.post("/emulation", json=stream.asks(rpc={"method": "m"}))
            for client in (here, there)
        ]
        replies = [await stream.get() for _ in answers]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert replies == [{"id": 2, "error": {"code": 108, "message": "not available"}}] * 2


async def test_commands_for_nobody_are_answered_404_by_any_gateway(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    async with (
        a_client_of(gateway) as here,
        a_client_of(other) as there,
        a_stream(here, 1) as stream,
    ):
        asked = stream.asks(rpc={})
        wrong_session = asked | {"session": "0" * 32}
        wrong_node = asked | {"node": "0" * 16}
        no_name = asked | {"node": "all"}
        statuses = [
            (await client.post("/emulation", json=body)).status_code
            for client in (here, there)
            for body in (wrong_session, wrong_node, no_name)
        ]

    assert statuses == [404] * 6


async def test_commands_for_a_gateway_that_died_are_answered_404(
    nats_url: str, gateway: RunningGateway
) -> None:
    async with a_client_of(gateway) as here:
        async with (
            a_gateway(nats_url) as dying,
            a_client_of(dying) as there,
            a_stream(there, 1) as stream,
        ):
            asked = stream.asks(rpc={"method": "m"})
        answer = await here.post("/emulation", json=asked)

    assert answer.status_code == 404


async def test_what_is_no_command_is_answered_400(gateway: RunningGateway) -> None:
    async with a_client_of(gateway) as here:
        bodies = [b"{", b"[]", b'{"session":"a","node":1,"data":""}', b'{"node":"a"}']
        answers = [await here.post("/emulation", content=body) for body in bodies]

    assert [answer.status_code for answer in answers] == [400] * 4


async def test_half_a_surrogate_pair_passes_from_gateway_to_gateway(
    gateway: RunningGateway, other: RunningGateway
) -> None:
    async with (
        a_client_of(gateway) as here,
        a_client_of(other) as there,
        a_stream(here, 1) as stream,
    ):
        asked = stream.asks(rpc={"method": "m"})
        whose = {name: asked[name] for name in ("session", "node")}
        body = json.dumps(whose)[:-1] + ',"data":"\\ud83d"}'
        answer = await there.post("/emulation", content=body)
        bye = await stream.get()

    assert answer.status_code == 204
    assert bye == {"push": {"disconnect": {"code": 3501, "reason": "bad request"}}}


async def test_a_stream_whose_connect_is_refused_ends_with_the_error(
    gateway: RunningGateway,
) -> None:
    connect = {"id": 1, "connect": {"token": token_of(1, "Ann", seconds=-5)}}
    async with (
        a_client_of(gateway) as client,
        asyncio.timeout(DEADLINE_SECONDS / 2),  # before it would end anyway
        client.stream("POST", "/connection/http_stream", json=connect) as response,
    ):
        lines = [json.loads(line) async for line in response.aiter_lines()]
    assert lines == [{"id": 1, "error": {"code": 109, "message": "token expired"}}]


async def test_a_stream_that_answers_no_ping_is_told_so(nats_url: str) -> None:
    quick = {"ping_seconds": 1, "pong_seconds": 0.4}
    async with (
        a_gateway(nats_url, settings=quick) as gateway,
        a_client_of(gateway) as client,
        a_stream(client, 1) as stream,
    ):
        assert [await stream.get() for _ in range(2)] == [
            {},
            {"push": {"disconnect": {"code": 3012, "reason": "no pong"}}},
        ]
