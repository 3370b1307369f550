"""Where a request ends: no byte of a body is ever read as a request, whatever the head says."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from gateway.transport.exchange import HttpExchange
from gateway.transport.hub import Hub
from gateway.transport.sniffer import websocket_options
from shared.runtime.listening import listen
from shared.runtime.process import Server, server_config
from shared.web.http_protocol import BoundedHttp
from tests.fixtures.waiting import eventually
from tests.gateway.transport.transports import some_limits

V = TypeVar("V")


@dataclass(frozen=True)
class Told:
    """A request as the application was told it."""

    method: str
    path: str
    body: bytes


class App:
    """Answers 200, and remembers what it was asked; ``/early`` before it knows the body."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers.append(scope["headers"])
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.told.append(Told(scope["method"], scope["path"], body))
        length = (b"content-length", b"0")
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": b""})

    def answer(self, exchange: HttpExchange) -> None:
        """As an endpoint of the gateway's own, which is asked when the body is there."""
        request = exchange.request
        self.headers.append(request.headers)
        self.told.append(Told(request.method, request.path, request.body))
        exchange.respond(200)


class Always(dict[str, V]):
    """Has the same value for every key but `/early`."""

    def __init__(self, value: V) -> None:
        super().__init__(any=value)

    def __contains__(self, key: object) -> bool:
        return key != "/early"

    def __getitem__(self, key: str) -> V:
        return super().__getitem__("any")


def as_service(_app: App) -> dict[str, Any]:
    """As posts and auth are served."""
    return {}


def as_gateway(_app: App) -> dict[str, Any]:
    return websocket_options(Hub(some_limits()), {})


def as_endpoints(app: App) -> dict[str, Any]:
    """As what the gateway answers below its application."""
    return websocket_options(Hub(some_limits()), {}, Always(Always(app.answer)))


class Service:
    """The application behind a real socket."""

    def __init__(self, port: int, app: App) -> None:
        self.app = app
        self._port = port

    async def answers(self, *pieces: bytes) -> bytes:
        """All that comes back until the server ends the connection, which it has to.

        Each piece is read by the server before the next is sent: both sides run on one loop.
        """
        self.app.told.clear()
        self.app.headers.clear()
        loop, got = asyncio.get_running_loop(), b""
        with socket.create_connection(("127.0.0.1", self._port)) as peer, suppress(ConnectionError):
            peer.setblocking(False)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                with suppress(ConnectionError):  # it was refused before its end
                    await loop.sock_sendall(peer, piece)
                for _ in range(3):
                    await asyncio.sleep(0)
            async with asyncio.timeout(20):
                while some := await loop.sock_recv(peer, 65536):
                    got += some
        return got


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that the services run on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module", params=[as_service, as_gateway, as_endpoints])
async def service(request: pytest.FixtureRequest) -> AsyncGenerator[Service]:
    app, stop = App(), asyncio.Event()
    with listen("127.0.0.1", 0) as taken:
        server = Server(server_config(app, forwarded_allow_ips="", **request.param(app)), stop=stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[taken]))
            await eventually(lambda: server.started)
            yield Service(taken.getsockname()[1], app)
            stop.set()


LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SMUGGLED = b"POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def chunked(body: bytes, sizes: list[int], extension: bytes) -> bytes:
    chunks = []
    while body:
        size = sizes.pop() if sizes else len(body)
        chunk, body = body[:size], body[size:]
        chunks.append(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk))
    return b"".join(chunks) + b"0%b\r\n\r\n" % extension


