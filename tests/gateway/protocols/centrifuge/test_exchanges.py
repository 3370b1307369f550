"""Whole exchanges of the protocol, byte for byte, as they were captured between the JavaScript SDK
and a server of its family. What varies has a name in them, such as `<client>`: whatever comes there
first has to come again wherever the name does. Offsets are those of our one stream.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.channels.options import Namespace, PersonalOptions, Who
from tests.fixtures import plain_http
from tests.fixtures.nats import StartServer
from tests.gateway.chatting import RunningGateway, a_gateway, token_of
from tests.gateway.serving import DEADLINE_SECONDS, until

API_KEY = "k" * 20
SEEN: dict[str, Any] = {"presence": True, "join_leave": True, "force_push_join_leave": True}
SETTINGS: dict[str, Any] = {
    "api_key": SecretStr(API_KEY),
    "allow_anonymous_connect_without_token": True,
    "personal_channel": PersonalOptions(**SEEN),
    "without_namespace": Namespace(
        **SEEN,
        publish=Who.USERS,
        force_recovery=True,
        allowed_delta_types={"fossil"},
        delta_publish=True,
        allow_subscribe_for_anonymous=True,
    ),
}
UNSEEN: dict[str, Any] = SETTINGS | {
    "without_namespace": Namespace(force_recovery=True, allow_subscribe_for_anonymous=True)
}
QUICK = {"ping_seconds": 2, "pong_seconds": 1.9}
ME = '"user":"42","client":"<client>","conn_info":{"name":"Ann"}'
_NAME = re.compile(r"<(\w+)>")


class Transcript:
    """Knows what the names in it stand for, as soon as that has come, or was said."""

    def __init__(self, hear: Callable[[], Awaitable[str]]) -> None:
        self._hear = hear
        self.names: dict[str, str] = {}

    def filled(self, text: str) -> str:
        return _NAME.sub(lambda name: self.names[name[1]], text)

    async def hears(self, *lines: str) -> None:
        """These come next, one after another."""
        for line in lines:
            self.check(line, await self._next())

    async def hears_in_any_order(self, *lines: str) -> None:
        """These come next; in which order, the protocol leaves open."""
        came = [await self._next() for _ in lines]
        for line in lines:
            text = next((each for each in came if self._match(line, each)), None)
            assert text is not None, f"{self._readable(line)} is not in {came}"
            self.check(line, text)
            came.remove(text)

    def check(self, line: str, text: str) -> None:
        found = self._match(line, text)
        assert found is not None, f"{text}\nis not\n{self._readable(line)}"
        self.names |= found.groupdict()

    async def _next(self) -> str:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._hear()

    def _match(self, line: str, text: str) -> re.Match[str] | None:
        pattern, begun = "", set(self.names)
        for index, part in enumerate(_NAME.split(line)):
            if index % 2 == 0:
                pattern += re.escape(part)
            elif part in self.names:
                pattern += re.escape(self.names[part])
            else:
                pattern += f"(?P={part})" if part in begun else f'(?P<{part}>[^",}}]+)'
                begun.add(part)
        return re.fullmatch(pattern, text)

    def _readable(self, line: str) -> str:
        return _NAME.sub(lambda name: self.names.get(name[1], name[0]), line)


class Talk(Transcript):
    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        super().__init__(self._recv)

    async def says(self, *lines: str) -> None:
        """In one message."""
        await self.socket.send(self.filled("\n".join(lines)))

    async def closed(self) -> tuple[int, str]:
        try:
            while True:
                await self._next()
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")

    async def _recv(self) -> str:
        return str(await self.socket.recv())


@asynccontextmanager
async def talk(gateway: RunningGateway) -> AsyncGenerator[Talk]:
    url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
    async with connect(url, compression=None, max_queue=None, close_timeout=1) as socket:
        yield Talk(socket)


@asynccontextmanager
async def an_api(gateway: RunningGateway) -> AsyncGenerator[httpx2.AsyncClient]:
    url, headers = f"http://127.0.0.1:{gateway.port}", {"X-API-Key": API_KEY}
    async with plain_http.client(base_url=url, headers=headers) as client:
        yield client


async def call(api: httpx2.AsyncClient, method: str, body: str) -> str:
    answer = await api.post(f"/api/{method}", content=body)
    assert answer.status_code == 200, answer.text
    return answer.text


async def seen(api: httpx2.AsyncClient, channel: str, offset: int) -> None:
    """Wait until the gateway has seen what was published."""
    asked = json.dumps({"channel": channel})
    async with asyncio.timeout(DEADLINE_SECONDS):
        while f'"offset":{offset}}}' not in await call(api, "history", asked):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def everybody_left(gateway: RunningGateway, api: httpx2.AsyncClient, channel: str) -> None:
    await until(lambda: gateway.parts.manager.connection_count() == 0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        asked = json.dumps({"channel": channel})
        while '"presence":{}' not in await call(api, "presence", asked):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_websocket(nats_server: StartServer) -> None:
    dj = ME + ',"chan_info":{"role":"dj"}'
    mine = token_of(42, "Ann", info={"name": "Ann"})
    of_news = token_of(42, "Ann", channel="news", info={"role": "dj"}, expire_at=0)
    of_dlt = token_of(42, "Ann", channel="dlt", info={"role": "dj"}, expire_at=0)
    said = {"token": mine, "news": of_news, "dlt": of_dlt}
    async with a_gateway(nats_server().url, settings=SETTINGS) as gateway, an_api(gateway) as api:
        async with talk(gateway) as client:
            client.names |= said
            await client.says('{"connect":{"token":"<token>","name":"js"},"id":1}')
            await client.hears(
                '{"id":1,"connect":{"client":"<client>","version":"<version>",'
                '"expires":true,"ttl":<ttl>,"subs":{"#42":{"recoverable":true,"epoch":"<epoch>",'
                '"positioned":true}},"ping":20,"pong":true}}',
                '{"push":{"channel":"#42","join":{"info":{' + ME + "}}}}",
            )
            await client.says('{"subscribe":{"channel":"news","token":"<news>","flag":1},"id":2}')
            await client.hears(
                '{"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>","positioned":true}}',
                '{"push":{"channel":"news","join":{"info":{' + dj + "}}}}",
            )
            await client.says('{"publish":{"channel":"news","data":{"text":"hi"}},"id":3}')
            await client.hears_in_any_order(
                '{"push":{"channel":"news","pub":{"data":{"text":"hi"},"info":{' + dj + "},"
                '"offset":1}}}',
                '{"id":3,"publish":{}}',
            )
            await client.says('{"presence":{"channel":"news"},"id":4}')
            await client.hears('{"id":4,"presence":{"presence":{"<client>":{' + dj + "}}}}")
            await client.says('{"presence_stats":{"channel":"news"},"id":5}')
            await client.hears('{"id":5,"presence_stats":{"num_clients":1,"num_users":1}}')
            await client.says('{"history":{"channel":"news","limit":10},"id":6}')
            await client.hears(
                '{"id":6,"history":{"publications":[{"data":{"text":"hi"},"info":{' + dj + "},"
                '"offset":1}],"epoch":"<epoch>","offset":1}}'
            )
            await client.says('{"rpc":{"method":"x","data":{"a":1}},"id":7}')
            await client.hears('{"id":7,"error":{"code":108,"message":"not available"}}')
            await client.says('{"subscribe":{"channel":"nons:x","flag":1},"id":9}')
            await client.hears('{"id":9,"error":{"code":102,"message":"unknown channel"}}')

        for channel in ("#42", "news"):
            await everybody_left(gateway, api, channel)
        await call(api, "publish", '{"channel":"news","data":{"text":"missed 1"}}')
        await call(api, "publish", '{"channel":"news","data":{"text":"missed 2"},"tags":{"k":"v"}}')
        await seen(api, "news", 3)

        async with talk(gateway) as client:
            client.names |= said
            await client.says(
                '{"connect":{"token":"<token>","name":"js","subs":{"#42":{"recover":true}}},"id":10}',
                '{"subscribe":{"channel":"news","token":"<news>","flag":1,"recover":true,"offset":1},'
                '"id":11}',
            )
            await client.hears(
                '{"id":10,"connect":{"client":"<client>","version":"<version>",'
                '"expires":true,"ttl":<ttl>,"subs":{"#42":{"recoverable":true,"epoch":"<epoch>",'
                '"recovered":true,"positioned":true,"was_recovering":true}},"ping":20,"pong":true}}'
            )
            await client.hears_in_any_order(
                '{"push":{"channel":"#42","join":{"info":{' + ME + "}}}}",
                '{"id":11,"subscribe":{"recoverable":true,'
                '"epoch":"<epoch>","publications":[{"data":{"text":"missed 1"},"offset":2},'
                '{"data":{"text":"missed 2"},"offset":3,"tags":{"k":"v"}}],'
                '"recovered":true,"offset":1,"positioned":true,"was_recovering":true}}',
                '{"push":{"channel":"news","join":{"info":{' + dj + "}}}}",
            )
            await call(api, "publish", '{"channel":"#42","data":{"note":"personal"}}')
            await client.hears(
                '{"push":{"channel":"#42","pub":{"data":{"note":"personal"},"offset":4}}}'
            )

            await client.says(
                '{"subscribe":{"channel":"dlt","token":"<dlt>","flag":1,"delta":"fossil"},"id":12}'
            )
            await client.hears(
                '{"id":12,"subscribe":{"recoverable":true,'
                '"epoch":"<epoch>","offset":4,"positioned":true,"delta":true}}',
                '{"push":{"channel":"dlt","join":{"info":{' + dj + "}}}}",
            )
            pad = "x" * 60
            await call(api, "publish", '{"channel":"dlt","data":{"n":1,"pad":"' + pad + '"}}')
            await call(api, "publish", '{"channel":"dlt","data":{"n":2,"pad":"' + pad + '"}}')
            await client.hears(
                '{"push":{"channel":"dlt","pub":{"data":"{\\"n\\":1,\\"pad\\":\\"' + pad + '\\"}",'
                '"offset":5}}}',
                '{"push":{"channel":"dlt","pub":{"data":"1C\\n6:{\\"n\\":216@6,1jun~g;",'
                '"offset":6,"delta":true}}}',
            )

            client.names["renewed"] = token_of(42, "Ann", seconds=60, info={"name": "Ann"})
            await client.says('{"refresh":{"token":"<renewed>"},"id":13}')
            await client.hears('{"id":13,"refresh":{"expires":true,"ttl":<later>}}')

            await call(api, "subscribe", '{"user":"42","channel":"srv"}')
            await client.hears(
                '{"push":{"channel":"srv","subscribe":{"recoverable":true,"epoch":"<epoch>",'
                '"offset":6,"positioned":true}}}',
                '{"push":{"channel":"srv","join":{"info":{' + ME + "}}}}",
            )
            over = '"unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}'
            for channel in ("srv", "news"):
                await call(api, "unsubscribe", '{"user":"42","channel":"' + channel + '"}')
                await client.hears('{"push":{"channel":"' + channel + '",' + over)
            await client.says('{"unsubscribe":{"channel":"dlt"},"id":14}')
            await client.hears('{"id":14,"unsubscribe":{}}')
            await call(api, "disconnect", '{"user":"42"}')
            assert await client.closed() == (3503, "force disconnect")


async def test_pings_and_pongs_of_a_websocket(nats_server: StartServer) -> None:
    settings = SETTINGS | QUICK
    async with a_gateway(nats_server().url, settings=settings) as gateway, talk(gateway) as client:
        await client.says('{"connect":{"name":"js"},"id":1}')
        await client.hears(
            '{"id":1,"connect":{"client":"<client>","version":"<version>","ping":2,"pong":true}}',
            "{}",
        )
        await client.says("{}")
        await client.hears("{}")
        assert await client.closed() == (3012, "no pong")


async def test_events_with_commands_that_come_by_themselves(nats_server: StartServer) -> None:
    asked = quote('{"connect":{"name":"js"},"id":1}')
    async with (
        a_gateway(nats_server().url, settings=UNSEEN) as gateway,
        an_api(gateway) as api,
        api.stream("GET", f"/connection/sse?cf_connect={asked}") as response,
    ):
        stream = Transcript(_events(response.aiter_raw()))
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        await stream.hears(
            '\ndata: {"id":1,"connect":{"client":"<client>","version":"<version>","ping":20,'
            '"pong":true,"session":"<session>","node":"<node>"}}\n\n'
        )
        commands = {
            "session": stream.names["session"],
            "node": stream.names["node"],
            "data": '{"subscribe":{"channel":"test","flag":1},"id":2}',
        }
        assert (await api.post("/emulation", json=commands)).status_code == 204
        await stream.hears(
            'data: {"id":2,"subscribe":{"recoverable":true,"epoch":"<epoch>",'
            '"positioned":true}}\n\n'
        )
        await call(api, "publish", '{"channel":"test","data":{"x":1}}')
        await stream.hears(
            'data: {"push":{"channel":"test","pub":{"data":{"x":1},"offset":1}}}\n\n'
        )


async def test_events_to_a_client_that_answers_no_ping(nats_server: StartServer) -> None:
    async with (
        a_gateway(nats_server().url, settings=UNSEEN | QUICK) as gateway,
        an_api(gateway) as api,
        api.stream("POST", "/connection/sse", content='{"connect":{},"id":1}') as response,
    ):
        await Transcript(_events(response.aiter_raw())).hears(
            '\ndata: {"id":1,"connect":{"client":"<client>","version":"<version>","ping":2,'
            '"pong":true,"session":"<session>","node":"<node>"}}\n\n',
            "data: {}\n\n",
            'data: {"push":{"disconnect":{"code":3012,"reason":"no pong"}}}\n\n',
            "",
        )


def _events(pieces: AsyncIterator[bytes]) -> Callable[[], Awaitable[str]]:
    """What the body has to the end of its next event; nothing at its own end."""
    rest = b""

    async def event() -> str:
        nonlocal rest
        while b"}\n\n" not in rest:
            piece = await anext(pieces, b"")
            if not piece:
                break
            rest += piece
        found, end, rest = rest.partition(b"}\n\n")
        return (found + end).decode()

    return event


async def test_a_client_to_which_the_server_alone_speaks(nats_server: StartServer) -> None:
    async with (
        a_gateway(nats_server().url, settings=UNSEEN | QUICK) as gateway,
        an_api(gateway) as api,
        api.stream("POST", "/connection/uni_http_stream", content='{"subs":{}}') as response,
    ):
        lines = response.aiter_lines()
        await Transcript(lambda: anext(lines)).hears(
            '{"connect":{"client":"<client>","version":"<version>","ping":2,'
            '"session":"<session>"}}',
            "{}",
        )


async def test_the_server_api(nats_server: StartServer) -> None:
    nothing_there = '{"error":{"code":102,"message":"unknown channel"}}'
    async with a_gateway(nats_server().url, settings=UNSEEN) as gateway, an_api(gateway) as api:
        exchanges = [
            ("publish", '{"channel":"nons:a","data":{}}', nothing_there),
            (
                "broadcast",
                '{"channels":["a","nons:b"],"data":{"x":1}}',
                '{"result":{"responses":[{"result":{"offset":1,"epoch":"<epoch>"}},'
                + nothing_there
                + "]}}",
            ),
            (
                "history",
                '{"channel":"a","limit":2}',
                '{"result":{"publications":[{"data":{"x":1},"offset":1}],"epoch":"<epoch>",'
                '"offset":1}}',
            ),
            (
                "history",
                '{"channel":"a","limit":1,"since":{"offset":0,"epoch":"bad"}}',
                '{"error":{"code":112,"message":"unrecoverable position"}}',
            ),
            ("presence", '{"channel":"#42"}', '{"result":{"presence":{}}}'),
            (
                "batch",
                '{"commands":[{"publish":{"channel":"a","data":{}}},'
                '{"publish":{"channel":"nons:a","data":{}}},{"presence":{"channel":"#42"}}],'
                '"parallel":false}',
                '{"replies":[{"publish":{"offset":2,"epoch":"<epoch>"}},'
                + nothing_there
                + ',{"presence":{"presence":{}}}]}',
            ),
        ]
        said = iter(exchanges)

        async def answer() -> str:
            method, body, _answer = next(said)
            if method == "history":
                await seen(api, "a", 1)
            return await call(api, method, body)

        await Transcript(answer).hears(*[expected for _method, _body, expected in exchanges])
