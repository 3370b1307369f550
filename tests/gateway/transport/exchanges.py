"""Endpoints over HTTP, and a gateway of them: what they answer, and the streams that they open."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from starlette.types import Receive, Scope, Send

from gateway.errors import EndReason
from gateway.transport.connection import Connection
from gateway.transport.exchange import HttpEndpoints, HttpExchange, Shortcuts
from gateway.transport.frames import Close, Frame
from gateway.transport.http_stream import HttpStreamConnection
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from shared.runtime.process import running
from tests.gateway.serving import served
from tests.gateway.transport.transports import CLOSE_CODES, some_limits

SSE = ((b"content-type", b"text/event-stream"),)
FIRST = b"\r\n"


def event(text: bytes) -> Frame:
    return Frame(b"data: %b\n\n" % text)


class Listener:
    """Above a stream: says hello, repeats what it is fed, and says why it ends."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES
    ping: ClassVar[Frame | None] = event(b"ping")

    def __init__(self, connection: Connection) -> None:
        assert isinstance(connection, HttpStreamConnection)
        self.connection = connection
        self.ended: Close | None = None

    def received(self, message: str | bytes) -> None:
        if message == "fail":
            raise RuntimeError("a receiver that fails")
        assert isinstance(message, str)
        self.connection.send(event(message.encode()))

    def farewell(self, close: Close) -> Frame | None:
        return event(b"end %d" % close.code)

    def lost(self, close: Close) -> None:
        assert self.ended is None, "said once"
        self.ended = close


class Endpoints:
    """`/stream` opens one; `/echo` sends the body back, `/later` when it is let."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.exchanges: list[HttpExchange] = []
        self.later_seconds = 5.0
        self.let = asyncio.Event()
        self.answers_pings = False

    @property
    def by_path(self) -> HttpEndpoints:
        return {
            "/stream": {"GET": self.stream, "POST": self.stream},
            "/echo": {"GET": self.echo, "POST": self.echo},
            "/later": {"POST": self.later},
            "/stream later": {"GET": self.stream_later},
            "/fails": {"GET": self.fail},
            "/silent": {"GET": lambda exchange: None},
        }

    @property
    def shortcuts(self) -> Shortcuts:
        return Shortcuts(
            {"/short": self.echo, "/short/later": self.later, "/short/fails": self.fail},
            max_body_bytes=10,
        )

    def stream(self, exchange: HttpExchange) -> None:
        self.exchanges.append(exchange)
        listener = exchange.accept_stream(
            Listener, SSE, first=FIRST, sends_pongs=self.answers_pings
        )
        self.listeners.append(listener)
        listener.connection.send(event(b"hello " + exchange.request.body))

    def echo(self, exchange: HttpExchange) -> None:
        self.exchanges.append(exchange)
        exchange.respond(200, [(b"content-type", b"text/plain")], exchange.request.body)

    def later(self, exchange: HttpExchange) -> None:
        self.exchanges.append(exchange)
        exchange.start(self._later(exchange))

    def stream_later(self, exchange: HttpExchange) -> None:
        exchange.start(self._stream_later(exchange))

    def fail(self, exchange: HttpExchange) -> None:
        self.exchanges.append(exchange)
        match exchange.request.query:
            case b"answered":
                exchange.respond(200)
            case b"open":
                self.stream(exchange)
            case b"later":
                exchange.start(self._fail())
                return
            case _:
                pass
        raise RuntimeError("an endpoint that fails")

    async def _later(self, exchange: HttpExchange) -> None:
        async with asyncio.timeout(self.later_seconds):
            await self.let.wait()
        exchange.respond(204)

    async def _stream_later(self, exchange: HttpExchange) -> None:
        await self.let.wait()
        self.stream(exchange)

    async def _fail(self) -> None:
        raise RuntimeError("work that fails")


async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind them: it answers 299."""
    length = (b"content-length", b"0")
    await send({"type": "http.response.start", "status": 299, "headers": [length]})
    await send({"type": "http.response.body", "body": b""})


class StreamGateway:
    def __init__(self, **limits: float) -> None:
        self.endpoints = Endpoints()
        self.closes: list[Close] = []
        self.hub = Hub(some_limits(**limits), on_closed=self.closes.append)
        self.port = 0

    @asynccontextmanager
    async def peer(
        self, request: bytes = b"", *, receive_buffer_bytes: int | None = None
    ) -> AsyncGenerator["Peer"]:
        """Somebody who has connected, and sent the request."""
        with socket.socket() as connected:
            if receive_buffer_bytes is not None:  # before it connects, or it has no effect
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            connected.connect(("127.0.0.1", self.port))
            peer = Peer(connected)
            await peer.send(request)
            yield peer


@asynccontextmanager
async def a_stream_gateway(**limits: float) -> AsyncGenerator[StreamGateway]:
    gateway = StreamGateway(**({"sweep_seconds": 0.05} | limits))
    async with (
        gateway.hub.working(),
        running(gateway.hub.run),
        served(
            elsewhere,
            drain=gateway.hub.drain,
            options=websocket_options(
                gateway.hub, {}, gateway.endpoints.by_path, gateway.endpoints.shortcuts
            ),
        ) as gateway.port,
    ):
        yield gateway


class Peer:
    """A raw client of one connection."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected
        self.got = b""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def until(self, expected: bytes) -> bytes:
        """Read until it has come; return all that came since the last time, and keep the rest."""
        async with asyncio.timeout(10):
            while expected not in self.got:
                more = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                assert more, f"ended with {self.got[-200:]!r}"
                self.got += more
        before, found, self.got = self.got.partition(expected)
        return before + found

    async def rest(self) -> bytes:
        """All that comes until the end of the connection."""
        async with asyncio.timeout(10):
            while more := await asyncio.get_running_loop().sock_recv(self.socket, 65536):
                self.got += more
        return self.got


def a_request(
    target: bytes = b"/stream", method: bytes = b"GET", more: bytes = b"", body: bytes = b""
) -> bytes:
    if body or method == b"POST":
        more += b"Content-Length: %d\r\n" % len(body)
    return b"%b %b HTTP/1.1\r\nHost: x\r\n%b\r\n%b" % (method, target, more, body)
