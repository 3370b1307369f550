"""Reading lines from standard input without blocking the event loop."""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Iterator

CHUNK_BYTES = 64 * 1024
MAX_CHUNKS = 4
MAX_LINE_BYTES = 1024 * 1024


class LineSplitter:
    """Chunks in, whole lines out. Pure."""

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = b""
        self._too_long = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that end in the chunk; None for one that is too long to keep."""
        *whole, rest = chunk.split(b"\n")
        for part in whole:
            yield self._end_line(part)
        self._keep(rest)

    def end(self) -> Iterator[bytes | None]:
        """What follows the last newline, if anything does."""
        if self._rest or self._too_long:
            yield self._end_line(b"")

    def _end_line(self, part: bytes) -> bytes | None:
        self._keep(part)
        line = None if self._too_long else self._rest
        self._rest, self._too_long = b"", False
        return line

    def _keep(self, part: bytes) -> None:
        self._too_long = self._too_long or len(self._rest) + len(part) > self._max_line_bytes
        self._rest = b"" if self._too_long else self._rest + part


async def lines_of(descriptor: int) -> AsyncGenerator[bytes | None]:
    """Each line as soon as it arrives; None for one that is too long.

    A daemon thread reads: an event loop can't wait for a regular file, and the process must not
    wait for a read that never returns.

    Raises:
        OSError: the input can't be read, or not to its end.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(MAX_CHUNKS)

    def read() -> None:
        chunk: bytes | OSError = b"more"
        while chunk and isinstance(chunk, bytes):
            try:
                chunk = os.read(descriptor, CHUNK_BYTES)
            except OSError as error:
                chunk = error
            putting = chunks.put(chunk)
            try:
                asyncio.run_coroutine_threadsafe(putting, loop).result()
            except (RuntimeError, concurrent.futures.CancelledError):
                putting.close()
                return  # the loop is gone

    threading.Thread(target=read, name="lines", daemon=True).start()
    splitter = LineSplitter()
    while chunk := await chunks.get():
        if isinstance(chunk, OSError):
            raise chunk
        for line in splitter.feed(chunk):
            yield line
    for line in splitter.end():
        yield line
