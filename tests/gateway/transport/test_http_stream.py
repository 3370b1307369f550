"""Responses that do not end: what goes out, how they end, and what their peers may do."""

import socket
import struct

import pytest

from gateway.errors import EndReason
from gateway.transport.frames import Close
from tests.gateway.serving import until
from tests.gateway.transport.exchanges import FIRST, a_request, a_stream_gateway, event
from tests.gateway.transport.transports import CLOSE_CODES


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
        await until(lambda: listener.ended is not None, seconds=1)
        assert listener.ended == Close(1006, "")
        await until(lambda: len(gateway.hub) == 0, seconds=1)


async def test_a_stream_is_pinged_by_what_its_protocol_says() -> None:
    async with (
        a_stream_gateway(ping_seconds=0.2, pong_seconds=0.1) as gateway,
        gateway.peer(a_request()) as peer,
    ):
        for _ in range(3):
            await peer.until(event(b"ping"))
        assert len(gateway.hub) == 1, "its kernel acknowledged them"


async def test_a_peer_that_should_answer_pings_and_does_not_is_gone() -> None:
    async with a_stream_gateway(ping_seconds=0.2, pong_seconds=0.1) as gateway:
        gateway.endpoints.answers_pings = True
        async with gateway.peer(a_request()), gateway.peer(a_request()) as lively:
            await until(lambda: len(gateway.endpoints.listeners) == 2)
            for _ in range(3):
                await lively.until(event(b"ping"))
                gateway.endpoints.listeners[1].connection.feed("pong")
            assert [each.ended for each in gateway.endpoints.listeners] == [
                Close(1006, "silent"),
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


async def test_a_drain_ends_streams() -> None:
    async with a_stream_gateway() as gateway, gateway.peer(a_request()) as peer:
        await peer.until(b"hello ")
        await gateway.hub.drain()
        end = event(b"end %d" % CLOSE_CODES[EndReason.RESTARTING].code)
        assert (await peer.rest()).endswith(end)
