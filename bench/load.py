"""A lean WebSocket client for load: one protocol object a connection, no parsing beyond frames."""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

OnFrame = Callable[["LoadConnection", bytes], None]


def client_frame(payload: bytes) -> bytes:
    """A masked text frame with the mask 0, which leaves the payload as it is."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + b"\0\0\0\0" + payload


class LoadConnection(asyncio.Protocol):
    """Connects, upgrades, and hands every text frame's payload to ``on_frame``."""

    def __init__(self, path: str, on_frame: OnFrame) -> None:
        self.path = path
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: bytes | None = None
        self._on_frame = on_frame
        self._buffer = b""
        self._upgraded = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        key = "AAAAAAAAAAAAAAAAAAAAAA=="
        self.transport.write(
            f"GET {self.path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def send(self, payload: bytes) -> None:
        self.transport.write(client_frame(payload))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        start = 0
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self._fail(buffer[:end])
                return
            self._upgraded, start = True, end + 4
        while len(buffer) - start >= 2:
            size, at = buffer[start + 1], start + 2
            if size == 126:
                size, at = int.from_bytes(buffer[start + 2 : start + 4], "big"), start + 4
            elif size == 127:
                size, at = int.from_bytes(buffer[start + 2 : start + 10], "big"), start + 10
            if len(buffer) < at + size:
                break
            self._frame(buffer[start] & 15, buffer[at : at + size])
            start = at + size
        self._buffer = buffer[start:]

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == 1:
            if not self.welcomed.done():
                self.welcomed.set_result(None)
            self._on_frame(self, payload)
        elif opcode == 9:
            self.transport.write(b"\x8a" + bytes((0x80 | len(payload),)) + b"\0\0\0\0" + payload)
        elif opcode == 8:
            self._fail(payload)

    def _fail(self, why: bytes) -> None:
        self.closed = why
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError(repr(why)))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed is None:
            self._fail(b"lost")


async def connect_all(
    port: int, paths: Sequence[str], on_frame: OnFrame, *, at_once: int = 50
) -> list[LoadConnection]:
    """Open a connection per path, a few at a time, and wait until each was welcomed."""
    loop, connections = asyncio.get_running_loop(), []
    for start in range(0, len(paths), at_once):
        batch = []
        for path in paths[start : start + at_once]:
            _, connection = await loop.create_connection(
                partial(LoadConnection, path, on_frame), "127.0.0.1", port
            )
            batch.append(connection)
        async with asyncio.timeout(60):
            for connection in batch:
                await connection.welcomed
        connections += batch
    return connections


def pin(pid: int, core: int) -> None:
    """Keep the process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core % (os.cpu_count() or 1)})
