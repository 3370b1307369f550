"""Responses that do not end: what goes out, how they end, and what their peers may do."""

import asyncio
import socket
import struct
import time
from contextlib import AsyncExitStack
from typing import cast

import pytest

from gateway.errors import EndReason
from gateway.transport.frames import Close
from gateway.transport.http_stream import HttpStreamConnection
from shared.runtime.process import running
from tests.gateway.serving import until
from tests.gateway.transport.exchanges import (
    FIRST,
    Listener,
    a_request,
    a_stream_gateway,
    event,
)
from tests.gateway.transport.transports import CLOSE_CODES, AHub, ATransport


async def test_a_stream_is_a_response_whose_body_goes_on_until_the_connection_ends() -> None:
    async with a_stream_gateway() as gateway, gateway.peer(a_request()) as peer:
        head = await peer.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: text/event-stream\r\n" in head
        assert b"connection: close\r\n" in head
        assert b"date: " in head
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head
        assert await peer.until(b"hello ") == FIRST + b"data: hello "
        (listener,) = gateway.endpoints.listeners
        listener.connection.send(event(b"one"))
        listener.connection.send(event(b"two"))
        assert await peer.until(b"two\n\n") == b"\n\ndata: one\n\ndata: two\n\n"
        listener.connection.close(EndReason.SESSION_ENDED)
        assert await peer.rest() == event(b"end %d" % CLOSE_CODES[EndReason.SESSION_ENDED].code)
        await until(lambda: len(gateway.hub) == 0)
        assert gateway.closes == [CLOSE_CODES[EndReason.SESSION_ENDED]] == [listener.ended]


async def test_a_post_may_open_a_stream_too() -> None:
    request = a_request(method=b"POST", body=b"world")
    async with a_stream_gateway() as gateway, gateway.peer(request) as peer:
        await peer.until(b"data: hello world\n\n")


async def test_a_peer_of_http_1_0_gets_the_same_stream() -> None:
    request = a_request().replace(b"HTTP/1.1", b"HTTP/1.0")
    async with a_stream_gateway() as gateway, gateway.peer(request) as peer:
        await peer.until(b"hello ")


@pytest.mark.parametrize("way", ["closes", "shuts one way", "resets"])
async def test_a_peer_that_goes_is_gone_at_once(way: str) -> None:
    async with a_stream_gateway() as gateway, gateway.peer(a_request()) as peer:
        await peer.until(b"hello ")
        match way:
            case "shuts one way":
                peer.socket.shutdown(socket.SHUT_WR)
            case "resets":
                linger = struct.pack("ii", 1, 0)
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                peer.socket.close()
            case _:
                peer.socket.close()
        (listener,) = gateway.endpoints.listeners
        await until(lambda: listener.ended is not None)
        assert listener.ended == Close(1006, "")
        await until(lambda: len(gateway.hub) == 0)


async def test_a_stream_is_pinged_by_what_its_protocol_says() -> None:
    async with (
        a_stream_gateway(ping_seconds=0.2, pong_seconds=0.1) as gateway,
        gateway.peer(a_request()) as peer,
    ):
        for _ in range(3):
            await peer.until(event(b"ping"))
        assert len(gateway.hub) == 1, "its kernel acknowledged them"


async def test_a_peer_that_should_answer_pings_and_does_not_is_gone() -> None:
    async with a_stream_gateway(ping_seconds=0.2, pong_seconds=1) as gateway:
        gateway.endpoints.answers_pings = True
        async with gateway.peer(a_request()), gateway.peer(a_request()) as lively:
            await until(lambda: len(gateway.endpoints.listeners) == 2)
            silent, answering = gateway.endpoints.listeners

            async def answer_pings() -> None:
                while True:
                    await lively.until(event(b"ping"))
                    answering.connection.feed("pong")

            async with running(answer_pings):
                await until(lambda: silent.ended is not None)
            assert [each.ended for each in gateway.endpoints.listeners] == [
                CLOSE_CODES[EndReason.SILENT],
                None,
            ]


