"""What a hostile peer may send: it costs its connection, and no traceback."""

import asyncio
import logging
import socket

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.frames import Opcode

from gateway.transport.frames import text_frame
from tests.gateway.serving import until
from tests.gateway.transport.peer_frames import VIOLATIONS, masked
from tests.gateway.transport.sockets import (
    a_gateway,
    a_handshake,
    a_stalled_tab,
    read_to_the_end,
)


@pytest.mark.parametrize("bytes_", [sent for sent, _ in VIOLATIONS])
async def test_no_bytes_make_a_traceback(bytes_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with a_gateway(close_seconds=0.5) as gateway, a_stalled_tab(gateway.port) as raw:
        await asyncio.get_running_loop().sock_sendall(raw, bytes_)
        await read_to_the_end(raw)
        await until(lambda: len(gateway.hub) == 0)

    assert not [record for record in caplog.records if record.exc_info]


HANDSHAKES = [
    a_handshake(target=b"/?a=\xff"),
    a_handshake(target="/ä".encode()),
    a_handshake(target=b"/?a=" + b"x" * 10_000),
    a_handshake(key=b"x"),
    a_handshake(version=b"99"),
    a_handshake(method=b"POST"),
    a_handshake(more=b"X: \xff\xfe\r\nSec-WebSocket-Protocol: bearer, \xe4\r\n"),
    a_handshake(more=b"X: " + b"y" * 20_000 + b"\r\n"),
    a_handshake(more=b"X: y\r\n" * 200),
]


@pytest.mark.parametrize("bytes_", HANDSHAKES)
async def test_no_handshake_makes_a_traceback(
    bytes_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    loop = asyncio.get_running_loop()
    async with a_gateway(close_seconds=0.5) as gateway:
        with socket.socket() as raw:
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", gateway.port))
            await loop.sock_sendall(raw, bytes_)
            async with asyncio.timeout(20):
                answer = await loop.sock_recv(raw, 4096)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
        await until(lambda: len(gateway.hub) == 0)

    assert not [record for record in caplog.records if record.exc_info]


async def test_a_frame_sent_as_the_protocol_fails_the_connection_makes_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    loop = asyncio.get_running_loop()
    async with a_gateway() as gateway, a_stalled_tab(gateway.port) as raw:
        await until(lambda: len(gateway.echoes) == 1)
        connection = gateway.echoes[0].connection

        def send_in_every_turn() -> None:
            # So the writer is always due, and before the reader that hears of the failure.
            if connection.is_open:
                connection.send(text_frame(b"x"))
                loop.call_soon(send_in_every_turn)

        send_in_every_turn()
        await loop.sock_sendall(raw, b"\x83\x80\0\0\0\0")
        await read_to_the_end(raw)
        await until(lambda: len(gateway.hub) == 0)

    assert not [record for record in caplog.records if record.exc_info]
    assert [close.code for close in gateway.closes] == [1002]


async def test_a_peer_that_pings_and_never_reads_is_bounded_and_dropped() -> None:
    async with (
        a_gateway(
            max_pending_bytes=50_000,
            lag_seconds=1,
            close_seconds=0.5,
            bare_frames_per_second=1_000_000,
        ) as gateway,
        a_stalled_tab(gateway.port) as raw,
    ):
        most = 0

        def watch() -> None:
            nonlocal most
            most = max(most, gateway.hub.shared.stalled_bytes)
            if len(gateway.hub):
                asyncio.get_running_loop().call_soon(watch)

        await until(lambda: len(gateway.hub) == 1)
        watch()
        with pytest.raises((ConnectionError, TimeoutError)):
            await _flood_with_pings(raw)
        await until(lambda: len(gateway.hub) == 0)

    assert 0 < most <= 50_000 + 256 * 1024, "no more than one read brings answers for"


async def _flood_with_pings(raw: socket.socket) -> None:
    pings = masked(Opcode.PING, b"x" * 125) * 50
    async with asyncio.timeout(10):
        for _ in range(5_000):  # 32 MB, more than the kernel keeps
            await asyncio.get_running_loop().sock_sendall(raw, pings)


async def test_a_peer_that_reads_may_ping_as_long_as_it_likes() -> None:
    async with a_gateway(bare_frames_per_second=10_000) as gateway, gateway.tab() as tab:
        async with asyncio.timeout(60):
            for _ in range(2000):
                await (await tab.ping(b"x" * 125))
        await tab.send("still here")
        assert await tab.recv() == "still here"


async def test_a_peer_that_has_not_read_earlier_responses_gets_no_websocket() -> None:
    loop = asyncio.get_running_loop()

    async def long_answer(_: Request) -> Response:
        return Response(b"x" * 8_000_000)  # more than the kernel takes

    async with a_gateway() as gateway:
        gateway.app.router.routes.append(Route("/long", long_answer))
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", gateway.port))
            await loop.sock_sendall(raw, b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
            await loop.sock_recv(raw, 1)
            await loop.sock_sendall(raw, a_handshake())
            assert b"101 Switching" not in await read_to_the_end(raw)
        assert gateway.echoes == []


async def test_a_peer_that_has_read_earlier_responses_gets_its_websocket() -> None:
    loop = asyncio.get_running_loop()
    async with a_gateway() as gateway:
        with socket.socket() as raw:
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", gateway.port))
            await loop.sock_sendall(raw, b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(20):
                assert b"404" in await loop.sock_recv(raw, 4096)
                await loop.sock_sendall(raw, a_handshake())
                assert b"101 Switching" in await loop.sock_recv(raw, 4096)
        await until(lambda: len(gateway.echoes) == 1)
