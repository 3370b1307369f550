"""From the first bytes to an open connection, in all the ways that they come in."""

import asyncio
import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.connection import Connection
from gateway.transport.sniffer import ProtocolSniffer, UpgradingHttp
from shared.web.http_protocol import end_late_peers
from tests.gateway.serving import until
from tests.gateway.transport.memory_server import MemoryPeer, MemoryServer, is_uvicorns
from tests.gateway.transport.peer_frames import HELLO
from tests.gateway.transport.sockets import a_handshake

HANDSHAKE = a_handshake()
PLAIN = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO_BACK = b"\x81\x05hello"


@given(st.lists(st.integers(1, 10_000), max_size=8), st.integers(0, 3))
async def test_any_split_of_the_bytes_opens_the_same_connection(
    cuts: list[int], earlier: int
) -> None:
    sent = PLAIN * earlier + HANDSHAKE + HELLO * 2
    places = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})
    server = MemoryServer()
    peer = server.peer()

    peer.send(*[sent[begin:end] for begin, end in pairwise(places)])

    await until(lambda: peer.got.endswith(HELLO_BACK * 2))
    assert peer.statuses == [200] * earlier + [101]
    assert peer.got.count(HELLO_BACK) == 2
    assert isinstance(peer.protocol, Connection)
    assert server.known == set()


async def test_a_handshake_in_one_piece_does_not_pass_through_uvicorn() -> None:
    server = MemoryServer()
    peer, other = server.peer(), server.peer()
    assert isinstance(peer.protocol, ProtocolSniffer)

    peer.send(HANDSHAKE)
    other.send(PLAIN)

    assert isinstance(peer.protocol, Connection)
    assert peer.statuses == [101], "in the step that read it"
    assert is_uvicorns(other)


async def test_an_earlier_request_is_answered_before_the_connection_opens() -> None:
    server = MemoryServer()
    server.let.clear()
    peer = server.peer()
    peer.send(PLAIN + PLAIN, HANDSHAKE, HELLO[:3])
    for _ in range(10):
        await asyncio.sleep(0)
    assert peer.got == b""

    server.let.set()
    peer.send(HELLO[3:])

    await until(lambda: peer.got.endswith(HELLO_BACK))
    assert peer.statuses == [200, 200, 101]


async def test_the_time_between_two_requests_is_over_when_the_connection_opens() -> None:
    server = MemoryServer(keep_alive_seconds=0.02)
    peer = server.peer()
    peer.send(PLAIN + HANDSHAKE)
    assert await peer.answered(2) == [200, 101]

    await asyncio.sleep(0.1)  # timers go off in their order: that one would have

    assert not peer.is_closing()


async def test_every_answer_has_the_headers_of_its_time() -> None:
    server = MemoryServer()
    for date in (b"Mon, 23 Nov 2026 19:00:00 GMT", b"Mon, 23 Nov 2026 19:00:01 GMT"):
        server.state.default_headers = [(b"date", date), (b"x", b"y")]
        for path in (b"/", b"/unknown"):
            peer = server.peer()
            peer.send(a_handshake(target=path))
            assert b"\r\ndate: %b\r\nx: y\r\n" % date in peer.got


async def test_a_peer_that_sends_too_much_before_its_handshake_is_answered_is_aborted() -> None:
    server = MemoryServer(max_message_bytes=1000)
    server.let.clear()
    peer = server.peer()

    peer.send(PLAIN + HANDSHAKE, b"x" * 1000)
    assert not peer.aborted
    peer.send(b"x")
    assert peer.aborted

    peer.leave()
    server.let.set()
    await until(lambda: not server.state.tasks)
    assert (server.echoes, server.known) == ([], set())


async def test_there_is_no_websocket_where_no_endpoint_is() -> None:
    server = MemoryServer()
    peer = server.peer()
    peer.send(a_handshake(target=b"/unknown") + HELLO)
    assert peer.statuses == [403]
    assert peer.closed
    assert (server.echoes, server.known) == ([], set())


async def test_a_server_that_ends_opens_no_connection_whose_handshake_waits() -> None:
    server = MemoryServer()
    server.let.clear()
    peer = server.peer()
    peer.send(PLAIN + HANDSHAKE)
    for each in list(server.state.connections):
        each.shutdown()

    server.let.set()

    assert await peer.answered(2) == [200]
    assert peer.is_closing()
    for _ in range(3):
        await asyncio.sleep(0)
    assert server.echoes == []


async def test_a_server_that_ends_closes_a_connection_that_has_said_nothing() -> None:
    server = MemoryServer()
    peer = server.peer()
    assert len(server.state.connections) == 1

    for each in list(server.state.connections):
        each.shutdown()

    assert peer.closed
    peer.leave()
    assert server.known == set()


