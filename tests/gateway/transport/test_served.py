"""A real server, on either event loop, over TCP, TLS and a Unix socket."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway.errors import EndReason
from gateway.transport.connection import LOST
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from gateway.transport.upgrade import Upgrade
from shared.runtime.listening import listen
from shared.runtime.process import Server, running, server_config
from tests.fixtures.certificates import Authority
from tests.gateway.serving import until
from tests.gateway.transport.exchanges import FIRST, Endpoints, a_request, event
from tests.gateway.transport.peer_frames import CLOSE, HELLO
from tests.gateway.transport.sockets import Echo, a_handshake
from tests.gateway.transport.transports import CLOSE_CODES, some_limits

PLAIN = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class EchoApp:
    """Echoes at ``/``, and has a stream at ``/stream``; over HTTP all other answers are 204."""

    def __init__(self) -> None:
        self.hub = Hub(some_limits())
        self.hosts: list[str | None] = []
        self.streams = Endpoints()

    def take(self, upgrade: Upgrade) -> None:
        self.hosts.append(upgrade.client_host)
        upgrade.accept(Echo)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Address:
    """Where the server listens, and how a peer connects to it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._path = str(folder / "socket")
        self._authority = Authority(folder)
        self.kind = kind
        self._port = 0

    def options(self) -> dict[str, Any]:
        if self.kind == "unix":
            return {"uds": self._path}
        if self.kind == "tls":
            certificate, key = self._authority.sign("127.0.0.1")
            return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}
        return {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Sequence[socket.socket] | None]:
        with nullcontext() if self.kind == "unix" else listen("127.0.0.1", 0) as taken:
            self._port = taken.getsockname()[1] if taken else 0
            yield [taken] if taken else None

    async def enter(self) -> Streams:
        if self.kind == "unix":
            return await asyncio.open_unix_connection(self._path)
        trusted = ssl.create_default_context(cafile=self._authority.certificate)
        context = trusted if self.kind == "tls" else None
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=context)


@pytest.fixture(params=["tcp", "tls", "unix"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Address(request.param, tmp_path)


@asynccontextmanager
async def serving(app: EchoApp, address: Address) -> AsyncGenerator[None]:
    stop = asyncio.Event()
    options = websocket_options(app.hub, {"/": app.take}, app.streams.by_path) | address.options()
    config = server_config(app, forwarded_allow_ips="127.0.0.1", **options)
    server = Server(config, stop=stop, drain=app.hub.drain)
    async with (
        app.hub.working(),
        running(app.hub.run),
        address.open() as taken,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(server.serve(sockets=None if taken is None else list(taken)))
        await until(lambda: server.started)
        yield
        stop.set()


async def conversation(address: Address, *pieces: bytes) -> bytes:
    """All that comes back; the last piece has to end the connection."""
    reader, writer = await address.enter()
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.02)  # so that most arrive for themselves; all has to be well if not
    async with asyncio.timeout(10):
        got = await reader.read()
    writer.close()
    return got


async def test_a_connection_opens_and_loses_no_early_byte(address: Address) -> None:
    handshake = a_handshake()
    app = EchoApp()
    async with serving(app, address):
        for pieces in (
            [handshake + HELLO + CLOSE],
            [handshake[:40], handshake[40:] + HELLO[:4], HELLO[4:] + CLOSE],
            [PLAIN, handshake, HELLO, CLOSE],
            [PLAIN + handshake + HELLO + CLOSE],
        ):
            got = await conversation(address, *pieces)
            earlier, _, opened = got.rpartition(b"HTTP/1.1 101 ")
            assert earlier.count(b"HTTP/1.1 204 ") == pieces[0].startswith(PLAIN)
            assert opened.partition(b"\r\n\r\n")[2] == b"\x81\x05hello\x88\x02\x03\xe8"
        await until(lambda: len(app.hub) == 0)


async def test_an_endpoint_sees_the_address_of_the_client(address: Address) -> None:
    app = EchoApp()
    async with serving(app, address):
        await conversation(address, a_handshake() + CLOSE)
    assert app.hosts == [None if address.kind == "unix" else "127.0.0.1"]


async def test_a_stream_opens_and_ends_with_its_farewell(address: Address) -> None:
    app = EchoApp()
    async with serving(app, address):
        for pieces in (
            [a_request(method=b"POST", body=b"you")],
            [PLAIN, a_request(b"/echo"), a_request(method=b"POST", body=b"you")],
            [a_request(method=b"POST", body=b"you")[:-2], b"ou"],
        ):
            reader, writer = await address.enter()
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            async with asyncio.timeout(10):
                await reader.readuntil(b"hello you\n\n")
                listener = app.streams.listeners[-1]
                listener.connection.send(event(b"last"))
                listener.connection.close(EndReason.SESSION_ENDED)
                end = event(b"end %d" % CLOSE_CODES[EndReason.SESSION_ENDED].code)
                assert await reader.read() == event(b"last") + end
            writer.close()
        await until(lambda: len(app.hub) == 0)


async def test_a_peer_that_ends_its_side_has_ended_its_stream(address: Address) -> None:
    app = EchoApp()
    async with serving(app, address):
        reader, writer = await address.enter()
        writer.write(a_request())
        await reader.readuntil(FIRST + event(b"hello "))
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
        await until(lambda: app.streams.listeners[0].ended == LOST)
        writer.close()