@st.composite
def requests(draw: st.DrawFn) -> tuple[Told, bytes]:
    """A request that HTTP allows, of which somebody hopes that its body passes for another."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]))
    body = draw(st.sampled_from([b"", b"a=b", SMUGGLED, SMUGGLED * 3, b"0\r\n\r\n" + SMUGGLED]))
    token = draw(st.sampled_from(["", "h2c", "HTTP/2.0", "TLS/1.0", "foo", "h2c, foo", "webs"]))
    lines = [f"{method} /asked HTTP/1.1", "Host: x"]
    if token:
        lines.append(f"{draw(st.sampled_from(['Upgrade', 'upgrade']))}: {token}")
    lines += draw(
        st.sampled_from([
            [],
            ["Connection: Upgrade"],
            ["Connection: keep-alive, upgrade, HTTP2-Settings"],
            ["Connection: Upgrade", "Connection: keep-alive"],
        ])
    )  # fmt: skip
    if draw(st.booleans()):
        lines.append("Expect: 100-continue")
    draw(st.randoms()).shuffle(rest := lines[1:])
    head = "\r\n".join([lines[0], *rest]).encode() + b"\r\n"
    if draw(st.booleans()):
        sizes = draw(st.lists(st.integers(1, 40), max_size=4))
        extension = draw(st.sampled_from([b"", b";a=b", b';a="b"']))
        sent = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, sizes, extension)
    else:
        sent = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return Told(method, "/asked", body), sent


@given(st.lists(requests(), min_size=1, max_size=3), st.lists(st.integers(1, 10_000), max_size=6))
async def test_the_application_is_told_the_requests_that_were_sent_and_no_other(
    service: Service, asked: list[tuple[Told, bytes]], cuts: list[int]
) -> None:
    sent = b"".join([each for _, each in asked]) + LAST
    places = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})

    got = await service.answers(*[sent[begin:end] for begin, end in pairwise(places)])

    assert service.app.told == [*[told for told, _ in asked], Told("GET", "/last", b"")]
    assert got.count(b"HTTP/1.1 200 ") == len(service.app.told)


POST = b"POST /asked HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("odd", "status"),
    [
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
        (POST + b"Content-Length: +3\r\n\r\nabc", 400),
        (POST + b"Content-Length : 3\r\n\r\nabc", 400),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\nabc", 400),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (POST.replace(b"\r\n", b"\n") + b"\n", 400),
        (CHUNKED + b"fffffffffffffffff\r\n", 400),
        (CHUNKED + b"-1\r\n", 400),
        (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\na\n0\n\n", 400),
        (CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
        (CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ],
)
async def test_whose_length_could_be_read_in_two_ways_is_refused_with_all_that_follows(
    service: Service, odd: bytes, status: int
) -> None:
    got = await service.answers(odd + SMUGGLED + LAST)

    assert got.startswith(b"HTTP/1.1 %d " % status)
    assert got.count(b"HTTP/1.1 ") == 1
    assert service.app.told == []


async def test_what_cannot_be_read_takes_no_answer_from_what_came_before_it(
    service: Service,
) -> None:
    got = await service.answers(POST + b"Content-Length: 1\r\n\r\na" + b"\0" + SMUGGLED)

    assert service.app.told == [Told("POST", "/asked", b"a")]
    assert [got[:12], got.count(b"HTTP/1.1 ")] == [b"HTTP/1.1 200", 1]


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_nothing_is_read_behind_a_request_that_says_it_is_the_last(
    service: Service, version: bytes
) -> None:
    await service.answers(LAST.replace(b"1.1", version) + SMUGGLED)

    assert service.app.told == [Told("GET", "/last", b"")]


async def test_a_body_that_may_never_come_is_not_mistaken_for_the_next_request(
    service: Service,
) -> None:
    """Who asks whether to send it, and is refused, need not: but may have another request."""
    head = b"POST /early HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)

    got = await service.answers(head + length, SMUGGLED, SMUGGLED)

    assert [each.path for each in service.app.told] == ["/early"]
    assert b"connection: close" in got


async def test_a_trailer_does_not_pass_for_a_header(service: Service) -> None:
    await service.answers(CHUNKED + b"1\r\na\r\n0\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n" + LAST)

    assert [dict(each).get(b"x-forwarded-for") for each in service.app.headers] == [None, None]


async def test_no_more_requests_are_kept_waiting_than_a_bound(service: Service) -> None:
    await service.answers(SMUGGLED * 1000)

    assert len(service.app.told) == 1 + BoundedHttp.max_pipelined, "one, and those behind it"


async def test_a_url_for_a_proxy_is_taken_for_its_path(service: Service) -> None:
    for target, path in ((b"http://x/a?b", "/a"), (b"HTTPS://x", "/"), (b"http://x?/b", "/")):
        await service.answers(LAST.replace(b"/last", target))
        assert [each.path for each in service.app.told] == [path]
