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
from tests.gateway.transport.peer_frames import HELLO
from tests.gateway.transport.sockets import a_handshake
from tests.gateway.transport.visitors import House, Visitor, is_uvicorns

HANDSHAKE = a_handshake()
PLAIN = b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO_BACK = b"\x81\x05hello"


@given(st.lists(st.integers(1, 10_000), max_size=8), st.integers(0, 3))
async def test_any_split_of_the_bytes_opens_the_same_connection(
    cuts: list[int], earlier: int
) -> None:
    sent = PLAIN * earlier + HANDSHAKE + HELLO * 2
    places = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})
    house = House()
    visitor = house.visitor()

    visitor.send(*[sent[begin:end] for begin, end in pairwise(places)])

    await until(lambda: visitor.got.endswith(HELLO_BACK * 2), seconds=2)
    assert visitor.statuses == [200] * earlier + [101]
    assert visitor.got.count(HELLO_BACK) == 2
    assert isinstance(visitor.protocol, Connection)
    assert house.known == set()


async def test_what_comes_in_one_piece_passes_uvicorn_by() -> None:
    house = House()
    visitor, other = house.visitor(), house.visitor()
    assert isinstance(visitor.protocol, ProtocolSniffer)

    visitor.send(HANDSHAKE)
    other.send(PLAIN)

    assert isinstance(visitor.protocol, Connection)
    assert visitor.statuses == [101], "in the step that read it"
    assert is_uvicorns(other)


async def test_an_earlier_request_is_answered_before_the_connection_opens() -> None:
    house = House()
    house.let.clear()
    visitor = house.visitor()
    visitor.send(PLAIN + PLAIN, HANDSHAKE, HELLO[:3])
    for _ in range(10):
        await asyncio.sleep(0)
    assert visitor.got == b""

    house.let.set()
    visitor.send(HELLO[3:])

    await until(lambda: visitor.got.endswith(HELLO_BACK))
    assert visitor.statuses == [200, 200, 101]


async def test_the_time_between_two_requests_is_over_when_the_connection_opens() -> None:
    house = House(keep_alive_seconds=0.02)
    visitor = house.visitor()
    visitor.send(PLAIN + HANDSHAKE)
    assert await visitor.answered(2) == [200, 101]

    await asyncio.sleep(0.1)  # timers go off in their order: that one would have

    assert not visitor.is_closing()


async def test_every_answer_has_the_headers_of_its_time() -> None:
    house = House()
    for date in (b"Mon, 23 Nov 2026 19:00:00 GMT", b"Mon, 23 Nov 2026 19:00:01 GMT"):
        house.state.default_headers = [(b"date", date), (b"x", b"y")]
        for path in (b"/", b"/unknown"):
            visitor = house.visitor()
            visitor.send(a_handshake(target=path))
            assert b"\r\ndate: %b\r\nx: y\r\n" % date in visitor.got


async def test_who_sends_much_before_his_turn_is_dropped() -> None:
    house = House(max_message_bytes=1000)
    house.let.clear()
    visitor = house.visitor()

    visitor.send(PLAIN + HANDSHAKE, b"x" * 1000)
    assert not visitor.aborted
    visitor.send(b"x")
    assert visitor.aborted

    visitor.leave()
    house.let.set()
    await until(lambda: not house.state.tasks)
    assert (house.echoes, house.known) == ([], set())


async def test_there_is_no_websocket_where_no_endpoint_is() -> None:
    house = House()
    visitor = house.visitor()
    visitor.send(a_handshake(target=b"/unknown") + HELLO)
    assert visitor.statuses == [403]
    assert visitor.closed
    assert (house.echoes, house.known) == ([], set())


async def test_a_server_that_ends_lets_nobody_in_who_waits_his_turn() -> None:
    house = House()
    house.let.clear()
    visitor = house.visitor()
    visitor.send(PLAIN + HANDSHAKE)
    for each in list(house.state.connections):
        each.shutdown()

    house.let.set()

    assert await visitor.answered(2) == [200]
    assert visitor.is_closing()
    for _ in range(3):
        await asyncio.sleep(0)
    assert house.echoes == []


