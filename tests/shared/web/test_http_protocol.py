"""Peers that send half of a request, or more than one, or don't take the answer."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from shared.runtime.listening import listen
from shared.runtime.process import Server, server_config
from shared.web.http_protocol import BoundedHttp
from shared.web.peers import PeerLimits, Peers
from tests.fixtures.waiting import eventually

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\n"
BIG = b"x" * (8 * 1024 * 1024)


class Impatient(BoundedHttp):
    request_seconds = 0.3
    write_seconds = 0.3


class LessImpatient(BoundedHttp):
    request_seconds = 3.0


class Narrow(BoundedHttp):
    max_head_bytes = 4096
    max_request_bytes = 16384


class App:
    """Reads the body, answers with its size, or with much where that is asked for."""

    def __init__(self) -> None:
        self.requests = 0
        self.disconnected = 0
        self.held: asyncio.Event | None = None
        """Until it is set, nobody is answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        if self.held is not None:
            await receive()
            await self.held.wait()
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        size, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected += 1
                return
            size, more = size + len(message["body"]), message["more_body"]
        body = BIG if scope["path"] == "/big" else str(size).encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class Service:
    """The application on a port, and how many connections the server has."""

    def __init__(self, app: App, server: Server, port: int) -> None:
        self.app = app
        self.port = port
        self._server = server

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    @property
    def tasks(self) -> int:
        return len(self._server.server_state.tasks)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def all_gone(self) -> None:
        await eventually(lambda: self.connections == 0)


@asynccontextmanager
async def serving(
    http: type[BoundedHttp], *, max_idle: int = 100, max_sockets: int | None = None
) -> AsyncGenerator[Service]:
    app, stop = App(), asyncio.Event()
    with listen("127.0.0.1", 0) as taken:
        config = server_config(app, forwarded_allow_ips="127.0.0.1", http=http)
        limits = PeerLimits(keep_alive_seconds=http.request_seconds, max_idle=max_idle)
        server = Server(config, stop=stop, limits=limits)
        if max_sockets is not None:
            server.server_state.connections = Peers(  # type: ignore[assignment]
                max_sockets=max_sockets, max_idle=max_idle
            )
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[taken]))
            await eventually(lambda: server.started)
            yield Service(app, server, taken.getsockname()[1])
            stop.set()


@pytest.fixture
async def service() -> AsyncGenerator[Service]:
    """With little patience."""
    async with serving(Impatient) as running:
        yield running


@pytest.fixture
async def narrow() -> AsyncGenerator[Service]:
    """With much patience and little room."""
    async with serving(Narrow) as running:
        yield running


async def answer_to(service: Service, *pieces: bytes) -> bytes:
    """All that comes back until the server ends the connection, which it has to."""
    reader, writer = await service.connect()
    for piece in pieces:
        writer.write(piece)
    async with asyncio.timeout(10):
        got = await reader.read()
    writer.close()
    return got


async def test_who_sends_nothing_is_let_go_without_a_word(service: Service) -> None:
    assert await answer_to(service) == b""
    await service.all_gone()


@pytest.mark.parametrize("part", [b"G", b"\r\n", HEAD, HEAD + b"X: y", HEAD + b"\r"])
async def test_half_a_head_is_not_waited_for(service: Service, part: bytes) -> None:
    assert (await answer_to(service, part)).startswith(b"HTTP/1.1 408 ")
    await service.all_gone()


async def test_who_drips_a_head_gets_no_more_time(service: Service) -> None:
    reader, writer = await service.connect()
    writer.write(HEAD)
    async with asyncio.timeout(10):
        while not reader.at_eof():
            writer.write(b"X: y\r\n")
            try:
                async with asyncio.timeout(0.05):
                    if (await reader.read(100)).startswith(b"HTTP/1.1 408 "):
                        break
            except TimeoutError:
                continue
    writer.close()
    await service.all_gone()


async def test_half_a_body_is_not_waited_for_and_its_handler_hears_of_it(
    service: Service,
) -> None:
    assert await answer_to(service, HEAD, b"Content-Length: 10\r\n\r\nabc") == b""
    await eventually(lambda: service.app.disconnected == 1)
    await service.all_gone()


@pytest.mark.parametrize("after", [b"", b"G", b"\r\n"])
async def test_after_an_answer_the_next_request_is_not_waited_for_without_end(
    service: Service, after: bytes
) -> None:
    reader, writer = await service.connect()
    writer.write(HEAD + b"Content-Length: 3\r\n\r\nabc")
    assert (await reader.readuntil(b"\r\n\r\n3")).startswith(b"HTTP/1.1 200 ")
    writer.write(after)
    async with asyncio.timeout(10):
        assert (await reader.read())[:13] in {b"", b"HTTP/1.1 408 "}
    writer.close()
    await service.all_gone()


