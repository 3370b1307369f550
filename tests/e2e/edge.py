"""A tiny edge for the stack of local processes: one port, each path to its service.

It stands where the containers have a real proxy, and promises the same: connections and
requests go to the gateways in turn, to one that answers; callers are told by their own address
(X-Forwarded-For); what is for operators only is not there.
"""

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from tests.fixtures.tcp import a_tcp_server

Address = tuple[str, int]

CHUNK_BYTES = 64 * 1024
CONNECT_SECONDS = 2.0
HEAD_SECONDS = 10.0
CLOSE_SECONDS = 2.0
_HEAD_END = b"\r\n\r\n"


class Edge:
    """Routes each request by its path; the page's files lie in a folder."""

    def __init__(self, routes: Mapping[str, Sequence[Address]], *, page: Path) -> None:
        """
        Args:
            routes: Of a path's first part, who serves it; several take turns.
            page: The folder with ``index.html``, for ``/``, and the files under ``/web``.
        """
        self._routes = routes
        self._page = page
        self._turn = count()
        self._carrying: set[asyncio.Task[None]] = set()  # the loop itself holds them weakly

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one request, or one WebSocket, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            self._carrying.discard(task)
            writer.close()

    async def close(self) -> None:
        """End what is still being carried."""
        for task in self._carrying:
            task.cancel()
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=CLOSE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(HEAD_SECONDS):
                head = await reader.readuntil(_HEAD_END)
            path = head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
            addresses = self._routes.get(path.split("/")[1])
            if addresses is None:
                writer.write(self._file(path))
                await writer.drain()
            else:
                caller = writer.get_extra_info("peername")[0]
                await self._forward(_as_proxied(head, caller), addresses, reader, writer)

    async def _forward(
        self,
        head: bytes,
        addresses: Sequence[Address],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        first = next(self._turn)
        for turn in range(first, first + len(addresses)):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    upstream = await asyncio.open_connection(*addresses[turn % len(addresses)])
            except (OSError, TimeoutError):
                continue
            break
        else:
            writer.write(_answer(502, b"nobody is there", "text/plain"))
            return
        their_reader, their_writer = upstream
        their_writer.write(head)
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(_pump(reader, their_writer))
                await _pump(their_reader, writer)
                asking.cancel()
        except* OSError:
            writer.transport.abort()  # as it was ended there
        finally:
            their_writer.close()

    def _file(self, path: str) -> bytes:
        wanted = "index.html" if path == "/" else path.removeprefix("/web/")
        file = (self._page / wanted).resolve()
        if file.parent != self._page.resolve() or file.suffix == ".py" or not file.is_file():
            return _answer(404, b"not here", "text/plain")
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        return _answer(200, file.read_bytes(), kind)


def _as_proxied(head: bytes, caller: str) -> bytes:
    """The head as the service gets it: one request a connection, and who it is really from."""
    first, *lines = head.removesuffix(_HEAD_END).split(b"\r\n")
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    is_upgrade = b"upgrade" in names
    dropped = {b"x-forwarded-for", b"forwarded"} | (set() if is_upgrade else {b"connection"})
    kept = [line for name, line in zip(names, lines, strict=True) if name not in dropped]
    kept.append(b"X-Forwarded-For: " + caller.encode())
    if not is_upgrade:
        kept.append(b"Connection: close")
    return b"\r\n".join([first, *kept]) + _HEAD_END


def _answer(status: int, body: bytes, kind: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} ", f"Content-Type: {kind}", f"Content-Length: {len(body)}",
        "Cache-Control: no-cache", "Connection: close",
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + _HEAD_END + body


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Carry bytes up to the end of one direction; a failure ends both."""
    while chunk := await source.read(CHUNK_BYTES):
        target.write(chunk)
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


@asynccontextmanager
async def _serving(edge: Edge, port: int) -> AsyncGenerator[None]:
    async with a_tcp_server(edge.serve, port=port):
        yield
    await edge.close()


@contextmanager
def edge_in_thread(edge: Edge, port: int) -> Iterator[None]:
    """Serve on loopback from a thread, beside whatever loops the tests have."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(_serving(edge, port)),
    ):
        yield
