"""From an opening handshake to an open connection, or to its rejection.

The endpoint at the path is called at once. It accepts the connection or rejects it. An accepted
connection keeps nothing of the request.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import structlog
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from gateway.transport.connection import Connection
from gateway.transport.handshake import Request, header_lines, response, switching_protocols
from gateway.transport.hub import Hub
from gateway.transport.receiver import Receiver
from gateway.transport.websocket import WebSocketConnection
from shared.web.peers import Peers

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=Receiver)

Endpoint = Callable[["Upgrade"], None]
"""Accepts the connection or rejects it, and waits for nothing."""
Endpoints = Mapping[str, Endpoint]
"""By path."""


class ServerContext:
    """What the connections of one server need to know of it; made for the first of them."""

    def __init__(
        self,
        hub: Hub,
        endpoints: Endpoints,
        *,
        config: Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.hub = hub
        self.config = config
        self.state = state
        self.peers = cast(Peers, state.connections)  # see `shared.runtime.process.Server`
        """The connections that the server closes when it ends: not the WebSockets, which are the
        hub's."""
        self.peers.elsewhere = hub.__len__
        self.app_state = app_state
        self.loop = loop
        self._endpoints = endpoints
        self._proxies = ProxyHeadersMiddleware(
            config.loaded_app, config.forwarded_allow_ips or ""
        ).trusted_hosts
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines = b""

    @property
    def default_lines(self) -> bytes:
        """The headers of every response. Uvicorn makes a new list whenever the date changes."""
        headers = self.state.default_headers
        if headers is not self._headers:
            self._headers = headers
            self._lines = header_lines(headers)
        return self._lines

    def endpoint(self, request: Request) -> Endpoint | None:
        return self._endpoints.get(unquote(request.path.decode("latin-1")))

    def client_host(self, transport: asyncio.BaseTransport, request: Request) -> str | None:
        """The client's address; through a proxy that we trust, the one it forwards for.

        It is what uvicorn would put into a scope.
        """
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else None  # a Unix socket has no address
        if host in self._proxies:
            forwarded = [value for name, value in request.headers if name == b"x-forwarded-for"]
            if forwarded:
                line = b", ".join(forwarded).decode("latin-1")
                host = self._proxies.get_trusted_client_address(line)[0] or host
        return host


class Upgrade:
    """One opening handshake, while its endpoint answers it."""

    __slots__ = ("_connection", "_is_answered", "_server", "_transport", "request")

    def __init__(
        self, server: ServerContext, transport: asyncio.Transport, request: Request
    ) -> None:
        self.request = request
        self._server = server
        self._transport = transport
        self._is_answered = False
        self._connection: WebSocketConnection | None = None

    def begin(self, early: bytes) -> None:
        """Let the endpoint answer it; ``early`` came after the request."""
        endpoint = self._server.endpoint(self.request)
        if endpoint is None:
            self.reject(HTTPStatus.FORBIDDEN)
            return
        try:
            endpoint(self)
        except Exception:
            log.exception("endpoint_failed")
            if self._is_answered:
                self._transport.abort()  # it may have failed anywhere
                return
        if not self._is_answered:
            self.reject(HTTPStatus.INTERNAL_SERVER_ERROR)
        elif early and self._connection is not None:
            self._connection.data_received(early)

    # Called by the endpoint.

    @property
    def client_host(self) -> str | None:
        """The client's address; None if that can't be known."""
        return self._server.client_host(self._transport, self.request)

    def accept(self, make: Callable[[Connection], R], *, subprotocol: str | None = None) -> R:
        """Open the connection, and return the receiver that ``make`` puts above it.

        Raises:
            ConnectionResetError: the peer is gone, or was answered before.
        """
        transport, server = self._transport, self._server
        if self._is_answered or transport.is_closing():
            raise ConnectionResetError
        self._is_answered = True
        key, lines = self.request.key, server.default_lines
        transport.write(switching_protocols(key, subprotocol=subprotocol, lines=lines))
        hub = server.hub
        connection = WebSocketConnection(transport, hub.shared, hub.turns, hub.unfinished)
        receiver = make(connection)
        connection.open(receiver)
        self._connection = connection
        return receiver

    def reject(self, status: int) -> None:
        """Respond with an HTTP status, and close."""
        if not self._is_answered:
            self._is_answered = True
            self._transport.write(response(status, self._server.state.default_headers, b""))
            self._transport.close()
