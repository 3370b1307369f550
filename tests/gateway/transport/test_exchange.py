"""Requests over HTTP at paths of our own: how each of them is answered."""

import asyncio
import gc
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.transport.http_stream import HttpStreamConnection
from gateway.transport.sniffer import UpgradingHttp
from shared.web.http_protocol import end_late_peers
from shared.web.peers import Peers
from tests.gateway.serving import until
from tests.gateway.transport.exchanges import FIRST, Peer, a_request, a_stream_gateway, event
from tests.gateway.transport.memory_server import MemoryServer


async def test_a_request_is_answered_and_the_next_one_on_the_same_connection_too() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for body in (b"one", b"two"):
            await peer.send(a_request(b"/echo?a=b", b"POST", b"X-A: c\r\n", body))
            assert (await peer.until(body)).startswith(b"HTTP/1.1 200 OK\r\n")
        request = gateway.endpoints.exchanges[0].request
        assert request.method == "POST"
        assert request.path == "/echo"
        assert request.query == b"a=b"
        assert (b"x-a", b"c") in request.headers
        assert request.body == b"one"
        assert gateway.endpoints.exchanges[0].client_host == "127.0.0.1"


async def test_other_paths_are_the_applications() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for target in (b"/", b"/echo/", b"/Echo", b"/other?/echo"):
            await peer.send(a_request(target))
            assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 299")


