"""A TCP proxy that makes a network bad: late, narrow, stalled, reset, cut.

Standard library alone, so that it runs in any image that has Python, mounted as this one file:

    python fault_proxy.py LISTEN_PORT UPSTREAM_HOST:UPSTREAM_PORT CONTROL_PORT

    GET  /        the faults, and what has passed, as JSON
    POST /faults  with {"latency_seconds": 0.1, …}: all others are as they are by default
    POST /reset   end all connections by RST
    POST /cut     all connections are dead from now on, and nobody is told
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields

CHUNK_BYTES = 64 * 1024
QUEUED_BYTES = 1024 * 1024
"""On their way in one direction; with more, nothing is read. A wire is no endless buffer."""
CONNECT_SECONDS = 5.0
HEAD_SECONDS = 5.0
POLL_SECONDS = 0.02
"""How soon a stall that ends is noticed."""
TURNS_UNTIL_SERVED = 4
"""Of the loop: from the one in which somebody is accepted to the one in which he is served."""
_RST = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


@dataclass
class Faults:
    """What is wrong with the network, in each direction."""

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    """At most so much more or less; bytes never overtake each other."""
    bytes_per_second: float = 0.0
    """0: as many as there are."""
    stalled: bool = False
    """Bytes wait, and connections stay open."""
    refusing: bool = False
    """New connections are reset at once."""


class Link:
    """One connection through the proxy."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writers = [writer]
        self.dead = False
        self.over = False

    def reach(self, upstream: asyncio.StreamWriter) -> None:
        self._writers.append(upstream)
        if self.over:
            self.reset()

    def reset(self) -> None:
        self.over = True
        for writer in self._writers:
            with contextlib.suppress(OSError):  # it may be closed by now
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class FaultProxy:
    """Carries every connection to an upstream, with the faults of the moment."""

    def __init__(self, host: str, port: int) -> None:
        self.faults = Faults()
        self.accepted = 0
        self.carried_bytes = 0
        self.upstreams = deque([(host, port)])
        """Of several, each connection goes to the next."""
        self._links: set[Link] = set()

    @property
    def open(self) -> int:
        return len(self._links)

    def reset_all(self) -> None:
        for link in self._links:
            link.reset()

    def cut_all(self) -> None:
        """As if the cable were pulled: what is open now never carries a byte again."""
        for link in self._links:
            link.dead = True

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        self.accepted += 1
        self.upstreams.rotate(-1)
        link = Link(writer)
        self._links.add(link)
        try:
            await self._connect(reader, writer, link)
        finally:
            self._links.discard(link)
            link.close()

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link
    ) -> None:
        try:
            if self.faults.refusing:
                raise ConnectionRefusedError
            async with asyncio.timeout(CONNECT_SECONDS):
                their_reader, their_writer = await asyncio.open_connection(*self.upstreams[-1])
        except (OSError, TimeoutError):
            link.reset()
            return
        link.reach(their_writer)
        if link.over:
            return
        for each in (writer, their_writer):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.TaskGroup() as group:
            for source, target in ((reader, their_writer), (their_reader, writer)):
                group.create_task(self._carry(source, target, link))

    async def _carry(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, link: Link
    ) -> None:
        wire = _Wire()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(source, wire))
                group.create_task(self._write(wire, target, link))
        except* OSError:
            link.reset()  # the other direction ends with it

    async def _read(self, source: asyncio.StreamReader, wire: "_Wire") -> None:
        while True:
            chunk = await source.read(CHUNK_BYTES)
            late = self.faults.latency_seconds
            late += random.uniform(-1, 1) * self.faults.jitter_seconds
            await wire.put(chunk, after_seconds=max(0.0, late))
            if not chunk:
                return

    async def _write(self, wire: "_Wire", target: asyncio.StreamWriter, link: Link) -> None:
        async for chunk in wire.chunks():
            while (self.faults.stalled or link.dead) and not link.over:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
            if self.faults.bytes_per_second:
                await asyncio.sleep(len(chunk) / self.faults.bytes_per_second)
            target.write(chunk)
            await target.drain()
            self.carried_bytes += len(chunk)
        if target.can_write_eof():
            target.write_eof()


class _Wire:
    """Chunks on their way in one direction, each with the moment when it is due."""

    def __init__(self) -> None:
        self._due: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()

    async def put(self, chunk: bytes, *, after_seconds: float) -> None:
        due = asyncio.get_running_loop().time() + after_seconds
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes < QUEUED_BYTES)
            self._due.append((due, chunk))
            self._bytes += len(chunk)
            self._changed.notify_all()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Each chunk when it is due, up to the end of the connection."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: bool(self._due))
                due, chunk = self._due[0]
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            if not chunk:
                return
            yield chunk
            async with self._changed:
                self._due.popleft()
                self._bytes -= len(chunk)
                self._changed.notify_all()


@asynccontextmanager
async def fault_proxy(
    host: str, port: int, *, listen_host: str = "127.0.0.1", listen_port: int = 0
) -> AsyncGenerator[tuple[FaultProxy, int]]:
    """A proxy in this process, and its port. At the end its connections are reset."""
    proxy = FaultProxy(host, port)
    server = await asyncio.start_server(proxy.serve, listen_host, listen_port)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        # Asyncio loses who was accepted in the turn of the close: nobody would ever hear of it.
        for each in server.sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
        for _ in range(TURNS_UNTIL_SERVED):
            await asyncio.sleep(0)
        server.close()
        while proxy.open:  # their tasks end in the next turns of the loop
            proxy.reset_all()
            await asyncio.sleep(POLL_SECONDS)


class Control:
    """The proxy's HTTP interface: one small request a connection."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._actions: dict[tuple[str, str], Callable[[bytes], None]] = {
            ("GET", "/"): lambda _body: None,
            ("POST", "/faults"): self._set,
            ("POST", "/reset"): lambda _body: proxy.reset_all(),
            ("POST", "/cut"): lambda _body: proxy.cut_all(),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(HEAD_SECONDS):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                body = await reader.readexactly(_length(head))
            method, path, *_ = head.split()
            action = self._actions.get((method, path))
            if action is not None:
                action(body)
            writer.write(self._answer(200 if action is not None else 404))
            await writer.drain()
        writer.close()

    def _set(self, body: bytes) -> None:
        known = {field.name for field in fields(Faults)}
        given = {name: value for name, value in json.loads(body).items() if name in known}
        self._proxy.faults = Faults(**given)

    def _answer(self, status: int) -> bytes:
        proxy = self._proxy
        state = {"accepted": proxy.accepted, "open": proxy.open, "bytes": proxy.carried_bytes}
        body = json.dumps({**asdict(proxy.faults), **state}).encode()
        head = f"HTTP/1.1 {status} \r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body


def _length(head: str) -> int:
    for line in head.lower().split("\r\n"):
        name, _, value = line.partition(":")
        if name == "content-length":
            return int(value)
    return 0


async def main(listen_port: str, upstream: str, control_port: str) -> None:
    host, _, port = upstream.rpartition(":")
    async with fault_proxy(
        host, int(port), listen_host="0.0.0.0", listen_port=int(listen_port)
    ) as (proxy, _port):
        control = await asyncio.start_server(Control(proxy).serve, "0.0.0.0", int(control_port))
        async with control:
            await control.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