@pytest.mark.parametrize("sent", [b"", b"G", HANDSHAKE[:-1], PLAIN[:-1]])
async def test_a_request_has_as_long_to_come_in_the_sniffer_as_in_uvicorn(sent: bytes) -> None:
    server, now = MemoryServer(), asyncio.get_running_loop().time()
    peer = server.peer()
    if sent:
        peer.send(sent)

    end_late_peers(server.state, now + UpgradingHttp.request_seconds - 1)
    assert not peer.is_closing()
    end_late_peers(server.state, now + UpgradingHttp.request_seconds + 1)
    assert peer.is_closing()
    assert peer.statuses == ([408] if sent else [])


async def test_time_that_passed_in_silence_is_not_given_again() -> None:
    server, loop = MemoryServer(), asyncio.get_running_loop()
    peer = server.peer()
    due_at = loop.time() + UpgradingHttp.request_seconds
    await asyncio.sleep(0.02)

    peer.send(HANDSHAKE[:30])

    end_late_peers(server.state, due_at)
    assert peer.statuses == [408]


@pytest.mark.parametrize("way", ["whole", "in two"])
async def test_a_head_may_be_long_in_one_piece_only(way: str) -> None:
    more = b"X: %b\r\n" % (b"y" * (UpgradingHttp.max_head_bytes + 1000))
    head = a_handshake(more=more)
    peer = MemoryServer().peer()
    peer.send(*([head] if way == "whole" else [head[:-2], head[-2:]]))
    assert peer.statuses == [101 if way == "whole" else 431]


@pytest.mark.parametrize(("query", "status"), [(b"", 500), (b"?late", 101)])
async def test_an_endpoint_that_fails_costs_its_connection_and_no_other(
    query: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    server = MemoryServer()
    peer = server.peer()
    peer.send(a_handshake(target=b"/fails" + query) + HELLO)

    assert peer.statuses == [status]
    assert peer.is_closing()
    other = server.peer()
    other.send(HANDSHAKE)
    assert other.statuses == [101]


async def test_a_silent_socket_gives_way_to_a_new_one_and_websockets_count_too() -> None:
    server = MemoryServer(max_sockets=3)
    tab, silent, half = (server.peer() for _ in range(3))
    tab.send(HANDSHAKE)
    half.send(PLAIN[:5])
    newest = server.peer()
    assert [each.is_closing() for each in (tab, silent, half, newest)] == [
        False,
        True,
        False,
        False,
    ]

    newest.send(HANDSHAKE)
    server.peer().send(HANDSHAKE)
    assert half.is_closing()
    assert server.peer().aborted, "three WebSockets are open: nobody is waited for"


class ASocket:
    """Which uvicorn asks for both ends' names."""

    def __init__(self, peer: object) -> None:
        self._peer = peer

    def getpeername(self) -> object:
        return self._peer

    def getsockname(self) -> object:
        return ("127.0.0.1", 80)


HOSTS = st.sampled_from(
    ["127.0.0.1", "10.0.0.1", "10.0.0.1:80", "203.0.113.7", "::1", "[fd00::1]:1", "", " ", "x"]
)


@given(
    st.sampled_from(["", "127.0.0.1", "10.0.0.0/8, 127.0.0.1", "*"]),
    st.sampled_from([("127.0.0.1", 1), ("::1", 1, 0, 0), ("203.0.113.9", 1), "", None]),
    st.lists(st.lists(HOSTS, max_size=3).map(", ".join), max_size=3),
)
async def test_an_endpoint_sees_the_same_client_as_a_request_over_http(
    proxies: str, peer: object, forwarded: list[str]
) -> None:
    server = MemoryServer(proxies=proxies)
    more = b"".join(b"X-Forwarded-For: %b\r\n" % each.encode() for each in forwarded)

    server.peer(peername=peer).send(a_handshake(more=more))
    asks_over_http = server.peer(peername=peer, socket=ASocket(peer))
    asks_over_http.send(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % more)

    await until(lambda: len(server.clients) == 1)
    assert server.hosts == server.clients


async def test_sockets_that_have_ended_leave_nothing() -> None:
    server = MemoryServer()
    for sent in (b"", b"G", PLAIN, HANDSHAKE, HANDSHAKE[:9], b"\0", a_handshake(version=b"1")):
        peer: MemoryPeer = server.peer()
        if sent:
            peer.send(sent)
        await asyncio.sleep(0)
        peer.leave()
    await until(lambda: not server.state.tasks)
    assert (server.known, len(server.hub)) == (set(), 0)
