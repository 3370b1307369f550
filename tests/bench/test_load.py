"""The load generator counts what arrives, in whatever pieces, and fails when the server does."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from bench.load import Load, LoadFailed, start_load
from bench.targets import STAMP
from tests.fixtures.tcp import a_tcp_server

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
PING, TEXT, CLOSE = 0x89, 0x81, 0x88
LATE_SECONDS = 0.05

Answer = Callable[[bytes, Callable[[bytes], None]], None]
"""Gets a client's message, and a function that writes to that client."""


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame as a server sends it, without a mask."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", opcode, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


@asynccontextmanager
async def serving(answer: Answer) -> AsyncGenerator[int]:
    """Start a server that welcomes every client; yield its port."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UPGRADE + frame(TEXT, b'{"type":"welcome"}'))
        try:
            while True:
                opcode, size = await reader.readexactly(2)
                size &= 127
                if size == 126:
                    [size] = struct.unpack("!H", await reader.readexactly(2))
                mask, payload = await reader.readexactly(4), await reader.readexactly(size)
                assert mask == bytes(4)
                if opcode == TEXT:
                    answer(payload, writer.write)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with a_tcp_server(serve) as port:
        try:
            yield port
        finally:
            for writer in writers:  # the load's clients stay until it ends
                writer.close()


@pytest.fixture
async def load() -> AsyncGenerator[Load]:
    async with start_load() as started:
        yield started


async def test_frames_count_once_in_whatever_pieces_they_come(load: Load) -> None:
    def answer(payload: bytes, write: Callable[[bytes], None]) -> None:
        long = payload.replace(b"at=", b"x" * 70_000 + b" at=")
        sent = frame(TEXT, payload) + frame(PING, b"?") + frame(TEXT, long) + frame(TEXT, b"[]")
        for at in range(300):
            write(sent[at : at + 1])
        write(sent[300:])

    async with serving(answer) as port:
        await load.connect(port, ["/"])
        answered = await load.publish([("", STAMP)], total=20, in_flight=1, receivers=2)

    assert answered.delivered == 40


async def test_a_latency_is_the_time_from_the_publisher_to_the_reader(load: Load) -> None:
    def answer(payload: bytes, write: Callable[[bytes], None]) -> None:
        asyncio.get_running_loop().call_later(LATE_SECONDS, write, frame(TEXT, payload))

    async with serving(answer) as port:
        await load.connect(port, ["/"])
        answered = await load.publish([("", STAMP)], total=3, in_flight=1, receivers=1)

    assert answered.p50_ms >= LATE_SECONDS * 1e3


async def test_a_message_is_done_when_it_is_both_answered_and_delivered(load: Load) -> None:
    under_way: list[int] = []

    def answer(payload: bytes, write: Callable[[bytes], None]) -> None:
        under_way.append(len(under_way))
        if len(under_way) == 2:  # both are in flight, though neither is answered
            for _ in range(2):
                write(frame(TEXT, payload) + frame(TEXT, b'{"type":"ack","id":"0"}'))
            under_way.clear()

    async with serving(answer) as port:
        await load.connect(port, ["/"])
        answered = await load.talk(f'{{"id":"%ld","body":"{STAMP}"}}', total=10, in_flight=2)

    assert (answered.answered, answered.delivered) == (10, 10)


async def test_a_connection_that_is_closed_ends_the_measurement(load: Load) -> None:
    def answer(_payload: bytes, write: Callable[[bytes], None]) -> None:
        write(frame(CLOSE, struct.pack("!H", 1013) + b"too slow"))

    async with serving(answer) as port:
        await load.connect(port, ["/"])
        with pytest.raises(LoadFailed):
            await load.publish([("", STAMP)], total=1, in_flight=1, receivers=1)


async def test_an_error_in_answer_ends_the_measurement(load: Load) -> None:
    def answer(_payload: bytes, write: Callable[[bytes], None]) -> None:
        write(frame(TEXT, b'{"type":"error","code":"rate_limited"}'))

    async with serving(answer) as port:
        await load.connect(port, ["/"])
        with pytest.raises(LoadFailed):
            await load.talk(STAMP, total=1, in_flight=1)
