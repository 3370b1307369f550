"""A gateway of sockets alone, and tabs that behave and misbehave."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.errors import EndReason
from gateway.transport.connection import Connection
from gateway.transport.deflate import deflated_text_frame
from gateway.transport.frames import Close, Frame, binary_frame, text_frame
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from gateway.transport.upgrade import Upgrade
from shared.runtime.process import running
from tests.gateway.serving import served
from tests.gateway.transport.transports import CLOSE_CODES, some_limits


class Echo:
    """Sends back what comes; some texts ask for more."""

    close_codes: ClassVar[Mapping[EndReason, Close]] = CLOSE_CODES
    ping: ClassVar[Frame | None] = None

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ended: Close | None = None
        self.released = asyncio.Event()

    def received(self, message: str | bytes) -> None:
        match message:
            case "fail":
                raise RuntimeError("a receiver that fails")
            case "fail later":
                self.connection.start(self._fail())
            case "work for ever":
                self.connection.start(self._work_for_ever())
            case "pause":
                self.connection.pause_reading()
                self.connection.start(self._resume())
            case "close":
                self.connection.send(text_frame(b"goodbye"))
                self.connection.close(EndReason.SESSION_ENDED)
            case bytes():
                self.connection.send(binary_frame(message))
            case _:
                encode = deflated_text_frame if self.connection.deflates else text_frame
                self.connection.send(encode(message.encode()))

    def farewell(self, close: Close) -> Frame | None:
        return None

    def lost(self, close: Close) -> None:
        self.ended = close

    async def _fail(self) -> None:
        raise RuntimeError("work that fails")

    async def _work_for_ever(self) -> None:
        await asyncio.Event().wait()

    async def _resume(self) -> None:
        await self.released.wait()
        self.connection.resume_reading()


class Gateway:
    def __init__(self, **limits: float) -> None:
        self.echoes: list[Echo] = []
        self.closes: list[Close] = []
        self.hub = Hub(some_limits(**limits), on_closed=self.closes.append)
        self.app = FastAPI()
        self.port = 0

    def take(self, upgrade: Upgrade) -> None:
        upgrade.accept(self.open)

    def open(self, connection: Connection) -> Echo:
        self.echoes.append(Echo(connection))
        return self.echoes[-1]

    def tab(self) -> connect:
        return connect(f"ws://127.0.0.1:{self.port}/", compression=None, open_timeout=10)


@asynccontextmanager
async def a_gateway(compresses: bool = False, /, **limits: float) -> AsyncGenerator[Gateway]:
    gateway = Gateway(**({"sweep_seconds": 0.05} | limits))
    async with (
        gateway.hub.working(),
        running(gateway.hub.run),
        served(
            gateway.app,
            drain=gateway.hub.drain,
            options=websocket_options(gateway.hub, {"/": gateway.take}, compresses=compresses),
        ) as gateway.port,
    ):
        yield gateway


async def ended(tab: ClientConnection) -> tuple[int, str]:
    """Read on until the connection is over; return the close."""
    async with asyncio.timeout(10):
        try:
            while True:
                await tab.recv()
        except ConnectionClosed as closed:
            return (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")


def a_handshake(
    target: bytes = b"/",
    method: bytes = b"GET",
    key: bytes = b"dGhlIHNhbXBsZSBub25jZQ==",
    version: bytes = b"13",
    more: bytes = b"",
) -> bytes:
    return (
        b"%b %b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: %b\r\n%b\r\n"
    ) % (method, target, key, version, more)


@asynccontextmanager
async def a_stalled_tab(port: int) -> AsyncGenerator[socket.socket]:
    """A tab that has shaken hands, with small buffers, and reads nothing more."""
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, a_handshake())
        head = b""
        async with asyncio.timeout(20):
            while b"\r\n\r\n" not in head:
                head += await loop.sock_recv(raw, 1)
        assert b"101" in head
        yield raw


async def read_to_the_end(raw: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    async with asyncio.timeout(10):
        while chunk := await loop.sock_recv(raw, 65536):
            received += chunk
    return received
