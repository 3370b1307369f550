"""Requests over HTTP that are answered here, and not by the application: by path and method.

An endpoint is called when the whole request has come. It responds, or opens a stream, which
leaves all that HTTP needed behind as a WebSocket does. It may also respond later.

Paths are ours alone, or shortcuts: there the application answers alike, but takes ten times as
long.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import Context, copy_context
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import unquote

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.transport.connection import Connection
from gateway.transport.handshake import header_lines, header_of, status_line
from gateway.transport.http_stream import HttpStreamConnection
from gateway.transport.receiver import Receiver
from gateway.transport.server_context import ServerContext
from gateway.transport.whole_post import read_whole_post
from shared.web.http_protocol import BoundedHttp, Refused
from shared.web.origins import PREFLIGHT_SECONDS

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Receiver)

HttpEndpoint = Callable[["HttpExchange"], None]
"""Responds, opens a stream, or starts what will do so; waits for nothing itself."""
HttpEndpoints = Mapping[str, Mapping[str, HttpEndpoint]]
"""By path, and by method there. A path that is not here is the application's."""


class Shortcuts(NamedTuple):
    """POSTs that the application need not see.

    It still gets those that are not ordinary: from a page, or with a body that is too long or
    does not say how long it is. So CORS and refusals are the application's.
    """

    endpoints: Mapping[str, HttpEndpoint]
    """By path."""
    max_body_bytes: int

    def suit(self, method: str, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether such a request is an ordinary one."""
        if method != "POST":
            return False
        values = dict(headers)
        length = int(values.get(b"content-length", -1))
        return 0 <= length <= self.max_body_bytes and b"origin" not in values


_NO_CONTENT = HTTPStatus.NO_CONTENT.value  # an enum's members are slow to reach

NO_SHORTCUTS = Shortcuts(MappingProxyType({}), max_body_bytes=0)


class HttpRequest(NamedTuple):
    """A whole request. Header names are in lower case."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class HttpExchange(RequestResponseCycle):
    """One request, while it comes and while its endpoint answers it.

    To uvicorn it is one of its own, so what is pipelined, late or stopped is decided in one place.
    It has what uvicorn's protocol asks of such a cycle, and nothing that only ASGI needs.
    """

    message_event = asyncio.Event()
    """Set whenever something has come; nobody waits for it."""

    def __init__(self, server: ServerContext, http: "RoutedHttp", request: HttpRequest) -> None:
        self.request = request
        """Whole, once an endpoint is called."""
        self.keep_alive = True
        self.waiting_for_100_continue = False
        self.disconnected = False
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self._server = server
        self._http = http
        self._is_started = False

    def begin(self, endpoint: HttpEndpoint) -> None:
        """Let the endpoint answer it, now that it has come."""
        try:
            endpoint(self)
        except Exception as error:
            self._fail(error)
        else:
            if not self.response_complete and not self._is_started:
                self.respond(HTTPStatus.INTERNAL_SERVER_ERROR)

    # Called by the endpoint.

    @property
    def client_host(self) -> str | None:
        """The client's address; None if that can't be known."""
        return self._server.client_host(self._http.transport, self.request.headers)

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.response_complete or self._http.transport.is_closing()

    def respond(
        self, status: int, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> None:
        """Respond, and keep the connection if the peer does; nothing happens if it is gone."""
        if not self.is_gone:
            self._http.respond(self, status, [*headers, *self._cors], body)

    def accept_stream(
        self,
        make: Callable[[Connection], R],
        headers: Iterable[tuple[bytes, bytes]],
        *,
        first: bytes = b"",
        sends_pongs: bool = False,
    ) -> R:
        """Open a stream, and return the receiver that ``make`` puts above it.

        ``make`` is given an `HttpStreamConnection`.

        Args:
            headers: Of the response; `connection` and the body's length are not for them.
            first: What the body begins with.
            sends_pongs: Whether pings are answered, with other requests: see
                `HttpStreamConnection.feed`.

        Raises:
            ConnectionResetError: the peer is gone, or was answered before.
        """
        if self.is_gone:
            raise ConnectionResetError
        self.response_complete = True
        transport, server = self._http.leave(), self._server
        transport.write(
            b"%b%b%bconnection: close\r\n\r\n%b"
            % (
                status_line(HTTPStatus.OK),
                server.default_lines,
                header_lines([*headers, *self._cors]),
                first,
            )
        )
        connection = HttpStreamConnection(transport, server.hub.shared, sends_pongs=sends_pongs)
        receiver = make(connection)
        connection.open(receiver)
        return receiver

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Respond later: run a task that does so, for which the server waits before it stops.

        Whatever ``work`` waits for has a limit of its own; a `TimeoutError` is answered with 504.
        """
        self._is_started = True
        tasks = self._server.state.tasks
        task = self._server.loop.create_task(self._run(work))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _run(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except TimeoutError:
            self.respond(HTTPStatus.GATEWAY_TIMEOUT)
        except Exception as error:
            self._fail(error)
        else:
            if not self.response_complete:
                self.respond(HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            if not self.response_complete:  # it is cancelled
                self._http.transport.abort()

    @property
    def _cors(self) -> list[tuple[bytes, bytes]]:
        """What lets a page of another origin read the response; its origin was admitted."""
        origin = header_of(self.request.headers, b"origin")
        if origin is None:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
            (b"vary", b"Origin"),
        ]

    def _fail(self, error: Exception) -> None:
        log.error("endpoint_failed", exc_info=error)
        if self.response_complete:
            self._http.transport.abort()  # it may have failed anywhere
        else:
            self.respond(HTTPStatus.INTERNAL_SERVER_ERROR)


class RoutedHttp(BoundedHttp):
    """Uvicorn's HTTP protocol, but requests at our own paths are answered by us, in their turn."""

    _context: Context
    _has_parsed = False
    """Whether the parser has been fed: from then on it has to read all that comes."""
    _unanswered: HttpExchange | None = None
    """Its turn has come, but the peer has not read earlier responses."""

    def __init__(
        self, server: ServerContext, endpoints: HttpEndpoints, shortcuts: Shortcuts
    ) -> None:
        super().__init__(server.config, server.state, server.app_state, server.loop)
        self._server = server
        self._http_endpoints = endpoints
        self._shortcuts = shortcuts
        room = self.max_request_bytes - self.max_head_bytes
        self._max_body_bytes = min(server.hub.limits.max_message_bytes, room)

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        if self._has_parsed or self._is_answering or not self._take_whole(data):
            self._has_parsed = True
            super().data_received(data)

    def resume_writing(self) -> None:
        super().resume_writing()
        unanswered, self._unanswered = self._unanswered, None
        if unanswered is not None:
            self._answer(unanswered)

    # Called by the parser.

    def on_headers_complete(self) -> None:
        self._context = copy_context()  # not that of an earlier request
        super().on_headers_complete()
        if isinstance(self.cycle, HttpExchange) and not self.parser.should_upgrade():
            self._check_length(self.cycle)

    def on_body(self, body: bytes) -> None:
        if not isinstance(self.cycle, HttpExchange):
            super().on_body(body)
        elif not self.cycle.response_complete:
            self.cycle.body += body
            if len(self.cycle.body) > self._max_body_bytes:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if not self.parser.should_upgrade() and self.cycle is self._being_answered:
            self._answer_if_whole(self.cycle)

    # Called by the exchange.

    def respond(
        self,
        exchange: HttpExchange,
        status: int,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Write a whole response; then it is the next request's turn."""
        lines = header_lines(headers)
        if status != _NO_CONTENT:  # RFC 9110, section 8.6
            lines += b"content-length: %d\r\n" % len(body)
        if not exchange.keep_alive:
            lines += b"connection: close\r\n"
        self.transport.write(
            b"%b%b%b\r\n%b" % (status_line(status), self._server.default_lines, lines, body)
        )
        exchange.response_started = exchange.response_complete = True
        if self.cycle is exchange:
            self.cycle = self._being_answered = None  # type: ignore[assignment]  # it refers to this
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def leave(self) -> asyncio.Transport:
        """Let another protocol have the transport. What came after the request is dropped.

        Nothing refers back to this then, so it is freed at once.

        Raises:
            ConnectionResetError: the peer has not read earlier responses. They may have stalled
                the transport, which would not tell that to its next protocol.
        """
        transport = self.transport
        if transport.get_write_buffer_size():
            transport.abort()
            raise ConnectionResetError
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.flow.resume_reading()
        self.parser = self.cycle = self._being_answered = None  # type: ignore[assignment]
        return transport

    # The turn of a request.

    def _take_whole(self, data: bytes) -> bool:
        """Begin and answer a request for a shortcut that came in one piece."""
        if self._ignores_input or self.transport.is_closing() or self.flow.write_paused:
            return False
        post = read_whole_post(data, max_head_bytes=self.max_head_bytes)
        if post is None or len(post.body) > self._max_body_bytes:
            return False
        path, query, headers, _ = post.head
        endpoint = self._shortcuts.endpoints.get(path)
        if endpoint is None or not self._shortcuts.suit("POST", headers):
            return False
        request = HttpRequest("POST", path, query, headers, post.body)
        exchange = HttpExchange(self._server, self, request)
        exchange.more_body = False
        self.cycle = self._being_answered = exchange
        self._due_at = None
        self._unset_keepalive_if_required()
        self._peers.serve(self)
        exchange.begin(endpoint)
        return True

    def _take_head(self) -> None:
        """Its head has come; whether it is ours is decided here, once."""
        exchange = self._own_exchange()
        if exchange is None:
            super()._take_head()
            return
        before, self.cycle = cast(RequestResponseCycle | None, self.cycle), exchange
        if before is None or before.response_complete:
            self._start_asgi_task(exchange, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))

    def _own_exchange(self) -> HttpExchange | None:
        """None for a request that the application answers."""
        url, method = httptools.parse_url(self.url), self.parser.get_method().decode("ascii")
        path = self.root_path + unquote(url.path.decode("ascii"))
        if path not in self._http_endpoints and not (
            path in self._shortcuts.endpoints and self._shortcuts.suit(method, self.headers)
        ):
            return None
        exchange = HttpExchange(
            self._server, self, HttpRequest(method, path, url.query or b"", self.headers, b"")
        )
        is_old = self.parser.get_http_version() == "1.0"
        exchange.keep_alive = not is_old and self.parser.should_keep_alive()
        exchange.waiting_for_100_continue = self.expect_100_continue
        return exchange

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """It has come; its body may not have."""
        if not isinstance(cycle, HttpExchange):
            super()._start_asgi_task(cycle, app)
            return
        self._being_answered = cycle
        if cycle.waiting_for_100_continue and not self._is_too_long(cycle):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._answer_if_whole(cycle)

    def _answer_if_whole(self, cycle: RequestResponseCycle) -> None:
        if not cycle.more_body and isinstance(cycle, HttpExchange):
            self.loop.call_soon(self._answer, cycle, context=self._context)

    def _answer(self, exchange: HttpExchange) -> None:
        if self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._unanswered = exchange
            return
        exchange.request = exchange.request._replace(body=bytes(exchange.body))
        method, path, _, headers, _ = exchange.request
        if path not in self._http_endpoints:
            exchange.begin(self._shortcuts.endpoints[path])
            return
        if not self._server.admits(headers, path):
            self.respond(exchange, HTTPStatus.FORBIDDEN, [], b"")
            return
        endpoints = self._http_endpoints[path]
        if method in endpoints:
            exchange.begin(endpoints[method])
        elif method == "OPTIONS":
            exchange.respond(HTTPStatus.NO_CONTENT, _preflight(headers, endpoints))
        else:
            exchange.respond(HTTPStatus.METHOD_NOT_ALLOWED, [_allow(endpoints)])

    # Its end.

    @property
    def _hears_that_it_is_late(self) -> bool:
        awaits_body = self._is_answering and self.cycle.more_body
        return super()._hears_that_it_is_late or (
            awaits_body and isinstance(self.cycle, HttpExchange)
        )

    def _hang_up(self) -> None:
        """Let a peer that sends its body read why it is refused."""
        if self._is_answering and isinstance(self.cycle, HttpExchange):
            self.cycle.response_started = self.cycle.response_complete = True
            self._linger(self._server.hub.limits.close_seconds)
        else:
            super()._hang_up()

    def _check_length(self, exchange: HttpExchange) -> None:
        """Refuse a body that is too long before it comes."""
        if self._is_too_long(exchange):
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def _is_too_long(self, exchange: HttpExchange) -> bool:
        return any(
            name == b"content-length" and int(value) > self._max_body_bytes
            for name, value in exchange.request.headers
        )


def _preflight(
    headers: Iterable[tuple[bytes, bytes]], endpoints: Mapping[str, HttpEndpoint]
) -> list[tuple[bytes, bytes]]:
    """What a browser asks before it lets a page of another origin send a request."""
    allow = _allow(endpoints)
    answer = [
        allow,
        (b"access-control-allow-methods", allow[1]),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
    ]
    asked = header_of(headers, b"access-control-request-headers")
    if asked is not None:
        answer.append((b"access-control-allow-headers", asked.encode("latin-1")))
    return answer


def _allow(endpoints: Mapping[str, HttpEndpoint]) -> tuple[bytes, bytes]:
    return b"allow", ", ".join([*endpoints, "OPTIONS"]).encode()
