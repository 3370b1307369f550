"""HTTP connections with deadlines and size limits, on top of uvicorn's.

Uvicorn has one deadline, between two requests. A peer that sends nothing, half a head or half a
body would stay for ever, and an endless head would fill the memory. Connections have no timers:
the server checks all of them once a second.

Where a request ends is decided in one way only, against request smuggling. If nobody accepts an
upgrade, the request's body follows; after a malformed request, or the last one, nothing more is
read. `tests.shared.test_framing` shows what the parser itself refuses.

This uses private names of uvicorn: its parser's callbacks, ``cycle`` (the answer to the newest
request) and ``_start_asgi_task``. Source: uvicorn 0.54, protocols/http/httptools_impl.py.
"""

import asyncio
import re
from http import HTTPStatus
from typing import ClassVar, cast

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shared.web.peers import Peer, Peers

log = structlog.get_logger(__name__)


class BoundedHttp(Peer, HttpToolsProtocol):
    """Uvicorn's protocol, with limits of time and bytes for each request."""

    request_seconds: ClassVar[float] = 20.0
    """For a request to arrive, from the connection's start or from the request's first byte."""
    write_seconds: ClassVar[float] = 20.0
    """For the peer to read what was sent."""
    max_head_bytes: ClassVar[int] = 64 * 1024
    """Including what arrives in the same chunk."""
    max_request_bytes: ClassVar[int] = 1024 * 1024
    """Of the whole request; its body has a stricter limit."""

    max_pipelined: ClassVar[int] = 20
    """Requests that wait for the answers to earlier ones on the same connection."""

    _due_at: float | None = None
    """The deadline of the request that arrives; None between two requests."""
    _read_due_at: float | None = None
    """The deadline for the peer to read what was sent; None if it has read all."""
    _is_in_head = True
    _may_come_without_body = False
    _is_last = False
    """The peer has said ``Connection: close``."""
    _is_stopping = False
    _ignores_input = False
    """The connection ends after the answer that is being sent."""
    _received = 0
    _being_answered: RequestResponseCycle | None = None
    """The oldest request's; ``cycle`` is the newest's."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """In place of uvicorn's, which asks for addresses in a way that uvloop never forgets.

        It would keep them until the connection ends, whoever has it by then.
        """
        self.transport = cast(asyncio.Transport, transport)  # uvloop has its own class
        self.flow = FlowControl(self.transport)
        local, remote = (transport.get_extra_info(each) for each in ("sockname", "peername"))
        self.server = _host_and_port(local) or ((local, None) if isinstance(local, str) else None)
        self.client = _host_and_port(remote)
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        if not self._peers.enter(self):
            self.transport.abort()
        # Uvicorn's parser would read on after a request that says it is the last.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._await_request()

    def take_over(self, transport: asyncio.Transport, *, due_at: float) -> None:
        """Go on with a connection of which another protocol awaited the first bytes."""
        self.connection_made(transport)
        self._due_at = due_at
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        if self._ignores_input or self.transport.is_closing():
            return
        if self._due_at is None:
            self._await_request()
            if not self._is_answering:
                self._peers.wait_for(self, idle=False)
        self._received += len(data)
        self._unset_keepalive_if_required()
        self._read(data)
        if self._due_at is None or self.transport.is_closing():
            return
        if self._is_in_head and self._received > self.max_head_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._received > self.max_request_bytes:
            self.transport.abort()  # a body that is too long has had its answer at its own limit

    def connection_lost(self, exc: Exception | None) -> None:
        answering = self._being_answered
        if answering is not None and not answering.response_complete:
            # Uvicorn tells only the newest; this one would go on writing to a closed socket.
            answering.disconnected = True
            answering.message_event.set()
        super().connection_lost(exc)

    def take_upgrade(self, rest: memoryview) -> bool:
        """Switch to the protocol that the request asks for; for subclasses that speak one.

        Args:
            rest: What arrived with the request, after its head.

        Returns:
            Whether it did; if not, the request is answered like any other (RFC 9110).
        """
        return False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_in_head:
            return  # trailers come here too, and must not pass for a proxy's headers
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser stops after it, whether the request has a body or not
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and (codings != [b"chunked"] or self.parser.get_http_version() == "1.0"):
            raise Refused(HTTPStatus.NOT_IMPLEMENTED)
        if len(self.pipeline) >= self.max_pipelined:
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS)
        self.url = origin_form(self.url)
        self._take_head()
        self._is_in_head = False
        if self.expect_100_continue and self.cycle.keep_alive:
            # Answered too early, its body may never come; the next bytes could be a request.
            self.cycle.keep_alive = False
            self._may_come_without_body = True

    def _take_head(self) -> None:
        """Begin the request whose head has come, or put it behind those before it."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if self._may_come_without_body:
            self._may_come_without_body = False
            self.cycle.keep_alive = not self.cycle.response_started and not self._is_stopping
        self._is_last = not self.parser.should_keep_alive()
        if self._is_answering:
            self._peers.serve(self)
        else:  # it was answered before all of it had come
            self._peers.wait_for(self, idle=True)
        self._due_at = None
        self._is_in_head = True
        self._received = 0

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._being_answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_answering and not self.transport.is_closing():
            self._peers.wait_for(self, idle=self._due_at is None)

    def shutdown(self) -> None:
        self._is_stopping = True
        super().shutdown()

    def end_if_late(self, now: float) -> None:
        if self._reads_too_slowly(now):
            self.transport.abort()
        elif self._due_at is None or now < self._due_at or self.transport.is_closing():
            return
        elif self._hears_that_it_is_late:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._end()

    def give_way(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait until the peer has read that
        else:
            self._end()

    @property
    def _peers(self) -> Peers:
        return cast(Peers, self.connections)  # see `shared.runtime.process.Server`

    def _await_request(self) -> None:
        self._due_at = self.loop.time() + self.request_seconds

    def _reads_too_slowly(self, now: float) -> bool:
        if not self.transport.get_write_buffer_size():
            if self._read_due_at is not None:
                self._read_due_at = None
                self._peers.has_read(self)
        elif self._read_due_at is None:
            self._read_due_at = now + self.write_seconds
            self._peers.leaves_unread(self)
        return self._read_due_at is not None and now >= self._read_due_at

    @property
    def _is_answering(self) -> bool:
        cycle = cast(RequestResponseCycle | None, self.cycle)  # there is none before the first
        return cycle is not None and not cycle.response_complete

    @property
    def _hears_that_it_is_late(self) -> bool:
        """Whether its request has begun, and nobody else will answer it."""
        return self._is_in_head and self._received > 0

    def _end(self) -> None:
        if self._is_answering:
            self.transport.abort()  # the application is told of the disconnect
        else:
            self.transport.close()

    def _read(self, data: bytes) -> None:
        unread: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(unread)
                except httptools.HttpParserUpgrade as stopped:
                    unread = memoryview(unread)[stopped.args[0] :]
                    if self.take_upgrade(unread):
                        self._due_at = None
                        return
                    self._go_on_without_upgrade()
                else:
                    return
        except Refused as refused:
            self._refuse(refused.status)
        except httptools.HttpParserError as error:
            if self._is_last:
                self._ignores_input = True
                return
            why = error.__context__
            self._refuse(why.status if isinstance(why, Refused) else HTTPStatus.BAD_REQUEST)

    def _go_on_without_upgrade(self) -> None:
        """Treat the request as one without ``Upgrade``, and read its body next.

        The parser can't: it takes the next bytes for the other protocol, or for a new request.
        So another parser is fed the head without that field.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise Refused(HTTPStatus.NOT_IMPLEMENTED)
        lines = b"".join(
            [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        )
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(
            b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version.encode(), lines)
        )

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with the status, if that can't pass for another request's answer; and close."""
        if self._is_answering:
            if not self.cycle.more_body:
                self._ignores_input = True
                self.cycle.keep_alive = False  # earlier requests were complete: they are answered
                return
            if self.pipeline or self.cycle.response_started:
                self.transport.abort()
                return
        elif not self._is_in_head:
            self.transport.close()  # it was answered before it was complete
            return
        lines = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-length: 0",
            "connection: close",
            "\r\n",
        )
        self.transport.write("\r\n".join(lines).encode())
        self._hang_up()

    def _hang_up(self) -> None:
        """End the connection after a refusal."""
        self.transport.close()

    def _linger(self, seconds: float) -> None:
        """End our side, and let the peer end its own in that time; ignore what it sends.

        If the socket were closed while it sends, the kernel would reset the connection, and the
        peer would lose the answer. RFC 9112, section 9.6.
        """
        self._ignores_input = True
        self._due_at = self.loop.time() + seconds
        self._received = 0
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _host_and_port(address: object) -> tuple[str, int] | None:
    """None of a Unix socket."""
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None


class Refused(Exception):
    """A well-formed request that the application must not see; raised in callbacks too."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


_BEFORE_PATH = re.compile(rb"(?:http|ws)s?://[^/?#]*", re.IGNORECASE)


def origin_form(target: bytes) -> bytes:
    """The path and query. To a proxy, clients send the whole URL (RFC 9112, section 3.2.2)."""
    if target.startswith(b"/"):
        return target
    found = _BEFORE_PATH.match(target)
    if found is None:
        return target
    path = target[found.end() :]
    return path if path.startswith(b"/") else b"/" + path


def end_late_peers(state: ServerState, now: float) -> None:
    """Check all connections of a server; to be called about once a second."""
    for connection in tuple(state.connections):
        if isinstance(connection, Peer):
            try:
                connection.end_if_late(now)
            except Exception:  # the server's own loop would end, and the process with it
                log.exception("late_peer_not_ended")
    if isinstance(state.connections, Peers):
        gave_way, turned_away = state.connections.tell_crowding()
        if gave_way or turned_away:
            log.warning("sockets_all_taken", gave_way=gave_way, turned_away=turned_away)