async def test_a_server_that_ends_closes_a_connection_that_has_said_nothing() -> None:
    house = House()
    visitor = house.visitor()
    assert len(house.state.connections) == 1

    for each in list(house.state.connections):
        each.shutdown()

    assert visitor.closed
    visitor.leave()
    assert house.known == set()


@pytest.mark.parametrize("sent", [b"", b"G", HANDSHAKE[:-1], PLAIN[:-1]])
async def test_a_request_is_awaited_as_long_whoever_awaits_it(sent: bytes) -> None:
    house, now = House(), asyncio.get_running_loop().time()
    visitor = house.visitor()
    if sent:
        visitor.send(sent)

    end_late_peers(house.state, now + UpgradingHttp.request_seconds - 1)
    assert not visitor.is_closing()
    end_late_peers(house.state, now + UpgradingHttp.request_seconds + 1)
    assert visitor.is_closing()
    assert visitor.statuses == ([408] if sent else [])


async def test_time_that_passed_in_silence_is_not_given_again() -> None:
    house, loop = House(), asyncio.get_running_loop()
    visitor = house.visitor()
    due_at = loop.time() + UpgradingHttp.request_seconds
    await asyncio.sleep(0.02)

    visitor.send(HANDSHAKE[:30])

    end_late_peers(house.state, due_at)
    assert visitor.statuses == [408]


@pytest.mark.parametrize("way", ["whole", "in two"])
async def test_a_head_may_be_long_in_one_piece_only(way: str) -> None:
    more = b"X: %b\r\n" % (b"y" * (UpgradingHttp.max_head_bytes + 1000))
    head = a_handshake(more=more)
    visitor = House().visitor()
    visitor.send(*([head] if way == "whole" else [head[:-2], head[-2:]]))
    assert visitor.statuses == [101 if way == "whole" else 431]


@pytest.mark.parametrize(("query", "status"), [(b"", 500), (b"?late", 101)])
async def test_an_endpoint_that_fails_costs_its_connection_and_no_other(
    query: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    house = House()
    visitor = house.visitor()
    visitor.send(a_handshake(target=b"/fails" + query) + HELLO)

    assert visitor.statuses == [status]
    assert visitor.is_closing()
    other = house.visitor()
    other.send(HANDSHAKE)
    assert other.statuses == [101]


async def test_who_is_silent_gives_way_to_a_newcomer_and_websockets_count_as_well() -> None:
    house = House(max_sockets=3)
    tab, silent, half = (house.visitor() for _ in range(3))
    tab.send(HANDSHAKE)
    half.send(PLAIN[:5])
    newcomer = house.visitor()
    assert [each.is_closing() for each in (tab, silent, half, newcomer)] == [
        False,
        True,
        False,
        False,
    ]

    newcomer.send(HANDSHAKE)
    house.visitor().send(HANDSHAKE)
    assert half.is_closing()
    assert house.visitor().aborted, "three WebSockets are open: nobody is waited for"


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
    house = House(proxies=proxies)
    more = b"".join(b"X-Forwarded-For: %b\r\n" % each.encode() for each in forwarded)

    house.visitor(peername=peer).send(a_handshake(more=more))
    asks_over_http = house.visitor(peername=peer, socket=ASocket(peer))
    asks_over_http.send(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % more)

    await until(lambda: len(house.clients) == 1)
    assert house.hosts == house.clients


async def test_visitors_that_were_leave_nothing() -> None:
    house = House()
    for sent in (b"", b"G", PLAIN, HANDSHAKE, HANDSHAKE[:9], b"\0", a_handshake(version=b"1")):
        visitor: Visitor = house.visitor()
        if sent:
            visitor.send(sent)
        await asyncio.sleep(0)
        visitor.leave()
    await until(lambda: not house.state.tasks)
    assert (house.known, len(house.hub)) == (set(), 0)
