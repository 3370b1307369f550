"""Many peers, and those that come and go in every way there is."""

import asyncio
import gc
import logging
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from gateway.transport.frames import text_frame
from gateway.transport.websocket import WebSocketConnection
from tests.gateway.serving import until
from tests.gateway.transport.peer_frames import CLOSE, HELLO
from tests.gateway.transport.sockets import a_gateway, a_handshake, a_stalled_tab


@asynccontextmanager
async def a_raw_tab(port: int, *, answered: bool = True) -> AsyncGenerator[socket.socket]:
    """A socket that has asked for a WebSocket, and has the answer unless told otherwise."""
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", port))
        await loop.sock_sendall(raw, a_handshake())
        async with asyncio.timeout(10):
            while answered and b"\r\n\r\n" not in await loop.sock_recv(raw, 4096):
                pass
        yield raw


def reset(raw: socket.socket) -> None:
    """Let its end be an RST."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def test_a_thousand_idle_connections_are_no_task_and_no_timer() -> None:
    async with a_gateway() as gateway, AsyncExitStack() as stack:
        tasks = len(asyncio.all_tasks())
        for _ in range(1000):
            await stack.enter_async_context(a_raw_tab(gateway.port))
        assert len(gateway.hub) == 1000
        await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_connections_that_have_ended_leave_nothing_in_memory() -> None:
    async def come_and_go(count: int) -> None:
        for _ in range(count):
            async with a_raw_tab(gateway.port) as raw:
                await loop.sock_sendall(raw, HELLO + HELLO[:3])
        await until(lambda: len(gateway.hub) == 0)
        gateway.echoes.clear()
        gateway.closes.clear()

    def held() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    loop = asyncio.get_running_loop()
    async with a_gateway() as gateway:
        await come_and_go(500)
        before = held()
        await come_and_go(4000)
        assert held() - before < 400, "a tenth of a block for each"


async def test_a_connection_that_has_ended_is_freed_without_the_garbage_collector() -> None:
    def alive() -> int:
        return sum(type(each) is WebSocketConnection for each in gc.get_objects())

    loop = asyncio.get_running_loop()
    async with a_gateway(ping_seconds=0.01) as gateway:
        gc.collect()
        before = alive()
        gc.disable()
        try:
            for _ in range(20):
                async with a_raw_tab(gateway.port):
                    pass
            async with a_raw_tab(gateway.port) as swept:
                assert await loop.sock_recv(swept, 1), "a ping"
            await until(lambda: len(gateway.hub) == 0)
            gateway.echoes.clear()
            await until(lambda: alive() <= before)
        finally:
            gc.enable()


async def closes(raw: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(raw, HELLO + CLOSE)


async def is_gone(raw: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(raw, HELLO)


async def is_gone_in_mid_frame(raw: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(raw, HELLO + HELLO[:4])


async def resets(raw: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(raw, HELLO)
    reset(raw)


async def resets_in_mid_close(raw: socket.socket) -> None:
    await asyncio.get_running_loop().sock_sendall(raw, CLOSE)
    reset(raw)


async def shuts_one_way(raw: socket.socket) -> None:
    raw.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(20):
        while await asyncio.get_running_loop().sock_recv(raw, 4096):
            pass


WAYS = [closes, is_gone, is_gone_in_mid_frame, resets, resets_in_mid_close, shuts_one_way]


@pytest.mark.parametrize("answered", [True, False], ids=["open", "in the handshake"])
async def test_peers_that_flap_leave_nothing_and_make_no_traceback(
    answered: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    async with a_gateway() as gateway:
        tasks = len(asyncio.all_tasks())
        for _ in range(10):
            for leave in WAYS:
                async with a_raw_tab(gateway.port, answered=answered) as raw:
                    await leave(raw)
        await until(lambda: len(gateway.hub) == 0)
        await until(lambda: len(gateway.closes) == len(gateway.echoes))
        assert all(echo.ended is not None for echo in gateway.echoes)
        assert gateway.hub.shared.stalled_bytes == 0
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        async with gateway.tab() as tab:
            await tab.send("still here")
            assert await tab.recv() == "still here"

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "leave",
    [reset, lambda raw: raw.shutdown(socket.SHUT_WR), lambda raw: None],
    ids=["resets", "shuts one way", "falls silent"],
)
async def test_a_peer_that_leaves_with_much_unread_is_forgotten_and_costs_no_other_a_frame(
    leave: Callable[[socket.socket], None], caplog: pytest.LogCaptureFixture
) -> None:
    limits = {"lag_seconds": 0.5, "close_seconds": 0.3, "ping_seconds": 0.5, "pong_seconds": 5}
    async with a_gateway(**limits) as gateway, gateway.tab() as tab:
        async with a_stalled_tab(gateway.port) as raw:
            await until(lambda: len(gateway.echoes) == 2)
            lively, stalled = (echo.connection for echo in gateway.echoes)
            while not stalled.is_stalled:
                stalled.send(text_frame(b"x" * 10_000))
                await asyncio.sleep(0)
            leave(raw)
            if leave is reset:
                raw.close()
            for number in range(100):  # both are due in the same turns
                stalled.send(text_frame(b"lost"))
                lively.send(text_frame(b"%d" % number))
                if number % 10 == 0:
                    await asyncio.sleep(0)
            for number in range(100):
                assert await tab.recv() == str(number)
            await until(lambda: len(gateway.hub) == 1)
        assert gateway.hub.shared.stalled_bytes == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("offered", [b"", b" ", b",", b", ,"], ids=repr)
async def test_an_empty_offer_of_subprotocols_is_none(offered: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with a_gateway() as gateway:
        with socket.socket() as raw:
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", gateway.port))
            more = b"Sec-WebSocket-Protocol:" + offered + b"\r\n"
            await loop.sock_sendall(raw, a_handshake(more=more))
            answer = await loop.sock_recv(raw, 4096)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-protocol" not in answer.lower()


async def test_a_client_that_offers_an_empty_subprotocol_gets_its_connection() -> None:
    empty = {"Sec-WebSocket-Protocol": ""}
    async with (
        a_gateway() as gateway,
        connect(f"ws://127.0.0.1:{gateway.port}/", additional_headers=empty) as tab,
    ):
        assert tab.subprotocol is None
        await tab.send("hello")
        assert await tab.recv() == "hello"