async def test_what_comes_after_the_request_is_ignored_within_a_bound() -> None:
    async with a_stream_gateway() as gateway, gateway.peer(a_request() * 2) as peer:
        await peer.until(b"hello ")
        await peer.send(a_request(b"/echo"))
        (listener,) = gateway.endpoints.listeners
        listener.connection.send(event(b"after"))
        assert await peer.until(b"after\n\n") == b"\n\ndata: after\n\n"
        await peer.send(b"x" * 10_000)
        await until(lambda: len(gateway.hub) == 0)
    assert len(gateway.endpoints.exchanges) == 1


def a_stream(
    hub: AHub, *, sends_pongs: bool = False
) -> tuple[HttpStreamConnection, ATransport, Listener]:
    """One that a test drives by hand."""
    transport = ATransport()
    connection = HttpStreamConnection(
        cast(asyncio.Transport, transport), hub.shared, sends_pongs=sends_pongs
    )
    listener = Listener(connection)
    connection.open(listener)
    return connection, transport, listener


async def test_frames_of_one_turn_leave_in_one_write_in_the_order_in_which_they_were_sent() -> None:
    hub = AHub()
    connection, transport, _ = a_stream(hub)
    for text in (b"a", b"b"):
        connection.send(event(text))
    hub.end_turn()
    assert transport.written == [event(b"a") + event(b"b")]


async def test_a_stream_that_is_not_read_is_offered_what_has_room_and_cut_without_a_word() -> None:
    hub = AHub(max_pending_bytes=1000, lag_seconds=10)
    connection, transport, listener = a_stream(hub)
    transport.unsent = 900
    connection.pause_writing()
    assert connection.is_stalled
    assert connection.offer(event(b"small"))
    assert not connection.offer(event(b"x" * 1000))
    assert hub.shared.stalled_bytes > 900

    connection.cut(EndReason.SESSION_ENDED)

    assert transport.aborted
    connection.connection_lost(None)
    assert listener.ended == CLOSE_CODES[EndReason.SESSION_ENDED]
    assert hub.shared.stalled_bytes == 0
    assert transport.written == [event(b"small")]


async def test_a_stream_that_stays_stalled_ends() -> None:
    hub = AHub(lag_seconds=10, close_seconds=5)
    connection, transport, _ = a_stream(hub)
    transport.unsent = 1
    connection.pause_writing()
    connection.check(time.monotonic() + 9)
    assert connection.is_open
    connection.check(time.monotonic() + 11)
    assert connection.closing is EndReason.TOO_SLOW
    assert transport.closed
    connection.check(time.monotonic() + 20)
    assert transport.aborted, "it did not take its farewell either"


async def test_a_stream_ends_in_time_once_what_is_pending_has_left() -> None:
    hub = AHub(ping_seconds=100)
    connection, transport, _ = a_stream(hub)
    connection.close_after(10, EndReason.TOKEN_EXPIRED)
    connection.check(time.monotonic() + 9)
    connection.send(event(b"last"))
    connection.check(time.monotonic() + 11)
    end = event(b"end %d" % CLOSE_CODES[EndReason.TOKEN_EXPIRED].code)
    assert b"".join(transport.written) == event(b"last") + end
    assert transport.closed
    connection.send(event(b"too late"))
    hub.end_turn()
    assert b"".join(transport.written).endswith(end)


async def test_what_is_fed_waits_while_commands_are_not_read_and_keeps_its_order() -> None:
    hub = AHub(max_message_bytes=10)
    connection, transport, _ = a_stream(hub)
    assert connection.feed("a")
    connection.pause_reading()
    assert connection.feed("b")
    assert connection.feed("c" * 9)
    assert not connection.feed("d"), "so much waits already"
    assert transport.is_reading, "else the end of the peer would not be seen"
    hub.end_turn()
    assert b"".join(transport.written) == event(b"a")
    connection.resume_reading()
    assert connection.feed("e")
    hub.end_turn()
    texts = [b"a", b"b", b"c" * 9, b"e"]
    assert b"".join(transport.written) == b"".join([event(each) for each in texts])


