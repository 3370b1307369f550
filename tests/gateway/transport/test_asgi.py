"""An ordinary ASGI endpoint sees the same on this protocol as on uvicorn's own."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.transport.hub import Hub
from gateway.transport.limits import Limits
from gateway.transport.sniffer import websocket_options
from shared.runtime.process import running
from tests.gateway.serving import served, until
from tests.gateway.transport.sockets import a_handshake, ended

Endpoint = Callable[[WebSocket], Awaitable[None]]

OURS, UVICORNS = "ours", "websockets-sansio"


class Served:
    def __init__(self, port: int, hub: Hub) -> None:
        self.port = port
        self.hub = hub

    def tab(self, path: str = "/", **options: Any) -> connect:
        options = {"compression": None} | options
        return connect(f"ws://127.0.0.1:{self.port}{path}", **options)

    @asynccontextmanager
    async def dropped(self) -> AsyncGenerator[socket.socket]:
        """A peer that asks for a WebSocket and is gone at the end, without a word."""
        loop = asyncio.get_running_loop()
        with socket.socket() as raw:
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", self.port))
            await loop.sock_sendall(raw, a_handshake())
            yield raw


Serve = Callable[[Endpoint], Any]


@pytest.fixture(params=[OURS, UVICORNS])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Serve an endpoint on either protocol."""

    @asynccontextmanager
    async def serving(endpoint: Endpoint) -> AsyncGenerator[Served]:
        hub = Hub(Limits(sweep_seconds=0.05))
        options = websocket_options(hub, {}) if request.param == OURS else {"ws": UVICORNS}
        app = Starlette(routes=[WebSocketRoute("/{path:path}", endpoint)])
        async with running(hub.run), served(app, drain=hub.drain, options=options) as port:
            yield Served(port, hub)

    return serving


async def test_it_is_told_of_the_request_and_accepts_with_a_subprotocol_and_headers(
    serve: Serve,
) -> None:
    scopes: list[dict[str, Any]] = []

    async def endpoint(tab: WebSocket) -> None:
        scopes.append(dict(tab.scope))
        headers = [(b"x-one", b"1"), (b"set-cookie", b"a=b")]
        await tab.accept(subprotocol="second", headers=headers)
        await tab.send_json({"cookies": tab.cookies, "a": tab.query_params["a"]})
        await tab.close()

    offered = [Subprotocol("first"), Subprotocol("second")]
    async with (
        serve(endpoint) as server,
        server.tab(
            "/r%C3%BCm?a=%20b", subprotocols=offered, additional_headers={"Cookie": "c=d"}
        ) as tab,
    ):
        assert tab.subprotocol == "second"
        assert tab.response.headers["x-one"] == "1"
        assert tab.response.headers["set-cookie"] == "a=b"
        assert "date" in tab.response.headers
        assert await tab.recv() == '{"cookies":{"c":"d"},"a":" b"}'

    [scope] = scopes
    given = {name: scope[name] for name in ("path", "raw_path", "query_string", "subprotocols")}
    assert given == {
        "path": "/rüm",
        "raw_path": b"/r%C3%BCm",
        "query_string": b"a=%20b",
        "subprotocols": ["first", "second"],
    }
    assert (scope["scheme"], scope["http_version"], scope["root_path"]) == ("ws", "1.1", "")
    assert scope["server"] == ("127.0.0.1", server.port)
    assert scope["client"][0] == "127.0.0.1"
    assert isinstance(scope["client"][1], int)
    assert "websocket.http.response" in scope["extensions"]
    assert HTTPConnection(scope).headers["upgrade"] == "websocket"


async def test_it_receives_and_sends_texts_and_bytes_in_order(serve: Serve) -> None:
    async def endpoint(tab: WebSocket) -> None:
        await tab.accept()
        for _ in range(40):
            await tab.send_text((await tab.receive_text()).upper())
            await tab.send_bytes(await tab.receive_bytes() + b"!")
        await tab.close(4000, "enough")

    async with serve(endpoint) as server, server.tab() as tab:
        for number in range(40):  # more than are read ahead
            await tab.send(f"ü{number}")
            await tab.send(b"%d" % number)
        for number in range(40):
            assert await tab.recv() == f"Ü{number}"
            assert await tab.recv() == b"%d!" % number
        assert await ended(tab) == (4000, "enough")


