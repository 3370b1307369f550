"""Sends POST requests over a few connections that are kept, one request at a time on each."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

_OK = b"HTTP/1.1 200 "
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CONNECTIONS = 8


class NotPosted(Exception):
    """The server answered with another status, or not with what was expected."""


class Posts:
    """Connections to one server; made by `open_posts`."""

    def __init__(self, streams: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]):
        self._streams = streams

    async def send(self, request: bytes, *, total: int, expected: bytes) -> list[float]:
        """Send the request so often; return the seconds that each answer took.

        Raises:
            NotPosted: an answer does not contain ``expected``.
        """
        left = [total]
        seconds: list[float] = []
        async with asyncio.TaskGroup() as group:
            for reader, writer in self._streams:
                group.create_task(_send_all(reader, writer, request, expected, left, seconds))
        return sorted(seconds)


async def _send_all(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    request: bytes,
    expected: bytes,
    left: list[int],
    seconds: list[float],
) -> None:
    while left[0] > 0:
        left[0] -= 1
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if not head.startswith(_OK) or expected not in body:
            raise NotPosted(head + body)
        seconds.append(time.perf_counter() - began)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Accept: */*",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def open_posts(port: int) -> AsyncGenerator[Posts]:
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(_CONNECTIONS)]
    try:
        yield Posts(streams)
    finally:
        for _, writer in streams:
            writer.close()