async def test_a_stream_whose_replies_are_not_read_is_fed_nothing_more() -> None:
    hub = AHub(max_pending_bytes=100, max_message_bytes=10)
    connection, transport, _ = a_stream(hub)
    transport.unsent = 101
    connection.pause_writing()
    assert connection.feed("a" * 10)
    assert not connection.feed("b")
    assert transport.written == [], "nothing is done for it"
    transport.unsent = 0
    connection.resume_writing()
    hub.end_turn()
    assert b"".join(transport.written) == event(b"a" * 10)


async def test_a_receiver_that_fails_costs_its_stream(capsys: pytest.CaptureFixture[str]) -> None:
    hub = AHub()
    connection, _, _ = a_stream(hub)
    connection.feed("fail")
    assert not connection.is_open
    assert hub.failures == 1
    assert "receiver_failed" in capsys.readouterr().out
    assert not connection.feed("more")


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the kernel has no such option")
async def test_the_kernel_gives_a_peer_up_that_acknowledges_nothing() -> None:
    async with (
        a_stream_gateway(ping_seconds=20, pong_seconds=13) as gateway,
        gateway.peer(a_request()) as peer,
    ):
        await peer.until(b"hello ")
        (listener,) = gateway.endpoints.listeners
        connected = listener.connection.transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 33_000


async def stall(listener: Listener) -> None:
    """Send until the peer's socket takes no more."""
    async with asyncio.timeout(10):
        while not listener.connection.is_stalled:
            listener.connection.send(event(b"x" * 10_000))
            await asyncio.sleep(0)


async def test_a_peer_that_does_not_read_ends_and_costs_no_other_anything() -> None:
    async with (
        a_stream_gateway(lag_seconds=0.3, close_seconds=0.2) as gateway,
        gateway.peer(a_request()) as lively,
        gateway.peer(receive_buffer_bytes=4096) as unread,
    ):
        await lively.until(b"hello ")
        await unread.send(a_request())
        await until(lambda: len(gateway.endpoints.listeners) == 2)
        first, slow = gateway.endpoints.listeners
        await stall(slow)
        first.connection.send(event(b"on time"))
        await lively.until(b"on time")
        await until(lambda: len(gateway.hub) == 1)
        assert slow.ended == CLOSE_CODES[EndReason.TOO_SLOW]
        assert gateway.hub.shared.stalled_bytes == 0


async def test_a_peer_that_does_not_read_and_ends_its_side_is_gone_at_once() -> None:
    async with (
        a_stream_gateway() as gateway,
        gateway.peer(a_request(), receive_buffer_bytes=4096) as peer,
    ):
        await until(lambda: len(gateway.endpoints.listeners) == 1)
        (listener,) = gateway.endpoints.listeners
        await stall(listener)
        peer.socket.shutdown(socket.SHUT_WR)
        await until(lambda: listener.ended is not None)
        await until(lambda: len(gateway.hub) == 0)


async def test_many_idle_streams_are_no_task() -> None:
    async with a_stream_gateway() as gateway, AsyncExitStack() as stack:
        tasks = len(asyncio.all_tasks())
        for _ in range(300):
            await stack.enter_async_context(gateway.peer(a_request()))
        await until(lambda: len(gateway.hub) == 300)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_a_drain_ends_streams() -> None:
    async with a_stream_gateway() as gateway, gateway.peer(a_request()) as peer:
        await peer.until(b"hello ")
        await gateway.hub.drain()
        end = event(b"end %d" % CLOSE_CODES[EndReason.RESTARTING].code)
        assert (await peer.rest()).endswith(end)