async def test_a_fragmented_message_and_an_empty_one_come_whole(serve: Serve) -> None:
    async def endpoint(tab: WebSocket) -> None:
        await tab.accept()
        async for text in tab.iter_text():
            await tab.send_text(f"<{text}>")

    async with serve(endpoint) as server, server.tab() as tab:
        await tab.send(["a", "b", "c"])
        await tab.send("")
        assert [await tab.recv(), await tab.recv()] == ["<abc>", "<>"]


async def test_a_rejection_is_a_403(serve: Serve) -> None:
    async def endpoint(tab: WebSocket) -> None:
        await tab.close(1008, "not you")

    async with serve(endpoint) as server:
        with pytest.raises(InvalidStatus) as refused:
            await server.tab()
    assert refused.value.response.status_code == 403
    assert refused.value.response.body == b""


async def test_a_rejection_may_say_why_as_http_does(serve: Serve) -> None:
    async def endpoint(tab: WebSocket) -> None:
        answer = PlainTextResponse("later", 429, headers={"Retry-After": "7"})
        await tab.send_denial_response(answer)

    async with serve(endpoint) as server:
        with pytest.raises(InvalidStatus) as refused:
            await server.tab()
    response = refused.value.response
    assert (response.status_code, response.body) == (429, b"later")
    assert response.headers["retry-after"] == "7"
    assert response.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (4001, "bye", [(4001, "bye")]),
        (1000, "", [(1000, "")]),
        (None, "", [(1006, ""), (1005, "")]),  # RFC 6455's word for it, and uvicorn's
    ],
)
async def test_it_is_told_how_its_peer_left_and_then_has_nobody_to_send_to(
    serve: Serve, code: int | None, reason: str, told: list[tuple[int, str]]
) -> None:
    left: list[tuple[int, str]] = []
    refusals: list[BaseException] = []

    async def endpoint(tab: WebSocket) -> None:
        await tab.accept()
        try:
            await tab.receive_text()
        except WebSocketDisconnect as gone:
            left.append((gone.code, gone.reason))
        for _ in range(2):
            try:
                await tab._send({"type": "websocket.send", "text": "too late"})
            except Exception as refusal:
                refusals.append(refusal)

    async with serve(endpoint) as server:
        tab = await server.tab()
        if code is None:
            tab.transport.abort()
        else:
            await tab.close(code, reason)
        await until(lambda: len(refusals) == 2)
    assert len(left) == 1
    assert left[0] in told
    assert all(isinstance(refusal, OSError) for refusal in refusals)


async def test_a_peer_that_leaves_in_its_handshake_is_told_to_who_waits(serve: Serve) -> None:
    told: list[Any] = []

    async def endpoint(tab: WebSocket) -> None:
        told.append(await tab._receive())
        told.append(await tab._receive())

    async with serve(endpoint) as server:
        async with server.dropped():
            await until(lambda: len(told) == 1)
        await until(lambda: len(told) == 2)
    assert [each["type"] for each in told] == ["websocket.connect", "websocket.disconnect"]
    assert told[1]["code"] == 1006


async def test_accepting_a_peer_that_has_left_is_no_failure(
    serve: Serve, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    asked, ends = asyncio.Event(), list[str]()

    async def endpoint(tab: WebSocket) -> None:
        asked.set()
        await tab._receive()
        await tab._receive()  # it has left
        try:
            await tab._send({"type": "websocket.accept"})
        finally:
            ends.append("over")

    async with serve(endpoint) as server:
        async with server.dropped():
            await asked.wait()
        await until(lambda: ends == ["over"])
    assert "endpoint_failed" not in capsys.readouterr().out
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_connection_ends_with_the_endpoint_that_forgets_to_close_it(serve: Serve) -> None:
    async def endpoint(tab: WebSocket) -> None:
        await tab.accept()
        await tab.send_text("hello")

    async with serve(endpoint) as server, server.tab() as tab:
        assert await tab.recv() == "hello"
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(5):
                await tab.recv()
        await until(lambda: len(server.hub) == 0)


async def test_nothing_of_an_endpoint_is_kept_once_it_is_over(serve: Serve) -> None:
    tasks = len(asyncio.all_tasks())

    async def endpoint(tab: WebSocket) -> None:
        await tab.accept()
        await tab.send_text(await tab.receive_text())

    async with serve(endpoint) as server:
        while_serving = len(asyncio.all_tasks())
        tabs: list[ClientConnection] = [await server.tab() for _ in range(5)]
        for tab in tabs:
            await tab.send("x")
            assert await tab.recv() == "x"
            await tab.close()
        await until(lambda: len(asyncio.all_tasks()) <= while_serving)
        assert len(server.hub) == 0
    assert len(asyncio.all_tasks()) == tasks