async def test_an_ordinary_post_takes_the_shortcut_and_others_are_the_applications() -> None:
    chunked = (
        b"POST /short HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    )
    others = [
        chunked,
        a_request(b"/short"),
        a_request(b"/short", b"OPTIONS"),
        a_request(b"/short", b"POST", body=11 * b"x"),
        a_request(b"/short", b"POST", b"Origin: http://x\r\n", body=b"x"),
    ]
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for request in others:
            await peer.send(a_request(b"/short?a", b"POST", body=10 * b"x") + request)
            assert (await peer.until(10 * b"x")).startswith(b"HTTP/1.1 200 ")
            assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 299 ")
    assert len(gateway.endpoints.exchanges) == len(others)


async def test_an_answer_may_come_later_and_requests_behind_it_wait() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/later", b"POST") + a_request(b"/echo", b"POST", body=b"x"))
        async with gateway.peer(a_request(b"/echo")) as other:
            await other.until(b"\r\n\r\n")
        assert [each.request.path for each in gateway.endpoints.exchanges] == ["/later", "/echo"]
        gateway.endpoints.let.set()
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 204 No Content\r\n")
        assert (await peer.until(b"\r\n\r\nx")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_an_answer_that_does_not_come_in_time_is_504() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        gateway.endpoints.later_seconds = 0.05
        await peer.send(a_request(b"/later", b"POST"))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 504 ")


async def test_a_stream_may_open_later() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/stream%20later"))
        gateway.endpoints.let.set()
        await peer.until(event(b"hello "))


async def test_an_endpoint_that_fails_is_answered_500() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for target in (b"/fails", b"/fails?later", b"/silent"):
            await peer.send(a_request(target))
            assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")


async def test_a_page_of_the_same_machine_may_ask_and_read() -> None:
    origin = b"Origin: http://localhost:5173\r\n"
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for target in (b"/echo", b"/stream"):
            await peer.send(a_request(target, more=origin).replace(b"Host: x", b"Host: localhost"))
            head = await peer.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"access-control-allow-origin: http://localhost:5173\r\n" in head
            assert b"access-control-allow-credentials: true\r\n" in head
            assert b"vary: Origin\r\n" in head


async def test_a_page_from_elsewhere_may_not_ask() -> None:
    origin = b"Origin: https://evil.example\r\n"
    requests = [
        a_request(b"/echo", more=origin),
        a_request(b"/later", b"POST", more=origin),
        a_request(b"/stream", b"OPTIONS", more=origin),
        a_request(b"/stream", more=origin),
    ]
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        for request in requests:
            await peer.send(request)
            head = await peer.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 403 ")
            assert b"access-control" not in head
        assert gateway.endpoints.exchanges == []


async def test_a_browser_may_ask_before_it_asks() -> None:
    more = (
        b"Origin: https://x\r\nAccess-Control-Request-Method: POST\r\n"
        b"Access-Control-Request-Headers: content-type, x-a\r\n"
    )
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/later", b"OPTIONS", more))
        head = await peer.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
        for line in (
            b"allow: POST, OPTIONS",
            b"access-control-allow-methods: POST, OPTIONS",
            b"access-control-allow-headers: content-type, x-a",
            b"access-control-allow-origin: https://x",
            b"access-control-allow-credentials: true",
            b"access-control-max-age: 300",
        ):
            assert b"\r\n" + line + b"\r\n" in head
        await peer.send(a_request(b"/later", b"OPTIONS"))
        assert b"access-control-allow-origin" not in await peer.until(b"\r\n\r\n")
        await peer.send(a_request(b"/later", b"GET"))
        assert b"\r\nallow: POST, OPTIONS\r\n" in await peer.until(b"\r\n\r\n")


HUGE = 10_000_000


@pytest.mark.parametrize(
    "framing", [b"Content-Length: %d\r\n" % HUGE, b"Transfer-Encoding: chunked\r\n"]
)
async def test_a_body_that_is_too_long_is_refused_while_it_comes(framing: bytes) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n"
    piece = b"x" * 10_000
    if b"chunked" in framing:
        piece = b"%x\r\n%b\r\n" % (len(piece), piece)
    # To send so much takes a while; who takes longer than is waited for is reset.
    async with a_stream_gateway(close_seconds=600) as gateway, gateway.peer() as peer:
        await peer.send(head)
        for _ in range(HUGE // 10_000):
            await peer.send(piece)  # whether anybody listens or not: nobody resets the connection
        assert (await peer.rest()).startswith(b"HTTP/1.1 413 ")
        assert gateway.endpoints.exchanges == []


async def test_a_body_of_the_greatest_length_is_taken() -> None:
    body = b"x" * 65536
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        await peer.send(a_request(b"/echo", b"POST", body=body))
        await peer.until(b"\r\n\r\n" + body)
        await peer.send(a_request(b"/echo", b"POST", body=body + b"x"))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


async def test_a_peer_that_asks_first_is_told_whether_to_send_its_body() -> None:
    async with a_stream_gateway() as gateway, gateway.peer() as peer:
        expect = b"Expect: 100-continue\r\nContent-Length: 5\r\n"
        await peer.send(a_request(b"/echo", more=expect))
        assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(b"hello")
        await peer.until(b"\r\n\r\nhello")
        await peer.send(a_request(b"/echo", more=expect.replace(b"5", b"70000")))
        assert (await peer.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


async def test_a_peer_that_refused_its_body_is_let_go_in_time() -> None:
    async with a_stream_gateway(close_seconds=0.1) as gateway, gateway.peer() as peer:
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        assert (await peer.rest()).startswith(b"HTTP/1.1 413 ")
        await peer.send(b"x" * 1000)
        await until(lambda: is_reset(peer))


def is_reset(peer: Peer) -> bool:
    try:
        peer.socket.send(b"x")
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return False


ECHO = a_request(b"/echo", b"POST", body=b"hello")


@given(st.lists(st.integers(1, 10_000), max_size=8), st.integers(0, 3))
async def test_any_split_of_the_bytes_gives_the_same_answers_and_the_same_stream(
    cuts: list[int], earlier: int
) -> None:
    sent = ECHO * earlier + a_request(method=b"POST", body=b"x")
    places = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})
    server = MemoryServer()
    peer = server.peer()

    peer.send(*[sent[begin:end] for begin, end in pairwise(places)])

    await until(lambda: b"text/event-stream" in peer.got)
    server.hub.coalescer._flush()
    assert peer.statuses == [200] * (earlier + 1)
    assert peer.got.endswith(FIRST + event(b"hello x"))
    assert isinstance(peer.protocol, HttpStreamConnection)
    assert server.known == set()


async def test_a_body_has_as_long_to_come_as_the_head() -> None:
    server, now = MemoryServer(), asyncio.get_running_loop().time()
    peer = server.peer()
    peer.send(ECHO[:-1])
    end_late_peers(server.state, now + UpgradingHttp.request_seconds - 1)
    assert peer.statuses == []
    end_late_peers(server.state, now + UpgradingHttp.request_seconds + 1)
    assert peer.statuses == [408]
    end_late_peers(server.state, now + UpgradingHttp.request_seconds + 20)
    assert peer.is_closing()


async def test_a_peer_that_goes_before_it_is_answered_is_forgotten_and_the_work_goes_on() -> None:
    server = MemoryServer()
    async with server.hub.working():
        peer = server.peer()
        peer.send(a_request(b"/later", b"POST"))
        await until(lambda: len(server.streams.exchanges) == 1)
        assert server.known, "the server waits for it at its end"
        peer.leave()
        assert server.known == set()
        server.streams.let.set()
        await until(lambda: not server.state.tasks)
        assert server.streams.exchanges[0].is_gone
        assert peer.got == b""


async def test_work_that_is_cancelled_leaves_nobody_waiting() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(a_request(b"/later", b"POST"))
    await until(lambda: len(server.streams.exchanges) == 1)
    for task in server.state.tasks:
        task.cancel()
    await until(lambda: not server.state.tasks)
    assert peer.aborted


async def test_a_peer_that_does_not_read_its_answers_is_not_given_more() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(ECHO)
    assert await peer.answered() == [200]
    peer.unsent = 1
    http = peer.protocol
    assert isinstance(http, UpgradingHttp)
    http.pause_writing()
    peer.send(ECHO)
    await asyncio.sleep(0)
    assert peer.statuses == [200]
    http.resume_writing()
    assert peer.statuses == [200, 200]


async def test_a_stream_opens_for_nobody_who_has_not_read_earlier_answers() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(ECHO)
    assert await peer.answered() == [200]
    peer.unsent = 1
    peer.send(a_request())
    await until(lambda: peer.aborted)
    assert server.streams.listeners == []


async def test_streams_count_among_the_sockets_and_who_is_waited_for_gives_way() -> None:
    server = MemoryServer(max_sockets=3)
    stream, later, half = (server.peer() for _ in range(3))
    async with server.hub.working():
        stream.send(a_request())
        later.send(a_request(b"/later", b"POST"))
        half.send(ECHO[:-1])
        await until(lambda: len(server.hub) == 1)
        server.peer().send(a_request())
        assert [each.is_closing() for each in (stream, later, half)] == [False, False, True]
        await until(lambda: len(server.hub) == 2)
        assert server.peer().aborted, "nobody is waited for"


async def test_a_server_that_ends_answers_what_it_was_asked_and_takes_nothing_more() -> None:
    server = MemoryServer()
    async with server.hub.working():
        peer = server.peer()
        peer.send(a_request(b"/later", b"POST"))
        await until(lambda: len(server.streams.exchanges) == 1)
        for each in list(server.state.connections):
            each.shutdown()
        assert not peer.is_closing()
        server.streams.let.set()
        assert await peer.answered() == [204]
        assert b"connection: close\r\n" in peer.got
        assert peer.closed


async def test_what_http_needed_is_freed_without_the_garbage_collector() -> None:
    def alive() -> int:
        kinds = (UpgradingHttp, RequestResponseCycle, HttpStreamConnection)
        return sum(type(each) in kinds for each in gc.get_objects())

    async with a_stream_gateway() as gateway:
        gc.collect()
        before = alive()
        gc.disable()
        try:
            async with gateway.peer(a_request()) as peer:
                await peer.until(b"hello ")
                gateway.endpoints.exchanges.clear()
                await until(lambda: alive() == before + 1)
            gateway.endpoints.listeners.clear()
            async with gateway.peer() as peer:
                for _ in range(3):
                    await peer.send(ECHO)
                    await peer.until(b"\r\n\r\nhello")
            gateway.endpoints.exchanges.clear()
            await until(lambda: alive() <= before)
        finally:
            gc.enable()


SHORT = a_request(b"/short", b"POST", body=b"hello")
SHORT_LATER = a_request(b"/short/later", b"POST")


async def test_what_comes_behind_a_shortcut_in_one_piece_waits_for_its_answer() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(SHORT, SHORT_LATER, SHORT, ECHO[:-1])
    await until(lambda: len(server.streams.exchanges) == 2)
    assert peer.statuses == [200]
    assert not peer.is_reading, "no more than one request is read ahead"
    server.streams.let.set()
    peer.send(ECHO[-1:])
    assert await peer.answered(4) == [200, 204, 200, 200]
    peer.send(SHORT)
    assert await peer.answered(5) == [200, 204, 200, 200, 200]


@given(st.lists(st.integers(0, 4 * len(SHORT)), max_size=6))
async def test_any_split_of_shortcuts_gives_the_same_answers(cuts: list[int]) -> None:
    server = MemoryServer()
    peer, requests = server.peer(), 3 * SHORT + ECHO
    edges = [0, *sorted(cuts), len(requests)]
    peer.send(*(requests[begin:end] for begin, end in pairwise(edges)))
    assert await peer.answered(4) == [200] * 4
    assert peer.got.count(b"\r\n\r\nhello") == 4
    assert [each.request.body for each in server.streams.exchanges] == [b"hello"] * 4


async def test_a_shortcut_that_fails_is_answered_500_and_the_next_one_as_ever() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(a_request(b"/short/fails", b"POST"), SHORT)
    assert await peer.answered(2) == [500, 200]


async def test_a_shortcut_has_as_long_as_it_takes_and_its_connection_idles_after_it() -> None:
    server, now = MemoryServer(), asyncio.get_running_loop().time()
    peer = server.peer()
    peer.send(SHORT_LATER)
    end_late_peers(server.state, now + UpgradingHttp.request_seconds + 1)
    server.streams.let.set()
    assert await peer.answered() == [204]
    assert not peer.is_closing()
    cast(Peers, server.state.connections).end_idle()
    assert peer.is_closing()


async def test_a_server_that_ends_waits_for_a_shortcut() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(SHORT_LATER)
    for each in list(server.state.connections):
        each.shutdown()
    assert server.state.tasks
    server.streams.let.set()
    assert await peer.answered() == [204]
    assert b"connection: close\r\n" in peer.got
    assert peer.closed


async def test_a_shortcut_waits_while_earlier_answers_are_unread() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(SHORT)
    http = peer.protocol
    assert isinstance(http, UpgradingHttp)
    http.pause_writing()
    peer.send(SHORT)
    await asyncio.sleep(0)
    assert peer.statuses == [200]
    http.resume_writing()
    assert peer.statuses == [200, 200]