async def test_a_head_without_an_end_is_not_kept(narrow: Service) -> None:
    refused = await answer_to(narrow, HEAD, b"X: ", *[b"y" * 1000] * 20)

    assert refused.startswith(b"HTTP/1.1 431 ")
    await narrow.all_gone()


async def test_trailers_without_an_end_are_not_kept(narrow: Service) -> None:
    _, writer = await narrow.connect()
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
    await eventually(lambda: narrow.connections == 1)

    with contextlib.suppress(ConnectionError):  # as it is reset in the middle
        for _ in range(100):
            writer.write(b"X-Trailer: y\r\n" * 100)
            await writer.drain()
    await narrow.all_gone()
    writer.close()


async def test_a_request_that_fits_is_answered(narrow: Service) -> None:
    reader, writer = await narrow.connect()
    for number in range(1, 10):  # the bytes of one don't count for the next
        writer.write(HEAD + b"X: " + b"y" * 3000 + b"\r\nContent-Length: 9000\r\n\r\n")
        await eventually(lambda number=number: narrow.app.requests == number)  # type: ignore[misc]
        writer.write(b"x" * 9000)
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n9000")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_requests_in_time_are_answered_one_after_another() -> None:
    async with serving(LessImpatient) as service:
        reader, writer = await service.connect()
        for size in (3, 2000, 5):
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(len(str(size))) == str(size).encode()
            await asyncio.sleep(LessImpatient.request_seconds * 0.4)  # each has its own time
        writer.close()
        await service.all_gone()


async def test_two_requests_in_one_piece_are_both_answered(service: Service) -> None:
    request = HEAD + b"Content-Length: 3\r\n\r\nabc"
    reader, writer = await service.connect()
    writer.write(request + request)
    async with asyncio.timeout(10):
        got = await reader.readuntil(b"\r\n\r\n3") + await reader.readuntil(b"\r\n\r\n3")
    assert got.count(b"HTTP/1.1 200 ") == 2
    writer.close()


async def test_of_many_idle_connections_the_longest_idle_ends() -> None:
    async with serving(Narrow, max_idle=2) as service:
        idle = []
        for _ in range(3):
            reader, writer = await service.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n0")
            idle.append((reader, writer))

        assert await idle[0][0].read() == b""
        for reader, writer in idle[1:]:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n0")
        for _, writer in idle:
            writer.close()


async def test_who_was_answered_before_his_request_had_come_is_idle_once_it_has() -> None:
    async with serving(Narrow, max_idle=1) as service:
        reader, writer = await service.connect()
        writer.write(HEAD.replace(b"/x", b"/early") + b"Content-Length: 1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(b"x")
        other_reader, other_writer = await service.connect()
        other_writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await other_reader.readuntil(b"\r\n\r\n0")

        assert await reader.read() == b"", "it was idle for longer"
        for each in (writer, other_writer):
            each.close()


async def test_an_idle_connection_is_kept_for_longer_than_proxies_keep_theirs() -> None:
    assert PeerLimits().keep_alive_seconds > 600, "of GCP's load balancers"


async def test_who_does_not_take_the_answer_is_dropped(service: Service) -> None:
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", service.port))
        raw.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: service.connections == 1)
        await service.all_gone()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_who_leaves_with_requests_unanswered_makes_no_traceback(
    anyio_backend: object, narrow: Service, caplog: pytest.LogCaptureFixture
) -> None:
    half = HEAD + b"Content-Length: 2\r\n\r\n"
    _, writer = await narrow.connect()
    narrow.app.held = asyncio.Event()
    writer.write(half + b"ab" + half + b"ab" + half)
    await eventually(lambda: narrow.app.requests == 1)

    writer.transport.abort()
    await narrow.all_gone()
    narrow.app.held.set()
    await eventually(lambda: not narrow.tasks)

    assert not [record for record in caplog.records if record.exc_info]


async def test_who_asks_again_and_again_and_reads_nothing_gives_way_to_a_newcomer() -> None:
    async with serving(Narrow, max_sockets=1) as service:
        with socket.socket() as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", service.port))
            raw.send(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n" * 19)
            await eventually(lambda: service.app.requests >= 1)

            got = b""
            async with asyncio.timeout(10):
                while not got:  # until it is noticed
                    with contextlib.suppress(ConnectionError):
                        got = await answer_to(
                            service, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                        )
            assert got.startswith(b"HTTP/1.1 200 ")
